//! Taking the sockets that were handed over.

use std::fmt;
use std::io;
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use socket2::{Domain, SockRef, Type};

use crate::environment::{HandedSocket, environment};
use crate::sys::Absent;
use crate::{NoSockets, TakeError};

/// What a descriptor is.
///
/// ```
/// use einhorn_child::SocketKind;
///
/// assert_eq!(SocketKind::UdpSocket.to_string(), "a UDP socket");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketKind {
    /// A TCP socket that listens.
    TcpListener,
    /// A TCP socket that does not listen.
    TcpStream,
    /// A UDP socket.
    UdpSocket,
    /// A Unix stream socket that listens.
    UnixListener,
    /// A Unix stream socket that does not listen.
    UnixStream,
    /// A Unix datagram socket.
    UnixDatagram,
    /// A Unix seqpacket socket that listens. The standard library has no type for it: take it as [`OwnedFd`].
    UnixSeqpacketListener,
    /// Any other socket.
    Other {
        /// Its address family, an `AF_` number.
        family: i32,
        /// Its type, a `SOCK_` number.
        socket_type: i32,
    },
}

impl fmt::Display for SocketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TcpListener => f.write_str("a TCP listener"),
            Self::TcpStream => f.write_str("a TCP socket that does not listen"),
            Self::UdpSocket => f.write_str("a UDP socket"),
            Self::UnixListener => f.write_str("a Unix listener"),
            Self::UnixStream => f.write_str("a Unix stream socket that does not listen"),
            Self::UnixDatagram => f.write_str("a Unix datagram socket"),
            Self::UnixSeqpacketListener => f.write_str("a Unix seqpacket listener"),
            Self::Other { family, socket_type } => {
                write!(f, "a socket of family {family} and type {socket_type}")
            }
        }
    }
}

/// A socket by its number or by its name.
///
/// Numbers count from 0 in the order of the master's `-b`. Names come from `LISTEN_FDNAMES`; several
/// sockets may share one, and then each [`take`] of it takes the next.
///
/// ```
/// use einhorn_child::Which;
///
/// assert_eq!(Which::from(1).to_string(), "socket 1");
/// assert_eq!(Which::from("admin").to_string(), "socket \"admin\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By number.
    Number(usize),
    /// By name.
    Name(String),
}

impl From<usize> for Which {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Which {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Which {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "socket {number}"),
            Self::Name(name) => write!(f, "socket \"{name}\""),
        }
    }
}

/// A type that an inherited socket can be taken as.
///
/// [`TcpListener`], [`UdpSocket`], [`UnixListener`] and [`UnixDatagram`] are taken only from a socket of
/// their kind. [`OwnedFd`] is taken from any socket, for the kinds that the standard library has no type
/// for.
///
/// ```
/// use einhorn_child::{Inherit, SocketKind};
/// use std::net::UdpSocket;
///
/// assert_eq!(<UdpSocket as Inherit>::KIND, Some(SocketKind::UdpSocket));
/// ```
pub trait Inherit: From<OwnedFd> + sealed::Sealed {
    /// The kind of socket that it needs; `None` if any will do.
    const KIND: Option<SocketKind>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! inherit {
    ($($type:ty: $kind:expr),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Inherit for $type {
            const KIND: Option<SocketKind> = $kind;
        }
    )*};
}

inherit! {
    TcpListener: Some(SocketKind::TcpListener),
    UdpSocket: Some(SocketKind::UdpSocket),
    UnixListener: Some(SocketKind::UnixListener),
    UnixDatagram: Some(SocketKind::UnixDatagram),
    OwnedFd: None,
}

/// Takes the socket `which`, by number or by name: once in the life of the process.
///
/// The socket is closed when a program is run from here on (close-on-exec), so that what this worker
/// starts does not hold it. A socket that is not of the kind asked for is left in place for another
/// call.
///
/// Sockets are looked for in `EINHORN_FD_COUNT` with `EINHORN_FD_0`, `EINHORN_FD_1`..., then in
/// `EINHORN_FDS`, then in `LISTEN_FDS` (systemd socket activation); the first of them that has any gives
/// all. `LISTEN_FDS` counts only if `LISTEN_PID` is this process. The other two count in a descendant of
/// the worker as well, for a server behind a wrapper script: there the descriptors are just as open,
/// and what has been closed or is something else is refused by looking at it.
///
/// Whether the socket blocks (`O_NONBLOCK`) is shared by all who hold it, this worker's siblings and
/// predecessors included, and is as they left it. Set it to what your server needs; [`Stop::accept`]
/// does so by itself.
///
/// ```no_run
/// use std::net::{TcpListener, UdpSocket};
///
/// let web: TcpListener = einhorn_child::take(0)?;
/// let metrics = einhorn_child::take::<UdpSocket>("metrics")?;
/// # Ok::<(), einhorn_child::TakeError>(())
/// ```
///
/// # Errors
/// [`TakeError`], whose text names the variable or the socket, and says what to do.
///
/// [`Stop::accept`]: crate::Stop::accept
pub fn take<T: Inherit>(which: impl Into<Which>) -> Result<T, TakeError> {
    let which = which.into();
    let sockets = handed_sockets()?;
    let fits = |number: usize, socket: &HandedSocket| match &which {
        Which::Number(wanted) => number == *wanted,
        Which::Name(wanted) => socket.name.as_ref() == Some(wanted),
    };
    let mut found = sockets.iter().enumerate().filter(|&(number, socket)| fits(number, socket)).peekable();
    if found.peek().is_none() {
        return Err(match which {
            Which::Number(number) => TakeError::NoSuchNumber { number, count: sockets.len() },
            Which::Name(name) => {
                let names = sockets.iter().filter_map(|socket| socket.name.clone()).collect();
                TakeError::NoSuchName { name, names }
            }
        });
    }
    for (number, socket) in found {
        match claim(socket, T::KIND) {
            Err(Refusal::Absent(Absent::Taken)) => {}
            claimed => return claimed.map(T::from).map_err(|refusal| refusal.explain(number, socket)),
        }
    }
    Err(TakeError::AlreadyTaken { socket: which })
}

/// Takes the first TCP listener that nobody took yet; without a master, binds `address` instead.
///
/// So one program runs under a master, under systemd and by hand. Bound by hand, the listener has
/// `SO_REUSEADDR`, so that a restart is not kept off the port by connections of its predecessor. What
/// the master bound stands: `address` is not compared with it.
///
/// Called again, it takes the next: a server with two ports calls it twice, in the order of the master's
/// `-b`. A worker that gets fewer sockets than it asks for fails rather than binds, for two workers
/// cannot bind one address and an upgrade would fail later and worse.
///
/// ```
/// let listener = einhorn_child::inherit_or_bind("127.0.0.1:0")?;
/// println!("listening on {}", listener.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`TakeError::Bind`] if it had to bind and could not; any other as in [`take`].
pub fn inherit_or_bind(address: impl ToSocketAddrs) -> Result<TcpListener, TakeError> {
    let sockets = match handed_sockets() {
        Ok(sockets) => sockets,
        Err(TakeError::NoSockets(NoSockets::Unsupervised | NoSockets::OtherProcess { .. })) => {
            return bind(address);
        }
        Err(error) => return Err(error),
    };
    let mut passed_over = None;
    for (number, socket) in sockets.iter().enumerate() {
        match claim(socket, TcpListener::KIND) {
            Ok(fd) => return Ok(fd.into()),
            Err(Refusal::Absent(Absent::Taken)) => {}
            Err(refusal @ Refusal::WrongKind { .. }) => {
                passed_over.get_or_insert_with(|| refusal.explain(number, socket));
            }
            Err(refusal) => return Err(refusal.explain(number, socket)),
        }
    }
    Err(passed_over.unwrap_or(TakeError::NoneLeft { count: sockets.len() }))
}

fn bind(address: impl ToSocketAddrs) -> Result<TcpListener, TakeError> {
    let failed = |address: String, error| TakeError::Bind { address, error };
    let addresses: Vec<_> =
        address.to_socket_addrs().map_err(|error| failed("the address given".into(), error))?.collect();
    TcpListener::bind(addresses.as_slice()).map_err(|error| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        failed(addresses.join(" or "), error)
    })
}

/// One of the sockets that were handed over: see [`inherited`].
///
/// ```
/// for socket in einhorn_child::inherited()? {
///     if let (false, Some(kind)) = (socket.taken, socket.kind) {
///         println!("nobody took socket {}, {kind}", socket.number);
///     }
/// }
/// # Ok::<(), einhorn_child::TakeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InheritedSocket {
    /// Its number, to [`take`] it by.
    pub number: usize,
    /// Its name, to [`take`] it by, if it has one.
    pub name: Option<String>,
    /// Its descriptor.
    pub fd: RawFd,
    /// Whether a part of this process took it.
    pub taken: bool,
    /// What it is; `None` if it was taken, is not open or is no socket.
    pub kind: Option<SocketKind>,
}

/// Lists the sockets that were handed over, taken or not, and takes none; empty if there are none.
///
/// ```
/// for socket in einhorn_child::inherited()? {
///     println!("{}: descriptor {}, {:?}", socket.number, socket.fd, socket.name);
/// }
/// # Ok::<(), einhorn_child::TakeError>(())
/// ```
///
/// # Errors
/// [`TakeError::BadVariable`].
pub fn inherited() -> Result<Vec<InheritedSocket>, TakeError> {
    let sockets = environment().sockets.as_ref().map_err(|bad| TakeError::BadVariable(bad.clone()))?;
    let describe = |(number, socket): (usize, &HandedSocket)| {
        let looked = socket.fd.inspect(|fd| kind_of(fd).ok());
        InheritedSocket {
            number,
            name: socket.name.clone(),
            fd: socket.fd.number(),
            taken: looked == Err(Absent::Taken),
            kind: looked.ok().flatten(),
        }
    };
    Ok(sockets.iter().enumerate().map(describe).collect())
}

/// The sockets, at least one.
fn handed_sockets() -> Result<&'static [HandedSocket], TakeError> {
    match &environment().sockets {
        Ok(sockets) if sockets.is_empty() => Err(TakeError::NoSockets(environment().no_sockets.clone())),
        Ok(sockets) => Ok(sockets),
        Err(bad) => Err(TakeError::BadVariable(bad.clone())),
    }
}

/// Why a socket stays where it is.
pub(crate) enum Refusal {
    Absent(Absent),
    NotASocket,
    WrongKind { wanted: SocketKind, found: SocketKind },
    NotAsTold { told: String, found: SocketKind },
    System(io::Error),
}

impl From<Absent> for Refusal {
    fn from(absent: Absent) -> Self {
        Self::Absent(absent)
    }
}

impl Refusal {
    fn explain(self, number: usize, socket: &HandedSocket) -> TakeError {
        let label = match &socket.name {
            Some(name) => format!("socket {number} (\"{name}\", descriptor {})", socket.fd.number()),
            None => format!("socket {number} (descriptor {})", socket.fd.number()),
        };
        match self {
            Self::Absent(Absent::Taken) => TakeError::AlreadyTaken { socket: Which::Number(number) },
            Self::Absent(Absent::Closed) => TakeError::NotOpen { socket: label },
            Self::NotASocket => TakeError::NotASocket { socket: label },
            Self::WrongKind { wanted, found } => TakeError::WrongKind { socket: label, wanted, found },
            Self::NotAsTold { told, found } => TakeError::NotAsTold { socket: label, told, found },
            Self::System(error) => TakeError::System { socket: label, error },
        }
    }
}

/// Takes `socket` if it is what it should be, and marks it close-on-exec.
fn claim(socket: &HandedSocket, wanted: Option<SocketKind>) -> Result<OwnedFd, Refusal> {
    socket.fd.claim(|fd| {
        let found = kind_of(fd)?;
        if let Some(told) = &socket.family
            && family_of(fd)?.is_some_and(|family| family != told)
        {
            return Err(Refusal::NotAsTold { told: told.clone(), found });
        }
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(Refusal::WrongKind { wanted, found });
        }
        SockRef::from(&fd).set_cloexec(true).map_err(Refusal::System)
    })
}

/// What `fd` is, asked from the system.
pub(crate) fn kind_of(fd: BorrowedFd<'_>) -> Result<SocketKind, Refusal> {
    let socket = SockRef::from(&fd);
    let socket_type = socket.r#type().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTSOCK) => Refusal::NotASocket,
        _ => Refusal::System(error),
    })?;
    let domain = socket.domain().map_err(Refusal::System)?;
    let listens = socket.is_listener().map_err(Refusal::System)?;
    Ok(match (domain, socket_type) {
        (Domain::IPV4 | Domain::IPV6, Type::STREAM) if listens => SocketKind::TcpListener,
        (Domain::IPV4 | Domain::IPV6, Type::STREAM) => SocketKind::TcpStream,
        (Domain::IPV4 | Domain::IPV6, Type::DGRAM) => SocketKind::UdpSocket,
        (Domain::UNIX, Type::STREAM) if listens => SocketKind::UnixListener,
        (Domain::UNIX, Type::STREAM) => SocketKind::UnixStream,
        (Domain::UNIX, Type::DGRAM) => SocketKind::UnixDatagram,
        (Domain::UNIX, Type::SEQPACKET) if listens => SocketKind::UnixSeqpacketListener,
        _ => SocketKind::Other { family: domain.into(), socket_type: socket_type.into() },
    })
}

/// The name of the address family, as `EINHORN_FD_FAMILY_n` has it; `None` for one that it has no name for.
fn family_of(fd: BorrowedFd<'_>) -> Result<Option<&'static str>, Refusal> {
    Ok(match SockRef::from(&fd).domain().map_err(Refusal::System)? {
        Domain::IPV4 => Some("AF_INET"),
        Domain::IPV6 => Some("AF_INET6"),
        Domain::UNIX => Some("AF_UNIX"),
        _ => None,
    })
}
