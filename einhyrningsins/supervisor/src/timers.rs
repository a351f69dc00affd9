//! The deadlines that are pending: a closed list of kinds, at most one of each per owner.

use super::Moment;
use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::event::{SlotNumber, WorkerId};

/// What to do when a time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Timer {
    /// The worker has lived long enough to be taken as acked (`--ack-mode SECONDS`).
    Ack(WorkerId),
    /// The worker should have acked by now (`--ack-timeout`).
    Boot(WorkerId),
    /// The worker's grace period is over (`--signal-timeout`).
    Kill(WorkerId),
    /// The worker of a slot that was taken away has served long enough what was still on its way to it
    /// (`--shrink-grace`).
    Retire(WorkerId),
    /// The empty slot may be filled again.
    Spawn(SlotNumber),
    /// The slot may try its next successor again.
    Succeed(SlotNumber),
    /// The worker has reached its greatest age (`--max-age`).
    Age(WorkerId),
    /// The worker should have said by now that it is well (`--ping-timeout`).
    Ping(WorkerId),
    /// A worker that is to be replaced may be tried again.
    Recycle,
    /// The canaries have lived long enough for the rest to follow.
    Soak,
}

/// The pending deadlines, earliest first.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Timers {
    by_time: BTreeSet<(Moment, Timer)>,
    by_timer: BTreeMap<Timer, Moment>,
}

impl Timers {
    /// Sets `timer` to `at`, in place of the time that it had.
    pub(super) fn set(&mut self, timer: Timer, at: Moment) {
        self.clear(timer);
        self.by_time.insert((at, timer));
        self.by_timer.insert(timer, at);
    }

    /// Forgets `timer`.
    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// When `timer` is due.
    pub(super) fn at(&self, timer: Timer) -> Option<Moment> {
        self.by_timer.get(&timer).copied()
    }

    /// When the first of all is due.
    pub(super) fn earliest(&self) -> Option<Moment> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// All of them, earliest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Moment, Timer)> {
        self.by_time.iter().copied()
    }

    /// Takes the first that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<Timer> {
        let &(at, timer) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}
