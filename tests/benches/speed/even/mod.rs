//! Four workers, one of them slow: latency of requests, and the share of each worker, with a listener per slot, with a
//! shared listener, and with a listener per slot whose weights follow the lengths of the queues.
//!
//! Decision 59 in `einhyrningsins/doc/decisions.md` is based on it.

mod paced;
mod weights;

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::thread;

use tests::Master;

use crate::report::{self, Aim, Figure, Unit};
use crate::{sys, upgrade};
use paced::{Outcome, Pattern};
use weights::Weights;

const WORKERS: usize = 4;

/// The slot whose worker is slow.
const SLOW: usize = 0;

const ROUNDS: u64 = 5;

/// Programs that keep the slow worker's processor busy.
const HOGS: usize = 7;

/// Why one worker is slow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slow {
    /// A request takes 25 ms asleep; elsewhere 5.
    Sleep,
    /// A request takes 2 ms of CPU time, which this worker shares with [`HOGS`].
    Steal,
}

/// A kind of worker, with clients for it.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// The option of `serve`.
    knob: &'static str,
    clients: usize,
    /// Requests per connection.
    each: usize,
}

/// Accepts a connection, serves it to its end, accepts the next.
const BLOCKING: Kind = Kind { name: "blocking", knob: "single=connection", clients: 512, each: 1 };

/// An event loop that handles one request at a time.
const LOOP: Kind = Kind { name: "loop", knob: "single=request", ..BLOCKING };

/// The same, with connections that are kept for 20 requests.
const KEPT: Kind = Kind { name: "kept loop", clients: 64, each: 20, ..LOOP };

/// With requests per second. The slow worker can handle 40 if it sleeps, of 640 that the pool can handle; and about 60, of
/// about 500, if it lacks CPU time.
const CASES: [(Kind, Slow, f64); 8] = [
    (BLOCKING, Slow::Sleep, 100.0),
    (BLOCKING, Slow::Sleep, 450.0),
    (LOOP, Slow::Sleep, 100.0),
    (LOOP, Slow::Sleep, 450.0),
    (KEPT, Slow::Sleep, 100.0),
    (KEPT, Slow::Sleep, 450.0),
    (BLOCKING, Slow::Steal, 300.0),
    (KEPT, Slow::Steal, 300.0),
];

pub(crate) fn run() {
    report::topic(
        "even",
        "the same on a shared listener (EPOLLEXCLUSIVE); slot 0 is slow; latency from a request's scheduled time",
    );
    for (kind, slow, rate) in CASES {
        // The others need a processor of their own.
        if slow == Slow::Sleep || processors() > 1 {
            measure(kind, slow, rate);
        }
    }
}

fn measure(kind: Kind, slow: Slow, rate: f64) {
    let [mut per_slot, mut shared, mut weighted, mut left_out] =
        [",reuseport", "", ",reuseport", ",reuseport"].map(|option| Subject::start(option, kind.knob, slow));
    let mut weights = Weights::of(&weighted.master, WORKERS);
    Weights::of(&left_out.master, WORKERS).leave_out(SLOW);
    let pattern = Pattern { rate, clients: kind.clients, each: kind.each };
    let hogs = (slow == Slow::Steal).then(Hogs::start);
    for round in 0..ROUNDS {
        for subject in [&mut per_slot, &mut shared, &mut left_out] {
            subject.add(&pattern.run(subject.address, round));
        }
        weighted.add(&weights.adapt_while(|| pattern.run(weighted.address, round)));
    }
    drop(hogs);
    let why = if slow == Slow::Sleep { "sleep" } else { "steal" };
    for (how, subject) in [("reuseport", &per_slot), ("weights", &weighted), ("left out", &left_out)] {
        let what = format!("{} {rate}/s, {why}; {how}", kind.name);
        report::line(&format!("{what}: p99"), &subject.p99, Some(&shared.p99), Aim::None);
        report::texts(&format!("{what}: p50, shares"), &subject.p50_and_shares(), &shared.p50_and_shares());
    }
    for mut subject in [per_slot, shared, weighted, left_out] {
        upgrade::stop(&mut subject.master);
    }
}

/// A pool, and how its requests went.
struct Subject {
    master: Master,
    address: SocketAddr,
    /// The pids of its workers, by slot.
    workers: Vec<u32>,
    p50: Figure,
    p99: Figure,
    /// The share of each worker in per cent, by slot.
    shares: [Figure; WORKERS],
}

impl Subject {
    fn start(option: &str, knob: &str, slow: Slow) -> Self {
        let builder = Master::builder().workers(WORKERS as u32).without_bind();
        let builder = builder.options(["-b", &format!("127.0.0.1:0{option}")]);
        let mut master = match slow {
            Slow::Sleep => {
                builder.serve([knob, "request_ms=5", "slow_ms=20", &format!("slow_slot={SLOW}")]).start()
            }
            Slow::Steal => builder.serve([knob, "request_burn_ms=2"]).start(),
        };
        let mut workers = master.status().workers;
        workers.sort_by_key(|worker| worker.slot.0);
        let workers: Vec<_> = workers.iter().map(|worker| worker.pid).collect();
        if slow == Slow::Steal {
            let last = processors() - 1;
            sys::pin(workers[SLOW], last..last + 1).expect("the last processor is allowed");
            workers[1..].iter().for_each(|pid| sys::pin(*pid, 0..last).expect("the others are allowed"));
        }
        Self {
            address: master.address(),
            master,
            workers: workers.iter().map(|pid| pid.cast_unsigned()).collect(),
            p50: Figure::new(Unit::Time),
            p99: Figure::new(Unit::Time),
            shares: [(); WORKERS].map(|()| Figure::new(Unit::Count)),
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        self.p50.add_time(outcome.percentile(50.0));
        self.p99.add_time(outcome.percentile(99.0));
        let all: usize = outcome.by_worker.values().sum();
        for (share, pid) in self.shares.iter_mut().zip(&self.workers) {
            let answers = outcome.by_worker.get(pid).copied().unwrap_or(0);
            share.add(answers as f64 * 100.0 / all as f64);
        }
    }

    /// The medians of the rounds.
    fn p50_and_shares(&self) -> String {
        let shares = self.shares.each_ref().map(|share| format!("{:.0}", share.median())).join("/");
        format!("{:.1} ms {shares}", self.p50.median() * 1e3)
    }
}

/// Programs that compute on the last processor until they are dropped.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start() -> Self {
        let last = processors() - 1;
        let hog = || {
            let child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
            sys::pin(child.id().cast_signed(), last..last + 1).expect("the last processor is allowed");
            child
        };
        Self((0..HOGS).map(|_| hog()).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            // Not waited for yet, so the pid cannot be another process's.
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
