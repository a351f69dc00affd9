//! Taking inherited sockets.

use std::fmt;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use socket2::{Domain, SockRef, Type};

use crate::bind::Bind;
use crate::environment::{HandedSocket, environment};
use crate::sys::Absent;
use crate::{NoSockets, TakeError};

/// The kind of a descriptor.
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

/// A socket by its number or its name.
///
/// Numbers count from 0 in the order of the master's `-b`. Names come from `LISTEN_FDNAMES`. Several sockets
/// may share a name; each [`take`] of that name takes the next one.
///
/// ```
/// use einhorn_child::Which;
///
/// assert_eq!(Which::from(1).to_string(), "socket 1");
/// assert_eq!(Which::from("admin").to_string(), "socket \"admin\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The number, from 0.
    Number(usize),
    /// The name.
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
/// [`TcpListener`], [`UdpSocket`], [`UnixListener`] and [`UnixDatagram`] require a socket of their kind.
/// [`OwnedFd`] accepts any socket, including kinds that the standard library has no type for. With the feature
/// `tokio`, the types of the same names in `tokio::net` are there too; they become non-blocking and belong to the
/// current runtime.
///
/// ```
/// use einhorn_child::{Inherit, SocketKind};
/// use std::net::UdpSocket;
///
/// assert_eq!(<UdpSocket as Inherit>::KIND, Some(SocketKind::UdpSocket));
/// ```
pub trait Inherit: Sized + sealed::Sealed {
    /// The kind of socket that the type requires; `None` for any.
    const KIND: Option<SocketKind>;

    #[doc(hidden)]
    fn adopt(fd: OwnedFd) -> io::Result<Self>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

macro_rules! inherit {
    ($($type:ty: $kind:expr),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Inherit for $type {
            const KIND: Option<SocketKind> = $kind;

            fn adopt(fd: OwnedFd) -> io::Result<Self> {
                Ok(fd.into())
            }
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

/// Takes the socket `which`, by number or by name. A socket can be taken once in the life of the process.
///
/// From then on the socket is close-on-exec, so that programs that this worker starts do not inherit it. A
/// socket of another kind than asked for is left in place for another call.
///
/// Sockets are looked up in `EINHORN_FD_COUNT` with `EINHORN_FD_0`, `EINHORN_FD_1`..., then in `EINHORN_FDS`,
/// then in `LISTEN_FDS` (systemd socket activation); the first of them that has any provides all. `LISTEN_FDS`
/// counts only if `LISTEN_PID` is this process. The other two also count in a descendant of the worker, so that
/// a server can run behind a wrapper script: the descriptors are open there too, and each is checked, so one
/// that was closed or is something else is refused.
///
/// All holders of a socket share its `O_NONBLOCK` flag, including other workers and predecessors, so it may be
/// set or not. Set it to what your server needs; [`Stop::accept`] and the types of tokio do so themselves.
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
/// # Panics
/// If `T` is a type of tokio, outside a tokio runtime or in one without I/O (`enable_io`).
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
        match take_as(socket) {
            Err(Refusal::Absent(Absent::Taken)) => {}
            taken => return taken.map_err(|refusal| refusal.explain(number, socket)),
        }
    }
    Err(TakeError::AlreadyTaken { socket: which })
}

/// Takes the next inherited socket of the type `T`; without a master or systemd, binds `address` instead.
///
/// The same program then runs under a master, under systemd and by hand. `T` decides what an address is:
///
/// | `T` | `address` |
/// |---|---|
/// | [`TcpListener`], [`UdpSocket`] | what the standard library takes for one: `"127.0.0.1:8000"`, `("::", 53)` |
/// | [`UnixListener`], [`UnixDatagram`] | a path, or `@` and an abstract name |
/// | the same types in `tokio::net` (feature `tokio`) | the same |
///
/// `address` is not compared with what the master bound. Each call takes the next socket of its type: a server
/// with two ports calls it twice, in the order of the master's `-b` or of systemd's `ListenStream=`. A worker
/// that asks for more sockets than it got fails rather than binds, because two workers cannot bind one address,
/// and an upgrade would fail later and worse.
///
/// Of the sockets that are bound here, a TCP listener has `SO_REUSEADDR`, so that lingering connections of its
/// predecessor do not block a restart. A Unix socket replaces the file that a predecessor left at its path, and
/// nothing else: not a file of another kind, and not a socket that somebody has open.
///
/// ```
/// use std::net::{TcpListener, UdpSocket};
///
/// let listener: TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:0")?;
/// println!("listening on {}", listener.local_addr()?);
/// let socket: UdpSocket = einhorn_child::inherit_or_bind(("127.0.0.1", 0))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`TakeError::Bind`] if binding failed; otherwise as [`take`].
///
/// # Panics
/// As [`take`].
pub fn inherit_or_bind<T: Bind<A>, A>(address: A) -> Result<T, TakeError> {
    let sockets = match handed_sockets() {
        Ok(sockets) => sockets,
        Err(TakeError::NoSockets(NoSockets::Unsupervised | NoSockets::OtherProcess { .. })) => {
            return T::bind_here(address).and_then(|fd| {
                let unfit =
                    |error| TakeError::System { socket: "the socket that was bound here".into(), error };
                T::adopt(fd).map_err(unfit)
            });
        }
        Err(error) => return Err(error),
    };
    let mut passed_over = None;
    for (number, socket) in sockets.iter().enumerate() {
        match take_as(socket) {
            Ok(taken) => return Ok(taken),
            Err(Refusal::Absent(Absent::Taken)) => {}
            Err(refusal @ Refusal::WrongKind { .. }) => {
                passed_over.get_or_insert_with(|| refusal.explain(number, socket));
            }
            Err(refusal) => return Err(refusal.explain(number, socket)),
        }
    }
    Err(passed_over.unwrap_or(TakeError::NoneLeft { count: sockets.len() }))
}

/// One of the inherited sockets: see [`inherited`].
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
    /// The number to [`take`] it by.
    pub number: usize,
    /// The name to [`take`] it by, if it has one.
    pub name: Option<String>,
    /// The number of its descriptor.
    pub fd: RawFd,
    /// Whether it has been taken.
    pub taken: bool,
    /// Its kind; `None` if it was taken, is not open or is not a socket.
    pub kind: Option<SocketKind>,
}

/// Lists the inherited sockets without taking any; empty if there are none.
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

/// The inherited sockets, at least one.
fn handed_sockets() -> Result<&'static [HandedSocket], TakeError> {
    match &environment().sockets {
        Ok(sockets) if sockets.is_empty() => Err(TakeError::NoSockets(environment().no_sockets.clone())),
        Ok(sockets) => Ok(sockets),
        Err(bad) => Err(TakeError::BadVariable(bad.clone())),
    }
}

/// Why a socket is left in place.
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

fn take_as<T: Inherit>(socket: &HandedSocket) -> Result<T, Refusal> {
    T::adopt(claim(socket, T::KIND)?).map_err(Refusal::System)
}

/// Takes `socket` if it is as described and `wanted`, and marks it close-on-exec.
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

/// The kind of `fd`, from the system.
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

/// The name of the address family in `EINHORN_FD_FAMILY_n`; `None` if it has none there.
fn family_of(fd: BorrowedFd<'_>) -> Result<Option<&'static str>, Refusal> {
    Ok(match SockRef::from(&fd).domain().map_err(Refusal::System)? {
        Domain::IPV4 => Some("AF_INET"),
        Domain::IPV6 => Some("AF_INET6"),
        Domain::UNIX => Some("AF_UNIX"),
        _ => None,
    })
}
