//! Deadlines that have passed, earliest first.

use super::{Step, View};

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let of_workers = view.tables.pool.deadlines.first().copied();
    let deadlines = of_workers.into_iter().chain(view.tables.leftovers.next());
    let deadline = deadlines.min().filter(|(at, _)| *at <= view.reached);
    let is_soak_over =
        || view.tables.plan.rollout().is_some_and(|rollout| rollout.is_soak_over(view.reached));
    deadline.map(|(_, step)| step).or_else(|| is_soak_over().then_some(Step::EndSoak))
}
