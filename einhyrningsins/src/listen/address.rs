//! Kinds and addresses of sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, SockRef, Type};

use crate::forms;

/// The kinds of socket that a worker can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketKind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// A Unix stream socket.
    Unix,
    /// A Unix socket of sequenced packets (`SOCK_SEQPACKET`).
    Seqpacket,
    /// A Unix datagram socket.
    UnixDatagram,
}

impl SocketKind {
    /// The name in status: `tcp`, `udp`, `unix`, `seqpacket`, `unix-datagram`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::Seqpacket => "seqpacket",
            Self::UnixDatagram => "unix-datagram",
        }
    }

    /// The kind with its article, for use in a sentence.
    pub fn described(self) -> &'static str {
        match self {
            Self::Tcp => "a TCP socket",
            Self::Udp => "a UDP socket",
            Self::Unix => "a Unix stream socket",
            Self::Seqpacket => "a Unix seqpacket socket",
            Self::UnixDatagram => "a Unix datagram socket",
        }
    }

    /// Whether clients connect to it, so that it must listen.
    pub fn has_connections(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix | Self::Seqpacket)
    }

    /// Whether its addresses are IPv4 or IPv6.
    pub fn is_inet(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// The kind of `socket`; `None` if a worker cannot get such a socket.
    pub fn of(socket: &SockRef<'_>) -> io::Result<Option<Self>> {
        Ok(match (socket.domain()?, socket.r#type()?) {
            (Domain::IPV4 | Domain::IPV6, Type::STREAM) => Some(Self::Tcp),
            (Domain::IPV4 | Domain::IPV6, Type::DGRAM) => Some(Self::Udp),
            (Domain::UNIX, Type::STREAM) => Some(Self::Unix),
            (Domain::UNIX, Type::SEQPACKET) => Some(Self::Seqpacket),
            (Domain::UNIX, Type::DGRAM) => Some(Self::UnixDatagram),
            _ => None,
        })
    }
}

/// The address and the kind of a socket. It is written in the form that `-b` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// Of a UDP socket.
    Udp(SocketAddr),
    /// Of a Unix stream socket.
    Unix(UnixName),
    /// Of a Unix seqpacket socket.
    Seqpacket(UnixName),
    /// Of a Unix datagram socket.
    UnixDatagram(UnixName),
    /// Of a TCP socket. In a state it is bare, as before there were other kinds.
    #[serde(untagged)]
    Tcp(SocketAddr),
}

/// The name of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnixName {
    /// The path of a file.
    Path(#[serde(with = "forms::written")] PathBuf),
    /// A name that exists only in the kernel, without its leading NUL.
    Abstract(#[serde(with = "forms::written")] Vec<u8>),
    /// Not bound to a name.
    Unnamed,
}

impl Address {
    /// The address that a socket is bound to.
    pub fn of(socket: &impl AsFd, kind: SocketKind) -> io::Result<Self> {
        let bound = SockRef::from(socket).local_addr()?;
        Self::new(&bound, kind)
            .ok_or_else(|| io::Error::other("the family of its address does not fit its kind"))
    }

    fn new(bound: &SockAddr, kind: SocketKind) -> Option<Self> {
        Some(match kind {
            SocketKind::Tcp => Self::Tcp(bound.as_socket()?),
            SocketKind::Udp => Self::Udp(bound.as_socket()?),
            SocketKind::Unix => Self::Unix(UnixName::new(bound)),
            SocketKind::Seqpacket => Self::Seqpacket(UnixName::new(bound)),
            SocketKind::UnixDatagram => Self::UnixDatagram(UnixName::new(bound)),
        })
    }

    /// The kind of socket that the address belongs to.
    pub fn kind(&self) -> SocketKind {
        match self {
            Self::Tcp(_) => SocketKind::Tcp,
            Self::Udp(_) => SocketKind::Udp,
            Self::Unix(_) => SocketKind::Unix,
            Self::Seqpacket(_) => SocketKind::Seqpacket,
            Self::UnixDatagram(_) => SocketKind::UnixDatagram,
        }
    }

    /// IP address and port of a TCP or UDP socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            _ => None,
        }
    }

    pub fn to_sockaddr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(to) | Self::Udp(to) => Ok(SockAddr::from(*to)),
            Self::Unix(name) | Self::Seqpacket(name) | Self::UnixDatagram(name) => name.to_sockaddr(),
        }
    }

    /// The path, if the socket is a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(UnixName::Path(path))
            | Self::Seqpacket(UnixName::Path(path))
            | Self::UnixDatagram(UnixName::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// The address family, as in `EINHORN_FD_FAMILY_n` and in status.
    pub fn family_name(&self) -> &'static str {
        match self.inet() {
            Some(SocketAddr::V4(_)) => "AF_INET",
            Some(SocketAddr::V6(_)) => "AF_INET6",
            None => "AF_UNIX",
        }
    }
}

impl UnixName {
    fn new(bound: &SockAddr) -> Self {
        if let Some(path) = bound.as_pathname() {
            Self::Path(path.to_owned())
        } else if let Some(name) = bound.as_abstract_namespace() {
            Self::Abstract(name.to_owned())
        } else {
            Self::Unnamed
        }
    }

    pub fn to_sockaddr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Path(path) => SockAddr::unix(path),
            Self::Abstract(name) => {
                let name = [b"\0", name.as_slice()].concat();
                SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(&name)))
            }
            Self::Unnamed => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(name) => write!(f, "unix:{name}"),
            Self::Seqpacket(name) => write!(f, "seqpacket:{name}"),
            Self::UnixDatagram(name) => write!(f, "unix-datagram:{name}"),
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
            Self::Unnamed => f.write_str("(no name)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_written_as_b_takes_it_and_read_back() {
        let inet: SocketAddr = "127.0.0.1:80".parse().unwrap();
        for (address, text, json) in [
            (Address::Tcp(inet), "127.0.0.1:80", r#""127.0.0.1:80""#),
            (Address::Udp(inet), "udp:127.0.0.1:80", r#"{"udp":"127.0.0.1:80"}"#),
            (Address::Unix(UnixName::Path("/run/a".into())), "unix:/run/a", r#"{"unix":{"path":"/run/a"}}"#),
            (
                Address::Seqpacket(UnixName::Abstract(b"a".into())),
                "seqpacket:@a",
                r#"{"seqpacket":{"abstract":"a"}}"#,
            ),
            (
                Address::UnixDatagram(UnixName::Unnamed),
                "unix-datagram:(no name)",
                r#"{"unix_datagram":"unnamed"}"#,
            ),
        ] {
            assert_eq!(address.to_string(), text);
            assert_eq!(serde_json::to_string(&address).unwrap(), json);
            assert_eq!(serde_json::from_str::<Address>(json).unwrap(), address);
        }
    }
}
