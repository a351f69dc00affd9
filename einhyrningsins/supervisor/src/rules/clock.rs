//! Deadlines that have passed, earliest first.

use super::{Step, View};
use crate::worker::{Deadline, Worker};

pub(super) fn rule(view: &View<'_>) -> Option<Step> {
    let pool = &view.tables.pool;
    if let Some((_, deadline)) = pool.deadlines().next().filter(|(at, _)| *at <= view.reached) {
        return Some(match deadline {
            Deadline::Ack(worker) => Step::CountAsAcked(worker),
            Deadline::Boot(worker) => Step::MissBoot(worker),
            Deadline::Kill(worker) => Step::Kill(worker),
            Deadline::Ask(worker) => Step::Ask(worker),
            Deadline::Age(worker) => Step::GrowOld(worker),
            // One that has not acked has its boot deadline.
            Deadline::Ping(worker) if pool.worker(worker).is_some_and(Worker::is_unacked) => {
                Step::ExpectPing(worker)
            }
            Deadline::Ping(worker) => Step::FallSilent(worker),
        });
    }
    let is_soak_over = view.tables.plan.rollout().is_some_and(|rollout| rollout.is_soak_over(view.reached));
    is_soak_over.then_some(Step::EndSoak)
}
