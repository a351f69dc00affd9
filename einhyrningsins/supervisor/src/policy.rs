//! What the pool is held to, and what of that changes while the master runs.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem::replace;
use core::time::Duration;

use super::tables::is_default;
use super::{Signal, Supervisor};
use einhorn_proto::OptionChange;
use serde::{Deserialize, Serialize};

/// What the pool is held to, until a [`Setting`] says otherwise. Its [`Terms`] are those of the releases to come.
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
    /// The command that hears of the main events; the shell runs it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_event: Option<String>,
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
    /// How long a worker takes at most until it is up, or is lost; `None` if there is no limit.
    pub(crate) fn within(self) -> Option<Duration> {
        match self {
            Self::Timer(after) => Some(after),
            Self::Manual(deadline) => deadline,
        }
    }

    /// The mode as `--ack-mode` has it, and its time in seconds.
    #[must_use]
    pub fn in_words(self) -> (&'static str, Option<f64>) {
        match self {
            Self::Timer(after) => ("timer", Some(after.as_secs_f64())),
            Self::Manual(deadline) => ("manual", deadline.map(|deadline| deadline.as_secs_f64())),
        }
    }
}

/// How the workers of a release say that they are up, and how they are asked to stop. The program that a release brings needs
/// these, so each release keeps those that it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// As [`Policy::ack`].
    pub ack: AckMode,
    /// As [`Policy::graceful_signal`].
    pub graceful_signal: Option<Signal>,
    /// As [`Policy::stop_group`].
    pub stop_group: bool,
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

/// One option of the [`Policy`] that changes while the master runs, with its new value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The number of workers; from 1 to [`einhorn_proto::WORKERS_MAX`].
    Workers(u32),
    /// The shortest time between two spawns of one slot; not zero. A slot that waits already waits as long as it would have.
    Seconds(Duration),
    /// How often a slot is tried before it is given up.
    Retries(Retries),
    /// How many unacked workers there may be at a time. Those that are starting go on.
    Unacked {
        /// As [`Policy::unacked_max`].
        max: u32,
        /// As [`Policy::unacked_by_cpus`].
        by_cpus: Option<u32>,
    },
    /// How many workers an upgrade may have above the number asked for; at least 1. Those that live go on.
    UpgradeAdditional(Option<u32>),
    /// How long a worker has to stop, counted from when it was asked; not zero. A new time holds for those that were asked
    /// already, but "for ever" does not.
    Grace(Option<Duration>),
    /// After which time a worker that drains is worth a warning.
    DrainWarning(Option<Duration>),
    /// How long a worker whose slot is taken away goes on before it is asked to stop.
    ShrinkGrace(Option<Duration>),
    /// How old a worker may become. Holds for workers that ack from now on.
    MaxAge(Option<MaxAge>),
    /// How much memory a worker may hold, in bytes.
    MaxRss(Option<u64>),
    /// How long a worker may be silent. Holds from its next ping on.
    PingTimeout(Option<Duration>),
    /// The command that checks a release.
    Check(Option<String>),
    /// How long a check may take.
    CheckTimeout(Duration),
    /// The command that hears of the main events. Holds for those that come.
    OnEvent(Option<String>),
    /// When a worker is taken as up. Holds for the release of the upgrade, and for those that follow.
    Ack(AckMode),
    /// The signal that asks a worker to stop. The same.
    GracefulSignal(Option<Signal>),
    /// Whether that goes to its whole process group. The same.
    StopGroup(bool),
}

/// What an upgrade changes of the options. It takes effect when the first worker is replaced, and is undone if the upgrade
/// turns back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionsChange {
    /// What changes in the policy.
    pub settings: Vec<Setting>,
    /// The same for people, and what changes later.
    pub changes: Vec<OptionChange>,
}

impl OptionsChange {
    /// What `policy` will be once it has taken effect.
    pub(crate) fn applied_to(&self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        for setting in &self.settings {
            policy.set(setting.clone());
        }
        policy
    }

    /// The number of workers, where that changes.
    pub(crate) fn workers(&self) -> Option<u32> {
        self.settings.iter().find_map(|setting| match setting {
            Setting::Workers(workers) => Some(*workers),
            _ => None,
        })
    }
}

/// A setting that an upgrade has changed, and how to undo that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Undo {
    /// What the upgrade set. Where somebody has set something else since, that stays.
    set: Setting,
    before: Setting,
}

impl Undo {
    #[cfg(test)]
    pub(crate) fn before(&self) -> &Setting {
        &self.before
    }
}

impl Supervisor {
    /// Sets one option. Returns what it was.
    pub(crate) fn set(&mut self, setting: Setting) -> Setting {
        match setting {
            Setting::Workers(to) => return Setting::Workers(self.resize_to(to)),
            // Nobody looks at those that start any more.
            Setting::Unacked { by_cpus: None, .. } => self.tables.allowance.forget_moment(),
            Setting::Grace(Some(grace)) => self.restart_grace(grace),
            _ => {}
        }
        self.tables.policy.set(setting)
    }

    /// The value that is in force of the same option.
    fn in_force(&self, setting: &Setting) -> Setting {
        let policy = &self.tables.policy;
        match setting {
            Setting::Workers(_) => Setting::Workers(self.tables.wanted()),
            setting => policy.like(setting),
        }
    }

    /// Sets the options that an upgrade brings. Returns how to undo that.
    pub(crate) fn set_all(&mut self, settings: Vec<Setting>) -> Vec<Undo> {
        settings.into_iter().map(|set| Undo { before: self.set(set.clone()), set }).collect()
    }

    /// Undoes it.
    pub(crate) fn undo(&mut self, undo: Vec<Undo>) {
        for Undo { set, before } in undo {
            if self.in_force(&set) == set {
                self.set(before);
            }
        }
    }
}

impl Policy {
    /// Sets one option. Returns what it was.
    fn set(&mut self, setting: Setting) -> Setting {
        let recycling = &mut self.recycling;
        match setting {
            Setting::Workers(workers) => Setting::Workers(replace(&mut self.workers, workers)),
            Setting::Seconds(seconds) => Setting::Seconds(replace(&mut self.seconds, seconds)),
            Setting::Retries(retries) => Setting::Retries(replace(&mut self.retries, retries)),
            Setting::Unacked { max, by_cpus } => Setting::Unacked {
                max: replace(&mut self.unacked_max, max),
                by_cpus: replace(&mut self.unacked_by_cpus, by_cpus),
            },
            Setting::UpgradeAdditional(max) => {
                Setting::UpgradeAdditional(replace(&mut self.upgrade_additional_max, max))
            }
            Setting::Grace(grace) => Setting::Grace(replace(&mut self.grace, grace)),
            Setting::DrainWarning(after) => Setting::DrainWarning(replace(&mut self.drain_warning, after)),
            Setting::ShrinkGrace(grace) => Setting::ShrinkGrace(replace(&mut self.shrink_grace, grace)),
            Setting::MaxAge(age) => Setting::MaxAge(replace(&mut recycling.max_age, age)),
            Setting::MaxRss(bytes) => Setting::MaxRss(replace(&mut recycling.max_rss_bytes, bytes)),
            Setting::PingTimeout(timeout) => {
                Setting::PingTimeout(replace(&mut recycling.ping_timeout, timeout))
            }
            Setting::Check(check) => Setting::Check(replace(&mut self.check, check)),
            Setting::CheckTimeout(timeout) => {
                Setting::CheckTimeout(replace(&mut self.check_timeout, timeout))
            }
            Setting::OnEvent(command) => Setting::OnEvent(replace(&mut self.on_event, command)),
            Setting::Ack(ack) => Setting::Ack(replace(&mut self.ack, ack)),
            Setting::GracefulSignal(signal) => {
                Setting::GracefulSignal(replace(&mut self.graceful_signal, signal))
            }
            Setting::StopGroup(is_wanted) => Setting::StopGroup(replace(&mut self.stop_group, is_wanted)),
        }
    }

    /// The terms of a release that comes now.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { ack: self.ack, graceful_signal: self.graceful_signal, stop_group: self.stop_group }
    }

    /// Its value of the option that `setting` is about.
    #[must_use]
    pub fn like(&self, setting: &Setting) -> Setting {
        let RecyclingLimits { max_age, max_rss_bytes, ping_timeout } = self.recycling;
        match setting {
            Setting::Workers(_) => Setting::Workers(self.workers),
            Setting::Seconds(_) => Setting::Seconds(self.seconds),
            Setting::Retries(_) => Setting::Retries(self.retries),
            Setting::Unacked { .. } => {
                Setting::Unacked { max: self.unacked_max, by_cpus: self.unacked_by_cpus }
            }
            Setting::UpgradeAdditional(_) => Setting::UpgradeAdditional(self.upgrade_additional_max),
            Setting::Grace(_) => Setting::Grace(self.grace),
            Setting::DrainWarning(_) => Setting::DrainWarning(self.drain_warning),
            Setting::ShrinkGrace(_) => Setting::ShrinkGrace(self.shrink_grace),
            Setting::MaxAge(_) => Setting::MaxAge(max_age),
            Setting::MaxRss(_) => Setting::MaxRss(max_rss_bytes),
            Setting::PingTimeout(_) => Setting::PingTimeout(ping_timeout),
            Setting::Check(_) => Setting::Check(self.check.clone()),
            Setting::CheckTimeout(_) => Setting::CheckTimeout(self.check_timeout),
            Setting::OnEvent(_) => Setting::OnEvent(self.on_event.clone()),
            Setting::Ack(_) => Setting::Ack(self.ack),
            Setting::GracefulSignal(_) => Setting::GracefulSignal(self.graceful_signal),
            Setting::StopGroup(_) => Setting::StopGroup(self.stop_group),
        }
    }
}
