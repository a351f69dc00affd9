//! How many workers start at a time by default: as many as what their boots use leaves room for.

use std::thread::available_parallelism;

use einhorn_proto::{Pace, PaceReason, Status};
use tests::{Cgroup, Master, MasterBuilder, binaries};

tests::trials! {
    boots_that_wait_begin_together,
    what_boots_use_is_known_after_a_reexec,
    boots_that_compute_begin_one_for_each_cpu,
    no_more_begin_together_than_fit_into_the_memory_of_the_cgroup needs "memory limit",
    a_number_given_with_auto_bounds_it,
    a_number_alone_is_exact,
    a_client_sets_a_number_and_auto_again,
}

/// Workers whose boots sleep for so long, and then compute.
fn sleepers(workers: u32, sleep_ms: u32, burn_ms: u32) -> MasterBuilder {
    let builder = Master::builder().workers(workers).program([binaries::worker("tiny")]);
    builder.env("TINY_BOOT_MS", sleep_ms.to_string()).env("TINY_BURN_MS", burn_ms.to_string())
}

fn cpus() -> u32 {
    u32::try_from(available_parallelism().map_or(1, usize::from)).expect("a few CPUs")
}

fn pace(master: &mut Master) -> Pace {
    master.upgrade().pace.expect("the report has it")
}

/// Upgrades until so many workers have started together: on a busy machine there are exceptions.
fn wait_together(master: &mut Master, workers: u32) -> Pace {
    master.wait("as many workers to start together", |master| {
        Some(pace(master)).filter(|pace| pace.workers == workers)
    })
}

fn boots_that_wait_begin_together() {
    let workers = 4 * cpus();
    let mut master = sleepers(workers, 300, 0).start();
    assert_eq!(wait_together(&mut master, workers).why, PaceReason::Boots, "{master}");
}

fn what_boots_use_is_known_after_a_reexec() {
    let workers = 4 * cpus();
    let mut master = sleepers(workers, 300, 0).start();
    wait_together(&mut master, workers);
    let is_known = |status: &Status| status.pace.is_some_and(|pace| pace.why == PaceReason::Boots);
    master.wait_status("what boots use", is_known);
    master.ctl(["reload"]).assert_code(0);
    master.wait_status("what boots use, of the next image", is_known);
}

fn boots_that_compute_begin_one_for_each_cpu() {
    let mut master = sleepers(cpus() + 2, 0, 100).start();
    wait_together(&mut master, cpus());
}

fn a_number_given_with_auto_bounds_it() {
    let workers = 4 * cpus();
    let most = cpus() + 1;
    let mut master = sleepers(workers, 300, 0).options(["--max-unacked", &format!("auto:{most}")]).start();
    let pace = wait_together(&mut master, most);
    assert_eq!(pace.why, PaceReason::Asked, "{master}");
    let policy = master.control().ask("state", &[]).data.expect("the state has data");
    assert_eq!(policy["policy"]["max_unacked"], most);
}

fn a_number_alone_is_exact() {
    let mut master = sleepers(6, 50, 0).options(["--max-unacked", "3"]).start();
    assert_eq!(pace(&mut master), Pace { workers: 3, why: PaceReason::Asked }, "{master}");
}

fn a_client_sets_a_number_and_auto_again() {
    let mut master = sleepers(4 * cpus(), 300, 0).start();
    let set = |master: &Master, value: &str, expected: (Option<u32>, bool)| {
        master.ctl(["config", "max_unacked:", value]).assert_code(0);
        let policy = &master.control().ask("state", &[]).data.expect("the state has data")["policy"];
        let (max, auto) = (policy["max_unacked"].as_u64(), policy["auto_unacked"].as_bool());
        assert_eq!((max, auto), (expected.0.map(u64::from), Some(expected.1)), "{master}");
    };
    set(&master, "1", (Some(1), false));
    assert_eq!(pace(&mut master), Pace { workers: 1, why: PaceReason::Asked }, "{master}");
    let most = cpus() + 1;
    set(&master, &format!("auto:{most}"), (Some(most), true));
    assert_eq!(wait_together(&mut master, most).why, PaceReason::Asked, "{master}");
    set(&master, "auto", (None, true));
    assert_eq!(wait_together(&mut master, 4 * cpus()).why, PaceReason::Boots, "{master}");
}

/// Ten of 24 MiB each fit into 400 MiB beside four more, and not beside ten.
fn no_more_begin_together_than_fit_into_the_memory_of_the_cgroup() {
    let group = Cgroup::with_memory("pace", 400);
    let mut master = sleepers(10, 300, 0).env("TINY_MEBIBYTES", "24").under(group.enter()).start();
    // On a busy machine something else may hold them back first.
    master.wait("memory to bound how many start", |master| {
        let pace = pace(master);
        assert!(pace.workers < 10, "{pace:?}\n{master}");
        (pace.why == PaceReason::Memory).then_some(())
    });
    assert!(!master.log().contains("SIGKILL"), "the kernel killed one for want of memory\n{master}");
}
