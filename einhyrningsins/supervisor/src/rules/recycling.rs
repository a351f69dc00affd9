//! The replacement of one worker that serves, when every slot serves and nothing else goes on.

use super::{Step, View};
use crate::plan::Plan;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let tables = view.tables;
    let is_calm = tables.plan == Plan::Steady && tables.was_ready && tables.serves_everywhere();
    let is_free = tables.recycling.is_free(view.reached, &tables.pool.out_of_reach);
    if !is_calm || !is_free || !view.may_spawn() {
        return None;
    }
    tables.recycling.queue().find_map(|(id, reason)| {
        let worker = tables.pool.worker(id).filter(|worker| worker.is_up())?;
        let process = worker.process()?;
        let is_current = tables.pool.slot(worker.slot?)?.current() == Some(id);
        is_current.then_some(Step::BeginTurn(process, reason))
    })
}
