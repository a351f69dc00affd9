//! More workers, fewer workers, and the commands that touch every worker.

use super::Moment;
use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Signal;
use einhorn_proto::{Notice, Resized, WORKERS_MAX, Workers};

use super::Supervisor;
use super::event::{Action, ReplyData, RequestKey, SlotNumber, WorkerId};
use super::moment::milliseconds;
use super::timers::Timer;
use super::worker::{Drain, Worker};

/// Why a worker goes whose slot was taken away.
const FEWER: &str = "fewer workers were asked for";

impl Supervisor {
    pub(super) fn on_dec(&mut self, now: Moment, request: Option<RequestKey>, by: u32) {
        match self.wanted() {
            1 => {
                let message = "can't decrease number of workers (already at 1); \"die\" stops the master";
                self.reply(request, false, message.into(), None);
            }
            wanted if by >= wanted => {
                let message = format!(
                    "can't decrease number of workers by {by}: there are {wanted}, and one must stay; \"die\" \
                     stops the master"
                );
                self.reply(request, false, message, None);
            }
            wanted => self.resize(now, request, wanted - by),
        }
    }

    pub(super) fn resize(&mut self, now: Moment, request: Option<RequestKey>, to: u32) {
        let from = self.wanted();
        if to > WORKERS_MAX {
            let message =
                format!("refused: {to} workers are more than the {WORKERS_MAX} that one master runs");
            return self.reply(request, false, message, None);
        }
        if to != from {
            self.tell(Notice::Resized { from, to });
        }
        if to > from {
            self.grow(to - from);
        } else {
            self.shrink(now, from - to);
        }
        let message = if to == from {
            format!("number of workers is {to} already")
        } else {
            format!("number of workers {from} -> {to}")
        };
        self.reply(request, true, message, Some(ReplyData::Resized(Resized { from, to })));
        self.pump(now);
        self.settle_rollout(now);
    }

    /// Opens seats, and gives slots that were given up another chance: somebody wants more workers.
    fn grow(&mut self, by: u32) {
        self.reopen_given_up();
        for _ in 0..by {
            let slot = self.pool.open_slot(self.generation);
            if !self.enqueue_in_rollout(slot) {
                self.make_due(slot);
            }
        }
    }

    /// Closes seats: empty ones first, then unacked workers', then the youngest's.
    ///
    /// A slot keeps its number as long as it is there: a worker's `EINHORN_SLOT` stays true, and no two workers
    /// ever read the same one but a worker and its own successor.
    fn shrink(&mut self, now: Moment, by: u32) {
        let mut candidates: Vec<_> = self.pool.slots.iter().collect();
        candidates.sort_by_key(|(number, slot)| {
            let mut workers = [slot.current, slot.successor].into_iter().flatten().peekable();
            let is_empty = workers.peek().is_none();
            let is_serving = workers.filter_map(|id| self.pool.get(id)).any(Worker::is_up);
            let rank = if is_empty { 0 } else { 1 + u8::from(is_serving) };
            (rank, Reverse(slot.current), Reverse(**number))
        });
        let closed: Vec<SlotNumber> =
            candidates.iter().take(by as usize).map(|(number, _)| **number).collect();
        for number in closed {
            let Some(slot) = self.pool.slots.remove(&number) else { continue };
            self.timers.clear(Timer::Spawn(number));
            self.timers.clear(Timer::Succeed(number));
            for worker in [slot.current, slot.successor].into_iter().flatten() {
                self.retire(now, worker);
            }
        }
        self.forget_releases();
    }

    /// Asks a worker to stop whose slot was taken away: at once, or, where connections may still be on their way to
    /// it (`shrink_grace`), in a while. Until then it serves them and counts as draining.
    fn retire(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.pool.get(id).filter(|worker| worker.is_undrained()) else { return };
        let (Some(grace), Some(pid)) = (self.policy.shrink_grace, worker.pid) else {
            return self.cull(now, id, FEWER);
        };
        let (slot, generation) = (worker.slot.0, worker.generation.0);
        self.vacate(id, Drain::unasked(now, self.policy.graceful_signal));
        self.timers.set(Timer::Retire(id), now + grace);
        self.tell(Notice::Retiring { slot, pid: pid.as_raw(), generation, for_ms: milliseconds(grace) });
    }

    pub(super) fn on_retired(&mut self, now: Moment, id: WorkerId) {
        self.ask_retired(now, id, self.policy.graceful_signal, FEWER);
    }

    pub(super) fn on_respawn(&mut self, now: Moment, request: Option<RequestKey>) {
        let empty = |slot: &&super::pool::Slot| slot.current.is_none();
        let count = self.pool.slots.values().filter(empty).count();
        self.reopen_given_up();
        let numbers: Vec<_> = self.pool.slots.keys().copied().collect();
        for number in numbers {
            if let Some(slot) = self.pool.slots.get_mut(&number).filter(|slot| slot.current.is_none()) {
                slot.forgive();
                self.make_due(number);
            }
        }
        let message = match count {
            0 => "no slot is empty".to_owned(),
            1 => "filling 1 empty slot".to_owned(),
            count => format!("filling {count} empty slots"),
        };
        self.reply(request, true, message, None);
        self.pump(now);
    }

    fn reopen_given_up(&mut self) {
        let given_up: Vec<_> =
            self.pool.slots.iter().filter(|(_, slot)| slot.given_up).map(|(number, _)| *number).collect();
        for number in given_up {
            if let Some(slot) = self.pool.slots.get_mut(&number) {
                slot.forgive();
            }
            self.make_due(number);
        }
    }

    pub(super) fn on_signal(&mut self, request: Option<RequestKey>, signals: &[Signal]) {
        let pids: Vec<_> = self.pool.workers().filter_map(|worker| worker.pid).collect();
        for &signal in signals {
            self.actions.extend(pids.iter().map(|&pid| Action::Signal { pid, signal }));
        }
        let names: Vec<_> = signals.iter().map(|signal| signal.as_str()).collect();
        let workers = Workers(u32::try_from(pids.len()).unwrap_or(u32::MAX));
        let message = format!("sent {} to {workers}", names.join(", "));
        self.reply(request, true, message, None);
    }
}
