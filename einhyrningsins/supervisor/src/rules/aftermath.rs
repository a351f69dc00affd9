//! The report of a rollout that has ended, when the workers that it replaced have gone or its time has come.

use super::{Step, View};

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    view.tables.aftermath.is_due(view.reached, &view.tables.pool).then_some(Step::Report)
}
