//! The tables: workers by id and by pid, slots by number, indexes, and what is counted of them.

use super::Moment;
use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Pid;
use einhorn_proto::Death;
use serde::{Deserialize, Serialize};

use super::event::{Generation, SlotNumber, WorkerId};
use super::worker::{State, Worker};

/// A seat of the pool.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Slot {
    /// The undrained worker that has the seat.
    pub(super) current: Option<WorkerId>,
    /// The worker that takes the seat when it acks: of an upgrade, of the way back from one, or of a turn of recycling.
    pub(super) successor: Option<WorkerId>,
    /// What a worker that is spawned into the empty seat runs.
    pub(super) generation: Generation,
    /// The attempts to fill the seat.
    pub(super) attempts: Attempts,
    /// The attempts to have a successor.
    pub(super) succession: Attempts,
    /// Whether it is in the queue of seats to fill now.
    pub(super) is_due: bool,
    /// Whether it stays empty until somebody acts.
    pub(super) given_up: bool,
    /// Workers that died here and were replaced.
    pub(super) restarts: u64,
    /// The last death and when.
    pub(super) last_death: Option<(Moment, Death)>,
}

impl Slot {
    pub(super) fn new(generation: Generation) -> Self {
        Self {
            current: None,
            successor: None,
            generation,
            attempts: Attempts::default(),
            succession: Attempts::default(),
            is_due: false,
            given_up: false,
            restarts: 0,
            last_death: None,
        }
    }

    /// Forgets failures: the next spawn is a first one.
    pub(super) fn forgive(&mut self) {
        self.attempts = Attempts::default();
        self.succession = Attempts::default();
        self.given_up = false;
    }
}

/// Spawns in a row without an ack, and how they went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempts {
    /// Spawns.
    pub(super) tries: u32,
    /// Deaths; less than the tries while one of them still lives.
    pub(super) deaths: u32,
}

/// All workers and slots.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Pool {
    workers: BTreeMap<WorkerId, Worker>,
    by_pid: BTreeMap<Pid, WorkerId>,
    pub(super) slots: BTreeMap<SlotNumber, Slot>,
    indexes: Indexes,
    next_id: u64,
    unacked: usize,
    up: usize,
}

impl Pool {
    /// The pool of these workers, each of which has a pid of its own, and slots.
    pub(super) fn restore(workers: Vec<Worker>, slots: BTreeMap<SlotNumber, Slot>, next_id: u64) -> Self {
        let mut indexes: Vec<_> = workers.iter().map(|worker| worker.index).collect();
        indexes.sort_unstable();
        Self {
            by_pid: workers.iter().filter_map(|worker| Some((worker.pid?, worker.id))).collect(),
            unacked: workers.iter().filter(|worker| worker.is_unacked()).count(),
            up: workers.iter().filter(|worker| worker.is_up()).count(),
            workers: workers.into_iter().map(|worker| (worker.id, worker)).collect(),
            slots,
            indexes: Indexes::without(&indexes),
            next_id,
        }
    }

    /// The number of the next worker.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Enters a worker that is about to be spawned, with the lowest free index.
    pub(super) fn insert(&mut self, slot: SlotNumber, generation: Generation, now: Moment) -> &Worker {
        let id = WorkerId(self.next_id);
        self.next_id += 1;
        self.unacked += 1;
        let worker = Worker {
            id,
            slot,
            index: self.indexes.take(),
            generation,
            state: State::Spawning,
            pid: None,
            spawned_at: now,
            acked_at: None,
            pinged_at: None,
            ping_word: None,
            text: None,
            last_words: Vec::new(),
        };
        self.workers.entry(id).or_insert(worker)
    }

    /// Notes the pid of a worker.
    pub(super) fn set_pid(&mut self, id: WorkerId, pid: Pid) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.pid = Some(pid);
            self.by_pid.insert(pid, id);
        }
    }

    /// Changes a worker's state. The only way to do it: the counts follow.
    pub(super) fn set_state(&mut self, id: WorkerId, state: State) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (was_unacked, was_up) = (worker.is_unacked(), worker.is_up());
        worker.state = state;
        self.unacked = self.unacked - usize::from(was_unacked) + usize::from(worker.is_unacked());
        self.up = self.up - usize::from(was_up) + usize::from(worker.is_up());
    }

    /// Takes a worker out: it was reaped, or never came to be.
    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.unacked -= usize::from(worker.is_unacked());
        self.up -= usize::from(worker.is_up());
        self.indexes.give_back(worker.index);
        if let Some(pid) = worker.pid {
            self.by_pid.remove(&pid);
        }
        Some(worker)
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// For everything but the state and the pid.
    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(&id)
    }

    /// The live worker that has this pid.
    pub(super) fn by_pid(&self, pid: Pid) -> Option<&Worker> {
        self.by_pid.get(&pid).and_then(|id| self.workers.get(id))
    }

    /// Every worker, oldest first.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// How many workers there are, draining ones too.
    pub(super) fn live(&self) -> usize {
        self.workers.len()
    }

    /// How many are undrained and unacked.
    pub(super) fn unacked(&self) -> usize {
        self.unacked
    }

    /// How many are undrained and acked.
    pub(super) fn up(&self) -> usize {
        self.up
    }

    /// How many are draining.
    pub(super) fn draining(&self) -> usize {
        self.live() - self.unacked - self.up
    }

    /// Whether each index below the highest ever used is free or some worker's.
    #[cfg(test)]
    pub(super) fn indexes_add_up(&self) -> bool {
        self.indexes.free.len() + self.live() == self.indexes.fresh as usize
    }

    /// Opens a seat with the lowest free number.
    pub(super) fn open_slot(&mut self, generation: Generation) -> SlotNumber {
        let gap = (0..).zip(self.slots.keys()).find(|(number, slot)| *number != slot.0);
        let number = gap.map_or(self.slots.len(), |(number, _)| number as usize);
        let number = SlotNumber(u32::try_from(number).unwrap_or(u32::MAX));
        self.slots.insert(number, Slot::new(generation));
        number
    }
}

/// Gives out the lowest number that is not in use.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Indexes {
    /// Numbers below `fresh` that came back.
    free: BinaryHeap<Reverse<u32>>,
    /// The lowest number never given out.
    fresh: u32,
}

impl Indexes {
    /// All but `taken`, which is sorted.
    fn without(taken: &[u32]) -> Self {
        let fresh = taken.last().map_or(0, |last| last + 1);
        let free = (0..fresh).filter(|index| taken.binary_search(index).is_err()).map(Reverse).collect();
        Self { free, fresh }
    }

    fn take(&mut self) -> u32 {
        if let Some(Reverse(index)) = self.free.pop() {
            return index;
        }
        self.fresh += 1;
        self.fresh - 1
    }

    fn give_back(&mut self, index: u32) {
        self.free.push(Reverse(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_the_lowest_that_no_live_worker_has() {
        let mut indexes = Indexes::default();
        assert_eq!([indexes.take(), indexes.take(), indexes.take()], [0, 1, 2]);
        indexes.give_back(1);
        indexes.give_back(0);
        assert_eq!([indexes.take(), indexes.take(), indexes.take()], [0, 1, 3]);
    }

    #[test]
    fn a_new_slot_takes_the_lowest_free_number() {
        let mut pool = Pool::default();
        let numbers: Vec<_> = (0..3).map(|_| pool.open_slot(Generation(1)).0).collect();
        assert_eq!(numbers, [0, 1, 2]);
        pool.slots.remove(&SlotNumber(1));
        assert_eq!(pool.open_slot(Generation(1)), SlotNumber(1));
        assert_eq!(pool.open_slot(Generation(1)), SlotNumber(3));
    }
}
