//! What the pool is held to, and what of that changes while the master runs.

use alloc::string::String;
use core::time::Duration;

use super::Signal;
use super::tables::is_default;
use serde::{Deserialize, Serialize};

/// What the pool is held to, until a [`PolicyChange`] says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// What the workers run, for messages.
    pub program: String,
    /// Workers at start, whatever became of their number; at least 1 and at most [`einhorn_proto::WORKERS_MAX`].
    pub workers: u32,
    /// The shortest time between two spawns of one slot, and the base of the backoff.
    pub seconds: Duration,
    /// When a worker is taken as up.
    pub ack: AckMode,
    /// How often a slot is tried before it is given up.
    pub retries: Retries,
    /// Unacked workers at a time, outside of the first start; at least 1.
    pub unacked_max: u32,
    /// The number of CPUs for workers, where what boots use decides how many of those may start at a time, up to
    /// `unacked_max`; `None` where that is always the number.
    #[serde(default)]
    pub unacked_by_cpus: Option<u32>,
    /// How many workers an upgrade may have above the number asked for; at least 1. `None` for no bound but
    /// `unacked_max`.
    pub upgrade_additional_max: Option<u32>,
    /// The signal that asks a worker to stop; `None` for its own convention.
    pub graceful_signal: Option<Signal>,
    /// How long a worker has to stop before SIGKILL; `None` for ever.
    pub grace: Option<Duration>,
    /// Whether a worker's stop signal and SIGKILL go to its whole process group, and a stop waits for what is left of that.
    #[serde(default)]
    pub stop_group: bool,
    /// After which time a worker that drains is worth a warning; `None` for never.
    #[serde(default)]
    pub drain_warning: Option<Duration>,
    /// How long the report of a rollout waits for the workers that it replaced.
    #[serde(default)]
    pub report_wait: Duration,
    /// How long a worker whose slot is taken away goes on before it is asked to stop; `None` if it is asked at once.
    /// Where slots have sockets of their own, connections may still be on their way to it.
    #[serde(default)]
    pub shrink_grace: Option<Duration>,
    /// Whether an upgrade that is asked for while one runs takes its place, as in einhorn, or is refused.
    pub upgrade_restarts: bool,
    /// When a worker that serves is replaced.
    #[serde(default)]
    pub recycling: RecyclingLimits,
    /// The command that checks a release before an upgrade replaces the first worker; `None` if nothing does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub check: Option<String>,
    /// How long a check may take.
    #[serde(default = "check_timeout")]
    pub check_timeout: Duration,
    /// Whether the release of the first start is checked, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub checks_first: bool,
}

/// How long a check may take where nothing else is asked for. Source: this program; einhyrningsins(1), `--check-timeout`.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

fn check_timeout() -> Duration {
    CHECK_TIMEOUT
}

/// One check of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The command; the shell knows how to run it.
    pub command: String,
    /// How long it may take. It has failed then.
    pub timeout: Duration,
}

/// Spawns of one slot in a row without an ack, before it is given up; each at least 1, and `None` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Of a release that has never been up, outside of an upgrade.
    pub unproven: Option<u32>,
    /// Of the release that an upgrade brings. It has a limit always: an upgrade must come to an end.
    pub upgrade: u32,
    /// Of a release that has been up.
    pub proven: Option<u32>,
}

impl Retries {
    /// Where nothing else is asked for. Source: this program; einhyrningsins(1), `--retries`.
    pub const DEFAULT: Self = Self { unproven: Some(3), upgrade: 3, proven: None };

    /// The same number, at least 1, whatever is known of the release.
    #[must_use]
    pub fn always(tries: u32) -> Self {
        Self { unproven: Some(tries), upgrade: tries, proven: Some(tries) }
    }
}

/// When a worker is taken as up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// When it has lived this long, or says so earlier.
    Timer(Duration),
    /// When it says so, before the deadline; `None` for no deadline.
    Manual(Option<Duration>),
}

impl AckMode {
    /// The mode as `--ack-mode` has it, and its time in seconds.
    #[must_use]
    pub fn in_words(self) -> (&'static str, Option<f64>) {
        match self {
            Self::Timer(after) => ("timer", Some(after.as_secs_f64())),
            Self::Manual(deadline) => ("manual", deadline.map(|deadline| deadline.as_secs_f64())),
        }
    }
}

/// When a worker that serves is replaced. What is `None` is not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecyclingLimits {
    /// When it has been up for so long.
    pub max_age: Option<MaxAge>,
    /// When it holds more memory than this, in bytes.
    pub max_rss_bytes: Option<u64>,
    /// When it has said that it is well, and then not again for so long.
    pub ping_timeout: Option<Duration>,
}

/// How old a worker may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxAge {
    /// At the least, from its ack.
    pub age: Duration,
    /// By how much more at the most; each worker has its own share of it.
    pub jitter: Duration,
    /// Makes the shares of one master others than those of another.
    pub seed: u64,
}

/// Part of the [`Policy`], as it is to be from now on; `None` leaves something as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyChange {
    /// The number of workers; at least 1.
    pub workers: Option<u32>,
    /// The shortest time between two spawns of one slot; not zero. What waits already goes on to wait as long.
    pub seconds: Option<Duration>,
    /// How many unacked workers there may be at a time; at least 1. Those that are starting go on.
    pub unacked_max: Option<u32>,
    /// As [`Policy::unacked_by_cpus`]; it changes together with `unacked_max`.
    pub unacked_by_cpus: Option<u32>,
    /// How many workers an upgrade may have above the number asked for; at least 1. Those that live go on.
    pub upgrade_additional_max: Option<u32>,
    /// How long a worker has to stop, counted from when it was asked; not zero. Holds for those that were asked
    /// already.
    pub grace: Option<Duration>,
}
