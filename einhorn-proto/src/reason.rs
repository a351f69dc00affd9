//! Why the pool does what it does. The core decides by these values; `Display` is the English of the log.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CheckOutput, Death, IN_BACKGROUND, Seconds, UpgradeStage};

/// Why a worker is asked to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// Its successor has acked.
    Succeeded {
        /// The successor's pid.
        pid: i32,
        /// The successor's generation.
        generation: u64,
    },
    /// It did not ack in time.
    MissedBootDeadline,
    /// Its slot was closed.
    #[default]
    FewerWorkers,
    /// It was brought by an upgrade that failed.
    UpgradeFailed,
    /// It was brought by a rollback that failed.
    RollbackFailed,
    /// It was brought by an upgrade that another one replaces.
    UpgradeSuperseded,
    /// It was to replace a single worker, and an upgrade replaces all of them.
    UpgradeBegan,
    /// The master is stopping.
    MasterStopping,
    /// It was on trial, and that is over.
    TrialOver,
}

impl fmt::Display for DrainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded { pid, generation } => {
                return write!(f, "worker {pid} (generation {generation}) took its slot");
            }
            Self::MissedBootDeadline => "it missed its boot deadline",
            Self::FewerWorkers => "fewer workers were asked for",
            Self::UpgradeFailed => "the upgrade failed",
            Self::RollbackFailed => "the rollback failed",
            Self::UpgradeSuperseded => "another upgrade replaces the one that brought it",
            Self::UpgradeBegan => "an upgrade replaces every worker",
            Self::MasterStopping => "the master is stopping",
            Self::TrialOver => "its trial is over",
        })
    }
}

/// Why a worker is asked to stop with this signal and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalReason {
    /// An option, a command or a signal to the master names it.
    Set,
    /// This server drains on it.
    Server(String),
    /// The worker has sent `worker:ack`, so it knows einhorn's convention.
    WorkerAck,
    /// The worker has a handler for USR2 and none for TERM.
    Handlers,
    /// Other workers of its release are asked with it, and this one has never acked.
    Release,
    /// Nothing says otherwise.
    Default,
}

impl fmt::Display for SignalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "it was set",
            Self::Server(name) => return write!(f, "{name} drains on it"),
            Self::WorkerAck => "they send worker:ack",
            Self::Handlers => "they have a handler for it and none for SIGTERM",
            Self::Release => "other workers of the release get it",
            Self::Default => "nothing says otherwise",
        })
    }
}

/// Stands for the name of the signal where each worker gets that of its own convention.
pub(crate) const OWN_SIGNAL: &str = "its own stop signal";

/// The reason in the [`Death`] of a worker that did not ack in time.
pub const MISSED_BOOT_DEADLINE: &str = "missed its boot deadline (--ack-timeout)";

/// What a slot does next that has lost a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// It is filled again after so many milliseconds.
    Respawn(u64),
    /// It is filled again at once, from the previous release.
    RespawnPrevious,
    /// An upgrade tries it again after so many milliseconds.
    Retry(u64),
    /// Its worker goes on, and a successor is tried again after so many milliseconds.
    RetrySuccessor(u64),
    /// The worker that was starting beside the lost one has the slot.
    Succeeded,
    /// The slot has used up its tries.
    GivenUp,
    /// The upgrade has used up its tries in this slot.
    UpgradeFails,
    /// The upgrade was in its soak, in which no new worker may die.
    SoakFails,
    /// The worker was on trial.
    CheckFails,
}

impl NextStep {
    /// When the slot gets its next worker, in milliseconds from now; `None` if not by itself.
    #[must_use]
    pub fn wait_ms(self) -> Option<u64> {
        match self {
            Self::Respawn(ms) | Self::Retry(ms) | Self::RetrySuccessor(ms) => Some(ms),
            Self::RespawnPrevious => Some(0),
            Self::Succeeded | Self::GivenUp | Self::UpgradeFails | Self::SoakFails | Self::CheckFails => None,
        }
    }
}

impl fmt::Display for NextStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Respawn(ms) => write!(f, "next spawn {}", Wait(*ms)),
            Self::RespawnPrevious => f.write_str("next spawn, from the previous release, now"),
            Self::Retry(ms) => write!(f, "next try {}", Wait(*ms)),
            Self::RetrySuccessor(ms) => write!(f, "its slot keeps its worker; next try {}", Wait(*ms)),
            Self::Succeeded => f.write_str("its successor takes the slot"),
            Self::GivenUp => f.write_str("its slot gets no further try"),
            Self::UpgradeFails => f.write_str("it gets no further try"),
            Self::SoakFails => f.write_str("that is the end of the soak"),
            Self::CheckFails => f.write_str("the check of its release fails"),
        }
    }
}

/// A time to wait, in milliseconds.
struct Wait(u64);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("now"),
            ms => write!(f, "in {}", Seconds(ms)),
        }
    }
}

/// Why an upgrade, or a rollback that somebody asked for, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeFailure {
    /// The new release cannot be run, for this reason.
    Release(String),
    /// The worker that was to be checked has died, or could not be spawned.
    Trial(Death),
    /// The check of the new release failed.
    Check {
        /// How: `exited with status 1`.
        reason: String,
        /// The last lines that the command wrote.
        output: Vec<String>,
        /// The last lines that the worker wrote to standard error.
        stderr_tail: Vec<String>,
    },
    /// The checks of the canaries failed as often as they may.
    Canaries {
        /// How often.
        failures: u32,
        /// How the last one failed.
        reason: String,
        /// The last lines that its command wrote.
        output: Vec<String>,
    },
    /// It was aborted.
    Aborted,
    /// Somebody asked for a rollback.
    RolledBack,
    /// A slot has lost too many workers to it.
    Slot {
        /// The slot.
        slot: u32,
        /// The last death.
        death: Death,
        /// How many workers the slot has tried; `None` if it failed in its soak.
        tries: Option<u32>,
    },
    /// The master is stopping.
    MasterStopping,
    /// The rollback failed too.
    Rollback {
        /// Why there was one.
        first: Box<UpgradeFailure>,
        /// The slot that could not be rolled back.
        slot: u32,
        /// The last death in it.
        death: Death,
    },
}

impl UpgradeFailure {
    /// The death that ended the upgrade, if one did.
    #[must_use]
    pub fn death(&self) -> Option<&Death> {
        match self {
            Self::Slot { death, .. } | Self::Trial(death) => Some(death),
            Self::Rollback { first, .. } => first.death(),
            Self::Release(_)
            | Self::Check { .. }
            | Self::Canaries { .. }
            | Self::Aborted
            | Self::RolledBack
            | Self::MasterStopping => None,
        }
    }
}

impl UpgradeFailure {
    /// What was written during the check that ended the upgrade, if one did.
    #[must_use]
    pub fn check(&self) -> Option<CheckOutput> {
        match self {
            // What the worker wrote is with its death.
            Self::Trial(_) => {
                let stage = UpgradeStage::Checking;
                Some(CheckOutput { stage, output: Vec::new(), stderr_tail: Vec::new() })
            }
            Self::Check { output, stderr_tail, .. } => {
                let stage = UpgradeStage::Checking;
                Some(CheckOutput { stage, output: output.clone(), stderr_tail: stderr_tail.clone() })
            }
            Self::Canaries { output, .. } => {
                let stage = UpgradeStage::Soaking;
                Some(CheckOutput { stage, output: output.clone(), stderr_tail: Vec::new() })
            }
            Self::Rollback { first, .. } => first.check(),
            _ => None,
        }
    }
}

impl fmt::Display for UpgradeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(reason) => f.write_str(reason),
            Self::Trial(death) => write!(f, "trial: {death}"),
            Self::Check { reason, .. } => write!(f, "the check failed: {reason}"),
            Self::Canaries { failures: 1, reason, .. } => {
                write!(f, "the check of the canaries failed: {reason}")
            }
            Self::Canaries { failures, reason, .. } => {
                write!(f, "the check of the canaries failed {failures} times; the last time: {reason}")
            }
            Self::Aborted => f.write_str("an abort was asked for"),
            Self::RolledBack => f.write_str("a rollback was asked for"),
            Self::Slot { slot, death, tries: None } => write!(f, "slot {slot}: {death}; in its soak"),
            Self::Slot { slot, death, tries: Some(0 | 1) } => write!(f, "slot {slot}: {death}; 1 try"),
            Self::Slot { slot, death, tries: Some(tries) } => {
                write!(f, "slot {slot}: {death}; {tries} tries")
            }
            Self::MasterStopping => f.write_str("the master is stopping"),
            Self::Rollback { first, slot, death } => {
                write!(f, "{first}; and the rollback failed: slot {slot}: {death}")
            }
        }
    }
}

/// Who serves after an upgrade that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// The generation before it.
    pub from: u64,
    /// How many workers of that are up.
    pub old: u32,
    /// The generation that it brought.
    pub generation: u64,
    /// How many workers of that are up.
    pub new: u32,
    /// How many workers there are to be.
    pub wanted: u32,
    /// Whether it ended before it touched a worker.
    pub is_untouched: bool,
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, old, generation, new, wanted, is_untouched } = self;
        if *is_untouched {
            f.write_str("no worker was touched: ")?;
        }
        match new {
            0 => write!(f, "{old} of {wanted} workers of generation {from} serve"),
            new => write!(f, "{old} workers of generation {from} and {new} of generation {generation} serve"),
        }
    }
}

/// Why the master exits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// A stop was requested, and the last worker is gone.
    LastWorkerGone,
    /// A stop was requested, and the master may not signal these workers, which are the last.
    WorkersLeft(Vec<i32>),
    /// An exit without waiting for the workers was requested, for this reason.
    AtOnce(String),
    /// The check of the first start failed, for this reason.
    CheckFailed(String),
    /// Every slot was given up.
    NoWorkerStaysUp {
        /// What the workers run.
        program: String,
        /// The slot that was given up last.
        slot: u32,
        /// The last death in it.
        death: Death,
    },
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastWorkerGone => f.write_str("the last worker has gone"),
            Self::WorkersLeft(pids) => {
                let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
                write!(f, "workers are left that the master may not signal: {}", pids.join(", "))
            }
            Self::AtOnce(why) => f.write_str(why),
            Self::CheckFailed(why) => write!(f, "nothing was started: {why}"),
            Self::NoWorkerStaysUp { program, slot, death } => {
                let hint = match (death.pid, &death.termination) {
                    _ if death.may_be_in_background() => IN_BACKGROUND,
                    (None, _) => "is the program there, and can this machine execute it?",
                    (Some(_), None) => {
                        "with -m a worker must say that it is up, by worker:ack or READY=1; see einhorn-worker(7)"
                    }
                    (Some(_), Some(_)) => "the program's own output says more; try the same command by hand",
                };
                write!(
                    f,
                    "no worker of {program} stays up, every slot was given up; slot {slot}: {death}; hint: {hint}"
                )
            }
        }
    }
}

/// An event that made no sense in the state that it found, and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ignored {
    /// The master was started already.
    AlreadyStarted,
    /// The master has exited; nothing is supervised any more.
    Exited,
    /// A process was reaped that is no worker.
    Stranger {
        /// Its pid.
        pid: i32,
        /// How it ended.
        termination: crate::Termination,
    },
    /// A process acked that is no worker.
    StrayAck {
        /// Its pid.
        pid: i32,
    },
    /// Something else came from a process that is no worker.
    NoWorker {
        /// Its pid.
        pid: i32,
        /// What it sent.
        what: &'static str,
    },
    /// The answer to a spawn came for a worker that waits for none.
    SpawnAnswered {
        /// Its number.
        worker: u64,
        /// What it is doing; `None` if there is no such worker.
        state: Option<&'static str>,
    },
    /// A new worker has the pid of another one.
    PidTaken {
        /// The pid.
        pid: i32,
    },
    /// A worker acked that need not.
    Ack {
        /// Its pid.
        pid: i32,
        /// What it is doing.
        state: &'static str,
    },
    /// A stop signal was sent to a worker that was not to get one.
    StopSent {
        /// Its pid.
        pid: i32,
        /// The name of the signal.
        signal: &'static str,
    },
    /// A step of a stop came just after another one.
    StopStep {
        /// Who asked for it.
        why: String,
        /// The time since the step before, in milliseconds.
        since_ms: u64,
    },
    /// A job has ended that nothing waits for.
    Job {
        /// Its number.
        job: u64,
    },
    /// A release was resolved, or was not, that no upgrade waits for.
    Release {
        /// Its generation.
        generation: u64,
    },
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted => f.write_str("ignored: a start, because the master runs already"),
            Self::Exited => f.write_str("ignored: an event, because the master has exited"),
            Self::Stranger { pid, termination } => {
                write!(f, "reaped {pid}, which is no worker: it {termination}")
            }
            Self::StrayAck { pid } => write!(f, "ack for {pid}, which is no worker, ignored"),
            Self::NoWorker { pid, what } => write!(f, "ignored: {what} of {pid}, which is no worker"),
            Self::SpawnAnswered { worker, state: None } => {
                write!(f, "ignored: the answer to a spawn, because there is no worker number {worker}")
            }
            Self::SpawnAnswered { worker, state: Some(state) } => {
                write!(f, "ignored: the answer to a spawn, because worker number {worker} is {state}")
            }
            Self::PidTaken { pid } => write!(f, "ignored: a spawn, because {pid} is another worker's pid"),
            Self::Ack { pid, state } => write!(f, "ack of worker {pid} ignored: it is {state}"),
            Self::StopSent { pid, signal } => {
                write!(f, "ignored: {signal} was sent to worker {pid}, which is not stopping")
            }
            Self::StopStep { why, since_ms } => {
                let since = Seconds(*since_ms);
                write!(
                    f,
                    "ignored: {why}, {since} after the last step of the stop; again a second after it or later"
                )
            }
            Self::Job { job } => write!(f, "ignored: the end of job {job}, because nothing waits for it"),
            Self::Release { generation } => {
                write!(f, "ignored: the release of generation {generation}, because no upgrade waits for it")
            }
        }
    }
}
