//! Listeners as `status` shows them.

use einhorn_proto::{ListenerStatus, QueueStatus, SlotListenerStatus, WORKERS_MAX};

use super::Listeners;
use super::bound::Bound;
use super::per_slot::PerSlot;
use crate::sys::spawn::FIRST_SOCKET;

impl Listeners {
    pub(in crate::master) fn statuses(&self) -> Vec<ListenerStatus> {
        let numbered = self.bound.iter().enumerate().zip(FIRST_SOCKET..);
        let statuses = numbered.map(|((index, bound), fd)| {
            let slots = match bound {
                Bound::Shared(_) => Vec::new(),
                Bound::PerSlot(group) => slot_statuses(group),
            };
            let any = bound.any();
            ListenerStatus {
                index: u32::try_from(index).unwrap_or(WORKERS_MAX),
                fd,
                name: any.name_at(index),
                address: any.address.to_string(),
                kind: any.kind().name().to_owned(),
                family: any.address.family_name().to_owned(),
                backlog: any.backlog,
                queue: match bound {
                    Bound::Shared(listener) => listener.queue(),
                    Bound::PerSlot(_) => sum(slots.iter().filter_map(|slot| slot.queue)),
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
        queue: listener.queue(),
    });
    statuses.collect()
}

/// The sum over all queues; `None` if there are none.
fn sum(queues: impl Iterator<Item = QueueStatus>) -> Option<QueueStatus> {
    queues.reduce(|one, other| QueueStatus {
        length: one.length.saturating_add(other.length),
        limit: one.limit.saturating_add(other.limit),
        drops: one.drops.zip(other.drops).map(|(one, other)| one.wrapping_add(other)),
    })
}
