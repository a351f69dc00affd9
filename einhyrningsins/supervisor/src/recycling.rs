//! Recycling: workers that serve and are too old, too large, or have stopped pinging are replaced.
//!
//! By replacement first, as in an upgrade: a successor from the same release takes the slot when it acks, and the
//! worker before it drains. One turn at a time for the whole pool, from the spawn of the successor until the worker
//! that it replaced is gone; only while every slot serves, and never during an upgrade. So a pool whose workers all
//! reach a limit at once has at most one worker more than it should, and never one less. Here is who waits and whose
//! turn it is; when a turn begins is decided in `rules/recycling.rs`.

use alloc::collections::{BTreeSet, VecDeque};
use core::time::Duration;

use einhorn_proto::{RecycleReason, Recycled};
use serde::{Deserialize, Serialize};

use super::event::{SlotNumber, WorkerId};
use super::moment::Moment;
use super::policy::MaxAge;

/// Who waits to be replaced, and whose turn it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recycling {
    queue: VecDeque<(WorkerId, RecycleReason)>,
    /// Those that have lost a socket. Some may serve no more.
    #[serde(default)]
    lost: BTreeSet<WorkerId>,
    turn: Option<Turn>,
    /// Successors in a row that did not ack.
    failures: u32,
    /// No turn begins before this.
    not_before: Option<Moment>,
    counts: Recycled,
}

/// The replacement of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) slot: SlotNumber,
    pub(crate) old: WorkerId,
    pub(crate) reason: RecycleReason,
    /// Whether its successor has the slot.
    pub(crate) is_succeeded: bool,
}

impl Recycling {
    pub(crate) fn counts(&self) -> Recycled {
        self.counts
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    #[cfg(test)]
    pub(crate) fn turn(&self) -> Option<Turn> {
        self.turn
    }

    #[cfg(test)]
    pub(crate) fn has_lost_socket(&self, worker: WorkerId) -> bool {
        self.lost.contains(&worker)
    }

    /// The workers that wait, next first, and why. Some may serve no more.
    pub(crate) fn queue(&self) -> impl Iterator<Item = (WorkerId, RecycleReason)> {
        self.queue.iter().copied()
    }

    /// Whether a turn may begin, as far as turns are concerned, at the last deadline that was reached. A turn whose old worker
    /// is out of reach holds nobody up: that worker may never go.
    pub(crate) fn is_free(&self, reached: Moment, out_of_reach: &BTreeSet<WorkerId>) -> bool {
        let has_ended = |turn: Turn| turn.is_succeeded && out_of_reach.contains(&turn.old);
        self.turn.is_none_or(has_ended) && self.not_before.is_none_or(|at| at <= reached)
    }

    /// When the next turn may begin, if it had to wait at the last deadline that was `reached`.
    pub(crate) fn next_deadline(&self, reached: Moment) -> Option<Moment> {
        self.not_before.filter(|at| *at > reached)
    }

    /// Whether the successor that `slot` has is there because of this.
    pub(crate) fn is_succeeding(&self, slot: SlotNumber) -> bool {
        self.turn.is_some_and(|turn| turn.slot == slot && !turn.is_succeeded)
    }

    /// Whether `worker` waits to be replaced, or is being replaced, because it stopped pinging.
    pub(crate) fn is_silent(&self, worker: WorkerId) -> bool {
        self.reason_for(worker) == Some(RecycleReason::PingTimeout)
    }

    /// The reason for which `worker` waits to be replaced, or is being replaced.
    fn reason_for(&self, worker: WorkerId) -> Option<RecycleReason> {
        let turn = self.turn.iter().map(|turn| (turn.old, turn.reason));
        turn.chain(self.queue.iter().copied()).find(|(id, _)| *id == worker).map(|(_, reason)| reason)
    }

    /// A worker has lost a socket. That is for good: it waits to be replaced, also once another reason has gone.
    pub(crate) fn lost_socket(&mut self, worker: WorkerId) {
        self.lost.insert(worker);
        self.enqueue(worker, RecycleReason::LostSocket);
    }

    /// Puts a worker in the queue. One that waits already keeps its place. A silent one, which may serve nobody any
    /// more, goes before all others.
    pub(crate) fn enqueue(&mut self, worker: WorkerId, reason: RecycleReason) {
        let is_silent = reason == RecycleReason::PingTimeout;
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.old == worker) {
            if is_silent {
                turn.reason = reason;
            }
        } else if is_silent {
            self.queue.retain(|(queued, _)| *queued != worker);
            self.queue.push_front((worker, reason));
        } else if self.reason_for(worker).is_none() {
            self.queue.push_back((worker, reason));
        }
    }

    /// Takes a worker that waits for this reason out of the queue; whether it did.
    pub(crate) fn forgive(&mut self, worker: WorkerId, reason: RecycleReason) -> bool {
        let Some(at) = self.queue.iter().position(|entry| *entry == (worker, reason)) else { return false };
        if self.lost.contains(&worker) {
            self.queue[at].1 = RecycleReason::LostSocket;
            return false;
        }
        self.queue.remove(at).is_some()
    }

    /// Begins the turn of a worker that waits. Whoever waited before it serves no more.
    pub(crate) fn begin_turn(&mut self, old: WorkerId, slot: SlotNumber, reason: RecycleReason) {
        while self.queue.pop_front().is_some_and(|(worker, _)| worker != old) {}
        self.turn = Some(Turn { slot, old, reason, is_succeeded: false });
    }

    /// The successor has the slot. The turn ends when the worker before it is gone.
    pub(crate) fn succeeded(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.is_succeeded = true;
            self.failures = 0;
            self.counts.add(turn.reason);
        }
    }

    /// The successor was lost before its ack: the worker waits for its next turn, which begins no earlier than `at`.
    pub(crate) fn fail_turn(&mut self, at: Moment) {
        if let Some(turn) = self.turn.take() {
            self.failures += 1;
            self.queue.push_front((turn.old, turn.reason));
            self.not_before = Some(at);
        }
    }

    /// An upgrade replaces every worker anyway. Names the slot whose successor has not acked and is not wanted.
    pub(crate) fn interrupt(&mut self) -> Option<SlotNumber> {
        self.failures = 0;
        self.not_before = None;
        let turn = self.turn.take_if(|turn| !turn.is_succeeded)?;
        self.queue.push_front((turn.old, turn.reason));
        Some(turn.slot)
    }

    /// Nobody is replaced any more.
    pub(crate) fn stop(&mut self) {
        *self = Self { counts: self.counts, ..Self::default() };
    }

    /// A worker is gone: it waits for nothing, and its turn has ended if it had one.
    pub(crate) fn gone(&mut self, worker: WorkerId) {
        self.queue.retain(|(queued, _)| *queued != worker);
        self.lost.remove(&worker);
        self.turn.take_if(|turn| turn.old == worker);
    }
}

impl MaxAge {
    /// The age that `worker` may reach.
    pub(crate) fn of(&self, worker: WorkerId) -> Duration {
        // splitmix64: spreads numbers that follow each other over the whole range.
        let mut mixed = self.seed.wrapping_add(worker.0.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = f64::from((mixed >> 32) as u32) / f64::from(u32::MAX);
        self.age.saturating_add(self.jitter.mul_f64(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_its_own_share_of_the_jitter_and_no_more() {
        let max_age = MaxAge { age: Duration::from_secs(100), jitter: Duration::from_secs(10), seed: 7 };
        let ages: Vec<_> = (0..1000).map(|id| max_age.of(WorkerId(id))).collect();
        assert!(ages.iter().all(|age| (100.0..=110.0).contains(&age.as_secs_f64())));
        let early = ages.iter().filter(|age| age.as_secs_f64() < 105.0).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
        assert_eq!(max_age.of(WorkerId(5)), ages[5], "and keeps it");
        assert_ne!(MaxAge { seed: 8, ..max_age }.of(WorkerId(5)), ages[5]);
    }
}
