//! Answers to commands for the pool and for the master: what was done, or why not. Programs match on the values; `Display` is the English.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::OWN_SIGNAL;
use crate::{Notice, Resized, Target, UpgradeReport, UpgradeStage, UpgradeStatus, WORKERS_MAX, Workers};

/// The last answer to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum LastReply {
    /// The command was carried out.
    Done(Done),
    /// The command changed nothing.
    Refused(Refusal),
    /// The upgrade that the command began, joined or ended has come to its end.
    Upgrade {
        /// Whether it ended as the command wanted it to.
        ok: bool,
        /// The end, for programs.
        report: Box<UpgradeReport>,
        /// The end, as it was logged.
        notice: Notice,
    },
}

/// What a command did.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// `inc`, `dec`, `set_workers`, or `config` with a number of workers.
    Resized(Resized),
    /// `config`.
    Configured,
    /// `respawn`.
    Respawned {
        /// The slots that were empty.
        empty: u32,
    },
    /// `signal`.
    Signalled {
        /// The names of the signals that were sent.
        signals: Vec<&'static str>,
        /// How many workers there were to send them to.
        workers: u32,
    },
    /// `replace`: a worker waits to be replaced.
    Replacing {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
    },
    /// `die`: the master exits once its workers have.
    Stopping {
        /// The name of the signal for the workers; `None` if each gets its own stop signal.
        signal: Option<&'static str>,
        /// How many workers there are.
        workers: u32,
    },
    /// `die`, and the master was stopping already.
    StopsAlready {
        /// How many workers are left.
        workers: u32,
    },
    /// The master exits without waiting for its workers.
    Exiting,
    /// `reload`: the master was replaced, and this was logged.
    Reloaded(Box<Notice>),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// The master is stopping, or not running yet.
    Stopping,
    /// More than [`WORKERS_MAX`] workers were asked for.
    TooManyWorkers {
        /// How many.
        count: u32,
    },
    /// One worker must stay, and there is only one.
    LastWorker,
    /// One worker must stay.
    TooFewWorkers {
        /// How many fewer were asked for.
        by: u32,
        /// How many there are.
        wanted: u32,
    },
    /// An upgrade runs already.
    UpgradeRuns(UpgradeStatus),
    /// The release of the first start is still being checked.
    FirstCheckRuns,
    /// A fleet upgrade needs more workers at a time than the pool may have.
    FleetTooLarge {
        /// How many more it needs.
        wanted: u32,
        /// How many more there may be.
        additional_max: u32,
    },
    /// The master may not signal these workers, so an upgrade could not replace them.
    CannotSignal(Vec<i32>),
    /// No worker is the one, or one of those, that a command names.
    NoWorker(Target),
    /// The worker that was to be replaced does not serve.
    NotServing(Target),
    /// Nothing is replaced beside this upgrade.
    NotBeside(UpgradeStatus),
    /// No upgrade runs that could be joined or aborted.
    NoUpgrade,
    /// No upgrade is in its soak; one may run that is at something else.
    NothingToContinue(Option<UpgradeStatus>),
    /// The previous release is not held.
    NothingToRollBackTo,
    /// An abort was accepted, and then another upgrade replaced the one that it was for.
    Superseded {
        /// The generation of the upgrade that was to be aborted.
        generation: u64,
        /// The generation of the one that replaced it.
        by: u64,
    },
    /// The master exits before the upgrade has ended.
    MasterExits,
    /// The upgrade was to wait for the one that runs, and as many as can wait already.
    QueueFull {
        /// How many.
        waiting_max: usize,
    },
    /// The upgrade waited for another one, and will not begin.
    NotStarted(NotStarted),
    /// `reload`: the master was not replaced, for this reason.
    NotReloaded(String),
    /// An upgrade that begins with the master has not begun, for this reason.
    NotBegun(String),
    /// An upgrade has not begun, because the options file cannot be used, for this reason.
    Options(String),
    /// The same as `NotBegun`, because the master could not be replaced, for this reason. The workers could be upgraded without that.
    MasterKept(String),
}

/// Why an upgrade that waited will not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStarted {
    /// The running upgrade was aborted.
    Aborted,
    /// A rollback was requested.
    RolledBack,
    /// The master is stopping.
    Stopping,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aborted => "the running upgrade was aborted",
            Self::RolledBack => "a rollback was requested",
            Self::Stopping => "the master is stopping",
        })
    }
}

/// A reason for a refusal on which programs act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// Another rollout runs.
    RolloutRuns,
    /// Only the master's user and root may do this, and another user sent it.
    OwnerOnly,
    /// A reason that this version of the crate does not know.
    #[serde(other)]
    Other,
}

impl Refusal {
    /// The reason, if programs act on it.
    #[must_use]
    pub fn kind(&self) -> Option<RefusalKind> {
        match self {
            Self::UpgradeRuns(_) | Self::NotBeside(_) | Self::QueueFull { .. } | Self::Superseded { .. } => {
                Some(RefusalKind::RolloutRuns)
            }
            Self::Stopping
            | Self::TooManyWorkers { .. }
            | Self::LastWorker
            | Self::TooFewWorkers { .. }
            | Self::FirstCheckRuns
            | Self::FleetTooLarge { .. }
            | Self::CannotSignal(_)
            | Self::NoWorker(_)
            | Self::NotServing(_)
            | Self::NoUpgrade
            | Self::NothingToContinue(_)
            | Self::NothingToRollBackTo
            | Self::MasterExits
            | Self::NotStarted(_)
            | Self::NotReloaded(_)
            | Self::NotBegun(_)
            | Self::Options(_)
            | Self::MasterKept(_) => None,
        }
    }
}

impl LastReply {
    /// Whether the command did what was asked.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        match self {
            Self::Done(_) => true,
            Self::Refused(_) => false,
            Self::Upgrade { ok, .. } => *ok,
        }
    }
}

impl fmt::Display for LastReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(done) => done.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Upgrade { report, notice, .. } if report.left.is_any() => {
                write!(f, "{notice}; {}", report.left)
            }
            Self::Upgrade { notice, .. } => notice.fmt(f),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resized(Resized { from, to }) if from == to => {
                write!(f, "number of workers is {to} already")
            }
            Self::Resized(Resized { from, to }) => write!(f, "number of workers {from} -> {to}"),
            Self::Configured => f.write_str("options changed"),
            Self::Respawned { empty: 0 } => f.write_str("no slot is empty"),
            Self::Respawned { empty: 1 } => f.write_str("filling 1 empty slot"),
            Self::Respawned { empty } => write!(f, "filling {empty} empty slots"),
            Self::Signalled { signals, workers } => {
                write!(f, "sent {} to {}", signals.join(", "), Workers(*workers))
            }
            Self::Replacing { slot, pid } => {
                write!(f, "slot {slot}: worker {pid} will be replaced, its successor first")
            }
            Self::Stopping { signal, workers } => {
                write!(f, "stopping: {} to {}", signal.unwrap_or(OWN_SIGNAL), Workers(*workers))
            }
            Self::StopsAlready { workers } => write!(f, "stopping already; {} left", Workers(*workers)),
            Self::Exiting => f.write_str("exiting at once"),
            Self::Reloaded(notice) => notice.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => f.write_str("refused: the master is stopping"),
            Self::TooManyWorkers { count } => {
                write!(f, "refused: {count} workers are more than the {WORKERS_MAX} that one master runs")
            }
            Self::LastWorker => f.write_str(
                "can't decrease number of workers (already at 1); \"die\" stops the master",
            ),
            Self::TooFewWorkers { by, wanted } => write!(
                f,
                "can't decrease number of workers by {by}: there are {wanted}, and one must stay; \"die\" stops the \
                 master"
            ),
            Self::UpgradeRuns(upgrade) => write!(f, "upgrade refused: {}", Progress(upgrade)),
            Self::FirstCheckRuns => f.write_str("upgrade refused: the release of the first start is still being checked"),
            Self::FleetTooLarge { wanted, additional_max } => write!(
                f,
                "fleet upgrade refused: it needs {wanted} workers more at a time, and --max-upgrade-additional \
                 allows {additional_max}"
            ),
            Self::CannotSignal(pids) => {
                let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "upgrade refused: the master may not signal {}, so the old release would go on serving; hint: \
                     run the master as root, or the workers as its own user",
                    pids.join(", ")
                )
            }
            Self::NoWorker(target) => write!(f, "refused: no worker {target}"),
            Self::NotServing(target) => write!(f, "replace refused: no worker that is up {target}"),
            Self::NotBeside(upgrade) => write!(f, "replace refused: {}", Progress(upgrade)),
            Self::NoUpgrade => f.write_str("no upgrade runs"),
            Self::NothingToContinue(None) => write!(f, "nothing to continue: {}", Self::NoUpgrade),
            Self::NothingToContinue(Some(upgrade)) => write!(f, "nothing to continue: {}", Progress(upgrade)),
            Self::NothingToRollBackTo => f.write_str(
                "nothing to roll back to: the previous release is kept from the end of an upgrade until the next \
                 one begins",
            ),
            Self::Superseded { generation, by } => {
                write!(f, "overtaken: generation {by} takes the place of generation {generation}")
            }
            Self::MasterExits => f.write_str("upgrade failed: the master exits"),
            Self::QueueFull { waiting_max } => {
                write!(f, "upgrade refused: {waiting_max} upgrades are already waiting")
            }
            Self::NotStarted(why) => write!(f, "upgrade not started: {why}"),
            Self::NotReloaded(reason) => write!(f, "not reloaded: {reason}"),
            Self::NotBegun(reason) => {
                write!(f, "upgrade failed before it began, and nothing was changed: {reason}")
            }
            Self::Options(reason) => {
                write!(f, "upgrade refused: the options file cannot be used: {reason}")
            }
            Self::MasterKept(reason) => write!(
                f,
                "{}; \"upgrade --keep-master\" upgrades the workers all the same",
                Self::NotBegun(reason.clone())
            ),
        }
    }
}

/// How far an upgrade has come, as part of a sentence.
struct Progress<'a>(&'a UpgradeStatus);

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UpgradeStatus { stage, generation, upgraded, wanted, .. } = self.0;
        match stage {
            UpgradeStage::Resolving | UpgradeStage::Replacing => {
                write!(f, "generation {generation} is still coming up ({upgraded} of {wanted} acked)")
            }
            UpgradeStage::Checking => write!(f, "generation {generation} is being checked"),
            UpgradeStage::Soaking => {
                write!(f, "generation {generation} is in its soak ({upgraded} of {wanted} slots have it)")
            }
            UpgradeStage::RollingBack => write!(
                f,
                "generation {generation} is being rolled back ({upgraded} of {wanted} still have it)"
            ),
        }
    }
}
