//! Notices: the events of a master, for its log, for clients that follow `events`, and for those that wait for a
//! rollout. Their log lines are in `words.rs`.

mod words;

use serde::{Deserialize, Serialize};

use crate::{
    Counts, Death, OptionChange, OptionEffect, RecycleReason, RolloutKind, Termination, UpgradeReport,
    UpgradeStatus, WorkerSlot,
};

/// How the master learned that a worker takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckSource {
    /// The worker sent `worker:ack` to the control socket.
    Control,
    /// The worker sent `READY=1` to the notify socket.
    Notify,
    /// It was alive when the time of `--ack-mode SECONDS` had passed.
    Timer,
}

/// How a worker ended that had been asked to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainEnding {
    /// By itself, or in a way that tells nothing of its requests.
    #[default]
    Own,
    /// By its stop signal, which it handles: it is known to finish its requests, and to send itself the signal again.
    Reraised,
    /// By its stop signal, for which it had a handler. Whether that was its own, and drained, is not known.
    Handled,
    /// By its stop signal, for which it had no handler: it did not drain.
    Unhandled,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Wakes someone.
    Error,
    /// Odd, but handled.
    Warn,
    /// A change of state.
    Info,
    /// A decision.
    Debug,
}

/// An event. Its `Display` is the log line; in JSON, the field `event` has its name.
///
/// `slot`, `pid` and `generation` are the worker's, or those of the rollout; the trial worker of a check has no slot.
/// `..._ms` is a time in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "most fields are explained above")]
pub enum Notice {
    /// A worker was spawned.
    Spawned {
        slot: WorkerSlot,
        /// `EINHORN_CHILD_INDEX`.
        index: u32,
        pid: i32,
        generation: u64,
    },
    /// A worker takes traffic.
    Acked {
        slot: WorkerSlot,
        pid: i32,
        generation: u64,
        source: AckSource,
        /// Since it was spawned.
        age_ms: u64,
        /// How many workers of its generation are up now.
        #[serde(default)]
        up: u32,
        /// How many workers the pool should have.
        #[serde(default)]
        wanted: u32,
    },
    /// The slot of a worker was taken away. New connections go to other slots, and the worker is asked to stop once
    /// those that are on their way to it have had time to arrive.
    Retiring {
        slot: u32,
        pid: i32,
        generation: u64,
        /// How long it still serves.
        for_ms: u64,
    },
    /// It was found out with which signal workers of a generation are asked to stop.
    StopSignal { generation: u64, signal: String, why: String },
    /// The kernel refused to send a signal to a worker.
    SignalRefused { slot: WorkerSlot, pid: i32, generation: u64, signal: String, reason: String },
    /// What a worker had left behind has gone too.
    LeftoversGone { slot: WorkerSlot, pid: i32, generation: u64 },
    /// A worker exited and left processes of its group behind.
    LeftBehind {
        slot: WorkerSlot,
        pid: i32,
        generation: u64,
        /// The pids of some of them.
        members: Vec<i32>,
        /// Whether one of those holds a listener of the pool.
        listens: bool,
    },
    /// A worker was asked to stop.
    Draining { slot: WorkerSlot, pid: i32, generation: u64, signal: String, why: String },
    /// A worker exited after it had been asked to stop.
    Drained {
        slot: WorkerSlot,
        pid: i32,
        generation: u64,
        termination: Termination,
        /// Since its stop signal.
        took_ms: u64,
        /// Whether it finished its requests, as far as its end tells.
        #[serde(default)]
        ending: DrainEnding,
    },
    /// Workers of a generation still serve, a long time after their stop signal.
    StillDraining {
        generation: u64,
        /// How many.
        workers: u32,
        /// Since the first of them got its stop signal.
        after_ms: u64,
    },
    /// A worker did not stop within its grace period and gets the next signal.
    Escalated {
        slot: WorkerSlot,
        pid: i32,
        generation: u64,
        /// The next signal.
        signal: String,
        /// Since the signal before.
        after_ms: u64,
    },
    /// A worker died, or could not be spawned, or missed its boot deadline.
    Died {
        slot: WorkerSlot,
        death: Death,
        /// The time until the next spawn; `None` if the slot stays empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_spawn_ms: Option<u64>,
        /// What happens next, for people.
        next: String,
    },
    /// A slot was given up: it stays empty until a command fills it.
    GivenUp {
        slot: u32,
        /// Spawns in a row without an ack.
        tries: u32,
    },
    /// Every slot has an acked worker.
    Ready {
        workers: u32,
        generation: u64,
        /// Since the master started.
        after_ms: u64,
    },
    /// Nobody ran for so long, neither the master nor its workers. Their deadlines are so much later.
    TimeLost { lost_ms: u64 },
    /// The number of workers was changed.
    Resized { from: u32, to: u32 },
    /// A rollout began.
    UpgradeStarted {
        kind: RolloutKind,
        /// The new generation.
        generation: u64,
        /// How many workers it replaces.
        workers: u32,
    },
    /// A worker of a new release is checked, before any worker is replaced.
    CheckStarted {
        /// The new generation.
        generation: u64,
        /// The worker's pid.
        pid: i32,
        command: String,
    },
    /// The check of a new release passed.
    CheckPassed {
        /// The new generation.
        generation: u64,
        /// Since its release was found, the boot of the worker included.
        took_ms: u64,
    },
    /// An upgrade leads to the directory and the program of the previous release, found by a path with a symbolic link
    /// in it, which a deploy may have forgotten to move.
    ReleaseUnchanged {
        /// The new generation.
        generation: u64,
        /// The previous generation.
        from: u64,
    },
    /// The state of a rollout, for a client that joined it; no other client gets this.
    UpgradeJoined(UpgradeStatus),
    /// An upgrade waits until the running one has ended.
    UpgradeQueued {
        /// The generation of the running upgrade.
        generation: u64,
        /// How many upgrades wait, this one included.
        waiting: u32,
    },
    /// A rollout ended, and every worker runs the new release.
    UpgradeDone {
        kind: RolloutKind,
        /// The new generation.
        generation: u64,
        /// Since it began.
        took_ms: u64,
        /// Old workers that still finish their requests.
        draining: u32,
    },
    /// The report of a rollout that has ended. It comes when the workers that were replaced have gone, or a second after
    /// the end.
    UpgradeReported(Box<UpgradeReport>),
    /// The canaries of an upgrade are up, and the rest waits.
    SoakStarted {
        /// The new generation.
        generation: u64,
        /// The number of canaries.
        workers: u32,
        /// How long the rest waits; `None` until `upgrade_continue`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        soak_ms: Option<u64>,
    },
    /// A check of the canaries failed, and may fail again.
    CanaryCheckFailed {
        /// The new generation.
        generation: u64,
        /// How many have failed in this soak.
        failures: u32,
        /// How many may fail before the upgrade does.
        failures_max: u32,
        reason: String,
    },
    /// The soak ended, and the rest of the workers is replaced.
    SoakOver {
        /// The new generation.
        generation: u64,
    },
    /// A rollout failed, and the previous release gets its slots back.
    RollbackStarted {
        kind: RolloutKind,
        /// The new generation.
        generation: u64,
        reason: String,
    },
    /// A rollout failed and has ended.
    UpgradeFailed {
        kind: RolloutKind,
        /// The new generation.
        generation: u64,
        reason: String,
        /// What serves now, for people.
        serving: String,
    },
    /// An upgrade changes an option, or names one that it cannot change.
    OptionChanged(OptionChange),
    /// A serving worker will be replaced; its successor is spawned.
    Recycling { slot: u32, pid: i32, generation: u64, reason: RecycleReason },
    /// A worker sent a status text (`STATUS=`).
    StatusText { slot: WorkerSlot, pid: i32, text: String },
    /// A worker reported that it is stopping by itself (`STOPPING=1`).
    Stopping { slot: WorkerSlot, pid: i32 },
    /// The master is stopping.
    MasterStopping {
        /// The signal for the workers; `None` if each gets its own stop signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<String>,
        /// The number of live workers.
        workers: u32,
        why: String,
    },
    /// The master exits.
    MasterExiting { code: u8, why: String },
    /// A program is checked whether it can take the master's place.
    MasterChecking { program: String },
    /// The master has replaced itself; the workers are the same.
    MasterReplaced {
        version: String,
        /// The version of the old master.
        from_version: String,
        /// How many workers it took over.
        workers: u32,
        /// How long the master was busy with it, without the check.
        took_ms: u64,
    },
    /// A replacement of the master failed, and the old master continues.
    MasterKept { reason: String },
    /// A request was refused, or something was ignored.
    Refused { message: String },
    /// A decision, for debugging.
    Decided { message: String },
}

/// The data of a line of progress: an event, and how far the rollout is.
///
/// `N` may be a reference to a notice, for writing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress<N = Notice> {
    /// The event, whose fields stand beside `counts`.
    #[serde(flatten)]
    pub notice: N,
    /// The counts after the event; `None` if no rollout runs, or from a master that speaks version 1 of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

impl Notice {
    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::GivenUp { .. }
            | Self::UpgradeFailed { .. }
            | Self::RollbackStarted { .. }
            | Self::MasterKept { .. } => Severity::Error,
            Self::MasterExiting { code, .. } if *code != 0 => Severity::Error,
            Self::Recycling { reason: RecycleReason::PingTimeout, .. } => Severity::Warn,
            Self::Drained { ending: DrainEnding::Handled | DrainEnding::Unhandled, .. } => Severity::Warn,
            Self::Died { death, .. } if death.is_on_purpose() => Severity::Info,
            Self::UpgradeReported(report) if report.left.is_serving() => Severity::Error,
            Self::UpgradeReported(report) if report.left.is_any() => Severity::Warn,
            Self::UpgradeReported(_) => Severity::Debug,
            Self::Died { .. }
            | Self::Escalated { .. }
            | Self::StillDraining { .. }
            | Self::TimeLost { .. }
            | Self::CanaryCheckFailed { .. }
            | Self::OptionChanged(OptionChange {
                effect: OptionEffect::NextStart | OptionEffect::Hidden,
                ..
            })
            | Self::SignalRefused { .. }
            | Self::LeftBehind { .. }
            | Self::Refused { .. } => Severity::Warn,
            Self::Decided { .. } | Self::StatusText { .. } => Severity::Debug,
            _ => Severity::Info,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_survives_the_wire() {
        let notice = Notice::Drained {
            slot: 0.into(),
            pid: 5,
            generation: 2,
            termination: Termination::Killed {
                signal: "SIGSEGV".into(),
                core_dumped: true,
                out_of_memory: false,
            },
            took_ms: 3,
            ending: DrainEnding::Own,
        };
        let json = serde_json::to_string(&notice).unwrap();
        assert!(json.starts_with(r#"{"event":"drained","slot":0"#), "{json}");
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice);
    }
}
