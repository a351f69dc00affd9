//! What became of the requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::answer::{Fault, WorkerId};

/// Failures told one by one; the rest are counted only.
const FAILURES_KEPT: usize = 100;

/// How a client uses its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For one request.
    Fresh,
    /// For as long as the server does.
    KeepAlive,
}

/// One request that was lost.
#[derive(Debug)]
pub struct Failure {
    /// How.
    pub fault: Fault,
    /// On what kind of connection.
    pub mode: Mode,
    /// When it was sent, since the load began.
    pub at: Duration,
    /// How long the client waited before it knew.
    pub waited: Duration,
    /// Who had begun to answer.
    pub worker: Option<WorkerId>,
    /// Answers on the same connection before it.
    pub answers_before: u64,
    /// How old the connection was; `None` if there was none.
    pub connection_age: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, mode, at, waited, worker, answers_before, connection_age } = self;
        write!(f, "at {at:.3?} ({mode:?}): {fault} after {waited:.3?}")?;
        if let Some(age) = connection_age {
            write!(f, "; connection {age:.3?} old, {answers_before} answers before")?;
        }
        if let Some(WorkerId { pid, generation }) = worker {
            write!(f, "; worker {pid} (generation {generation}) had begun to answer")?;
        }
        Ok(())
    }
}

/// A request that was answered as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// When it was begun, since the load began.
    pub at: Duration,
    /// From its first byte (or its `connect`) to the last of its answer.
    pub latency: Duration,
}

/// How a load went.
#[derive(Debug, Default)]
pub struct Report {
    /// Requests begun and ended, in whatever way.
    pub requests: u64,
    /// Connections made.
    pub connections: u64,
    /// Connections that nobody took.
    pub refused: u64,
    /// Connections reset.
    pub reset: u64,
    /// Connections that ended before the answer was whole.
    pub cut: u64,
    /// Answers that were not whole at the deadline.
    pub late: u64,
    /// Answers that were not what was asked for.
    pub wrong: u64,
    /// Requests that this machine could not make.
    pub client_faults: u64,
    /// The first of the failures.
    pub failures: Vec<Failure>,
    /// Who answered how many; `None` for answers that did not say.
    pub answered_by: BTreeMap<Option<WorkerId>, u64>,
    /// The answered requests, client by client.
    pub answers: Vec<Answered>,
    /// How long the load lasted.
    pub elapsed: Duration,
    /// Whether every client reached the plan's bounds before it was told to stop.
    pub ended_early: bool,
}

impl Report {
    /// Requests that were not answered as they should be.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.refused + self.reset + self.cut + self.late + self.wrong + self.client_faults
    }

    /// The generations that answered.
    #[must_use]
    pub fn generations(&self) -> BTreeSet<u64> {
        self.answered_by.keys().flatten().map(|worker| worker.generation).collect()
    }

    /// The pids that answered.
    #[must_use]
    pub fn pids(&self) -> BTreeSet<i32> {
        self.answered_by.keys().flatten().map(|worker| worker.pid).collect()
    }

    /// The latency that `percent` of the answered requests did not exceed; zero if there were none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        percentile(self.answers.iter().map(|answered| answered.latency), percent).unwrap_or_default()
    }

    /// Asserts that the load went on to the end, and that every request was answered as it should be.
    ///
    /// # Panics
    /// With the whole report, if not.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert!(!self.ended_early, "the load ended before the test did\n{self}");
        assert!(self.requests > 0, "nothing was asked\n{self}");
        assert_eq!(self.failed(), 0, "requests were lost\n{self}");
    }

    pub(super) fn answered(&mut self, worker: Option<WorkerId>, answered: Answered) {
        *self.answered_by.entry(worker).or_default() += 1;
        self.answers.push(answered);
    }

    fn count(&mut self, fault: &Fault) {
        *match fault {
            Fault::Refused => &mut self.refused,
            Fault::Reset => &mut self.reset,
            Fault::Cut => &mut self.cut,
            Fault::Late => &mut self.late,
            Fault::Wrong(_) => &mut self.wrong,
            Fault::Client(_) => &mut self.client_faults,
        } += 1;
    }

    pub(super) fn record(&mut self, failure: Failure) {
        self.count(&failure.fault);
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(failure);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.connections += other.connections;
        self.refused += other.refused;
        self.reset += other.reset;
        self.cut += other.cut;
        self.late += other.late;
        self.wrong += other.wrong;
        self.client_faults += other.client_faults;
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|failure| failure.at);
        self.failures.truncate(FAILURES_KEPT);
        for (worker, count) in other.answered_by {
            *self.answered_by.entry(worker).or_default() += count;
        }
        self.answers.extend(other.answers);
    }
}

/// What `percent` of these do not exceed; `None` if there are none.
pub fn percentile(latencies: impl Iterator<Item = Duration>, percent: f64) -> Option<Duration> {
    let mut sorted: Vec<_> = latencies.collect();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, connections, elapsed, .. } = self;
        writeln!(f, "{requests} requests on {connections} connections in {elapsed:.1?}")?;
        writeln!(
            f,
            "lost: {} refused, {} reset, {} cut, {} late, {} wrong, {} the client's own fault",
            self.refused, self.reset, self.cut, self.late, self.wrong, self.client_faults
        )?;
        for failure in self.failures.iter().take(10) {
            writeln!(f, "  {failure}")?;
        }
        let (half, most, all) = (self.percentile(50.0), self.percentile(99.0), self.percentile(100.0));
        writeln!(f, "latency: half within {half:.1?}, 99 % within {most:.1?}, all within {all:.1?}")?;
        for (worker, count) in &self.answered_by {
            match worker {
                Some(WorkerId { pid, generation }) => {
                    writeln!(f, "  worker {pid} (generation {generation}): {count}")?;
                }
                None => writeln!(f, "  unnamed: {count}")?,
            }
        }
        Ok(())
    }
}
