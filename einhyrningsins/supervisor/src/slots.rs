//! Which slots there are, and which of them serve: for the sockets that each slot has for itself.

use super::Supervisor;
use super::event::SlotNumber;
use alloc::vec::Vec;

/// There is such a slot.
const OPEN: u8 = 1;
/// A worker serves there.
const SERVES: u8 = 2;
/// Some process has its sockets; it may be that of a worker whose slot was taken away.
const HELD: u8 = 4;

/// The slots of a pool, between two events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slots {
    /// By number. The numbers are small: the lowest that is free is given out.
    slots: Vec<u8>,
    /// Whether any serves.
    is_served: bool,
}

impl Slots {
    /// Those that there are, each with whether it serves; nobody holds the sockets of another.
    #[must_use]
    pub fn of(open: impl IntoIterator<Item = (SlotNumber, bool)>) -> Self {
        let mut slots = Self::default();
        for (slot, serves) in open {
            slots.set(slot, if serves { OPEN | SERVES } else { OPEN });
        }
        slots
    }

    fn set(&mut self, slot: SlotNumber, flags: u8) {
        let at = slot.0 as usize;
        if at >= self.slots.len() {
            self.slots.resize(at + 1, 0);
        }
        self.slots[at] |= flags;
        self.is_served |= flags & SERVES != 0;
    }

    fn flags(&self, slot: SlotNumber) -> u8 {
        self.slots.get(slot.0 as usize).copied().unwrap_or_default()
    }

    /// Whether `slot` is where new connections should go: it serves, or none does and all wait alike.
    #[must_use]
    pub fn is_live(&self, slot: SlotNumber) -> bool {
        let flags = self.flags(slot);
        flags & OPEN != 0 && (flags & SERVES != 0 || !self.is_served)
    }

    /// Whether there is such a slot.
    #[must_use]
    pub fn is_open(&self, slot: SlotNumber) -> bool {
        self.flags(slot) & OPEN != 0
    }

    /// Whether nobody has a use for the sockets of `slot`: it was taken away, and its last worker is gone.
    #[must_use]
    pub fn is_gone(&self, slot: SlotNumber) -> bool {
        self.flags(slot) & (OPEN | HELD) == 0
    }
}

impl Supervisor {
    /// The slots as they are now. It goes through every slot and every worker.
    #[must_use]
    pub fn slots(&self) -> Slots {
        let mut slots = Slots::default();
        for slot in self.tables.pool.slots().map(|(number, _)| number) {
            slots.set(slot, OPEN);
        }
        for worker in self.tables.pool.workers() {
            // A worker that is up holds its slot, or waits in it for its fleet.
            slots.set(worker.slot, if worker.is_up() { HELD | SERVES } else { HELD });
        }
        slots
    }
}
