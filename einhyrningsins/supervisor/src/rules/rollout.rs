//! An upgrade or a rollback that runs: whose turn it is, and when it has come to the end of a stage.
//!
//! Smooth: a slot gets a successor while its worker goes on serving. Fleet: every slot gets one at once. Canary: smooth
//! for the first few slots, then a soak in which any death of a new worker is the end of it. An empty slot gets the
//! new release directly. A rollout that has failed goes back in the same way, smoothly: the slots that it has brought
//! to its release are replaced, and no worker that has acked goes before another has.

use super::{Step, View};
use crate::event::SlotNumber;
use crate::plan::{Rollout, Stage};

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let rollout = view.tables.plan.rollout()?;
    if let Stage::Resolving | Stage::Trying | Stage::Soaking { .. } = rollout.stage() {
        return None;
    }
    match next_slot(view, rollout) {
        Some(slot) => replace(view, rollout, slot),
        None => finish_stage(view, rollout),
    }
}

fn replace(view: &View<'_>, rollout: &Rollout, slot: SlotNumber) -> Option<Step> {
    let pool = &view.tables.pool;
    let (target, current) = (rollout.target(), pool.slot(slot)?.current());
    // A successor leaves room for the slots that wait for a worker of their own.
    let needs = current.map_or(1, |_| 1 + pool.vacancies());
    if view.may_spawn() && view.tables.has_room_for(needs) {
        return Some(match current {
            Some(worker) => Step::Replace(slot, worker, target),
            None => Step::Reassign(slot, target),
        });
    }
    // A fleet that has grown beyond its bound would wait for ever for the last of it.
    let is_stuck = pool.unacked() == 0 && pool.unspawned.is_empty();
    (rollout.is_fleet_forward() && is_stuck).then_some(Step::ThinOut)
}

/// The next slot that is to have a worker of the rollout, if it may have one now. Those that have lost one come first.
fn next_slot(view: &View<'_>, rollout: &Rollout) -> Option<SlotNumber> {
    if are_canaries_placed(view, rollout) {
        return None;
    }
    let pool = &view.tables.pool;
    let is_open = |slot: &SlotNumber| {
        pool.slot(*slot).is_some_and(|slot| slot.successor().is_none() && rollout.replaces(slot.generation))
    };
    rollout.retry_due(view.now).find(is_open).or_else(|| {
        let is_wanted = |generation| rollout.replaces(generation);
        pool.first_settled(is_wanted, |slot| rollout.retry_of(slot).is_none())
    })
}

/// Whether as many slots as there are canaries have the new release, or are trying it.
fn are_canaries_placed(view: &View<'_>, rollout: &Rollout) -> bool {
    let pool = &view.tables.pool;
    let placed = pool.settled_count(rollout.to()) + pool.passing.len() + rollout.retries_waiting(view.now);
    !rollout.is_rolling_back() && rollout.canary().is_some_and(|canary| placed >= canary.slots as usize)
}

/// Nothing is left to begin; the stage ends when all that has begun has acked, and whoever goes was asked.
fn finish_stage(view: &View<'_>, rollout: &Rollout) -> Option<Step> {
    let pool = &view.tables.pool;
    if pool.unacked() > 0 || !pool.answers_due.is_empty() {
        return None;
    }
    let upgraded = pool.up_of(rollout.to());
    match (rollout.stage(), rollout.canary()) {
        (Stage::Replacing, Some(canary)) => {
            (upgraded >= pool.size().min(canary.slots as usize)).then_some(Step::BeginSoak)
        }
        (Stage::Replacing, None) => (upgraded == pool.size()).then_some(Step::FinishRollout),
        (Stage::RollingBack { .. }, _) => {
            // After a rollback that failed, slots may have several releases: to be back is to be rid of the new ones.
            let is_rid = rollout.brought().all(|generation| pool.up_of(generation) == 0);
            (is_rid && view.tables.serves_everywhere()).then_some(Step::FinishRollback)
        }
        (Stage::Resolving | Stage::Trying | Stage::Soaking { .. }, _) => None,
    }
}
