//! One listener for each slot, at one address (`reuseport`).
//!
//! They are the master's for as long as there is the slot: each worker of the slot is given the same one, so what waits
//! in its queue waits for the next. A worker has none of a sibling's, because a listener that is closed here and
//! held there would go on to get connections that nobody takes.
//!
//! The kernel knows the group by position, and tells nobody the order. It is mirrored here, by the rules that
//! [`crate::sys::steering`] names.

use std::io;
use std::net::Shutdown;

use nix::libc;
use serde::{Deserialize, Serialize};
use socket2::{SockFilter, SockRef};

use super::bind::bind_twin;
use super::listener::{AdoptError, Listener, ListenerRecord};
use super::{Address, BindError, SocketKind};
use crate::supervisor::{Seats, SlotNumber};
use crate::sys::inherit::{Fd, Inherited};
use crate::sys::steering::{Spread, leave_group, steer};

/// The program of a socket that takes no byte of any packet.
const TAKE_NOTHING: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);

/// The listeners of one `-b`, one for each slot; never none.
#[derive(Debug)]
pub struct PerSlot {
    /// In the kernel's order.
    members: Vec<Member>,
    /// What the kernel was last told, if that is known.
    told: Option<Told>,
    /// Whether the order is the kernel's.
    is_order_known: bool,
    /// Whether the kernel has refused what it was told last.
    is_refused: bool,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) slot: SlotNumber,
    pub(super) listener: Listener,
    /// Whether it gets what is new, as far as was last decided.
    is_live: bool,
}

impl Member {
    pub(super) fn new(slot: SlotNumber, listener: Listener) -> Self {
        Self { slot, listener, is_live: true }
    }
}

/// What a program was made of.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    size: usize,
    live: Vec<usize>,
}

/// [`PerSlot`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerSlotRecord {
    /// In the kernel's order, if that is known.
    slots: Vec<MemberRecord>,
    is_order_known: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MemberRecord {
    slot: SlotNumber,
    is_live: bool,
    listener: ListenerRecord,
}

impl PerSlot {
    /// The group of `members`, in the kernel's order, if that is known; `None` if there are none.
    pub(super) fn new(members: Vec<Member>, is_order_known: bool) -> Option<Self> {
        let is_any = !members.is_empty();
        is_any.then_some(Self { members, told: None, is_order_known, is_refused: false })
    }

    /// Begins with `first`, which belongs to slot 0, and binds one for each other of the first `slots` slots. All get their
    /// share from now on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn begin(first: Listener, slots: u32) -> Result<Self, BindError> {
        let others = (1..slots).map(|slot| Ok(Member::new(SlotNumber(slot), bind_twin(&first)?)));
        let mut members = others.collect::<Result<Vec<_>, BindError>>()?;
        members.insert(0, Member::new(SlotNumber(0), first));
        Ok(Self { members, told: None, is_order_known: true, is_refused: false })
    }

    /// Has the first `slots` slots have all of these that there are enough slots for: which slot had which before does not
    /// matter to those who wait.
    pub(super) fn renumber(&mut self, slots: u32) {
        let is_free = |slot: &SlotNumber| self.position(*slot).is_none();
        let free: Vec<_> = (0..slots).map(SlotNumber).filter(is_free).collect();
        let mut beyond: Vec<_> = self.members.iter_mut().filter(|member| member.slot.0 >= slots).collect();
        beyond.sort_unstable_by_key(|member| member.slot);
        for (member, slot) in beyond.into_iter().zip(free) {
            member.slot = slot;
        }
    }

    /// Any of them: what is asked of all of them alike can be asked of it.
    #[must_use]
    pub fn any(&self) -> &Listener {
        &self.members[0].listener
    }

    /// The listener of `slot`, if it has one.
    #[must_use]
    pub fn of(&self, slot: SlotNumber) -> Option<&Listener> {
        self.position(slot).map(|at| &self.members[at].listener)
    }

    /// Each slot with its listener, and whether it gets what is new; by slot.
    #[must_use]
    pub fn by_slot(&self) -> Vec<(SlotNumber, &Listener, bool)> {
        let members = self.members.iter();
        let mut slots: Vec<_> =
            members.map(|member| (member.slot, &member.listener, member.is_live)).collect();
        slots.sort_by_key(|(slot, ..)| *slot);
        slots
    }

    /// Their slots, in the kernel's order.
    #[must_use]
    pub fn order(&self) -> Vec<SlotNumber> {
        self.members.iter().map(|member| member.slot).collect()
    }

    /// In the kernel's order.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Opens a listener for `slot`, if it has none. It gets nothing before [`Self::steer`] is called.
    ///
    /// # Errors
    /// [`BindError`], of a system that has no descriptor or memory left, or whose address has gone.
    pub fn open(&mut self, slot: SlotNumber) -> Result<(), BindError> {
        if self.position(slot).is_some() {
            return Ok(());
        }
        self.leave_out_newcomers();
        let listener = bind_twin(self.any())?;
        self.members.push(Member { is_live: false, ..Member::new(slot, listener) });
        Ok(())
    }

    /// Before the first program the kernel shares out by itself, and among all.
    fn leave_out_newcomers(&mut self) {
        if self.told.is_none() {
            // What the kernel refuses now it refuses when it matters.
            let _ = self.tell(self.live());
        }
    }

    /// The positions of those that are live.
    fn live(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|at| self.members[*at].is_live).collect()
    }

    /// Closes the listener of `slot`. What waits in its queue is reset. The last of all stays, because the address would
    /// be lost with it.
    pub fn close(&mut self, slot: SlotNumber) {
        let last = self.members.len() - 1;
        if last > 0
            && let Some(at) = self.position(slot)
        {
            // The last one moves, and must not be looked for where it was.
            let mut staying = self.live();
            staying.retain(|live| ![at, last].contains(live));
            if staying.is_empty() {
                // All goes to the last one, which is about to be here. Until then nothing is taken here, so that who
                // connects tries again, and finds it.
                let _ = SockRef::from(&self.members[at].listener).attach_filter(&[TAKE_NOTHING]);
                staying.push(at);
            }
            let _ = self.tell(staying);
            leave(&self.members.swap_remove(at).listener);
            self.told = None;
        }
    }

    /// The slots whose listener nobody has a use for.
    pub fn gone(&self, seats: &Seats) -> Vec<SlotNumber> {
        let members = self.members.iter().map(|member| member.slot);
        members.filter(|slot| seats.is_gone(*slot)).collect()
    }

    /// Has what is new go to those that are live by `seats`.
    ///
    /// # Errors
    /// What the kernel says; then it goes on as before, until this is called again. The same refusal is told once.
    pub fn steer(&mut self, seats: &Seats) -> io::Result<()> {
        self.is_order_known |= self.members.len() == 1;
        for member in &mut self.members {
            member.is_live = !self.is_order_known || seats.is_live(member.slot);
        }
        self.limit_left_out(seats);
        let result = self.tell(self.live());
        let was_refused = std::mem::replace(&mut self.is_refused, result.is_err());
        if was_refused { Ok(()) } else { result }
    }

    /// Where there are more to leave out than a program holds, those that are to be closed come before those that wait for
    /// a worker.
    fn limit_left_out(&mut self, seats: &Seats) {
        let (size, spread) = (self.members.len(), self.spread());
        let mut left_out: Vec<_> = self.members.iter_mut().filter(|member| !member.is_live).collect();
        left_out.sort_by_key(|member| seats.is_open(member.slot));
        let count = spread.can_leave_out(left_out.len(), size);
        for member in left_out.into_iter().skip(count) {
            member.is_live = true;
        }
    }

    fn spread(&self) -> Spread {
        match self.any().kind() {
            SocketKind::Udp => Spread::ByFlow,
            _ => Spread::Random,
        }
    }

    fn tell(&mut self, live: Vec<usize>) -> io::Result<()> {
        let live = if self.is_order_known { live } else { Vec::new() };
        let told = Told { size: self.members.len(), live };
        if self.told.as_ref() == Some(&told) {
            return Ok(());
        }
        let result = steer(self.any(), told.size, &told.live, self.spread());
        // One of UDP that is alone may be in no group, and gets everything.
        if result.is_ok() || told.size == 1 {
            self.told = Some(told);
            return Ok(());
        }
        result
    }

    /// Sees to the listeners of `spoken`, on which somebody has called `shutdown(2)`, and to any other that is broken. Each
    /// has left the group, and when it listens again it comes back as the last. Whether each had to be revived, or was by
    /// somebody else; one that cannot be is closed, unless it is the last of all, and the slot's next worker gets another.
    ///
    /// In which order they have left nobody tells: what wakes the loop comes later than that, by as long as it takes to
    /// reset what waits in the queue.
    pub fn revive(&mut self, spoken: &[SlotNumber]) -> Vec<(SlotNumber, Result<bool, BindError>)> {
        let has_left = |member: &Member| spoken.contains(&member.slot) || member.listener.is_broken();
        let positions = self.members.iter().enumerate().filter(|(_, member)| has_left(member));
        let gone: Vec<_> = positions.map(|(at, _)| at).collect();
        self.is_order_known &= has_one_outcome(self.members.len(), &gone);
        let left: Vec<_> = gone.iter().rev().map(|at| self.members.swap_remove(*at)).collect();
        self.is_order_known |= self.members.is_empty();
        self.told = None;
        let mut results = Vec::new();
        for member in left {
            let (slot, revived) = (member.slot, member.listener.revive());
            if revived.is_ok() || self.members.is_empty() {
                self.members.push(member);
            } else {
                // It may listen, and lack only an option; and the slot's worker has it too.
                leave(&member.listener);
            }
            results.push((slot, revived));
        }
        // Who comes back by himself, or leaves while others come back, has done so before them or after.
        let are_more_back =
            results.len() > 1 && results.iter().any(|(_, revived)| matches!(revived, Ok(false)));
        let are_more_gone = self.members.iter().any(|member| member.listener.is_broken());
        self.is_order_known &= !(are_more_back || are_more_gone);
        results
    }

    /// Whether new connections can be kept from slots. Not where several listeners were shut down at the same time, and who
    /// of them left the group first decides who is where in it. It is known again when all were shut down at the same time,
    /// or one is left.
    #[must_use]
    pub fn can_choose(&self) -> bool {
        self.is_order_known
    }

    fn position(&self, slot: SlotNumber) -> Option<usize> {
        self.members.iter().position(|member| member.slot == slot)
    }

    /// The address of all.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.any().address
    }

    pub(super) fn record(&self) -> PerSlotRecord {
        let members = self.members.iter();
        let record = |member: &Member| MemberRecord {
            slot: member.slot,
            is_live: member.is_live,
            listener: member.listener.record(),
        };
        PerSlotRecord { slots: members.map(record).collect(), is_order_known: self.is_order_known }
    }

    pub(super) fn adopt(record: &PerSlotRecord, inherited: &mut Inherited) -> Result<Self, AdoptError> {
        let adopt = |member: &MemberRecord| {
            let listener = Listener::adopt(&member.listener, inherited)?;
            Ok(Member { is_live: member.is_live, ..Member::new(member.slot, listener) })
        };
        let members = record.slots.iter().map(adopt).collect::<Result<_, AdoptError>>()?;
        Self::new(members, record.is_order_known).ok_or(AdoptError::Empty)
    }
}

/// Whether those of a group of `size` who stay end up in the same order whichever of those at `gone`, in rising order, left
/// first. As each that leaves has its place taken by the last, only those stay in their place who are not among the
/// last then; one that moves finds one place, but of two it is not known who finds which.
pub(super) fn has_one_outcome(size: usize, gone: &[usize]) -> bool {
    let staying = size - gone.len();
    (staying..size).filter(|at| gone.binary_search(at).is_err()).count() <= 1
}

/// Has it leave its group, whoever else may hold it: a service manager, or a child of a worker.
fn leave(listener: &Listener) {
    // Who does not leave gets packets that nobody takes, which is the most that can come of it.
    let _ = match listener.kind() {
        SocketKind::Udp => leave_group(listener),
        _ => SockRef::from(listener).shutdown(Shutdown::Both),
    };
}

impl PerSlotRecord {
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Fd> {
        self.slots.iter().flat_map(|member| member.listener.descriptors())
    }
}

#[cfg(test)]
mod tests;
