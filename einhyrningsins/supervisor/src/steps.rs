//! Carries out the steps that the rules name: changes the tables and tells the shell what to do.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use einhorn_proto::{
    AckSource, DrainReason, ExitReason, Lasting, MISSED_BOOT_DEADLINE, NextStep, Notice, Outcome, Pace,
    RecycleReason, UpgradeFailure,
};

use super::Supervisor;
use super::convention::Convention;
use super::event::{Action, Ask, WorkerId};
use super::moment::{Moment, milliseconds};
use super::plan::Plan;
use super::pool::{Loss, Pass, Role};
use super::rules::{Fate, Step};
use super::signal::{Pid, Signal};
use super::tables::{Tables, count};
use super::trial;
use super::worker::{Drain, Process, Worker};

/// The grace period of a worker that missed its boot deadline, or fell silent, where the policy sets none: it hangs,
/// so to wait for it for ever would let hanging workers pile up, one per retry. Source: this program;
/// einhyrningsins(1), `--ack-timeout`.
const HANGING_GRACE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// One more worker starts, as far as the allowance lets it.
    fn note_pace(&mut self) {
        let (is_paced, pace) = (self.tables.is_paced(), self.tables.pace());
        let workers = count(self.tables.pool.unacked());
        if let Some(rollout) = self.tables.plan.rollout_mut().filter(|_| is_paced) {
            rollout.paced(Pace { workers, ..pace });
        }
    }

    /// Takes a step.
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Settle(group) => self.settle_group(group),
            Step::Report => self.give_report(),
            Step::Exit => self.exit_after_stop(),
            Step::StopForWantOfWorkers => self.stop_for_want_of_workers(),
            Step::Decide(fate) => {
                if let Some(loss) = self.tables.pool.take_loss() {
                    self.decide(fate, &loss);
                }
            }
            Step::CountAsAcked(worker) => self.ack(worker, AckSource::Timer),
            Step::MissBoot(process) => self.miss_boot(process),
            Step::Kill(process) => self.kill(process),
            Step::WarnOfDrain(process) => self.warn_of_drain(process),
            Step::Look(group) => self.look_at_group(group),
            Step::KillGroup(group) => self.stop_group(group, Signal::SIGKILL),
            Step::Ask(process) => self.ask(process, None, DrainReason::FewerWorkers),
            Step::GrowOld(worker) => {
                self.tables.pool.grown_old(worker);
                self.tables.recycling.enqueue(worker, RecycleReason::MaxAge);
            }
            Step::FallSilent(worker) => {
                self.tables.pool.expect_ping(worker, None);
                self.tables.recycling.enqueue(worker, RecycleReason::PingTimeout);
            }
            Step::ExpectPing(worker) => {
                let due = self.tables.policy.recycling.ping_timeout.map(|timeout| self.now + timeout);
                self.tables.pool.expect_ping(worker, due);
            }
            Step::SpawnTrial(generation) => self.spawn_trial(generation),
            Step::BeginCheck(process) => self.begin_check(process),
            Step::PassTrial => self.pass_trial(),
            Step::FailTrial => self.fail_trial(),
            Step::CheckCanaries => self.check_canaries(),
            Step::FailSoak => self.fail_soak(),
            Step::EndSoak => self.end_soak(),
            Step::Pass(pass) => self.pass(pass),
            Step::BecomeReady => self.become_ready(),
            Step::Revive(slot) => self.tables.pool.forgive(slot, self.now),
            Step::Fill(slot, generation) => {
                let spawn = self.tables.pool.fill(slot, generation, self.now);
                let rollout = self.tables.plan.rollout_mut();
                if let Some(rollout) = rollout.filter(|rollout| rollout.to() == generation) {
                    rollout.tries(slot);
                }
                self.note_pace();
                self.actions.push(spawn);
            }
            Step::Replace(slot, worker, generation) => {
                let spawn = self.tables.pool.add_successor(slot, worker, generation, self.now);
                if let Some(rollout) = self.tables.plan.rollout_mut() {
                    rollout.tries(slot);
                }
                self.note_pace();
                self.actions.push(spawn);
            }
            Step::Reassign(slot, generation) => self.tables.pool.reassign(slot, generation, self.now),
            Step::ThinOut => {
                if let Some(rollout) = self.tables.plan.rollout_mut() {
                    rollout.thin_out();
                }
            }
            Step::BeginSoak => self.begin_soak(),
            Step::FinishRollout => self.end_rollout(Outcome::Done),
            Step::FinishRollback => self.end_rollout(Outcome::RolledBack),
            Step::BeginQueued => self.begin_queued(),
            Step::BeginTurn(process, reason) => self.begin_turn(process, reason),
        }
    }

    fn exit_after_stop(&mut self) {
        let left: Vec<_> = self.pids().map(Pid::as_raw).collect();
        match &self.tables.plan {
            _ if !left.is_empty() => self.exit(1, &ExitReason::WorkersLeft(left)),
            Plan::Stopping { code, why, .. } => {
                let (code, why) = (*code, why.clone());
                self.exit(code, &why);
            }
            Plan::Waiting | Plan::Steady | Plan::Rolling(_) | Plan::Exited => {}
        }
    }

    pub(crate) fn exit(&mut self, code: u8, why: &ExitReason) {
        self.tables.plan = Plan::Exited;
        self.tell(Notice::MasterExiting { code, why: format!("{why}") });
        self.actions.push(Action::Exit { code });
    }

    fn stop_for_want_of_workers(&mut self) {
        let slots = self.tables.pool.slots();
        let deaths = slots.filter_map(|(number, slot)| Some((slot.last_death.as_ref()?, number)));
        let last = deaths.max_by_key(|((at, _), number)| (*at, *number));
        let failure = last.map(|((_, death), slot)| ExitReason::NoWorkerStaysUp {
            program: self.tables.policy.program.clone(),
            slot: slot.0,
            death: death.clone(),
        });
        let why = failure.as_ref().map(ExitReason::to_string).unwrap_or_default();
        self.begin_stop(None, why, failure.map(|why| (1, why)));
    }

    fn decide(&mut self, fate: Fate, loss: &Loss) {
        let wait_ms = |at: Moment| milliseconds(at - self.now);
        let next = match fate {
            Fate::Succeeded => NextStep::Succeeded,
            Fate::Wait { at, .. } => NextStep::Respawn(wait_ms(at)),
            Fate::GiveUp { .. } => NextStep::GivenUp,
            Fate::FailTurn { at } => NextStep::RetrySuccessor(wait_ms(at)),
            Fate::Retry { at } | Fate::FailRollback { at } => NextStep::Retry(wait_ms(at)),
            Fate::TurnBack { tries: None } => NextStep::SoakFails,
            Fate::TurnBack { tries: Some(_) } => NextStep::UpgradeFails,
            Fate::GiveBack(_) => NextStep::RespawnPrevious,
        };
        let (slot, death) = (loss.slot, loss.death.clone());
        self.tell(Notice::Died {
            slot: slot.0.into(),
            death: death.clone(),
            next_spawn_ms: next.wait_ms(),
            next: format!("{next}"),
        });
        match fate {
            Fate::Succeeded => {
                let rollout = self.tables.plan.rollout();
                let attempts = rollout.map(|rollout| rollout.attempts(slot)).unwrap_or_default();
                self.tables.pool.set_attempts(slot, attempts);
            }
            Fate::Wait { at, attempts } => {
                self.tables.pool.set_attempts(slot, attempts);
                self.tables.pool.wait(slot, at);
            }
            Fate::GiveUp { attempts } => {
                self.tables.pool.set_attempts(slot, attempts);
                self.tables.pool.give_up(slot);
                self.tell(Notice::GivenUp { slot: slot.0, tries: attempts.tries });
            }
            Fate::FailTurn { at } => self.tables.recycling.fail_turn(at),
            Fate::Retry { at } => self.retry(loss, at),
            Fate::TurnBack { tries } => {
                self.note_death(loss);
                self.turn_back(UpgradeFailure::Slot { slot: slot.0, death, tries });
            }
            Fate::GiveBack(generation) => self.tables.pool.reassign(slot, generation, self.now),
            Fate::FailRollback { at } => {
                self.retry(loss, at);
                self.give_up_rollback(slot, death);
            }
        }
    }

    /// The rollout tries a slot again: the slot itself if that is empty, or else a successor.
    fn retry(&mut self, loss: &Loss, at: Moment) {
        self.note_death(loss);
        if loss.role == Role::Holder {
            self.tables.pool.wait(loss.slot, at);
        } else if let Some(rollout) = self.tables.plan.rollout_mut() {
            rollout.retry_at(loss.slot, at);
        }
    }

    fn note_death(&mut self, loss: &Loss) {
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            rollout.died(loss.slot);
        }
    }

    fn miss_boot(&mut self, process: Process) {
        let grace = self.tables.policy.grace.unwrap_or(HANGING_GRACE);
        let drain = Drain::asked(self.now, None, DrainReason::MissedBootDeadline, Some(self.now + grace));
        let is_tried = self.is_tried(process.id);
        let death = self.tables.pool.worker(process.id).filter(|_| is_tried);
        let death = death.map(|worker| worker.death(self.now, MISSED_BOOT_DEADLINE.into(), None));
        self.tables.pool.hangs(process.id, self.now, MISSED_BOOT_DEADLINE.into(), drain);
        death.into_iter().for_each(|death| self.lose_trial(process.id, death));
        self.send_stop(process.id, None);
    }

    pub(crate) fn kill(&mut self, process: Process) {
        self.tables.pool.end(process.id);
        self.send_stop(process.id, Some(Signal::SIGKILL));
    }

    /// Says how many workers of a generation drain, the first time that one of them has taken long.
    fn warn_of_drain(&mut self, Process { id, generation, .. }: Process) {
        let of_generation = |tables: &Tables, now| {
            tables.lasting(now).into_iter().find(|lasting| lasting.generation == generation.0)
        };
        let is_said = of_generation(&self.tables, self.now).is_some();
        self.tables.pool.drains_long(id);
        if let Some(Lasting { workers, after_ms, .. }) = of_generation(&self.tables, self.now)
            && !is_said
        {
            let notice = Notice::StillDraining { generation: generation.0, workers, after_ms };
            self.tell_of(id, generation, notice);
        }
    }

    /// Asks an undrained worker to stop, as soon as it has a pid.
    pub(crate) fn cull(&mut self, id: WorkerId, why: DrainReason) {
        self.drain(id, None, why);
    }

    /// The same, with this signal; `None` for that of its convention.
    pub(crate) fn drain(&mut self, id: WorkerId, signal: Option<Signal>, why: DrainReason) {
        let grace = self.grace_of(id);
        let has_pid = self.tables.pool.worker(id).is_some_and(|worker| worker.pid.is_some());
        let kill_at = grace.filter(|_| has_pid).map(|grace| self.now + grace);
        self.tables.pool.drain(id, Drain::asked(self.now, signal, why, kill_at));
        self.send_stop(id, signal);
    }

    /// How long a worker has to stop before SIGKILL; `None` for ever.
    pub(crate) fn grace_of(&self, id: WorkerId) -> Option<Duration> {
        let grace = self.tables.policy.grace;
        if self.tables.pool.worker(id).is_some_and(Worker::is_trial) {
            return Some(grace.map_or(trial::GRACE, |grace| grace.min(trial::GRACE)));
        }
        grace.or_else(|| self.tables.recycling.is_silent(id).then_some(HANGING_GRACE))
    }

    /// Asks a worker to stop that drains and was not asked yet.
    pub(crate) fn ask(&mut self, process: Process, signal: Option<Signal>, why: DrainReason) {
        let kill_at = self.tables.policy.grace.map(|grace| self.now + grace);
        self.tables.pool.drain(process.id, Drain::asked(self.now, signal, why, kill_at));
        self.send_stop(process.id, signal);
    }

    /// Has a stop signal sent to a worker: this one, or that of its convention. One without a pid gets it with that.
    pub(crate) fn send_stop(&mut self, id: WorkerId, signal: Option<Signal>) {
        if let Some(worker) = self.tables.pool.worker(id)
            && let Some(pid) = worker.pid
        {
            let ask = signal.map_or_else(|| Ask::ByConvention(self.convention(worker)), Ask::With);
            let generation = worker.generation;
            self.actions.push(Action::Stop { pid, generation, ask });
        }
    }

    /// What decides how `worker` is asked to stop.
    pub(crate) fn convention(&self, worker: &Worker) -> Convention {
        let of_release = self.tables.releases.conventions(worker.generation).last();
        match self.tables.terms(worker.generation).graceful_signal {
            Some(signal) => Convention::Set(signal),
            None if worker.speaks_einhorn => Convention::Einhorn,
            None if worker.acked_at.is_some() => Convention::Acked,
            None => Convention::Unacked(of_release.map(|(signal, _)| *signal)),
        }
    }

    pub(crate) fn pass(&mut self, pass: Pass) {
        if self.tables.recycling.is_succeeding(pass.slot) {
            self.tables.recycling.succeeded();
        }
        self.tables.pool.pass(pass);
        let Process { pid, generation, .. } = pass.successor;
        self.cull(pass.old, DrainReason::Succeeded { pid: pid.as_raw(), generation: generation.0 });
    }

    fn become_ready(&mut self) {
        self.tables.was_ready = true;
        self.tell(Notice::Ready {
            workers: self.tables.wanted(),
            generation: self.tables.releases.serving().0,
            after_ms: self.tables.started_at.map_or(0, |started| milliseconds(self.now - started)),
        });
    }

    fn begin_turn(&mut self, Process { id, slot, pid, generation }: Process, reason: RecycleReason) {
        let Some(slot) = slot else { return };
        self.tables.recycling.begin_turn(id, slot, reason);
        self.tell(Notice::Recycling { slot: slot.0, pid: pid.as_raw(), generation: generation.0, reason });
        let spawn = self.tables.pool.add_successor(slot, id, generation, self.now);
        self.actions.push(spawn);
    }
}
