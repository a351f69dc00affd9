//! How a slot passes from one worker to the next, in rollouts, rollbacks and recycling alike: the successor starts
//! beside the worker that holds the slot, and takes it when it has acked. In a fleet all take theirs together.

use super::{Step, View};

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let pool = &view.tables.pool;
    let pass = pool.next_pass()?;
    let is_waiting = view
        .tables
        .plan
        .rollout()
        .is_some_and(|rollout| rollout.is_fleet_forward() && pool.up_of(rollout.to()) < pool.size());
    (!is_waiting).then_some(Step::Pass(pass))
}
