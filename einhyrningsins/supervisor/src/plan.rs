//! What is wanted of the pool: that it stays as it is, that it changes its release, or that it ends.
//!
//! A rollout is data. Its order (smooth, fleet, canary) and its direction (forward, or back to where it came from)
//! are read by one set of rules, `rules/rollout.rs`. It ends by being dropped: what it had planned for single slots
//! goes with it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use einhorn_proto::{
    ExitReason, Left, Notice, Outcome, Pace, Requester, RolloutKind, RolloutOrder, UpgradeFailure,
};
use serde::{Deserialize, Serialize};

use super::event::{CheckPlan, Generation, JobId, RequestKey, SlotNumber, SoakCheck, UpgradePlan};
use super::moment::Moment;
use super::policy::{OptionsChange, Policy, Undo};
use super::slot::Attempts;
use super::soak::Checking;
use super::tables::is_default;

/// What is wanted of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plan {
    /// Nothing yet: the master has not started.
    Waiting,
    /// Every slot runs the generation that serves.
    Steady,
    /// Every slot is to run another generation.
    Rolling(Box<Rollout>),
    /// The master exits once its last worker has gone.
    Stopping {
        code: u8,
        why: ExitReason,
        /// When it began, or was last taken a step further.
        #[serde(default)]
        stepped_at: Moment,
    },
    /// It has exited.
    Exited,
}

impl Plan {
    /// Whether workers are supervised: neither before the start nor at the end.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self, Self::Steady | Self::Rolling(_))
    }

    pub(crate) fn rollout(&self) -> Option<&Rollout> {
        match self {
            Self::Rolling(rollout) => Some(&**rollout),
            Self::Waiting | Self::Steady | Self::Stopping { .. } | Self::Exited => None,
        }
    }

    pub(crate) fn rollout_mut(&mut self) -> Option<&mut Rollout> {
        match self {
            Self::Rolling(rollout) => Some(&mut **rollout),
            Self::Waiting | Self::Steady | Self::Stopping { .. } | Self::Exited => None,
        }
    }

    /// Ends the rollout that runs.
    pub(crate) fn take_rollout(&mut self) -> Option<Rollout> {
        match core::mem::replace(self, Self::Steady) {
            Self::Rolling(rollout) => Some(*rollout),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// A rollout that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rollout {
    kind: RolloutKind,
    /// What it brings.
    to: Generation,
    /// What was there before.
    from: Generation,
    /// What upgrades brought that this one superseded before they were done; slots may still have it.
    superseded: BTreeSet<Generation>,
    /// The order that was asked for; the history shows it.
    #[serde(default)]
    order: RolloutOrder,
    /// Who asked for it; of several, the first. The history shows it.
    #[serde(default)]
    requester: Box<Requester>,
    /// Who ended it before its time. The history shows it.
    #[serde(default, skip_serializing_if = "is_default")]
    ended_by: Option<Box<Requester>>,
    /// Whether all new workers take their slots together.
    is_fleet: bool,
    /// The slots that try the new release before the rest follows.
    canary: Option<Canary>,
    /// The command that is to check its release; `None` once that has begun.
    #[serde(default, skip_serializing_if = "is_default")]
    check: Option<String>,
    /// What checks the canaries.
    #[serde(default, skip_serializing_if = "is_default")]
    soak_check: Option<SoakCheck>,
    waiters: Vec<Waiter>,
    /// Whether its report waits for the last worker that it replaces.
    #[serde(default)]
    is_reported_drained: bool,
    /// When it began to replace workers.
    since: Option<Moment>,
    stage: Stage,
    /// The slots in which it has tried to have a worker, and how that went.
    attempts: BTreeMap<SlotNumber, Attempts>,
    /// The slots that keep their worker until they may try the next successor.
    retries: BTreeMap<SlotNumber, Moment>,
    /// What was found out about the workers that it replaces.
    #[serde(default)]
    left: Left,
    /// How many of its workers have started at a time, at most.
    #[serde(default)]
    pace: Option<Pace>,
    /// What it changes of the options, or has changed.
    #[serde(default, skip_serializing_if = "is_default")]
    options: OptionsChange,
    /// How to undo that, once it is done.
    #[serde(default, skip_serializing_if = "is_default")]
    undo: Vec<Undo>,
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// The shell looks for what the new generation runs.
    Resolving,
    /// The release is being tried, and nothing was replaced yet.
    Trying,
    /// Workers are being replaced.
    Replacing,
    /// The canaries are up; the rest waits until then, or until somebody says to go on.
    Soaking {
        until: Option<Moment>,
        #[serde(default, skip_serializing_if = "is_default")]
        check: Option<Checking>,
    },
    /// It has failed, and what it had replaced is replaced again.
    RollingBack {
        failure: UpgradeFailure,
        /// Whether it had not begun to replace workers, and ends at once.
        #[serde(default, skip_serializing_if = "is_default")]
        is_untouched: bool,
    },
}

/// The slots that try a new release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Canary {
    pub(crate) slots: u32,
    /// How long the soak lasts; `None` until somebody says to go on.
    pub(crate) soak: Option<Duration>,
}

/// Who waits for the end, and which end is the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) request: RequestKey,
    pub(crate) wants: Outcome,
}

impl Rollout {
    /// A smooth one, from `from` to `to`, that `requester` asked for.
    pub(crate) fn new(kind: RolloutKind, to: Generation, from: Generation, requester: Requester) -> Self {
        Self {
            kind,
            to,
            from,
            superseded: BTreeSet::new(),
            order: RolloutOrder::Smooth,
            requester: Box::new(requester),
            ended_by: None,
            is_fleet: false,
            canary: None,
            check: None,
            soak_check: None,
            waiters: Vec::new(),
            is_reported_drained: false,
            since: None,
            stage: Stage::Resolving,
            attempts: BTreeMap::new(),
            retries: BTreeMap::new(),
            left: Left::default(),
            pace: None,
            options: OptionsChange::default(),
            undo: Vec::new(),
        }
    }

    /// As it was planned: a fleet at once, or some canaries first. `policy` has what it changes.
    pub(crate) fn planned(self, plan: &UpgradePlan, policy: &Policy) -> Self {
        let &UpgradePlan { is_fleet, is_reported_drained, .. } = plan;
        let canary = plan.canary.map(|slots| Canary { slots, soak: plan.soak });
        let order = match (is_fleet, canary) {
            (true, _) => RolloutOrder::Fleet,
            (false, Some(_)) => RolloutOrder::Canary,
            (false, None) => RolloutOrder::Smooth,
        };
        let check = match &plan.check {
            CheckPlan::ByPolicy => policy.check.clone(),
            CheckPlan::Never => None,
            CheckPlan::By(command) => Some(command.clone()),
        };
        let (soak_check, options) = (plan.soak_check.clone(), plan.options.clone());
        Self { order, is_fleet, canary, check, soak_check, is_reported_drained, options, ..self }
    }

    /// What it changes of the options.
    pub(crate) fn options(&self) -> &OptionsChange {
        &self.options
    }

    /// The options are changed.
    pub(crate) fn has_set(&mut self, undo: Vec<Undo>) {
        self.undo = undo;
    }

    /// How to undo that, once.
    pub(crate) fn take_undo(&mut self) -> Vec<Undo> {
        core::mem::take(&mut self.undo)
    }

    #[cfg(test)]
    pub(crate) fn undo(&self) -> &[Undo] {
        &self.undo
    }

    /// The order that was asked for.
    pub(crate) fn order(&self) -> RolloutOrder {
        self.order
    }

    /// Who asked for it; of several, the first.
    pub(crate) fn requester(&self) -> &Requester {
        &self.requester
    }

    /// Somebody ends it. Once it has failed, somebody else's abort or stop does not change why.
    pub(crate) fn end_by(&mut self, requester: Requester) {
        if !self.is_rolling_back() {
            self.ended_by = Some(Box::new(requester));
        }
    }

    /// Who ended it before its time.
    pub(crate) fn ended_by(&self) -> Option<&Requester> {
        self.ended_by.as_deref()
    }

    /// Whether its report waits for the last worker that it replaces.
    pub(crate) fn is_reported_drained(&self) -> bool {
        self.is_reported_drained
    }

    /// In the place of `old`, with what that leaves behind: what to go back to, what to be rid of, and who waits for
    /// the end. Whoever waits for `old` to be aborted is named.
    pub(crate) fn superseding(mut self, old: Self) -> (Self, Vec<RequestKey>) {
        let (from, gone) = match old.kind {
            RolloutKind::Upgrade => (old.from, old.to),
            RolloutKind::Rollback => (old.to, old.from),
        };
        self.from = from;
        self.superseded = old.superseded;
        self.superseded.insert(gone);
        let (waiting, aborting): (Vec<_>, Vec<_>) =
            old.waiters.into_iter().partition(|waiter| waiter.wants == Outcome::Done);
        self.waiters = waiting;
        (self, aborting.into_iter().map(|waiter| waiter.request).collect())
    }

    pub(crate) fn kind(&self) -> RolloutKind {
        self.kind
    }

    pub(crate) fn to(&self) -> Generation {
        self.to
    }

    pub(crate) fn from(&self) -> Generation {
        self.from
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(crate) fn since(&self) -> Option<Moment> {
        self.since
    }

    pub(crate) fn canary(&self) -> Option<Canary> {
        self.canary
    }

    /// Counts a warning about a worker that the rollout replaces.
    pub(crate) fn note(&mut self, notice: &Notice) {
        self.left.note(notice);
    }

    /// What was found out about the workers that it replaces.
    pub(crate) fn left(&self) -> &Left {
        &self.left
    }

    pub(crate) fn waiters(&self) -> &[Waiter] {
        &self.waiters
    }

    pub(crate) fn requests(&self) -> Vec<RequestKey> {
        self.waiters.iter().map(|waiter| waiter.request).collect()
    }

    /// What its spawns run: the new release, or the previous one when it goes back.
    pub(crate) fn target(&self) -> Generation {
        if self.is_rolling_back() { self.from } else { self.to }
    }

    /// Whether a slot of `generation` is to get another one.
    pub(crate) fn replaces(&self, generation: Generation) -> bool {
        if self.is_rolling_back() { self.has_brought(generation) } else { generation != self.to }
    }

    /// Whether it, or one that it superseded, has brought `generation`.
    pub(crate) fn has_brought(&self, generation: Generation) -> bool {
        self.to == generation || self.superseded.contains(&generation)
    }

    /// Every generation that it, or one that it superseded, has brought.
    pub(crate) fn brought(&self) -> impl Iterator<Item = Generation> {
        self.superseded.iter().copied().chain([self.to])
    }

    pub(crate) fn is_rolling_back(&self) -> bool {
        matches!(self.stage, Stage::RollingBack { .. })
    }

    /// Whether all workers are being replaced at once.
    pub(crate) fn is_fleet_forward(&self) -> bool {
        self.is_fleet && self.stage == Stage::Replacing
    }

    /// Whether the soak ends by itself at `now`.
    pub(crate) fn is_soak_over(&self, now: Moment) -> bool {
        // What is being found out counts.
        self.soak_ends().is_some_and(|until| until <= now) && self.soak_job().is_none()
    }

    pub(crate) fn soak_ends(&self) -> Option<Moment> {
        match self.stage {
            Stage::Soaking { until, .. } => until,
            _ => None,
        }
    }

    /// Whether nothing was replaced yet, by this one or by one that it superseded.
    pub(crate) fn is_untouched(&self) -> bool {
        match self.stage {
            Stage::Resolving | Stage::Trying => self.superseded.is_empty(),
            Stage::Replacing | Stage::Soaking { .. } => false,
            Stage::RollingBack { is_untouched, .. } => is_untouched,
        }
    }

    /// What a new slot is to run, while it goes on: with canaries, or in a rollback, the previous release.
    pub(crate) fn generation_of_new_slots(&self) -> Generation {
        match self.stage {
            Stage::Replacing if self.canary.is_none() => self.to,
            _ => self.from,
        }
    }

    /// The attempts in `slot` so far.
    pub(crate) fn attempts(&self, slot: SlotNumber) -> Attempts {
        self.attempts.get(&slot).copied().unwrap_or_default()
    }

    /// The slots that may try their next successor now.
    pub(crate) fn retry_due(&self, now: Moment) -> impl Iterator<Item = SlotNumber> {
        self.retries.iter().filter(move |(_, at)| **at <= now).map(|(slot, _)| *slot)
    }

    /// The slots that may not try their next successor yet.
    pub(crate) fn retries_waiting(&self, now: Moment) -> usize {
        self.retries.values().filter(|at| **at > now).count()
    }

    /// When `slot`, which has lost a successor, may try the next one.
    pub(crate) fn retry_of(&self, slot: SlotNumber) -> Option<Moment> {
        self.retries.get(&slot).copied()
    }

    /// When something is to happen by itself, or, after `now`, may happen.
    pub(crate) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let retries = self.retries.values().copied().filter(|at| *at > now);
        let soak_ends = self.soak_ends().filter(|_| self.soak_job().is_none());
        let check = self.soak_checking().and_then(Checking::due).filter(|at| *at > now);
        retries.chain(soak_ends).chain(check).min()
    }

    pub(crate) fn join(&mut self, request: Option<RequestKey>, wants: Outcome) {
        self.waiters.extend(request.map(|request| Waiter { request, wants }));
    }

    /// Nobody waits for the answer to `request` any more.
    pub(crate) fn abandon(&mut self, request: RequestKey) {
        self.waiters.retain(|waiter| waiter.request != request);
    }

    /// Takes the command that checks its release; `None` once it was taken.
    pub(crate) fn take_check(&mut self) -> Option<String> {
        self.check.take()
    }

    #[cfg(test)]
    pub(crate) fn is_to_be_checked(&self) -> bool {
        self.check.is_some()
    }

    /// The release is there, and is tried first.
    pub(crate) fn try_first(&mut self, now: Moment) {
        self.since = Some(now);
        self.stage = Stage::Trying;
    }

    /// Workers are replaced from now on.
    pub(crate) fn begin(&mut self, now: Moment) {
        self.since.get_or_insert(now);
        self.stage = Stage::Replacing;
    }

    /// A worker of it is spawned into `slot`.
    pub(crate) fn tries(&mut self, slot: SlotNumber) {
        self.attempts.entry(slot).or_default().tries += 1;
        self.retries.remove(&slot);
    }

    /// So many of its workers start now, and why no more do.
    pub(crate) fn paced(&mut self, pace: Pace) {
        if self.pace.is_none_or(|most| most.workers < pace.workers) {
            self.pace = Some(pace);
        }
    }

    pub(crate) fn pace(&self) -> Option<Pace> {
        self.pace
    }

    /// A worker of it died in `slot`.
    pub(crate) fn died(&mut self, slot: SlotNumber) {
        self.attempts.entry(slot).or_default().deaths += 1;
    }

    /// `slot` keeps its worker, and tries the next successor at `at`.
    pub(crate) fn retry_at(&mut self, slot: SlotNumber, at: Moment) {
        self.retries.insert(slot, at);
    }

    /// `slot` is gone.
    pub(crate) fn forget_slot(&mut self, slot: SlotNumber) {
        self.attempts.remove(&slot);
        self.retries.remove(&slot);
    }

    /// The canaries are up.
    pub(crate) fn soak(&mut self, until: Option<Moment>, now: Moment) {
        let check = self.soak_check.is_some().then(|| Checking::new(now));
        self.stage = Stage::Soaking { until, check };
    }

    /// What checks the canaries.
    pub(crate) fn soak_check(&self) -> Option<&SoakCheck> {
        self.soak_check.as_ref()
    }

    /// How far the check of the canaries is.
    pub(crate) fn soak_checking(&self) -> Option<&Checking> {
        match &self.stage {
            Stage::Soaking { check, .. } => check.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn soak_checking_mut(&mut self) -> Option<&mut Checking> {
        match &mut self.stage {
            Stage::Soaking { check, .. } => check.as_mut(),
            _ => None,
        }
    }

    /// The job that checks the canaries.
    pub(crate) fn soak_job(&self) -> Option<JobId> {
        self.soak_checking().and_then(Checking::job)
    }

    /// The rest follows the canaries.
    pub(crate) fn go_on(&mut self) {
        self.canary = None;
        self.stage = Stage::Replacing;
    }

    /// New workers take their slots one by one from now on.
    pub(crate) fn thin_out(&mut self) {
        self.is_fleet = false;
    }

    /// It goes back.
    pub(crate) fn turn_back(&mut self, failure: UpgradeFailure) {
        self.stage = Stage::RollingBack { failure, is_untouched: self.is_untouched() };
        self.attempts.clear();
        self.retries.clear();
    }
}
