//! The trial of a release, before the first of its workers gets a slot.

use super::{Step, View};
use crate::trial::Progress;

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let (trial, pool) = (view.tables.trial.as_ref()?, &view.tables.pool);
    match trial.progress() {
        Progress::Due(at) => {
            let may_spawn = pool.unspawned.is_empty() && view.tables.has_room_for(1);
            (*at <= view.now && may_spawn).then_some(Step::SpawnTrial(trial.generation()))
        }
        Progress::Booting(worker) => {
            let worker = pool.worker(*worker).filter(|worker| worker.has_acked())?;
            Some(Step::BeginCheck(worker.process()?))
        }
        Progress::Checking(..) => None,
        Progress::Passed(_) => Some(Step::PassTrial),
        Progress::Failed(..) => Some(Step::FailTrial),
    }
}
