//! The file of the history (`--history FILE`): it is read at the start, and a job appends to it.
//!
//! Lines wait here, a bounded number of them, while the job runs. The next job takes all of them.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::mem::take;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use einhorn_proto::{PastRollout, Termination};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::append::OPTION;
use super::{History, ROLLOUTS_MAX};
use crate::logging::Log;
use crate::master::jobs::{JobKey, Outcome, OwnJob};

/// Lines that wait. Source: this program; the history in memory has no more.
const WAITING_MAX: usize = ROLLOUTS_MAX;

/// How long the job may take. Source: this program; einhyrningsins(1), HISTORY OF ROLLOUTS.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of the end of the file is read. The longest line has some 3 KiB, and the file 200 lines.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// The program that runs, which may be no longer at its path.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The file, and what is not in it yet.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct HistoryFile {
    /// Absolute. Text, because it is a word of a command.
    path: Option<String>,
    waiting: VecDeque<String>,
}

impl HistoryFile {
    pub(crate) fn new(path: Option<String>) -> Self {
        Self { path, waiting: VecDeque::new() }
    }

    /// The history that is in the file. One that cannot be read is a warning.
    pub(crate) fn read(&self, log: &mut Log) -> History {
        let read = |path: &String| {
            read(Path::new(path)).unwrap_or_else(|error| {
                log.warn(format_args!("cannot read the history file {path} (--history): {error:#}"));
                History::default()
            })
        };
        self.path.as_ref().map(read).unwrap_or_default()
    }

    /// Has the last rollout of `history` written.
    pub(in crate::master) fn add_last_of(&mut self, history: &History, log: &mut Log) {
        let Some(rollout) = history.0.back().filter(|_| self.path.is_some()) else { return };
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
            self.warn("it does not answer, and a rollout is not written to it", log);
        }
        self.waiting.extend(serde_json::to_string(rollout).map(|line| line + "\n"));
    }

    /// The job that writes what waits, if something does.
    pub(in crate::master) fn next(&mut self) -> Option<OwnJob> {
        let path = self.path.as_ref().filter(|_| !self.waiting.is_empty())?;
        Some(OwnJob {
            key: JobKey::History,
            command: format!("{OWN_PROGRAM} {OPTION} {}", shell_words::quote(path)),
            stdin: take(&mut self.waiting).into_iter().collect::<String>().into_bytes(),
            timeout: TIMEOUT,
            env: Vec::new(),
        })
    }

    /// The job has ended.
    pub(in crate::master) fn on_ended(&self, outcome: &Outcome, output: &[String], log: &mut Log) {
        match (outcome, output.last()) {
            (Outcome::Succeeded, _) => {}
            (Outcome::Failed(Termination::Exited(_)), Some(line)) => {
                self.warn(line.strip_prefix("einhyrningsins: ").unwrap_or(line), log);
            }
            _ => self.warn(outcome, log),
        }
    }

    /// The job cannot run, or has failed.
    pub(in crate::master) fn warn(&self, why: impl Display, log: &mut Log) {
        let path = self.path.as_deref().unwrap_or_default();
        log.warn(format_args!("the history file {path} (--history) may lack a rollout: {why}"));
    }
}

fn read(path: &Path) -> anyhow::Result<History> {
    // As the job opens it, which may not be able to; but it must be there, and keeps nobody waiting.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = match OpenOptions::new().read(true).append(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(History::default()),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!("it is not a file");
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(READ_BYTES_MAX)))?;
    file.take(READ_BYTES_MAX).read_to_end(&mut text)?;
    // A line that a crash has cut is none, nor is one in whose middle the end of the file begins.
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut rollouts: VecDeque<PastRollout> = lines.collect();
    rollouts.drain(..rollouts.len().saturating_sub(ROLLOUTS_MAX));
    Ok(History(rollouts))
}
