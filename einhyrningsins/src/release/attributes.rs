//! What the workers of a release are made with, apart from program, directory, environment and user.

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
    /// Other attributes of a worker's process.
    #[serde(default)]
    pub process: ProcessOptions,
}
