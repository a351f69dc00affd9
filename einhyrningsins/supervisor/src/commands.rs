//! What people ask for: each command changes the plan, the policy or the number of slots, or is refused.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use einhorn_proto::{
    Done, DrainReason, ExitReason, Ignored, LastReply, NotStarted, Notice, Outcome, RecycleReason, Refusal,
    Requester, Resized, Target, UpgradeFailure, WORKERS_MAX,
};

use super::event::{Action, PoolCommand, RequestKey, SlotNumber, Stop, UpgradePlan, WorkerId};
use super::moment::milliseconds;
use super::plan::{Plan, Rollout, Stage};
use super::policy::Setting;
use super::signal::Signal;
use super::tables::{Tables, count};
use super::worker::{Drain, Next, Process, State, Worker};
use super::{Pid, Supervisor};

/// A second press of Ctrl-C within this time of the last step of a stop is taken for part of the first. Source: this
/// program; einhyrningsins(1), "SIGNALS".
const STEP_MIN: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(crate) fn on_command(
        &mut self,
        request: Option<RequestKey>,
        requester: Requester,
        command: PoolCommand,
    ) {
        let answer = match command {
            PoolCommand::Stop { how, why } => return self.on_stop(request, requester, how, why),
            PoolCommand::Signal(signals) => {
                let pids: Vec<_> = self.pids().collect();
                Ok(self.send(&signals, &pids))
            }
            PoolCommand::SignalOnly(signals, target) => self.signal_only(&signals, target),
            _ if !self.tables.plan.is_running() => Err(Refusal::Stopping),
            PoolCommand::Inc(by) => self.resize(self.tables.wanted().saturating_add(by)),
            PoolCommand::Dec(by) => self.shrink_by(by),
            PoolCommand::SetWorkers(count) => self.resize(count),
            PoolCommand::Configure(change) => self.configure(change),
            PoolCommand::Respawn => Ok(self.respawn()),
            PoolCommand::Replace(target) => self.replace(target),
            PoolCommand::Upgrade(plan) => {
                return self.on_upgrade(request, UpgradePlan { requester, ..plan });
            }
            PoolCommand::QueueUpgrade(plan) => {
                return self.on_queue_upgrade(request, UpgradePlan { requester, ..plan });
            }
            PoolCommand::Hangup => return self.on_hangup(requester),
            PoolCommand::Continue => match self.tables.plan.rollout_mut() {
                Some(rollout) if matches!(rollout.stage(), Stage::Soaking { .. }) => {
                    rollout.join(request, Outcome::Done);
                    return self.end_soak();
                }
                Some(_) | None => Err(Refusal::NothingToContinue(self.upgrade_status(self.now))),
            },
            PoolCommand::Follow => match self.tables.plan.rollout_mut() {
                Some(rollout) => return rollout.join(request, Outcome::Done),
                None => Err(Refusal::NoUpgrade),
            },
            PoolCommand::Abort => match self.tables.plan.rollout_mut() {
                Some(rollout) => {
                    rollout.join(request, Outcome::RolledBack);
                    rollout.end_by(requester);
                    self.empty_queue(NotStarted::Aborted);
                    return self.turn_back(UpgradeFailure::Aborted);
                }
                None => Err(Refusal::NoUpgrade),
            },
            // During a rollout by ending it, after one by another.
            PoolCommand::Rollback => {
                match (self.tables.plan.rollout_mut(), self.tables.releases.previous()) {
                    (Some(rollout), _) => {
                        rollout.join(request, Outcome::RolledBack);
                        rollout.end_by(requester);
                        self.empty_queue(NotStarted::RolledBack);
                        return self.turn_back(UpgradeFailure::RolledBack);
                    }
                    (None, Some(previous)) => {
                        self.empty_queue(NotStarted::RolledBack);
                        self.begin_rollback(previous, request, requester);
                        self.begin_replacing();
                        return self.forget_releases();
                    }
                    (None, None) => Err(Refusal::NothingToRollBackTo),
                }
            }
        };
        self.reply(request, answer.map_or_else(LastReply::Refused, LastReply::Done));
    }

    fn signal_only(&mut self, signals: &[Signal], target: Target) -> Result<Done, Refusal> {
        let pids: Vec<_> = self.targets(target).filter_map(|worker| worker.pid).collect();
        if pids.is_empty() { Err(Refusal::NoWorker(target)) } else { Ok(self.send(signals, &pids)) }
    }

    /// The workers that a command names.
    fn targets(&self, target: Target) -> impl Iterator<Item = &Worker> {
        self.tables.pool.workers().filter(move |worker| match target {
            Target::Slot(slot) => worker.slot == Some(SlotNumber(slot)) && worker.drain().is_none(),
            Target::Pid(pid) => worker.pid.is_some_and(|own| own.as_raw() == pid),
            Target::Draining => worker.drain().is_some(),
        })
    }

    /// Puts a serving worker in line for a turn of recycling.
    fn replace(&mut self, target: Target) -> Result<Done, Refusal> {
        if let Some(upgrade) = self.upgrade_status(self.now) {
            return Err(Refusal::NotBeside(upgrade));
        }
        let serving = self.targets(target).find(|worker| worker.is_up()).and_then(Worker::process);
        let Some(Process { id, slot: Some(slot), pid, .. }) = serving else {
            return Err(Refusal::NotServing(target));
        };
        self.tables.recycling.enqueue(id, RecycleReason::Asked);
        Ok(Done::Replacing { slot: slot.0, pid: pid.as_raw() })
    }

    fn send(&mut self, signals: &[Signal], pids: &[Pid]) -> Done {
        for &signal in signals {
            self.actions.extend(pids.iter().map(|&pid| Action::Signal { pid, signal }));
        }
        let signals = signals.iter().map(|signal| signal.as_str()).collect();
        Done::Signalled { signals, workers: count(pids.len()) }
    }

    /// The answer is that to a new number of workers, if there is one.
    fn configure(&mut self, settings: Vec<Setting>) -> Result<Done, Refusal> {
        let mut done = Done::Configured;
        for setting in settings {
            match setting {
                Setting::Workers(count) => done = self.resize(count)?,
                setting => drop(self.set(setting)),
            }
        }
        Ok(done)
    }

    /// Counts the grace period of those that stop already anew, from when they were asked.
    pub(crate) fn restart_grace(&mut self, grace: Duration) {
        let Tables { leftovers, releases, policy, .. } = &mut self.tables;
        leftovers.restart_grace(grace, |generation| releases.terms(generation, policy).stop_group);
        let drains = self.tables.pool.workers().filter(|worker| worker.pid.is_some());
        let drains: Vec<_> = drains.filter_map(|worker| Some((worker.id, worker.drain()?))).collect();
        for (id, drain) in drains {
            if drain.is_asked() && !drain.has_had(Signal::SIGKILL) {
                self.tables.pool.drain(id, Drain { next: Next::Kill(drain.since + grace), ..drain });
            }
        }
    }
}

// The number of workers.
impl Supervisor {
    fn shrink_by(&mut self, by: u32) -> Result<Done, Refusal> {
        match self.tables.wanted() {
            1 => Err(Refusal::LastWorker),
            wanted if by >= wanted => Err(Refusal::TooFewWorkers { by, wanted }),
            wanted => self.resize(wanted - by),
        }
    }

    fn resize(&mut self, to: u32) -> Result<Done, Refusal> {
        if to > WORKERS_MAX {
            return Err(Refusal::TooManyWorkers { count: to });
        }
        let from = self.resize_to(to);
        Ok(Done::Resized(Resized { from, to }))
    }

    /// Returns the number before.
    pub(crate) fn resize_to(&mut self, to: u32) -> u32 {
        let from = self.tables.wanted();
        if to != from {
            self.tell(Notice::Resized { from, to });
        }
        if to > from {
            self.grow(to - from);
        } else {
            self.shrink(from - to);
        }
        from
    }

    /// Opens slots, and gives those that were given up another chance: somebody wants more workers.
    fn grow(&mut self, by: u32) {
        let given_up: Vec<_> = self.tables.pool.given_up.iter().copied().collect();
        for number in given_up {
            self.tables.pool.forgive(number, self.now);
        }
        let generation = match self.tables.plan.rollout() {
            Some(rollout) => rollout.generation_of_new_slots(),
            None => self.tables.releases.serving(),
        };
        self.tables.pool.open_slots(by, generation, self.now);
    }

    /// Closes slots: empty ones first, then unacked workers', then the youngest's.
    ///
    /// A slot keeps its number as long as it is there: a worker's `EINHORN_SLOT` stays true, and no two workers
    /// ever read the same one but a worker and its own successor.
    fn shrink(&mut self, by: u32) {
        let is_up = |id| self.tables.pool.worker(id).is_some_and(Worker::is_up);
        let mut candidates: Vec<_> = self.tables.pool.slots().collect();
        candidates.sort_by_key(|(number, slot)| {
            let is_empty = slot.workers().next().is_none();
            let rank = if is_empty { 0 } else { 1 + u8::from(slot.workers().any(is_up)) };
            (rank, Reverse(slot.current()), Reverse(*number))
        });
        let closed: Vec<SlotNumber> =
            candidates.into_iter().take(by as usize).map(|(number, _)| number).collect();
        for number in closed {
            if let Some(rollout) = self.tables.plan.rollout_mut() {
                rollout.forget_slot(number);
            }
            for worker in self.tables.pool.close_slot(number) {
                self.retire(worker);
            }
        }
        self.forget_releases();
    }

    /// Asks a worker to stop whose slot was closed: at once, or, where connections may still be on their way to it
    /// (`shrink_grace`), in a while. Until then it serves them and counts as draining.
    fn retire(&mut self, id: WorkerId) {
        let process = self.tables.pool.worker(id).and_then(Worker::process);
        match (self.tables.policy.shrink_grace, process) {
            (Some(grace), Some(Process { slot: Some(slot), pid, generation, .. })) => {
                let drain = Drain::unasked(self.now, DrainReason::FewerWorkers, self.now + grace);
                self.tables.pool.drain(id, drain);
                let (slot, pid, generation) = (slot.0, pid.as_raw(), generation.0);
                self.tell(Notice::Retiring { slot, pid, generation, for_ms: milliseconds(grace) });
            }
            _ => self.cull(id, DrainReason::FewerWorkers),
        }
    }

    fn respawn(&mut self) -> Done {
        let slots = self.tables.pool.slots();
        let empty: Vec<_> =
            slots.filter(|(_, slot)| slot.current().is_none()).map(|(number, _)| number).collect();
        for number in &empty {
            self.tables.pool.forgive(*number, self.now);
        }
        Done::Respawned { empty: count(empty.len()) }
    }
}

// The end.
impl Supervisor {
    fn on_stop(&mut self, request: Option<RequestKey>, requester: Requester, how: Stop, why: String) {
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            rollout.end_by(requester);
        }
        let signal = match how {
            Stop::Gracefully | Stop::Escalating if self.is_draining() => {
                if how == Stop::Escalating {
                    self.press(&why);
                }
                let workers = count(self.tables.pool.live());
                return self.reply(request, LastReply::Done(Done::StopsAlready { workers }));
            }
            Stop::Gracefully | Stop::Escalating => None,
            Stop::With(signal) => Some(signal),
            Stop::Repeating(signal) => {
                self.repeat(signal);
                Some(signal)
            }
            Stop::AtOnce(signal) => return self.stop_at_once(request, signal, why),
        };
        let workers = count(self.tables.pool.live());
        self.begin_stop(signal, why, None);
        let signal = signal.or_else(|| self.set_signal()).map(Signal::as_str);
        self.reply(request, LastReply::Done(Done::Stopping { signal, workers }));
    }

    /// The signal that was set for all workers, if it is one.
    fn set_signal(&self) -> Option<Signal> {
        let workers = self.tables.pool.workers();
        let mut set = workers.map(|worker| self.tables.terms(worker.generation).graceful_signal);
        let first = set.next().unwrap_or(self.tables.policy.graceful_signal)?;
        set.all(|signal| signal == Some(first)).then_some(first)
    }

    fn is_draining(&self) -> bool {
        matches!(self.tables.plan, Plan::Stopping { .. })
    }

    /// Sends `signal` to those workers that have had it from this stop or before.
    fn repeat(&mut self, signal: Signal) {
        if self.is_draining() {
            let has_had = |worker: &&Worker| worker.drain().is_some_and(|drain| drain.has_had(signal));
            let ids: Vec<_> = self.tables.pool.workers().filter(has_had).map(|worker| worker.id).collect();
            ids.into_iter().for_each(|id| self.send_stop(id, Some(signal)));
        }
    }

    /// Takes a stop one step further, unless its last step was just now: a person may press Ctrl-C twice.
    fn press(&mut self, why: &str) {
        let Plan::Stopping { stepped_at, .. } = &mut self.tables.plan else { return };
        let since = self.now - *stepped_at;
        if since < STEP_MIN {
            return self.ignore(&Ignored::StopStep { why: why.to_owned(), since_ms: milliseconds(since) });
        }
        *stepped_at = self.now;
        let next = |worker: &Worker| Some((worker.process()?, worker.drain()?.next_signal()?));
        for (process, signal) in self.tables.pool.workers().filter_map(next).collect::<Vec<_>>() {
            match signal {
                Signal::SIGKILL => self.kill(process),
                signal => self.send_stop(process.id, Some(signal)),
            }
        }
        self.press_groups();
    }

    fn stop_at_once(&mut self, request: Option<RequestKey>, signal: Signal, why: String) {
        let ids: Vec<_> = self.tables.pool.workers().map(|worker| worker.id).collect();
        ids.into_iter().for_each(|id| self.send_stop(id, Some(signal)));
        self.reply(request, LastReply::Done(Done::Exiting));
        for waiter in self.tables.plan.rollout().map_or(Vec::new(), Rollout::requests) {
            self.reply(Some(waiter), LastReply::Refused(Refusal::MasterExits));
            if let Some(rollout) = self.tables.plan.rollout_mut() {
                rollout.abandon(waiter);
            }
        }
        self.end_rollout_at_stop();
        // There is no time for another look.
        self.tell_all_leftovers();
        while self.tables.due_report(self.reached).is_some() {
            self.give_report();
        }
        self.tables.pool.close_all();
        self.exit(1, &ExitReason::AtOnce(why));
    }

    /// Ends respawning and asks every worker to stop that was not asked yet, with `signal` or in its own convention.
    /// Again with a signal, that goes to every worker that has not had it; the first grace period stands. A `failure` is
    /// what the master exits with in the end.
    pub(crate) fn begin_stop(
        &mut self,
        signal: Option<Signal>,
        why: String,
        failure: Option<(u8, ExitReason)>,
    ) {
        let workers = count(self.tables.pool.live());
        let named = signal.or_else(|| self.set_signal());
        self.tell(Notice::MasterStopping {
            signal: named.map(|signal| signal.as_str().into()),
            workers,
            why,
        });
        if !self.is_draining() {
            self.end_rollout_at_stop();
            self.tables.recycling.stop();
            let (code, why) = failure.unwrap_or((0, ExitReason::LastWorkerGone));
            self.tables.plan = Plan::Stopping { code, why, stepped_at: self.now };
        }
        let workers = self.tables.pool.workers().map(|worker| (worker.id, worker.state, worker.process()));
        for (id, state, process) in workers.collect::<Vec<_>>() {
            match (state, process, signal) {
                (State::Draining(drain), Some(process), _) if !drain.is_asked() => {
                    self.ask(process, signal, DrainReason::MasterStopping);
                }
                (State::Draining(drain), _, Some(signal)) if !drain.has_had(signal) => {
                    self.send_stop(id, Some(signal));
                }
                (State::Draining(_), ..) => {}
                (State::Spawning | State::Starting(_) | State::Up { .. }, ..) => {
                    self.drain(id, signal, DrainReason::MasterStopping);
                }
            }
        }
        self.tables.pool.close_all();
    }
}
