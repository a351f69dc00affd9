//! What can be worked out from the workers and slots of a pool, kept ready for the rules: no rule goes through all
//! of them.
//!
//! [`Pool`](super::pool::Pool) keeps it up to date, and may forget nothing: after every event of a debug build it is
//! compared with one that was made anew.

use alloc::collections::{BTreeMap, BTreeSet};

use super::event::{Generation, SlotNumber, WorkerId};
use super::moment::Moment;
use super::rules::Step;
use super::signal::Pid;
use super::slot::{Holder, Slot};
use super::slots::Slots;
use super::worker::Worker;

/// Sets and counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    by_pid: BTreeMap<Pid, WorkerId>,
    numbers: Numbers,
    /// What is to happen to workers, and when.
    pub(crate) deadlines: BTreeSet<(Moment, Step)>,
    /// Workers that must do something by some time.
    pub(crate) timed: BTreeSet<WorkerId>,
    /// The undrained workers, trial workers not counted.
    undrained: Undrained,
    by_generation: BTreeMap<Generation, Undrained>,
    /// Trial workers that are undrained.
    pub(crate) trials: BTreeSet<WorkerId>,
    /// Workers whose spawn the shell has not answered.
    pub(crate) unspawned: BTreeSet<WorkerId>,
    /// Draining workers about which the master can do no more.
    pub(crate) out_of_reach: BTreeSet<WorkerId>,
    /// Draining workers of which the shell has not said whether they were asked.
    pub(crate) answers_due: BTreeSet<WorkerId>,
    /// Empty slots by the time from which on they may be filled.
    empty: BTreeSet<(Moment, SlotNumber)>,
    pub(crate) given_up: BTreeSet<SlotNumber>,
    /// Slots that have a successor.
    pub(crate) passing: BTreeSet<SlotNumber>,
    /// Slots whose successor has acked.
    acked_successors: BTreeSet<SlotNumber>,
    /// Slots without a successor, by generation.
    settled: BTreeMap<Generation, BTreeSet<SlotNumber>>,
    /// The slots as those see them who have a socket for each.
    pub(crate) sockets: Slots,
}

/// How many undrained workers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Undrained {
    unacked: usize,
    up: usize,
}

impl Undrained {
    fn count(&mut self, entry: Entry, is_there: bool) {
        let change = |count: &mut usize, is: bool| match (is, is_there) {
            (true, true) => *count += 1,
            (true, false) => *count -= 1,
            (false, _) => {}
        };
        change(&mut self.unacked, entry.is_unacked);
        change(&mut self.up, entry.is_up);
    }
}

/// How many things may be due of a worker: what its state asks for, a ping, and a warning.
const DEADLINES_MAX: usize = 3;

/// What the index has of a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    generation: Generation,
    pid: Option<Pid>,
    deadlines: [Option<(Moment, Step)>; DEADLINES_MAX],
    is_timed: bool,
    is_trial: bool,
    is_answer_due: bool,
    is_out_of_reach: bool,
    is_unacked: bool,
    pub(crate) is_up: bool,
}

impl Entry {
    pub(crate) fn of(worker: &Worker) -> Self {
        let mut deadlines = [None; DEADLINES_MAX];
        for (place, deadline) in deadlines.iter_mut().zip(worker.deadlines()) {
            *place = Some(deadline);
        }
        Self {
            generation: worker.generation,
            pid: worker.pid,
            deadlines,
            is_timed: worker.is_timed(),
            is_trial: worker.is_trial() && worker.is_undrained(),
            is_answer_due: worker.is_answer_due(),
            is_out_of_reach: worker.is_out_of_reach(),
            is_unacked: worker.is_unacked(),
            is_up: worker.is_up(),
        }
    }

    /// What the counts of workers depend on.
    fn counted(self) -> (Generation, bool, bool) {
        (self.generation, self.is_unacked, self.is_up)
    }
}

/// The `EINHORN_CHILD_INDEX` of each worker: the lowest that is free is given out.
#[derive(Debug, Clone, Default, PartialEq)]
struct Numbers {
    /// All that are taken are lower.
    end: u32,
    /// Those below the end that are not.
    free: BTreeSet<u32>,
}

impl Numbers {
    fn lowest_free(&self) -> u32 {
        self.free.first().copied().unwrap_or(self.end)
    }

    fn take(&mut self, number: u32) {
        if !self.free.remove(&number) {
            self.free.extend(self.end..number);
            self.end = number + 1;
        }
    }

    fn give_back(&mut self, number: u32) {
        self.free.insert(number);
        while self.end > 0 && self.free.remove(&(self.end - 1)) {
            self.end -= 1;
        }
    }
}

/// Puts `item` in `set`, or takes it out.
fn put<T: Ord>(set: &mut BTreeSet<T>, item: T, is_there: bool) {
    if is_there {
        set.insert(item);
    } else {
        set.remove(&item);
    }
}

// What the pool does.
impl Index {
    /// The index of these workers and slots.
    pub(crate) fn of(workers: &BTreeMap<WorkerId, Worker>, slots: &BTreeMap<SlotNumber, Slot>) -> Self {
        let mut index = Self::default();
        workers.values().for_each(|worker| index.add_worker(worker));
        slots.iter().for_each(|(number, slot)| index.open_slot(*number, slot, workers));
        index
    }

    /// A worker came to be.
    pub(crate) fn add_worker(&mut self, worker: &Worker) {
        self.numbers.take(worker.index);
        worker.slot.into_iter().for_each(|slot| self.sockets.add_worker(slot, worker.is_up()));
        self.note_worker(worker.id, None, Some(Entry::of(worker)));
    }

    /// A worker is gone.
    pub(crate) fn remove_worker(&mut self, worker: &Worker) {
        self.numbers.give_back(worker.index);
        worker.slot.into_iter().for_each(|slot| self.sockets.remove_worker(slot, worker.is_up()));
        self.note_worker(worker.id, Some(Entry::of(worker)), None);
    }

    /// Notes what has changed about a worker. It touches nothing else: a worker is in most sets neither before nor after.
    pub(crate) fn note_worker(&mut self, id: WorkerId, before: Option<Entry>, after: Option<Entry>) {
        let pids = [before, after].map(|entry| entry.and_then(|entry| entry.pid));
        if pids[0] != pids[1] {
            pids[0].into_iter().for_each(|pid| _ = self.by_pid.remove(&pid));
            pids[1].into_iter().for_each(|pid| _ = self.by_pid.insert(pid, id));
        }
        let deadlines =
            [before, after].map(|entry| entry.map_or([None; DEADLINES_MAX], |entry| entry.deadlines));
        if deadlines[0] != deadlines[1] {
            deadlines[0].iter().flatten().for_each(|deadline| _ = self.deadlines.remove(deadline));
            self.deadlines.extend(deadlines[1].into_iter().flatten());
        }
        let note = |set: &mut BTreeSet<WorkerId>, is_in: fn(&Entry) -> bool| {
            let [was, is] = [before, after].map(|entry| entry.is_some_and(|entry| is_in(&entry)));
            if was != is {
                put(set, id, is);
            }
        };
        note(&mut self.timed, |entry| entry.is_timed);
        note(&mut self.trials, |entry| entry.is_trial);
        note(&mut self.unspawned, |entry| entry.pid.is_none());
        note(&mut self.answers_due, |entry| entry.is_answer_due);
        note(&mut self.out_of_reach, |entry| entry.is_out_of_reach);
        if before.map(Entry::counted) != after.map(Entry::counted) {
            before.into_iter().for_each(|entry| self.count(entry, false));
            after.into_iter().for_each(|entry| self.count(entry, true));
        }
    }

    fn count(&mut self, entry: Entry, is_there: bool) {
        self.undrained.count(entry, is_there);
        let of_generation = self.by_generation.entry(entry.generation).or_default();
        of_generation.count(entry, is_there);
        if *of_generation == Undrained::default() {
            self.by_generation.remove(&entry.generation);
        }
    }

    /// There is one more slot.
    pub(crate) fn open_slot(
        &mut self,
        number: SlotNumber,
        slot: &Slot,
        workers: &BTreeMap<WorkerId, Worker>,
    ) {
        self.sockets.open(number);
        self.note_slot(number, slot, workers, true);
    }

    /// There was a slot like this.
    pub(crate) fn close_slot(
        &mut self,
        number: SlotNumber,
        slot: &Slot,
        workers: &BTreeMap<WorkerId, Worker>,
    ) {
        self.sockets.close(number);
        self.note_slot(number, slot, workers, false);
    }

    /// Notes that there is a slot like this, or no more.
    pub(crate) fn note_slot(
        &mut self,
        number: SlotNumber,
        slot: &Slot,
        workers: &BTreeMap<WorkerId, Worker>,
        is_there: bool,
    ) {
        match slot.holder {
            Holder::Empty { due } => put(&mut self.empty, (due, number), is_there),
            Holder::GivenUp => put(&mut self.given_up, number, is_there),
            Holder::Passing { successor, .. } => {
                put(&mut self.passing, number, is_there);
                let has_acked = workers.get(&successor).is_some_and(Worker::is_up);
                put(&mut self.acked_successors, number, is_there && has_acked);
                return;
            }
            Holder::Held { .. } | Holder::Closed => {}
        }
        let settled = self.settled.entry(slot.generation).or_default();
        put(settled, number, is_there);
        if settled.is_empty() {
            self.settled.remove(&slot.generation);
        }
    }

    /// The lowest index that no worker has.
    pub(crate) fn free_number(&self) -> u32 {
        self.numbers.lowest_free()
    }

    pub(crate) fn id_of(&self, pid: Pid) -> Option<WorkerId> {
        self.by_pid.get(&pid).copied()
    }
}

// What rules and questions ask for.
impl Index {
    /// How many workers are undrained and unacked.
    pub(crate) fn unacked(&self) -> usize {
        self.undrained.unacked
    }

    /// How many workers are undrained and acked.
    pub(crate) fn up(&self) -> usize {
        self.undrained.up
    }

    /// How many of `generation` are undrained and unacked.
    pub(crate) fn unacked_of(&self, generation: Generation) -> usize {
        self.by_generation.get(&generation).map_or(0, |undrained| undrained.unacked)
    }

    /// How many of `generation` are undrained and acked; as many slots have one.
    pub(crate) fn up_of(&self, generation: Generation) -> usize {
        self.by_generation.get(&generation).map_or(0, |undrained| undrained.up)
    }

    /// How many slots have no worker.
    pub(crate) fn vacancies(&self) -> usize {
        self.empty.len() + self.given_up.len()
    }

    /// The first slot whose successor has acked.
    pub(crate) fn acked_successor(&self) -> Option<SlotNumber> {
        self.acked_successors.first().copied()
    }

    /// The slot that has been due to be filled for longest.
    pub(crate) fn due_slot(&self, now: Moment) -> Option<SlotNumber> {
        self.empty.first().filter(|(due, _)| *due <= now).map(|(_, number)| *number)
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

    /// When something is to happen to a worker, or, after `now`, an empty slot may be filled.
    pub(crate) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let workers = self.deadlines.first().map(|(at, _)| *at);
        let slots = self.empty.range((now, SlotNumber(u32::MAX))..).next().map(|(at, _)| *at);
        workers.into_iter().chain(slots).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_given_out_whatever_the_order() {
        let mut dice = fastrand::Rng::with_seed(1);
        let (mut numbers, mut taken) = (Numbers::default(), BTreeSet::new());
        for _ in 0..2_000 {
            let is_growing = taken.is_empty() || dice.bool();
            if is_growing {
                let number = if dice.u8(..4) == 0 { dice.u32(..60) } else { numbers.lowest_free() };
                if taken.insert(number) {
                    numbers.take(number);
                }
            } else {
                let number = *taken.iter().nth(dice.usize(..taken.len())).unwrap();
                taken.remove(&number);
                numbers.give_back(number);
            }
            assert_eq!(Some(numbers.lowest_free()), (0..).find(|number| !taken.contains(number)));
            let mut anew = Numbers::default();
            taken.iter().rev().for_each(|number| anew.take(*number));
            assert_eq!(numbers, anew);
        }
    }
}
