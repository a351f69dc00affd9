//! Binding: creates a socket for a `-b` and makes it listen.

mod error;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, fchownat};
use socket2::{Domain, SockRef, Socket, Type};

pub use error::{BindError, is_missing, is_shortage};

use super::spec::{BindAddress, BindOption, BindOptions, BindSpec, FastOpen, Host, Place};
use super::{Address, Listener, PassedError, SocketKind, UnixName};
use crate::socket_place::{FileOwner, PlaceError, SocketPlace, Unmasked};
use crate::sys::account;
use crate::sys::inherit::Kept;
use crate::sys::tcp_option::{DEFER_SECONDS, set_defer_accept, set_fastopen};

/// The system's limit on a listener's queue.
const SOMAXCONN_FILE: &str = "/proc/sys/net/core/somaxconn";

/// The address family that may be bound (`-4`, `-6`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Either; an IPv6 wildcard accepts IPv4 connections too.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only; an IPv6 wildcard accepts no IPv4 connections.
    V6,
}

impl Family {
    fn allows(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }

    /// The family and the option that chose it, for messages.
    fn described(self) -> &'static str {
        match self {
            Self::Any => "IPv4 or IPv6",
            Self::V4 => "IPv4 (-4)",
            Self::V6 => "IPv6 (-6)",
        }
    }
}

/// Binds what `spec` asks for and listens, with a queue of `backlog` connections, or as many as the system
/// allows. Looking up a host name may block for as long as DNS does.
///
/// - A host name gives one listener, on its first IPv4 address. It gets its first IPv6 address only with
///   [`Family::V6`], or if it has no other: einhorn knows only IPv4, and a name that has both (`localhost`)
///   must mean the same here.
/// - No host gives `[::]` with IPv4 connections, or `0.0.0.0` if the system has no IPv6.
/// - TCP sockets always get `SO_REUSEADDR`, so that lingering connections of an earlier master do not block the
///   port.
///
/// # Errors
/// [`BindError`] names the address. For a socket that is passed rather than bound, it is [`BindError::Passed`].
pub fn bind(spec: &BindSpec, family: Family, backlog: Option<u32>) -> Result<Listener, BindError> {
    let at = |address: &Address| bind_at(spec, address, family, backlog);
    match &spec.address {
        BindAddress::Tcp { host, port } => bind_host(spec, host, *port, family, |to| at(&Address::Tcp(to))),
        BindAddress::Udp { host, port } => bind_host(spec, host, *port, family, |to| at(&Address::Udp(to))),
        BindAddress::Unix(place) => at(&Address::Unix(place.name())),
        BindAddress::Seqpacket(place) => at(&Address::Seqpacket(place.name())),
        BindAddress::Fd(_) | BindAddress::Systemd(_) => {
            Err(BindError::Passed { address: spec.address.clone(), source: PassedError::NotPassed })
        }
    }
}

/// Checks what `spec` asks for and lets it go. A TCP or Unix socket is bound, and never listens. Where others may join,
/// and for UDP, whose packets would be lost, only the options are set, and the host is bound with any free port.
///
/// # Errors
/// As [`bind`].
pub fn try_bind(spec: &BindSpec, family: Family) -> Result<(), BindError> {
    let at = |address: &Address| try_at(spec, address, family);
    match &spec.address {
        BindAddress::Tcp { host, port } => bind_host(spec, host, *port, family, |to| at(&Address::Tcp(to))),
        BindAddress::Udp { host, port } => bind_host(spec, host, *port, family, |to| at(&Address::Udp(to))),
        BindAddress::Unix(place) => at(&Address::Unix(place.name())),
        BindAddress::Seqpacket(place) => at(&Address::Seqpacket(place.name())),
        BindAddress::Fd(_) | BindAddress::Systemd(_) => Ok(()),
    }
}

fn try_at(spec: &BindSpec, address: &Address, family: Family) -> Result<(), BindError> {
    let options = &spec.options;
    let failed = |source| BindError::Bind { address: address.clone(), source };
    let socket = new_socket(address, family == Family::V6).map_err(failed)?;
    set_options(&socket, address, options, Backlog::new(options.backlog).effective)?;
    let is_shared = options.reuseport || address.kind() == SocketKind::Udp;
    match (address.path(), address.inet()) {
        (Some(path), _) => {
            let take = |finish: &dyn Fn(&Path) -> io::Result<()>| SocketPlace::take(path, &socket, finish);
            take_place(&socket, address, options, owner(options)?, || Ok(()), take).map(drop)
        }
        (None, Some(bound)) if is_shared => {
            socket.bind(&SocketAddr::new(bound.ip(), 0).into()).map_err(failed)
        }
        (None, _) => address.to_sockaddr().and_then(|bound| socket.bind(&bound)).map_err(failed),
    }
}

impl Place {
    fn name(&self) -> UnixName {
        match self {
            Self::Path(path) => UnixName::Path(path.clone()),
            Self::Abstract(name) => UnixName::Abstract(name.clone().into_bytes()),
        }
    }
}

fn bind_host<T>(
    spec: &BindSpec,
    host: &Host,
    port: u16,
    family: Family,
    bind_to: impl Fn(SocketAddr) -> Result<T, BindError>,
) -> Result<T, BindError> {
    let at = |ip: IpAddr| bind_to(SocketAddr::new(ip, port));
    match host {
        Host::Any => match family {
            Family::Any => {
                prefer_ipv6(|| at(Ipv6Addr::UNSPECIFIED.into()), || at(Ipv4Addr::UNSPECIFIED.into()))
            }
            Family::V4 => at(Ipv4Addr::UNSPECIFIED.into()),
            Family::V6 => at(Ipv6Addr::UNSPECIFIED.into()),
        },
        Host::Ip(ip) if family.allows(*ip) => at(*ip),
        Host::Ip(_) => Err(BindError::WrongFamily { address: spec.address.clone(), family }),
        Host::Name(name) => at(resolve(name, family)?),
    }
}

/// Tries IPv6, then IPv4 if the system has no IPv6: not built in, or disabled.
fn prefer_ipv6<T>(
    ipv6: impl FnOnce() -> Result<T, BindError>,
    ipv4: impl FnOnce() -> Result<T, BindError>,
) -> Result<T, BindError> {
    match ipv6() {
        Err(BindError::Bind { source, .. }) if is_missing(&source) => ipv4(),
        result => result,
    }
}

/// Resolves `name` to the address to bind.
fn resolve(name: &str, family: Family) -> Result<IpAddr, BindError> {
    let found =
        (name, 0).to_socket_addrs().map_err(|source| BindError::Resolve { name: name.to_owned(), source })?;
    let found: Vec<_> = found.map(|address| address.ip()).collect();
    choose(&found, family).ok_or_else(|| BindError::NoAddress { name: name.to_owned(), family })
}

fn choose(found: &[IpAddr], family: Family) -> Option<IpAddr> {
    let allowed = || found.iter().copied().filter(|ip| family.allows(*ip));
    allowed().find(IpAddr::is_ipv4).or_else(|| allowed().next())
}

/// Binds one socket to `address`, with the options of `spec`, and listens if it takes connections.
pub fn bind_at(
    spec: &BindSpec,
    address: &Address,
    family: Family,
    backlog: Option<u32>,
) -> Result<Listener, BindError> {
    let backlog = Backlog::new(spec.options.backlog.or(backlog));
    let socket = new_socket(address, family == Family::V6);
    let socket = socket.map_err(|source| BindError::Bind { address: address.clone(), source })?;
    // A socket that others may join is bound alone at first. Otherwise two masters that were started by mistake
    // would share the address, and neither would notice.
    finish(spec, address, socket, backlog)
}

/// Binds another socket to the address of `listener`, in its group and with the same options (`reuseport`).
///
/// # Errors
/// [`BindError`], for instance if no descriptor is left.
pub fn bind_member(listener: &Listener) -> Result<Listener, BindError> {
    let Listener { spec, address, backlog, .. } = listener;
    let failed = |source| BindError::Bind { address: address.clone(), source };
    let only_v6 = address.inet().is_some_and(|address| address.is_ipv6())
        && SockRef::from(listener).only_v6().map_err(failed)?;
    let socket = new_socket(address, only_v6).map_err(failed)?;
    socket.set_reuse_port(true).map_err(failed)?;
    finish(spec, address, socket, Backlog::new(Some(*backlog)))
}

/// Gives `listener` its path again, if others have removed the socket's file or the lock file. A file cannot be given back
/// to its socket: if it is gone, a new socket is bound there and becomes the listener's. Returns whether that is so.
///
/// # Errors
/// [`BindError`] if another process has the path by now, or a file cannot be made.
pub fn bind_again(listener: &mut Listener) -> Result<bool, BindError> {
    let Listener { fd, spec, address, backlog, place: Some(place), .. } = listener else { return Ok(false) };
    let Some(lost) = place.lost() else { return Ok(false) };
    place.lock_again().map_err(|source| BindError::Place { address: address.clone(), source })?;
    if !lost.socket {
        return Ok(false);
    }
    let failed = |source| BindError::Bind { address: address.clone(), source };
    let socket = new_socket(address, false).map_err(failed)?;
    set_options(&socket, address, &spec.options, *backlog)?;
    let listen = || listen(&socket, address, Backlog::new(Some(*backlog)));
    let owner = place.file_owner().map_or_else(|| owner(&spec.options), Ok)?;
    take_place(&socket, address, &spec.options, owner, listen, |finish| place.bind_again(&socket, finish))?;
    place.given_to(owner);
    *fd = Kept::Open(socket.into());
    Ok(true)
}

fn finish(
    spec: &BindSpec,
    address: &Address,
    socket: Socket,
    backlog: Backlog,
) -> Result<Listener, BindError> {
    let failed = |source| BindError::Bind { address: address.clone(), source };
    let options = &spec.options;
    set_options(&socket, address, options, backlog.effective)?;
    let listen = || {
        // The kernel reads it when the socket listens, or when the next one is bound.
        if options.reuseport {
            socket.set_reuse_port(true)?;
        }
        listen(&socket, address, backlog)
    };
    let place = match address.path() {
        Some(path) => {
            let take = |finish: &dyn Fn(&Path) -> io::Result<()>| SocketPlace::take(path, &socket, finish);
            let owner = owner(options)?;
            let mut place = take_place(&socket, address, options, owner, listen, take)?;
            place.given_to(owner);
            Some(place)
        }
        None => {
            let bound = address.to_sockaddr();
            bound.and_then(|bound| socket.bind(&bound)).and_then(|()| listen()).map_err(failed)?;
            None
        }
    };
    Ok(Listener {
        spec: spec.clone(),
        address: Address::of(&socket, address.kind()).unwrap_or_else(|_| address.clone()),
        backlog: if address.kind().has_connections() { backlog.effective } else { 0 },
        passed_name: None,
        fd: Kept::Open(socket.into()),
        place,
    })
}

fn listen(socket: &Socket, address: &Address, backlog: Backlog) -> io::Result<()> {
    if address.kind().has_connections() { socket.listen(backlog.asked) } else { Ok(()) }
}

fn new_socket(address: &Address, only_v6: bool) -> io::Result<Socket> {
    let domain = address.inet().map_or(Domain::UNIX, Domain::for_address);
    let socket_type = match address.kind() {
        SocketKind::Tcp | SocketKind::Unix => Type::STREAM,
        SocketKind::Udp | SocketKind::UnixDatagram => Type::DGRAM,
        SocketKind::Seqpacket => Type::SEQPACKET,
    };
    let socket = Socket::new(domain, socket_type, None)?;
    if domain == Domain::IPV6 {
        // Set either way, because the system's default (bindv6only) is up to the administrator.
        socket.set_only_v6(only_v6)?;
    }
    if address.kind() == SocketKind::Tcp {
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// Sets the options that can be set both before and after a socket has an address.
pub fn set_options(
    socket: &Socket,
    address: &Address,
    options: &BindOptions,
    backlog: u32,
) -> Result<(), BindError> {
    let set = |option: BindOption, result: io::Result<()>| {
        result.map_err(|source| BindError::Option {
            address: address.clone(),
            option: options.written(option).unwrap_or_default(),
            source,
        })
    };
    if options.nonblocking {
        set(BindOption::NonBlocking, socket.set_nonblocking(true))?;
    }
    if let Some(size) = options.receive_buffer {
        set(BindOption::ReceiveBuffer, set_receive_buffer(socket, size as usize))?;
    }
    if let Some(size) = options.send_buffer {
        set(BindOption::SendBuffer, set_send_buffer(socket, size as usize))?;
    }
    if let Some(mark) = options.mark {
        set(BindOption::Mark, socket.set_mark(mark))?;
    }
    if let Some(device) = &options.device {
        set(BindOption::Device, socket.bind_device(Some(device.as_bytes())))?;
    }
    if options.freebind {
        let is_v4 = address.inet().is_some_and(|address| address.is_ipv4());
        let result = if is_v4 { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) };
        set(BindOption::FreeBind, result)?;
    }
    if options.nodelay {
        set(BindOption::NoDelay, socket.set_tcp_nodelay(true))?;
    }
    if options.keepalive {
        set(BindOption::KeepAlive, socket.set_keepalive(true))?;
    }
    if options.defer {
        set(BindOption::Defer, set_defer_accept(socket, DEFER_SECONDS))?;
    }
    if let Some(fastopen) = options.fastopen {
        let pending = match fastopen {
            FastOpen::Backlog => backlog,
            FastOpen::Pending(count) => count,
        };
        set(BindOption::FastOpen, set_fastopen(socket, pending))?;
    }
    Ok(())
}

/// A privileged process may exceed the system's limit; others get as much as it allows.
pub fn set_receive_buffer(socket: &Socket, size: usize) -> io::Result<()> {
    let forced = setsockopt(socket, sockopt::RcvBufForce, &size);
    forced.or_else(|_| socket.set_recv_buffer_size(size))
}

/// As [`set_receive_buffer`].
pub fn set_send_buffer(socket: &Socket, size: usize) -> io::Result<()> {
    let forced = setsockopt(socket, sockopt::SndBufForce, &size);
    forced.or_else(|_| socket.set_send_buffer_size(size))
}

/// Binds `socket` to a path, which `take` does, with its mode and owner. The file appears with that mode, and nobody
/// can connect before the owner is right, because only then does it listen.
fn take_place<T>(
    socket: &Socket,
    address: &Address,
    options: &BindOptions,
    owner: FileOwner,
    listen: impl Fn() -> io::Result<()>,
    take: impl FnOnce(&dyn Fn(&Path) -> io::Result<()>) -> Result<T, PlaceError>,
) -> Result<T, BindError> {
    let failed = |source| BindError::Place { address: address.clone(), source };
    let (user, group) = (owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw));
    let _unmasked = match options.mode {
        Some(mode) => {
            fchmod(socket, Mode::from_bits_truncate(mode))
                .map_err(|errno| failed(PlaceError::Io(errno.into())))?;
            Some(Unmasked::begin())
        }
        None => None,
    };
    let give = |path: &Path| {
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        fchownat(nix::fcntl::AT_FDCWD, path, user, group, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| {
            let option = |option| options.written(option).unwrap_or_default();
            let to = [option(BindOption::User), option(BindOption::Group)].join(" ");
            io::Error::other(format!("it cannot be given to {}: {}", to.trim(), io::Error::from(errno)))
        })
    };
    take(&|path| give(path).and_then(|()| listen())).map_err(failed)
}

/// Takes over the path of a socket that an earlier master bound, and sets the mode and owner that are asked for
/// now; `None` if the path does not lead to the socket.
pub fn take_over_place(
    path: &Path,
    socket: &OwnedFd,
    address: &Address,
    options: &BindOptions,
) -> Result<Option<SocketPlace>, BindError> {
    let failed = |source| BindError::Place { address: address.clone(), source };
    let owner = owner(options)?;
    let Some(mut place) = SocketPlace::take_over(path, socket).map_err(failed)? else { return Ok(None) };
    place.set_access(options.mode, owner).map_err(|error| failed(error.into()))?;
    Ok(Some(place))
}

/// Looks up whose a socket's file is to be. It may wait for a name service.
fn owner(options: &BindOptions) -> Result<FileOwner, BindError> {
    let user = options.user.as_deref().map(account::user_id).transpose()?;
    let group = options.group.as_deref().map(account::group_id).transpose()?;
    Ok(FileOwner { user, group })
}

/// The length of a listener's queue.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    pub asked: i32,
    pub effective: u32,
}

impl Backlog {
    /// The kernel clamps the requested length; the limit is read only to report the result.
    pub fn new(asked: Option<u32>) -> Self {
        let asked = asked.and_then(|asked| i32::try_from(asked).ok()).unwrap_or(i32::MAX);
        let limit = read_number(SOMAXCONN_FILE).unwrap_or(u32::MAX);
        Self { asked, effective: asked.unsigned_abs().min(limit) }
    }
}

fn read_number(file: &str) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
