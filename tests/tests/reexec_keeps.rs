//! What a master hands its successor: deadlines, releases, files, connections of workers, verbosity.

use std::fs;
use std::path::Path;

use einhorn_proto::{Status, WorkerState};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Gate, Master, MasterBuilder, Process, Releases};

tests::trials! {
    the_deadline_of_a_worker_that_boots_stays,
    a_worker_that_boots_too_long_is_stopped_by_the_new_master,
    the_time_until_the_next_try_stays,
    the_grace_period_of_a_draining_worker_stays,
    a_worker_that_does_not_go_is_killed_by_the_new_master,
    ages_go_on,
    a_rollback_goes_back_to_what_was_pinned_before,
    a_captured_standard_error_goes_on_in_the_middle_of_a_line,
    last_words_spoken_to_the_old_master_are_told_by_the_new_one,
    a_workers_own_connection_goes_on,
    pid_file_lock_file_and_socket_stay_and_are_removed_at_the_end,
    verbosity_name_and_counts_stay,
}

#[track_caller]
fn reload(master: &Master) {
    let reply = master.control().ask("reload", &[]);
    assert_eq!(reply.ok, Some(true), "{reply:?}\n{master}");
}

fn state(master: &Master) -> Value {
    master.control().ask("state", &[]).data.expect("the state has data")
}

/// A deadline so far off that nothing but a replacement can move it, in milliseconds.
const FAR_MS: u64 = 1_000_000;

/// The next thing that the master waits for, in milliseconds.
fn next_deadline(master: &Master) -> Option<u64> {
    state(master)["next_deadline_ms"].as_u64()
}

/// Replaces the master some time after its only deadline was set, and asserts that this is as near as it was.
#[track_caller]
fn assert_deadline_stays(master: &mut Master) {
    let before = master
        .wait("a while of the deadline", |master| next_deadline(master).filter(|left| *left < FAR_MS - 100));
    assert!(before > FAR_MS / 2, "the deadline was not set: {before}\n{master}");
    reload(master);
    let after = next_deadline(master).expect("a deadline");
    assert!(after <= before && after > FAR_MS / 2, "{before} ms before, {after} ms after\n{master}");
}

fn the_deadline_of_a_worker_that_boots_stays() {
    let mut master = Master::builder().option("--ack-timeout=1000").serve(["ack=none"]).start_unready();
    assert_deadline_stays(&mut master);
    let worker = master.status().workers[0].clone();
    assert_eq!(worker.state, WorkerState::Starting);
}

fn a_worker_that_boots_too_long_is_stopped_by_the_new_master() {
    let builder = Master::builder().options(["--ack-timeout", "1.5", "-s", "0.01", "-r", "100"]);
    let mut gate = Gate::closed(builder.file("gate"));
    let mut master = builder.serve([gate.knob()]).start_unready();
    let worker = master.status().workers[0].clone();
    reload(&master);
    assert_eq!(master.status().workers[0].pid, worker.pid, "it was replaced before the master was\n{master}");
    master.wait_log(&format!("worker {} (generation 1) missed its boot deadline", worker.pid));
    gate.open();
    master.assert_well(1);
}

fn the_time_until_the_next_try_stays() {
    let mut master = Master::builder().option("-s1000").start();
    let worker = master.workers_up()[0];
    // It died young: the next is due a thousand seconds after its spawn.
    master.kill_worker(worker);
    assert_deadline_stays(&mut master);
    let slot = master.status().slots[0].clone();
    assert!(slot.next_spawn_ms.is_some() && slot.last_death.is_some(), "{slot:?}");
    assert!(slot.last_death_age_ms >= Some(100), "{slot:?}");
}

fn the_grace_period_of_a_draining_worker_stays() {
    let builder = Master::builder().workers(2).options(["-t", "1000", "--drain-warning", "0"]);
    let mut master = builder.serve(["ignore_stop"]).start();
    assert_eq!(master.control().ask("dec", &[]).ok, Some(true));
    assert_deadline_stays(&mut master);
}

fn a_worker_that_does_not_go_is_killed_by_the_new_master() {
    let builder = Master::builder().workers(2).options(["-t", "1.5"]);
    let mut master = builder.serve(["ignore_stop"]).start();
    let workers = master.workers_up();
    assert_eq!(master.control().ask("dec", &[]).ok, Some(true));
    reload(&master);
    let status = master.status();
    assert_eq!(status.master.draining, 1, "it went before the master did\n{master}");
    let draining = status.workers.iter().find(|worker| worker.state == WorkerState::Draining);
    let draining = Process::of(draining.expect("one").pid).expect("it does not go");
    assert!(workers.contains(&draining));
    master.wait_reaped(&[draining]);
    master.wait_log("SIGKILL");
    master.assert_well(1);
}

fn ages_go_on() {
    let mut master = Master::builder().start();
    let old = |status: &Status| status.master.age_ms > 200 && status.workers[0].age_ms > 200;
    let before = master.wait_status("a while", old);
    reload(&master);
    let after = master.status();
    assert!(after.master.age_ms >= before.master.age_ms, "{before:?}\n{after:?}");
    assert!(after.workers[0].age_ms >= before.workers[0].age_ms, "{before:?}\n{after:?}");
    assert_eq!(after.workers[0].boot_ms, before.workers[0].boot_ms, "{before:?}\n{after:?}");
}

fn a_rollback_goes_back_to_what_was_pinned_before() {
    let builder = Master::builder().workers(2);
    let root = builder.file("app");
    let releases = Releases::new(root.clone());
    releases.add(2, "");
    let mut master = releases.run_by(builder).start();
    releases.link(2);
    master.upgrade();
    reload(&master);
    // Not at its path any more: only the descriptors lead there.
    let moved = root.join("moved");
    fs::rename(releases.directory(1), &moved).expect("the directory of release 1");
    reload(&master);
    let reply = master.control().ask("rollback", &[]);
    assert_eq!(reply.ok, Some(true), "{reply:?}\n{master}");
    master.wait_up(2);
    for worker in master.workers_up() {
        let runs = (worker.directory(), worker.program());
        assert_eq!(runs, (Some(moved.clone()), Some(moved.join("serve"))), "{master}");
    }
    // And a respawn runs it too.
    let victim = master.workers_up()[0];
    master.kill_worker(victim);
    master.wait_up(2);
    assert!(master.workers_up().iter().all(|worker| worker.program() == Some(moved.join("serve"))));
    master.assert_well(2);
}

/// A worker that says something, waits for a line from `fifo`, says more, and then does `last`.
fn talking(builder: MasterBuilder, last: &str) -> (MasterBuilder, std::path::PathBuf) {
    let fifo = builder.file("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let script = format!(
        "echo the moon rises >&2; printf 'the sun ' >&2; read line <'{}'; echo sets >&2; {last}",
        fifo.display()
    );
    (builder.option("--capture-startup").program(["/bin/sh", "-c", &script]), fifo)
}

fn a_captured_standard_error_goes_on_in_the_middle_of_a_line() {
    let (builder, fifo) = talking(Master::builder().timer_acks(0.01), "exec sleep 1000");
    let mut master = builder.start();
    master.wait_log("the moon rises");
    reload(&master);
    fs::write(&fifo, "go on\n").expect("a line in the FIFO");
    master.wait_log("the sun sets");
    assert_eq!(master.log().matches("the moon rises").count(), 1, "{master}");
}

fn last_words_spoken_to_the_old_master_are_told_by_the_new_one() {
    let (builder, fifo) = talking(Master::builder().options(["-r", "1"]), "exit 3");
    let mut master = builder.start_unready();
    master.wait_log("the moon rises");
    let mut follower = master.control();
    follower.send(r#"{"command":"events"}"#);
    assert!(follower.reply().wait);
    reload(&master);
    fs::write(&fifo, "go on\n").expect("a line in the FIFO");
    let death = loop {
        let reply = follower.reply();
        if reply.message.contains("exited with status 3") {
            break format!("{reply:?}");
        }
    };
    for words in ["the moon rises", "the sun sets"] {
        assert!(death.contains(words), "{words}: {death}\n{master}");
    }
}

fn a_workers_own_connection_goes_on() {
    let builder = Master::builder().workers(2).option("-g");
    let mut gate = Gate::closed(builder.file("gate"));
    let knobs = ["ack=fd".to_owned(), gate.knob()];
    let mut master = builder.serve(knobs).start_unready();
    let workers = master.wait_status("two workers", |status| status.workers.len() == 2).workers;
    reload(&master);
    gate.open();
    let status = master.wait_up(2);
    let pids = |workers: &[einhorn_proto::WorkerStatus]| workers.iter().map(|w| w.pid).collect::<Vec<_>>();
    assert_eq!(pids(&status.workers), pids(&workers), "{master}");
    // Those that are spawned from now on have one too.
    master.upgrade();
    master.assert_well(2);
}

fn pid_file_lock_file_and_socket_stay_and_are_removed_at_the_end() {
    let builder = Master::builder();
    let (pid_file, lock_file) = (builder.file("pid"), builder.file("lock"));
    let options = [Path::new("-e"), &pid_file, Path::new("-f"), &lock_file];
    let mut master = builder.options(options).start();
    let inode = |path: &Path| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap_or_else(|error| panic!("{error}")))
    };
    let files = [pid_file.clone(), lock_file.clone(), master.socket().to_owned()];
    let before = files.each_ref().map(|path| inode(path));
    reload(&master);
    assert_eq!(files.each_ref().map(|path| inode(path)), before);
    let pid = fs::read_to_string(&pid_file).expect("the pid file");
    assert_eq!(pid.trim(), master.process().pid().to_string());

    // Nobody else gets in.
    let second = Master::builder().without_socket().options([Path::new("-d"), master.socket()]);
    second.run_to_end().assert_code(1).assert_says("is listening there");
    let third = Master::builder().options([Path::new("-f"), &lock_file]);
    third.run_to_end().assert_code(1).assert_says("holds it");
    assert_eq!(files.each_ref().map(|path| inode(path)), before, "{master}");
    master.assert_well(1);

    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(files.iter().all(|path| !path.exists()), "{files:?}");
}

fn verbosity_name_and_counts_stay() {
    let mut master = Master::builder().workers(2).options(["-c", "moon", "-s", "0.01"]).start();
    assert_eq!(master.control().ask("louder", &[]).ok, Some(true));
    let victim = master.workers_up()[1];
    master.kill_worker(victim);
    master.wait_up(2);
    let before = state(&master);
    reload(&master);
    let after = state(&master);
    for part in [
        "/verbosity",
        "/policy",
        "/control/socket_as_fd",
        "/status/listeners",
        "/status/releases",
        "/status/master/name",
    ] {
        assert_eq!(after.pointer(part), before.pointer(part), "{part}");
    }
    let restarts = |state: &Value| state.pointer("/status/slots/1/restarts").cloned();
    assert_eq!((restarts(&after), restarts(&before)), (Some(1.into()), Some(1.into())));
    let name = fs::read_to_string(format!("/proc/{}/comm", master.process().pid())).expect("its name");
    assert_eq!(name.trim(), "ein:moon");
}
