//! What it costs to have a master there: nothing while nothing happens, and nothing that adds up.

use nix::sys::signal::Signal;
use tests::Master;

#[test]
fn an_idle_master_sleeps_until_something_happens() {
    let builder = Master::builder().workers(2).options(["-t", "1", "--ack-timeout", "1", "-s", "0.01"]);
    let mut master = builder.start();
    // Deadlines of what has been done are gone with it.
    master.upgrade();
    let workers = master.workers_up();
    master.kill_workers(&workers[..1]);
    master.wait_up(2);
    master.wait("a sleep without limit", |master| master.process().sleeps_without_limit().then_some(()));
}

#[test]
fn upgrades_respawns_and_resizes_leave_no_descriptor_behind() {
    let mut master = Master::builder().workers(2).options(["-g", "-s", "0.01"]).start();
    // The release before the present one is kept, with its directory.
    master.upgrade();
    master.wait_up(2);
    let before = master.process().descriptors().len();
    for _ in 0..5 {
        master.upgrade();
        master.wait_up(2);
        let workers = master.workers_up();
        master.kill_workers(&workers);
        master.wait_up(2);
        master.signal(Signal::SIGTTIN);
        master.wait_up(3);
        master.signal(Signal::SIGTTOU);
        master.wait_up(2);
    }
    // The connection that asked last may not be closed yet.
    master.wait("as few descriptors as before", |master| {
        (master.process().descriptors().len() <= before).then_some(())
    });
}
