//! An upgrade in progress: which slots still run the old release, and when it has come to its end.
//!
//! Smooth: a slot gets a successor while its worker goes on serving; when the successor acks it takes the
//! seat and the worker before it drains. Fleet: every slot gets one at once, and they take their seats together
//! when the last has acked. Canary: smooth for the first few slots, then a soak in which any death of a new
//! worker is the end of it. An empty seat is filled with the new release directly. How it begins stands in
//! `upgrade.rs`, how seats are taken in `succession.rs`, and what happens when the new release fails in `rollback.rs`.

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::Moment;

use einhorn_proto::{Death, Notice, Outcome, RolloutKind, UpgradeReport};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{Generation, ReplyData, RequestKey, SlotNumber};
use super::lifecycle::Loss;
use super::moment::milliseconds;
use super::pacing;
use super::pool::{Attempts, Slot};
use super::timers::Timer;
use super::worker::Worker;

/// An upgrade that has begun and not ended.
#[derive(Debug, Clone)]
pub(super) struct Rollout {
    pub(super) kind: RolloutKind,
    /// What it brings.
    pub(super) generation: Generation,
    /// What was there before.
    pub(super) from: Generation,
    /// What upgrades brought whose place this one took before they were done; slots may still have it.
    pub(super) superseded: Vec<Generation>,
    /// Whether all new workers take their seats together.
    pub(super) is_fleet: bool,
    /// What is still to be tried out before the rest follows.
    pub(super) canary: Option<Canary>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) since: Option<Moment>,
    pub(super) stage: Stage,
    /// Slots whose turn has not come, next first. May name slots that are gone or done by now.
    pub(super) todo: VecDeque<SlotNumber>,
}

#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// The shell looks for what the new generation runs.
    Resolving,
    /// Workers are being replaced.
    Replacing,
    /// The first few are replaced; the rest waits to see how they do.
    Soaking,
    /// It has failed, and what it had replaced is replaced again.
    RollingBack(Failure),
}

/// Why a rollout failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) death: Option<Death>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Canary {
    pub(super) slots: u32,
    /// `None`: until somebody says to go on.
    pub(super) soak: Option<Duration>,
}

/// Who waits for the end, and which end is the one that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) request: RequestKey,
    pub(super) wants: Outcome,
}

impl Rollout {
    /// A smooth one, from `from` to `generation`.
    pub(super) fn new(kind: RolloutKind, generation: Generation, from: Generation) -> Self {
        Self {
            kind,
            generation,
            from,
            superseded: Vec::new(),
            is_fleet: false,
            canary: None,
            waiters: Vec::new(),
            since: None,
            stage: Stage::Resolving,
            todo: VecDeque::new(),
        }
    }

    pub(super) fn requests(&self) -> Vec<RequestKey> {
        self.waiters.iter().map(|waiter| waiter.request).collect()
    }

    pub(super) fn abandon(&mut self, request: RequestKey) {
        self.waiters.retain(|waiter| waiter.request != request);
    }

    pub(super) fn join(&mut self, request: Option<RequestKey>, wants: Outcome) {
        self.waiters.extend(request.map(|request| Waiter { request, wants }));
    }

    /// What its spawns run: the new release, or the one before when it goes back.
    fn target(&self) -> Generation {
        match self.stage {
            Stage::RollingBack(_) => self.from,
            Stage::Resolving | Stage::Replacing | Stage::Soaking => self.generation,
        }
    }

    /// Whether it, or one whose place it took, has brought `generation`.
    pub(super) fn has_brought(&self, generation: Generation) -> bool {
        self.generation == generation || self.superseded.contains(&generation)
    }

    pub(super) fn is_rolling_back(&self) -> bool {
        matches!(self.stage, Stage::RollingBack(_))
    }

    /// Whether all workers are being replaced at once.
    pub(super) fn is_fleet_forward(&self) -> bool {
        self.is_fleet && !self.is_rolling_back()
    }
}

impl Supervisor {
    /// Queues every slot, empty ones first, and starts.
    pub(super) fn begin_replacing(&mut self, now: Moment) {
        self.interrupt_recycling(now);
        // What was kept to go back to gives way to what is there now.
        self.previous = None;
        let (mut todo, mut seated) = (VecDeque::new(), VecDeque::new());
        for (number, slot) in &mut self.pool.slots {
            slot.forgive();
            let queue = if slot.current.is_none() { &mut todo } else { &mut seated };
            queue.push_back(*number);
        }
        todo.append(&mut seated);
        let workers = self.wanted();
        let Some(rollout) = &mut self.rollout else { return };
        rollout.todo = todo;
        rollout.since = Some(now);
        rollout.stage = Stage::Replacing;
        let (kind, generation) = (rollout.kind, rollout.generation.0);
        self.tell(Notice::UpgradeStarted { kind, generation, workers });
        self.pump(now);
        self.settle_rollout(now);
    }

    /// Spawns one worker of the rollout; `false` if there is none to spawn now.
    pub(super) fn advance_rollout(&mut self, now: Moment) -> bool {
        let Some((number, generation, is_empty)) = self.next_to_replace() else { return false };
        // A successor leaves room for the empty seats that wait for their own respawn.
        let empty = self.pool.slots.values().filter(|slot| slot.current.is_none()).count();
        if !is_empty && self.live_max().is_some_and(|bound| self.pool.live() + empty >= bound) {
            return false;
        }
        if let Some(rollout) = &mut self.rollout {
            rollout.todo.pop_front();
        }
        let Some(slot) = self.pool.slots.get_mut(&number) else { return true };
        if is_empty {
            slot.generation = generation;
            slot.attempts = Attempts::default();
            slot.given_up = false;
            self.timers.clear(Timer::Spawn(number));
            self.fill_seat(now, number);
        } else {
            slot.succession.tries += 1;
            let successor = self.spawn(now, number, generation);
            if let Some(slot) = self.pool.slots.get_mut(&number) {
                slot.successor = Some(successor);
            }
            #[cfg(test)]
            if self.sabotage == Some(super::model::Sabotage::CullBeforeAck) {
                self.succeed(now, number);
            }
        }
        true
    }

    /// The first slot that still needs a worker of the rollout, and whether it is empty.
    fn next_to_replace(&mut self) -> Option<(SlotNumber, Generation, bool)> {
        let is_full = self.canary_is_placed();
        let rollout = self.rollout.as_mut()?;
        if is_full || matches!(rollout.stage, Stage::Resolving | Stage::Soaking) {
            return None;
        }
        let target = rollout.target();
        while let Some(&number) = rollout.todo.front() {
            let is_to_do = |generation| match rollout.is_rolling_back() {
                true => rollout.has_brought(generation),
                false => generation != rollout.generation,
            };
            match self.pool.slots.get(&number) {
                Some(slot) if is_to_do(slot.generation) && slot.successor.is_none() => {
                    return Some((number, target, slot.current.is_none()));
                }
                _ => {
                    rollout.todo.pop_front();
                }
            }
        }
        None
    }

    /// Whether as many slots as the canary has are taken up by the new release, or are trying it.
    fn canary_is_placed(&self) -> bool {
        let Some(rollout) = self.rollout.as_ref().filter(|rollout| !rollout.is_rolling_back()) else {
            return false;
        };
        let Some(canary) = rollout.canary else { return false };
        let is_placed = |(number, slot): &(&SlotNumber, &Slot)| {
            slot.generation == rollout.generation
                || slot.successor.is_some()
                || self.timers.at(Timer::Succeed(**number)).is_some()
        };
        self.pool.slots.iter().filter(is_placed).count() >= canary.slots as usize
    }

    /// Whether the slot's turn is still to come.
    pub(super) fn is_in_rollout(&self, slot: SlotNumber) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.todo.contains(&slot))
    }

    /// A new seat during an upgrade gets the new release when its turn comes; during a rollback, or a soak in
    /// which no turn comes, it is filled from the release before.
    pub(super) fn enqueue_in_rollout(&mut self, slot: SlotNumber) -> bool {
        match &mut self.rollout {
            Some(rollout) if matches!(rollout.stage, Stage::Replacing) && rollout.canary.is_none() => {
                rollout.todo.push_back(slot);
                true
            }
            Some(rollout) if matches!(rollout.stage, Stage::Replacing | Stage::Soaking) => {
                rollout.todo.push_back(slot);
                false
            }
            _ => false,
        }
    }

    pub(super) fn retry_successor(&mut self, slot: SlotNumber) {
        if let Some(rollout) = &mut self.rollout {
            rollout.todo.push_front(slot);
        }
    }

    /// A worker that the rollout had brought is lost, seated or not.
    pub(super) fn lose_new_worker(&mut self, now: Moment, worker: &Worker, death: Death, loss: Loss) {
        let number = worker.slot;
        let is_soaking = self.rollout.as_ref().is_some_and(|rollout| matches!(rollout.stage, Stage::Soaking));
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        slot.succession.deaths += 1;
        let attempts = slot.succession;
        let tries_max = self.policy.retries.upgrade;
        if is_soaking || loss == Loss::CannotSpawn || attempts.tries >= tries_max {
            let next = if is_soaking { "that is the end of the soak" } else { "it gets no further try" };
            let notice = Notice::Died {
                slot: number.0,
                death: death.clone(),
                next_spawn_ms: None,
                next: next.to_owned(),
            };
            self.tell(notice);
            let tries = match attempts.tries {
                _ if is_soaking => "in its soak".to_owned(),
                0 | 1 => "1 try".to_owned(),
                tries => format!("{tries} tries"),
            };
            return self.fail_rollout(now, format!("slot {}: {death}; {tries}", number.0), Some(death));
        }
        let at = pacing::respawn_at(now, worker.spawned_at, self.policy.seconds, attempts.deaths);
        self.tell_death(now, number, death, at, "next try");
        self.try_again(now, number, at);
    }

    /// Takes the rollout a stage further if it has come to the end of the one that it is in.
    pub(super) fn settle_rollout(&mut self, now: Moment) {
        let Some(rollout) = &self.rollout else { return };
        // Cheap questions first: the others look at every slot.
        if matches!(rollout.stage, Stage::Resolving | Stage::Soaking) || self.pool.unacked() > 0 {
            return;
        }
        if self.next_to_replace().is_some() {
            return self.thin_out_fleet(now);
        }
        let Some(rollout) = &self.rollout else { return };
        let generation = rollout.generation;
        if rollout.is_fleet_forward() {
            if self.is_fleet_acked(generation) {
                self.seat_all_successors(now);
                self.finish_rollout(now);
            }
            return;
        }
        let (slots, upgraded) = (self.pool.slots.len(), self.upgraded(generation) as usize);
        let is_rid =
            rollout.superseded.iter().chain([&generation]).all(|brought| self.upgraded(*brought) == 0);
        let given_up = self.pool.slots.values().filter(|slot| slot.given_up).count();
        match (&rollout.stage, rollout.canary) {
            (Stage::Replacing, Some(canary)) if upgraded >= slots.min(canary.slots as usize) => {
                self.begin_soak(now, canary);
            }
            (Stage::Replacing, None) if upgraded == slots => self.finish_rollout(now),
            // After a way back that failed, slots may have several releases: back means rid of the one. Slots that
            // were given up before it all began are as they were.
            (Stage::RollingBack(_), _) if is_rid && self.pool.up() + given_up == slots => {
                self.finish_rollback(now);
            }
            _ => {}
        }
    }

    /// A fleet that has grown beyond what `--max-upgrade-additional` lets live at a time goes on smoothly: it
    /// would wait for ever for the last of it.
    fn thin_out_fleet(&mut self, now: Moment) {
        let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.is_fleet_forward()) else {
            return;
        };
        rollout.is_fleet = false;
        self.seat_all_successors(now);
        self.pump(now);
    }

    fn is_fleet_acked(&self, generation: Generation) -> bool {
        self.pool.slots.values().all(|slot| {
            let worker = slot.successor.or(slot.current).and_then(|id| self.pool.get(id));
            worker.is_some_and(|worker| worker.is_up() && worker.generation == generation)
        })
    }

    fn begin_soak(&mut self, now: Moment, canary: Canary) {
        let Some(rollout) = &mut self.rollout else { return };
        rollout.stage = Stage::Soaking;
        let generation = rollout.generation;
        if let Some(soak) = canary.soak {
            self.timers.set(Timer::Soak, now + soak);
        }
        let workers = self.upgraded(generation);
        let soak_ms = canary.soak.map(milliseconds);
        self.tell(Notice::SoakStarted { generation: generation.0, workers, soak_ms });
    }

    pub(super) fn on_soak_over(&mut self, now: Moment) {
        self.timers.clear(Timer::Soak);
        let Some(rollout) = &mut self.rollout else { return };
        if !matches!(rollout.stage, Stage::Soaking) {
            return;
        }
        rollout.canary = None;
        rollout.stage = Stage::Replacing;
        let generation = rollout.generation.0;
        self.tell(Notice::SoakOver { generation });
        #[cfg(test)]
        if self.sabotage == Some(super::model::Sabotage::SleepAfterSoak) {
            return;
        }
        self.pump(now);
        self.settle_rollout(now);
    }

    fn finish_rollout(&mut self, now: Moment) {
        let Some(rollout) = self.rollout.take() else { return };
        // An upgrade can be undone. What a rollback has left is known to be bad, and not kept to go back to.
        self.previous = (rollout.kind == RolloutKind::Upgrade).then_some(rollout.from);
        self.generation = rollout.generation;
        let report = self.report(now, &rollout, Outcome::Done);
        let notice = Notice::UpgradeDone {
            kind: rollout.kind,
            generation: rollout.generation.0,
            took_ms: report.took_ms,
            draining: report.draining,
        };
        self.end_rollout(&rollout, &report, notice);
    }

    /// Tells everybody of the end, and forgets what it was about.
    pub(super) fn end_rollout(&mut self, rollout: &Rollout, report: &UpgradeReport, notice: Notice) {
        self.timers.clear(Timer::Soak);
        for (number, slot) in &mut self.pool.slots {
            slot.succession = Attempts::default();
            self.timers.clear(Timer::Succeed(*number));
        }
        let message = notice.to_string();
        self.tell(notice);
        for waiter in &rollout.waiters {
            let is_wanted = report.outcome == waiter.wants;
            let data = ReplyData::Upgrade(report.clone());
            #[cfg(test)]
            if self.sabotage == Some(super::model::Sabotage::DoubleReply) {
                self.reply(Some(waiter.request), is_wanted, message.clone(), None);
            }
            self.reply(Some(waiter.request), is_wanted, message.clone(), Some(data));
        }
        self.forget_releases();
    }

    /// Whether the way is towards `generation`.
    pub(super) fn is_rolling_out(&self, generation: Generation) -> bool {
        let rollout = self.rollout.as_ref();
        rollout.is_some_and(|rollout| rollout.generation == generation && !rollout.is_rolling_back())
    }

    /// How many slots have an acked worker of `generation`.
    pub(super) fn upgraded(&self, generation: Generation) -> u32 {
        let is_upgraded = |slot: &&Slot| {
            let workers = [slot.current, slot.successor].into_iter().flatten();
            workers
                .filter_map(|id| self.pool.get(id))
                .any(|worker| worker.generation == generation && worker.is_up())
        };
        u32::try_from(self.pool.slots.values().filter(is_upgraded).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn report(&self, now: Moment, rollout: &Rollout, outcome: Outcome) -> UpgradeReport {
        UpgradeReport {
            kind: rollout.kind,
            outcome,
            generation: rollout.generation.0,
            reason: None,
            death: None,
            upgraded: self.upgraded(rollout.generation),
            wanted: self.wanted(),
            draining: u32::try_from(self.pool.draining()).unwrap_or(u32::MAX),
            took_ms: rollout.since.map_or(0, |since| milliseconds(now - since)),
        }
    }
}
