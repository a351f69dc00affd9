//! What a deploy says of the workers that it replaced: in its answer, in the log and in `status`.

use std::fs;

use einhorn_proto::{Outcome, Status, UpgradeReport};
use nix::sys::signal::Signal;
use tests::{Master, MasterBuilder, Process};

tests::trials! {
    a_worker_that_has_no_handler_for_its_stop_signal_did_not_drain,
    a_worker_that_handles_its_stop_signal_and_dies_of_it_may_not_have_drained,
    a_server_that_is_known_to_send_itself_its_stop_signal_again_has_drained,
    a_worker_that_exits_with_0_is_no_fault,
    workers_that_drain_for_long_are_named_once_and_shown,
    an_upgrade_that_waits_for_drained_workers_ends_with_the_last_of_them,
    a_server_that_outlives_its_wrapper_fails_the_upgrade_and_is_shown_until_it_has_gone,
    a_server_that_has_left_its_wrappers_group_fails_the_upgrade_too needs "util-linux",
    what_goes_a_moment_after_its_worker_is_no_fault,
    in_einhorns_place_what_still_has_time_to_go_fails_no_upgrade,
    a_process_left_behind_that_does_not_listen_is_a_warning,
    with_stop_group_nothing_is_left_after_an_upgrade_and_a_stop,
    with_stop_group_what_ignores_its_signal_is_killed_and_a_stop_waits_for_it,
    what_was_left_behind_is_followed_through_a_replacement_of_the_master,
}

/// A shell that sleeps until its traps end it.
const SLEEP: &str = "while :; do sleep 1000 & wait $!; kill $!; done";

/// A master of one worker, a shell that runs `script` and is taken as up at once.
fn shell(builder: MasterBuilder, script: &str) -> Master {
    builder.workers(1).timer_acks(0.0).program(["/bin/sh", "-c", script]).start()
}

/// The first child of the worker, once there is one.
fn child(master: &mut Master) -> Process {
    master.wait("a child of the worker", |master| {
        master.workers_up().first().and_then(|worker| worker.children().first().copied())
    })
}

/// An upgrade by the client: its exit code, what it printed, and the report that `status` has of it.
fn upgrade(master: &mut Master) -> (i32, String, UpgradeReport) {
    let finished = master.ctl(["upgrade"]);
    let last = master.status().last_upgrade.expect("the last upgrade");
    (finished.code(), format!("{}{}", finished.stdout, finished.stderr), last.report)
}

fn shown(master: &Master) -> String {
    master.ctl(["status"]).stdout
}

fn a_worker_that_has_no_handler_for_its_stop_signal_did_not_drain() {
    let mut master = shell(Master::builder(), "exec sleep 1000");
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.outcome), (0, Outcome::Done), "{output}");
    assert_eq!((report.left.undrained, report.draining), (1, 0), "{report:?}");
    let told = "did not drain: it has no handler for SIGTERM";
    assert!(output.contains(told) && output.contains("; 1 old worker did not drain"), "{output}");
    let log = master.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(told)), "{master}");
    assert!(shown(&master).contains("; 1 old worker did not drain"), "{master}");

    let json = master.ctl(["--json", "upgrade"]);
    let last = json.assert_code(0).stdout.lines().last().expect("a last line").to_owned();
    let report: UpgradeReport = serde_json::from_str(&last).expect("a report");
    assert_eq!((report.left.undrained, report.left.warnings.len()), (1, 1), "{last}");
}

fn a_worker_that_handles_its_stop_signal_and_dies_of_it_may_not_have_drained() {
    let script = format!("trap 'kill $!; trap - TERM; kill -TERM $$' TERM; {SLEEP}");
    let mut master = shell(Master::builder(), &script);
    child(&mut master);
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.left.ended_by_signal), (0, 1), "{output}");
    assert!(output.contains("ended by SIGTERM, "), "{output}");
}

fn a_server_that_is_known_to_send_itself_its_stop_signal_again_has_drained() {
    let builder = Master::builder();
    // Not puma, but a shell of that name.
    let puma = builder.file("puma");
    fs::copy("/bin/sh", &puma).expect("a copy of the shell");
    let script = format!("trap 'kill $!; trap - TERM; kill -TERM $$' TERM; {SLEEP}");
    let program = [puma.as_os_str(), "-c".as_ref(), script.as_ref()];
    let mut master = builder.workers(1).timer_acks(0.0).program(program).start();
    child(&mut master);
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.left.is_any()), (0, false), "{output}");
    master.wait_log(", ended by SIGTERM");
    assert!(!master.log().contains("WARN"), "{master}");
}

fn a_worker_that_exits_with_0_is_no_fault() {
    // Each worker waits for a file of its own.
    let builder = Master::builder();
    let gate = builder.file("gate");
    let script = format!("until [ -e {}.$$ ]; do sleep 0.02; done", gate.display());
    let mut master = shell(builder.options(["-s", "0.1"]), &script);
    let old = master.workers_up()[0];
    fs::write(gate.with_extension(old.pid().to_string()), "").expect("the gate");
    master.wait_reaped(&[old]);
    master.wait_up(1);
    let told = format!("worker {} (generation 1) exited with status 0", old.pid());
    assert!(master.log().lines().any(|line| line.contains("INFO") && line.contains(&told)), "{master}");
    let slot = master.status().slots.remove(0);
    assert_eq!((slot.restarts, slot.last_death), (0, None));
}

fn workers_that_drain_for_long_are_named_once_and_shown() {
    let builder = Master::builder().options(["--drain-warning", "0.3"]);
    let mut master = builder
        .workers(2)
        .timer_acks(0.0)
        .program(["/bin/sh", "-c", "trap '' TERM; exec sleep 1000"])
        .start();
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.draining), (0, 2), "{output}");
    assert!(output.contains("2 old workers still finish their requests"), "{output}");
    let status = master.wait_status("a warning", |status| !status.lasting.is_empty());
    assert_eq!((status.lasting[0].generation, status.lasting[0].workers), (1, 2), "{:?}", status.lasting);
    assert!(shown(&master).contains("generation 1 still serves: 2 workers, "), "{master}");
    assert_eq!(master.ctl(["signal", "--draining", "KILL"]).code(), 0);
    let status = master.wait_status("nobody who drains", |status| status.master.draining == 0);
    assert!(status.lasting.is_empty(), "{:?}", status.lasting);
    let log = master.log();
    let warnings =
        log.lines().filter(|line| line.contains("WARN") && line.contains("generation 1 still serves"));
    assert_eq!(warnings.count(), 1, "{master}");
}

fn an_upgrade_that_waits_for_drained_workers_ends_with_the_last_of_them() {
    let mut master = shell(Master::builder(), "trap '' TERM; exec sleep 1000");
    let old = master.workers_up()[0];
    let mut client = master.ctl_command(["upgrade", "--drained"]).spawn().expect("the client");
    master.wait_log("upgrade to generation 2 done");
    // The report of an upgrade that does not wait comes after this one was asked for, and before it.
    master.upgrade();
    assert!(client.try_wait().expect("its state").is_none(), "{master}");
    old.signal(Signal::SIGKILL);
    assert_eq!(client.wait().expect("its end").code(), Some(0), "{master}");
}

/// A listener that its wrapper does not exec.
const WRAPPER: &str = "sleep 1000 & wait";

fn a_server_that_outlives_its_wrapper_fails_the_upgrade_and_is_shown_until_it_has_gone() {
    let mut master = shell(Master::builder(), WRAPPER);
    let left = child(&mut master);
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.outcome, report.left.listening), (1, Outcome::Done, 1), "{output}");
    assert!(
        output.contains("left processes that hold a listener") && output.contains("--stop-group"),
        "{output}"
    );
    let told = format!("left processes behind: {}; they hold a listener", left.pid());
    assert!(master.log().lines().any(|line| line.contains("WARN") && line.contains(&told)), "{master}");
    let line = |text: &str| {
        text.lines().any(|line| line.starts_with("warning ") && line.contains("hold a listener"))
    };
    assert!(line(&shown(&master)), "{}", shown(&master));
    assert_in_history(&master, 1);
    assert!(left.signal(Signal::SIGKILL));
    master.wait_status("nobody left behind", |status| status.leftovers.is_empty());
    assert!(!line(&shown(&master)), "{}", shown(&master));
    master.wait_log("left behind has gone");
}

/// What the history has of the last upgrade, and whether its client ended with 1.
fn assert_in_history(master: &Master, listening: u32) {
    let history: einhorn_proto::History = tests::control::typed(master.control().ask("history", &[]));
    let last = history.rollouts.last().expect("an upgrade");
    assert_eq!((last.outcome, last.listening), (einhorn_proto::PastOutcome::Done, listening), "{master}");
    let shown = master.ctl(["history"]).stdout;
    assert_eq!(shown.contains("  done, old not gone  "), listening > 0, "{shown}");
}

fn a_server_that_has_left_its_wrappers_group_fails_the_upgrade_too() {
    let mut master = shell(Master::builder(), "setsid sleep 1000 & wait");
    let left = child(&mut master);
    master.wait("a session of its own", |_| (left.group() == Some(left.pid())).then_some(()));
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.left.listening), (1, 1), "{output}");
    assert!(output.contains(&format!("left processes behind: {}; they hold", left.pid())), "{output}");
    assert!(left.signal(Signal::SIGKILL));
}

/// A script that is asked to stop leaves the `sleep` behind that it waits for, with its listener.
fn what_goes_a_moment_after_its_worker_is_no_fault() {
    let scripts = [
        ("sleep 0.4; exec sleep 1000", false),
        ("while :; do sleep 0.4; done", false),
        // timeout(1) runs in a group of its own.
        ("while :; do timeout 9 sleep 0.4; done", true),
    ];
    for (script, leaves) in scripts {
        let mut master = shell(Master::builder(), script);
        let left = child(&mut master);
        if leaves {
            master.wait("a group of its own", |_| {
                (left.group() == Some(left.pid()) || !left.is_alive()).then_some(())
            });
        }
        for _ in 0..6 {
            let (code, output, report) = upgrade(&mut master);
            assert_eq!((code, report.left.left_behind), (0, 0), "{output}");
            assert!(!left.is_alive(), "it was waited for: {master}");
        }
        assert!(!master.log().contains("left processes behind"), "{master}");
    }
}

fn in_einhorns_place_what_still_has_time_to_go_fails_no_upgrade() {
    let builder = Master::builder().einhorn().workers(2).timer_acks(0.3).options(["--max-unacked", "1"]);
    let mut master = builder.program(["/bin/sh", "-c", "sleep 5 & wait"]).start();
    master.wait("a child of each worker", |master| {
        let workers = master.workers_up();
        workers.iter().all(|worker| !worker.children().is_empty()).then_some(())
    });
    // When the second new worker acks, which ends the upgrade, the first old one has just gone.
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.outcome, report.left.listening), (0, Outcome::Done, 0), "{output}");
    master.wait_status("what is left after its time", |status| !status.leftovers.is_empty());
}

fn a_process_left_behind_that_does_not_listen_is_a_warning() {
    // It closes the listener, which is descriptor 3.
    let mut master = shell(Master::builder(), "sleep 1000 3<&- & wait");
    let left = child(&mut master);
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.left.left_behind, report.left.listening), (0, 1, 0), "{output}");
    assert!(output.contains("1 old worker left processes behind"), "{output}");
    assert_in_history(&master, 0);
    assert!(left.signal(Signal::SIGKILL));
}

fn with_stop_group_nothing_is_left_after_an_upgrade_and_a_stop() {
    let mut master = shell(Master::builder().options(["--stop-group"]), WRAPPER);
    let old = child(&mut master);
    let (code, output, report) = upgrade(&mut master);
    assert_eq!((code, report.left.left_behind), (0, 0), "{output}");
    assert!(!old.is_alive(), "{master}");
    let new = child(&mut master);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(!new.is_alive());
}

fn with_stop_group_what_ignores_its_signal_is_killed_and_a_stop_waits_for_it() {
    let script = "(trap '' TERM; exec sleep 1000) & wait";
    let mut master = shell(Master::builder().options(["--stop-group", "-t", "0.4"]), script);
    let old = child(&mut master);
    let (code, output, _) = upgrade(&mut master);
    assert_eq!(code, 1, "it still listens: {output}");
    master.wait_status("nobody left behind", |status| status.leftovers.is_empty());
    assert!(!old.is_alive(), "{master}");

    let mut master = shell(Master::builder().options(["--stop-group"]), script);
    let left = child(&mut master);
    master.signal(Signal::SIGTERM);
    master.wait_status("one left behind", |status: &Status| {
        status.workers.is_empty() && status.leftovers.len() == 1
    });
    assert!(left.signal(Signal::SIGKILL));
    master.wait_exit_code(0);
}

fn what_was_left_behind_is_followed_through_a_replacement_of_the_master() {
    let script = "(trap '' TERM; exec sleep 1000) & wait";
    let mut master = shell(Master::builder().options(["--stop-group", "-t", "1000"]), script);
    let left = child(&mut master);
    assert_eq!(upgrade(&mut master).0, 1);
    assert_eq!(master.ctl(["reload"]).code(), 0);
    let status = master.status();
    assert_eq!(status.leftovers.len(), 1, "{status:?}");
    assert!(status.last_upgrade.is_some_and(|last| last.report.left.listening == 1));
    assert!(left.signal(Signal::SIGKILL));
    master.wait_status("nobody left behind", |status| status.leftovers.is_empty());
    // The workers of now ignore their signal too.
    let new = child(&mut master);
    master.signal(Signal::SIGQUIT);
    master.wait_exit_code(1);
    new.signal(Signal::SIGKILL);
}
