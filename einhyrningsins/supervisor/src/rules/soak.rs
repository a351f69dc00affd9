//! The checks of canaries, while they soak.

use super::{Step, View};
use crate::plan::Rollout;
use crate::soak::Progress;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let checking = view.tables.plan.rollout().and_then(Rollout::soak_checking)?;
    match checking.progress() {
        Progress::Due(at) => (*at <= view.now).then_some(Step::CheckCanaries),
        Progress::Running(_) => None,
        Progress::Failed(_) => Some(Step::FailSoak),
    }
}
