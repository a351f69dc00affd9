//! The turns that a rollout takes: it begins, supersedes another, soaks, turns back, ends.
//!
//! Whose turn it is in between is decided in `rules/rollout.rs`.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use einhorn_proto::{
    Death, DrainReason, LastReply, NotStarted, Notice, OptionChange, OptionEffect, Outcome, PastOutcome,
    Refusal, Requester, RolloutKind, Serving, UpgradeFailure, UpgradeReport, UpgradeStatus,
};

use super::Supervisor;
use super::aftermath::Ended;
use super::event::{Action, Generation, RequestKey, RolloutRecord, SlotNumber, UpgradePlan};
use super::moment::{Moment, milliseconds};
use super::plan::{Plan, Rollout, Stage};
use super::policy::OptionsChange;
use super::slot::{Attempts, Holder};
use super::tables::count;
use super::worker::{Drain, Worker};

impl Supervisor {
    /// Why no upgrade can begin now.
    pub(crate) fn upgrade_refusal(&self) -> Option<Refusal> {
        if !self.tables.plan.is_running() {
            return Some(Refusal::Stopping);
        }
        if self.tables.is_first_tried() {
            return Some(Refusal::FirstCheckRuns);
        }
        self.running_upgrade().filter(|_| !self.tables.policy.upgrade_restarts).map(Refusal::UpgradeRuns)
    }

    /// Why a fleet cannot begin with the options that it brings: for each slot that stays, a worker more lives.
    #[must_use]
    pub fn fleet_refusal(&self, plan: &UpgradePlan) -> Option<Refusal> {
        let wanted = self.tables.wanted();
        let wanted = plan.options.workers().map_or(wanted, |workers| workers.min(wanted));
        let max = plan.options.applied_to(&self.tables.policy).upgrade_additional_max;
        let additional_max = max.filter(|max| plan.is_fleet && *max < wanted)?;
        Some(Refusal::FleetTooLarge { wanted, additional_max })
    }

    /// The upgrade that runs, or that the shell prepares.
    pub(crate) fn running_upgrade(&self) -> Option<UpgradeStatus> {
        self.upgrade_status(self.now).or_else(|| self.prepared_status())
    }

    /// Begins an upgrade for `request`, in the place of the one that runs if there is one, by asking for its release.
    pub(crate) fn begin_upgrade(&mut self, plan: UpgradePlan, request: Option<RequestKey>) {
        let generation = self.tables.releases.next();
        let from = self.tables.releases.serving();
        // Of the one that it supersedes.
        self.end_trial();
        let mut old = self.tables.plan.take_rollout();
        self.undo(old.as_mut().map(Rollout::take_undo).unwrap_or_default());
        let policy = plan.options.applied_to(&self.tables.policy);
        self.tables.add_terms(generation, policy.terms());
        let rollout = Rollout::new(RolloutKind::Upgrade, generation, from, plan.requester.clone());
        let rollout = rollout.planned(&plan, &policy);
        if let Some(label) = plan.label {
            self.tables.releases.set_label(generation, label);
        }
        let mut rollout = match old {
            Some(old) => self.supersede(old, rollout),
            None => rollout,
        };
        rollout.join(request, Outcome::Done);
        self.tables.plan = Plan::Rolling(Box::new(rollout));
        self.actions.push(Action::ResolveRelease { generation });
    }

    /// Begins a rollback to `to` for `request`; the release of `to` is still held.
    pub(crate) fn begin_rollback(
        &mut self,
        to: Generation,
        request: Option<RequestKey>,
        requester: Requester,
    ) {
        let from = self.tables.releases.serving();
        let mut rollout = Rollout::new(RolloutKind::Rollback, to, from, requester);
        rollout.join(request, Outcome::Done);
        self.tables.plan = Plan::Rolling(Box::new(rollout));
    }

    /// `new` takes the place of `old`, whose successors that have no slot yet are not wanted any more.
    fn supersede(&mut self, mut old: Rollout, new: Rollout) -> Rollout {
        let (generation, by) = (old.to().0, new.to().0);
        let refusal = Refusal::Superseded { generation, by };
        old.end_by(new.requester().clone());
        self.record_rollout(&old, PastOutcome::Superseded, Some(format!("{refusal}")));
        let (new, aborting) = new.superseding(old);
        let previous = self.tables.releases.previous();
        self.tables.releases.serve(new.from(), previous);
        for request in aborting {
            self.reply(Some(request), LastReply::Refused(refusal.clone()));
        }
        self.cull_successors(DrainReason::UpgradeSuperseded);
        self.tell(Notice::Decided { message: format!("{refusal}") });
        new
    }

    /// Lets successors go that have no slot yet. One that waits for its fleet may be all that serves its slot, and
    /// takes it.
    fn cull_successors(&mut self, why: DrainReason) {
        for (number, slot) in self.tables.pool.successors() {
            let current = slot.current().and_then(|id| self.tables.pool.worker(id));
            match self.tables.pool.pass_of(number) {
                Some(pass) if !current.is_some_and(Worker::is_up) => self.pass(pass),
                _ => slot.successor().into_iter().for_each(|successor| self.cull(successor, why)),
            }
        }
    }

    /// The release is there. Every slot gets another chance, and empty ones get the new release first.
    pub(crate) fn begin_replacing(&mut self) {
        self.is_held_for_upgrade = false;
        let interrupted = self.tables.recycling.interrupt();
        let successor = interrupted.and_then(|slot| self.tables.pool.slot(slot)?.successor());
        if let Some(successor) = successor {
            self.cull(successor, DrainReason::UpgradeBegan);
        }
        self.tables.releases.forget_previous();
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            rollout.begin(self.now);
            let OptionsChange { settings, changes } = rollout.options().clone();
            for change in changes {
                self.tell(Notice::OptionChanged(change));
            }
            let undo = self.set_all(settings);
            let Some(rollout) = self.tables.plan.rollout_mut() else { return };
            rollout.has_set(undo);
            let (kind, to, canary) = (rollout.kind(), rollout.to(), rollout.canary());
            self.reset_slots(to, canary.map_or(usize::MAX, |canary| canary.slots as usize));
            let workers = self.tables.wanted();
            self.tell(Notice::UpgradeStarted { kind, generation: to.0, workers });
        }
    }

    /// Forgets the failures of every slot, and gives at most `empty_max` empty ones to the release of `to`.
    fn reset_slots(&mut self, to: Generation, mut empty_max: usize) {
        let numbers: Vec<_> = self.tables.pool.slots().map(|(number, slot)| (number, slot.holder)).collect();
        for (number, holder) in numbers {
            match holder {
                Holder::Empty { .. } | Holder::GivenUp if empty_max > 0 => {
                    empty_max -= 1;
                    self.tables.pool.reassign(number, to, self.now);
                }
                Holder::GivenUp => self.tables.pool.forgive(number, self.now),
                Holder::Empty { .. } | Holder::Held { .. } | Holder::Passing { .. } | Holder::Closed => {
                    self.tables.pool.set_attempts(number, Attempts::default());
                }
            }
        }
    }

    pub(crate) fn begin_soak(&mut self) {
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            let soak = rollout.canary().and_then(|canary| canary.soak);
            rollout.soak(soak.map(|soak| self.now + soak), self.now);
            let generation = rollout.to();
            let workers = count(self.tables.pool.up_of(generation));
            let soak_ms = soak.map(milliseconds);
            self.tell(Notice::SoakStarted { generation: generation.0, workers, soak_ms });
        }
    }

    pub(crate) fn end_soak(&mut self) {
        self.end_check_job();
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            rollout.go_on();
            let generation = rollout.to().0;
            self.tell(Notice::SoakOver { generation });
        }
    }

    /// Turns the rollout back. Once it has, calling again changes nothing: the first reason stands.
    ///
    /// What has no slot or has not acked drains at once. Slots that this leaves empty, or that the new release had
    /// left empty, are filled from the previous one. A slot that has a new worker which has acked keeps it until a
    /// successor from the previous release has.
    pub(crate) fn turn_back(&mut self, failure: UpgradeFailure) {
        self.end_trial();
        let rollout = self.tables.plan.rollout_mut().filter(|rollout| !rollout.is_rolling_back());
        if let Some(rollout) = rollout {
            let (kind, generation, from) = (rollout.kind(), rollout.to().0, rollout.from());
            let (is_untouched, brought) = (rollout.is_untouched(), rollout.brought().collect());
            let reason = format!("{failure}");
            rollout.turn_back(failure);
            if is_untouched {
                return self.end_rollout(Outcome::RolledBack);
            }
            let undo = rollout.take_undo();
            self.tell(Notice::RollbackStarted { kind, generation, reason });
            self.cull_successors(DrainReason::UpgradeFailed);
            self.undo(undo);
            self.give_back_slots(&brought, from);
        }
    }

    /// Gives the slots back to `from` that run one of `brought` and in which it does not serve.
    fn give_back_slots(&mut self, brought: &BTreeSet<Generation>, from: Generation) {
        let pool = &self.tables.pool;
        let is_up = |id| pool.worker(id).is_some_and(Worker::is_up);
        let slots = pool.slots().filter(|(_, slot)| brought.contains(&slot.generation));
        let idle = slots.filter(|(_, slot)| !slot.current().is_some_and(is_up));
        let idle: Vec<_> = idle.map(|(number, slot)| (number, slot.current())).collect();
        for (number, current) in idle {
            current.into_iter().for_each(|worker| self.cull(worker, DrainReason::UpgradeFailed));
            self.tables.pool.reassign(number, from, self.now);
        }
    }

    /// The previous release fails too: whoever waits is told, and what serves goes on serving.
    pub(crate) fn give_up_rollback(&mut self, slot: SlotNumber, death: Death) {
        for (_, slot) in self.tables.pool.successors() {
            slot.successor().into_iter().for_each(|id| self.cull(id, DrainReason::RollbackFailed));
        }
        if let Some(rollout) = self.tables.plan.rollout_mut()
            && let Stage::RollingBack { failure, .. } = rollout.stage()
        {
            let first = failure.clone().into();
            rollout.turn_back(UpgradeFailure::Rollback { first, slot: slot.0, death });
        }
        self.end_rollout(Outcome::Failed);
    }

    /// The master stops: the rollout ends where it is.
    pub(crate) fn end_rollout_at_stop(&mut self) {
        self.forget_trial();
        self.empty_queue(NotStarted::Stopping);
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            let outcome = if rollout.is_untouched() { Outcome::RolledBack } else { Outcome::Failed };
            if !rollout.is_rolling_back() {
                rollout.turn_back(UpgradeFailure::MasterStopping);
            }
            self.end_rollout(outcome);
        }
        self.tables.aftermath.hurry();
    }

    /// Ends the rollout, informs everybody, and forgets what it was about.
    pub(crate) fn end_rollout(&mut self, outcome: Outcome) {
        self.is_held_for_upgrade = false;
        if let Some(rollout) = self.tables.plan.take_rollout() {
            let report = self.report(&rollout, outcome);
            self.record_rollout(&rollout, outcome.into(), report.reason.clone());
            let notice = if outcome == Outcome::Done {
                // An upgrade can be undone. What a rollback has left is known to be bad, and not kept to go back to.
                let previous = (rollout.kind() == RolloutKind::Upgrade).then_some(rollout.from());
                self.tables.releases.serve(rollout.to(), previous);
                let UpgradeReport { kind, generation, took_ms, draining, .. } = report;
                Notice::UpgradeDone { kind, generation, took_ms, draining }
            } else {
                self.failure_notice(&rollout, &report)
            };
            self.tell(notice.clone());
            self.await_report(&rollout, report, notice);
            self.forget_releases();
        }
    }

    /// Adds a rollout that has ended to the history.
    fn record_rollout(&mut self, rollout: &Rollout, outcome: PastOutcome, reason: Option<String>) {
        let rollout = Box::new(RolloutRecord {
            kind: rollout.kind(),
            order: rollout.order(),
            generation: rollout.to(),
            from: rollout.from(),
            label: self.tables.releases.label(rollout.to()).cloned(),
            requester: rollout.requester().clone(),
            took: rollout.since().map_or(Duration::ZERO, |since| self.now - since),
            outcome,
            is_untouched: rollout.is_untouched(),
            ended_by: rollout.ended_by().cloned(),
            listening: rollout.left().listening,
            reason,
        });
        self.actions.push(Action::Record { rollout });
    }

    /// The report comes when the workers have gone that the rollout has asked to stop, or when it can wait no longer.
    fn await_report(&mut self, rollout: &Rollout, report: UpgradeReport, notice: Notice) {
        let workers = self.tables.pool.workers().filter(|worker| !worker.is_trial());
        let drains = workers.filter_map(|worker| Some((worker.id, worker.drain()?)));
        let is_replaced = |drain: Drain| rollout.since().is_some_and(|since| since <= drain.since);
        let mut old: BTreeSet<_> =
            drains.filter(|(_, drain)| is_replaced(*drain)).map(|(id, _)| id).collect();
        let untold = self.tables.leftovers.untold();
        old.extend(untold.filter(|(_, generation)| *generation != rollout.target()).map(|(id, _)| id));
        let wait = self.tables.policy.report_wait;
        // What does not wait is due at any time.
        let soon = if wait.is_zero() { Moment::default() } else { self.now + wait };
        let report_at = (!rollout.is_reported_drained()).then_some(soon);
        let (waiters, ended_at) = (rollout.waiters().to_vec(), self.now);
        self.tables.aftermath.add(Ended {
            report,
            from: rollout.from(),
            notice,
            waiters,
            old,
            ended_at,
            report_at,
            is_reported: false,
        });
    }

    fn failure_notice(&self, rollout: &Rollout, report: &UpgradeReport) -> Notice {
        let serving = Serving {
            from: rollout.from().0,
            old: count(self.tables.pool.up_of(rollout.from())),
            generation: report.generation,
            new: report.upgraded,
            wanted: report.wanted,
            is_untouched: report.is_untouched,
        };
        Notice::UpgradeFailed {
            kind: report.kind,
            generation: report.generation,
            reason: report.reason.clone().unwrap_or_default(),
            serving: format!("{serving}"),
        }
    }

    fn report(&self, rollout: &Rollout, outcome: Outcome) -> UpgradeReport {
        let failure = match rollout.stage() {
            Stage::RollingBack { failure, .. } => Some(failure),
            Stage::Resolving | Stage::Trying | Stage::Replacing | Stage::Soaking { .. } => None,
        };
        UpgradeReport {
            kind: rollout.kind(),
            outcome,
            is_untouched: rollout.is_untouched(),
            generation: rollout.to().0,
            reason: failure.map(|failure| format!("{failure}")),
            death: failure.and_then(UpgradeFailure::death).cloned(),
            check: failure.and_then(UpgradeFailure::check),
            upgraded: count(self.tables.pool.up_of(rollout.to())),
            wanted: self.tables.wanted(),
            draining: count(self.tables.pool.draining()),
            took_ms: rollout.since().map_or(0, |since| milliseconds(self.now - since)),
            left: rollout.left().clone(),
            pace: rollout.pace(),
            options: options_of(rollout, outcome),
            hint: None,
        }
    }

    /// Lets the shell forget the releases that nothing can be spawned from any more.
    pub(crate) fn forget_releases(&mut self) {
        let used: BTreeSet<_> = self.tables.used_generations();
        for generation in self.tables.releases.forget_unused(used) {
            self.actions.push(Action::ForgetRelease { generation });
        }
    }
}

/// What became of the options that a rollout was to change.
fn options_of(rollout: &Rollout, outcome: Outcome) -> Vec<OptionChange> {
    let mut changes = rollout.options().changes.clone();
    for change in &mut changes {
        if outcome != Outcome::Done && change.effect == OptionEffect::Now {
            change.effect = OptionEffect::Undone;
        }
    }
    changes
}
