//! How long requests take before, during and after an upgrade, as a series in time.

use std::thread;
use std::time::{Duration, Instant};

use tests::Master;
use tests::load::{Answered, percentile};

use crate::latency::{self, Server};
use crate::peers::{self, Work};
use crate::report::{self, Aim, Figure, Unit};
use crate::results::{self, Series};

const WORKERS: u32 = 4;

/// How long each worker sleeps at its boot, in milliseconds, where it can.
const BOOT_MS: u64 = 200;

/// How long a load lasts before an upgrade begins, and from then on.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_millis(2500);

/// Requests count together that were begun within this time.
const STEP: Duration = Duration::from_millis(25);

const STEPS: usize = ((BEFORE.as_millis() + AFTER.as_millis()) / STEP.as_millis()) as usize;

const ROUNDS: usize = 5;

/// Goes on with the topic *latency*.
pub(crate) fn run() {
    let boot = format!("boot_ms={BOOT_MS}");
    let ours = Master::builder().workers(WORKERS).serve([boot.as_str()]).start();
    let mut subjects = vec![Subject::new(Server::Ours(ours), WORKERS)];
    let peers = peers::running(0, WORKERS, BOOT_MS, Work::Serve);
    subjects.extend(peers.map(|peer| {
        let workers = peer.workers();
        Subject::new(Server::Peer(peer), workers)
    }));
    for _ in 0..ROUNDS {
        subjects.retain_mut(|subject| subject.round().is_some());
    }
    subjects.iter().for_each(Subject::show);
}

/// A server that is upgraded under a load.
#[derive(Debug)]
struct Subject {
    server: Server,
    workers: u32,
    /// From the request until it is done.
    took: Figure,
    /// The answers of all rounds, by the time since `BEFORE` before the upgrade.
    answers: Vec<Answered>,
    lost: u64,
}

impl Subject {
    fn new(server: Server, workers: u32) -> Self {
        Self { server, workers, took: Figure::new(Unit::Time), answers: Vec::new(), lost: 0 }
    }

    /// `None` if the upgrade did not work, which was printed.
    fn round(&mut self) -> Option<()> {
        let load = latency::load(self.server.address());
        // The first requests find cold caches.
        load.wait_for_answers(20);
        thread::sleep(BEFORE);
        let (begun, end) = (load.elapsed(), Instant::now() + AFTER);
        self.server.upgrade()?;
        self.took.add_time(load.elapsed() - begun);
        thread::sleep(end.saturating_duration_since(Instant::now()));
        let report = load.stop();
        let shifted = report.answers.iter().filter_map(|answered| {
            let at = (answered.at + BEFORE).checked_sub(begun)?;
            Some(Answered { at, ..*answered })
        });
        self.answers.extend(shifted);
        self.lost += report.failed();
        Some(())
    }

    fn show(&self) {
        let program = self.server.name();
        let what = format!("{}, boots of {BOOT_MS} ms", report::workers(self.workers));
        report::line_of(program, &format!("{what}: upgraded"), &self.took, None, Aim::None);
        let mut steps = vec![Vec::new(); STEPS];
        for Answered { at, latency } in &self.answers {
            let step = (at.as_nanos() / STEP.as_nanos()) as usize;
            steps.get_mut(step).into_iter().for_each(|step| step.push(*latency));
        }
        let each = |percent: f64| {
            let of = |step: &Vec<Duration>| {
                percentile(step.iter().copied(), percent).map(|time| report::rounded(time.as_secs_f64()))
            };
            steps.iter().map(of).collect()
        };
        results::series(Series {
            program: program.to_owned(),
            series: what,
            begins: -BEFORE.as_secs_f64(),
            step: STEP.as_secs_f64(),
            upgraded: report::rounded(self.took.median()),
            half: each(50.0),
            most: each(90.0),
            all: each(100.0),
            lost: self.lost,
        });
    }
}
