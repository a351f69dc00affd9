//! Jobs: short programs that the master runs beside the pool, such as the check of a release.
//!
//! A job is spawned by the code that spawns workers, in a process group of its own, and holds no descriptor of the master
//! (`launch.rs`). Its standard input is a sealed file, its output one pipe, of which the end is kept (`output.rs`). It ends
//! with its leader or with its time. Then its whole group is killed and the pipe is closed, whoever still holds it.
//! Nothing waits for a job.
//!
//! Groups are signalled by their number. It belongs to nobody else before the leader is reaped, and is not used afterwards.

mod launch;
mod output;
mod owners;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use einhorn_proto::{Seconds, Termination};
use einhyrningsins_supervisor::{Generation, Moment};
use mio::Registry;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::history;
use super::parts::Part;
use super::ready::Ready;
use crate::forms::{self, milliseconds};
use crate::logging::Log;
use crate::sys::group::signal_led_by;
use crate::sys::reap::is_child;
use crate::sys::spawn::Spawner;
use crate::workers::{Workers, pipe_for_reading};

pub(super) use launch::StartError;
pub(super) use output::Written;
use output::{KEPT_BYTES_MAX, Output};

/// Jobs at a time. One that was killed counts until it is reaped: the kernel cannot end a process that waits for a dead file
/// server. Another one is refused, because only its owner knows whether it can wait. The owners of jobs other than checks
/// start one at a time, so a check does not wait for them.
const JOBS_MAX: usize = 4;

/// Whose a job is. No two have the same key at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum JobKey {
    /// The check with this number of the core's.
    Check(u64),
    /// The command of `--on-event`.
    Hook,
    /// The reader or writer of `--history`.
    History,
}

impl JobKey {
    /// How much of its output is kept.
    fn kept_bytes_max(self) -> usize {
        match self {
            Self::Check(_) | Self::Hook => KEPT_BYTES_MAX,
            Self::History => history::WRITTEN_BYTES_MAX,
        }
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(id) => write!(f, "check {id}"),
            Self::Hook => f.write_str("the hook"),
            Self::History => f.write_str("the reader or writer of the history"),
        }
    }
}

/// The user, directory and environment of a job.
#[derive(Debug, Clone, Copy)]
pub(super) enum RunsAs {
    /// As a worker of this generation: its user, directory, environment and limits.
    Worker(Generation),
    /// As the master.
    Master,
}

/// What to run.
#[derive(Debug)]
pub(super) struct JobSpec<'a> {
    pub(super) key: JobKey,
    /// Split as a shell does, and executed without one.
    pub(super) command: &'a str,
    /// What it can read from its standard input.
    pub(super) stdin: &'a [u8],
    pub(super) timeout: Duration,
    pub(super) runs_as: RunsAs,
    /// Variables that it gets in addition, or instead of those of the same name.
    pub(super) env: &'a [(String, String)],
}

/// A job of the master's own, which runs as the master.
#[derive(Debug)]
pub(super) struct OwnJob {
    pub(super) key: JobKey,
    pub(super) command: String,
    pub(super) stdin: Vec<u8>,
    pub(super) timeout: Duration,
    pub(super) env: Vec<(String, String)>,
}

impl OwnJob {
    pub(super) fn spec(&self) -> JobSpec<'_> {
        let Self { key, command, stdin, timeout, env } = self;
        JobSpec { key: *key, command, stdin, timeout: *timeout, runs_as: RunsAs::Master, env }
    }
}

/// A job that has ended by itself or was out of time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) key: JobKey,
    pub(super) outcome: Outcome,
    pub(super) output: Written,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It exited with status 0.
    Succeeded,
    Failed(Termination),
    /// It had not ended after this time.
    TimedOut(Duration),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Failed(termination) => termination.fmt(f),
            Self::TimedOut(timeout) => write!(f, "did not end within {}", Seconds(milliseconds(*timeout))),
        }
    }
}

/// All jobs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Jobs {
    running: Vec<Job>,
    /// Jobs that were ended, until their leaders are reaped.
    #[serde(default)]
    killed: Vec<Killed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Killed {
    key: JobKey,
    #[serde(with = "forms::written")]
    leader: Pid,
}

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    key: JobKey,
    #[serde(with = "forms::written")]
    leader: Pid,
    output: Output,
    timeout: Duration,
    end_by: Moment,
    /// The number of its group may be another's. It is buried in the same round.
    #[serde(skip)]
    is_reaped: bool,
}

impl Jobs {
    /// Starts a job and returns the pid of its leader.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub(super) fn start(
        &mut self,
        now: Moment,
        spawner: &mut Spawner,
        registry: &Registry,
        workers: &Workers,
        spec: &JobSpec<'_>,
    ) -> Result<Pid, StartError> {
        if self.running.len() + self.killed.len() >= JOBS_MAX {
            return Err(StartError::TooMany);
        }
        let (pipe, theirs) = pipe_for_reading().map_err(|errno| StartError::Output(errno.into()))?;
        let output = Output::new(pipe, spec.key.kept_bytes_max());
        output.register(registry).map_err(StartError::Output)?;
        let leader = launch::launch(spawner, workers, spec, theirs.as_fd())?;
        let (key, timeout) = (spec.key, spec.timeout);
        self.running.push(Job { key, leader, output, timeout, end_by: now + timeout, is_reaped: false });
        Ok(leader)
    }

    /// Starts a job that outlives the master. Nobody reads its output.
    pub(super) fn start_last(
        spawner: &mut Spawner,
        workers: &Workers,
        job: &OwnJob,
    ) -> Result<(), StartError> {
        let nowhere = File::options().write(true).open("/dev/null").map_err(StartError::Output)?;
        launch::launch(spawner, workers, &job.spec(), nowhere.as_fd()).map(drop)
    }

    /// Whether a job may start of an owner who has one at a time. One that was killed counts until it is gone.
    pub(super) fn has_room_for(&self, key: JobKey) -> bool {
        let killed = self.killed.iter().map(|killed| killed.key);
        let mut keys = self.running.iter().map(|job| job.key).chain(killed);
        self.running.len() + self.killed.len() < JOBS_MAX && keys.all(|other| other != key)
    }

    /// Reads what jobs have written, a bounded amount of each, and ends those whose time is over.
    pub(super) fn turn(&mut self, now: Moment, ready: &mut Ready, log: &mut Log) -> Vec<Ended> {
        if std::mem::take(&mut ready.jobs) {
            for job in &mut self.running {
                ready.jobs |= job.output.read_some();
            }
        }
        let late: Vec<_> = self.running.extract_if(.., |job| !job.is_reaped && job.end_by <= now).collect();
        let end = |job: Job| {
            self.kill(&job, log);
            let outcome = Outcome::TimedOut(job.timeout);
            job.ended(outcome)
        };
        late.into_iter().map(end).collect()
    }

    /// Ends a job, of which nothing more is heard. It may have ended already.
    pub(super) fn end(&mut self, key: JobKey, log: &mut Log) {
        let ended: Vec<_> = self.running.extract_if(.., |job| job.key == key).collect();
        for job in ended {
            self.kill(&job, log);
        }
    }

    /// The master ends: no check outlives it.
    pub(super) fn end_checks(&mut self, log: &mut Log) {
        let keys: Vec<_> = self.running.iter().map(|job| job.key).collect();
        for key in keys {
            match key {
                JobKey::Check(_) => self.end(key, log),
                JobKey::Hook | JobKey::History => {}
            }
        }
    }

    fn kill(&mut self, job: &Job, log: &mut Log) {
        let (key, leader) = (job.key, job.leader);
        self.killed.push(Killed { key, leader });
        if job.is_reaped {
            return;
        }
        let _ = signal_led_by(leader, Some(Signal::SIGKILL));
        // It may have joined another group.
        if let Err(errno) = kill(leader, Signal::SIGKILL) {
            log.warn(format_args!("cannot kill {key} (process {leader}): {}", io::Error::from(errno)));
        }
    }

    /// A child has ended and is about to be reaped. Returns whether it leads a job, whose group is killed.
    pub(super) fn before_reap(&mut self, child: Pid) -> bool {
        let Some(job) = self.running.iter_mut().find(|job| job.leader == child) else {
            return self.was_killed(child);
        };
        // The kernel refuses this if every process left in the group belongs to another user.
        let _ = signal_led_by(child, Some(Signal::SIGKILL));
        job.is_reaped = true;
        true
    }

    /// Whether `child` leads a job, or led one that was ended.
    pub(super) fn has(&self, child: Pid) -> bool {
        self.running.iter().any(|job| job.leader == child) || self.was_killed(child)
    }

    fn was_killed(&self, leader: Pid) -> bool {
        self.killed.iter().any(|killed| killed.leader == leader)
    }

    /// The leader of a job was reaped. `None` for one that was ended before.
    pub(super) fn on_reaped(&mut self, leader: Pid, termination: Termination) -> Option<Ended> {
        self.killed.retain(|killed| killed.leader != leader);
        let job = self.running.extract_if(.., |job| job.leader == leader).next()?;
        Some(job.ended(match termination {
            Termination::Exited(0) => Outcome::Succeeded,
            other => Outcome::Failed(other),
        }))
    }

    /// Leaders that another program reaped while it ran between two images. What is left of their groups stays.
    pub(super) fn find_unseen(&mut self) -> Vec<Pid> {
        let killed = self.killed.iter().map(|killed| killed.leader);
        let leaders = self.running.iter().map(|job| job.leader).chain(killed);
        let gone: Vec<_> = leaders.filter(|leader| !is_child(*leader)).collect();
        for job in self.running.iter_mut().filter(|job| gone.contains(&job.leader)) {
            job.is_reaped = true;
        }
        gone
    }

    /// Postpones deadlines by a time in which nobody ran.
    pub(super) fn on_time_lost(&mut self, lost: Duration) {
        for job in &mut self.running {
            job.end_by += lost;
        }
    }

    /// Whether a job runs whose outcome somebody waits for.
    pub(super) fn are_any_running(&self) -> bool {
        !self.running.is_empty()
    }
}

impl Part for Jobs {
    fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        let mut outputs = self.running.iter().map(|job| &job.output);
        outputs.try_for_each(|output| output.register(registry)).context("cannot wait for the output of jobs")
    }

    fn deadline(&self) -> Option<Instant> {
        self.running.iter().map(|job| job.end_by).min().map(forms::instant)
    }
}

impl Job {
    fn ended(self, outcome: Outcome) -> Ended {
        Ended { key: self.key, outcome, output: self.output.finish() }
    }
}
