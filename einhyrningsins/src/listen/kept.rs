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
use super::spec::{BindAddress, BindSpec, Origin};
use super::{Address, Family, Listener, SocketKind};

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

    /// Whether that is the name of one.
    pub(super) fn has(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// The listener that was kept for `spec`, with its queue; `None` if there is none, or it is not what `spec` and
    /// `family` ask for.
    pub fn take(&mut self, spec: &BindSpec, family: Family, backlog: Option<u32>) -> Option<Listener> {
        let name = name_of(spec)?;
        let Origin::Bound(kind) = spec.address.origin() else { return None };
        let at = self.left.iter().position(|(kept, fd)| *kept == name && is_of(kind, family, fd))?;
        let (_, fd) = self.left.remove(at);
        let backlog = Backlog::new(spec.options.backlog.or(backlog));
        let socket = SockRef::from(&fd);
        if kind.has_connections() {
            // A worker may have shut it down; and the system's limit may be another now.
            socket.listen(backlog.asked).ok()?;
        }
        socket.set_nonblocking(spec.options.nonblocking).ok()?;
        let address = Address::of(&fd, kind).ok()?;
        set_options(&socket, &address, &spec.options, backlog.effective).ok()?;
        let backlog = if kind.has_connections() { backlog.effective } else { 0 };
        Some(Listener { spec: spec.clone(), address, backlog, passed_name: None, fd, place: None })
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
        assert_eq!((after.address.inet(), after.backlog), (Some(address), 7));
        assert!(kept.take(&spec("127.0.0.1:0"), Family::Any, None).is_none(), "once");
        assert_eq!(kept.give_up(), [""; 0]);
        let listener = TcpListener::from(after.as_fd().try_clone_to_owned().unwrap());
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
        SockRef::from(&before).shutdown(Shutdown::Both).unwrap();
        let after = kept(&[before]).take(&spec("127.0.0.1:0"), Family::Any, None).unwrap();
        TcpStream::connect(after.address.inet().unwrap()).unwrap();
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
        assert_eq!((after.address.inet(), after.backlog), (Some(address), 0));
        let socket = UdpSocket::from(after.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 5);
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
