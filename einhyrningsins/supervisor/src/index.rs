//! What can be worked out from the workers and slots of a pool, kept ready for the rules: no rule goes through all
//! of them.
//!
//! [`Pool`](super::pool::Pool) keeps it up to date, and may forget nothing: after every event of a debug build it is
//! compared with one that was made anew.

use alloc::collections::{BTreeMap, BTreeSet};

use super::event::{Generation, SlotNumber, WorkerId};
use super::moment::Moment;
use super::signal::Pid;
use super::slot::{Holder, Slot};
use super::worker::{Deadline, Worker};

/// Sets and counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    pub(crate) by_pid: BTreeMap<Pid, WorkerId>,
    pub(crate) free: FreeNumbers,
    pub(crate) deadlines: BTreeSet<(Moment, Deadline)>,
    pub(crate) unacked: usize,
    pub(crate) up: usize,
    by_generation: BTreeMap<Generation, Undrained>,
    /// Empty slots by the time from which on they may be filled.
    pub(crate) empty: BTreeSet<(Moment, SlotNumber)>,
    pub(crate) given_up: BTreeSet<SlotNumber>,
    pub(crate) passing: BTreeSet<SlotNumber>,
    /// Slots whose successor has acked.
    pub(crate) acked_successors: BTreeSet<SlotNumber>,
    /// All other slots, by generation.
    settled: BTreeMap<Generation, BTreeSet<SlotNumber>>,
}

/// How many undrained workers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Undrained {
    pub(crate) unacked: usize,
    pub(crate) up: usize,
}

impl Index {
    /// The index of these workers and slots.
    pub(crate) fn of(workers: &BTreeMap<WorkerId, Worker>, slots: &BTreeMap<SlotNumber, Slot>) -> Self {
        let mut index = Self::default();
        index.free = FreeNumbers::without(&workers.values().map(|worker| worker.index).collect());
        for worker in workers.values() {
            index.add_worker(worker);
        }
        for (number, slot) in slots {
            index.add_slot(*number, slot);
            index.note_successor(*number, slot, workers);
        }
        index
    }

    pub(crate) fn add_worker(&mut self, worker: &Worker) {
        self.by_pid.extend(worker.pid.map(|pid| (pid, worker.id)));
        self.deadlines.extend(worker.deadlines());
        self.unacked += usize::from(worker.is_unacked());
        self.up += usize::from(worker.is_up());
        if worker.is_undrained() {
            let count = self.by_generation.entry(worker.generation).or_default();
            count.unacked += usize::from(worker.is_unacked());
            count.up += usize::from(worker.is_up());
        }
    }

    pub(crate) fn remove_worker(&mut self, worker: &Worker) {
        if let Some(pid) = worker.pid {
            self.by_pid.remove(&pid);
        }
        for deadline in worker.deadlines() {
            self.deadlines.remove(&deadline);
        }
        self.unacked -= usize::from(worker.is_unacked());
        self.up -= usize::from(worker.is_up());
        if worker.is_undrained() {
            let count = self.by_generation.entry(worker.generation).or_default();
            count.unacked -= usize::from(worker.is_unacked());
            count.up -= usize::from(worker.is_up());
            if *count == Undrained::default() {
                self.by_generation.remove(&worker.generation);
            }
        }
    }

    pub(crate) fn add_slot(&mut self, number: SlotNumber, slot: &Slot) {
        match slot.holder {
            Holder::Empty { due } => _ = self.empty.insert((due, number)),
            Holder::GivenUp => _ = self.given_up.insert(number),
            Holder::Passing { .. } => _ = self.passing.insert(number),
            Holder::Held { .. } | Holder::Closed => {}
        }
        if slot.successor().is_none() {
            self.settled.entry(slot.generation).or_default().insert(number);
        }
    }

    /// Notes a successor that has acked.
    pub(crate) fn note_successor(
        &mut self,
        number: SlotNumber,
        slot: &Slot,
        workers: &BTreeMap<WorkerId, Worker>,
    ) {
        if slot.successor().and_then(|id| workers.get(&id)).is_some_and(Worker::is_up) {
            self.acked_successors.insert(number);
        }
    }

    pub(crate) fn remove_slot(&mut self, number: SlotNumber, slot: &Slot) {
        match slot.holder {
            Holder::Empty { due } => _ = self.empty.remove(&(due, number)),
            Holder::GivenUp => _ = self.given_up.remove(&number),
            Holder::Passing { .. } => _ = self.passing.remove(&number),
            Holder::Held { .. } | Holder::Closed => {}
        }
        self.acked_successors.remove(&number);
        if let Some(slots) = self.settled.get_mut(&slot.generation)
            && slots.remove(&number)
            && slots.is_empty()
        {
            self.settled.remove(&slot.generation);
        }
    }

    /// The undrained workers of `generation`.
    pub(crate) fn of_generation(&self, generation: Generation) -> Undrained {
        self.by_generation.get(&generation).copied().unwrap_or_default()
    }

    /// How many slots have `generation` and no successor.
    pub(crate) fn settled_count(&self, generation: Generation) -> usize {
        self.settled.get(&generation).map_or(0, BTreeSet::len)
    }

    /// The first slot that has no successor, that `is_open`, and whose generation `is_wanted`.
    pub(crate) fn first_settled(
        &self,
        is_wanted: impl Fn(Generation) -> bool,
        is_open: impl Fn(SlotNumber) -> bool,
    ) -> Option<SlotNumber> {
        let wanted = self.settled.iter().filter(|(generation, _)| is_wanted(**generation));
        wanted.filter_map(|(_, slots)| slots.iter().copied().find(|slot| is_open(*slot))).min()
    }
}

/// Gives out the lowest number that is not in use.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FreeNumbers {
    /// Numbers below `fresh` that are free.
    gaps: BTreeSet<u32>,
    /// The lowest number above all that are in use.
    fresh: u32,
}

impl FreeNumbers {
    /// All but `taken`.
    fn without(taken: &BTreeSet<u32>) -> Self {
        let fresh = taken.last().map_or(0, |last| last + 1);
        Self { gaps: (0..fresh).filter(|number| !taken.contains(number)).collect(), fresh }
    }

    pub(crate) fn take(&mut self) -> u32 {
        self.gaps.pop_first().unwrap_or_else(|| {
            self.fresh += 1;
            self.fresh - 1
        })
    }

    pub(crate) fn give_back(&mut self, number: u32) {
        self.gaps.insert(number);
        while self.fresh > 0 && self.gaps.remove(&(self.fresh - 1)) {
            self.fresh -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_the_lowest_that_no_live_worker_has() {
        let mut indexes = FreeNumbers::default();
        assert_eq!([indexes.take(), indexes.take(), indexes.take()], [0, 1, 2]);
        indexes.give_back(1);
        indexes.give_back(0);
        assert_eq!([indexes.take(), indexes.take(), indexes.take()], [0, 1, 3]);
    }
}
