//! What `-b` says, parsed: `ADDRESS[,OPT...]`.

mod error;
mod options;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

pub use error::{BindSpecError, BindSpecErrorKind};
pub(super) use options::is_socket_name;
pub use options::{BindOption, BindOptions, FastOpen, Origin};

use super::SocketKind;

/// One or more sockets that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindSpec {
    /// Where.
    pub address: BindAddress,
    /// How.
    pub options: BindOptions,
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindAddress {
    /// A TCP port.
    Tcp {
        /// On which addresses.
        host: Host,
        /// The port; 0 lets the system choose one.
        port: u16,
    },
    /// A UDP port.
    Udp {
        /// On which addresses.
        host: Host,
        /// The port; 0 lets the system choose one.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(Place),
    /// A Unix socket of packets in order.
    Seqpacket(Place),
    /// The socket that the master was started with at this descriptor.
    Fd(RawFd),
    /// The sockets of this name that the master was started with by socket activation; all that no other address
    /// names, without a name.
    Systemd(Option<String>),
}

/// Which addresses of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// All of them, IPv4 and IPv6.
    Any,
    /// One; or all of a family, with `0.0.0.0` and `[::]`.
    Ip(IpAddr),
    /// One that is looked up when the socket is bound.
    Name(String),
}

/// Where a Unix socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file; a relative path counts from the directory that the master was started in.
    Path(PathBuf),
    /// A name in the kernel alone.
    Abstract(String),
}

impl BindSpec {
    /// The same, with a path that is counted from `start`.
    #[must_use]
    pub fn counted_from(mut self, start: &Path) -> Self {
        if let BindAddress::Unix(Place::Path(path)) | BindAddress::Seqpacket(Place::Path(path)) =
            &mut self.address
        {
            *path = start.join(&*path);
        }
        self
    }
}

impl BindAddress {
    /// Where the socket comes from, as far as options care.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self {
            Self::Tcp { .. } => Origin::Bound(SocketKind::Tcp),
            Self::Udp { .. } => Origin::Bound(SocketKind::Udp),
            Self::Unix(Place::Path(_)) => Origin::Bound(SocketKind::Unix),
            Self::Unix(Place::Abstract(_)) => Origin::Abstract(SocketKind::Unix),
            Self::Seqpacket(Place::Path(_)) => Origin::Bound(SocketKind::Seqpacket),
            Self::Seqpacket(Place::Abstract(_)) => Origin::Abstract(SocketKind::Seqpacket),
            Self::Fd(_) | Self::Systemd(_) => Origin::Passed,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match self {
            Self::Path(path) => ("", path.to_string_lossy()),
            Self::Abstract(name) => ("@", name.into()),
        };
        write!(f, "{mark}{}", escape(&text))
    }
}

/// Writes a comma as `\,` and a backslash as `\\`, because a comma begins the options.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Udp { host, port } => write!(f, "udp:{host}:{port}"),
            Self::Unix(place) => write!(f, "unix:{place}"),
            Self::Seqpacket(place) => write!(f, "seqpacket:{place}"),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{}", escape(name)),
        }
    }
}

impl fmt::Display for BindSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        self.options.fmt(f)
    }
}
