//! Which slots there are, and which of them serve: for the sockets that each slot has for itself.
//!
//! [`Index`](super::index::Index) keeps it up to date. Whoever follows the slots remembers the revision up to which it has, and
//! is then told which of them have changed since.

use alloc::collections::{BTreeMap, VecDeque};

use super::Supervisor;
use super::event::SlotNumber;

/// So many changes are remembered. Whoever has missed more looks at all slots, which then costs little beside the changes.
const CHANGES_MAX: usize = 256;

/// The slots of a pool, between two events.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    /// Those that there are, and others of which workers are left.
    slots: BTreeMap<SlotNumber, Use>,
    /// How many have a worker that serves.
    served: usize,
    /// How often a slot has changed.
    revision: u64,
    /// The slots that have changed last, oldest first.
    changes: VecDeque<SlotNumber>,
}

/// What there is of a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    /// Whether there is such a slot.
    is_open: bool,
    /// Workers that have its sockets; its own, or some that were left when it was taken away.
    workers: u32,
    /// Those of them that serve. A worker that is up holds its slot, or waits in it for its fleet.
    serving: u32,
}

impl Use {
    /// What those who follow the slots see of it.
    fn seen(self) -> (bool, bool, bool) {
        (self.is_open, self.workers > 0, self.serving > 0)
    }
}

/// However they became so.
impl PartialEq for Slots {
    fn eq(&self, other: &Self) -> bool {
        (&self.slots, self.served) == (&other.slots, other.served)
    }
}

impl Slots {
    /// Those that there are, each with whether it serves; nobody holds the sockets of another.
    #[must_use]
    pub fn of(open: impl IntoIterator<Item = (SlotNumber, bool)>) -> Self {
        let mut slots = Self::default();
        for (slot, serves) in open {
            slots.open(slot);
            if serves {
                slots.add_worker(slot, true);
            }
        }
        slots
    }

    /// There is such a slot now.
    pub(crate) fn open(&mut self, slot: SlotNumber) {
        self.change(slot, |slot| slot.is_open = true);
    }

    /// There is no such slot any more.
    pub(crate) fn close(&mut self, slot: SlotNumber) {
        self.change(slot, |slot| slot.is_open = false);
    }

    /// A worker has the sockets of `slot`.
    pub(crate) fn add_worker(&mut self, slot: SlotNumber, serves: bool) {
        self.change(slot, |slot| {
            slot.workers += 1;
            slot.serving += u32::from(serves);
        });
    }

    /// It has them no more.
    pub(crate) fn remove_worker(&mut self, slot: SlotNumber, serves: bool) {
        self.change(slot, |slot| {
            slot.workers = slot.workers.saturating_sub(1);
            slot.serving = slot.serving.saturating_sub(u32::from(serves));
        });
    }

    /// One of its workers serves now, or no more.
    pub(crate) fn set_serving(&mut self, slot: SlotNumber, serves: bool) {
        self.change(slot, |slot| {
            slot.serving = if serves { slot.serving + 1 } else { slot.serving.saturating_sub(1) };
        });
    }

    fn change(&mut self, number: SlotNumber, change: impl FnOnce(&mut Use)) {
        let slot = self.slots.entry(number).or_default();
        let before = *slot;
        change(slot);
        let after = *slot;
        if after == Use::default() {
            self.slots.remove(&number);
        }
        if before.seen() != after.seen() {
            self.served += usize::from(after.serving > 0);
            self.served -= usize::from(before.serving > 0);
            self.revision += 1;
            if self.changes.len() == CHANGES_MAX {
                self.changes.pop_front();
            }
            self.changes.push_back(number);
        }
    }

    fn slot(&self, slot: SlotNumber) -> Use {
        self.slots.get(&slot).copied().unwrap_or_default()
    }

    /// How often a slot has changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The slots that have changed since `revision`, some perhaps several times; `None` if it is not known any more which.
    #[must_use]
    pub fn changed_since(&self, revision: u64) -> Option<impl Iterator<Item = SlotNumber>> {
        let missed = usize::try_from(self.revision.checked_sub(revision)?).ok()?;
        let known = self.changes.len().checked_sub(missed)?;
        Some(self.changes.range(known..).copied())
    }

    /// Whether any slot serves.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.served > 0
    }

    /// Whether `slot` is where new connections should go: it serves, or none does and all wait alike.
    #[must_use]
    pub fn is_live(&self, slot: SlotNumber) -> bool {
        let slot = self.slot(slot);
        slot.is_open && (slot.serving > 0 || !self.is_served())
    }

    /// Whether there is such a slot.
    #[must_use]
    pub fn is_open(&self, slot: SlotNumber) -> bool {
        self.slot(slot).is_open
    }

    /// Whether nobody has a use for the sockets of `slot`: it was taken away, and its last worker is gone.
    #[must_use]
    pub fn is_gone(&self, slot: SlotNumber) -> bool {
        self.slot(slot) == Use::default()
    }
}

impl Supervisor {
    /// The slots as they are now.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.tables.pool.sockets
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    fn changed(slots: &Slots, since: u64) -> Option<Vec<u32>> {
        slots.changed_since(since).map(|slots| slots.map(|slot| slot.0).collect())
    }

    #[test]
    fn who_follows_is_told_what_has_changed_or_that_it_is_not_known() {
        let mut slots = Slots::of([(SlotNumber(0), true), (SlotNumber(1), false)]);
        let seen = slots.revision();
        assert_eq!(changed(&slots, seen), Some(vec![]));
        slots.add_worker(SlotNumber(0), false);
        slots.set_serving(SlotNumber(0), true);
        slots.set_serving(SlotNumber(0), false);
        slots.remove_worker(SlotNumber(0), false);
        assert_eq!(changed(&slots, seen), Some(vec![]), "it serves as before");
        slots.add_worker(SlotNumber(1), false);
        slots.close(SlotNumber(0));
        assert_eq!(changed(&slots, seen), Some(vec![1, 0]));
        assert_eq!(changed(&slots, seen + 1), Some(vec![0]));
        for _ in 0..CHANGES_MAX {
            slots.open(SlotNumber(7));
            slots.close(SlotNumber(7));
        }
        assert_eq!(changed(&slots, seen), None);
        assert_eq!(slots.changes.len(), CHANGES_MAX);
        assert_eq!(changed(&Slots::default(), seen), None, "of another pool");
    }
}
