//! Listeners that the service manager keeps, so that a master that comes after a crash goes on with what waits in their
//! queues.
//!
//! Each is kept by the address that it was asked for by (`-b`), because that is what the next master asks for: with port
//! 0 it gets the port back that the one before was given. The path of a Unix socket is had with its lock, which nobody
//! keeps; its holder has died, so it can be had again, if the path still leads to that socket. What was passed to the
//! master is kept by who has passed it.

use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::unistd::{Uid, fchown};
use socket2::{Domain, SockRef};

use super::bind::{Backlog, set_options, take_over_place};
use super::listener::take_address_again;
use super::per_slot::{Member, PerSlot, has_one_outcome};
use super::spec::{BindAddress, BindSpec, Origin, Place};
use super::{Address, Family, Listener, Listeners, SocketKind};
use crate::socket_place::SocketPlace;
use crate::supervisor::SlotNumber;
use crate::sys::steering::has_left_group;

/// What the name of a listener begins with where the manager keeps it: other descriptors may be kept or passed too.
const PREFIX: &str = "bind-";

/// The longest name that a manager takes, in bytes. Source: `sd_pid_notify_with_fds(3)`, FDNAME.
const NAME_BYTES_MAX: usize = 255;

/// Listeners that were kept for this process, and not taken yet.
#[derive(Debug, Default)]
pub struct KeptListeners {
    left: Vec<(String, OwnedFd)>,
}

impl KeptListeners {
    pub(super) fn new(left: Vec<(String, OwnedFd)>) -> Self {
        Self { left }
    }

    /// The names of all of them.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.left.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether that is the name of one.
    pub(super) fn has(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// What was kept for `spec`, with the queues; `None` if there is nothing, or it is not what `spec` and `family` ask
    /// for. Call [`Listeners::settle`] once it is in use. Of slots, those that there will be are the first `slots`.
    pub fn take(
        &mut self,
        spec: &BindSpec,
        family: Family,
        backlog: Option<u32>,
        slots: u32,
    ) -> Option<Listeners> {
        if spec.options.reuseport {
            let mut group = self.take_per_slot(spec, family, backlog)?;
            group.renumber(slots);
            Some(Listeners::PerSlot(group))
        } else {
            let listener = self.take_named(&name_of(spec)?, spec, family, backlog)?;
            Some(Listeners::Shared(Box::new(listener)))
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
        // What cannot be used is left, to be given up.
        let (address, place) = prepare(&self.left[at].1, kind, spec, backlog)?;
        let (_, fd) = self.left.remove(at);
        let backlog = if kind.has_connections() { backlog.effective } else { 0 };
        Some(Listener { spec: spec.clone(), address, backlog, passed_name: None, fd, place })
    }

    /// All of a group, or nothing.
    fn take_per_slot(&mut self, spec: &BindSpec, family: Family, backlog: Option<u32>) -> Option<PerSlot> {
        let name = name_of(spec)?;
        let kind = kind_of(spec)?;
        let (mut seats, mut gone) = (Vec::new(), Vec::new());
        for (kept, fd) in &self.left {
            let Some(seat) = Seat::of(&name, kept) else { continue };
            // One of UDP that has left was about to be let go of, and the others have moved by it.
            if !is_of(kind, family, fd) || make_ours(fd).is_err() || has_left_group(fd) {
                return None;
            }
            let listens = || SockRef::from(fd).is_listener().is_ok_and(|listens| listens);
            if kind.has_connections() && !listens() {
                gone.push(seat.position);
            }
            seats.push((seat, kept.clone()));
        }
        seats.sort_unstable_by_key(|(seat, _)| seat.position);
        if !seats.iter().map(|(seat, _)| seat.position).eq(0..seats.len()) {
            return None;
        }
        // One that was shut down has left the group, and those behind it have moved. It comes back as the last.
        gone.sort_unstable();
        let is_order_known = seats.iter().all(|(seat, _)| seat.is_certain)
            && has_one_outcome(seats.len(), &gone)
            || gone.len() == seats.len();
        let back: Vec<_> = gone.iter().rev().map(|at| seats.swap_remove(*at)).collect();
        seats.extend(back);
        let mut members = Vec::new();
        for (seat, kept) in &seats {
            match self.take_named(kept, spec, family, backlog) {
                Some(listener) => members.push(Member::new(seat.slot, listener)),
                None => {
                    let names = seats.iter().map(|(_, kept)| kept.clone());
                    self.left.extend(names.zip(members.into_iter().map(|member| member.listener.fd)));
                    return None;
                }
            }
        }
        PerSlot::new(members, is_order_known)
    }

    /// Gives up what was not taken, and returns its names. Nobody is refused an address by it from now on, although the
    /// manager still holds it; but for UDP, where the manager has to let go of it first.
    #[must_use]
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

/// Makes of a socket that was kept what `spec` asks for; `None` if that cannot be.
fn prepare(
    fd: &OwnedFd,
    kind: SocketKind,
    spec: &BindSpec,
    backlog: Backlog,
) -> Option<(Address, Option<SocketPlace>)> {
    let socket = SockRef::from(fd);
    let address = Address::of(fd, kind).ok()?;
    if kind.has_connections() {
        // A worker may have shut it down, which a TCP socket gets over; and the system's limit may be another now.
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

/// Whether nobody can connect to it any more, though it listens.
fn is_shut_down(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    // A hang-up is told unasked.
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Removes the file of a Unix socket, if its path leads to it. Whoever binds there next would be told that somebody has
/// it: the manager has, for a while.
fn remove_file(fd: &OwnedFd) {
    let Ok(bound) = SockRef::from(fd).local_addr() else { return };
    let place = bound.as_pathname().and_then(|path| SocketPlace::take_over(path, fd).ok().flatten());
    if let Some(mut place) = place {
        place.settle();
    }
}

/// What a listener for `spec` is, if the master makes it.
fn kind_of(spec: &BindSpec) -> Option<SocketKind> {
    match spec.address.origin() {
        Origin::Bound(kind) | Origin::Abstract(kind) => Some(kind),
        _ => None,
    }
}

/// Whether it is a socket of this kind that `family` allows, and takes what that asks for.
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

/// Has a socket be this user's: the kernel lets nobody else's into its group, and a slot that is new would have none. It is
/// another's if the service was, and `User=` has changed.
fn make_ours(fd: &OwnedFd) -> nix::Result<()> {
    let us = Uid::effective();
    if fstat(fd)?.st_uid == us.as_raw() { Ok(()) } else { fchown(fd, Some(us), None) }
}

/// What a listener for `spec` is kept as; `None` if it is not kept, or that is too long to be a name.
fn name_of(spec: &BindSpec) -> Option<String> {
    kind_of(spec)?;
    let mut name = PREFIX.to_owned();
    for byte in spec.address.to_string().bytes() {
        // A name has no colon and no control character.
        match byte {
            b'%' | b':' => name.push_str(&format!("%{byte:02X}")),
            byte if byte.is_ascii_graphic() => name.push(char::from(byte)),
            byte => name.push_str(&format!("%{byte:02X}")),
        }
    }
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// What the name of a listener of one slot says beside the address: whose it is, and where in the kernel's order, which
/// nobody else could tell the next master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    slot: SlotNumber,
    position: usize,
    /// Whether it is there, or another of the group.
    is_certain: bool,
}

/// Behind a position that is not certain.
const UNCERTAIN: char = '?';

impl Seat {
    /// Reads what follows the name of the address in `kept`.
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
    /// As [`Listener::to_keep`], all of them or none: the order of a part would be lost with the rest. Those of UDP that are
    /// bound to a network interface are not kept: it may need a privilege to have one leave the group while the manager
    /// has it too.
    #[must_use]
    pub(super) fn to_keep(&self) -> Option<Vec<(String, BorrowedFd<'_>)>> {
        let any = self.any();
        if any.kind() == SocketKind::Udp && any.spec.options.device.is_some() {
            return None;
        }
        let address = name_of(&any.spec)?;
        let named = self.members().enumerate().map(|(position, member)| {
            let name = Seat { slot: member.slot, position, is_certain: self.can_choose() }.name(&address);
            (name.len() <= NAME_BYTES_MAX).then_some((name, member.listener.as_fd()))
        });
        named.collect()
    }
}

impl Listener {
    /// What the service manager is to keep it as; `None` if it is none that can be kept.
    #[must_use]
    pub fn to_keep(&self) -> Option<(String, BorrowedFd<'_>)> {
        Some((name_of(&self.spec)?, self.as_fd()))
    }

    /// What the service manager is to let go of when this goes, because its file goes too; `None` if it has none.
    #[must_use]
    pub fn kept_with_file(&self) -> Option<String> {
        self.place.as_ref().and_then(|_| name_of(&self.spec))
    }
}

#[cfg(test)]
mod tests;
