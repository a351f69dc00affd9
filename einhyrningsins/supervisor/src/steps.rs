//! The steps that rules name, taken: the tables change, and the shell is told what to do.

use core::time::Duration;

use einhorn_proto::{
    AckSource, DrainReason, ExitReason, MISSED_BOOT_DEADLINE, NextStep, Notice, Outcome, RecycleReason,
    UpgradeFailure,
};

use super::Supervisor;
use super::event::{Action, SlotNumber, WorkerId};
use super::moment::{Moment, milliseconds};
use super::plan::Plan;
use super::pool::{Loss, Role};
use super::rules::{Fate, Step};
use super::signal::{Pid, Signal};
use super::worker::{Drain, Worker};

/// The grace period of a worker that missed its boot deadline, or fell silent, where the policy sets none: it hangs,
/// so to wait for it for ever would let hanging workers pile up, one per retry. Source: this program;
/// einhyrningsins(1), `--ack-timeout`.
const HANGING_GRACE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Takes a step.
    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Exit => self.exit_after_stop(),
            Step::StopForWantOfWorkers => self.stop_for_want_of_workers(),
            Step::Decide(fate) => self.decide(fate),
            Step::CountAsAcked(worker) => self.ack(worker, AckSource::Timer),
            Step::MissBoot(worker) => self.miss_boot(worker),
            Step::Kill(worker) => self.kill(worker),
            Step::Ask(worker) => {
                self.ask(worker, self.tables.policy.graceful_signal, DrainReason::FewerWorkers);
            }
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
            Step::EndSoak => self.end_soak(),
            Step::Pass(slot) => self.pass(slot),
            Step::BecomeReady => self.become_ready(),
            Step::Revive(slot) => self.tables.pool.forgive(slot, self.now),
            Step::Fill(slot) => self.fill(slot),
            Step::Replace(slot) => self.replace(slot),
            Step::ThinOut => {
                if let Some(rollout) = self.tables.plan.rollout_mut() {
                    rollout.thin_out();
                }
            }
            Step::BeginSoak => self.begin_soak(),
            Step::FinishRollout => self.finish_rollout(),
            Step::FinishRollback => self.end_failed(Outcome::RolledBack),
            Step::BeginTurn(worker) => self.begin_turn(worker),
        }
    }

    fn exit_after_stop(&mut self) {
        if let Plan::Stopping { code, why } = &self.tables.plan {
            let (code, why) = (*code, why.clone());
            self.exit(code, &why);
        }
    }

    pub(crate) fn exit(&mut self, code: u8, why: &ExitReason) {
        self.tables.plan = Plan::Exited;
        self.tell(Notice::MasterExiting { code, why: format!("{why}") });
        self.actions.push(Action::Exit { code });
    }

    fn stop_for_want_of_workers(&mut self) {
        let deaths =
            self.tables.pool.slots().filter_map(|(number, slot)| {
                slot.last_death.as_ref().map(|(at, death)| (*at, number, death))
            });
        let Some((_, number, death)) = deaths.max_by_key(|(at, number, _)| (*at, *number)) else { return };
        let why = ExitReason::NoWorkerStaysUp {
            program: self.tables.policy.program.clone(),
            slot: number.0,
            death: death.clone(),
        };
        let told = format!("{why}");
        self.begin_stop(self.tables.policy.graceful_signal, told, Some((1, why)));
    }

    fn decide(&mut self, fate: Fate) {
        let Some(loss) = self.tables.pool.take_loss() else { return };
        let wait_ms = |at: Moment| milliseconds(at - self.now);
        let next = match fate {
            Fate::Succeeded => NextStep::Succeeded,
            Fate::Wait { at, .. } => NextStep::Respawn(wait_ms(at)),
            Fate::GiveUp { .. } => NextStep::GivenUp,
            Fate::FailTurn { at } => NextStep::RetrySuccessor(wait_ms(at)),
            Fate::Retry { at } | Fate::FailRollback { at } => NextStep::Retry(wait_ms(at)),
            Fate::TurnBack { tries: None } => NextStep::SoakFails,
            Fate::TurnBack { tries: Some(_) } => NextStep::UpgradeFails,
            Fate::GiveBack => NextStep::RespawnPrevious,
        };
        let (slot, death) = (loss.slot, loss.death.clone());
        self.tell(Notice::Died {
            slot: slot.0,
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
            Fate::Retry { at } => self.retry(&loss, at),
            Fate::TurnBack { tries } => {
                self.note_death(&loss);
                self.turn_back(UpgradeFailure::Slot { slot: slot.0, death, tries });
            }
            Fate::GiveBack => {
                if let Some(from) = self.tables.plan.rollout().map(super::plan::Rollout::from) {
                    self.tables.pool.reassign(slot, from, self.now);
                }
            }
            Fate::FailRollback { at } => {
                self.retry(&loss, at);
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

    fn miss_boot(&mut self, id: WorkerId) {
        let grace = self.tables.policy.grace.unwrap_or(HANGING_GRACE);
        let signal = self.tables.policy.graceful_signal;
        let drain = Drain::asked(self.now, signal, Some(self.now + grace));
        self.tables.pool.hangs(id, self.now, MISSED_BOOT_DEADLINE.into(), drain);
        self.signal_draining(id, DrainReason::MissedBootDeadline);
    }

    fn kill(&mut self, id: WorkerId) {
        let Some(worker) = self.tables.pool.worker(id) else { return };
        let (slot, generation) = (worker.slot.0, worker.generation.0);
        let (Some(drain), Some(pid)) = (worker.drain(), worker.pid) else { return };
        let Some(killed) = drain.escalate(Signal::SIGKILL) else { return };
        self.tables.pool.drain(id, killed);
        self.actions.push(Action::Signal { pid, signal: Signal::SIGKILL });
        self.tell(Notice::Escalated {
            slot,
            pid: pid.as_raw(),
            generation,
            signal: Signal::SIGKILL.as_str().into(),
            after_ms: milliseconds(self.now - drain.since),
        });
    }

    /// Asks a worker to stop, as soon as it has a pid. Once it is draining, calling again changes nothing.
    pub(crate) fn cull(&mut self, id: WorkerId, why: DrainReason) {
        let silent = self.tables.recycling.is_silent(id).then_some(HANGING_GRACE);
        self.drain(id, self.tables.policy.graceful_signal, self.tables.policy.grace.or(silent), why);
    }

    /// The same, with this signal and grace period.
    pub(crate) fn drain(&mut self, id: WorkerId, signal: Signal, grace: Option<Duration>, why: DrainReason) {
        let Some(worker) = self.tables.pool.worker(id).filter(|worker| worker.is_undrained()) else { return };
        let kill_at = grace.filter(|_| worker.pid.is_some()).map(|grace| self.now + grace);
        self.tables.pool.drain(id, Drain::asked(self.now, signal, kill_at));
        self.signal_draining(id, why);
    }

    /// Asks a worker to stop that drains and was not asked yet; of any other nothing changes.
    pub(crate) fn ask(&mut self, id: WorkerId, signal: Signal, why: DrainReason) {
        let drain = self.tables.pool.worker(id).and_then(Worker::drain);
        if drain.is_some_and(|drain| !drain.is_asked()) {
            let kill_at = self.tables.policy.grace.map(|grace| self.now + grace);
            self.tables.pool.drain(id, Drain::asked(self.now, signal, kill_at));
            self.signal_draining(id, why);
        }
    }

    /// Sends its first signal to a worker whose state says already that it has it; without a pid it gets it with that.
    fn signal_draining(&mut self, id: WorkerId, why: DrainReason) {
        let Some(worker) = self.tables.pool.worker(id) else { return };
        let (Some(drain), Some(pid)) = (worker.drain(), worker.pid) else { return };
        let notice = Notice::Draining {
            slot: worker.slot.0,
            pid: pid.as_raw(),
            generation: worker.generation.0,
            signal: drain.signal.as_str().into(),
            why: format!("{why}"),
        };
        self.actions.push(Action::Signal { pid, signal: drain.signal });
        self.tell(notice);
    }

    pub(crate) fn pass(&mut self, slot: SlotNumber) {
        if self.tables.recycling.is_succeeding(slot) {
            self.tables.recycling.succeeded();
        }
        let Some((successor, old)) = self.tables.pool.pass(slot) else { return };
        if let Some(worker) = self.tables.pool.worker(successor) {
            let (pid, generation) = (worker.pid.map_or(0, Pid::as_raw), worker.generation.0);
            self.cull(old, DrainReason::Succeeded { pid, generation });
        }
    }

    fn become_ready(&mut self) {
        self.tables.was_ready = true;
        self.tell(Notice::Ready {
            workers: self.tables.wanted(),
            generation: self.tables.releases.serving().0,
            after_ms: self.tables.started_at.map_or(0, |started| milliseconds(self.now - started)),
        });
    }

    fn fill(&mut self, slot: SlotNumber) {
        let Some(worker) = self.tables.pool.fill(slot, self.now) else { return };
        let spawn = spawn_of(worker);
        let generation = worker.generation;
        if let Some(rollout) = self.tables.plan.rollout_mut().filter(|rollout| rollout.to() == generation) {
            rollout.tries(slot);
        }
        self.actions.push(spawn);
    }

    fn replace(&mut self, slot: SlotNumber) {
        let Some(rollout) = self.tables.plan.rollout_mut() else { return };
        let target = rollout.target();
        match self.tables.pool.add_successor(slot, target, self.now) {
            Some(worker) => {
                rollout.tries(slot);
                self.actions.push(spawn_of(worker));
            }
            None => self.tables.pool.reassign(slot, target, self.now),
        }
    }

    fn begin_turn(&mut self, id: WorkerId) {
        let Some(worker) = self.tables.pool.worker(id) else { return };
        let (slot, pid, generation) = (worker.slot, worker.pid.map_or(0, Pid::as_raw), worker.generation);
        let Some(reason) = self.tables.recycling.begin_turn(id, slot) else { return };
        self.tell(Notice::Recycling { slot: slot.0, pid, generation: generation.0, reason });
        if let Some(successor) = self.tables.pool.add_successor(slot, generation, self.now) {
            self.actions.push(spawn_of(successor));
        }
    }
}

fn spawn_of(worker: &Worker) -> Action {
    let Worker { id, slot, index, generation, .. } = worker;
    Action::Spawn { worker: *id, slot: *slot, index: *index, generation: *generation }
}
