//! What can be wrong with the sockets, in words that say what to do.
//!
//! `Debug` prints what `Display` prints: `main` shows a returned error by `Debug`, and that is where a
//! server's start-up errors end.

use std::error::Error;
use std::fmt;
use std::io;

use crate::{SocketKind, Which};

/// Why a socket was not taken.
///
/// ```
/// use einhorn_child::TakeError;
/// use std::net::TcpListener;
///
/// match einhorn_child::take::<TcpListener>("admin") {
///     Ok(listener) => println!("the admin pages are at {}", listener.local_addr()?),
///     Err(TakeError::NoSuchName { .. } | TakeError::NoSockets(_)) => println!("no admin pages"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub enum TakeError {
    /// No sockets were handed to this process.
    NoSockets(NoSockets),
    /// A variable makes no sense.
    BadVariable(BadVariable),
    /// There are sockets, but not so many.
    NoSuchNumber {
        /// The number asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// There are sockets, but none of this name.
    NoSuchName {
        /// The name asked for.
        name: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// There were sockets, and all belong to other parts of this process already.
    NoneLeft {
        /// How many there were.
        count: usize,
    },
    /// Every socket that was asked for belongs to another part of this process already.
    AlreadyTaken {
        /// What was asked for.
        socket: Which,
    },
    /// The variables name a descriptor that is not open.
    NotOpen {
        /// The socket, with its name and descriptor.
        socket: String,
    },
    /// The variables name a descriptor that is no socket.
    NotASocket {
        /// The socket, with its name and descriptor.
        socket: String,
    },
    /// It is a socket of another kind, and was left in place.
    WrongKind {
        /// The socket, with its name and descriptor.
        socket: String,
        /// The kind asked for.
        wanted: SocketKind,
        /// The kind that it is.
        found: SocketKind,
    },
    /// The descriptor is not the one that the master described.
    NotAsTold {
        /// The socket, with its name and descriptor.
        socket: String,
        /// The address family that the master told.
        told: String,
        /// The kind that it is.
        found: SocketKind,
    },
    /// The system did not say what the descriptor is, or did not let it be marked close-on-exec.
    System {
        /// The socket, with its name and descriptor.
        socket: String,
        /// What it said instead.
        error: io::Error,
    },
    /// There is no master, and this process could not bind for itself.
    Bind {
        /// Where to.
        address: String,
        /// Why not.
        error: io::Error,
    },
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSockets(why) => write!(f, "no sockets were handed to this process: {why}"),
            Self::BadVariable(bad) => {
                write!(f, "cannot tell which sockets were handed to this process: {bad}")
            }
            Self::NoSuchNumber { number, count } => write!(
                f,
                "there is no socket {number}: the master handed over {count}, counted from 0; give the master \
                 -b ADDR:PORT once more"
            ),
            Self::NoSuchName { name, names } if names.is_empty() => write!(
                f,
                "there is no socket named \"{name}\": none has a name (LISTEN_FDNAMES); take it by its number"
            ),
            Self::NoSuchName { name, names } => {
                write!(f, "there is no socket named \"{name}\"; there is {}", names.join(", "))
            }
            Self::NoneLeft { count } => write!(
                f,
                "each of the {count} sockets that were handed over was taken before; give the master -b ADDR:PORT \
                 once more"
            ),
            Self::AlreadyTaken { socket } => write!(
                f,
                "{socket} was taken before, and two owners would close it under each other; take it once and \
                 clone it (try_clone)"
            ),
            Self::NotOpen { socket } => write!(
                f,
                "{socket} is not open; was it closed by a wrapper, or are the variables those of another process?"
            ),
            Self::NotASocket { socket } => {
                write!(f, "{socket} is not a socket; are the variables those of another process?")
            }
            Self::WrongKind { socket, wanted, found } => {
                write!(f, "{socket} is {found}, not {wanted}; it was left in place")?;
                match (wanted, found) {
                    (SocketKind::TcpListener, SocketKind::TcpStream)
                    | (SocketKind::UnixListener, SocketKind::UnixStream) => {
                        f.write_str(" (if it did listen, one of its holders has shut it down)")
                    }
                    _ => Ok(()),
                }
            }
            Self::NotAsTold { socket, told, found } => write!(
                f,
                "{socket} is {found}, though the master says {told}; are the variables those of another process?"
            ),
            Self::System { socket, error } => write!(f, "cannot take {socket}: {error}"),
            Self::Bind { address, error } => write!(f, "cannot bind {address}: {error}"),
        }
    }
}

impl fmt::Debug for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for TakeError {}

/// Why there are no sockets.
///
/// ```
/// use einhorn_child::{NoSockets, TakeError};
/// use std::net::TcpListener;
///
/// match einhorn_child::take::<TcpListener>(0) {
///     Err(TakeError::NoSockets(NoSockets::EmptyHanded { .. })) => println!("give the master a -b"),
///     Err(TakeError::NoSockets(NoSockets::Unsupervised)) => println!("no master"),
///     Err(error) => println!("{error}"),
///     Ok(_) => println!("here we go"),
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoSockets {
    /// None of the variables is set: nobody handed sockets to this process.
    Unsupervised,
    /// A master runs this process, and was itself given nothing to bind.
    EmptyHanded {
        /// The variable that says so.
        variable: &'static str,
    },
    /// `LISTEN_FDS` is set, but `LISTEN_PID` names another process, whose sockets these are.
    OtherProcess {
        /// What `LISTEN_PID` says.
        pid: String,
    },
}

impl fmt::Display for NoSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupervised => f.write_str(
                "none of EINHORN_FD_COUNT, EINHORN_FDS and LISTEN_FDS is set; start this program under a \
                 master (einhyrningsins -b ADDR:PORT -- PROGRAM), or let it bind for itself (inherit_or_bind)",
            ),
            Self::EmptyHanded { variable } => write!(
                f,
                "{variable} says that the master has none to give; start the master with -b ADDR:PORT, once for \
                 each socket that this program takes"
            ),
            Self::OtherProcess { pid } => write!(
                f,
                "LISTEN_FDS is meant for process {pid} (LISTEN_PID), and this is process {}; start this program \
                 with exec, not as a child of the process that was activated",
                std::process::id()
            ),
        }
    }
}

/// A variable that cannot be what a master set.
///
/// ```
/// use einhorn_child::TakeError;
///
/// if let Err(TakeError::BadVariable(bad)) = einhorn_child::inherited() {
///     println!("look at {}: {bad}", bad.name());
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadVariable {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) why: String,
}

impl BadVariable {
    /// The variable's name.
    ///
    /// ```
    /// use einhorn_child::{BadVariable, TakeError};
    ///
    /// fn is_of_systemd(bad: &BadVariable) -> bool {
    ///     bad.name().starts_with("LISTEN_")
    /// }
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for BadVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} is \"{value}\", which {}", self.name, self.why),
            None => write!(f, "{} is not set, {}", self.name, self.why),
        }
    }
}
