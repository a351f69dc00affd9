//! Listeners that the service manager keeps, so that a master that comes after a crash goes on with what waits in their
//! queues.
//!
//! Each is kept by the address that it was asked for by (`-b`), because that is what the next master asks for: with port
//! 0 it gets the port back that the one before was given. The path of a Unix socket is had with its lock, which nobody
//! keeps; its holder has died, so it can be had again, if the path still leads to that socket. What was passed to the
//! master is kept by who has passed it.

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockRef};

use super::bind::{Backlog, set_options, take_over_place};
use super::spec::{BindAddress, BindSpec, Origin, Place};
use super::{Address, Family, Listener, SocketKind};
use crate::socket_place::SocketPlace;

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
    /// `family` ask for. Call [`Listener::settle`] once it is in use.
    pub fn take(&mut self, spec: &BindSpec, family: Family, backlog: Option<u32>) -> Option<Listener> {
        let name = name_of(spec)?;
        let kind = kind_of(spec)?;
        let at = self.left.iter().position(|(kept, fd)| *kept == name && is_of(kind, family, fd))?;
        let backlog = Backlog::new(spec.options.backlog.or(backlog));
        // What cannot be used is left, to be given up.
        let (address, place) = prepare(&self.left[at].1, kind, spec, backlog)?;
        let (_, fd) = self.left.remove(at);
        let backlog = if kind.has_connections() { backlog.effective } else { 0 };
        Some(Listener { spec: spec.clone(), address, backlog, passed_name: None, fd, place })
    }

    /// Gives up what was not taken, and returns its names. Nobody is refused an address by it from now on, although the
    /// manager still holds it.
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
    if kind.has_connections() {
        // The system's limit may be another now; and a worker may have shut it down, which a TCP socket gets over.
        socket.listen(backlog.asked).ok()?;
        if !kind.is_inet() && is_shut_down(fd) {
            return None;
        }
    }
    socket.set_nonblocking(spec.options.nonblocking).ok()?;
    let address = Address::of(fd, kind).ok()?;
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

impl Listener {
    /// What the service manager is to keep it as, and a copy for that; `None` if it is none that can be kept, or there
    /// is no descriptor left.
    #[must_use]
    pub fn to_keep(&self) -> Option<(String, OwnedFd)> {
        Some((name_of(&self.spec)?, self.as_fd().try_clone_to_owned().ok()?))
    }

    /// What the service manager is to let go of when this goes, because its file goes too; `None` if it has none.
    #[must_use]
    pub fn kept_with_file(&self) -> Option<String> {
        self.place.as_ref().and_then(|_| name_of(&self.spec))
    }
}

#[cfg(test)]
mod tests;
