//! The way back: what happens when the new release fails, or somebody does not want it after all.
//!
//! No further spawns of the new release; those of its workers that have no seat, or have not acked, drain at
//! once. Seats that it had left empty are filled from the release before. A seat that it holds with an acked
//! worker is given back as it was taken: a successor, now of the release before, acks first.

use super::Moment;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use einhorn_proto::{Death, Notice, Outcome, RolloutKind};

use super::event::{RequestKey, SlotNumber};
use super::lifecycle::Loss;
use super::pacing;
use super::pool::{Attempts, Slot};
use super::rollout::{Failure, Rollout, Stage};
use super::timers::Timer;
use super::worker::Worker;
use super::{Phase, Supervisor};

impl Supervisor {
    /// Goes back to the release before: during a rollout by ending it, after one by another.
    pub(super) fn on_rollback(&mut self, now: Moment, request: Option<RequestKey>) {
        if self.rollout.is_some() {
            return self.on_abort(now, request, "a rollback was asked for");
        }
        let Some(generation) = self.previous else {
            let message = "nothing to roll back to: the release before is kept from an upgrade's end until the next \
                           one begins";
            return self.reply(request, false, message.into(), None);
        };
        let mut rollout = Rollout::new(RolloutKind::Rollback, generation, self.generation);
        rollout.join(request, Outcome::Done);
        self.rollout = Some(rollout);
        self.begin_replacing(now);
        self.forget_releases();
    }

    /// Ends the rollout that runs, and goes back.
    pub(super) fn on_abort(&mut self, now: Moment, request: Option<RequestKey>, reason: &str) {
        let Some(rollout) = &mut self.rollout else {
            return self.reply(request, false, "no upgrade runs".into(), None);
        };
        rollout.join(request, Outcome::RolledBack);
        self.fail_rollout(now, reason.to_owned(), None);
    }

    /// Turns the rollout around. Once it has, calling again changes nothing: the first reason stands. When the
    /// master stops there is no way back, and it ends at once.
    pub(super) fn fail_rollout(&mut self, now: Moment, reason: String, death: Option<Death>) {
        let Some(rollout) = &mut self.rollout else { return };
        if rollout.is_rolling_back() {
            if self.phase != Phase::Running {
                self.end_failed(now, Outcome::Failed);
            }
            return;
        }
        let is_untouched = matches!(rollout.stage, Stage::Resolving) && rollout.superseded.is_empty();
        let (kind, generation) = (rollout.kind, rollout.generation);
        rollout.stage = Stage::RollingBack(Failure { reason: reason.clone(), death });
        rollout.todo.clear();
        self.timers.clear(Timer::Soak);
        if is_untouched {
            return self.end_failed(now, Outcome::RolledBack);
        }
        if self.phase != Phase::Running {
            return self.end_failed(now, Outcome::Failed);
        }
        self.tell(Notice::RollbackStarted { kind, generation: generation.0, reason });
        self.vacate_for_rollback(now);
        self.pump(now);
        self.settle_rollout(now);
    }

    /// Drains what holds no seat or has not acked, queues the seats to give back, and fills the empty ones.
    fn vacate_for_rollback(&mut self, now: Moment) {
        self.seat_lone_successors(now);
        let Some(rollout) = &self.rollout else { return };
        let from = rollout.from;
        let brought: Vec<_> = rollout.superseded.iter().copied().chain([rollout.generation]).collect();
        let (mut culled, mut todo, mut empty) = (Vec::new(), Vec::new(), Vec::new());
        for (number, slot) in &mut self.pool.slots {
            self.timers.clear(Timer::Succeed(*number));
            slot.succession = Attempts::default();
            culled.extend(slot.successor.take());
        }
        let is_up = |slot: &Slot| slot.current.and_then(|id| self.pool.get(id)).is_some_and(Worker::is_up);
        for (number, slot) in &self.pool.slots {
            match brought.contains(&slot.generation) {
                true if is_up(slot) => todo.push(*number),
                true => empty.push(*number),
                false if slot.current.is_none() => empty.push(*number),
                false => {}
            }
        }
        for number in &empty {
            let Some(slot) = self.pool.slots.get_mut(number) else { continue };
            culled.extend(slot.current.take());
            if brought.contains(&slot.generation) {
                slot.generation = from;
                slot.forgive();
                self.timers.clear(Timer::Spawn(*number));
            }
        }
        for id in culled {
            self.cull(now, id, "the upgrade failed");
        }
        if let Some(rollout) = &mut self.rollout {
            rollout.todo.extend(todo);
        }
        #[cfg(test)]
        if self.sabotage == Some(super::model::Sabotage::SkipRollbackRefill) {
            return;
        }
        for number in empty {
            if self.timers.at(Timer::Spawn(number)).is_none() {
                self.make_due(number);
            }
        }
    }

    /// A worker is lost while the rollout goes back.
    pub(super) fn lose_in_rollback(&mut self, now: Moment, worker: &Worker, death: Death, loss: Loss) {
        let number = worker.slot;
        let Some(rollout) = &self.rollout else { return };
        let (from, was_brought) = (rollout.from, rollout.has_brought(worker.generation));
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        let is_seat = slot.current.is_none();
        if is_seat && was_brought {
            // The seat was to be given back, and is free.
            slot.generation = from;
            slot.forgive();
            self.tell_death(now, number, death, now, "next spawn, of the release before,");
            return self.make_due(number);
        }
        slot.succession.deaths += 1;
        if is_seat && worker.acked_at.is_none() {
            slot.attempts.deaths += 1;
        }
        let attempts = slot.succession;
        let at = pacing::respawn_at(now, worker.spawned_at, self.policy.seconds, attempts.deaths);
        self.tell_death(now, number, death.clone(), at, "next try");
        self.try_again(now, number, at);
        let tries_max = self.policy.retries.upgrade;
        if loss == Loss::CannotSpawn || attempts.deaths >= tries_max {
            self.give_up_rollback(now, number, &death);
        }
    }

    /// The release before fails too: whoever waits is told, and what serves goes on serving.
    fn give_up_rollback(&mut self, now: Moment, number: SlotNumber, death: &Death) {
        let successors: Vec<_> =
            self.pool.slots.values_mut().filter_map(|slot| slot.successor.take()).collect();
        for id in successors {
            self.cull(now, id, "the rollback was given up");
        }
        if let Some(rollout) = &mut self.rollout
            && let Stage::RollingBack(failure) = &mut rollout.stage
        {
            failure.reason =
                format!("{}; and the way back failed: slot {}: {death}", failure.reason, number.0);
        }
        self.end_failed(now, Outcome::Failed);
    }

    /// Every slot has the release before again.
    pub(super) fn finish_rollback(&mut self, now: Moment) {
        self.end_failed(now, Outcome::RolledBack);
    }

    fn end_failed(&mut self, now: Moment, outcome: Outcome) {
        let Some(rollout) = self.rollout.take() else { return };
        let Stage::RollingBack(Failure { reason, death }) = &rollout.stage else { return };
        let mut report = self.report(now, &rollout, outcome);
        report.reason = Some(reason.clone());
        report.death.clone_from(death);
        let old = self.upgraded(rollout.from);
        let (new, wanted) = (report.upgraded, report.wanted);
        let serving = match new {
            0 => format!("{old} of {wanted} workers of generation {} serve", rollout.from),
            new => format!(
                "{old} workers of generation {} and {new} of generation {} serve",
                rollout.from, rollout.generation
            ),
        };
        let notice = Notice::UpgradeFailed {
            kind: rollout.kind,
            generation: rollout.generation.0,
            reason: reason.clone(),
            serving,
        };
        self.end_rollout(&rollout, &report, notice);
    }
}
