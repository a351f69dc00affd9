//! An upgrade, or the way back from one: how it stands, and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Death;

/// Which way a rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutKind {
    /// To a new release.
    #[default]
    Upgrade,
    /// To the one before, because somebody asked for it.
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

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeStage {
    /// The master looks for what the new generation runs.
    Resolving,
    /// Workers are being replaced.
    #[default]
    Replacing,
    /// The first few are replaced, and the rest waits to see how they do.
    Soaking,
    /// It has failed or was aborted, and what it had replaced is replaced again.
    RollingBack,
}

/// An upgrade that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeStatus {
    /// Upgrade, or a rollback that somebody asked for.
    #[serde(default)]
    pub kind: RolloutKind,
    /// How far it is.
    #[serde(default)]
    pub stage: UpgradeStage,
    /// The generation that it brings.
    pub generation: u64,
    /// The generation that was there before.
    #[serde(default)]
    pub from: u64,
    /// In a soak: how long still, in milliseconds; `None` until somebody says to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak_left_ms: Option<u64>,
    /// Slots that have a worker up with it.
    pub upgraded: u32,
    /// Slots in all.
    pub wanted: u32,
    /// New workers that have not acked.
    pub starting: u32,
    /// Since it began, in milliseconds.
    pub age_ms: u64,
}

/// How far a rollout is: sent with each line of its progress since version 2 of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Upgrade, or a rollback that somebody asked for.
    pub kind: RolloutKind,
    /// How far it is.
    pub stage: UpgradeStage,
    /// The generation that it brings, also while it is being rolled back.
    pub generation: u64,
    /// Slots that are served as they are to be in the end: by the new generation, or, while it is being rolled back, by
    /// the previous one.
    pub done: u32,
    /// Slots in all.
    pub wanted: u32,
    /// Workers of the generation that the rollout leads to now, new or previous, that have not acked.
    pub starting: u32,
    /// Workers, of any generation, that are draining.
    pub draining: u32,
}

/// How an upgrade ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every worker runs the new release and has acked.
    Done,
    /// The new release failed, or was not wanted; every worker runs the one before. `reason` says why.
    RolledBack,
    /// It failed, and so did the way back; `reason` says why.
    Failed,
}

/// The end of an upgrade, as its last reply carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// Upgrade or rollback.
    #[serde(default)]
    pub kind: RolloutKind,
    /// How it ended.
    pub outcome: Outcome,
    /// The generation that it brought, or would have brought.
    pub generation: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The death that decided it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
    /// Workers that are up with the new generation.
    pub upgraded: u32,
    /// Workers asked for.
    pub wanted: u32,
    /// Old workers that still finish what they have.
    pub draining: u32,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}
