//! The checks of canaries: a command runs at once when the soak begins, and then again some time after each end, until the
//! soak is over or the command has failed too often. A check that runs when the time of the soak is over still counts.

use alloc::string::String;
use alloc::vec::Vec;

use einhorn_proto::{Ignored, Notice, UpgradeFailure};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{Action, JobId, JobOutcome, SoakCheck, Subject};
use super::moment::Moment;
use super::plan::Rollout;
use super::policy::Check;
use super::signal::Pid;

/// How the checks of a soak go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checking {
    progress: Progress,
    /// How many have failed.
    failures: u32,
}

/// What is to happen next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    /// The next check begins at this time.
    Due(Moment),
    /// A check runs.
    Running(JobId),
    /// Too many have failed.
    Failed(UpgradeFailure),
}

impl Checking {
    /// The first one is due at `now`.
    pub(crate) fn new(now: Moment) -> Self {
        Self { progress: Progress::Due(now), failures: 0 }
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    #[cfg(test)]
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next one begins, if none runs.
    pub(crate) fn due(&self) -> Option<Moment> {
        match self.progress {
            Progress::Due(at) => Some(at),
            Progress::Running(_) | Progress::Failed(_) => None,
        }
    }

    /// The one that runs.
    pub(crate) fn job(&self) -> Option<JobId> {
        match self.progress {
            Progress::Running(job) => Some(job),
            Progress::Due(_) | Progress::Failed(_) => None,
        }
    }

    /// The one that ran has ended, and the next one is due at `next`.
    fn ended(&mut self, outcome: JobOutcome, failures_max: u32, next: Moment) -> Option<(u32, String)> {
        self.progress = Progress::Due(next);
        let JobOutcome::Failed { reason, output } = outcome else { return None };
        self.failures += 1;
        let failures = self.failures;
        if failures >= failures_max {
            self.progress = Progress::Failed(UpgradeFailure::Canaries { failures, reason, output });
            return None;
        }
        Some((failures, reason))
    }
}

impl Supervisor {
    /// A job has ended that no trial waits for.
    pub(crate) fn on_soak_check_ended(&mut self, job: JobId, outcome: JobOutcome) {
        let now = self.now;
        let rollout = self.tables.plan.rollout_mut().filter(|rollout| rollout.soak_job() == Some(job));
        let Some(rollout) = rollout else { return self.ignore(&Ignored::Job { job: job.0 }) };
        let Some(SoakCheck { every, failures_max, .. }) = rollout.soak_check().cloned() else { return };
        let generation = rollout.to().0;
        let checking = rollout.soak_checking_mut();
        let failed = checking.and_then(|checking| checking.ended(outcome, failures_max, now + every));
        if let Some((failures, reason)) = failed {
            self.tell(Notice::CanaryCheckFailed { generation, failures, failures_max, reason });
        }
    }

    /// A check of the canaries begins.
    pub(crate) fn check_canaries(&mut self) {
        let timeout = self.tables.policy.check_timeout;
        let job = self.tables.next_job();
        let Some(rollout) = self.tables.plan.rollout_mut() else { return };
        let Some(SoakCheck { command, .. }) = rollout.soak_check().cloned() else { return };
        let generation = rollout.to();
        if let Some(checking) = rollout.soak_checking_mut() {
            checking.progress = Progress::Running(job);
        }
        let (mut canaries, mut baseline) = (Vec::<Pid>::new(), Vec::new());
        for worker in self.tables.pool.workers().filter(|worker| worker.is_up()) {
            let pids = if worker.generation == generation { &mut canaries } else { &mut baseline };
            pids.extend(worker.pid);
        }
        let (subject, check) = (Subject::Canaries { canaries, baseline }, Check { command, timeout });
        self.actions.push(Action::Check { job, subject, generation, check });
    }

    /// The canaries have failed: the upgrade goes back.
    pub(crate) fn fail_soak(&mut self) {
        let checking = self.tables.plan.rollout().and_then(Rollout::soak_checking);
        if let Some(Checking { progress: Progress::Failed(failure), .. }) = checking {
            self.turn_back(failure.clone());
        }
    }
}
