//! The checks of canaries, while they soak.

use super::{Step, View};
use crate::soak::Progress;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let rollout = view.tables.plan.rollout()?;
    // A resize may have taken the last canary.
    let has_canaries = || view.tables.pool.up_of(rollout.to()) > 0;
    match rollout.soak_checking()?.progress() {
        Progress::Due(at) => (*at <= view.now && has_canaries()).then_some(Step::CheckCanaries),
        Progress::Running(_) => None,
        Progress::Failed(_) => Some(Step::FailSoak),
    }
}
