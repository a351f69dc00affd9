//! What becomes of requests when the master dies or hangs, a worker is killed for its memory, or systemd replaces
//! itself.

use nix::sys::signal::Signal;
use tests::{Cgroup, wait};

use crate::systemd::app::App;

tests::trials! {
    nothing_is_lost_when_the_master_is_killed needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    long_requests_end_before_the_master_is_replaced needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_master_that_hangs_is_replaced_and_loses_nothing needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    systemd_replaces_itself_under_load needs "machine" "cargo-deb" "dpkg-dev" "Debian 12",
    a_worker_killed_for_its_memory_is_replaced needs "machine" "cargo-deb" "dpkg-dev" "Debian 12" "memory limit",
}

fn nothing_is_lost_when_the_master_is_killed() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25");
    app.release("linger_ms=500");
    app.start();
    let load = app.load(app.plan());
    for _ in 0..2 {
        load.wait_for_answers(256);
        let master = app.master();
        master.signal(Signal::SIGKILL);
        app.wait_next_master(master);
    }
    load.wait_for_answers(256);
    load.stop().assert_nothing_lost();
}

/// The workers are asked to stop, and the next master waits for them.
fn long_requests_end_before_the_master_is_replaced() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25");
    app.release("request_ms=1000 linger_ms=500");
    app.start();
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    let (master, workers) = (app.master(), app.workers());
    assert!(!workers.is_empty());
    master.signal(Signal::SIGKILL);
    app.wait_next_master(master);
    assert!(workers.iter().all(|worker| !worker.is_alive()), "a worker is left\n{}", app.machine);
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
    assert_eq!(app.property("NRestarts"), "1");
}

fn a_master_that_hangs_is_replaced_and_loses_nothing() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25");
    app.release("request_ms=1000 linger_ms=500");
    app.drop_in("[Service]\nWatchdogSec=2\n");
    app.start();
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    let master = app.master();
    master.signal(Signal::SIGSTOP);
    app.wait_next_master(master);
    app.wait_journal("Watchdog timeout");
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
    assert_eq!(app.property("NRestarts"), "1");
}

fn systemd_replaces_itself_under_load() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25");
    app.release("linger_ms=500");
    app.start();
    let load = app.load(app.plan());
    load.wait_for_answers(64);
    let master = app.master();
    app.systemctl(["daemon-reexec"]).assert_code(0);
    app.release("linger_ms=500");
    app.reload().assert_code(0);
    assert_eq!(app.master(), master);
    // It has the sockets still.
    master.signal(Signal::SIGKILL);
    app.wait_next_master(master);
    load.wait_for_answers(64);
    load.stop().assert_nothing_lost();
}

fn a_worker_killed_for_its_memory_is_replaced() {
    let mut app = App::new("-b :8000 -n 2 -m -t 25");
    app.start();
    let (master, workers) = (app.master(), app.workers());
    // Not every container's root may protect a process.
    let protects = app.machine.shell("echo -500 >/proc/self/oom_score_adj").status.success();
    assert_eq!(master.oom_score_adj(), Some(if protects { -500 } else { 0 }), "it is killed last");
    let victim = workers[0];
    let scores: Vec<_> = workers.iter().map(tests::Process::oom_score_adj).collect();
    assert_eq!(scores, [Some(0); 2], "as any process");
    let group = Cgroup::with_memory("oom", 1);
    group.adopt(victim);
    // What it needs for its next requests, it does not get.
    let load = app.load(app.plan());
    victim.wait_gone();
    app.wait_journal("killed by SIGKILL");
    wait::wait_for("another worker", || (app.workers().len() == 2).then_some(()));
    load.wait_for_answers(256);
    drop(load.stop());
    assert_eq!(app.master(), master);
    assert_eq!(app.property("NRestarts"), "0");
    assert_eq!(app.property("ActiveState"), "active");
}
