//! Errors of taking sockets; each text says what to do next.
//!
//! `Debug` prints the same as `Display`, because `main` prints a returned error with `Debug`, and that is where
//! start-up errors of a server end up.

use std::error::Error;
use std::fmt;
use std::io;

use crate::{SocketKind, Which};

/// A socket could not be taken.
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
    /// No sockets were passed to this process.
    NoSockets(NoSockets),
    /// A variable has a bad value.
    BadVariable(BadVariable),
    /// There are sockets, but fewer than asked for.
    NoSuchNumber {
        /// The number that was asked for, from 0.
        number: usize,
        /// How many sockets there are.
        count: usize,
    },
    /// There are sockets, but none with this name.
    NoSuchName {
        /// The name that was asked for.
        name: String,
        /// The names of the sockets.
        names: Vec<String>,
    },
    /// All sockets have been taken by other parts of this process.
    NoneLeft {
        /// How many sockets there are.
        count: usize,
    },
    /// Every socket that matches has been taken by another part of this process.
    AlreadyTaken {
        /// The number or name that was asked for.
        socket: Which,
    },
    /// The descriptor in the variables is not open.
    NotOpen {
        /// The socket, with its name and descriptor.
        socket: String,
    },
    /// The descriptor in the variables is not a socket.
    NotASocket {
        /// The socket, with its name and descriptor.
        socket: String,
    },
    /// The socket is of another kind, and was left in place.
    WrongKind {
        /// The socket, with its name and descriptor.
        socket: String,
        /// The kind that was asked for.
        wanted: SocketKind,
        /// The actual kind.
        found: SocketKind,
    },
    /// The descriptor does not match the master's description.
    NotAsTold {
        /// The socket, with its name and descriptor.
        socket: String,
        /// The address family from the variables.
        told: String,
        /// The actual kind.
        found: SocketKind,
    },
    /// A system call on the descriptor failed.
    System {
        /// The socket, with its name and descriptor.
        socket: String,
        /// The error of the system call.
        error: io::Error,
    },
    /// There is no master, and this process could not bind the address itself.
    Bind {
        /// The address that was to be bound.
        address: String,
        /// The error of the system call.
        error: io::Error,
    },
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSockets(why) => write!(f, "no sockets were passed to this process: {why}"),
            Self::BadVariable(bad) => {
                write!(f, "cannot determine which sockets were passed to this process: {bad}")
            }
            Self::NoSuchNumber { number, count } => write!(
                f,
                "there is no socket {number}: the master passed {count}, counted from 0; give the master \
                 -b ADDR:PORT once more"
            ),
            Self::NoSuchName { name, names } if names.is_empty() => write!(
                f,
                "no socket is named \"{name}\": none has a name (LISTEN_FDNAMES); take it by its number"
            ),
            Self::NoSuchName { name, names } => {
                write!(f, "no socket is named \"{name}\"; the names are {}", names.join(", "))
            }
            Self::NoneLeft { count } => write!(
                f,
                "all {count} sockets that were passed have been taken; give the master -b ADDR:PORT \
                 once more"
            ),
            Self::AlreadyTaken { socket } => write!(
                f,
                "{socket} has been taken already, and two owners would close it under each other; take it once and \
                 clone it (try_clone)"
            ),
            Self::NotOpen { socket } => write!(
                f,
                "{socket} is not open; check whether a wrapper closed it, or the variables belong to another process"
            ),
            Self::NotASocket { socket } => {
                write!(f, "{socket} is not a socket; check whether the variables belong to another process")
            }
            Self::WrongKind { socket, wanted, found } => {
                write!(f, "{socket} is {found}, not {wanted}; it was left in place")?;
                match (wanted, found) {
                    (SocketKind::TcpListener, SocketKind::TcpStream)
                    | (SocketKind::UnixListener, SocketKind::UnixStream) => {
                        f.write_str(" (if it used to listen, one of its holders has shut it down)")
                    }
                    _ => Ok(()),
                }
            }
            Self::NotAsTold { socket, told, found } => write!(
                f,
                "{socket} is {found}, but the variables say {told}; check whether they belong to another process"
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
    /// None of the variables is set, so nobody passed sockets to this process.
    Unsupervised,
    /// A master runs this process, but has no sockets to pass.
    EmptyHanded {
        /// The variable that says so.
        variable: &'static str,
    },
    /// `LISTEN_FDS` is set, but `LISTEN_PID` names another process.
    OtherProcess {
        /// The value of `LISTEN_PID`.
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
                "{variable} says that the master has none; start the master with -b ADDR:PORT, once for \
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

/// A variable with a value that no master sets.
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
    /// The name of the variable.
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
