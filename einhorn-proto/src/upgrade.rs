//! Rollouts: how far one is, and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Death, DrainEnding, Notice, OptionChange};

/// Which way a rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutKind {
    /// To a new release.
    #[default]
    Upgrade,
    /// Back to the previous release, by the command `rollback`.
    Rollback,
}

impl fmt::Display for RolloutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
        })
    }
}

/// The stage of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeStage {
    /// The master resolves the release of the new generation.
    Resolving,
    /// A worker of the new release is checked, and none has been replaced.
    Checking,
    /// Workers are being replaced.
    #[default]
    Replacing,
    /// The canaries are up, and the rest waits for the end of the soak.
    Soaking,
    /// It failed or was aborted, and the previous release gets its slots back.
    RollingBack,
}

/// A running rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// Upgrade, or rollback by command.
    #[serde(default)]
    pub kind: RolloutKind,
    /// Its stage.
    #[serde(default)]
    pub stage: UpgradeStage,
    /// The new generation.
    pub generation: u64,
    /// The previous generation.
    #[serde(default)]
    pub from: u64,
    /// In a soak that ends by itself: the time left, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_left_ms: Option<u64>,
    /// Slots that have a worker of the new generation up.
    pub upgraded: u32,
    /// All slots.
    pub wanted: u32,
    /// New workers that have not acked.
    pub starting: u32,
    /// How long a worker may take until it acks, in milliseconds; `None` without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_within_ms: Option<u64>,
    /// How long ago it began, in milliseconds.
    pub age_ms: u64,
}

/// How far a rollout is, in numbers. Each line of its progress has them, since version 2 of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Upgrade, or rollback by command.
    pub kind: RolloutKind,
    /// Its stage.
    pub stage: UpgradeStage,
    /// The new generation, also during a rollback of the rollout.
    pub generation: u64,
    /// Slots served by the generation that the rollout leads to: the new one, or, during a rollback of the rollout, the
    /// previous one.
    pub done: u32,
    /// All slots.
    pub wanted: u32,
    /// Unacked workers of that generation.
    pub starting: u32,
    /// Draining workers of any generation.
    pub draining: u32,
    /// How long a worker may take until it acks, in milliseconds; `None` without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_within_ms: Option<u64>,
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every worker runs the new release and has acked.
    Done,
    /// It failed or was aborted, and every worker runs the previous release. `reason` says why.
    RolledBack,
    /// It failed, and so did the rollback. `reason` says why.
    Failed,
}

/// The report of a rollout: the data of its last reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// Upgrade or rollback.
    #[serde(default)]
    pub kind: RolloutKind,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it ended before it touched a worker. `rolled_back` then means that there was nothing to roll back.
    #[serde(default, rename = "untouched", skip_serializing_if = "std::ops::Not::not")]
    pub is_untouched: bool,
    /// The new generation, whether or not it serves now.
    pub generation: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The death that made it fail, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
    /// Workers that are up with the new generation.
    pub upgraded: u32,
    /// The number of workers that the pool should have.
    pub wanted: u32,
    /// Old workers that still finish their requests.
    pub draining: u32,
    /// How long it took, in milliseconds, until the last ack.
    pub took_ms: u64,
    /// If its check failed: what was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckOutput>,
    /// What was found out about the workers that it replaced.
    #[serde(default)]
    pub left: Left,
    /// How many of its workers started at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// The options whose lines in the options file had changed, and what came of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionChange>,
    /// What to do about it, or what would show more of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The last lines that were written during a check that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutput {
    /// The stage that it ended: [`UpgradeStage::Checking`] or [`UpgradeStage::Soaking`].
    pub stage: UpgradeStage,
    /// By the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// By the worker that it checked, to standard error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr_tail: Vec<String>,
}

/// How many workers start at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// At most so many.
    pub workers: u32,
    /// Why no more.
    pub why: PaceReason,
}

/// Why no more workers start at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaceReason {
    /// Somebody has asked for that number.
    Asked,
    /// There are so many CPUs.
    Cpus,
    /// They were seen to leave CPUs idle, and became more each time.
    Idle,
    /// Their boots have used so much CPU time that so many keep the CPUs busy.
    Boots,
    /// Processes wait for a CPU or for memory.
    Pressure,
    /// No more fit into memory.
    Memory,
}

impl Pace {
    /// Whether something but an option and the number of CPUs decides.
    #[must_use]
    pub fn is_adapted(self) -> bool {
        !matches!(self.why, PaceReason::Asked | PaceReason::Cpus)
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            PaceReason::Asked => "as --max-unacked says",
            PaceReason::Cpus => "one for each CPU",
            PaceReason::Idle => "because they leave CPUs idle",
            PaceReason::Boots => "by what their boots use of the CPUs",
            PaceReason::Pressure => "because processes wait for a CPU or for memory",
            PaceReason::Memory => "because no more fit into memory",
        };
        write!(f, "up to {} at a time, {why}", self.workers)
    }
}

/// Warnings that a report repeats in full. Source: this program; einhorn-control(7).
const WARNINGS_MAX: usize = 64;

/// What a rollout has left of the workers that it replaced, each in numbers of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Left {
    /// Those that had no handler for their stop signal, and died of it.
    pub undrained: u32,
    /// Those that had a handler for their stop signal, and died of it.
    pub ended_by_signal: u32,
    /// Those that had to be asked again, or killed.
    pub escalated: u32,
    /// Those that the master may not signal.
    pub unsignallable: u32,
    /// Those that left processes behind.
    pub left_behind: u32,
    /// Those that left processes behind that hold a listener.
    pub listening: u32,
    /// The warnings that were logged about each of them, the first 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Notice>,
}

impl Left {
    /// Whether there is anything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Takes up what was logged about one of those workers, if that is a warning.
    pub fn note(&mut self, notice: &Notice) {
        let count = match notice {
            Notice::Drained { ending: DrainEnding::Unhandled, .. } => &mut self.undrained,
            Notice::Drained { ending: DrainEnding::Handled, .. } => &mut self.ended_by_signal,
            Notice::Escalated { .. } => &mut self.escalated,
            Notice::SignalRefused { .. } => &mut self.unsignallable,
            Notice::LeftBehind { listens, .. } => {
                self.listening += u32::from(*listens);
                &mut self.left_behind
            }
            _ => return,
        };
        *count += 1;
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(notice.clone());
        }
    }

    /// Whether processes of a release that was replaced may still accept connections.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.listening > 0
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { undrained, ended_by_signal, escalated, unsignallable, left_behind, listening, .. } = *self;
        let silent = left_behind.saturating_sub(listening);
        let facts = [
            (listening, "left processes that hold a listener and may still serve"),
            (undrained, "did not drain"),
            (ended_by_signal, "may not have drained"),
            (escalated, "did not stop in time"),
            (unsignallable, "cannot be signalled"),
            (silent, "left processes behind"),
        ];
        let mut separator = "";
        for (count, what) in facts.into_iter().filter(|(count, _)| *count > 0) {
            let old = if count == 1 { "old worker" } else { "old workers" };
            write!(f, "{separator}{count} {old} {what}")?;
            separator = "; ";
        }
        if separator.is_empty() { f.write_str("no old worker left anything") } else { Ok(()) }
    }
}
