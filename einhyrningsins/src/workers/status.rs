//! Status of releases, listeners and process attributes, as clients see it.

use einhorn_proto::{ListenerStatus, QueueStatus, ReleaseStatus, SlotListenerStatus, WORKERS_MAX};
use einhyrningsins_supervisor::Generation;
use serde_json::Value;

use super::Workers;
use crate::listen::{ListenerQueue, Listeners, PerSlot};
use crate::sys::spawn::FIRST_SOCKET;

impl Workers {
    /// The process attributes of `generation`, for the `state` command.
    pub(crate) fn process_state(&self, generation: Generation) -> Value {
        self.options.process.to_json(self.options.nice, self.release(generation))
    }

    /// Every kept release, oldest first.
    pub(crate) fn release_statuses(&self) -> Vec<ReleaseStatus> {
        let mut statuses: Vec<_> =
            self.releases.iter().map(|(generation, release)| release.status(*generation)).collect();
        statuses.sort_by_key(|status| status.generation);
        statuses
    }

    pub(crate) fn listener_statuses(&self) -> Vec<ListenerStatus> {
        let listeners = self.listeners.iter().enumerate().zip(FIRST_SOCKET..);
        let statuses = listeners.map(|((index, listeners), fd)| {
            let slots = match listeners {
                Listeners::Shared(_) => Vec::new(),
                Listeners::PerSlot(group) => slot_statuses(group),
            };
            let any = listeners.any();
            ListenerStatus {
                index: u32::try_from(index).unwrap_or(WORKERS_MAX),
                fd,
                name: any.name_at(index),
                address: any.address.to_string(),
                kind: any.kind().name().to_owned(),
                family: any.address.family_name().to_owned(),
                backlog: any.backlog,
                queue: match listeners {
                    Listeners::Shared(listener) => listener.queue().map(queue_status),
                    Listeners::PerSlot(_) => sum(slots.iter().filter_map(|slot| slot.queue)),
                },
                slots,
            }
        });
        statuses.collect()
    }
}

fn slot_statuses(group: &PerSlot) -> Vec<SlotListenerStatus> {
    let slots = group.by_slot().into_iter();
    let statuses = slots.map(|(slot, listener, is_live)| SlotListenerStatus {
        slot: slot.0,
        live: is_live,
        queue: listener.queue().map(queue_status),
    });
    statuses.collect()
}

fn queue_status(queue: ListenerQueue) -> QueueStatus {
    QueueStatus { length: queue.length, limit: queue.limit, drops: queue.drops }
}

/// The sum over all queues; `None` if there are none.
fn sum(queues: impl Iterator<Item = QueueStatus>) -> Option<QueueStatus> {
    queues.reduce(|one, other| QueueStatus {
        length: one.length.saturating_add(other.length),
        limit: one.limit.saturating_add(other.limit),
        drops: one.drops.zip(other.drops).map(|(one, other)| one.wrapping_add(other)),
    })
}
