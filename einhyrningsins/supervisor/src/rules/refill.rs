//! Empty slots whose time has come, as far as the bounds allow.

use super::{Step, View};

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let pool = &view.tables.pool;
    if !view.tables.was_ready && pool.size() > 0 && pool.up() >= pool.size() {
        return Some(Step::BecomeReady);
    }
    if let Some(slot) = pool.given_up.iter().find(|slot| is_proven(view, **slot)) {
        return Some(Step::Revive(*slot));
    }
    let slot = pool.due_slot(view.now).filter(|_| view.may_spawn())?;
    Some(Step::Fill(slot, pool.slot(slot)?.generation))
}

/// A release that has been up is tried without end: slots that gave it up before do not stay behind.
fn is_proven(view: &View<'_>, slot: crate::SlotNumber) -> bool {
    let is_unlimited = view.tables.policy.retries.proven.is_none();
    is_unlimited
        && view.tables.pool.slot(slot).is_some_and(|slot| view.tables.releases.is_proven(slot.generation))
}
