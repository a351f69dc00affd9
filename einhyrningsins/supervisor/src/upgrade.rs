//! The commands of an upgrade: it begins, or takes the place of one that runs, or somebody joins it or lets it go on.
//!
//! How it goes on stands in `rollout.rs`, and the commands to go back in `rollback.rs`.

use super::Moment;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use einhorn_proto::{Notice, Outcome, RolloutKind};

use super::event::{Action, Generation, RequestKey, UpgradePlan};
use super::rollout::{Canary, Rollout, Stage, Waiter};
use super::timers::Timer;
use super::{Phase, Supervisor};

impl Supervisor {
    pub(super) fn on_upgrade(&mut self, now: Moment, request: Option<RequestKey>, plan: UpgradePlan) {
        if let Some(refusal) = self.upgrade_refusal(plan) {
            return self.reply(request, false, refusal, None);
        }
        self.generation_last.0 += 1;
        let generation = self.generation_last;
        let mut rollout = Rollout::new(RolloutKind::Upgrade, generation, self.generation);
        if let Some(superseded) = self.rollout.take() {
            self.supersede(now, superseded, &mut rollout);
        }
        rollout.is_fleet = plan.is_fleet;
        rollout.canary = plan.canary.map(|slots| Canary { slots, soak: plan.soak });
        rollout.join(request, Outcome::Done);
        self.rollout = Some(rollout);
        self.actions.push(Action::ResolveRelease { generation });
    }

    /// Hands what an upgrade has come to over to the one that takes its place: who waits, what to go back to, and
    /// what to be rid of. Its successors that have no seat yet go.
    fn supersede(&mut self, now: Moment, old: Rollout, new: &mut Rollout) {
        let message =
            format!("generation {} takes the place of generation {}", new.generation, old.generation);
        let (from, gone) = match old.kind {
            RolloutKind::Upgrade => (old.from, old.generation),
            RolloutKind::Rollback => (old.generation, old.from),
        };
        new.from = from;
        self.generation = from;
        new.superseded = old.superseded;
        new.superseded.push(gone);
        let (waiting, aborting): (Vec<_>, Vec<_>) =
            old.waiters.into_iter().partition(|waiter| waiter.wants == Outcome::Done);
        new.waiters = waiting;
        for Waiter { request, .. } in aborting {
            self.reply(Some(request), false, format!("overtaken: {message}"), None);
        }
        self.timers.clear(Timer::Soak);
        self.seat_lone_successors(now);
        let mut culled = Vec::new();
        for (number, slot) in &mut self.pool.slots {
            self.timers.clear(Timer::Succeed(*number));
            culled.extend(slot.successor.take());
        }
        for id in culled {
            self.cull(now, id, "another upgrade takes the place of its own");
        }
        // Empty seats that waited for their turn now wait for that of the new one.
        new.todo.extend(
            self.pool.slots.iter().filter(|(_, slot)| slot.current.is_none()).map(|(number, _)| *number),
        );
        self.tell(Notice::Decided { message });
    }

    /// Why an upgrade by this plan would be refused now.
    #[must_use]
    pub fn upgrade_refusal(&self, plan: UpgradePlan) -> Option<String> {
        if let Some(refusal) = self.stopping() {
            return Some(refusal);
        }
        if self.rollout.is_some() && !self.policy.upgrade_restarts {
            return Some(format!("upgrade refused: {}", self.rollout_in_words()));
        }
        let wanted = self.wanted();
        match self.policy.upgrade_additional_max {
            Some(more) if plan.is_fleet && more < wanted => Some(format!(
                "fleet upgrade refused: it needs {wanted} workers more at a time, and --max-upgrade-additional \
                 allows {more}"
            )),
            _ => None,
        }
    }

    /// How far the rollout that runs has come.
    fn rollout_in_words(&self) -> String {
        let Some(rollout) = &self.rollout else { return "no upgrade runs".to_owned() };
        let (generation, wanted) = (rollout.generation, self.wanted());
        let upgraded = self.upgraded(generation);
        match rollout.stage {
            Stage::Soaking => {
                format!("generation {generation} is in its soak ({upgraded} of {wanted} slots have it)")
            }
            Stage::RollingBack(_) => {
                format!("generation {generation} is being rolled back ({upgraded} of {wanted} still have it)")
            }
            Stage::Resolving | Stage::Replacing => {
                format!("generation {generation} is still coming up ({upgraded} of {wanted} acked)")
            }
        }
    }

    /// Joins the rollout that runs: its progress and its end go to this request too.
    pub(super) fn on_follow(&mut self, request: Option<RequestKey>) {
        match &mut self.rollout {
            Some(rollout) => rollout.join(request, Outcome::Done),
            None => self.reply(request, false, "no upgrade runs".into(), None),
        }
    }

    /// Ends the soak.
    pub(super) fn on_continue(&mut self, now: Moment, request: Option<RequestKey>) {
        if self.rollout.as_ref().is_some_and(|rollout| matches!(rollout.stage, Stage::Soaking)) {
            #[cfg(test)]
            if self.sabotage == Some(super::model::Sabotage::ForgetWaiter) {
                return self.on_soak_over(now);
            }
            if let Some(rollout) = &mut self.rollout {
                rollout.join(request, Outcome::Done);
            }
            return self.on_soak_over(now);
        }
        let message = format!("nothing to continue: {}", self.rollout_in_words());
        self.reply(request, false, message, None);
    }

    pub(super) fn on_release_failed(&mut self, now: Moment, generation: Generation, reason: String) {
        if self.is_rolling_out(generation) {
            self.fail_rollout(now, reason, None);
        }
    }

    pub(super) fn on_release_resolved(&mut self, now: Moment, generation: Generation) {
        self.releases.insert(generation);
        let is_expected = self.rollout.as_ref().is_some_and(|rollout| {
            rollout.generation == generation && matches!(rollout.stage, Stage::Resolving)
        });
        if is_expected && self.phase == Phase::Running {
            self.begin_replacing(now);
        }
        self.forget_releases();
    }
}
