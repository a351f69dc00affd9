//! The replacement of one worker that serves, when every slot serves and nothing else goes on.

use super::{Step, View};
use crate::plan::Plan;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let tables = view.tables;
    let is_calm = tables.plan == Plan::Steady && tables.was_ready && tables.serves_everywhere();
    if !is_calm || !tables.recycling.is_free(view.reached) || !tables.may_spawn() {
        return None;
    }
    let serves = |id: &crate::WorkerId| {
        tables
            .pool
            .worker(*id)
            .filter(|worker| worker.is_up())
            .and_then(|worker| tables.pool.slot(worker.slot))
            .is_some_and(|slot| slot.current() == Some(*id))
    };
    tables.recycling.queue().find(serves).map(Step::BeginTurn)
}
