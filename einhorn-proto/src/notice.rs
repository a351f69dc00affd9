//! What happened: one vocabulary for the log, for `events` and for the progress of an upgrade. How it reads stands in
//! `words.rs`.

mod words;

use serde::{Deserialize, Serialize};

use crate::{Counts, Death, RecycleReason, RolloutKind, Termination, UpgradeStatus};

/// Who said that a worker takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckSource {
    /// The worker, over the control socket.
    Control,
    /// The worker, with `READY=1` to the notify socket.
    Notify,
    /// Nobody: the time of `--ack-mode SECONDS` passed and it was alive.
    Timer,
}

/// How much a notice matters, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Wakes someone.
    Error,
    /// Odd, but handled.
    Warn,
    /// A transition.
    Info,
    /// A decision.
    Debug,
}

/// One thing that happened. Its `Display` is the line in the log; as JSON it has a tag, `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// A worker was spawned.
    Spawned {
        /// Its slot.
        slot: u32,
        /// Its index.
        index: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
    },
    /// A worker takes traffic.
    Acked {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// Who says so.
        source: AckSource,
        /// Its age, in milliseconds since it was spawned.
        age_ms: u64,
        /// How many workers of its generation are up now.
        #[serde(default)]
        up: u32,
        /// How many workers there are to be.
        #[serde(default)]
        wanted: u32,
    },
    /// The slot of a worker was taken away, and new connections go elsewhere. It is asked to stop when those that are
    /// on their way to it have had time to arrive.
    Retiring {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// How long it goes on, in milliseconds.
        for_ms: u64,
    },
    /// A worker was asked to stop.
    Draining {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// The signal it got.
        signal: String,
        /// Why.
        why: String,
    },
    /// A worker that had been asked to stop has gone.
    Drained {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// How it ended.
        termination: Termination,
        /// How long it took, in milliseconds since its stop signal.
        took_ms: u64,
    },
    /// A worker did not stop within its grace period and gets the next signal.
    Escalated {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// The signal it gets now.
        signal: String,
        /// How long it had, in milliseconds.
        after_ms: u64,
    },
    /// A worker died, or could not be spawned, or missed its boot deadline.
    Died {
        /// Its slot.
        slot: u32,
        /// How it ended.
        death: Death,
        /// When its slot is filled again, in milliseconds from now; `None` if not by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_spawn_ms: Option<u64>,
        /// What happens next, in words.
        next: String,
    },
    /// A slot has no worker and gets none by itself.
    GivenUp {
        /// The slot.
        slot: u32,
        /// Spawns in a row without an ack.
        tries: u32,
    },
    /// The pool has as many acked workers as it should.
    Ready {
        /// How many.
        workers: u32,
        /// Their generation.
        generation: u64,
        /// Since the master started, in milliseconds.
        after_ms: u64,
    },
    /// The number of workers was changed.
    Resized {
        /// From.
        from: u32,
        /// To.
        to: u32,
    },
    /// An upgrade, or the way back from one, began.
    UpgradeStarted {
        /// Which of the two.
        kind: RolloutKind,
        /// The generation that it brings.
        generation: u64,
        /// How many workers it replaces.
        workers: u32,
    },
    /// Somebody has joined an upgrade that runs, and this is how it stands. Told to nobody else.
    UpgradeJoined(UpgradeStatus),
    /// An upgrade ended and every worker runs the new release.
    UpgradeDone {
        /// Upgrade or rollback.
        kind: RolloutKind,
        /// The generation that it brought.
        generation: u64,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Old workers that still finish what they have.
        draining: u32,
    },
    /// The first few workers of an upgrade are up, and the rest waits.
    SoakStarted {
        /// The generation that it brings.
        generation: u64,
        /// How many there are.
        workers: u32,
        /// For how long the rest waits, in milliseconds; `None` until somebody says to go on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        soak_ms: Option<u64>,
    },
    /// The rest of an upgrade follows.
    SoakOver {
        /// The generation that it brings.
        generation: u64,
    },
    /// An upgrade failed, and what it had replaced is replaced again.
    RollbackStarted {
        /// Upgrade or rollback.
        kind: RolloutKind,
        /// The generation that it would have brought.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// An upgrade failed and has ended.
    UpgradeFailed {
        /// Upgrade or rollback.
        kind: RolloutKind,
        /// The generation that it would have brought.
        generation: u64,
        /// Why.
        reason: String,
        /// What serves now.
        serving: String,
    },
    /// A worker that serves is to be replaced; its successor is spawned.
    Recycling {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// Why.
        reason: RecycleReason,
    },
    /// A worker said something of itself (`STATUS=`).
    StatusText {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// What it said.
        text: String,
    },
    /// A worker said that it is stopping by itself (`STOPPING=1`).
    Stopping {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
    },
    /// The master is stopping.
    MasterStopping {
        /// The signal that the workers get.
        signal: String,
        /// How many workers there are.
        workers: u32,
        /// Who asked.
        why: String,
    },
    /// The master ends.
    MasterExiting {
        /// With this exit code.
        code: u8,
        /// Why.
        why: String,
    },
    /// A program is asked whether it can take the master's place.
    MasterChecking {
        /// The program.
        program: String,
    },
    /// The master has replaced itself; the workers are the same.
    MasterReplaced {
        /// Its version.
        version: String,
        /// The version before.
        from_version: String,
        /// How many workers it has taken over.
        workers: u32,
        /// How long the master did nothing else, in milliseconds, the check not counted.
        took_ms: u64,
    },
    /// The master was to be replaced, and goes on as it was.
    MasterKept {
        /// Why.
        reason: String,
    },
    /// A request was not carried out, or something was ignored.
    Refused {
        /// What, and why.
        message: String,
    },
    /// A decision that only somebody who looks for a fault wants to read.
    Decided {
        /// What, and why.
        message: String,
    },
}

/// The data of a line of progress: what happened, and how far the rollout is.
///
/// `N` is the notice, or a reference to it where it is only written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress<N = Notice> {
    /// What happened. Its fields stand beside `counts`.
    #[serde(flatten)]
    pub notice: N,
    /// How far the rollout was then; `None` before one runs, and from a master that speaks version 1 of the protocol.
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
            Self::Died { .. } | Self::Escalated { .. } | Self::Refused { .. } => Severity::Warn,
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
            slot: 0,
            pid: 5,
            generation: 2,
            termination: Termination::Killed { signal: "SIGSEGV".into(), core_dumped: true },
            took_ms: 3,
        };
        let json = serde_json::to_string(&notice).unwrap();
        assert!(json.starts_with(r#"{"event":"drained","slot":0"#), "{json}");
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice);
    }
}
