//! Counters: how often each event of the pool has happened, for `metrics`. They follow the notices of the core.

use einhorn_proto::{DeathKind, DrainEnding, EventCounts, Notice, Termination, WorkerSlot};
use einhyrningsins_supervisor::RolloutRecord;
use serde::{Deserialize, Serialize};

use crate::forms::milliseconds;

/// How often each event has happened since the master started.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counters(EventCounts);

impl Counters {
    pub(super) fn on_notice(&mut self, notice: &Notice) {
        let Self(counts) = self;
        match notice {
            Notice::Spawned { slot: WorkerSlot(Some(_)), .. } => counts.spawns += 1,
            Notice::Acked { slot: WorkerSlot(Some(_)), age_ms, .. } => {
                counts.acks += 1;
                counts.boot.add(*age_ms);
            }
            Notice::Died { slot: WorkerSlot(Some(_)), death, .. } => counts.deaths.add(death.kind()),
            Notice::Drained { slot: WorkerSlot(Some(_)), termination, took_ms, ending, .. } => {
                counts.drain.add(*took_ms);
                match (ending, termination) {
                    (DrainEnding::Handled | DrainEnding::Unhandled, _) => {
                        counts.deaths.add(DeathKind::StopSignal);
                    }
                    (_, Termination::Killed { out_of_memory: true, .. }) => counts.deaths.add(DeathKind::Oom),
                    _ => {}
                }
            }
            Notice::MasterReplaced { .. } => counts.reexecs += 1,
            _ => {}
        }
    }

    pub(super) fn on_ended(&mut self, rollout: &RolloutRecord) {
        let Self(counts) = self;
        counts.rollouts(rollout.kind).add(rollout.outcome);
        counts.rollout.add(milliseconds(rollout.took));
    }

    pub(super) fn counts(&self) -> EventCounts {
        self.0.clone()
    }
}
