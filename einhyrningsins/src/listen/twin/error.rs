//! Errors of making twins, with hints.

use std::io;
use std::path::PathBuf;

use crate::listen::Address;
use crate::listen::bind::{is_missing, is_shortage};
use crate::socket_place::PATH_BYTES_MAX;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TwinError {
    #[error("cannot make a private twin of {address}")]
    Socket {
        /// That of the real socket.
        address: Address,
        source: io::Error,
    },
    #[error("cannot use the directory {} for the sockets of a trial", .path.display())]
    Directory { path: PathBuf, source: DirectoryError },
}

/// A trial cannot have the directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    #[error("the path of a socket in it has {0} bytes; a socket path has at most {PATH_BYTES_MAX}")]
    TooLong(usize),
    /// No variable of a worker can hold the path.
    #[error("its path is not valid UTF-8")]
    NotUtf8,
    #[error("something else has that name")]
    NotADirectory,
    /// No trial of this master has made it.
    #[error("there is one already, of user {uid} with mode {mode:03o}")]
    Foreign { uid: u32, mode: u32 },
    /// It has a file that is not a socket.
    #[error("there is one already, with other files in it, such as {name}")]
    NotEmpty { name: String },
    /// It, or what leads to it, was changed while the sockets were bound.
    #[error("another process has moved it")]
    Moved,
    #[error("it cannot be given to user {uid}")]
    Give { uid: u32, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl TwinError {
    /// Whether it may succeed later: descriptors, memory or ports are used up.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Socket { source, .. } => {
                // The port is 0, so this means that none is left.
                is_shortage(source) || source.kind() == io::ErrorKind::AddrInUse
            }
            Self::Directory { source: DirectoryError::Io(source), .. } => is_shortage(source),
            Self::Directory { .. } => false,
        }
    }

    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Socket { source, .. } if is_missing(source) => {
                "ip address show dev lo shows the addresses of the loopback interface; it needs 127.0.0.1 for IPv4 and ::1 for IPv6"
            }
            Self::Socket { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "every port of net.ipv4.ip_local_port_range is in use"
            }
            Self::Socket { .. } => return None,
            Self::Directory { source, .. } => match source {
                DirectoryError::TooLong(_) => "give the control socket a shorter path (-d PATH)",
                DirectoryError::NotUtf8 => "give the control socket another path (-d PATH)",
                DirectoryError::NotADirectory
                | DirectoryError::Foreign { .. }
                | DirectoryError::NotEmpty { .. } => "move it away",
                DirectoryError::Give { .. } => "that needs CAP_CHOWN",
                DirectoryError::Moved | DirectoryError::Io(_) => return None,
            },
        };
        Some(hint.to_owned())
    }
}
