//! A slot that has lost a worker which it had not asked to stop.
//!
//! An ack resets what counts against a slot. Before it, each death lengthens the wait, and tries are limited: by
//! `Retries::upgrade` for what an upgrade brings, and for its rollback; by the other two elsewhere. A successor that
//! was to replace one worker (recycling) is tried without end: its slot serves.

use super::{Fate, Step, View};
use crate::moment::Moment;
use crate::pacing::respawn_at;
use crate::plan::{Rollout, Stage};
use crate::pool::{Cause, Loss, Role};
use crate::slot::Attempts;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    view.tables.pool.loss().map(|loss| Step::Decide(fate(view, loss)))
}

fn fate(view: &View<'_>, loss: &Loss) -> Fate {
    let recycling = &view.tables.recycling;
    match (loss.role, view.tables.plan.rollout()) {
        (Role::HolderBeforeSuccessor, _) => Fate::Succeeded,
        (Role::Successor, _) if recycling.is_succeeding(loss.slot) => {
            Fate::FailTurn { at: after(view, loss, recycling.failures() + 1) }
        }
        (_, Some(rollout)) if rollout.is_rolling_back() => in_rollback(view, loss, rollout),
        (_, Some(rollout)) if rollout.to() == loss.generation => in_rollout(view, loss, rollout),
        (Role::Holder | Role::Successor, _) => outside_of_rollouts(view, loss),
    }
}

/// It ran what the rollout brings.
fn in_rollout(view: &View<'_>, loss: &Loss, rollout: &Rollout) -> Fate {
    let attempts = rollout.attempts(loss.slot);
    if let Stage::Soaking { .. } = rollout.stage() {
        return Fate::TurnBack { tries: None };
    }
    if loss.cause == Cause::CannotSpawn || attempts.tries >= view.tables.policy.retries.upgrade {
        return Fate::TurnBack { tries: Some(attempts.tries) };
    }
    Fate::Retry { at: after(view, loss, attempts.deaths + 1) }
}

/// It was lost in a rollback.
fn in_rollback(view: &View<'_>, loss: &Loss, rollout: &Rollout) -> Fate {
    if loss.role == Role::Holder && rollout.has_brought(loss.generation) {
        return Fate::GiveBack(rollout.from());
    }
    let deaths = rollout.attempts(loss.slot).deaths + 1;
    let at = after(view, loss, deaths);
    if loss.cause == Cause::CannotSpawn || deaths >= view.tables.policy.retries.upgrade {
        return Fate::FailRollback { at };
    }
    Fate::Retry { at }
}

fn outside_of_rollouts(view: &View<'_>, loss: &Loss) -> Fate {
    let slot = view.tables.pool.slot(loss.slot);
    let mut attempts = slot.map_or(Attempts::default(), |slot| slot.attempts);
    if !loss.death.acked {
        attempts.deaths += 1;
        // A loaded system is no fault of the release.
        if loss.cause == Cause::CannotSpawnNow {
            attempts.tries = attempts.tries.saturating_sub(1);
        }
        if is_exhausted(view, loss, attempts) {
            return Fate::GiveUp { attempts };
        }
    }
    Fate::Wait { at: after(view, loss, attempts.deaths), attempts }
}

/// Whether a slot has had all the tries that it gets.
fn is_exhausted(view: &View<'_>, loss: &Loss, attempts: Attempts) -> bool {
    let retries = view.tables.policy.retries;
    let is_proven = view.tables.releases.is_proven(loss.generation);
    let tries_max = if is_proven { retries.proven } else { retries.unproven };
    tries_max.is_some_and(|max| loss.cause == Cause::CannotSpawn || attempts.tries >= max)
}

fn after(view: &View<'_>, loss: &Loss, deaths: u32) -> Moment {
    respawn_at(view.now, loss.spawned_at, view.tables.policy.seconds, deaths)
}
