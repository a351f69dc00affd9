//! A group of listeners at one address, one per slot (`reuseport`).
//!
//! A listener belongs to the master as long as its slot exists. Each worker of the slot gets the same one, so
//! connections that wait in its queue wait for the next worker. A worker gets no listener of another slot: if
//! it held one that is closed here, the kernel would still give it connections that nobody accepts.
//!
//! The kernel addresses members by position and does not report their order. This module mirrors the order, by
//! the rules that [`crate::sys::steering`] describes.

use std::io;
use std::net::Shutdown;

use einhyrningsins_supervisor::{SlotNumber, Slots};
use nix::libc;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use socket2::{SockFilter, SockRef};

use crate::listen::{Address, BindError, Listener, SocketKind, bind_member};
use crate::sys::steering::{Spread, leave_group, steer};

/// A socket filter that accepts no byte of any packet.
const TAKE_NOTHING: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);

/// The listeners of one `-b`, one per slot; never empty.
#[derive(Debug, Serialize, Deserialize)]
pub struct PerSlot {
    /// In the kernel's order, if that is known.
    #[serde(rename = "slots", deserialize_with = "not_empty")]
    members: Vec<Member>,
    /// The program that the kernel has now, if known.
    #[serde(skip)]
    told: Option<Told>,
    /// Whether the order of `members` is that of the kernel.
    is_order_known: bool,
    /// Whether the kernel refused the last program.
    #[serde(skip)]
    is_refused: bool,
    /// Whether any slot served at the last decision. If none does, all get connections.
    #[serde(skip)]
    was_served: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) slot: SlotNumber,
    /// Whether it gets new connections, by the last decision.
    is_live: bool,
    pub(super) listener: Listener,
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Member>, D::Error> {
    let members = Vec::deserialize(deserializer)?;
    if members.is_empty() { Err(D::Error::custom("an address has no listener")) } else { Ok(members) }
}

impl Member {
    pub(super) fn new(slot: SlotNumber, listener: Listener) -> Self {
        Self { slot, listener, is_live: true }
    }
}

/// The input of a program.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    size: usize,
    live: Vec<usize>,
}

impl PerSlot {
    /// The group of `members`, in the kernel's order if that is known; `None` if there are none.
    pub(super) fn new(members: Vec<Member>, is_order_known: bool) -> Option<Self> {
        let is_any = !members.is_empty();
        is_any.then_some(Self { members, told: None, is_order_known, is_refused: false, was_served: false })
    }

    /// Starts with `first`, which belongs to slot 0, and binds one more for each other of the first `slots`
    /// slots. All of them get connections from now on.
    pub fn begin(first: Listener, slots: u32) -> Result<Self, BindError> {
        let others = (1..slots).map(|slot| Ok(Member::new(SlotNumber(slot), bind_member(&first)?)));
        let mut members = others.collect::<Result<Vec<_>, BindError>>()?;
        members.insert(0, Member::new(SlotNumber(0), first));
        Ok(Self { members, told: None, is_order_known: true, is_refused: false, was_served: false })
    }

    /// Distributes all listeners over the first `slots` slots as far as there are enough slots. Which slot had
    /// which listener before does not matter to the clients that wait.
    pub(super) fn renumber(&mut self, slots: u32) {
        let is_free = |slot: &SlotNumber| self.position(*slot).is_none();
        let free: Vec<_> = (0..slots).map(SlotNumber).filter(is_free).collect();
        let mut beyond: Vec<_> = self.members.iter_mut().filter(|member| member.slot.0 >= slots).collect();
        beyond.sort_unstable_by_key(|member| member.slot);
        for (member, slot) in beyond.into_iter().zip(free) {
            member.slot = slot;
        }
    }

    /// Any of them, for questions that have one answer for all.
    pub fn any(&self) -> &Listener {
        &self.members[0].listener
    }

    /// The listener of `slot`, if it has one.
    pub fn of(&self, slot: SlotNumber) -> Option<&Listener> {
        self.position(slot).map(|at| &self.members[at].listener)
    }

    /// Each slot with its listener and whether it gets new connections, ordered by slot.
    pub fn by_slot(&self) -> Vec<(SlotNumber, &Listener, bool)> {
        let members = self.members.iter();
        let mut slots: Vec<_> =
            members.map(|member| (member.slot, &member.listener, member.is_live)).collect();
        slots.sort_by_key(|(slot, ..)| *slot);
        slots
    }

    /// The members themselves.
    pub fn into_members(self) -> impl Iterator<Item = (SlotNumber, Listener)> {
        self.members.into_iter().map(|member| (member.slot, member.listener))
    }

    /// The slots of the members, in the kernel's order.
    pub fn order(&self) -> Vec<SlotNumber> {
        self.members.iter().map(|member| member.slot).collect()
    }

    /// In the kernel's order.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Opens a listener for `slot` if it has none. It gets nothing before [`Self::steer`] is called.
    ///
    /// # Errors
    /// [`BindError`]: no descriptor or memory left, or the address is gone.
    pub fn open(&mut self, slot: SlotNumber) -> Result<(), BindError> {
        if self.position(slot).is_some() {
            return Ok(());
        }
        self.leave_out_newcomers();
        let listener = bind_member(self.any())?;
        self.members.push(Member { is_live: false, ..Member::new(slot, listener) });
        Ok(())
    }

    /// Without a program, the kernel distributes over all members, new ones included.
    fn leave_out_newcomers(&mut self) {
        if self.told.is_none() {
            // If the kernel refuses this, it will refuse `steer` too, where it is reported.
            let _ = self.tell(self.live());
        }
    }

    /// The positions of the live members.
    fn live(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|at| self.members[*at].is_live).collect()
    }

    /// Closes the listener of `slot`, which resets the connections in its queue. The last listener of all
    /// stays, because the address would be lost with it.
    pub fn close(&mut self, slot: SlotNumber) {
        let last = self.members.len() - 1;
        if last > 0
            && let Some(at) = self.position(slot)
        {
            // The last member moves, so its position changes.
            let mut staying = self.live();
            staying.retain(|live| ![at, last].contains(live));
            if staying.is_empty() {
                // Everything goes to the last member, which is about to move here. Until it has, this socket
                // accepts nothing, so that clients retry and reach the other.
                let _ = SockRef::from(&self.members[at].listener).attach_filter(&[TAKE_NOTHING]);
                staying.push(at);
            }
            let _ = self.tell(staying);
            leave(&self.members.swap_remove(at).listener);
            self.told = None;
        }
    }

    /// The slots whose listener is no longer needed.
    pub fn gone(&self, open_slots: &Slots) -> Vec<SlotNumber> {
        let members = self.members.iter().map(|member| member.slot);
        members.filter(|slot| open_slots.is_gone(*slot)).collect()
    }

    /// Whether nothing is to be done for the group, if no slots but `changed` have changed since the last
    /// [`Self::steer`]. It looks at no others.
    pub fn is_steered(&self, open_slots: &Slots, changed: impl IntoIterator<Item = SlotNumber>) -> bool {
        let is_told = self.told.as_ref().is_some_and(|told| told.size == self.members.len());
        let is_right = |slot| {
            let member = self.position(slot).map(|at| &self.members[at]);
            member.is_none_or(|member| {
                member.is_live == self.should_be_live(slot, open_slots) && !open_slots.is_gone(slot)
            })
        };
        let is_settled = is_told && !self.is_refused && self.was_served == open_slots.is_served();
        is_settled && changed.into_iter().all(is_right)
    }

    fn should_be_live(&self, slot: SlotNumber, open_slots: &Slots) -> bool {
        !self.is_order_known || open_slots.is_live(slot)
    }

    /// Sends new connections to the members that are live according to `open_slots`.
    ///
    /// # Errors
    /// What the kernel returns. The distribution then stays as it was until the next call. A repeated refusal
    /// is returned once.
    pub fn steer(&mut self, open_slots: &Slots) -> io::Result<()> {
        self.is_order_known |= self.members.len() == 1;
        self.was_served = open_slots.is_served();
        for at in 0..self.members.len() {
            self.members[at].is_live = self.should_be_live(self.members[at].slot, open_slots);
        }
        self.limit_left_out(open_slots);
        let result = self.tell(self.live());
        let was_refused = std::mem::replace(&mut self.is_refused, result.is_err());
        if was_refused { Ok(()) } else { result }
    }

    /// If there are more members to leave out than fit in a program, members to be closed take precedence over
    /// members that wait for a worker.
    fn limit_left_out(&mut self, open_slots: &Slots) {
        let (size, spread) = (self.members.len(), self.spread());
        let mut left_out: Vec<_> = self.members.iter_mut().filter(|member| !member.is_live).collect();
        left_out.sort_by_key(|member| open_slots.is_open(member.slot));
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
        // A lone UDP socket may be in no group, and gets everything anyway.
        if result.is_ok() || told.size == 1 {
            self.told = Some(told);
            return Ok(());
        }
        result
    }

    /// Revives the listeners of `spoken`, which a process has shut down, and any other broken one. Each has
    /// left the group, and comes back as the last when it listens again. The result says of each whether it had
    /// to be revived, or another process had done so. One that cannot be revived is closed, unless it is the
    /// last of all, and the slot's next worker gets a new one.
    ///
    /// The order in which they left is unknown: the event that wakes the loop comes later, by the time that it
    /// takes to reset the queue.
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
                // It may listen and lack only an option; and the slot's worker has a copy.
                leave(&member.listener);
            }
            results.push((slot, revived));
        }
        // A listener that came back by itself, or left while others came back, did so before or after them.
        let are_more_back =
            results.len() > 1 && results.iter().any(|(_, revived)| matches!(revived, Ok(false)));
        let are_more_gone = self.members.iter().any(|member| member.listener.is_broken());
        self.is_order_known &= !(are_more_back || are_more_gone);
        results
    }

    /// Whether slots can be excluded from new connections. They cannot once several listeners were shut down at
    /// the same time and their order of leaving decides the positions in the group. The order is known again
    /// when all were shut down at the same time, or when one is left.
    pub fn can_choose(&self) -> bool {
        self.is_order_known
    }

    fn position(&self, slot: SlotNumber) -> Option<usize> {
        let has = |member: &Member| member.slot == slot;
        // Until one leaves, each is at the place of its number.
        let own = Some(slot.0 as usize).filter(|at| self.members.get(*at).is_some_and(has));
        own.or_else(|| self.members.iter().position(has))
    }

    /// The address that all members share.
    pub fn address(&self) -> &Address {
        &self.any().address
    }
}

/// Whether the remaining members of a group of `size` end up in the same order whichever of the positions
/// `gone`, ascending, left first. The last member takes the place of one that leaves, so only members that are
/// not among the last keep their place. One member that moves finds one place; for two, it is unknown which
/// finds which.
pub(super) fn has_one_outcome(size: usize, gone: &[usize]) -> bool {
    let staying = size - gone.len();
    (staying..size).filter(|at| gone.binary_search(at).is_err()).count() <= 1
}

/// Takes it out of its group, even if another process has it: a service manager, or a child of a worker.
fn leave(listener: &Listener) {
    // If this fails, it gets packets that nobody reads; nothing worse can happen.
    let _ = match listener.kind() {
        SocketKind::Udp => leave_group(listener),
        _ => SockRef::from(listener).shutdown(Shutdown::Both),
    };
}

#[cfg(test)]
mod tests;
