//! Why a socket could not be had, and what to do about it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Family, read_number};
use crate::listen::spec::BindAddress;
use crate::listen::{Address, PassedError, SocketKind};
use crate::socket_place::{PlaceError, Remedy};

/// The lowest port that any user may bind.
const UNPRIVILEGED_PORT_FILE: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// A listener could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The system refuses the address.
    #[error("cannot bind {address}")]
    Bind {
        /// The address.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Its place in the file system cannot be had.
    #[error("cannot bind {address}")]
    Place {
        /// The address.
        address: Address,
        /// Why.
        source: PlaceError,
    },
    /// The system refuses an option.
    #[error("cannot set {option} on {address}")]
    Option {
        /// The address.
        address: Address,
        /// The option, with its value.
        option: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such user or group.
    #[error("there is no {kind} {name}")]
    NoAccount {
        /// Which of the two.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The address is of a family that is not allowed.
    #[error("cannot bind {address}: only {} is allowed", .family.described())]
    WrongFamily {
        /// The address.
        address: BindAddress,
        /// What is allowed.
        family: Family,
    },
    /// The name could not be looked up.
    #[error("cannot look up the address of {name}")]
    Resolve {
        /// The name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The name has no address of a family that is allowed.
    #[error("{name} has no address of {}", .family.described())]
    NoAddress {
        /// The name.
        name: String,
        /// What is allowed.
        family: Family,
    },
    /// What was to be passed to this process was not, or is something else.
    #[error("cannot take {address}")]
    Passed {
        /// What was asked for.
        address: BindAddress,
        /// Why.
        source: PassedError,
    },
}

impl BindError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Bind { address, source } => return bind_hint(address, source),
            Self::Place { source, .. } => place_hint(source.remedy()?),
            Self::Option { option, source, .. } => return option_hint(option, source),
            Self::NoAccount { .. } => "is it spelt as in getent passwd, getent group? a number is taken too",
            Self::WrongFamily { .. } | Self::NoAddress { .. } => {
                "leave out -4 or -6, or give an address of that family"
            }
            Self::Resolve { .. } => "is it in DNS or in /etc/hosts?",
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
        Remedy::OwnPath => "may this user write to the directory? give a path of its own",
    }
}

fn option_hint(option: &str, source: &io::Error) -> Option<String> {
    let name = option.split('=').next().unwrap_or_default();
    let hint = match (name, source.kind()) {
        ("mark", io::ErrorKind::PermissionDenied) => "mark needs CAP_NET_ADMIN",
        ("device", io::ErrorKind::PermissionDenied) => "device needs CAP_NET_RAW",
        ("device", _) => "ip link shows the network interfaces that there are",
        _ => return None,
    };
    Some(hint.to_owned())
}

fn bind_hint(address: &Address, source: &io::Error) -> Option<String> {
    let Some(inet) = address.inet() else {
        let is_taken = source.kind() == io::ErrorKind::AddrInUse;
        return is_taken.then(|| place_hint(Remedy::OtherPath).to_owned());
    };
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            let lowest = read_number(UNPRIVILEGED_PORT_FILE).unwrap_or(1024);
            (u32::from(inet.port()) < lowest)
                .then(|| format!("ports below {lowest} need CAP_NET_BIND_SERVICE, or choose a higher port"))
        }
        io::ErrorKind::AddrInUse => Some(in_use(address.kind(), inet)),
        io::ErrorKind::AddrNotAvailable => {
            Some("this machine has no such address: ip address shows those it has".to_owned())
        }
        _ => None,
    }
}

fn in_use(kind: SocketKind, address: SocketAddr) -> String {
    let letter = if kind == SocketKind::Udp { 'u' } else { 't' };
    let both = if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        "; without -6 it takes the port of IPv4 too"
    } else {
        ""
    };
    format!(
        "something listens there already, perhaps a worker that has outlived its master: \
         ss -l{letter}np 'sport = :{}' shows what{both}",
        address.port()
    )
}
