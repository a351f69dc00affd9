//! An upgrade that waited begins when nothing else runs.

use super::{Step, View};
use crate::plan::Plan;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let queue = &view.tables.queue;
    let is_steady = view.tables.plan == Plan::Steady && !view.tables.is_first_tried();
    let is_free = is_steady && !queue.is_preparing();
    (is_free && queue.len() > 0).then_some(Step::BeginQueued)
}
