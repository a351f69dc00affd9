//! Listeners that the service manager keeps, so that a master that comes after a crash goes on with what waits in their
//! queues.
//!
//! Each is kept by the address that it was asked for by (`-b`), because that is what the next master asks for: with port
//! 0 it gets the port back that the one before was given. Only TCP and UDP sockets are kept: the path of a Unix socket is
//! had with its lock, which nobody keeps, and what was passed to the master is kept by who has passed it.

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, SockRef};

use super::bind::{Backlog, set_options};
use super::per_slot::{Member, PerSlot};
use super::spec::{BindAddress, BindSpec, Origin};
use super::{Address, Family, Listener, Listeners, SocketKind};
use crate::supervisor::SlotNumber;

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
    /// for.
    pub fn take(&mut self, spec: &BindSpec, family: Family, backlog: Option<u32>) -> Option<Listeners> {
        if spec.options.reuseport {
            self.take_per_slot(spec, family, backlog).map(Listeners::PerSlot)
        } else {
            self.take_named(&name_of(spec)?, spec, family, backlog)
                .map(|listener| Listeners::Shared(Box::new(listener)))
        }
    }

    fn take_named(
        &mut self,
        name: &str,
        spec: &BindSpec,
        family: Family,
        backlog: Option<u32>,
    ) -> Option<Listener> {
        let Origin::Bound(kind) = spec.address.origin() else { return None };
        let at = self.left.iter().position(|(kept, fd)| kept == name && is_of(kind, family, fd))?;
        let (_, fd) = self.left.remove(at);
        let backlog = Backlog::new(spec.options.backlog.or(backlog));
        let address = Address::of(&fd, kind).ok()?;
        let limit = if kind.has_connections() { backlog.effective } else { 0 };
        let listener =
            Listener { spec: spec.clone(), address, backlog: limit, passed_name: None, fd, place: None };
        // A worker may have shut it down; and the system's limit may be another now.
        listener.revive().ok()?;
        let socket = SockRef::from(&listener);
        if kind.has_connections() {
            socket.listen(backlog.asked).ok()?;
        }
        socket.set_nonblocking(spec.options.nonblocking).ok()?;
        set_options(&socket, &listener.address, &spec.options, backlog.effective).ok()?;
        Some(listener)
    }

    /// All of a group, or nothing.
    fn take_per_slot(&mut self, spec: &BindSpec, family: Family, backlog: Option<u32>) -> Option<PerSlot> {
        let name = name_of(spec)?;
        let Origin::Bound(kind) = spec.address.origin() else { return None };
        let mut seats = Vec::new();
        for (kept, fd) in &self.left {
            let Some(seat) = Seat::of(&name, kept) else { continue };
            // One that was shut down has left the group, and those behind it have moved.
            let listens =
                !kind.has_connections() || SockRef::from(fd).is_listener().is_ok_and(|listens| listens);
            if !(listens && is_of(kind, family, fd)) {
                return None;
            }
            seats.push((seat, kept.clone()));
        }
        seats.sort_unstable_by_key(|(seat, _)| seat.position);
        if !seats.iter().map(|(seat, _)| seat.position).eq(0..seats.len()) {
            return None;
        }
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
        PerSlot::new(members)
    }

    /// Gives up what was not taken, and returns its names. Nobody is refused an address by it from now on, although the
    /// manager still holds it.
    #[must_use]
    pub fn give_up(self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, fd) in self.left {
            let _ = SockRef::from(&fd).shutdown(Shutdown::Both);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// Whether it is a socket of this kind that `family` allows, and takes what that asks for.
fn is_of(kind: SocketKind, family: Family, fd: &OwnedFd) -> bool {
    let socket = SockRef::from(fd);
    let is_kind = SocketKind::of(&socket).is_ok_and(|found| found == Some(kind));
    match (family, socket.domain()) {
        (Family::Any | Family::V4, Ok(Domain::IPV4)) => is_kind,
        (Family::Any, Ok(Domain::IPV6)) => is_kind && socket.only_v6().is_ok_and(|only| !only),
        (Family::V6, Ok(Domain::IPV6)) => is_kind && socket.only_v6().is_ok_and(|only| only),
        _ => false,
    }
}

/// What a listener for `spec` is kept as; `None` if it is not kept, or that is too long to be a name.
fn name_of(spec: &BindSpec) -> Option<String> {
    if !matches!(spec.address, BindAddress::Tcp { .. } | BindAddress::Udp { .. }) {
        return None;
    }
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
}

impl Seat {
    /// Reads what follows the name of the address in `kept`.
    fn of(address: &str, kept: &str) -> Option<Self> {
        let (slot, position) = kept.strip_prefix(address)?.strip_prefix(",slot=")?.split_once(",at=")?;
        Some(Self { slot: SlotNumber(slot.parse().ok()?), position: position.parse().ok()? })
    }

    fn name(self, address: &str) -> String {
        format!("{address},slot={},at={}", self.slot.0, self.position)
    }
}

impl PerSlot {
    /// As [`Listener::to_keep`], all of them or none: the order of a part would be lost with the rest. Those of UDP are not
    /// kept: while the manager has one, it stays in the group, and nobody knows how long.
    #[must_use]
    pub(super) fn to_keep(&self) -> Option<Vec<(String, OwnedFd)>> {
        if !self.any().kind().has_connections() {
            return None;
        }
        let address = name_of(&self.any().spec)?;
        let keep = |(position, member): (usize, &Member)| {
            let name = Seat { slot: member.slot, position }.name(&address);
            let copy = member.listener.as_fd().try_clone_to_owned().ok()?;
            (name.len() <= NAME_BYTES_MAX).then_some((name, copy))
        };
        self.members().enumerate().map(keep).collect()
    }
}

impl Listener {
    /// What the service manager is to keep it as, and a copy for that; `None` if it is none that can be kept, or there
    /// is no descriptor left.
    #[must_use]
    pub fn to_keep(&self) -> Option<(String, OwnedFd)> {
        Some((name_of(&self.spec)?, self.as_fd().try_clone_to_owned().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::listen::bind;
    use crate::supervisor::Seats;

    fn spec(text: &str) -> BindSpec {
        text.parse().unwrap()
    }

    /// What a manager would pass on of these.
    fn kept(listeners: &[Listener]) -> KeptListeners {
        KeptListeners { left: listeners.iter().map(|listener| listener.to_keep().unwrap()).collect() }
    }

    #[test]
    fn a_listener_is_taken_back_with_its_port_and_what_waits_in_its_queue() {
        let before = bind(&spec("127.0.0.1:0,name=web"), Family::Any, None).unwrap();
        let mut kept = kept(&[before]);
        let address = SockRef::from(&kept.left[0].1).local_addr().unwrap().as_socket().unwrap();
        let mut waiting = TcpStream::connect(address).unwrap();
        waiting.write_all(b"hello").unwrap();
        assert!(kept.take(&spec("127.0.0.1:1"), Family::Any, None).is_none());
        // The name, and other options, are not what it is kept by.
        let after = kept.take(&spec("127.0.0.1:0,n"), Family::Any, Some(7)).unwrap();
        assert_eq!((after.any().address.inet(), after.any().backlog), (Some(address), 7));
        assert!(kept.take(&spec("127.0.0.1:0"), Family::Any, None).is_none(), "once");
        assert_eq!(kept.give_up(), [""; 0]);
        let listener = TcpListener::from(after.any().as_fd().try_clone_to_owned().unwrap());
        let mut bytes = [0; 5];
        listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn what_nobody_wants_any_more_is_in_nobodys_way() {
        let before = bind(&spec("127.0.0.1:0"), Family::Any, None).unwrap();
        let address = before.address.clone();
        let still_with_the_manager = before.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(kept(&[before]).give_up(), ["bind-127.0.0.1%3A0"]);
        bind(&spec(&address.to_string()), Family::Any, None).unwrap();
        drop(still_with_the_manager);
    }

    #[test]
    fn a_family_that_is_not_asked_for_any_more_is_not_taken() {
        for (one, other) in [(Family::Any, Family::V6), (Family::V6, Family::Any), (Family::Any, Family::V4)]
        {
            let before = bind(&spec("[::]:0"), one, None).unwrap();
            assert!(kept(&[before]).take(&spec("[::]:0"), other, None).is_none(), "{one:?} {other:?}");
        }
    }

    #[test]
    fn one_that_a_worker_has_shut_down_listens_again() {
        let before = bind(&spec("127.0.0.1:0"), Family::Any, None).unwrap();
        let address = before.address.clone();
        SockRef::from(&before).shutdown(Shutdown::Both).unwrap();
        let after = kept(&[before]).take(&spec("127.0.0.1:0"), Family::Any, None).unwrap();
        assert_eq!(after.any().address, address);
        TcpStream::connect(address.inet().unwrap()).unwrap();
    }

    #[test]
    fn names_are_such_as_a_manager_takes() {
        for (address, name) in [
            ("127.0.0.1:80", "bind-127.0.0.1%3A80"),
            (":80", "bind-%3A80"),
            ("[::1]:80", "bind-[%3A%3A1]%3A80"),
            ("localhost:80,name=web", "bind-localhost%3A80"),
        ] {
            assert_eq!(name_of(&spec(address)).as_deref(), Some(name));
        }
    }

    #[test]
    fn packets_wait_for_the_next_master_too() {
        let before = bind(&spec("udp:127.0.0.1:0"), Family::Any, None).unwrap();
        let address = before.address.inet().unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", address).unwrap();
        let mut kept = kept(&[before]);
        assert!(kept.take(&spec("127.0.0.1:0"), Family::Any, None).is_none());
        let after = kept.take(&spec("udp:127.0.0.1:0"), Family::Any, None).unwrap();
        assert_eq!((after.any().address.inet(), after.any().backlog), (Some(address), 0));
        let socket = UdpSocket::from(after.any().as_fd().try_clone_to_owned().unwrap());
        assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 5);
    }

    /// Three slots, in the middle one of which a client waits.
    fn group() -> (PerSlot, TcpStream, BindSpec) {
        let spec = spec("127.0.0.1:0,reuseport");
        let mut group = PerSlot::begin(bind(&spec, Family::Any, None).unwrap(), 4).unwrap();
        // The last one takes the place of one that goes, so that the order is not that of the slots.
        group.close(SlotNumber(1));
        group.steer(&Seats::of([(SlotNumber(2), true)])).unwrap();
        let mut client = TcpStream::connect(group.address().inet().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        (group, client, spec)
    }

    #[test]
    fn the_listeners_of_slots_are_taken_back_together_with_their_order_and_their_queues() {
        let (before, _client, spec) = group();
        let (order, address) = (before.order(), before.address().clone());
        let mut kept = KeptListeners { left: before.to_keep().unwrap() };
        // A manager passes them on in any order.
        kept.left.reverse();
        let names = ["slot=2,at=2", "slot=3,at=1", "slot=0,at=0"];
        assert_eq!(kept.names(), names.map(|seat| format!("bind-127.0.0.1%3A0,{seat}")));
        drop(before);
        assert!(kept.take(&self::spec("127.0.0.1:0"), Family::Any, None).is_none(), "it is no group");
        let Some(Listeners::PerSlot(after)) = kept.take(&spec, Family::Any, Some(7)) else {
            panic!("not taken")
        };
        assert_eq!((after.order(), after.address(), after.any().backlog), (order, &address, 7));
        assert_eq!(kept.give_up(), [""; 0]);
        let listener = after.of(SlotNumber(2)).unwrap().as_fd().try_clone_to_owned().unwrap();
        let mut bytes = [0; 5];
        TcpListener::from(listener).accept().unwrap().0.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn of_a_group_all_are_taken_or_none() {
        let (before, _client, spec) = group();
        let mut kept = KeptListeners { left: before.to_keep().unwrap() };
        kept.left.remove(1);
        assert!(kept.take(&spec, Family::Any, None).is_none());
        let mut kept = KeptListeners { left: before.to_keep().unwrap() };
        assert!(kept.take(&spec, Family::V6, None).is_none());
        // One that was shut down has lost its place, and the others theirs by it.
        SockRef::from(before.of(SlotNumber(3)).unwrap()).shutdown(Shutdown::Both).unwrap();
        assert!(kept.take(&spec, Family::Any, None).is_none());
        let address = before.address().clone();
        drop(before);
        assert_eq!(kept.give_up().len(), 3);
        bind(&self::spec(&format!("{address},reuseport")), Family::Any, None).unwrap();
    }

    #[test]
    fn packets_of_slots_are_not_kept() {
        let spec = spec("udp:127.0.0.1:0,reuseport");
        let group = PerSlot::begin(bind(&spec, Family::Any, None).unwrap(), 2).unwrap();
        assert!(group.to_keep().is_none());
    }

    #[test]
    fn what_the_next_master_could_not_have_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        for text in
            [format!("unix:{}/a.sock", directory.path().display()), "systemd:web".into(), "fd:7".into()]
        {
            assert_eq!(name_of(&spec(&text)), None, "{text}");
        }
    }
}
