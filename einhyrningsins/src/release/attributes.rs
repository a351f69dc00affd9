//! What the workers of a release are made with, apart from program, directory, environment and user.

use einhyrningsins_supervisor::SlotNumber;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::ProcessOptions;
use crate::forms;

/// Options that the workers of a release keep, whatever those of the next release have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// The nice value, from -20 to 19; `None` for the master's.
    pub nice: Option<i32>,
    /// The signal that a worker gets when the master dies.
    #[serde(with = "forms::written")]
    pub parent_death_signal: Option<Signal>,
    /// Whether a worker gets a connection to the control socket (`-g`).
    pub control_as_fd: bool,
    /// Whether a worker's standard error is a pipe to the master (`--capture-startup`).
    pub capture_startup: bool,
    /// Where a worker's standard output and error lead.
    #[serde(default)]
    pub log: WorkerLog,
    /// Other attributes of a worker's process.
    #[serde(default)]
    pub process: ProcessOptions,
}

/// Where workers write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerLog {
    /// To the master's standard output and error.
    #[default]
    Inherit,
    /// To journald, under this name.
    Journal(String),
}

impl WorkerLog {
    /// What journald calls the worker in `slot`, or a trial worker.
    pub(crate) fn identifier(&self, slot: Option<SlotNumber>) -> Option<String> {
        match (self, slot) {
            (Self::Inherit, _) => None,
            (Self::Journal(name), Some(slot)) => Some(format!("{name}/{}", slot.0)),
            (Self::Journal(name), None) => Some(format!("{name}/trial")),
        }
    }
}
