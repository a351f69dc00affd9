//! Where each slot has a listener of its own, all of them are kept, with what waits in each, and with their order in the
//! kernel's group: else the next master would keep connections from the wrong ones.

use std::collections::BTreeSet;

use tests::load::Plan;

use super::*;

tests::trials! {
    what_waits_for_each_slot_is_served_by_the_next_master_which_knows_who_is_who needs "python3",
    the_manager_keeps_what_it_is_told_to needs "python3",
    a_store_that_is_too_small_keeps_none_of_a_group needs "python3",
    a_next_master_with_fewer_slots_serves_as_many_queues needs "python3",
}

/// A pool of so many slots, whose workers go as soon as their slot is taken away.
fn slots(count: u32, fds: u32) -> (Master, PathBuf) {
    let builder = Master::builder().workers(count).without_bind();
    let builder = builder.options(["-b", "127.0.0.1:0,reuseport", "--shrink-grace", "0.2", "-s", "0.01"]);
    let (builder, log) = kept_by(builder, fds);
    (builder.start(), log)
}

/// Waits until the manager keeps exactly these slots, in this order of the kernel's.
#[track_caller]
fn wait_kept(master: &mut Master, log: &Path, slots: &[u32]) {
    let name = |(at, slot)| format!("bind-127.0.0.1%3A0,slot={slot},at={at}");
    let expected: BTreeSet<_> = slots.iter().enumerate().map(name).collect();
    master.wait(&format!("{expected:?} at the manager"), |_| {
        let lines = manager_log(log);
        let kept = lines.iter().rev().find_map(|line| line["kept"].as_array())?;
        let kept: Vec<_> = kept.iter().map(|name| name.as_str().expect("a name").to_owned()).collect();
        (kept.len() == expected.len() && kept.iter().cloned().collect::<BTreeSet<_>>() == expected)
            .then_some(())
    });
}

#[track_caller]
fn ask_master(master: &mut Master, command: &str) {
    let reply = master.control().ask(command, &[]);
    assert_eq!(reply.ok, Some(true), "{}\n{master}", reply.message);
}

/// Has the worker of slot 0 be the youngest: its slot is the next to be taken away.
fn renew_slot_0(master: &mut Master) {
    let worker = master.status().workers.into_iter().find(|worker| worker.slot == 0).expect("slot 0");
    master.kill_worker(Process::of(worker.pid).expect("a worker"));
}

/// Three slots whose order is not the kernel's: slot 0 has gone and come back.
fn out_of_order(fds: u32) -> (Master, PathBuf) {
    let (mut master, log) = slots(3, fds);
    wait_kept(&mut master, &log, &[0, 1, 2]);
    renew_slot_0(&mut master);
    ask_master(&mut master, "dec");
    wait_kept(&mut master, &log, &[2, 1]);
    ask_master(&mut master, "inc");
    wait_kept(&mut master, &log, &[2, 1, 0]);
    master.wait_up(3);
    (master, log)
}

/// The queues of the slots, by slot, and whether each gets what is new.
fn queues(master: &mut Master) -> Vec<(u32, u32, bool)> {
    let status = master.status();
    let slots = status.listeners[0].slots.iter();
    slots.map(|slot| (slot.slot, slot.queue.expect("a queue").length, slot.live)).collect()
}

fn what_waits_for_each_slot_is_served_by_the_next_master_which_knows_who_is_who() {
    let (mut master, log) = out_of_order(8);
    let address = master.address();
    freeze(&mut master);
    let waiting: Vec<_> = (0..WAITING).map(|_| ask_tcp(address)().expect("it waits")).collect();
    let queues = queues(&mut master);
    assert!(queues.iter().all(|(_, length, live)| *length > 0 && *live), "{queues:?}");
    let before = crash(&mut master);
    let late: Vec<_> = (0..WAITING).map(|_| ask_tcp(address)().expect("it waits too")).collect();
    wait_next_with(&mut master, before, 3);
    assert_eq!((answered(&waiting), answered(&late)), (WAITING, WAITING), "{master}");
    wait_kept(&mut master, &log, &[2, 1, 0]);
    // Had it another order in mind, the slot that is taken away would go on to get connections, and lose them.
    let load = Plan::new(address).start();
    for (command, order) in [("dec", &[0, 1][..]), ("inc", &[0, 1, 2]), ("dec", &[0, 1]), ("dec", &[0])] {
        load.wait_for_answers(300);
        ask_master(&mut master, command);
        wait_kept(&mut master, &log, order);
    }
    load.wait_for_answers(300);
    load.stop().assert_nothing_lost();
    master.assert_well(1);
}

/// Each name goes before another comes for the same socket, which the manager would pass over; so what is told to be kept
/// is kept.
fn the_manager_keeps_what_it_is_told_to() {
    let (mut master, log) = out_of_order(3);
    let lines = manager_log(&log);
    let stored: Vec<_> = lines.iter().filter(|line| line["told"]["FDSTORE"] == "1").collect();
    for line in &stored {
        let kept = line["kept"].as_array().expect("names");
        assert!(kept.contains(&line["told"]["FDNAME"]), "{line}\n{master}");
    }
    assert_eq!(stored.len(), 5, "three, one that moved, and one that came back\n{master}");
    master.assert_well(3);
}

fn a_store_that_is_too_small_keeps_none_of_a_group() {
    let (mut master, log) = slots(3, 2);
    assert_eq!(wait_ready(&mut master, &log, 1), [""; 0]);
    ask_master(&mut master, "dec");
    wait_kept(&mut master, &log, &[0, 1]);
    ask_master(&mut master, "inc");
    wait_kept(&mut master, &log, &[]);
    let before = crash(&mut master);
    wait_next_with(&mut master, before, 3);
    assert!(is_answered(&ask_tcp(master.address())().expect("a connection")), "{master}");
    master.assert_well(3);
}

/// A master that comes back with another number of slots: what was kept goes to those that it has, whatever their
/// numbers, and only what is left over is closed.
fn a_next_master_with_fewer_slots_serves_as_many_queues() {
    let builder = Master::builder().workers(4).without_bind();
    let number = builder.file("number");
    fs::write(&number, "4").expect("a file");
    let script = format!("shift 2; exec \"$0\" -n $(cat {}) \"$@\"", number.display());
    let builder = builder.options(["-b", "127.0.0.1:0,reuseport", "--shrink-grace", "0.2", "-s", "0.01"]);
    let (builder, log) = kept_by(builder, 8);
    let mut master = builder.under(["/bin/sh", "-c", &script]).start();
    wait_kept(&mut master, &log, &[0, 1, 2, 3]);
    renew_slot_0(&mut master);
    ask_master(&mut master, "dec");
    wait_kept(&mut master, &log, &[3, 1, 2]);
    let address = master.address();
    for (count, order) in [(3, &[0, 1, 2][..]), (2, &[0, 1])] {
        fs::write(&number, count.to_string()).expect("a file");
        freeze(&mut master);
        let waiting: Vec<_> = (0..WAITING).map(|_| ask_tcp(address)().expect("it waits")).collect();
        let queues = queues(&mut master);
        let served = queues.iter().filter(|(slot, ..)| count == 3 || order.contains(slot));
        let served: u32 = served.map(|(_, length, _)| length).sum();
        let before = crash(&mut master);
        wait_next_with(&mut master, before, count);
        assert_eq!(answered(&waiting), served as usize, "{queues:?}\n{master}");
        wait_kept(&mut master, &log, order);
    }
    assert!(is_answered(&ask_tcp(address)().expect("a connection")), "{master}");
    master.assert_well(2);
}
