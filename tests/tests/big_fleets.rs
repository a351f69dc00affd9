//! A pool of many workers keeps nobody waiting: the master spawns, signals and reaps in slices, and hears everybody in between.

use einhorn_proto::{ID_BYTES_MAX, Status};
use nix::sys::signal::Signal;
use tests::{Control, Master, binaries};

tests::trials! {
    a_status_during_a_fleet_upgrade_is_answered_before_all_are_spawned,
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

fn a_stop_during_a_fleet_upgrade_spawns_no_more() {
    let mut master = pool(WORKERS);
    let _upgrade = begin_fleet_upgrade(&master);
    master.wait_status("new workers", |status| new_workers(status) > 0);
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
