//! How a slot passes from one worker to the next: a successor starts beside the worker that has the seat, and takes it
//! when it acks, or when there is nobody else to have it. So in upgrades, on the way back, and in a turn of recycling.

use super::Moment;
use alloc::vec::Vec;

use super::Pid;

use super::Supervisor;
use super::event::{SlotNumber, WorkerId};
use super::pool::Attempts;
use super::timers::Timer;
use super::worker::Worker;

impl Supervisor {
    /// A successor has acked: it takes the seat, and the worker before it drains. In a fleet it waits for the
    /// others first.
    pub(super) fn on_successor_acked(&mut self, now: Moment, number: SlotNumber) {
        if self.recycling.is_succeeding(number) {
            self.finish_recycling(now, number);
        } else if self.rollout.as_ref().is_none_or(|rollout| !rollout.is_fleet_forward()) {
            self.succeed(now, number);
        }
    }

    /// The successor takes its seat.
    pub(super) fn succeed(&mut self, now: Moment, number: SlotNumber) {
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        let Some(successor) = slot.successor.take() else { return };
        let old = slot.current.replace(successor);
        slot.attempts = Attempts::default();
        let Some(worker) = self.pool.get(successor) else { return };
        let (pid, generation) = (worker.pid.map_or(0, Pid::as_raw), worker.generation);
        if let Some(slot) = self.pool.slots.get_mut(&number) {
            slot.generation = generation;
        }
        if let Some(old) = old {
            let why = format!("worker {pid} (generation {generation}) took its slot");
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
        slot.attempts = slot.succession;
        slot.generation = generation;
        true
    }

    /// A successor that waits for its fleet may be all that serves its slot: it takes the seat.
    pub(super) fn seat_lone_successors(&mut self, now: Moment) {
        let is_up = |id: Option<WorkerId>| id.and_then(|id| self.pool.get(id)).is_some_and(Worker::is_up);
        let numbers = self.pool.slots.iter();
        let alone = numbers.filter(|(_, slot)| is_up(slot.successor) && !is_up(slot.current));
        let alone: Vec<_> = alone.map(|(number, _)| *number).collect();
        alone.into_iter().for_each(|number| self.succeed(now, number));
    }

    /// Every successor takes its seat.
    pub(super) fn seat_all_successors(&mut self, now: Moment) {
        let numbers: Vec<_> = self.pool.slots.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.succeed(now, number));
    }

    /// Tries the slot again at `at`: its seat if that is empty, or else a successor.
    pub(super) fn try_again(&mut self, now: Moment, number: SlotNumber, at: Moment) {
        let is_seat = self.pool.slots.get(&number).is_some_and(|slot| slot.current.is_none());
        match (is_seat, at > now) {
            (true, true) => self.timers.set(Timer::Spawn(number), at),
            (true, false) => self.make_due(number),
            (false, true) => self.timers.set(Timer::Succeed(number), at),
            (false, false) => self.retry_successor(number),
        }
    }
}
