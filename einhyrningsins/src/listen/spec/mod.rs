//! The parsed argument of `-b`: `ADDRESS[,OPT...]`.

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
use crate::forms::as_text;

/// One `-b`: one or more sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindSpec {
    /// The part before the first comma.
    pub address: BindAddress,
    /// The part after it.
    pub options: BindOptions,
}

/// The address of a `-b`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindAddress {
    /// A TCP port.
    Tcp {
        /// The IP addresses to bind.
        host: Host,
        /// 0 lets the system choose a port.
        port: u16,
    },
    /// A UDP port.
    Udp {
        /// The IP addresses to bind.
        host: Host,
        /// 0 lets the system choose a port.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(Place),
    /// A Unix socket of sequenced packets.
    Seqpacket(Place),
    /// The socket that the master was started with at this descriptor.
    Fd(RawFd),
    /// The sockets that socket activation passed under this name. `None` takes all that no other address names.
    Systemd(Option<String>),
}

/// Local IP addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// All of them, IPv4 and IPv6.
    Any,
    /// A single address, or with `0.0.0.0` or `[::]` all of a family.
    Ip(IpAddr),
    /// A name that is resolved when the socket is bound.
    Name(String),
}

/// The place of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file. A relative path starts at the directory in which the master was started.
    Path(PathBuf),
    /// A name that exists only in the kernel.
    Abstract(String),
}

impl BindSpec {
    /// Makes a relative path absolute, starting at `start`.
    pub fn counted_from(mut self, start: &Path) -> Self {
        if let BindAddress::Unix(Place::Path(path)) | BindAddress::Seqpacket(Place::Path(path)) =
            &mut self.address
        {
            *path = start.join(&*path);
        }
        self
    }
}

as_text!(BindSpec);

impl BindAddress {
    /// Where the socket comes from, as far as options depend on it.
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

/// Writes a comma as `\,` and a backslash as `\\`, because a comma starts the options.
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
