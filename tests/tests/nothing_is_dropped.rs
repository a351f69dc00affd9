//! Under load, through upgrades, kills and resizes, no request is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use einhorn_proto::WorkerState;
use nix::sys::signal::Signal;
use tests::load::{Load, Plan};
use tests::wait::patience;
use tests::{Gate, Master, MasterBuilder, Process};

tests::trials! {
    ten_upgrades_twenty_kills_of_starting_workers_and_ten_resizes_lose_nothing,
    nor_do_they_with_workers_that_take_half_a_second_to_boot,
    requests_of_two_seconds_outlast_upgrades,
    a_stopped_pool_finishes_every_request_that_it_accepted,
    a_killed_worker_takes_only_the_requests_that_it_held,
}

const ROUNDS: u32 = 10;

/// A pool of four whose starting workers wait at a gate.
fn gated(knobs: &[&str]) -> (Gate, Master) {
    let builder = Master::builder().workers(4);
    let gate = Gate::new(builder.file("gate"));
    let gate_knob = gate.knob();
    let knobs = knobs.iter().copied().chain([gate_knob.as_str()]);
    let master = quick_to_retry(builder).serve(knobs).start();
    (gate, master)
}

/// A killed starting worker is replaced after a few milliseconds, and a dozen of them fail no upgrade.
fn quick_to_retry(builder: MasterBuilder) -> MasterBuilder {
    builder.options(["-s", "0.01", "-r", "100"])
}

/// Kills `count` different starting workers, which the gate keeps from taking a single connection.
fn kill_starting(master: &mut Master, count: usize, load: &Load) -> usize {
    let mut killed = Vec::new();
    while killed.len() < count {
        let victim = master.wait_worker("another starting worker", |worker| {
            worker.state == WorkerState::Starting && !killed.contains(&worker.pid)
        });
        // It may have died by itself, which would be a fault of its own and is not counted.
        if Process::of(victim.pid).is_some_and(|worker| worker.signal(Signal::SIGKILL)) {
            killed.push(victim.pid);
        }
        load.wait_for_answers(20);
    }
    count
}

/// Ten rounds of: an upgrade some of whose starting workers are killed, then a resize with the same.
fn turmoil(knobs: &[&str]) {
    let (mut gate, mut master) = gated(knobs);
    let load = Plan::new(master.address()).start();
    load.wait_for_answers(200);
    let mut killed = 0;
    for round in 1..=ROUNDS {
        let grow = round % 2 == 1;
        gate.close();
        let mut upgrade = master.control();
        upgrade.send(r#"{"command":"upgrade","id":"turmoil"}"#);
        killed += kill_starting(&mut master, if grow { 1 } else { 2 }, &load);
        gate.open();
        let report = upgrade.replies().pop().expect("a final reply");
        assert_eq!(report.ok, Some(true), "round {round}: {}\n{master}", report.message);

        if grow {
            gate.close();
            assert_eq!(master.control().ask("inc", &["2"]).ok, Some(true), "round {round}\n{master}");
            killed += kill_starting(&mut master, 1, &load);
            gate.open();
        } else {
            assert_eq!(master.control().ask("dec", &["2"]).ok, Some(true), "round {round}\n{master}");
        }
        master.wait_status("the resize", |status| status.master.up == if grow { 6 } else { 4 });
        load.wait_for_answers(200);
    }
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(killed, 20);
    assert!(report.generations().len() > ROUNDS as usize, "not every generation served\n{report}");
    master.wait_up(4);
}

fn ten_upgrades_twenty_kills_of_starting_workers_and_ten_resizes_lose_nothing() {
    turmoil(&[]);
}

fn nor_do_they_with_workers_that_take_half_a_second_to_boot() {
    turmoil(&["boot_ms=500"]);
}

fn requests_of_two_seconds_outlast_upgrades() {
    let mut master = Master::builder().workers(4).serve(["request_ms=2000"]).start();
    let load = Plan::new(master.address()).start();
    for _ in 0..3 {
        load.wait_for_answers(8);
        let report = master.upgrade();
        assert!(report.draining > 0, "no request was held during the upgrade: {report:?}\n{master}");
    }
    load.wait_for_answers(32);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations().len(), 4, "{report}");
}

fn a_stopped_pool_finishes_every_request_that_it_accepted() {
    let builder = Master::builder().workers(2);
    let mut gate = Gate::closed(builder.file("gate"));
    let mut master = builder.serve([format!("request_gate={}", gate.path().display())]).start();
    let load = Plan { requests_max: 32, ..Plan::new(master.address()) }.start();
    master.wait("32 accepted requests", |master| {
        let held = master.workers_up().iter().flat_map(Process::connections).collect::<BTreeSet<_>>();
        (held.len() == 32 && load.waiting_longer_than(Duration::from_millis(50)) == held).then_some(())
    });
    master.signal(Signal::SIGUSR2);
    // One that holds no request is gone at once.
    master.wait_status("no worker that is not draining", |status| status.master.up == 0);
    gate.open();
    let report = load.run_to_end();
    assert_eq!((report.requests, report.failed()), (32, 0), "{report}{master}");
    master.wait_exit_code(0);
}

/// A worker killed while it holds requests takes those with it, whatever a master does. It takes no others:
/// its connections are counted while it is frozen, and so many requests are lost, one for one.
fn a_killed_worker_takes_only_the_requests_that_it_held() {
    let mut master = Master::builder().workers(4).start();
    // Nobody gives up before the frozen worker is killed.
    let load = Plan { deadline: 2 * patience(), ..Plan::new(master.address()) }.start();
    load.wait_for_answers(200);
    let (victim, held) = master.freeze_busiest(&load);
    master.kill_workers(&[victim]);
    load.wait_for_answers(200);
    master.wait_up(4);
    let report = load.stop();
    assert!(!report.ended_early, "{report}");
    assert_eq!(report.failed(), report.reset + report.cut, "{report}");
    assert_eq!(report.failed(), held as u64, "the worker held {held} connections\n{report}{master}");
}
