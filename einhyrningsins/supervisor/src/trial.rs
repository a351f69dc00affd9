//! The trial of a release: before any worker is replaced, one worker of the new release runs on private twins of the
//! sockets, and a command checks it.
//!
//! ```text
//!  Due ----------> Booting --------> Checking --------> Passed --> the rollout begins to replace workers
//!   ^  spawn          |      ack        |   the command passes
//!   |                 |                 |
//!   +-- no resources -+-----------------+--------------> Failed --> the upgrade ends, and nothing was touched
//! ```
//! The shell runs the command as a job and reports how that ended; `rules/trial.rs` names the steps. A trial worker is a
//! worker without a slot. Once its trial is over it drains like any other, except that it is killed after [`GRACE`]: it
//! serves nobody.

use alloc::string::String;
use core::time::Duration;

use einhorn_proto::{Death, DrainReason, ExitReason, NextStep, Notice, UpgradeFailure};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{Action, Generation, JobId, JobOutcome, Subject, WorkerId, shown};
use super::moment::{Moment, milliseconds};
use super::plan::{Plan, Rollout};
use super::policy::{AckMode, Check};
use super::tables::Tables;
use super::worker::Process;

/// How long a trial worker has to stop before SIGKILL, unless the policy gives less. Source: this program;
/// einhyrningsins(1), `--check`.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A release that is being tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    generation: Generation,
    check: Check,
    /// When it began.
    since: Moment,
    /// Until then, a spawn that fails for want of resources is tried again.
    spawn_by: Moment,
    progress: Progress,
}

/// How far a trial is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    /// The worker may be spawned from this time on.
    Due(Moment),
    /// The worker was spawned, or will be as soon as the shell answers, and has not been checked.
    Booting(WorkerId),
    /// The command runs.
    Checking(WorkerId, JobId),
    /// The command has passed.
    Passed(WorkerId),
    /// The command has failed, or the worker has. That may be draining, or gone.
    Failed(Option<WorkerId>, UpgradeFailure),
}

impl Trial {
    fn new(generation: Generation, check: Check, ack: AckMode, now: Moment) -> Self {
        let boot = match ack {
            AckMode::Manual(Some(deadline)) => deadline,
            AckMode::Manual(None) | AckMode::Timer(_) => check.timeout,
        };
        Self { generation, check, since: now, spawn_by: now + boot, progress: Progress::Due(now) }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    #[cfg(test)]
    pub(crate) fn spawn_by(&self) -> Moment {
        self.spawn_by
    }

    /// The worker on trial, once its spawn was asked for.
    fn worker(&self) -> Option<WorkerId> {
        match self.progress {
            Progress::Booting(worker) | Progress::Checking(worker, _) | Progress::Passed(worker) => {
                Some(worker)
            }
            Progress::Failed(worker, _) => worker,
            Progress::Due(_) => None,
        }
    }

    /// When something is to happen by itself, after `now`.
    pub(crate) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        match self.progress {
            Progress::Due(at) => Some(at).filter(|at| *at > now),
            _ => None,
        }
    }

    /// For so long nobody ran.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.spawn_by += by;
    }

    /// The worker is gone, or of no use, and does not drain because the trial is over.
    fn lost(&mut self, worker: WorkerId, death: Death) {
        self.progress = Progress::Failed(Some(worker), UpgradeFailure::Trial(death));
    }
}

// Facts.
impl Supervisor {
    /// A release is there whose workers are to be checked before they replace others.
    pub(crate) fn begin_trial(&mut self, generation: Generation, command: String) {
        self.is_held_for_upgrade = false;
        let Tables { plan, policy, .. } = &self.tables;
        let timeout = match plan.rollout() {
            Some(rollout) => rollout.options().applied_to(policy).check_timeout,
            None => policy.check_timeout,
        };
        let (check, terms) = (Check { command, timeout }, self.tables.terms(generation));
        self.tables.trial = Some(Trial::new(generation, check, terms.ack, self.now));
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            rollout.try_first(self.now);
        }
    }

    /// Whether `worker` is on trial, and nothing is known against it yet.
    pub(crate) fn is_tried(&self, worker: WorkerId) -> bool {
        let trial = self.tables.trial.as_ref().filter(|trial| trial.worker() == Some(worker));
        trial.is_some_and(|trial| !matches!(trial.progress, Progress::Failed(..)))
    }

    /// A worker on trial has died, or has missed its boot deadline.
    pub(crate) fn lose_trial(&mut self, worker: WorkerId, death: Death) {
        self.end_check_job();
        let next = NextStep::CheckFails;
        self.tell(Notice::Died {
            slot: shown(None),
            death: death.clone(),
            next_spawn_ms: next.wait_ms(),
            next: format!("{next}"),
        });
        if let Some(trial) = &mut self.tables.trial {
            trial.lost(worker, death);
        }
    }

    /// A worker on trial could not be spawned. That is tried again if only resources were missing, and time is left.
    pub(crate) fn fail_trial_spawn(&mut self, worker: WorkerId, death: Death, is_transient: bool) {
        let again = self.now + self.tables.policy.seconds;
        match &mut self.tables.trial {
            Some(trial) if is_transient && again < trial.spawn_by => {
                trial.progress = Progress::Due(again);
                let next = NextStep::Retry(milliseconds(self.tables.policy.seconds));
                self.tell(Notice::Died {
                    slot: shown(None),
                    death,
                    next_spawn_ms: next.wait_ms(),
                    next: format!("{next}"),
                });
            }
            _ => self.lose_trial(worker, death),
        }
    }

    /// A job of ours has ended.
    pub(crate) fn on_job_ended(&mut self, job: JobId, outcome: JobOutcome) {
        let now = self.now;
        if let Some(trial) = &mut self.tables.trial
            && let Progress::Checking(worker, running) = trial.progress
            && running == job
        {
            match outcome {
                JobOutcome::Passed => {
                    trial.progress = Progress::Passed(worker);
                    let (generation, took_ms) = (trial.generation.0, milliseconds(now - trial.since));
                    self.tell(Notice::CheckPassed { generation, took_ms });
                }
                JobOutcome::Failed { reason, output } => {
                    let stderr_tail = self.tables.pool.worker(worker).map(|worker| worker.last_words.clone());
                    let stderr_tail = stderr_tail.unwrap_or_default();
                    let failure = UpgradeFailure::Check { reason, output, stderr_tail };
                    trial.progress = Progress::Failed(Some(worker), failure);
                }
            }
            return;
        }
        self.on_soak_check_ended(job, outcome);
    }
}

// Steps.
impl Supervisor {
    /// The worker is spawned.
    pub(crate) fn spawn_trial(&mut self, generation: Generation) {
        let (worker, spawn) = self.tables.pool.add_trial(generation, self.now);
        if let Some(trial) = &mut self.tables.trial {
            trial.progress = Progress::Booting(worker);
        }
        self.actions.push(spawn);
    }

    /// The worker has acked, and is checked.
    pub(crate) fn begin_check(&mut self, Process { id, pid, generation, .. }: Process) {
        let job = self.tables.next_job();
        if let Some(trial) = &mut self.tables.trial {
            trial.progress = Progress::Checking(id, job);
            let check = trial.check.clone();
            let command = check.command.clone();
            self.tell(Notice::CheckStarted { generation: generation.0, pid: pid.as_raw(), command });
            self.actions.push(Action::Check { job, subject: Subject::Trial(pid), generation, check });
        }
    }

    /// The release has passed: its workers replace the others, or are the first.
    pub(crate) fn pass_trial(&mut self) {
        self.end_trial();
        if self.tables.plan.rollout().is_some() {
            self.begin_replacing();
        }
    }

    /// The release has failed: the upgrade ends, or the master does.
    pub(crate) fn fail_trial(&mut self) {
        let Some(Trial { progress: Progress::Failed(_, failure), .. }) = self.end_trial() else { return };
        match self.tables.plan {
            Plan::Rolling(_) => self.turn_back(failure),
            Plan::Steady => {
                let why = ExitReason::CheckFailed(format!("{failure}"));
                self.begin_stop(None, format!("{why}"), Some((1, why)));
            }
            Plan::Waiting | Plan::Stopping { .. } | Plan::Exited => {}
        }
    }

    /// Ends the trial, whatever came of it: its command is killed, and its worker asked to stop.
    pub(crate) fn end_trial(&mut self) -> Option<Trial> {
        let trial = self.forget_trial()?;
        let worker = trial.worker().and_then(|worker| self.tables.pool.worker(worker));
        if let Some(worker) = worker.filter(|worker| worker.is_undrained()).map(|worker| worker.id) {
            self.cull(worker, DrainReason::TrialOver);
        }
        Some(trial)
    }

    /// Ends the trial, and leaves its worker to the stop of the master.
    pub(crate) fn forget_trial(&mut self) -> Option<Trial> {
        self.end_check_job();
        self.tables.trial.take()
    }

    /// Ends the command of the check that runs, of a release or of canaries.
    pub(crate) fn end_check_job(&mut self) {
        let of_trial = match self.tables.trial {
            Some(Trial { progress: Progress::Checking(_, job), .. }) => Some(job),
            _ => None,
        };
        let of_soak = self.tables.plan.rollout().and_then(Rollout::soak_job);
        for job in of_trial.into_iter().chain(of_soak) {
            self.actions.push(Action::EndJob { job });
        }
    }
}
