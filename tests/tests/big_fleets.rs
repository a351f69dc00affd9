//! A pool of many workers keeps nobody waiting: the master spawns, signals and reaps in slices, and hears everybody in between.

use std::ffi::OsString;
use std::io::Read;
use std::iter;
use std::os::fd::AsFd;

use einhorn_proto::{ID_BYTES_MAX, Reply, Status};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use tests::{Control, Master, binaries, wait};

tests::trials! {
    a_status_during_a_fleet_upgrade_is_answered_before_all_are_spawned,
    a_long_reply_does_not_take_a_round_for_each_part_of_it,
    a_stop_during_a_fleet_upgrade_spawns_no_more,
    a_client_that_does_not_read_its_fleet_upgrade_gets_the_report,
}

/// So many that their spawns take a good many rounds of the loop.
const WORKERS: u32 = 300;

fn pool(workers: u32) -> Master {
    Master::builder().workers(workers).option("-q").program([binaries::worker("tiny")]).start()
}

/// Workers of the generation that an upgrade brings.
fn new_workers(status: &Status) -> u32 {
    let new = status.workers.iter().filter(|worker| worker.generation == 2).count();
    u32::try_from(new).expect("a number of workers")
}

fn begin_fleet_upgrade(master: &Master) -> Control {
    let mut control = master.control();
    control.send(&format!(r#"{{"command":"upgrade_fleet","id":"{}"}}"#, "x".repeat(ID_BYTES_MAX)));
    control
}

fn a_status_during_a_fleet_upgrade_is_answered_before_all_are_spawned() {
    let mut master = pool(WORKERS);
    let mut upgrade = begin_fleet_upgrade(&master);
    let some = master.wait_status("new workers", |status| new_workers(status) > 0);
    let new = new_workers(&some);
    assert!(new < WORKERS, "the first answer has all {new} of them\n{master}");
    let last = upgrade.replies().pop().expect("a last reply");
    assert_eq!(last.ok, Some(true), "{last:?}");
    master.wait_up(WORKERS);
}

/// One round answers a client that asks one question after the other once. A reply that is twelve times as large as a socket's
/// buffer is sent within a few, all the same.
fn a_long_reply_does_not_take_a_round_for_each_part_of_it() {
    const ROUNDS_MAX: usize = 3;
    // `status` has the command, and each of these characters as six.
    let arguments = iter::repeat_n(OsString::from("%".repeat(35_000)), 12);
    let program = iter::once(binaries::worker("tiny").into_os_string()).chain(arguments);
    let mut master = Master::builder().workers(WORKERS).option("-q").program(program).start();
    let _upgrade = begin_fleet_upgrade(&master);
    let (mut long, mut short) = (master.control(), master.control());
    let (mut fewest, mut is_spawning) = (usize::MAX, false);
    loop {
        let (status, rounds) = rounds_of_a_status(&mut long, &mut short);
        let new = new_workers(&status);
        if new >= WORKERS {
            break;
        }
        // The first may have come before the upgrade.
        fewest = if is_spawning { fewest.min(rounds) } else { fewest };
        is_spawning = new > 0;
    }
    assert!(fewest <= ROUNDS_MAX, "at least {fewest} rounds\n{master}");
    master.wait_up(WORKERS);
}

/// Asks for `status`, and returns how many rounds of the loop passed between the first of it and the last.
fn rounds_of_a_status(long: &mut Control, short: &mut Control) -> (Status, usize) {
    const QUESTION: &str = r#"{"command":"version"}"#;
    long.send(r#"{"command":"status"}"#);
    short.send(QUESTION);
    let patience = PollTimeout::try_from(wait::patience()).expect("a time");
    let (mut reply, mut rounds, mut part) = (Vec::new(), 0, vec![0; 1 << 18]);
    while !reply.ends_with(b"\n") {
        let mut ready = [&*long, &*short].map(|one| PollFd::new(one.stream().as_fd(), PollFlags::POLLIN));
        poll(&mut ready, patience).expect("two descriptors");
        let [long_is_ready, short_is_ready] = ready.map(|one| one.any() == Some(true));
        if short_is_ready {
            let _ = short.reply();
            rounds += usize::from(!reply.is_empty());
            short.send(QUESTION);
        }
        if long_is_ready {
            let count = long.stream().read(&mut part).expect("a part of the reply");
            assert!(count > 0, "the master hung up");
            reply.extend(&part[..count]);
        }
    }
    let _ = short.reply();
    let reply: Reply = serde_json::from_slice(&reply).expect("a reply");
    (serde_json::from_value(reply.data.expect("data")).expect("a status"), rounds)
}

fn a_stop_during_a_fleet_upgrade_spawns_no_more() {
    let mut master = pool(WORKERS);
    let _upgrade = begin_fleet_upgrade(&master);
    let some = master.wait_status("new workers", |status| new_workers(status) > 0);
    assert!(new_workers(&some) < WORKERS, "no spawn is left for the stop to prevent\n{master}");
    let mut control = master.control();
    control.send(r#"{"command":"events","id":"follow"}"#);
    let first = control.reply();
    assert!(first.wait, "{first:?}");
    master.signal(Signal::SIGTERM);
    let (mut is_stopping, mut spawned_since) = (false, 0);
    while let Some(line) = control.line() {
        is_stopping |= line.contains("\"master_stopping\"");
        spawned_since += u32::from(is_stopping && line.contains("\"spawned\""));
    }
    assert!(is_stopping, "no event of the stop\n{master}");
    assert!(spawned_since <= 1, "{spawned_since} workers were spawned after the stop\n{master}");
    master.wait_exit_code(0);
}

/// It gets less progress than one that reads, and the report all the same. Each line repeats the id: together, they are more
/// than the master keeps for one client.
fn a_client_that_does_not_read_its_fleet_upgrade_gets_the_report() {
    let mut master = pool(650);
    let mut upgrade = begin_fleet_upgrade(&master);
    master.wait_status("the end of the upgrade", |status| {
        status.last_upgrade.is_some() && status.master.draining == 0
    });
    let last = upgrade.replies().pop().expect("a last reply");
    assert_eq!((last.ok, last.wait), (Some(true), false), "{last:?}");
}
