//! The report of a rollout that has ended, when the workers that it replaced have gone or its time has come. Then somebody
//! looks once more what those have left behind.

use super::{Step, View};
use crate::tables::Tables;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let Tables { aftermath, leftovers, .. } = view.tables;
    let unsettled = leftovers.unsettled(view.reached, |worker| aftermath.is_overdue(view.reached, worker));
    let is_due = || view.tables.due_report(view.reached).is_some();
    unsettled.map(Step::Settle).or_else(|| is_due().then_some(Step::Report))
}
