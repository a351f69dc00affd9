//! The file of the history (`--history FILE`): a job reads it at the start, and jobs append to it, one at a time.
//!
//! Lines wait here, a bounded number of them, while a job runs. The next job takes all of them.

use std::collections::VecDeque;
use std::fmt::Display;
use std::mem::take;
use std::time::Duration;

use einhorn_proto::{PastRollout, Termination};
use serde::{Deserialize, Serialize};

use super::{History, ROLLOUTS_MAX, append, read};
use crate::logging::Log;
use crate::master::jobs::{JobKey, Outcome, OwnJob, Written};

/// Lines that wait. Source: this program; the history in memory has no more.
const WAITING_MAX: usize = ROLLOUTS_MAX;

/// How long the job may take. Source: this program; einhyrningsins(1), HISTORY OF ROLLOUTS.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The program that runs, which may be no longer at its path.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The file, and what is not in it yet.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct HistoryFile {
    /// Absolute. Text, because it is a word of a command.
    path: Option<String>,
    waiting: VecDeque<String>,
    #[serde(default)]
    reading: Reading,
}

/// How far the file has been read. Nothing is written to it before that is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reading {
    Due,
    Running,
    #[default]
    Over,
}

impl HistoryFile {
    pub(crate) fn new(path: Option<String>) -> Self {
        let reading = if path.is_some() { Reading::Due } else { Reading::Over };
        Self { path, waiting: VecDeque::new(), reading }
    }

    /// Has rollouts written to another file from now on, or to none. Returns which it was.
    pub(in crate::master) fn set_path(&mut self, path: Option<String>) -> Option<String> {
        if path.is_none() {
            self.waiting.clear();
            self.reading = Reading::Over;
        }
        std::mem::replace(&mut self.path, path)
    }

    /// Has a rollout written. A line of it that was written before counts no more.
    pub(in crate::master) fn add(&mut self, rollout: Option<&PastRollout>, log: &mut Log) {
        let Some(rollout) = rollout.filter(|_| self.path.is_some()) else { return };
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
            let path = self.path.as_deref().unwrap_or_default();
            log.warn(format_args!(
                "the history file {path} (--history) lacks a rollout: it does not answer, and too many wait"
            ));
        }
        self.waiting.extend(serde_json::to_string(rollout).map(|line| line + "\n"));
    }

    /// The job that reads the file, or the one that writes what waits.
    pub(in crate::master) fn next(&mut self) -> Option<OwnJob> {
        match self.reading {
            Reading::Due => {
                self.reading = Reading::Running;
                self.job(read::OPTION, Vec::new())
            }
            Reading::Running | Reading::Over => self.last(),
        }
    }

    /// The job that writes what waits, if something does.
    pub(in crate::master) fn last(&mut self) -> Option<OwnJob> {
        match take(&mut self.waiting) {
            waiting if waiting.is_empty() => None,
            waiting => self.job(append::OPTION, waiting.into_iter().collect::<String>().into_bytes()),
        }
    }

    fn job(&self, option: &str, stdin: Vec<u8>) -> Option<OwnJob> {
        let path = shell_words::quote(self.path.as_ref()?);
        let command = format!("{OWN_PROGRAM} {option} {path}");
        Some(OwnJob { key: JobKey::History, command, stdin, timeout: TIMEOUT, env: Vec::new() })
    }

    /// The job has ended. What it has read comes before what `history` has.
    pub(in crate::master) fn on_ended(
        &mut self,
        outcome: &Outcome,
        written: &Written,
        history: &mut History,
        log: &mut Log,
    ) {
        match (outcome, written.lines().last()) {
            (Outcome::Succeeded, _) if self.reading == Reading::Running => {
                history.add_before(read::parse(&written.bytes));
            }
            (Outcome::Succeeded, _) => {}
            (Outcome::Failed(Termination::Exited(_)), Some(line)) => {
                self.warn(line.strip_prefix("einhyrningsins: ").unwrap_or(line), log);
            }
            _ => self.warn(outcome, log),
        }
        self.reading = Reading::Over;
    }

    /// The job cannot run.
    pub(in crate::master) fn on_failed(&mut self, why: impl Display, log: &mut Log) {
        self.warn(why, log);
        self.reading = Reading::Over;
    }

    fn warn(&self, why: impl Display, log: &mut Log) {
        let path = self.path.as_deref().unwrap_or_default();
        let what = match self.reading {
            Reading::Running => "cannot be read",
            Reading::Due | Reading::Over => "may lack a rollout",
        };
        log.warn(format_args!("the history file {path} (--history) {what}: {why}"));
    }
}
