//! Errors of opening a socket, with hints.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::libc;

use super::{Family, read_number};
use crate::listen::spec::BindAddress;
use crate::listen::{Address, PassedError, SocketKind};
use crate::socket_place::{PlaceError, Remedy};
use crate::sys::account::AccountError;

/// The lowest port that any user may bind.
const UNPRIVILEGED_PORT_FILE: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    #[error("cannot bind {address}")]
    Bind { address: Address, source: io::Error },
    /// The path of a Unix socket is not available.
    #[error("cannot bind {address}")]
    Place {
        address: Address,
        /// What is in the way.
        source: PlaceError,
    },
    #[error("cannot set {option} on {address}")]
    Option {
        address: Address,
        /// The option, with its value.
        option: String,
        source: io::Error,
    },
    /// The owner of a Unix socket's file is unknown.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The family of the address is excluded.
    #[error("cannot bind {address}: only {} is allowed", .family.described())]
    WrongFamily { address: BindAddress, family: Family },
    #[error("cannot look up the address of {name}")]
    Resolve { name: String, source: io::Error },
    /// The name has no address of an allowed family.
    #[error("{name} has no address of {}", .family.described())]
    NoAddress { name: String, family: Family },
    /// A passed socket is not there, or is something else.
    #[error("cannot take {address}")]
    Passed { address: BindAddress, source: PassedError },
}

impl BindError {
    /// The address that another process has, if that is the reason.
    pub fn address_in_use(&self) -> Option<String> {
        match self {
            Self::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                Some(address.to_string())
            }
            Self::Place { address, source: PlaceError::Held(_) | PlaceError::Bound } => {
                Some(address.to_string())
            }
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Bind { address, source } => return bind_hint(address, source),
            Self::Place { source, .. } => place_hint(source.remedy()?),
            Self::Option { option, source, .. } => return option_hint(option, source),
            Self::Account(source) => source.hint(),
            Self::WrongFamily { .. } | Self::NoAddress { .. } => {
                "leave out -4 or -6, or give an address of that family"
            }
            Self::Resolve { .. } => "check that DNS or /etc/hosts has it",
            Self::Passed { source, .. } => return source.hint(),
        };
        Some(hint.to_owned())
    }
}

fn place_hint(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::OtherPath => "ss -xlp shows what has it; stop that, or give another path",
        Remedy::MoveAway => "move it away, or give another path",
        Remedy::MoveLockAway => "move it away",
        Remedy::ShorterPath => "give a shorter path",
        Remedy::MakeDirectory => "make the directory, or give another path",
        Remedy::WritablePath => "its file system is read-only: give a path on another one, such as in /run",
        Remedy::OwnPath => "give a path in a directory that this user may write to",
    }
}

fn option_hint(option: &str, source: &io::Error) -> Option<String> {
    let name = option.split('=').next().unwrap_or_default();
    let hint = match (name, source.kind()) {
        ("mark", io::ErrorKind::PermissionDenied) => "mark needs CAP_NET_ADMIN",
        ("device", io::ErrorKind::PermissionDenied) => "device needs CAP_NET_RAW",
        ("device", _) => "ip link shows the network interfaces",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn bind_hint(address: &Address, source: &io::Error) -> Option<String> {
    let Some(inet) = address.inet() else {
        let is_taken = source.kind() == io::ErrorKind::AddrInUse;
        return is_taken.then(|| place_hint(Remedy::OtherPath).to_owned());
    };
    if inet.is_ipv6() && is_missing(source) && !has_ipv6() {
        let port = inet.port();
        return Some(format!(
            "this machine has no IPv6, or net.ipv6.conf.all.disable_ipv6 is set; give :{port} or 0.0.0.0:{port}"
        ));
    }
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            let lowest = read_number(UNPRIVILEGED_PORT_FILE).unwrap_or(1024);
            (u32::from(inet.port()) < lowest)
                .then(|| format!("ports below {lowest} need CAP_NET_BIND_SERVICE, or choose a higher port"))
        }
        io::ErrorKind::AddrInUse => Some(in_use(address.kind(), inet)),
        io::ErrorKind::AddrNotAvailable => {
            Some("this machine does not have the address; ip address shows those that it has".to_owned())
        }
        _ => None,
    }
}

/// Whether the error is a passing shortage.
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS))
}

/// Whether the kernel knows no such address, or no such family.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Whether any interface has an IPv6 address. Without IPv6 the file is missing or empty.
fn has_ipv6() -> bool {
    fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.is_empty())
}

fn in_use(kind: SocketKind, address: SocketAddr) -> String {
    let letter = if kind == SocketKind::Udp { 'u' } else { 't' };
    let both = if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        "; without -6 it needs the IPv4 port too"
    } else {
        ""
    };
    format!(
        "another process listens there, perhaps a worker that outlived its master: \
         ss -l{letter}np 'sport = :{}' shows what{both}",
        address.port()
    )
}
