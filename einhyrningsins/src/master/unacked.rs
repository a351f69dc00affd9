//! Workers that have run for a while without the ack that the pool waits for, and those that exited without one although
//! they have not failed: the log says so once per generation.
//!
//! It follows the notices of the core and decides nothing. The core's own deadline, `--ack-timeout`, may be far off.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use einhorn_proto::{Death, IN_BACKGROUND, Notice, WorkerSlot};
use einhyrningsins_supervisor::AckMode;

use crate::logging::Log;

/// How long a worker may take before the log names what is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Workers without an ack, in the order of their spawns.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    /// When the log says so, and of which worker. Those that have acked or died since are skipped.
    due: VecDeque<(Instant, i32)>,
    /// Slot and generation of each, and how long it may take.
    workers: BTreeMap<i32, (WorkerSlot, u64, Option<Duration>)>,
    /// The last generation that the log has named.
    named: u64,
    /// The last generation of which the log has said that its program may put itself into the background.
    in_background: u64,
}

impl Unacked {
    /// `ack` is that of a generation.
    pub(super) fn on_notice(&mut self, notice: &Notice, ack: impl Fn(u64) -> AckMode) {
        match notice {
            Notice::Spawned { slot, pid, generation, .. } => {
                if let AckMode::Manual(limit) = ack(*generation) {
                    self.workers.insert(*pid, (*slot, *generation, limit));
                    self.due.push_back((Instant::now() + PATIENCE, *pid));
                }
            }
            Notice::Acked { pid, .. } | Notice::Draining { pid, .. } | Notice::Retiring { pid, .. } => {
                self.forget(*pid);
            }
            Notice::Died { death, .. } => death.pid.into_iter().for_each(|pid| self.forget(pid)),
            _ => {}
        }
    }

    /// Names a worker that ended as a program does that puts itself into the background.
    pub(super) fn name_background(&mut self, notice: &Notice, log: &mut Log) {
        if let Notice::Died { slot, death: death @ Death { pid: Some(pid), generation, .. }, .. } = notice
            && death.may_be_in_background()
            && *generation > self.in_background
        {
            self.in_background = *generation;
            log.warn(format_args!(
                "{slot}: worker {pid} (generation {generation}) has not acked: {IN_BACKGROUND}"
            ));
        }
    }

    fn forget(&mut self, pid: i32) {
        self.workers.remove(&pid);
        while self.due.front().is_some_and(|(_, pid)| !self.workers.contains_key(pid)) {
            self.due.pop_front();
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    /// Names the workers whose time has come.
    pub(super) fn turn(&mut self, now: Instant, log: &mut Log) {
        let mut due = Vec::new();
        while let Some((at, pid)) = self.due.front().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_front();
            if let Some((slot, generation, limit)) = self.workers.remove(&pid)
                && generation > self.named
            {
                due.push((slot, pid, generation, limit, now - at + PATIENCE));
            }
        }
        let Some((slot, pid, generation, limit, age)) = due.first() else { return };
        self.named = *generation;
        let others = match due.len() - 1 {
            0 => String::new(),
            count => format!(", nor have {count} others"),
        };
        let limit =
            limit.map(|limit| format!(", up to {}s after its spawn (--ack-timeout)", limit.as_secs_f64()));
        let limit = limit.unwrap_or_default();
        log.info(format_args!(
            "{slot}: worker {pid} (generation {generation}) has not acked after {:.1}s{others}; it is waited for \
             until it sends worker:ack or READY=1{limit}; without -m a worker is up after a second",
            age.as_secs_f64()
        ));
    }
}

#[cfg(test)]
mod tests {
    use einhorn_proto::AckSource;

    use super::*;

    fn spawned(pid: i32, generation: u64) -> Notice {
        Notice::Spawned { slot: 0.into(), index: 0, pid, generation }
    }

    fn acked(pid: i32) -> Notice {
        let (slot, source) = (0.into(), AckSource::Control);
        Notice::Acked { slot, pid, generation: 1, source, age_ms: 1, up: 1, wanted: 3 }
    }

    #[test]
    fn a_pool_without_missing_acks_has_no_deadline() {
        let mut unacked = Unacked::default();
        let manual = |_| AckMode::Manual(None);
        unacked.on_notice(&spawned(1, 1), |_| AckMode::Timer(Duration::from_secs(9)));
        assert_eq!(unacked.deadline(), None);
        for pid in 1..4 {
            unacked.on_notice(&spawned(pid, 1), manual);
        }
        assert!(unacked.deadline().is_some());
        for pid in [2, 1, 3] {
            unacked.on_notice(&acked(pid), manual);
        }
        assert_eq!((unacked.deadline(), unacked.due.len()), (None, 0));
    }
}
