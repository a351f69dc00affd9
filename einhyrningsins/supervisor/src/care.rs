//! Care for workers that serve: one that is too old, too large, or has stopped saying that it is well is replaced.
//!
//! By replacement first, as in an upgrade: a successor from the same release takes the seat when it acks, and the
//! worker before it drains. One turn at a time for the whole pool, from the spawn of the successor until the worker
//! that it replaced is gone; only while every slot serves, and never during an upgrade. So a pool whose workers all
//! reach a limit at once has at most one worker more than it should, and never one less.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::Moment;

use super::Pid;
use einhorn_proto::{Death, Notice, RecycleReason, Recycled};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{SlotNumber, WorkerId};
use super::lifecycle::BOOT_GRACE;
use super::pacing;
use super::policy::MaxAge;
use super::timers::Timer;
use super::worker::Worker;

impl MaxAge {
    /// The age that `worker` may reach.
    fn of(&self, worker: WorkerId) -> Duration {
        // splitmix64: spreads numbers that follow each other over the whole range.
        let mut mixed = self.seed.wrapping_add(worker.0.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = f64::from((mixed >> 32) as u32) / f64::from(u32::MAX);
        self.age.saturating_add(self.jitter.mul_f64(share))
    }
}

/// Who waits to be replaced, and whose turn it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recycling {
    pub(super) queue: VecDeque<(WorkerId, RecycleReason)>,
    pub(super) turn: Option<Turn>,
    /// Successors in a row that did not ack.
    pub(super) failures: u32,
    pub(super) counts: Recycled,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) slot: SlotNumber,
    pub(super) old: WorkerId,
    reason: RecycleReason,
    /// Whether its successor has the seat.
    pub(super) is_succeeded: bool,
}

impl Recycling {
    /// Whether `slot` has a successor because of this.
    pub(super) fn is_succeeding(&self, slot: SlotNumber) -> bool {
        self.turn.is_some_and(|turn| turn.slot == slot && !turn.is_succeeded)
    }

    /// Whether `worker` is to be replaced, or is being, for having stopped saying that it is well.
    fn is_silent(&self, worker: WorkerId) -> bool {
        self.reason_for(worker) == Some(RecycleReason::PingTimeout)
    }

    /// Why `worker` is to be replaced, or is being.
    fn reason_for(&self, worker: WorkerId) -> Option<RecycleReason> {
        let turn = self.turn.iter().map(|turn| (turn.old, turn.reason));
        turn.chain(self.queue.iter().copied()).find(|(id, _)| *id == worker).map(|(_, reason)| reason)
    }
}

impl Supervisor {
    /// Starts the clocks of a worker that has acked.
    pub(super) fn begin_care(&mut self, now: Moment, id: WorkerId) {
        if let Some(max_age) = self.policy.care.max_age {
            self.timers.set(Timer::Age(id), now + max_age.of(id));
        }
    }

    /// Stops the clocks of a worker that is asked to stop, or gone.
    pub(super) fn end_care(&mut self, id: WorkerId) {
        self.timers.clear(Timer::Age(id));
        self.timers.clear(Timer::Ping(id));
    }

    /// A worker has said that it is well.
    pub(super) fn watch_pings(&mut self, now: Moment, id: WorkerId) {
        let Some(timeout) = self.policy.care.ping_timeout else { return };
        if self.pool.get(id).is_some_and(Worker::is_undrained) {
            self.timers.set(Timer::Ping(id), now + timeout);
            self.forgive(id, RecycleReason::PingTimeout);
        }
    }

    pub(super) fn on_age_reached(&mut self, now: Moment, id: WorkerId) {
        self.recycle(now, id, RecycleReason::MaxAge);
    }

    pub(super) fn on_ping_overdue(&mut self, now: Moment, id: WorkerId) {
        // One that has not acked has its boot deadline; it is looked at again after that.
        if self.pool.get(id).is_some_and(Worker::is_unacked) {
            return self.watch_pings(now, id);
        }
        self.recycle(now, id, RecycleReason::PingTimeout);
    }

    pub(super) fn on_measured(&mut self, now: Moment, pid: Pid, rss_bytes: u64) {
        let Some(id) = self.pool.by_pid(pid).map(|worker| worker.id) else { return };
        match self.policy.care.max_rss_bytes {
            Some(max) if rss_bytes > max => self.recycle(now, id, RecycleReason::MaxRss),
            _ => self.forgive(id, RecycleReason::MaxRss),
        }
    }

    /// Puts a worker that serves in the queue of those to be replaced. One that is in it stays where it is, but that
    /// one which has fallen silent, and may serve nobody any more, goes before all others.
    fn recycle(&mut self, now: Moment, id: WorkerId, reason: RecycleReason) {
        if !self.pool.get(id).is_some_and(Worker::is_up) {
            return;
        }
        let is_silent = reason == RecycleReason::PingTimeout;
        if let Some(turn) = self.recycling.turn.as_mut().filter(|turn| turn.old == id) {
            if is_silent {
                turn.reason = reason;
            }
            return;
        }
        if is_silent {
            self.recycling.queue.retain(|(queued, _)| *queued != id);
            self.recycling.queue.push_front((id, reason));
        } else if self.recycling.reason_for(id).is_none() {
            self.recycling.queue.push_back((id, reason));
        }
        self.pump(now);
    }

    /// Takes a worker that waits for its turn for this reason out of the queue. Its age it keeps.
    fn forgive(&mut self, id: WorkerId, reason: RecycleReason) {
        let Some(at) = self.recycling.queue.iter().position(|entry| *entry == (id, reason)) else { return };
        self.recycling.queue.remove(at);
        if self.policy.care.max_age.is_some() && self.timers.at(Timer::Age(id)).is_none() {
            self.recycling.queue.push_back((id, RecycleReason::MaxAge));
        }
    }

    /// How long a worker has to stop; `None` for ever. One that says nothing any more may not hear the signal either.
    pub(super) fn grace_of(&self, id: WorkerId) -> Option<Duration> {
        self.policy.grace.or(self.recycling.is_silent(id).then_some(BOOT_GRACE))
    }

    /// Spawns the successor of the next worker in the queue; `false` if there is none to spawn now. The caller
    /// knows that there may be one more worker.
    pub(super) fn advance_recycling(&mut self, now: Moment) -> bool {
        let is_free = self.rollout.is_none()
            && self.recycling.turn.is_none()
            && self.timers.at(Timer::Recycle).is_none();
        if !is_free || self.recycling.queue.is_empty() || !self.serves_everywhere() {
            return false;
        }
        while let Some((old, reason)) = self.recycling.queue.pop_front() {
            let Some(worker) = self.pool.get(old).filter(|worker| worker.is_up()) else { continue };
            let (number, pid, generation) =
                (worker.slot, worker.pid.map_or(0, Pid::as_raw), worker.generation);
            if self.pool.slots.get(&number).is_none_or(|slot| slot.current != Some(old)) {
                continue;
            }
            self.recycling.turn = Some(Turn { slot: number, old, reason, is_succeeded: false });
            self.tell(Notice::Recycling { slot: number.0, pid, generation: generation.0, reason });
            let successor = self.spawn(now, number, generation);
            if let Some(slot) = self.pool.slots.get_mut(&number) {
                slot.successor = Some(successor);
            }
            return true;
        }
        false
    }

    /// Whether each slot that was not given up has a worker that takes traffic.
    fn serves_everywhere(&self) -> bool {
        let is_served = |slot: &super::pool::Slot| {
            slot.given_up || slot.current.and_then(|id| self.pool.get(id)).is_some_and(Worker::is_up)
        };
        self.was_ready && self.pool.slots.values().all(is_served)
    }

    /// The successor has acked, and takes the seat.
    pub(super) fn finish_recycling(&mut self, now: Moment, number: SlotNumber) {
        if let Some(turn) = &mut self.recycling.turn {
            turn.is_succeeded = true;
            self.recycling.failures = 0;
            self.recycling.counts.add(turn.reason);
        }
        self.succeed(now, number);
    }

    /// The successor is lost before its ack: the worker goes on, and its turn comes again.
    pub(super) fn lose_in_recycling(&mut self, now: Moment, worker: &Worker, death: Death) {
        let Some(turn) = self.recycling.turn.take() else { return };
        self.recycling.failures += 1;
        self.recycling.queue.push_front((turn.old, turn.reason));
        let failures = self.recycling.failures;
        let at = pacing::respawn_at(now, worker.spawned_at, self.policy.seconds, failures);
        self.tell_death(now, worker.slot, death, at, "its slot goes on as it is; next try");
        self.timers.set(Timer::Recycle, at);
    }

    /// An upgrade replaces everybody anyway: a successor that has not acked goes, and what failed before it may not
    /// any more.
    pub(super) fn interrupt_recycling(&mut self, now: Moment) {
        self.recycling.failures = 0;
        self.timers.clear(Timer::Recycle);
        let Some(turn) = self.recycling.turn.filter(|turn| !turn.is_succeeded) else { return };
        self.recycling.turn = None;
        self.recycling.queue.push_front((turn.old, turn.reason));
        let successor = self.pool.slots.get_mut(&turn.slot).and_then(|slot| slot.successor.take());
        if let Some(successor) = successor {
            self.cull(now, successor, "an upgrade replaces every worker");
        }
    }

    /// Nobody is replaced any more.
    pub(super) fn end_recycling(&mut self) {
        self.recycling = Recycling { counts: self.recycling.counts, ..Recycling::default() };
        self.timers.clear(Timer::Recycle);
    }

    /// A worker is gone: it waits for nothing any more, and the turn may have been its.
    pub(super) fn leave_recycling(&mut self, id: WorkerId) {
        self.recycling.queue.retain(|(queued, _)| *queued != id);
        if self.recycling.turn.is_some_and(|turn| turn.old == id) {
            self.recycling.turn = None;
        }
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
