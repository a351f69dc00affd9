//! Each command of the control socket, as a client in any language sees it.

use einhorn_proto::{
    COMMANDS, MasterState, Notice, Outcome, RefusalKind, Reply, RequestId, Resized, UpgradeReport,
    WorkerState,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::control::typed;
use tests::load::Plan;
use tests::{Gate, Master, MasterBuilder};

tests::trials! {
    the_id_of_a_request_comes_back_as_it_was_sent,
    only_the_last_reply_has_ok_and_only_the_others_have_wait,
    requests_in_one_packet_are_answered_in_order,
    ehlo_greets_and_names_the_master,
    help_lists_every_command_and_version_tells_the_version,
    status_tells_master_listeners_slots_and_workers,
    state_tells_everything_as_json,
    the_pool_is_resized_by_position_or_by_name,
    dec_drains_unacked_workers_first,
    config_refuses_options_that_are_unknown_or_come_twice_and_changes_nothing,
    a_signal_reaches_every_worker,
    a_signal_reaches_some_workers_only,
    a_worker_is_replaced_by_request_its_successor_first,
    die_answers_stops_the_workers_and_ends_the_master,
    an_ack_counts_though_its_sender_has_hung_up,
    a_request_counts_though_its_sender_has_hung_up,
    the_log_gets_louder_and_quieter,
    events_stream_what_happens,
    an_upgrade_tells_each_step_and_how_it_ended,
    an_upgrade_keeps_to_max_unacked,
    an_upgrade_keeps_to_max_upgrade_additional,
    a_second_upgrade_is_refused_and_told_of_the_first,
    an_upgrade_whose_workers_die_fails_with_the_reason_and_changes_nothing,
    an_upgrade_whose_workers_never_ack_fails_when_their_time_is_up,
    an_upgrade_without_its_program_fails_and_changes_nothing,
    a_client_that_leaves_does_not_take_its_upgrade_along,
    respawn_fills_a_slot_that_waits,
}

/// A pool whose starting workers wait at a gate, which is open.
fn gated(workers: u32) -> (Gate, Master) {
    let builder = Master::builder().workers(workers);
    let gate = Gate::new(builder.file("gate"));
    let master = builder.serve([gate.knob()]).start();
    (gate, master)
}

/// A pool whose next generation takes its knobs from this file.
fn with_knobs(builder: MasterBuilder) -> (std::path::PathBuf, MasterBuilder) {
    let knobs = builder.file("knobs");
    std::fs::write(&knobs, "").expect("a file of knobs");
    let builder = builder.serve([format!("@{}", knobs.display())]);
    (knobs, builder)
}

fn notices(replies: &[Reply]) -> Vec<Notice> {
    let progress = replies.iter().filter(|reply| reply.wait);
    progress.map(|reply| typed(reply.clone())).collect()
}

fn the_id_of_a_request_comes_back_as_it_was_sent() {
    let master = Master::builder().start();
    let mut control = master.control();
    for id in [json!(7), json!(-1), json!(2.5), json!("seven"), json!("")] {
        control.send(&json!({ "command": "version", "id": id }).to_string());
        let line = control.line().expect("a reply");
        let reply: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(reply["request_id"], id, "{line}");
    }
    control.send(&json!({ "command": "version" }).to_string());
    let line = control.line().expect("a reply");
    assert!(!line.contains("request_id"), "{line}");
}

fn only_the_last_reply_has_ok_and_only_the_others_have_wait() {
    let master = Master::builder().workers(2).start();
    let mut control = master.control();
    control.send(r#"{"command":"upgrade","id":1}"#);
    let replies = control.replies();
    let (last, progress) = replies.split_last().expect("a last reply");
    assert!(!progress.is_empty(), "{replies:?}");
    assert!(progress.iter().all(|reply| reply.wait && reply.ok.is_none()), "{replies:?}");
    assert!(last.ok == Some(true) && !last.wait, "{replies:?}");
    assert!(replies.iter().all(|reply| reply.request_id == Some(1.into())), "{replies:?}");
}

fn requests_in_one_packet_are_answered_in_order() {
    let master = Master::builder().start();
    let mut control = master.control();
    let requests: String = (0..100).map(|id| format!("{{\"command\":\"status\",\"id\":{id}}}\n")).collect();
    control.send_bytes(requests.as_bytes());
    for id in 0..100 {
        assert_eq!(control.reply().request_id, Some(id.into()));
    }
}

fn ehlo_greets_and_names_the_master() {
    let master = Master::builder().start();
    let reply = master.control().ask("ehlo", &["somebody"]);
    assert_eq!(reply.ok, Some(true));
    let pid = master.process().pid().to_string();
    assert!(reply.message.contains("somebody") && reply.message.contains(&pid), "{reply:?}");
}

fn help_lists_every_command_and_version_tells_the_version() {
    let master = Master::builder().start();
    let mut control = master.control();
    let help = control.ask("help", &[]).message;
    for info in COMMANDS.iter().filter(|info| info.is_typed()) {
        assert!(help.contains(info.name), "no {} in {help}", info.name);
    }
    assert!(control.ask("version", &[]).message.contains(env!("CARGO_PKG_VERSION")));
}

fn status_tells_master_listeners_slots_and_workers() {
    let mut master = Master::builder().workers(3).options(["-b", "[::1]:0"]).start();
    let status = master.status();
    assert_eq!(status.master.pid, master.process().pid());
    assert_eq!(status.master.state, MasterState::Running);
    assert_eq!((status.master.wanted, status.master.up, status.master.generation), (3, 3, 1));
    assert_eq!(status.master.socket, master.socket().to_str().expect("UTF-8"));
    assert!(status.master.command[0].ends_with("serve"), "{status:?}");
    let listeners: Vec<_> = status.listeners.iter().map(|l| (l.index, l.fd, l.family.as_str())).collect();
    assert_eq!(listeners, [(0, 3, "AF_INET"), (1, 4, "AF_INET6")]);
    assert!(status.listeners.iter().all(|listener| !listener.address.ends_with(":0")), "{status:?}");
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a kernel setting");
    assert_eq!(status.listeners[0].backlog.to_string(), somaxconn.trim());
    for (slot, worker) in (0..).zip(&status.workers) {
        let seen = (worker.slot.0, worker.index, worker.state);
        assert_eq!(seen, (Some(slot), slot, WorkerState::Up), "{status:?}");
        assert!(worker.boot_ms.is_some(), "{status:?}");
    }
    assert_eq!(status.slots.len(), 3);
    assert!(status.slots.iter().all(|slot| slot.restarts == 0 && slot.last_death.is_none()), "{status:?}");
}

fn state_tells_everything_as_json() {
    let master = Master::builder().start();
    let reply = master.control().ask("state", &[]);
    assert_eq!(reply.ok, Some(true));
    let text = reply.data.unwrap_or_else(|| serde_json::from_str(&reply.message).expect("JSON")).to_string();
    assert!(text.contains(&master.process().pid().to_string()), "{text}");
}

fn the_pool_is_resized_by_position_or_by_name() {
    let mut master = Master::builder().workers(2).start();
    for (request, from, to) in [
        (r#"{"command":"inc"}"#, 2, 3),
        (r#"{"command":"inc","args":["2"]}"#, 3, 5),
        (r#"{"command":"dec","by":3}"#, 5, 2),
        (r#"{"command":"set_workers","count":4}"#, 2, 4),
        (r#"{"command":"set_workers","args":["1"]}"#, 4, 1),
        (r#"{"command":"set_workers","count":1}"#, 1, 1),
    ] {
        let mut control = master.control();
        control.send(request);
        let reply = control.reply();
        assert_eq!(reply.ok, Some(true), "{request}: {reply:?}");
        assert_eq!(typed::<Resized>(reply), Resized { from, to }, "{request}");
        master.wait_up(to);
    }
    for request in [&["dec"][..], &["dec", "5"]] {
        let reply = master.control().ask(request[0], &request[1..]);
        assert_eq!(reply.ok, Some(false), "{request:?}: {reply:?}");
    }
    master.assert_well(1);
}

fn dec_drains_unacked_workers_first() {
    let (mut gate, mut master) = gated(2);
    let up = master.workers_up();
    gate.close();
    master.control().ask("inc", &["2"]);
    master.wait_status("starting workers", |status| status.master.starting >= 1);
    master.control().ask("dec", &["2"]);
    gate.open();
    master.wait_up(2);
    assert_eq!(master.workers_up(), up);
}

fn config_refuses_options_that_are_unknown_or_come_twice_and_changes_nothing() {
    let mut master = Master::builder().start();
    for (request, named) in [
        (r#"{"command":"config","number":2,"bogus":1}"#, "valid options: number, seconds"),
        (r#"{"command":"config","args":["number: 2","bogus: 1"]}"#, "config: args cannot be parsed"),
        (r#"{"command":"config","args":["{\"number\":2,\"bogus\":1}"]}"#, "\"bogus\" is not an option"),
        (r#"{"command":"config","number":2,"number":3}"#, "the key \"number\" twice"),
        (r#"{"command":"config","args":["{\"number\":2,\"number\":3}"]}"#, "the key \"number\" twice"),
    ] {
        let mut client = master.control();
        client.send(request);
        let reply = client.reply();
        assert_eq!(reply.ok, Some(false), "{request}: {reply:?}");
        assert!(reply.message.contains(named), "{request}: {reply:?}");
    }
    assert_eq!(master.status().master.wanted, 1, "{master}");
}

fn a_signal_reaches_every_worker() {
    let mut master = Master::builder().workers(2).start();
    let list = master.control().ask("signal", &[]);
    assert!(list.ok == Some(true) && list.message.contains("USR2"), "{list:?}");
    let before = master.workers_up();
    // Not caught by the worker: it dies of it, and is replaced.
    let reply = master.control().ask("signal", &["sigusr1"]);
    assert_eq!(reply.ok, Some(true), "{reply:?}");
    master.wait_reaped(&before);
    let status = master.wait_up(2);
    for slot in status.slots {
        let death = slot.last_death.expect("each slot had a death");
        assert_eq!(death.reason, "was killed by SIGUSR1");
    }
    master.wait_up(2);
}

fn a_signal_reaches_some_workers_only() {
    let mut master = Master::builder().workers(2).start();
    let before = master.workers_up();
    let refused = master.ctl(["signal", "USR1", "--slot", "7"]);
    refused.assert_code(1).assert_says("no worker is in slot 7");
    master.ctl(["signal", "USR1", "17"]).assert_code(2).assert_says("\"17\" is a number");
    master.ctl(["signal", "NOPE"]).assert_code(1).assert_says("\"signal\" alone to list them");
    master.ctl(["signal", "--slot", "1", "USR1"]).assert_code(0);
    master.wait_reaped(&before[1..]);
    master.wait_up(2);
    assert_eq!(master.workers_up()[0], before[0], "{master}");
}

fn a_worker_is_replaced_by_request_its_successor_first() {
    let mut master = Master::builder().workers(2).start();
    let before = master.workers_up();
    let reply = master.ctl(["replace", "--slot", "0"]);
    reply.assert_code(0);
    assert!(reply.stdout.contains("will be replaced, its successor first"), "{reply}");
    master.wait_reaped(&before[..1]);
    master.wait_up(2);
    let status = master.status();
    assert_eq!((status.recycled.asked, status.slots[0].restarts), (1, 0), "{master}");
    assert_eq!(master.workers_up()[1], before[1], "{master}");
    master.ctl(["replace", "--pid", "1"]).assert_code(1).assert_says("no worker that is up has pid 1");
}

fn die_answers_stops_the_workers_and_ends_the_master() {
    for args in [&[][..], &["TERM"]] {
        let mut master = Master::builder().workers(2).start();
        let workers = master.workers_up();
        let reply = master.control().ask("die", args);
        assert_eq!(reply.ok, Some(true), "{reply:?}");
        master.wait_exit_code(0);
        assert!(workers.iter().all(|worker| !worker.is_alive()), "{master}");
        assert!(!master.socket().exists(), "it left its control socket behind\n{master}");
    }
}

/// Clients of einhorn connect, write their ack and hang up, all before the master may have looked.
fn an_ack_counts_though_its_sender_has_hung_up() {
    let builder = Master::builder();
    let mut gate = Gate::closed(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start_unready();
    let address = master.address();
    master.signal(Signal::SIGSTOP);
    master.wait("the master to stop", |master| master.process().is_stopped().then_some(()));
    gate.open();
    // It serves, so it has acked.
    let plan = Plan { fresh: 1, keep_alive: 0, requests_max: 1, ..Plan::new(address) };
    assert_eq!(plan.start().run_to_end().failed(), 0);
    master.signal(Signal::SIGCONT);
    master.wait_up(1);
}

/// As above, but the master has the connection already, and finds the request and its end in one look.
fn a_request_counts_though_its_sender_has_hung_up() {
    let mut master = Master::builder().start();
    let mut control = master.control();
    assert_eq!(control.ask("version", &[]).ok, Some(true));
    master.signal(Signal::SIGSTOP);
    master.wait("the master to stop", |master| master.process().is_stopped().then_some(()));
    control.send(r#"{"command":"set_workers","count":2}"#);
    drop(control);
    master.signal(Signal::SIGCONT);
    master.wait_up(2);
}

fn the_log_gets_louder_and_quieter() {
    let master = Master::builder().start();
    let mut control = master.control();
    for command in ["louder", "louder", "quieter", "quieter", "quieter", "quieter"] {
        let reply = control.ask(command, &[]);
        assert!(reply.ok == Some(true) && !reply.message.is_empty(), "{command}: {reply:?}");
    }
}

fn events_stream_what_happens() {
    let mut master = Master::builder().start();
    let mut follower = master.control();
    follower.send(r#"{"command":"events","id":"follow"}"#);
    let worker = master.workers_up()[0];
    worker.signal(Signal::SIGKILL);
    let mut seen = Vec::new();
    while !seen.iter().any(|notice| matches!(notice, Notice::Acked { .. })) {
        let reply = follower.reply();
        assert!(reply.wait, "{reply:?}");
        assert_eq!(reply.request_id, Some(RequestId::Text("follow".into())));
        if reply.data.is_some() {
            seen.push(typed(reply));
        }
    }
    let death = seen.iter().find_map(|notice| match notice {
        Notice::Died { slot, death, .. } if *slot == 0 => Some(death),
        _ => None,
    });
    let death = death.unwrap_or_else(|| panic!("no death in {seen:?}"));
    assert_eq!((death.pid, death.reason.as_str()), (Some(worker.pid()), "was killed by SIGKILL"));
    assert!(
        seen.iter().any(|notice| matches!(notice, Notice::Spawned { slot, .. } if *slot == 0)),
        "{seen:?}"
    );
}

fn an_upgrade_tells_each_step_and_how_it_ended() {
    let mut master = Master::builder().workers(3).start();
    let old: Vec<_> = master.workers_up().iter().map(tests::Process::pid).collect();
    let mut control = master.control();
    control.send(r#"{"command":"upgrade"}"#);
    let replies = control.replies();
    let seen = notices(&replies);
    let acked: Vec<_> = seen.iter().filter(|n| matches!(n, Notice::Acked { generation: 2, .. })).collect();
    let spawned = seen.iter().filter(|n| matches!(n, Notice::Spawned { generation: 2, .. }));
    assert_eq!((acked.len(), spawned.count()), (3, 3), "{seen:?}");
    for pid in &old {
        let drains = seen.iter().filter(|n| matches!(n, Notice::Draining { pid: p, .. } if p == pid));
        assert_eq!(drains.count(), 1, "{pid} of {old:?} in {seen:?}");
    }
    let report: UpgradeReport = typed(replies.last().cloned().expect("a last reply"));
    assert_eq!((report.outcome, report.generation), (Outcome::Done, 2));
    assert_eq!((report.upgraded, report.wanted), (3, 3));
    let status = master.wait_up(3);
    assert!(status.workers.iter().all(|worker| worker.generation == 2), "{status:?}");
    // Of each slot, the successor took the seat.
    assert_eq!(status.workers.iter().map(|worker| worker.slot).collect::<Vec<_>>(), [0, 1, 2]);
}

/// Upgrades four workers with these options, and checks that one new worker starts at a time.
#[track_caller]
fn upgrade_one_by_one(options: &[&str]) {
    let builder = Master::builder().workers(4).options(options);
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start();
    gate.close();
    let mut upgrade = master.control();
    upgrade.send(r#"{"command":"upgrade"}"#);
    // All that it spawns before the first ack, it spawns at once.
    let status = master.wait_status("a starting worker", |status| status.master.starting > 0);
    assert_eq!((status.master.starting, status.master.up), (1, 4), "{status:?}");
    gate.open();
    assert_eq!(upgrade.replies().last().and_then(|reply| reply.ok), Some(true));
    let most = master.log().lines().filter(|line| line.contains("spawned")).count();
    assert_eq!(most, 8, "{master}");
}

fn an_upgrade_keeps_to_max_unacked() {
    upgrade_one_by_one(&["--max-unacked", "1"]);
}

fn an_upgrade_keeps_to_max_upgrade_additional() {
    upgrade_one_by_one(&["--max-unacked", "4", "--max-upgrade-additional", "1"]);
}

fn a_second_upgrade_is_refused_and_told_of_the_first() {
    let (mut gate, mut master) = gated(2);
    gate.close();
    let mut first = master.control();
    first.send(r#"{"command":"upgrade"}"#);
    let status = master.wait_status("the upgrade", |status| status.upgrade.is_some());
    assert_eq!(status.master.state, MasterState::Upgrading);
    let second = master.control().ask("upgrade", &[]);
    assert_eq!((second.ok, second.refused), (Some(false), Some(RefusalKind::RolloutRuns)));
    assert!(second.message.contains("generation 2") && second.message.contains("0 of 2"), "{second:?}");
    gate.open();
    assert_eq!(first.replies().last().and_then(|reply| reply.ok), Some(true));
    assert_eq!(master.wait_up(2).master.generation, 2);
}

fn an_upgrade_whose_workers_die_fails_with_the_reason_and_changes_nothing() {
    let (knobs, builder) = with_knobs(Master::builder().workers(2).options(["-s", "0.01"]));
    let mut master = builder.start();
    let before = master.workers_up();
    std::fs::write(&knobs, "exit_before_ack=9").expect("other knobs");
    let mut control = master.control();
    control.send(r#"{"command":"upgrade"}"#);
    let last = control.replies().pop().expect("a last reply");
    assert_eq!(last.ok, Some(false), "{last:?}");
    assert!(last.message.contains("exited with status 9"), "{last:?}");
    let report: UpgradeReport = typed(last);
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert!(report.reason.is_some_and(|reason| reason.contains("exited with status 9")));
    let status = master.wait_up(2);
    assert!(status.upgrade.is_none(), "{status:?}");
    assert_eq!(master.workers_up(), before, "old workers were touched\n{master}");

    std::fs::write(&knobs, "").expect("the old knobs");
    master.upgrade();
    master.assert_well(2);
}

fn an_upgrade_whose_workers_never_ack_fails_when_their_time_is_up() {
    // Time enough for the first generation on a busy machine.
    let builder = Master::builder().workers(2).options(["--ack-timeout", "2", "-r", "1", "-s", "0.01"]);
    let (knobs, builder) = with_knobs(builder);
    let mut master = builder.start();
    let before = master.workers_up();
    std::fs::write(&knobs, "ack=none").expect("other knobs");
    let reply = master.control().ask("upgrade", &[]);
    assert_eq!(reply.ok, Some(false), "{reply:?}");
    master.wait_up(2);
    assert_eq!(master.workers_up(), before, "{master}");
}

fn an_upgrade_without_its_program_fails_and_changes_nothing() {
    let builder = Master::builder().workers(2);
    let program = builder.file("server");
    std::fs::copy(tests::binaries::worker("serve"), &program).expect("a copy of the worker");
    let mut master = builder.program([&program]).start();
    let before = master.workers_up();
    std::fs::remove_file(&program).expect("the copy");
    let reply = master.control().ask("upgrade", &[]);
    assert_eq!(reply.ok, Some(false), "{reply:?}");
    assert!(reply.message.contains(program.to_str().expect("UTF-8")), "{reply:?}");
    assert_eq!(master.workers_up(), before, "{master}");
    master.assert_well(2);
}

fn a_client_that_leaves_does_not_take_its_upgrade_along() {
    let (mut gate, mut master) = gated(2);
    gate.close();
    let mut control = master.control();
    control.send(r#"{"command":"upgrade"}"#);
    master.wait_status("the upgrade", |status| status.upgrade.is_some());
    drop(control);
    gate.open();
    let status = master.wait_status("the new generation", |status| {
        status.upgrade.is_none() && status.workers.iter().all(|worker| worker.generation == 2)
    });
    assert_eq!(status.master.generation, 2);
}

fn respawn_fills_a_slot_that_waits() {
    // A worker that dies young waits an hour for its successor.
    let mut master = Master::builder().options(["-s", "3600"]).start();
    master.workers_up()[0].signal(Signal::SIGKILL);
    master.wait_status("a slot that waits", |status| {
        status.slots.first().is_some_and(|slot| slot.next_spawn_ms.is_some())
    });
    assert_eq!(master.control().ask("respawn", &[]).ok, Some(true));
    master.assert_well(1);
}
