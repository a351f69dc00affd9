//! A master that stops only drains, and exits once nobody is left.

use super::{Step, View};
use crate::plan::Plan;
use crate::tables::Tables;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let Tables { pool, leftovers, .. } = view.tables;
    match view.tables.plan {
        Plan::Stopping { .. } => {
            let waits_for_groups =
                leftovers.has_groups(|generation| view.tables.terms(generation).stop_group);
            if !pool.is_left_alone() || waits_for_groups {
                return None;
            }
            let unsettled = leftovers.unsettled(view.reached, |_| true);
            let is_settled = || leftovers.untold().next().is_none();
            unsettled.map(Step::Settle).or_else(|| is_settled().then_some(Step::Exit))
        }
        Plan::Steady | Plan::Rolling(_) => {
            let is_hopeless = pool.size() > 0 && pool.given_up.len() == pool.size();
            // Losses first: the last one has yet to be told.
            (is_hopeless && pool.loss().is_none()).then_some(Step::StopForWantOfWorkers)
        }
        Plan::Waiting | Plan::Exited => None,
    }
}
