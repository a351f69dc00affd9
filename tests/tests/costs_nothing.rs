//! What it costs to have a master there: nothing while nothing happens, and nothing that adds up.

use nix::sys::signal::Signal;
use tests::Master;
use tests::load::Plan;

tests::trials! {
    an_idle_master_sleeps_until_something_happens,
    no_connection_wakes_it_whoever_has_the_listener,
    with_a_limit_of_memory_it_sleeps_for_a_whole_period_at_a_time,
    upgrades_respawns_and_resizes_leave_no_descriptor_behind,
}

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

/// It would be told of each connection by the registration that tells it of a listener that was shut down.
fn no_connection_wakes_it_whoever_has_the_listener() {
    for options in ["n", "reuseport"] {
        let builder = Master::builder().workers(2).without_bind();
        let mut master = builder.options(["-b", &format!("127.0.0.1:0,{options}")]).start();
        let address = master.address();
        master.wait("a sleep without limit", |master| master.process().sleeps_without_limit().then_some(()));
        let slept = |master: &mut Master| master.process().status("voluntary_ctxt_switches");
        let before = slept(&mut master);
        let load = Plan::new(address).start();
        load.wait_for_answers(2000);
        load.stop().assert_nothing_lost();
        assert!(before.is_some());
        assert_eq!(slept(&mut master), before, "{options}\n{master}");
    }
}

fn with_a_limit_of_memory_it_sleeps_for_a_whole_period_at_a_time() {
    let mut master = Master::builder().workers(2).options(["--max-rss", "1G"]).start();
    // Not what is left of the first period, which began before the workers were up: it has looked at them once.
    let limit = |master: &mut Master| master.process().sleep_limit_ms();
    master.wait("a sleep of nearly five seconds", |master| {
        limit(master).is_some_and(|limit| (4900..=5001).contains(&limit)).then_some(())
    });
    // How often it has slept is what the kernel counts; each look here costs it nothing.
    let slept = |master: &mut Master| master.process().status("voluntary_ctxt_switches");
    let before: u64 = slept(&mut master).expect("a count").parse().expect("a number");
    let begun = std::time::Instant::now();
    let after = master.wait("three more sleeps", |master| {
        slept(master)?.parse::<u64>().ok().filter(|after| *after >= before + 3)
    });
    let periods = begun.elapsed().as_secs_f64() / 5.0;
    assert!((after - before) as f64 <= periods + 2.0, "{before} to {after} in {periods} periods\n{master}");
}

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
