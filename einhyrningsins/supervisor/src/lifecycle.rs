//! From spawn to death: what each event does to a worker, and what its death does to its seat.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::Moment;

use super::Pid;
use einhorn_proto::{AckSource, Death, Notice, Termination};

use super::event::{Action, Generation, SlotNumber, WorkerId};
use super::moment::milliseconds;
use super::pacing;
use super::pool::Attempts;
use super::stop::StopReason;
use super::timers::Timer;
use super::worker::{State, Worker};
use super::{AckMode, Phase, Supervisor};

/// The grace period of a worker that missed its boot deadline, or fell silent (`--ping-timeout`), where
/// `--signal-timeout` sets none: it hangs, so waiting for it for ever would let hanging workers pile up, one per retry.
pub(super) const BOOT_GRACE: Duration = Duration::from_secs(10);

/// How a worker was lost, for what its slot does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It died, or hung past its boot deadline.
    Died,
    /// It could not be spawned, and would not be a moment later either.
    CannotSpawn,
    /// It could not be spawned for want of something that comes and goes: memory, processes, descriptors.
    CannotSpawnNow,
}

impl Supervisor {
    /// Spawns a worker into an empty seat.
    pub(super) fn fill_seat(&mut self, now: Moment, number: SlotNumber) {
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        slot.attempts.tries += 1;
        let generation = slot.generation;
        if self.rollout.as_ref().is_some_and(|rollout| rollout.generation == generation) {
            slot.succession.tries += 1;
        }
        let worker = self.spawn(now, number, generation);
        if let Some(slot) = self.pool.slots.get_mut(&number) {
            slot.current = Some(worker);
        }
    }

    /// Enters a worker in the tables and asks for its process.
    pub(super) fn spawn(&mut self, now: Moment, slot: SlotNumber, generation: Generation) -> WorkerId {
        let worker = self.pool.insert(slot, generation, now);
        let (id, index) = (worker.id, worker.index);
        self.actions.push(Action::Spawn { worker: id, slot, index, generation });
        id
    }

    pub(super) fn on_spawned(&mut self, now: Moment, id: WorkerId, pid: Pid) {
        self.pool.set_pid(id, pid);
        let Some(worker) = self.pool.get_mut(id) else { return };
        worker.spawned_at = now;
        let (slot, index, generation) = (worker.slot.0, worker.index, worker.generation.0);
        let state = worker.state;
        self.tell(Notice::Spawned { slot, index, pid: pid.as_raw(), generation });
        match state {
            // It was culled before it had a pid to send the signal to.
            State::Draining(drain) => {
                self.actions.push(Action::Signal { pid, signal: drain.signal });
                if let Some(grace) = self.policy.grace {
                    self.timers.set(Timer::Kill(id), now + grace);
                }
            }
            _ => {
                self.pool.set_state(id, State::Starting);
                match self.policy.ack {
                    AckMode::Timer(Duration::ZERO) => self.on_acked(now, id, AckSource::Timer),
                    AckMode::Timer(after) => self.timers.set(Timer::Ack(id), now + after),
                    AckMode::Manual(Some(deadline)) => self.timers.set(Timer::Boot(id), now + deadline),
                    AckMode::Manual(None) => {}
                }
            }
        }
    }

    pub(super) fn on_spawn_failed(&mut self, now: Moment, id: WorkerId, reason: String, transient: bool) {
        let Some(worker) = self.pool.remove(id) else { return };
        self.timers.clear(Timer::Kill(id));
        if worker.is_undrained() {
            let loss = if transient { Loss::CannotSpawnNow } else { Loss::CannotSpawn };
            let death = death_of(&worker, now, reason, None);
            self.lose(now, &worker, death, loss);
        }
        self.pump(now);
        self.exit_if_last();
    }

    pub(super) fn on_exited(&mut self, now: Moment, pid: Pid, termination: Termination) {
        let Some(id) = self.pool.by_pid(pid).map(|worker| worker.id) else {
            let message = format!("reaped {pid}, which is no worker: it {termination}");
            return self.tell(Notice::Decided { message });
        };
        let Some(worker) = self.pool.remove(id) else { return };
        for timer in [Timer::Ack(id), Timer::Boot(id), Timer::Kill(id), Timer::Retire(id)] {
            self.timers.clear(timer);
        }
        self.end_care(id);
        if let State::Draining(drain) = worker.state {
            self.tell(Notice::Drained {
                slot: worker.slot.0,
                pid: pid.as_raw(),
                generation: worker.generation.0,
                termination,
                took_ms: milliseconds(now - drain.since),
            });
            #[cfg(test)]
            if self.sabotage == Some(super::model::Sabotage::SignalAfterReap) {
                let signal = super::Signal::SIGKILL;
                self.actions.push(Action::Signal { pid, signal });
            }
        } else {
            let death = death_of(&worker, now, termination.to_string(), Some(termination));
            self.lose(now, &worker, death, Loss::Died);
        }
        self.leave_recycling(id);
        self.pump(now);
        self.exit_if_last();
    }

    pub(super) fn on_boot_deadline(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.pool.get(id).filter(|worker| worker.state == State::Starting) else { return };
        let reason = "missed its boot deadline (--ack-timeout)".to_owned();
        let death = death_of(worker, now, reason, None);
        let lost = self.vacant_copy(id);
        let grace = self.policy.grace.unwrap_or(BOOT_GRACE);
        self.drain(now, id, self.policy.graceful_signal, Some(grace), "it missed its boot deadline");
        if let Some(lost) = lost {
            self.lose(now, &lost, death, Loss::Died);
        }
    }

    pub(super) fn on_ack_message(&mut self, now: Moment, pid: Pid, source: AckSource) {
        let Some(worker) = self.pool.by_pid(pid) else {
            let message = format!("ack for {pid}, which is no worker, ignored");
            return self.tell(Notice::Refused { message });
        };
        let (id, state) = (worker.id, worker.state);
        match state {
            State::Starting => {
                self.on_acked(now, id, source);
                self.pump(now);
            }
            State::Spawning | State::Up | State::Draining(_) => {
                let message = format!("ack of worker {pid} ignored: it is {}", state.name());
                self.tell(Notice::Decided { message });
            }
        }
    }

    pub(super) fn on_acked(&mut self, now: Moment, id: WorkerId, source: AckSource) {
        self.timers.clear(Timer::Ack(id));
        self.timers.clear(Timer::Boot(id));
        let Some(worker) = self.pool.get_mut(id).filter(|worker| worker.state == State::Starting) else {
            return;
        };
        worker.acked_at = Some(now);
        worker.last_words = Vec::new();
        let (number, generation) = (worker.slot, worker.generation);
        let (pid, age_ms) = (worker.pid.map_or(0, Pid::as_raw), milliseconds(now - worker.spawned_at));
        self.pool.set_state(id, State::Up);
        self.begin_care(now, id);
        self.tell(Notice::Acked {
            slot: number.0,
            pid,
            generation: generation.0,
            source,
            age_ms,
            up: self.up_of(generation),
            wanted: self.wanted(),
        });
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        slot.attempts = Attempts::default();
        if slot.successor == Some(id) {
            self.on_successor_acked(now, number);
        }
        if self.proven.insert(generation) && self.policy.retries.proven.is_none() {
            self.revive(generation);
        }
        self.tell_if_ready(now);
        self.settle_rollout(now);
    }

    /// How many workers of a generation take traffic. Outside of a rollout they are taken to be of one, so that a
    /// start of thousands does not go through all of them for each.
    fn up_of(&self, generation: Generation) -> u32 {
        let is_of_it = |worker: &&Worker| worker.is_up() && worker.generation == generation;
        let up = match self.rollout {
            Some(_) => self.pool.workers().filter(is_of_it).count(),
            None => self.pool.up(),
        };
        u32::try_from(up).unwrap_or(u32::MAX)
    }

    /// The pool was never full before and is now.
    fn tell_if_ready(&mut self, now: Moment) {
        if self.was_ready || self.pool.up() < self.pool.slots.len() {
            return;
        }
        self.was_ready = true;
        self.tell(Notice::Ready {
            workers: self.wanted(),
            generation: self.generation.0,
            after_ms: self.started_at.map_or(0, |started| milliseconds(now - started)),
        });
    }

    /// A release that has been up is tried without end: slots that gave it up before do not stay behind.
    fn revive(&mut self, generation: Generation) {
        let given_up: Vec<_> = self.pool.slots.iter_mut().filter(|(_, slot)| slot.given_up).collect();
        let mut revived = Vec::new();
        for (number, slot) in given_up {
            if slot.generation == generation {
                slot.forgive();
                revived.push(*number);
            }
        }
        for number in revived {
            self.make_due(number);
        }
    }

    /// Decides what a slot does that has lost a worker which it had not asked to stop.
    fn lose(&mut self, now: Moment, worker: &Worker, death: Death, loss: Loss) {
        let number = worker.slot;
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        // Without what it wrote, which would make each status as long as that.
        slot.last_death = Some((now, Death { stderr_tail: Vec::new(), ..death.clone() }));
        if slot.successor == Some(worker.id) {
            slot.successor = None;
            if self.recycling.is_succeeding(number) {
                return self.lose_in_recycling(now, worker, death);
            }
        } else if slot.current == Some(worker.id) {
            slot.current = None;
            slot.restarts += 1;
            if self.seat_successor(number) {
                let next = "its successor takes the slot".to_owned();
                self.tell(Notice::Died { slot: number.0, death, next_spawn_ms: None, next });
                return self.settle_rollout(now);
            }
        } else {
            return;
        }
        if self.is_rolling_out(worker.generation) {
            self.lose_new_worker(now, worker, death, loss);
        } else if self.rollout.as_ref().is_some_and(super::Rollout::is_rolling_back) {
            self.lose_in_rollback(now, worker, death, loss);
        } else {
            self.refill(now, worker, death, loss);
        }
    }

    /// Decides when an empty seat is filled again.
    fn refill(&mut self, now: Moment, worker: &Worker, death: Death, loss: Loss) {
        let number = worker.slot;
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        if worker.acked_at.is_none() {
            slot.attempts.deaths += 1;
            // A loaded system is no fault of the release.
            if loss == Loss::CannotSpawnNow {
                slot.attempts.tries = slot.attempts.tries.saturating_sub(1);
            }
        }
        let attempts = slot.attempts;
        if worker.acked_at.is_none() && self.is_exhausted(worker.generation, attempts, loss) {
            return self.give_up(now, number, &death, attempts);
        }
        let at = pacing::respawn_at(now, worker.spawned_at, self.policy.seconds, attempts.deaths);
        self.tell_death(now, number, death, at, "next spawn");
        #[cfg(test)]
        if self.sabotage == Some(super::model::Sabotage::ForgetSlot) {
            return;
        }
        if at > now {
            self.timers.set(Timer::Spawn(number), at);
        } else {
            self.make_due(number);
        }
    }

    /// Whether a slot has had all the tries that it gets.
    pub(super) fn is_exhausted(&self, generation: Generation, attempts: Attempts, loss: Loss) -> bool {
        let Some(limit) = self.tries_max(generation) else { return false };
        loss == Loss::CannotSpawn || attempts.tries >= limit
    }

    /// How many spawns in a row without an ack a slot gets; `None` for no limit.
    fn tries_max(&self, generation: Generation) -> Option<u32> {
        let retries = self.policy.retries;
        if self.proven.contains(&generation) { retries.proven } else { retries.unproven }
    }

    fn give_up(&mut self, now: Moment, number: SlotNumber, death: &Death, attempts: Attempts) {
        let slot = number.0;
        let next = "its slot gets no further try".to_owned();
        self.tell(Notice::Died { slot, death: death.clone(), next_spawn_ms: None, next });
        if let Some(slot) = self.pool.slots.get_mut(&number) {
            slot.given_up = true;
        }
        self.tell(Notice::GivenUp { slot, tries: attempts.tries });
        if self.pool.slots.values().all(|slot| slot.given_up) {
            self.stop_for_want_of_workers(now, slot, death);
        }
    }

    /// Tells of a death after which the slot tries again at `at`.
    pub(super) fn tell_death(&mut self, now: Moment, slot: SlotNumber, death: Death, at: Moment, what: &str) {
        let wait_ms = milliseconds(at - now);
        let next = match wait_ms {
            0 => format!("{what} now"),
            ms @ 1..100 => format!("{what} in {ms}ms"),
            ms => format!("{what} in {}.{}s", ms / 1000, ms % 1000 / 100),
        };
        self.tell(Notice::Died { slot: slot.0, death, next_spawn_ms: Some(wait_ms), next });
    }

    pub(super) fn on_pinged(&mut self, now: Moment, pid: Pid, word: Option<String>) {
        if let Some(id) = self.pool.by_pid(pid).map(|worker| worker.id)
            && let Some(worker) = self.pool.get_mut(id)
        {
            worker.pinged_at = Some(now);
            worker.ping_word = word;
            self.watch_pings(now, id);
        }
    }

    pub(super) fn on_status_text(&mut self, pid: Pid, text: String) {
        let Some(id) = self.pool.by_pid(pid).map(|worker| worker.id) else { return };
        let Some(worker) = self.pool.get_mut(id) else { return };
        let slot = worker.slot.0;
        worker.text = (!text.is_empty()).then(|| text.clone());
        self.tell(Notice::StatusText { slot, pid: pid.as_raw(), text });
    }

    pub(super) fn on_last_words(&mut self, pid: Pid, lines: Vec<String>) {
        if let Some(id) = self.pool.by_pid(pid).map(|worker| worker.id)
            && let Some(worker) = self.pool.get_mut(id).filter(|worker| worker.acked_at.is_none())
        {
            worker.last_words = lines;
        }
    }

    pub(super) fn on_stop_announced(&mut self, pid: Pid) {
        let Some(slot) = self.pool.by_pid(pid).map(|worker| worker.slot.0) else { return };
        self.tell(Notice::Stopping { slot, pid: pid.as_raw() });
    }

    fn stop_for_want_of_workers(&mut self, now: Moment, slot: u32, death: &Death) {
        let hint = match (death.pid, &death.termination) {
            (None, _) => "is the program there, and can this machine execute it?",
            (Some(_), None) => {
                "with -m a worker must say that it is up, by worker:ack or READY=1; see einhorn-worker(7)"
            }
            (Some(_), Some(_)) => "the program's own output says more; try the same command by hand",
        };
        let program = &self.policy.program;
        let why = format!(
            "no worker of {program} stays up, every slot was given up; slot {slot}: {death}; hint: {hint}"
        );
        self.begin_stop(now, self.policy.graceful_signal, StopReason { code: 1, why });
    }

    /// The facts of a worker whose seat is to be vacated while its process still lives.
    fn vacant_copy(&self, id: WorkerId) -> Option<Worker> {
        let worker = self.pool.get(id)?;
        Some(Worker { text: None, ping_word: None, last_words: Vec::new(), ..*worker })
    }

    pub(super) fn exit_if_last(&mut self) {
        if let Phase::Stopping { code } = self.phase
            && self.pool.live() == 0
        {
            let why = self.stop_failure.take().unwrap_or_else(|| "the last worker has gone".to_owned());
            self.exit(code, &why);
        }
    }

    pub(super) fn exit(&mut self, code: u8, why: &str) {
        self.phase = Phase::Exited;
        self.tell(Notice::MasterExiting { code, why: why.to_owned() });
        self.actions.push(Action::Exit { code });
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Spawning => "not spawned yet",
            Self::Starting => "starting",
            Self::Up => "up already",
            Self::Draining(_) => "draining",
        }
    }
}

fn death_of(worker: &Worker, now: Moment, reason: String, termination: Option<Termination>) -> Death {
    Death {
        pid: worker.pid.map(Pid::as_raw),
        generation: worker.generation.0,
        reason,
        termination,
        age_ms: milliseconds(now - worker.spawned_at),
        acked: worker.acked_at.is_some(),
        stderr_tail: worker.last_words.clone(),
    }
}
