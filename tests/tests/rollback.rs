//! A release that is broken, deployed under load in each of the three ways: the upgrade says so and why, and the
//! release before serves as before, from its own files, with not one request lost.

use std::thread;

use einhorn_proto::{Status, UpgradeStage, WorkerState};
use tests::faults::Strace;
use tests::load::{Load, Plan};
use tests::{Finished, Gate, Master, Process, Releases, process};

tests::trials! {
    a_release_that_exits_at_once,
    a_release_that_exits_after_a_while,
    a_release_that_never_acks,
    a_release_without_its_program,
    a_release_whose_program_may_not_be_executed,
    a_release_whose_interpreter_is_missing,
    a_release_whose_program_is_none,
    a_canary_that_dies_in_its_soak,
    a_smooth_upgrade_in_which_some_workers_cannot_be_spawned needs "strace",
    a_fleet_upgrade_in_which_some_workers_cannot_be_spawned needs "strace",
    a_canary_upgrade_in_which_some_workers_cannot_be_spawned needs "strace",
}

const WORKERS: u32 = 4;

/// The ways to upgrade. The soak ends by what the test does to it, or by the deadline of the test.
const SMOOTH: &[&str] = &["upgrade"];
const FLEET: &[&str] = &["upgrade", "--fleet"];
const CANARY: &[&str] = &["upgrade", "--canary", "2", "--soak", "600"];

/// A pool that runs release 1 under load, and goes on to release 2.
struct Deploy {
    releases: Releases,
    master: Master,
    load: Load,
    /// Who served before.
    before: Vec<Process>,
}

impl Deploy {
    /// Starts release 1, and makes release 2 with `make`.
    fn new(options: &[&str], make: impl FnOnce(&Releases)) -> Self {
        // A failed try is followed by the next within milliseconds.
        let builder = Master::builder().workers(WORKERS).options(["-s", "0.01"]).options(options);
        let releases = Releases::new(builder.file("app"));
        make(&releases);
        let mut master = releases.run_by(builder).start();
        let load = Plan { fresh: 4, keep_alive: 4, ..Plan::new(master.address()) }.start();
        load.wait_for_answers(50);
        releases.link(2);
        let before = master.workers_up();
        Self { releases, master, load, before }
    }

    /// Asserts that `upgrade` has failed with these words, and that release 1 serves.
    #[track_caller]
    fn assert_failed(mut self, upgrade: &Finished, words: &[&str]) -> Recovered {
        upgrade.assert_code(1);
        for word in words {
            upgrade.assert_says(word);
        }
        upgrade.assert_says(&format!("{WORKERS} of {WORKERS} workers of generation 1 serve"));
        // At once, not a while after: the answer is the truth when it is given.
        let status = self.master.status();
        assert!(status.upgrade.is_none() && is_served_by(&status, 1), "{status:?}\n{}", self.master);

        self.load.wait_for_answers(50);
        self.load.stop().assert_nothing_lost();
        let Self { releases, mut master, before, .. } = self;
        master.wait_up(WORKERS);
        let workers = master.workers_up();
        workers.iter().for_each(|worker| releases.assert_runs(*worker, 1));

        let victim = workers[1];
        master.kill_worker(victim);
        let status = master.wait_up(WORKERS);
        assert!(is_served_by(&status, 1), "{status:?}\n{master}");
        let successor = master.workers_up()[1];
        assert_ne!(successor, victim);
        releases.assert_runs(successor, 1);
        master.assert_well(WORKERS);
        Recovered { before, after: workers }
    }
}

/// Who served before the upgrade and after it.
struct Recovered {
    before: Vec<Process>,
    after: Vec<Process>,
}

impl Recovered {
    /// Asserts that not one worker was replaced, not even by one of the same release.
    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(self.after, self.before);
    }
}

/// Whether the whole pool is up, and of `generation`.
fn is_served_by(status: &Status, generation: u64) -> bool {
    let up = status.workers.iter().filter(|worker| worker.state == WorkerState::Up);
    status.master.up == WORKERS && up.clone().all(|worker| worker.generation == generation)
}

/// Deploys a release none of whose workers acks, in each way.
#[track_caller]
fn assert_is_refused_in_each_way(options: &[&str], make: impl Fn(&Releases), words: &[&str]) {
    for way in [SMOOTH, FLEET, CANARY] {
        let deploy = Deploy::new(options, &make);
        let upgrade = deploy.master.ctl(way);
        deploy.assert_failed(&upgrade, words).assert_untouched();
    }
}

fn a_release_that_exits_at_once() {
    let make = |releases: &Releases| releases.add(2, "exit_before_ack=9");
    assert_is_refused_in_each_way(&[], make, &["exited with status 9", "3 tries"]);
}

fn a_release_that_exits_after_a_while() {
    let make = |releases: &Releases| releases.add(2, "boot_ms=300 exit_before_ack=9");
    assert_is_refused_in_each_way(&["-r", "2"], make, &["exited with status 9 after 0.", "2 tries"]);
}

fn a_release_that_never_acks() {
    let make = |releases: &Releases| releases.add(2, "ack=none");
    assert_is_refused_in_each_way(&["--ack-timeout", "1", "-r", "1"], make, &["--ack-timeout", "1 try"]);
}

fn a_release_without_its_program() {
    let make = |releases: &Releases| {
        releases.add(2, "");
        releases.remove_program(2);
    };
    assert_is_refused_in_each_way(&[], make, &["./serve", "No such file or directory"]);
}

fn a_release_whose_program_may_not_be_executed() {
    let make = |releases: &Releases| releases.add_script(2, "#!/bin/sh\nexit 1\n", 0o644);
    assert_is_refused_in_each_way(&[], make, &["./serve", "Permission denied"]);
}

fn a_release_whose_interpreter_is_missing() {
    let make = |releases: &Releases| releases.add_script(2, "#!/no/such/interpreter\n", 0o755);
    assert_is_refused_in_each_way(
        &[],
        make,
        &["./serve", "#! interpreter /no/such/interpreter is missing", "1 try"],
    );
}

fn a_release_whose_program_is_none() {
    let make = |releases: &Releases| releases.add_script(2, "this is no program\n", 0o755);
    assert_is_refused_in_each_way(
        &[],
        make,
        &["./serve", "neither a binary that this kernel runs nor a script", "1 try"],
    );
}

fn a_canary_that_dies_in_its_soak() {
    let mut gate = None;
    let mut deploy = Deploy::new(&[], |releases| {
        let closed = Gate::closed(releases.directory(1).join("gate"));
        releases.add(2, &format!("leave_gate={}", closed.path().display()));
        gate = Some(closed);
    });
    let command = deploy.master.ctl_command(CANARY);
    let upgrade = thread::spawn(|| process::run(command));
    let status = deploy.master.wait_status("the soak", |status| {
        status.upgrade.as_ref().is_some_and(|upgrade| upgrade.stage == UpgradeStage::Soaking)
    });
    let canaries = status.workers.iter().filter(|worker| worker.generation == 2);
    assert_eq!(canaries.count(), 2, "{status:?}");
    // They take traffic before they die.
    deploy.load.wait_for_answers(50);
    drop(gate);
    let upgrade = upgrade.join().expect("the control client ends");
    deploy.assert_failed(&upgrade, &["exited with status 7", "in its soak"]);
}

/// Deploys a release of which the kernel makes no process, once, when so many workers of it have been spawned.
fn deploy_until_a_spawn_fails(way: &[&str], spawned: u32) -> Recovered {
    let deploy = Deploy::new(&["-r", "1", "--max-unacked", "1"], |releases| releases.add(2, ""));
    let log = deploy.master.file("strace");
    let inject = format!("clone,clone3,fork,vfork:error=EAGAIN:when={}", spawned + 1);
    let strace = Strace::attach(deploy.master.process(), &inject, &log);
    let upgrade = deploy.master.ctl(way);
    strace.detach();
    deploy.assert_failed(&upgrade, &["Resource temporarily unavailable", "1 try"])
}

/// Two slots have the new release by then, and are given back.
fn a_smooth_upgrade_in_which_some_workers_cannot_be_spawned() {
    let Recovered { before, after } = deploy_until_a_spawn_fails(SMOOTH, 2);
    assert!(after[0] != before[0] && after[1] != before[1], "{before:?} {after:?}");
    assert_eq!(after[2..], before[2..]);
}

fn a_fleet_upgrade_in_which_some_workers_cannot_be_spawned() {
    deploy_until_a_spawn_fails(FLEET, 2).assert_untouched();
}

fn a_canary_upgrade_in_which_some_workers_cannot_be_spawned() {
    let Recovered { before, after } = deploy_until_a_spawn_fails(CANARY, 1);
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1..], before[1..]);
}
