//! An upgrade in progress: which slots still run the old release, and what happens if the new one fails.
//!
//! Smooth: a slot gets a successor while its worker goes on serving; when the successor acks it takes the
//! seat and the worker before it drains. An empty seat is filled with the new release directly.

use std::collections::VecDeque;
use std::time::Instant;

use einhorn_proto::{Death, Notice, Outcome, UpgradeReport};

use nix::unistd::Pid;

use super::event::{Action, Generation, ReplyData, RequestKey, SlotNumber, WorkerId};
use super::lifecycle::{Loss, tries_in_words};
use super::pacing;
use super::pool::{Attempts, Slot};
use super::timers::Timer;
use super::worker::Worker;
use super::{Phase, Supervisor, milliseconds};

/// An upgrade that has begun and not ended.
#[derive(Debug)]
pub(super) struct Rollout {
    /// What it brings.
    generation: Generation,
    /// Who waits for its end.
    request: Option<RequestKey>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The shell looks for what the new generation runs.
    Resolving,
    /// Workers are being replaced.
    Replacing {
        since: Instant,
        /// Slots whose turn has not come, next first. May name slots that are gone or done by now.
        todo: VecDeque<SlotNumber>,
    },
}

impl Rollout {
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn request(&self) -> Option<RequestKey> {
        self.request
    }

    pub(super) fn abandon(&mut self, request: RequestKey) {
        if self.request == Some(request) {
            self.request = None;
        }
    }

    fn since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Resolving => None,
            Stage::Replacing { since, .. } => Some(since),
        }
    }

    fn todo(&mut self) -> Option<&mut VecDeque<SlotNumber>> {
        match &mut self.stage {
            Stage::Resolving => None,
            Stage::Replacing { todo, .. } => Some(todo),
        }
    }
}

impl Supervisor {
    pub(super) fn on_upgrade(&mut self, request: Option<RequestKey>) {
        if let Some(rollout) = &self.rollout {
            let (generation, wanted) = (rollout.generation, self.wanted());
            let upgraded = self.upgraded(generation);
            let message = format!(
                "upgrade refused: generation {generation} is still coming up ({upgraded} of {wanted} acked)"
            );
            return self.reply(request, false, message, None);
        }
        self.generation_last.0 += 1;
        let generation = self.generation_last;
        self.rollout = Some(Rollout { generation, request, stage: Stage::Resolving });
        self.actions.push(Action::ResolveRelease { generation });
    }

    pub(super) fn on_release_failed(&mut self, now: Instant, generation: Generation, reason: &str) {
        if self.is_rolling_out(generation) {
            self.fail_rollout(now, reason, None);
        }
    }

    pub(super) fn on_release_resolved(&mut self, now: Instant, generation: Generation) {
        self.releases.insert(generation);
        let is_expected = self.rollout.as_ref().is_some_and(|rollout| {
            rollout.generation == generation && matches!(rollout.stage, Stage::Resolving)
        });
        if !is_expected || self.phase != Phase::Running {
            return self.forget_releases();
        }
        // What was kept to go back to gives way to what is there now.
        self.previous = None;
        let (mut empty, mut seated) = (VecDeque::new(), VecDeque::new());
        for (number, slot) in &mut self.pool.slots {
            slot.forgive();
            if slot.current.is_none() { empty.push_back(*number) } else { seated.push_back(*number) }
        }
        empty.append(&mut seated);
        if let Some(rollout) = &mut self.rollout {
            rollout.stage = Stage::Replacing { since: now, todo: empty };
        }
        self.forget_releases();
        self.tell(Notice::UpgradeStarted { generation: generation.0, workers: self.wanted() });
        self.pump(now);
    }

    /// Spawns one worker of the upgrade; `false` if there is none to spawn now.
    pub(super) fn advance_rollout(&mut self, now: Instant) -> bool {
        let Some((number, generation, is_empty)) = self.next_to_replace() else { return false };
        // A successor leaves room for the empty seats that wait for their own respawn.
        let empty = self.pool.slots.values().filter(|slot| slot.current.is_none()).count();
        if !is_empty && self.live_max().is_some_and(|bound| self.pool.live() + empty >= bound) {
            return false;
        }
        if let Some(todo) = self.rollout.as_mut().and_then(Rollout::todo) {
            todo.pop_front();
        }
        let Some(slot) = self.pool.slots.get_mut(&number) else { return true };
        if is_empty {
            slot.generation = generation;
            slot.forgive();
            self.timers.clear(Timer::Spawn(number));
            self.fill_seat(now, number);
        } else {
            slot.succession.tries += 1;
            let successor = self.spawn(now, number, generation);
            if let Some(slot) = self.pool.slots.get_mut(&number) {
                slot.successor = Some(successor);
            }
        }
        true
    }

    /// The first slot that still needs a worker of the upgrade, and whether it is empty.
    fn next_to_replace(&mut self) -> Option<(SlotNumber, Generation, bool)> {
        let rollout = self.rollout.as_mut()?;
        let generation = rollout.generation;
        let todo = rollout.todo()?;
        while let Some(&number) = todo.front() {
            match self.pool.slots.get(&number) {
                Some(slot) if slot.generation != generation && slot.successor.is_none() => {
                    return Some((number, generation, slot.current.is_none()));
                }
                _ => {
                    todo.pop_front();
                }
            }
        }
        None
    }

    /// Whether the slot's turn is still to come.
    pub(super) fn is_in_rollout(&self, slot: SlotNumber) -> bool {
        match self.rollout.as_ref().map(|rollout| &rollout.stage) {
            Some(Stage::Replacing { todo, .. }) => todo.contains(&slot),
            Some(Stage::Resolving) | None => false,
        }
    }

    /// A new seat during an upgrade gets the new release.
    pub(super) fn enqueue_in_rollout(&mut self, slot: SlotNumber) -> bool {
        match self.rollout.as_mut().and_then(Rollout::todo) {
            Some(todo) => {
                todo.push_back(slot);
                true
            }
            None => false,
        }
    }

    pub(super) fn retry_successor(&mut self, slot: SlotNumber) {
        if let Some(todo) = self.rollout.as_mut().and_then(Rollout::todo) {
            todo.push_front(slot);
        }
    }

    /// The successor has acked: it takes the seat, and the worker before it drains.
    pub(super) fn succeed(
        &mut self,
        now: Instant,
        number: SlotNumber,
        successor: WorkerId,
        generation: Generation,
    ) {
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        slot.successor = None;
        slot.generation = generation;
        slot.succession = Attempts::default();
        if let Some(old) = slot.current.replace(successor) {
            let pid = self.pool.get(successor).and_then(|worker| worker.pid);
            let why =
                format!("worker {} (generation {generation}) took its slot", pid.map_or(0, Pid::as_raw));
            self.cull(now, old, &why);
        }
    }

    /// The slot has lost its worker: a successor that is starting is further on its way than a respawn would
    /// be, and takes the seat unacked. `false` if there is none.
    pub(super) fn seat_successor(&mut self, number: SlotNumber) -> bool {
        let successor = self.pool.slots.get(&number).and_then(|slot| slot.successor);
        let Some(generation) = successor.and_then(|id| self.pool.get(id)).map(|worker| worker.generation)
        else {
            return false;
        };
        let Some(slot) = self.pool.slots.get_mut(&number) else { return false };
        slot.current = slot.successor.take();
        slot.attempts = std::mem::take(&mut slot.succession);
        slot.generation = generation;
        true
    }

    pub(super) fn lose_successor(&mut self, now: Instant, worker: &Worker, death: Death, loss: Loss) {
        let number = worker.slot;
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        slot.succession.deaths += 1;
        let attempts = slot.succession;
        if self.is_exhausted(worker.generation, attempts, loss) {
            let next = "it gets no further try".to_owned();
            self.tell(Notice::Died { slot: number.0, death: death.clone(), next_spawn_ms: None, next });
            let reason = format!("slot {}: {death}; {}", number.0, tries_in_words(attempts.tries));
            return self.fail_rollout(now, &reason, Some(death));
        }
        let at = pacing::respawn_at(now, worker.spawned_at, self.policy.seconds, attempts.deaths);
        self.tell_death(now, number, death, at, "next try");
        if at > now {
            self.timers.set(Timer::Succeed(number), at);
        } else {
            self.retry_successor(number);
        }
    }

    pub(super) fn finish_rollout_if_done(&mut self, now: Instant) {
        let Some(rollout) = &self.rollout else { return };
        let generation = rollout.generation;
        // Cheap questions first: the last one looks at every slot.
        let is_resolving = matches!(rollout.stage, Stage::Resolving);
        if is_resolving || self.pool.unacked() > 0 || self.next_to_replace().is_some() {
            return;
        }
        if (self.upgraded(generation) as usize) < self.pool.slots.len() {
            return;
        }
        let Some(rollout) = self.rollout.take() else { return };
        self.previous = Some(self.generation);
        self.generation = generation;
        let report = self.report(now, &rollout, Outcome::Done);
        let notice = Notice::UpgradeDone {
            generation: generation.0,
            took_ms: report.took_ms,
            draining: report.draining,
        };
        let message = notice.to_string();
        self.tell(notice);
        self.reply(rollout.request, true, message, Some(ReplyData::Upgrade(report)));
        self.forget_releases();
    }

    /// Ends the upgrade without its success: no further spawns of it, and its unacked workers drain. Seats
    /// that it left empty are filled from the release before.
    pub(super) fn fail_rollout(&mut self, now: Instant, reason: &str, death: Option<Death>) {
        let Some(rollout) = self.rollout.as_ref() else { return };
        let generation = rollout.generation;
        let mut unacked = Vec::new();
        for (number, slot) in &mut self.pool.slots {
            self.timers.clear(Timer::Succeed(*number));
            slot.succession = Attempts::default();
            unacked.extend(slot.successor.take());
        }
        for number in self.slots_without_upgrade(generation) {
            let Some(slot) = self.pool.slots.get_mut(&number) else { continue };
            unacked.extend(slot.current.take());
            slot.generation = self.generation;
            slot.attempts = Attempts::default();
        }
        for id in unacked {
            self.cull(now, id, "the upgrade failed");
        }
        let Some(rollout) = self.rollout.take() else { return };
        self.end_failed_rollout(now, &rollout, reason, death);
    }

    fn end_failed_rollout(&mut self, now: Instant, rollout: &Rollout, reason: &str, death: Option<Death>) {
        let report = UpgradeReport {
            reason: Some(reason.to_owned()),
            death,
            ..self.report(now, rollout, Outcome::Failed)
        };
        let old = self.pool.up() - report.upgraded as usize;
        let serving = match (old, report.upgraded) {
            (old, 0) => format!("{old} of {} workers of the release before serve", report.wanted),
            (old, new) => format!("{old} workers of the release before and {new} of the new one serve"),
        };
        let notice =
            Notice::UpgradeFailed { generation: rollout.generation.0, reason: reason.to_owned(), serving };
        let message = notice.to_string();
        self.tell(notice);
        self.reply(rollout.request, false, message, Some(ReplyData::Upgrade(report)));
        self.refill_empty_seats();
        self.forget_releases();
        self.pump(now);
    }

    /// Queues every empty seat that waits for nothing.
    fn refill_empty_seats(&mut self) {
        let empty = |(number, slot): (&SlotNumber, &Slot)| {
            let is_waiting = self.timers.at(Timer::Spawn(*number)).is_some();
            (slot.current.is_none() && !is_waiting).then_some(*number)
        };
        let empty: Vec<_> = self.pool.slots.iter().filter_map(empty).collect();
        for number in empty {
            self.make_due(number);
        }
    }

    /// Whether an upgrade to `generation` runs.
    pub(super) fn is_rolling_out(&self, generation: Generation) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.generation == generation)
    }

    /// Slots that were given to `generation` and have no acked worker of it.
    fn slots_without_upgrade(&self, generation: Generation) -> Vec<SlotNumber> {
        let is_up = |slot: &Slot| slot.current.and_then(|id| self.pool.get(id)).is_some_and(Worker::is_up);
        let slots = self.pool.slots.iter();
        slots.filter(|(_, slot)| slot.generation == generation && !is_up(slot)).map(|(n, _)| *n).collect()
    }

    /// How many slots have an acked worker of `generation`.
    pub(super) fn upgraded(&self, generation: Generation) -> u32 {
        let is_upgraded = |slot: &&Slot| {
            slot.generation == generation
                && slot.current.and_then(|id| self.pool.get(id)).is_some_and(Worker::is_up)
        };
        u32::try_from(self.pool.slots.values().filter(is_upgraded).count()).unwrap_or(u32::MAX)
    }

    /// When the upgrade that runs began to replace workers.
    pub(super) fn rollout_since(&self) -> Option<Instant> {
        self.rollout.as_ref().and_then(Rollout::since)
    }

    fn report(&self, now: Instant, rollout: &Rollout, outcome: Outcome) -> UpgradeReport {
        UpgradeReport {
            outcome,
            generation: rollout.generation.0,
            reason: None,
            death: None,
            upgraded: self.upgraded(rollout.generation),
            wanted: self.wanted(),
            draining: u32::try_from(self.pool.draining()).unwrap_or(u32::MAX),
            took_ms: rollout.since().map_or(0, |since| milliseconds(now - since)),
        }
    }
}
