//! The pool: all workers and slots, and the only code that changes them.
//!
//! Methods are named after what has happened (`spawned`, `acked`, `lose`) and after the steps that are taken
//! (`fill`, `pass`, `drain`). Every change goes through [`Pool::change_worker`] or [`Pool::change_slot`], which keep
//! the [`Index`]. A pool never decides anything.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;
use core::time::Duration;

use einhorn_proto::{Death, DrainEnding, Termination, WORKERS_MAX};
use serde::{Deserialize, Serialize};

use super::event::{Action, Generation, SlotNumber, WorkerId};
use super::index::{Entry, Index};
use super::moment::Moment;
use super::signal::{Pid, Signal};
use super::slot::{Attempts, Holder, Slot};
use super::worker::{Boot, Drain, Next, Process, State, Stops, Worker};
use crate::Contradiction;

/// All workers and slots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pool {
    workers: BTreeMap<WorkerId, Worker>,
    slots: BTreeMap<SlotNumber, Slot>,
    next_id: u64,
    #[serde(skip)]
    index: Index,
    /// Workers that were lost and whose slots nobody has decided about; none between two events.
    #[serde(skip)]
    losses: VecDeque<Loss>,
}

/// A worker that its slot has lost without having asked it to stop.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loss {
    pub(crate) slot: SlotNumber,
    pub(crate) generation: Generation,
    pub(crate) spawned_at: Moment,
    pub(crate) cause: Cause,
    pub(crate) role: Role,
    pub(crate) death: Death,
}

/// How a worker was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It died, or hung past its boot deadline.
    Died,
    /// It could not be spawned, and would not be a moment later either.
    CannotSpawn,
    /// It could not be spawned for want of something that comes and goes: memory, processes, descriptors.
    CannotSpawnNow,
}

/// What the lost worker was to its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It held the slot, which is empty now.
    Holder,
    /// It held the slot, which its successor has now.
    HolderBeforeSuccessor,
    /// It was the successor of a worker that goes on.
    Successor,
}

/// A slot whose successor has acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pass {
    pub(crate) slot: SlotNumber,
    pub(crate) old: WorkerId,
    pub(crate) successor: Process,
}

// Facts.
impl Pool {
    /// The spawn of a worker worked.
    pub(crate) fn spawned(
        &mut self,
        id: WorkerId,
        (pid, start_ticks): (Pid, Option<u64>),
        now: Moment,
        boot: Boot,
    ) {
        self.change_worker(id, |worker| {
            worker.pid = Some(pid);
            worker.start_ticks = start_ticks;
            worker.spawned_at = now;
            worker.state = State::Starting(boot);
        });
    }

    /// The spawn of a worker worked that is to stop already. Its grace period begins with its pid.
    pub(crate) fn spawned_draining(
        &mut self,
        id: WorkerId,
        (pid, start_ticks): (Pid, Option<u64>),
        now: Moment,
        kill_at: Option<Moment>,
    ) {
        self.change_worker(id, |worker| {
            worker.pid = Some(pid);
            worker.start_ticks = start_ticks;
            worker.spawned_at = now;
            if let State::Draining(drain) = &mut worker.state {
                drain.next = kill_at.map_or(Next::Nothing, Next::Kill);
            }
        });
    }

    /// A worker takes traffic.
    pub(crate) fn acked(&mut self, id: WorkerId, now: Moment, old_at: Option<Moment>) {
        let slot = self.change_worker(id, |worker| {
            worker.state = State::Up { old_at };
            worker.acked_at = Some(now);
            if !worker.is_trial() {
                worker.last_words = Vec::new();
            }
            worker.slot
        });
        if let Some(number) = slot.flatten() {
            self.change_slot(number, |slot| slot.attempts = Attempts::default());
        }
    }

    /// A worker has sent `worker:ack`.
    pub(crate) fn spoke_einhorn(&mut self, id: WorkerId) {
        self.change_worker(id, |worker| worker.speaks_einhorn = true);
    }

    /// A worker was sent a stop signal. If that is its first, its drain is worth a warning at `warn_at`.
    pub(crate) fn stop_sent(
        &mut self,
        id: WorkerId,
        signal: Signal,
        ending: DrainEnding,
        warn_at: Option<Moment>,
    ) {
        self.change_worker(id, |worker| {
            worker.is_unsignallable = false;
            if let State::Draining(drain) = &mut worker.state {
                let is_first = drain.sent == Stops::default();
                *drain = drain.with(signal, ending);
                drain.warn_at = if is_first { warn_at } else { drain.warn_at };
            }
        });
    }

    /// A worker has taken long to drain.
    pub(crate) fn drains_long(&mut self, id: WorkerId) {
        self.change_worker(id, |worker| {
            if let State::Draining(drain) = &mut worker.state {
                (drain.warn_at, drain.is_long) = (None, true);
            }
        });
    }

    /// A draining worker is sent SIGKILL, after which nothing more comes.
    pub(crate) fn end(&mut self, id: WorkerId) {
        self.change_worker(id, |worker| {
            if let State::Draining(drain) = &mut worker.state {
                drain.next = Next::End;
            }
        });
    }

    /// The master may not signal a worker.
    pub(crate) fn unsignallable(&mut self, id: WorkerId) {
        self.change_worker(id, |worker| worker.is_unsignallable = true);
    }

    /// A worker was stopped by a signal such as SIGSTOP, or continued.
    pub(crate) fn suspended(&mut self, id: WorkerId, is_suspended: bool) {
        self.change_worker(id, |worker| worker.is_suspended = is_suspended);
    }

    /// For so long nobody ran. Every deadline of a worker is so much later.
    pub(crate) fn postpone(&mut self, by: Duration) {
        let ids: Vec<_> = self.workers.keys().copied().collect();
        for id in ids {
            self.change_worker(id, |worker| worker.postpone(by));
        }
    }

    pub(crate) fn pinged(&mut self, id: WorkerId, now: Moment, word: Option<String>, due: Option<Moment>) {
        self.change_worker(id, |worker| {
            worker.pinged_at = Some(now);
            worker.ping_word = word;
            if worker.is_undrained() {
                worker.ping_due = due;
            }
        });
    }

    /// A worker is silent, or is not expected to ping for a while yet.
    pub(crate) fn expect_ping(&mut self, id: WorkerId, due: Option<Moment>) {
        self.change_worker(id, |worker| worker.ping_due = due);
    }

    /// A worker has reached its greatest age.
    pub(crate) fn grown_old(&mut self, id: WorkerId) {
        self.change_worker(id, |worker| {
            if let State::Up { old_at } = &mut worker.state {
                *old_at = None;
            }
        });
    }

    pub(crate) fn sent_text(&mut self, id: WorkerId, text: Option<String>) {
        self.change_worker(id, |worker| worker.text = text);
    }

    /// A worker wrote to standard error. Nobody will ask what one wrote after it came up, unless it is on trial.
    pub(crate) fn wrote(&mut self, id: WorkerId, lines: Vec<String>) {
        self.change_worker(id, |worker| {
            if worker.acked_at.is_none() || worker.is_trial() {
                worker.last_words = lines;
            }
        });
    }

    /// A worker is gone: it was reaped, or never came to be. If its slot needed it, that is a loss.
    pub(crate) fn gone(
        &mut self,
        id: WorkerId,
        now: Moment,
        cause: Cause,
        reason: String,
        how: Option<Termination>,
    ) {
        self.lose(id, now, cause, reason, how);
        if let Some(worker) = self.workers.remove(&id) {
            self.index.remove_worker(&worker);
        }
    }

    /// A worker lives and is useless to its slot: it has missed its boot deadline. It drains.
    pub(crate) fn hangs(&mut self, id: WorkerId, now: Moment, reason: String, drain: Drain) {
        self.lose(id, now, Cause::Died, reason, None);
        self.drain(id, drain);
    }

    fn lose(&mut self, id: WorkerId, now: Moment, cause: Cause, reason: String, how: Option<Termination>) {
        let place = self.workers.get(&id).and_then(|worker| Some((worker, self.place(worker)?)));
        if let Some((worker, (number, role))) = place {
            let death = worker.death(now, reason, how);
            let Worker { generation, spawned_at, .. } = *worker;
            self.leave(id, now);
            if !death.is_on_purpose() {
                self.change_slot(number, |slot| {
                    slot.restarts += u64::from(role != Role::Successor);
                    // Without what it wrote, which would make each status as long as that.
                    slot.last_death = Some((now, Death { stderr_tail: Vec::new(), ..death.clone() }));
                });
            }
            self.losses.push_back(Loss { slot: number, generation, spawned_at, cause, role, death });
        }
    }

    /// The slot of a worker, and what it is to that; `None` if it has none.
    fn place(&self, worker: &Worker) -> Option<(SlotNumber, Role)> {
        let number = worker.slot?;
        let role = match self.slots.get(&number)?.holder {
            Holder::Held { worker: holder } if holder == worker.id => Role::Holder,
            Holder::Passing { successor, .. } if successor == worker.id => Role::Successor,
            Holder::Passing { worker: holder, .. } if holder == worker.id => Role::HolderBeforeSuccessor,
            _ => return None,
        };
        Some((number, role))
    }
}

// Steps.
impl Pool {
    /// Opens so many empty slots, with the lowest free numbers.
    pub(crate) fn open_slots(&mut self, count: u32, generation: Generation, due: Moment) {
        let is_free = |number: &SlotNumber| !self.slots.contains_key(number);
        let numbers: Vec<_> = (0..).map(SlotNumber).filter(is_free).take(count as usize).collect();
        for number in numbers {
            let slot = Slot::new(generation, due);
            self.index.open_slot(number, &slot, &self.workers);
            self.slots.insert(number, slot);
        }
    }

    /// Closes a slot, and names the workers that are left without one.
    pub(crate) fn close_slot(&mut self, number: SlotNumber) -> Vec<WorkerId> {
        let closed = self.slots.remove(&number);
        closed.iter().for_each(|slot| self.index.close_slot(number, slot, &self.workers));
        closed.iter().flat_map(Slot::workers).collect()
    }

    /// Nobody fills any slot any more.
    pub(crate) fn close_all(&mut self) {
        let numbers: Vec<_> = self.slots.keys().copied().collect();
        for number in numbers {
            self.change_slot(number, |slot| slot.holder = Holder::Closed);
        }
    }

    /// Enters a worker of `generation` into an empty slot, and asks for its spawn.
    pub(crate) fn fill(&mut self, number: SlotNumber, generation: Generation, now: Moment) -> Action {
        let (worker, spawn) = self.enter(Some(number), generation, now);
        self.change_slot(number, |slot| {
            slot.holder = Holder::Held { worker };
            slot.attempts.tries += 1;
        });
        spawn
    }

    /// Enters a successor for `worker`, which holds the slot, and asks for its spawn.
    pub(crate) fn add_successor(
        &mut self,
        number: SlotNumber,
        worker: WorkerId,
        generation: Generation,
        now: Moment,
    ) -> Action {
        let (successor, spawn) = self.enter(Some(number), generation, now);
        self.change_slot(number, |slot| slot.holder = Holder::Passing { worker, successor });
        spawn
    }

    /// Enters a trial worker of `generation`, which has no slot, and asks for its spawn.
    pub(crate) fn add_trial(&mut self, generation: Generation, now: Moment) -> (WorkerId, Action) {
        self.enter(None, generation, now)
    }

    fn enter(&mut self, slot: Option<SlotNumber>, generation: Generation, now: Moment) -> (WorkerId, Action) {
        let id = WorkerId(self.next_id);
        let index = self.index.free_number();
        self.next_id += 1;
        let worker = Worker {
            id,
            slot,
            index,
            generation,
            state: State::Spawning,
            pid: None,
            start_ticks: None,
            spawned_at: now,
            acked_at: None,
            speaks_einhorn: false,
            is_suspended: false,
            is_unsignallable: false,
            pinged_at: None,
            ping_due: None,
            ping_word: None,
            text: None,
            last_words: Vec::new(),
        };
        self.index.add_worker(&worker);
        self.workers.insert(id, worker);
        (id, Action::Spawn { worker: id, slot, index, generation })
    }

    /// The successor takes the slot, and the worker before it is left without one.
    pub(crate) fn pass(&mut self, pass: Pass) {
        self.leave(pass.old, Moment::default());
        self.change_slot(pass.slot, |slot| slot.attempts = Attempts::default());
    }

    /// Starts the stop of a worker, or takes it a step further. A worker that drains has no slot.
    pub(crate) fn drain(&mut self, id: WorkerId, drain: Drain) {
        self.leave(id, drain.since);
        self.change_worker(id, |worker| {
            // Whether it can be signalled shows when it is.
            worker.is_unsignallable &= worker.drain().is_some();
            worker.state = State::Draining(drain);
            worker.ping_due = None;
        });
    }

    /// Lets an empty slot wait.
    pub(crate) fn wait(&mut self, number: SlotNumber, due: Moment) {
        self.change_slot(number, |slot| {
            if let Holder::Empty { .. } | Holder::GivenUp = slot.holder {
                slot.holder = Holder::Empty { due };
            }
        });
    }

    /// Lets an empty slot wait until somebody or something gives it another chance.
    pub(crate) fn give_up(&mut self, number: SlotNumber) {
        self.change_slot(number, |slot| slot.holder = Holder::GivenUp);
    }

    /// Forgets the failures of a slot, which is due at once if it is empty.
    pub(crate) fn forgive(&mut self, number: SlotNumber, now: Moment) {
        self.change_slot(number, |slot| slot.attempts = Attempts::default());
        self.wait(number, now);
    }

    /// Gives an empty slot another generation to be filled with, as if it were new.
    pub(crate) fn reassign(&mut self, number: SlotNumber, generation: Generation, now: Moment) {
        self.change_slot(number, |slot| slot.generation = generation);
        self.forgive(number, now);
    }

    pub(crate) fn set_attempts(&mut self, number: SlotNumber, attempts: Attempts) {
        self.change_slot(number, |slot| slot.attempts = attempts);
    }

    /// Takes the first loss that nobody has decided about.
    pub(crate) fn take_loss(&mut self) -> Option<Loss> {
        self.losses.pop_front()
    }

    /// Takes a worker out of its slot, if it has one. Its successor has that now, or nobody.
    fn leave(&mut self, id: WorkerId, now: Moment) {
        if let Some((number, role)) = self.workers.get(&id).and_then(|worker| self.place(worker)) {
            let successor = self.slots.get(&number).and_then(Slot::successor);
            let brings = successor.and_then(|id| Some(self.workers.get(&id)?.generation));
            self.change_slot(number, |slot| match (role, slot.holder) {
                (Role::Successor, Holder::Passing { worker, .. }) => slot.holder = Holder::Held { worker },
                (_, Holder::Passing { successor, .. }) => {
                    slot.holder = Holder::Held { worker: successor };
                    slot.generation = brings.unwrap_or(slot.generation);
                }
                _ => slot.holder = Holder::Empty { due: now },
            });
        }
    }

    /// The one way to change a worker.
    fn change_worker<T>(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let worker = self.workers.get_mut(&id)?;
        let before = Entry::of(worker);
        let changed = change(worker);
        let after = Entry::of(worker);
        let number = worker.slot;
        self.index.note_worker(id, Some(before), Some(after));
        if before.is_up != after.is_up
            && let Some(number) = number
        {
            self.index.sockets.set_serving(number, after.is_up);
            // Whether the successor in the slot has acked may have changed.
            if let Some(slot) = self.slots.get(&number) {
                self.index.note_slot(number, slot, &self.workers, true);
            }
        }
        Some(changed)
    }

    /// The one way to change a slot.
    fn change_slot(&mut self, number: SlotNumber, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(&number) {
            self.index.note_slot(number, slot, &self.workers, false);
            change(slot);
            self.index.note_slot(number, slot, &self.workers, true);
        }
    }
}

/// What rules and questions ask for.
impl Deref for Pool {
    type Target = Index;

    fn deref(&self) -> &Index {
        &self.index
    }
}

impl Pool {
    pub(crate) fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// The live worker that has this pid.
    pub(crate) fn by_pid(&self, pid: Pid) -> Option<&Worker> {
        self.worker(self.id_of(pid)?)
    }

    /// Every worker, oldest first.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// How many workers there are, draining ones too.
    pub(crate) fn live(&self) -> usize {
        self.workers.len()
    }

    /// Whether no worker is left that the master could still stop.
    pub(crate) fn is_left_alone(&self) -> bool {
        self.live() == self.index.out_of_reach.len()
    }

    /// How many are draining.
    pub(crate) fn draining(&self) -> usize {
        self.live() - self.unacked() - self.up() - self.trials.len()
    }

    pub(crate) fn slot(&self, number: SlotNumber) -> Option<&Slot> {
        self.slots.get(&number)
    }

    /// Every slot, by number.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SlotNumber, &Slot)> {
        self.slots.iter().map(|(number, slot)| (*number, slot))
    }

    /// The slots that have a successor, as they are now, for a step that changes each.
    pub(crate) fn successors(&self) -> Vec<(SlotNumber, Slot)> {
        self.passing.iter().filter_map(|number| Some((*number, self.slot(*number)?.clone()))).collect()
    }

    /// The first slot whose successor has acked.
    pub(crate) fn next_pass(&self) -> Option<Pass> {
        self.pass_of(self.acked_successor()?)
    }

    /// How a slot passes on, if its successor has acked.
    pub(crate) fn pass_of(&self, number: SlotNumber) -> Option<Pass> {
        let slot = self.slot(number)?;
        let successor = self.worker(slot.successor()?).filter(|worker| worker.is_up())?.process()?;
        Some(Pass { slot: number, old: slot.current()?, successor })
    }

    /// How many slots there are.
    pub(crate) fn size(&self) -> usize {
        self.slots.len()
    }

    /// The first loss that nobody has decided about.
    pub(crate) fn loss(&self) -> Option<&Loss> {
        self.losses.front()
    }
}

// What must be true of a pool.
impl Pool {
    /// Takes up a pool that was written down.
    ///
    /// # Errors
    /// [`Contradiction`] if no pool can have been written down so. This is the one place that asks.
    pub(crate) fn restore(mut self) -> Result<Self, Contradiction> {
        let (mut pids, mut indexes) = (BTreeSet::new(), BTreeSet::new());
        for (id, worker) in &self.workers {
            let pid = worker.pid.map_or(0, Pid::as_raw);
            if pid <= 1 || !pids.insert(pid) {
                return Err(Contradiction(format!("pid {pid} of worker {}", id.0)));
            }
            if !indexes.insert(worker.index) || worker.index > WORKERS_MAX.saturating_mul(2) {
                return Err(Contradiction(format!("index {} of worker {}", worker.index, id.0)));
            }
            if *id != worker.id || id.0 >= self.next_id {
                return Err(Contradiction(format!("the number of worker {}", id.0)));
            }
            if worker.is_undrained() && !worker.is_trial() && self.place(worker).is_none() {
                return Err(Contradiction(format!("worker {} has no slot", id.0)));
            }
        }
        for (number, slot) in &self.slots {
            for id in slot.workers() {
                let fits = |worker: &&Worker| worker.slot == Some(*number) && worker.is_undrained();
                if self.workers.get(&id).filter(fits).is_none() {
                    return Err(Contradiction(format!(
                        "slot {} has worker {}, which is not its own",
                        number.0, id.0
                    )));
                }
            }
            if slot.current().is_some() && slot.current() == slot.successor() {
                return Err(Contradiction(format!("slot {} passes to the worker that holds it", number.0)));
            }
        }
        self.index = Index::of(&self.workers, &self.slots);
        Ok(self)
    }

    /// Whether the index says what the workers and slots say.
    pub(crate) fn is_indexed(&self) -> bool {
        self.index == Index::of(&self.workers, &self.slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_slots_take_the_lowest_free_numbers() {
        let mut pool = Pool::default();
        let open = |pool: &mut Pool, count| {
            let before: Vec<_> = pool.slots.keys().copied().collect();
            pool.open_slots(count, Generation(1), Moment::default());
            let opened = pool.slots.keys().filter(|number| !before.contains(number));
            opened.map(|number| number.0).collect::<Vec<_>>()
        };
        assert_eq!(open(&mut pool, 3), [0, 1, 2]);
        pool.close_slot(SlotNumber(1));
        assert_eq!(open(&mut pool, 1), [1]);
        assert_eq!(open(&mut pool, 1), [3]);
        pool.close_slot(SlotNumber(0));
        pool.close_slot(SlotNumber(2));
        assert_eq!(open(&mut pool, 3), [0, 2, 4]);
    }
}
