//! Listeners from the service manager's descriptor store: after a crash, the next master continues with the
//! connections that wait in their queues.
//!
//! A listener is stored under the address of its `-b`, because that is what the next master looks for: with
//! port 0, it gets the same port back. A Unix path is taken over with a new lock. The store does not keep
//! locks, and the old holder is dead, so the lock is free if the path still leads to that socket. Sockets that
//! were passed to the master are not stored here: whoever passed them keeps them.

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use einhyrningsins_supervisor::SlotNumber;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::unistd::{Uid, fchown};
use socket2::{Domain, SockRef};

use super::bound::Bound;
use super::per_slot::{Member, PerSlot, has_one_outcome};
use crate::listen::{
    Address, Backlog, BindAddress, BindSpec, Family, Listener, Origin, Passed, Place, SocketKind,
    set_options, take_address_again, take_over_place,
};
use crate::socket_place::SocketPlace;
use crate::sys::inherit::Kept;
use crate::sys::steering::has_left_group;

/// The prefix of a listener's name in the store, which may hold other descriptors too.
const PREFIX: &str = "bind-";

/// The longest name that a manager accepts, in bytes. Source: `sd_pid_notify_with_fds(3)`, FDNAME.
const NAME_BYTES_MAX: usize = 255;

/// Listeners that were stored for this process and not taken yet.
#[derive(Debug, Default)]
pub struct KeptListeners {
    left: Vec<(String, Kept<OwnedFd>)>,
}

impl KeptListeners {
    /// Takes them from what was passed.
    pub fn of(passed: &mut Passed) -> Self {
        Self { left: passed.take_named(|name| name.starts_with(PREFIX)) }
    }

    /// The names of all of them.
    pub fn names(&self) -> Vec<String> {
        self.left.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Takes the listeners that were stored for `spec`, with their queues. `None` if there are none, or if they
    /// do not fit `spec` and `family`. Call `sys::inherit::settle` once they are in use. For listeners per slot,
    /// the pool will have the first `slots` slots.
    pub fn take(
        &mut self,
        spec: &BindSpec,
        family: Family,
        backlog: Option<u32>,
        slots: u32,
    ) -> Option<Bound> {
        if spec.options.reuseport {
            let mut group = self.take_per_slot(spec, family, backlog)?;
            group.renumber(slots);
            Some(Bound::PerSlot(group))
        } else {
            let listener = self.take_named(&name_of(spec)?, spec, family, backlog)?;
            Some(Bound::Shared(Box::new(listener)))
        }
    }

    fn take_named(
        &mut self,
        name: &str,
        spec: &BindSpec,
        family: Family,
        backlog: Option<u32>,
    ) -> Option<Listener> {
        let kind = kind_of(spec)?;
        let at = self.left.iter().position(|(kept, fd)| kept == name && is_of(kind, family, fd))?;
        let backlog = Backlog::new(spec.options.backlog.or(backlog));
        // An unusable listener stays in the list and is given up later.
        let (address, place) = prepare(&self.left[at].1, kind, spec, backlog)?;
        let (_, fd) = self.left.remove(at);
        let backlog = if kind.has_connections() { backlog.effective } else { 0 };
        Some(Listener { fd, spec: spec.clone(), address, backlog, passed_name: None, place })
    }

    /// Takes a whole group or nothing.
    fn take_per_slot(&mut self, spec: &BindSpec, family: Family, backlog: Option<u32>) -> Option<PerSlot> {
        let name = name_of(spec)?;
        let kind = kind_of(spec)?;
        let (mut names, mut gone) = (Vec::new(), Vec::new());
        for (kept, fd) in &self.left {
            let Some(slot_name) = SlotName::of(&name, kept) else { continue };
            // A UDP socket that left its group was about to be dropped, and its leaving moved others.
            if !is_of(kind, family, fd) || make_ours(fd).is_err() || has_left_group(fd) {
                return None;
            }
            let listens = || SockRef::from(fd).is_listener().is_ok_and(|listens| listens);
            if kind.has_connections() && !listens() {
                gone.push(slot_name.position);
            }
            names.push((slot_name, kept.clone()));
        }
        names.sort_unstable_by_key(|(slot_name, _)| slot_name.position);
        if !names.iter().map(|(slot_name, _)| slot_name.position).eq(0..names.len()) {
            return None;
        }
        // A listener that was shut down has left the group, and others have moved. It comes back as the last.
        gone.sort_unstable();
        let is_order_known = names.iter().all(|(slot_name, _)| slot_name.is_certain)
            && has_one_outcome(names.len(), &gone)
            || gone.len() == names.len();
        let back: Vec<_> = gone.iter().rev().map(|at| names.swap_remove(*at)).collect();
        names.extend(back);
        let mut members = Vec::new();
        for (slot_name, kept) in &names {
            match self.take_named(kept, spec, family, backlog) {
                Some(listener) => members.push(Member::new(slot_name.slot, listener)),
                None => {
                    let names = names.iter().map(|(_, kept)| kept.clone());
                    self.left.extend(names.zip(members.into_iter().map(|member| member.listener.fd)));
                    return None;
                }
            }
        }
        PerSlot::new(members, is_order_known)
    }

    /// Gives up the listeners that were not taken, and returns their names. From now on they block no address,
    /// although the manager still holds them. UDP is the exception: there, the manager must drop the socket
    /// first.
    pub fn give_up(self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, fd) in self.left {
            remove_file(&fd);
            let _ = SockRef::from(&fd).shutdown(Shutdown::Both);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// Turns a stored socket into what `spec` asks for; `None` if that is impossible.
fn prepare(
    fd: &OwnedFd,
    kind: SocketKind,
    spec: &BindSpec,
    backlog: Backlog,
) -> Option<(Address, Option<SocketPlace>)> {
    let socket = SockRef::from(fd);
    let address = Address::of(fd, kind).ok()?;
    if kind.has_connections() {
        // A worker may have shut it down, from which a TCP socket recovers. The system's limit may have changed
        // too.
        if kind == SocketKind::Tcp && !socket.is_listener().ok()? {
            take_address_again(&socket, &address).ok()?;
        }
        socket.listen(backlog.asked).ok()?;
        if !kind.is_inet() && is_shut_down(fd) {
            return None;
        }
    }
    socket.set_nonblocking(spec.options.nonblocking).ok()?;
    set_options(&socket, &address, &spec.options, backlog.effective).ok()?;
    let place = match &spec.address {
        BindAddress::Unix(Place::Path(path)) | BindAddress::Seqpacket(Place::Path(path)) => {
            Some(take_over_place(path, fd, &address, &spec.options).ok()??)
        }
        _ => None,
    };
    Some((address, place))
}

/// Whether it refuses connections although it is in the listening state.
fn is_shut_down(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    // A hang-up is reported even if not requested.
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Removes the file of a Unix socket if its path still leads to it. Otherwise the next bind would find the
/// address in use, because the manager holds the socket for a while.
fn remove_file(fd: &OwnedFd) {
    let Ok(bound) = SockRef::from(fd).local_addr() else { return };
    if let Some(Ok(Some(place))) = bound.as_pathname().map(|path| SocketPlace::take_over(path, fd)) {
        place.remove();
    }
}

/// The kind of a listener for `spec`, if the master creates it.
fn kind_of(spec: &BindSpec) -> Option<SocketKind> {
    match spec.address.origin() {
        Origin::Bound(kind) | Origin::Abstract(kind) => Some(kind),
        _ => None,
    }
}

/// Whether `fd` is a socket of this kind that `family` allows, and accepts the options of that family.
fn is_of(kind: SocketKind, family: Family, fd: &OwnedFd) -> bool {
    let socket = SockRef::from(fd);
    let is_kind = SocketKind::of(&socket).is_ok_and(|found| found == Some(kind));
    match (family, socket.domain()) {
        (_, Ok(Domain::UNIX)) => is_kind,
        (Family::Any | Family::V4, Ok(Domain::IPV4)) => is_kind,
        (Family::Any, Ok(Domain::IPV6)) => is_kind && socket.only_v6().is_ok_and(|only| !only),
        (Family::V6, Ok(Domain::IPV6)) => is_kind && socket.only_v6().is_ok_and(|only| only),
        _ => false,
    }
}

/// Makes this user the owner of a socket: the kernel admits only sockets of the same user to a group, so a new
/// slot could not join. The owner differs if `User=` of the service has changed.
fn make_ours(fd: &OwnedFd) -> nix::Result<()> {
    let us = Uid::effective();
    if fstat(fd)?.st_uid == us.as_raw() { Ok(()) } else { fchown(fd, Some(us), None) }
}

/// The name under which a listener for `spec` is stored; `None` if it is not stored, or if the name would be
/// too long.
fn name_of(spec: &BindSpec) -> Option<String> {
    kind_of(spec)?;
    let mut name = PREFIX.to_owned();
    for byte in spec.address.to_string().bytes() {
        // A name must not contain colons or control characters.
        match byte {
            b'%' | b':' => name.push_str(&format!("%{byte:02X}")),
            byte if byte.is_ascii_graphic() => name.push(char::from(byte)),
            byte => name.push_str(&format!("%{byte:02X}")),
        }
    }
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// The part of a name after the address, for a listener of one slot: the slot, and the position in the kernel's
/// order, which the next master could not find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SlotName {
    slot: SlotNumber,
    position: usize,
    /// Whether it has that position, or possibly another one of the group.
    is_certain: bool,
}

/// Marks a position that is not certain.
const UNCERTAIN: char = '?';

impl SlotName {
    /// Reads the part of `kept` after the name of the address.
    fn of(address: &str, kept: &str) -> Option<Self> {
        let (slot, position) = kept.strip_prefix(address)?.strip_prefix(",slot=")?.split_once(",at=")?;
        let certain = position.trim_end_matches(UNCERTAIN);
        Some(Self {
            slot: SlotNumber(slot.parse().ok()?),
            position: certain.parse().ok()?,
            is_certain: certain == position,
        })
    }

    fn name(self, address: &str) -> String {
        let doubt = if self.is_certain { String::new() } else { UNCERTAIN.to_string() };
        format!("{address},slot={},at={}{doubt}", self.slot.0, self.position)
    }
}

impl PerSlot {
    /// Like [`Listener::to_keep`], for all of them or none: a part would lose its order with the rest. UDP
    /// sockets that are bound to a network interface are not stored, because taking one out of its group may
    /// need a privilege while the manager has it too.
    pub(super) fn to_keep(&self) -> Option<Vec<(String, BorrowedFd<'_>)>> {
        let any = self.any();
        if any.kind() == SocketKind::Udp && any.spec.options.device.is_some() {
            return None;
        }
        let address = name_of(&any.spec)?;
        let named = self.members().enumerate().map(|(position, member)| {
            let name = SlotName { slot: member.slot, position, is_certain: self.can_choose() }.name(&address);
            (name.len() <= NAME_BYTES_MAX).then_some((name, member.listener.as_fd()))
        });
        named.collect()
    }
}

impl Listener {
    /// The name and the descriptor to store; `None` if it cannot be stored.
    pub fn to_keep(&self) -> Option<(String, BorrowedFd<'_>)> {
        Some((name_of(&self.spec)?, self.as_fd()))
    }

    /// The name that the service manager must drop when this listener is dropped, because its file is removed
    /// too; `None` if it has no file.
    pub fn kept_with_file(&self) -> Option<String> {
        self.place.as_ref().and_then(|_| name_of(&self.spec))
    }
}

#[cfg(test)]
mod tests;
