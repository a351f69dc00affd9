//! Which slots there are, and which of them serve: for the sockets that each slot has for itself.

use std::collections::{BTreeMap, HashSet};

use super::Supervisor;
use super::event::SlotNumber;
use super::pool::Slot;
use super::worker::Worker;

/// The slots of a pool, between two events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seats {
    /// Each slot that there is, and whether a worker serves there.
    open: BTreeMap<SlotNumber, bool>,
    /// Whether any serves.
    is_served: bool,
    /// Slots that some process has the sockets of; it may be that of a worker whose slot was taken away.
    held: HashSet<SlotNumber>,
}

impl Seats {
    /// Those that there are, each with whether it serves; nobody holds the sockets of another.
    pub(crate) fn of(open: impl IntoIterator<Item = (SlotNumber, bool)>) -> Self {
        let open: BTreeMap<_, _> = open.into_iter().collect();
        let is_served = open.values().any(|serves| *serves);
        Self { open, is_served, held: HashSet::new() }
    }

    /// Whether `slot` is where new connections should go: it serves, or none does and all wait alike.
    #[must_use]
    pub fn is_live(&self, slot: SlotNumber) -> bool {
        match self.open.get(&slot) {
            Some(serves) => *serves || !self.is_served,
            None => false,
        }
    }

    /// Whether there is such a slot.
    #[must_use]
    pub fn is_open(&self, slot: SlotNumber) -> bool {
        self.open.contains_key(&slot)
    }

    /// Whether nobody has a use for the sockets of `slot`: it was taken away, and its last worker is gone.
    #[must_use]
    pub fn is_gone(&self, slot: SlotNumber) -> bool {
        !self.open.contains_key(&slot) && !self.held.contains(&slot)
    }
}

impl Supervisor {
    /// The slots as they are now. It looks at every slot and every worker.
    #[must_use]
    pub fn seats(&self) -> Seats {
        let is_up = |id| self.pool.get(id).is_some_and(Worker::is_up);
        let serves = |slot: &Slot| [slot.current, slot.successor].into_iter().flatten().any(is_up);
        let slots = self.pool.slots.iter();
        let open = Seats::of(slots.map(|(number, slot)| (*number, serves(slot))));
        Seats { held: self.pool.workers().map(|worker| worker.slot).collect(), ..open }
    }
}
