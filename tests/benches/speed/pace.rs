//! Upgrades of workers whose boots wait or compute, with as many at a time as the master finds out: how long they take, how much
//! memory, and what clients notice.

use std::time::Duration;

use tests::Master;

use crate::client::Client;
use crate::floor::Floor;
use crate::latency::Latencies;
use crate::peers::{self, Candidate, Peers, TURNS_MAX};
use crate::report::{self, Aim, Figure, Unit};
use crate::results::OURS;
use crate::upgrade::{self, Subject, timed};
use crate::{latency, memory};

/// The workers of a pool, and what each does at its boot.
struct Case {
    workers: u32,
    /// For how long it sleeps and then computes, in milliseconds.
    sleep: u64,
    burn: u64,
    /// What time to aim at, beside the floor, and what latency of 99 % beside a master that starts two at a time.
    time: Aim,
    latency: Aim,
}

impl Case {
    const fn new(workers: u32, sleep: u64, burn: u64, time: Aim, latency: Aim) -> Self {
        Self { workers, sleep, burn, time, latency }
    }

    /// The name of its rows, with an option of the master.
    fn name(&self, option: &str) -> String {
        let Self { workers, sleep, burn, .. } = self;
        format!("{workers} of {sleep} ms asleep, {burn} ms busy{option}")
    }
}

const CASES: [Case; 5] = [
    Case::new(32, 200, 0, Aim::Ratio(1.3), Aim::None),
    Case::new(128, 200, 0, Aim::Ratio(1.3), Aim::None),
    Case::new(8, 0, 200, Aim::Ratio(1.1), Aim::None),
    Case::new(8, 50, 150, Aim::None, Aim::Ratio(1.2)),
    Case::new(32, 50, 150, Aim::None, Aim::Ratio(1.2)),
];

/// What it is compared with, and how its rows are named.
const TWO: [&str; 2] = ["--max-unacked", "2"];
const BY_TWO: &str = ", --max-unacked 2";

const ROUNDS: usize = 5;

pub(crate) fn run() {
    report::topic(
        "pace",
        "a bare loop replaces all at once; of requests, the same server while nothing is replaced",
    );
    let mut candidates = peers::candidates_that_boot();
    for case in &CASES {
        // The boots of others sleep only.
        candidates.retain(|_| case.burn == 0);
        candidates = time_and_memory(case, &candidates);
        latencies(case);
    }
}

/// Workers that take no requests.
fn time_and_memory(case: &Case, candidates: &[Candidate]) -> Vec<Candidate> {
    let Case { workers, sleep, burn, time, .. } = *case;
    let variables =
        [("TINY_BOOT_MS", sleep), ("TINY_BURN_MS", burn)].map(|(name, ms)| (name, ms.to_string()));
    let texts = variables.each_ref().map(|(name, value)| format!("{name}={value}"));
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut floor = Floor::start(workers as usize, &texts.each_ref().map(String::as_str));
    let mut of_floor = Figure::new(Unit::Time);
    let mut auto = Subject::start(workers, &[], &variables);
    let mut two = Subject::start(workers, &TWO, &variables);
    let mut peers = Peers::start(candidates, workers, sleep);
    for _ in 0..ROUNDS {
        of_floor.add_time(timed(|| floor.upgrade()));
        auto.round();
        if two.gone().sum().median() < TURNS_MAX.as_secs_f64() {
            two.round();
        }
        peers.round();
    }
    let floor_memory = floor.upgrade_and_look(|pids| memory::own(pids.iter().map(|pid| pid.as_raw())));
    let floor_memory = Figure::once(Unit::Memory, floor_memory);
    auto.show(&case.name(""), &of_floor, time);
    let row = |option: &str, what: &str| format!("{}: {what}", case.name(option));
    report::line(&row("", "memory at its peak"), &auto.peak(), Some(&floor_memory), Aim::None);
    report::line(&row(BY_TWO, "old ones gone"), two.gone(), Some(&of_floor), Aim::None);
    report::line(&row(BY_TWO, "memory at its peak"), &two.peak(), Some(&floor_memory), Aim::None);
    [auto, two].into_iter().for_each(Subject::stop);
    peers.show(|workers| Case { workers, ..*case }.name(""), &of_floor)
}

/// Workers that are replaced under a load.
fn latencies(case: &Case) {
    let mut auto = Loaded::start(case, &[]);
    let mut two = Loaded::start(case, &TWO);
    for _ in 0..ROUNDS {
        auto.round();
        if two.spent < TURNS_MAX {
            two.round();
        }
    }
    auto.latencies.show(OURS, &case.name(""), &auto.left_alone);
    two.latencies.show(OURS, &case.name(BY_TWO), &two.left_alone);
    let row = |what| format!("{}: {what}", case.name(""));
    let (measured, floor) = (&auto.latencies.nearly_all, &two.latencies.nearly_all);
    report::line(&row("99 % within, beside 2 at a time"), measured, Some(floor), case.latency);
    report::line(&row("most at a time"), &auto.most, Some(&two.most), Aim::None);
    [auto, two].iter_mut().for_each(|loaded| upgrade::stop(&mut loaded.master));
}

/// A master that is upgraded under a load.
struct Loaded {
    master: Master,
    left_alone: Latencies,
    /// Of the requests that were begun during the upgrade.
    latencies: Latencies,
    /// Workers that started at a time.
    most: Figure,
    /// How long its upgrades have taken in all.
    spent: Duration,
}

impl Loaded {
    fn start(case: &Case, options: &[&str]) -> Self {
        let builder = Master::builder().workers(case.workers).options(options);
        let boot = [format!("boot_ms={}", case.sleep), format!("burn_ms={}", case.burn)];
        let master = builder.serve(boot.each_ref().map(String::as_str)).start();
        let [left_alone, latencies] = [(); 2].map(|()| Latencies::new());
        Self { master, left_alone, latencies, most: Figure::new(Unit::Count), spent: Duration::ZERO }
    }

    fn round(&mut self) {
        let (idle, ()) = latency::under_load(self.master.address(), || ());
        self.left_alone.add(&idle, &..);
        let load = latency::load(self.master.address());
        load.wait_for_answers(20);
        let mut client = Client::connect(self.master.socket());
        let begun = load.elapsed();
        let reply = client.ask("{\"command\":\"upgrade\"}\n");
        assert!(reply.contains("\"ok\":true"), "the upgrade failed: {reply}");
        let ended = load.elapsed();
        self.spent += ended - begun;
        self.latencies.add(&load.stop(), &(begun..ended));
        let last = self.master.status().last_upgrade.expect("an upgrade has ended");
        self.most.add(last.report.pace.map_or(0.0, |pace| f64::from(pace.workers)));
    }
}
