//! One listener for each slot: new connections go to where somebody accepts them, whatever becomes of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use einhorn_proto::{Status, WorkerState};
use nix::sys::signal::Signal;
use tests::ask::{Question, ask_often};
use tests::load::{Load, Plan};
use tests::{Gate, Master, MasterBuilder, Process};

tests::trials! {
    a_worker_that_still_boots_gets_no_connection,
    a_slot_without_a_worker_is_steered_around_and_its_queue_is_kept,
    a_slot_that_was_given_up_is_steered_around_and_its_queue_waits_for_a_respawn,
    a_slot_that_never_comes_up_is_steered_around,
    slots_in_the_middle_are_taken_away_and_come_back_in_any_order,
    a_worker_that_takes_long_to_drain_after_a_shrink_harms_nobody,
    workers_that_are_added_while_others_leave_serve_and_nothing_is_lost,
    a_worker_that_boots_when_its_slot_is_taken_away_still_serves_who_waits_there,
    a_listener_that_a_worker_has_shut_down_listens_again_and_no_other_queue_suffers,
    a_shared_listener_that_a_worker_has_shut_down_listens_again,
}

/// So many requests go to each of up to five slots that may get some: that one gets none has a chance of one in 10^9.
const MANY: usize = 100;

/// Not so much that those who ask by hand would have to wait.
fn light_load(address: SocketAddr) -> Plan {
    Plan { fresh: 3, keep_alive: 3, pause: Duration::from_millis(4), ..Plan::new(address) }
}

/// A master of some workers, with one listener for each slot; a shrink's grace is in seconds.
fn per_slot(workers: u32, grace: &str) -> MasterBuilder {
    let builder = Master::builder().workers(workers).without_bind();
    builder.options(["-b", "127.0.0.1:0,reuseport", "--shrink-grace", grace, "-s", "0.01"])
}

/// Asserts that each of these slots gets some of many requests, and no other.
#[track_caller]
fn assert_open(master: &Master, slots: &[u32], when: &str) {
    let mut counts = BTreeMap::<_, u32>::new();
    for facts in ask_often(master.address(), MANY) {
        *counts.entry(facts.slot.expect("a slot")).or_default() += 1;
    }
    assert!(counts.keys().eq(slots), "answers by {counts:?} and not by {slots:?} {when}\n{master}");
}

/// The worker that is up in each slot.
fn up_by_slot(status: &Status) -> BTreeMap<u32, Process> {
    let up = status.workers.iter().filter(|worker| worker.state == WorkerState::Up);
    up.filter_map(|worker| Some((worker.slot.0?, Process::of(worker.pid)?))).collect()
}

#[track_caller]
fn asked(master: &Master, command: &str, args: &[&str]) {
    let reply = master.control().ask(command, args);
    assert_eq!(reply.ok, Some(true), "{command} {args:?}: {}\n{master}", reply.message);
}

/// The slots that get new connections, by the status.
fn live(master: &mut Master) -> Vec<u32> {
    let slots = master.status().listeners.remove(0).slots;
    slots.iter().filter(|told| told.live).map(|told| told.slot).collect()
}

/// How many sockets the master listens on.
fn listeners(master: &Master) -> usize {
    master.process().listening().len()
}

fn a_worker_that_still_boots_gets_no_connection() {
    let builder = per_slot(2, "1");
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([format!("gate={}", gate.path().display())]).start();
    let address = master.address();
    let load = light_load(address).start();
    for _ in 0..3 {
        gate.close();
        asked(&master, "inc", &["1"]);
        let booting =
            master.wait_worker("a worker that boots", |worker| worker.state == WorkerState::Starting);
        let worker = Process::of(booting.pid).expect("it boots");
        worker.wait_executed();
        load.wait_for_answers(100);
        assert_open(&master, &[0, 1], "");
        assert_eq!((worker.listening().len(), worker.queued()), (1, 0), "{master}");
        gate.open();
        master.wait_up(3);
        assert_open(&master, &[0, 1, 2], "");
        asked(&master, "dec", &["1"]);
        master.wait_up(2);
    }
    load.stop().assert_nothing_lost();
}

/// Who waits in the queue of a slot whose worker is gone waits for its next one, and nobody joins them.
fn a_slot_without_a_worker_is_steered_around_and_its_queue_is_kept() {
    let builder = per_slot(3, "1");
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([format!("gate={}", gate.path().display()), "park".to_owned()]).start();
    gate.close();
    let victim = master.workers_up()[1];
    master.park(victim);
    let waiting = fill_queue(&mut master, victim, 3);
    master.kill_workers(&[victim]);
    let booting = master.wait_worker("its successor", |worker| worker.state == WorkerState::Starting);
    let successor = Process::of(booting.pid).expect("it boots");
    successor.wait_executed();
    assert_eq!(successor.queued(), 3, "{master}");
    assert_open(&master, &[0, 2], "");
    assert_eq!(successor.queued(), 3, "{master}");
    assert_eq!(live(&mut master), [0, 2], "{master}");
    let told = master.status().listeners.remove(0);
    let queues: Vec<_> = told.slots.iter().map(|told| told.queue.map(|queue| queue.length)).collect();
    assert_eq!(queues, [Some(0), Some(3), Some(0)], "{master}");
    assert_eq!(told.queue.map(|queue| queue.length), Some(3), "of all slots together\n{master}");
    gate.open();
    for question in waiting {
        let answer =
            question.answer().unwrap_or_else(|error| panic!("one who waited was lost: {error}\n{master}"));
        assert_eq!(answer.pid, successor.pid(), "{master}");
    }
    master.wait_up(3);
    assert_open(&master, &[0, 1, 2], "");
}

/// Asks until exactly so many wait in the queue of a parked worker; the others are answered.
#[track_caller]
fn fill_queue(master: &mut Master, parked: Process, count: u32) -> Vec<Question> {
    let address = master.address();
    let mut waiting = Vec::new();
    while (waiting.len() as u32) < count {
        let question = Question::ask(address);
        let is_waiting = master.wait("an answer, or one more in the queue", |_| {
            let is_waiting = parked.queued() as usize > waiting.len();
            (is_waiting || question.is_decided()).then_some(is_waiting)
        });
        if is_waiting {
            waiting.push(question);
        } else {
            let answer = question.answer().unwrap_or_else(|error| panic!("lost: {error}\n{master}"));
            assert_ne!(answer.pid, parked.pid(), "{master}");
        }
    }
    waiting
}

fn a_slot_that_was_given_up_is_steered_around_and_its_queue_waits_for_a_respawn() {
    let builder = per_slot(4, "1").options(["-r", "2"]);
    let knobs = builder.file("knobs");
    fs::write(&knobs, "park").expect("the knobs");
    let mut master = builder.serve([format!("@{}", knobs.display())]).start();
    let address = master.address();
    let load = light_load(address).start();
    load.wait_for_answers(100);
    let victim = up_by_slot(&master.status())[&2];
    master.park(victim);
    master.wait_queued(victim, 1);
    fs::write(&knobs, "park bad_slot=2").expect("the knobs");
    master.kill_workers(&[victim]);
    master.wait_status("a slot that was given up", |status| status.slots[2].given_up);
    load.wait_for_answers(200);
    assert_open(&master, &[0, 1, 3], "");
    fs::write(&knobs, "park").expect("the knobs");
    asked(&master, "respawn", &[]);
    master.wait_up(4);
    load.wait_for_answers(200);
    load.stop().assert_nothing_lost();
    assert_open(&master, &[0, 1, 2, 3], "");
}

fn a_slot_that_never_comes_up_is_steered_around() {
    let mut master = per_slot(4, "1").options(["-r", "2"]).serve(["bad_slot=1"]).start_unready();
    master.wait_status("three up, one given up", |status| status.master.up == 3 && status.slots[1].given_up);
    let load = light_load(master.address()).start();
    load.wait_for_answers(200);
    assert_open(&master, &[0, 2, 3], "");
    load.stop().assert_nothing_lost();
}

/// Makes the worker of `slot` the youngest, so that `dec` takes that slot.
#[track_caller]
fn rejuvenate(master: &mut Master, slot: u32, up: u32) {
    let victim = up_by_slot(&master.status())[&slot];
    master.park(victim);
    master.kill_workers(&[victim]);
    master.wait_up(up);
}

/// Takes away one slot, of which the worker goes on for a while and gets nothing new, and waits for its end.
#[track_caller]
fn shrink(master: &mut Master, slot: u32, rest: &[u32]) {
    asked(master, "dec", &["1"]);
    assert_eq!(live(master), rest, "whoever has the answer can rely on it\n{master}");
    assert_open(master, rest, &format!("while slot {slot} leaves"));
    master.wait_up(rest.len() as u32);
    assert_eq!(listeners(master), rest.len(), "{master}");
    assert_eq!(live(master), rest, "{master}");
    assert_open(master, rest, &format!("without slot {slot}"));
}

#[track_caller]
fn grow(master: &mut Master, slots_then: &[u32]) {
    asked(master, "inc", &["1"]);
    master.wait_up(slots_then.len() as u32);
    assert_open(master, slots_then, "");
}

/// What is closed leaves a gap in the kernel's group, into which the last one moves: the order is another then.
fn slots_in_the_middle_are_taken_away_and_come_back_in_any_order() {
    let mut master = per_slot(5, "1").serve(["park"]).start();
    let address = master.address();
    let load = light_load(address).start();
    load.wait_for_answers(50);
    rejuvenate(&mut master, 1, 5);
    shrink(&mut master, 1, &[0, 2, 3, 4]);
    rejuvenate(&mut master, 4, 4);
    shrink(&mut master, 4, &[0, 2, 3]);
    grow(&mut master, &[0, 1, 2, 3]);
    rejuvenate(&mut master, 0, 4);
    shrink(&mut master, 0, &[1, 2, 3]);
    asked(&master, "reload", &[]);
    rejuvenate(&mut master, 2, 3);
    shrink(&mut master, 2, &[1, 3]);
    grow(&mut master, &[0, 1, 3]);
    grow(&mut master, &[0, 1, 2, 3]);
    rejuvenate(&mut master, 3, 4);
    shrink(&mut master, 3, &[0, 1, 2]);
    load.stop().assert_nothing_lost();
}

/// A listener stays open while the last worker that has it does, or whoever is steered there would hang.
fn a_worker_that_takes_long_to_drain_after_a_shrink_harms_nobody() {
    let builder = per_slot(3, "0.2");
    let mut gate = Gate::new(builder.file("gate"));
    gate.close();
    let knobs = builder.file("knobs");
    fs::write(&knobs, "").expect("the knobs");
    let mut master = builder.serve([format!("@{}", knobs.display())]).start();
    let address = master.address();
    fs::write(&knobs, format!("request_gate={}", gate.path().display())).expect("the knobs");
    asked(&master, "inc", &["1"]);
    let status = master.wait_up(4);
    let last = up_by_slot(&status)[&3];
    // Until one of them is held by the worker that is to go.
    let mut held = Vec::new();
    while last.connections().is_empty() {
        held.push(Question::ask(address));
    }
    asked(&master, "dec", &["1"]);
    master.wait_log(&format!("worker {} (generation 1) draining with", last.pid()));
    assert_open(&master, &[0, 1, 2], "");
    assert!(last.is_alive() && listeners(&master) == 4, "{master}");
    gate.open();
    for question in held {
        assert!(question.answer().is_ok(), "one was lost\n{master}");
    }
    master.wait_up(3);
    assert_eq!(listeners(&master), 3, "{master}");
}

fn workers_that_are_added_while_others_leave_serve_and_nothing_is_lost() {
    let mut master = per_slot(4, "0.3").start();
    let address = master.address();
    let load = light_load(address).start();
    for count in [1, 2, 3, 1] {
        load.wait_for_answers(50);
        let count = count.to_string();
        asked(&master, "dec", &[&count]);
        asked(&master, "inc", &[&count]);
        master.wait_status("four up beside those that leave", |status| status.master.up == 4);
        assert_open(&master, &[0, 1, 2, 3], "while others leave");
        master.wait_up(4);
        assert_eq!(listeners(&master), 4, "{master}");
        let up = up_by_slot(&master.status());
        let inodes: BTreeSet<_> =
            up.values().flat_map(|worker| worker.listening().into_values()).map(|l| l.inode).collect();
        assert_eq!(inodes.len(), 4, "{up:?}\n{master}");
    }
    load.stop().assert_nothing_lost();
}

fn a_worker_that_boots_when_its_slot_is_taken_away_still_serves_who_waits_there() {
    let builder = per_slot(3, "3");
    let mut gate = Gate::new(builder.file("gate"));
    let mut master = builder.serve([format!("gate={}", gate.path().display()), "park".to_owned()]).start();
    gate.close();
    let victim = up_by_slot(&master.status())[&1];
    master.park(victim);
    let waiting = fill_queue(&mut master, victim, 3);
    master.kill_workers(&[victim]);
    let booting = master.wait_worker("its successor", |worker| worker.state == WorkerState::Starting);
    asked(&master, "dec", &["1"]);
    gate.open();
    for question in waiting {
        let answer =
            question.answer().unwrap_or_else(|error| panic!("one who waited was lost: {error}\n{master}"));
        assert_eq!(answer.pid, booting.pid, "{master}");
    }
    master.wait_up(2);
}

/// Has a worker shut its listeners down, and waits until as many sockets listen as before: the same ones, at the same
/// port.
#[track_caller]
fn shut_down(master: &mut Master, worker: Process) {
    let before = identities(master);
    assert!(worker.signal(Signal::SIGHUP));
    master.wait_worker("a worker that has shut its listener down", |listed| {
        listed.pid == worker.pid() && listed.text.as_deref() == Some("shut down")
    });
    master.wait("listeners as before", |master| (identities(master) == before).then_some(()));
}

/// The listening sockets that the master has, by inode, and their ports.
fn identities(master: &Master) -> BTreeMap<u64, u16> {
    master.process().listening().into_values().map(|listening| (listening.inode, listening.port)).collect()
}

/// A load of kept connections, once all of them are made: none is on its way to a listener any more.
#[track_caller]
fn settled_load(master: &mut Master, waiting: usize) -> Load {
    const CLIENTS: usize = 16;
    let sockets = |master: &mut Master| {
        let descriptors =
            master.workers_up().into_iter().flat_map(|worker| worker.descriptors().into_values());
        descriptors.filter(|descriptor| descriptor.target.starts_with("socket:")).count()
    };
    let before = sockets(master);
    let load = Plan { fresh: 0, keep_alive: CLIENTS, ..light_load(master.address()) }.start();
    master.wait("every client to be accepted or to wait", |master| {
        let queued = master.process().queued() as usize;
        (sockets(master) - before + queued == CLIENTS + waiting).then_some(())
    });
    load
}

fn a_listener_that_a_worker_has_shut_down_listens_again_and_no_other_queue_suffers() {
    let mut master = per_slot(4, "1").serve(["park", "shutdown"]).start();
    // Each of them moves others in the kernel's group, and comes back as the last.
    for (parked, breaking, taken, rest) in [(3, 1, 2, [0, 1, 3]), (0, 3, 1, [0, 2, 3])] {
        let up = up_by_slot(&master.status());
        let (parked, breaking) = (up[&parked], up[&breaking]);
        master.park(parked);
        let waiting = fill_queue(&mut master, parked, 3);
        let load = settled_load(&mut master, waiting.len());
        shut_down(&mut master, breaking);
        let queued = parked.queued();
        assert!(queued >= 3, "{queued} are left in the queue of another slot\n{master}");
        master.kill_workers(&[parked]);
        for question in waiting {
            assert!(question.answer().is_ok(), "one who waited elsewhere was lost\n{master}");
        }
        master.wait_up(4);
        load.wait_for_answers(100);
        load.stop().assert_nothing_lost();
        assert_open(&master, &[0, 1, 2, 3], "after a shutdown");
        rejuvenate(&mut master, taken, 4);
        shrink(&mut master, taken, &rest);
        grow(&mut master, &[0, 1, 2, 3]);
    }
}

fn a_shared_listener_that_a_worker_has_shut_down_listens_again() {
    let mut master = Master::builder().workers(3).serve(["shutdown"]).start();
    let address = master.address();
    for round in 0..3 {
        let load = settled_load(&mut master, 0);
        let worker = master.workers_up()[round];
        shut_down(&mut master, worker);
        assert_eq!(ask_often(address, MANY).len(), MANY);
        load.wait_for_answers(100);
        load.stop().assert_nothing_lost();
        asked(&master, "reload", &[]);
    }
    assert_eq!(master.address(), address);
}
