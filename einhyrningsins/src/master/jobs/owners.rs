//! The owners of jobs: the core, for checks; the hook; and the history. Each hears how its own have ended.

use einhyrningsins_supervisor::{Check, Event, Generation, JobId, JobOutcome, Subject};

use super::{Ended, JobKey, JobSpec, Jobs, Outcome, OwnJob, RunsAs, StartError};
use crate::forms;
use crate::master::{Master, Parts};
use crate::sys::peer::SinceBoot;

/// How many of the last lines of a check that has failed are logged. Source: this program.
const CHECK_LINES_LOGGED: usize = 10;

impl Master {
    /// Starts a job. While children are unburied it would be taken for one of them if it got the same pid.
    fn start_job(&mut self, spec: &JobSpec<'_>) -> Result<(), StartError> {
        let before = SinceBoot::now();
        let Parts { jobs, workers, .. } = &mut self.parts;
        let leader = jobs.start(forms::now(), &mut self.spawner, self.poll.registry(), workers, spec)?;
        if self.children.on_spawned(leader, before) {
            self.forget_actions_for(leader);
        }
        Ok(())
    }

    /// Starts jobs of the master's own that wait for the one before them.
    pub(in crate::master) fn start_waiting_jobs(&mut self) {
        while let Some(job) = self.parts.next_own_job() {
            if let Err(error) = self.start_job(&job.spec()) {
                self.parts.on_own_job_failed(job.key, &error);
            }
        }
    }

    /// The master ends, and waits for nobody.
    pub(in crate::master) fn start_last_jobs(&mut self) {
        let Parts { hooks, history_file, control, log, .. } = &mut self.parts;
        let hook = hooks.last(control.settings().name.as_deref(), log);
        for job in history_file.last().into_iter().chain(hook) {
            if let Err(error) = Jobs::start_last(&mut self.spawner, &self.parts.workers, &job) {
                self.parts.on_own_job_failed(job.key, &error);
            }
        }
    }

    pub(in crate::master) fn on_job_ended(&mut self, ended: Ended) {
        let Ended { key, outcome, output } = ended;
        match key {
            JobKey::Check(job) => self.on_check_ended(JobId(job), &outcome, output.lines()),
            JobKey::Hook => self.parts.hooks.on_ended(&outcome, &output.lines(), &mut self.parts.log),
            JobKey::History => {
                let Parts { history_file, history, log, .. } = &mut self.parts;
                history_file.on_ended(&outcome, &output, history, log);
            }
        }
    }

    fn on_check_ended(&mut self, job: JobId, outcome: &Outcome, output: Vec<String>) {
        let mut stranger = || self.parts.core.is_trying().then(|| self.parts.stranger()).flatten();
        let outcome = match outcome {
            Outcome::Succeeded => match stranger() {
                Some(reason) => JobOutcome::Failed { reason, output },
                None => JobOutcome::Passed,
            },
            Outcome::TimedOut(_) => {
                JobOutcome::Failed { reason: format!("{outcome} (--check-timeout)"), output }
            }
            Outcome::Failed(_) => JobOutcome::Failed { reason: outcome.to_string(), output },
        };
        if let JobOutcome::Failed { output, .. } = &outcome {
            // After a hangup the log is the only place where anybody sees it.
            for line in &output[output.len().saturating_sub(CHECK_LINES_LOGGED)..] {
                self.parts.log.warn(format_args!("the check wrote: {line}"));
            }
        }
        // What the trial worker has written belongs to the reason.
        self.parts.captures.news().into_iter().for_each(|event| self.feed(event));
        self.feed(Event::JobEnded { job, outcome });
    }

    /// Runs the command of a check. Returns how it has ended, if that is known already.
    pub(in crate::master) fn check(
        &mut self,
        job: JobId,
        subject: &Subject,
        generation: Generation,
        check: &Check,
    ) -> Option<Event> {
        let failed = |reason| {
            let outcome = JobOutcome::Failed { reason, output: Vec::new() };
            Some(Event::JobEnded { job, outcome })
        };
        if let Subject::Trial(_) = subject
            && let Some(reason) = self.parts.stranger()
        {
            return failed(reason);
        }
        let env = self.parts.trial.variables(subject, generation);
        let started = self.start_job(&JobSpec {
            key: JobKey::Check(job.0),
            command: &check.command,
            stdin: &[],
            timeout: check.timeout,
            runs_as: RunsAs::Worker(generation),
            env: &env,
        });
        failed(format!("cannot run it: {}", started.err()?))
    }
}

impl Parts {
    /// The next job of the master's own that may start.
    fn next_own_job(&mut self) -> Option<OwnJob> {
        let Self { jobs, history_file, hooks, control, .. } = self;
        let writer = if jobs.has_room_for(JobKey::History) { history_file.next() } else { None };
        let name = control.settings().name.as_deref();
        writer.or_else(|| jobs.has_room_for(JobKey::Hook).then(|| hooks.next(name)).flatten())
    }

    fn on_own_job_failed(&mut self, key: JobKey, error: &StartError) {
        match key {
            JobKey::Check(_) => {}
            JobKey::Hook => self.hooks.on_failed(error, &[], &mut self.log),
            JobKey::History => self.history_file.on_failed(error, &mut self.log),
        }
    }

    /// Why the check of a release fails, if its worker has bound an address of the pool by itself.
    fn stranger(&mut self) -> Option<String> {
        let Self { trial, listeners, log, .. } = self;
        trial.stranger(listeners, log)
    }
}
