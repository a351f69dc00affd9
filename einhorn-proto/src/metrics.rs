//! Metrics: what a master has counted, the answer to `metrics`.

use serde::{Deserialize, Serialize};

use crate::{Death, MISSED_BOOT_DEADLINE, PastOutcome, Recycled, RolloutKind, Termination};

/// The data of the answer to `metrics`: what happened since the master started. A replacement of the master keeps it.
///
/// A worker on trial, which has no slot, is not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// What happened to workers, to rollouts and to the master.
    pub counts: EventCounts,
    /// How many serving workers were replaced, by reason.
    #[serde(default)]
    pub recycled: Recycled,
    /// Acks, pings and other messages for a worker that did not come from it.
    #[serde(default)]
    pub refused: u64,
    /// Lines of the log that were dropped: its reader did not read, or it could not be written.
    #[serde(default)]
    pub lost_log_lines: u64,
}

/// How often each event has happened, and how long some took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Workers that were spawned.
    pub spawns: u64,
    /// Workers that have begun to take traffic.
    pub acks: u64,
    /// Workers that ended although nobody had asked them to, or not as they should.
    pub deaths: Deaths,
    /// Upgrades that have ended.
    pub upgrades: Outcomes,
    /// Rollbacks by command that have ended.
    pub rollbacks: Outcomes,
    /// How often the master was replaced.
    pub reexecs: u64,
    /// From the spawn of a worker to its ack.
    pub boot: Histogram,
    /// From the stop signal of a worker to its end.
    pub drain: Histogram,
    /// From the first worker that a rollout replaced, or from the start of its check, to its end.
    pub rollout: Histogram,
}

impl EventCounts {
    /// The counts of rollouts of this kind.
    pub fn rollouts(&mut self, kind: RolloutKind) -> &mut Outcomes {
        match kind {
            RolloutKind::Upgrade => &mut self.upgrades,
            RolloutKind::Rollback => &mut self.rollbacks,
        }
    }
}

/// How a worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeathKind {
    /// It could not be spawned.
    Spawn,
    /// It did not ack in time (`--ack-timeout`).
    BootDeadline,
    /// It ended before its ack.
    Unacked,
    /// The kernel killed it because its cgroup was out of memory.
    Oom,
    /// It was up, and a signal ended it.
    Signal,
    /// It was up, and exited.
    Exit,
    /// It was asked to stop, and its stop signal ended it: it may not have finished its requests.
    StopSignal,
}

/// How many workers died, by [`DeathKind`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "DeathKind explains them")]
pub struct Deaths {
    pub spawn: u64,
    pub boot_deadline: u64,
    pub unacked: u64,
    pub oom: u64,
    pub signal: u64,
    pub exit: u64,
    pub stop_signal: u64,
}

impl Deaths {
    /// Counts one more.
    pub fn add(&mut self, kind: DeathKind) {
        *match kind {
            DeathKind::Spawn => &mut self.spawn,
            DeathKind::BootDeadline => &mut self.boot_deadline,
            DeathKind::Unacked => &mut self.unacked,
            DeathKind::Oom => &mut self.oom,
            DeathKind::Signal => &mut self.signal,
            DeathKind::Exit => &mut self.exit,
            DeathKind::StopSignal => &mut self.stop_signal,
        } += 1;
    }
}

impl Death {
    /// The first of the kinds, in their order, that it is of.
    #[must_use]
    pub fn kind(&self) -> DeathKind {
        match &self.termination {
            _ if self.pid.is_none() => DeathKind::Spawn,
            None if self.reason == MISSED_BOOT_DEADLINE => DeathKind::BootDeadline,
            Some(Termination::Killed { out_of_memory: true, .. }) => DeathKind::Oom,
            _ if !self.acked => DeathKind::Unacked,
            Some(Termination::Killed { .. }) => DeathKind::Signal,
            Some(Termination::Exited(_) | Termination::Unseen) | None => DeathKind::Exit,
        }
    }
}

/// How many rollouts ended in each way: see [`PastOutcome`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "PastOutcome explains them")]
pub struct Outcomes {
    pub done: u64,
    pub rolled_back: u64,
    pub failed: u64,
    pub superseded: u64,
}

impl Outcomes {
    /// Counts one more.
    pub fn add(&mut self, outcome: PastOutcome) {
        *match outcome {
            PastOutcome::Done => &mut self.done,
            PastOutcome::RolledBack => &mut self.rolled_back,
            PastOutcome::Failed => &mut self.failed,
            PastOutcome::Superseded => &mut self.superseded,
        } += 1;
    }
}

/// How long something took, each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// The shortest bucket first.
    pub buckets: Vec<Bucket>,
    /// How often it happened.
    pub count: u64,
    /// How long it took in all, in milliseconds.
    pub sum_ms: u64,
}

/// The number of times that took so long at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// In milliseconds.
    pub le_ms: u64,
    /// Those of shorter buckets included.
    pub count: u64,
}

/// The bounds of new histograms, in milliseconds: from the boot of a small program to a drain of hours.
const BOUNDS_MS: [u64; 19] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    1_800_000, 3_600_000, 10_800_000,
];

impl Default for Histogram {
    fn default() -> Self {
        let buckets = BOUNDS_MS.iter().map(|le_ms| Bucket { le_ms: *le_ms, count: 0 }).collect();
        Self { buckets, count: 0, sum_ms: 0 }
    }
}

impl Histogram {
    /// Counts one more that took so many milliseconds.
    pub fn add(&mut self, took_ms: u64) {
        for bucket in self.buckets.iter_mut().filter(|bucket| took_ms <= bucket.le_ms) {
            bucket.count += 1;
        }
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(took_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_death_is_of_one_kind() {
        let killed = |out_of_memory| Termination::Killed {
            signal: "SIGKILL".into(),
            core_dumped: false,
            out_of_memory,
        };
        let death = |pid, acked, termination: Option<Termination>| Death {
            pid,
            generation: 1,
            reason: termination.as_ref().map_or(MISSED_BOOT_DEADLINE.to_owned(), ToString::to_string),
            termination,
            age_ms: 5,
            acked,
            stderr_tail: Vec::new(),
        };
        for (death, kind) in [
            (death(None, false, None), DeathKind::Spawn),
            (death(Some(7), false, None), DeathKind::BootDeadline),
            (death(Some(7), false, Some(killed(true))), DeathKind::Oom),
            (death(Some(7), true, Some(killed(true))), DeathKind::Oom),
            (death(Some(7), false, Some(killed(false))), DeathKind::Unacked),
            (death(Some(7), false, Some(Termination::Exited(0))), DeathKind::Unacked),
            (death(Some(7), true, Some(killed(false))), DeathKind::Signal),
            (death(Some(7), true, Some(Termination::Exited(1))), DeathKind::Exit),
            (death(Some(7), true, Some(Termination::Unseen)), DeathKind::Exit),
        ] {
            assert_eq!(death.kind(), kind, "{death:?}");
            let mut deaths = Deaths::default();
            deaths.add(kind);
            let name = serde_json::to_value(kind).unwrap();
            let counted = serde_json::to_value(deaths).unwrap();
            assert_eq!(counted[name.as_str().unwrap()], 1, "the field has the name of its kind");
        }
    }

    #[test]
    fn a_histogram_counts_what_is_within_each_bound() {
        let mut histogram = Histogram::default();
        [0, 5, 6, 20_000_000].into_iter().for_each(|took_ms| histogram.add(took_ms));
        assert_eq!((histogram.count, histogram.sum_ms), (4, 20_000_011));
        assert_eq!(histogram.buckets[0], Bucket { le_ms: 5, count: 2 });
        assert!(histogram.buckets[1..].iter().all(|bucket| bucket.count == 3));
        assert!(histogram.buckets.is_sorted_by_key(|bucket| bucket.le_ms));
    }
}
