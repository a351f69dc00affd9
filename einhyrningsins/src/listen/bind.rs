//! Binding a listening socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::spec::{BindAddress, BindSpec, BindSpecError, Host};
use crate::handover::Fd;
use crate::sys::inherit::{Inherited, NotInherited};

/// The system's limit on the queue of a listener.
const SOMAXCONN_FILE: &str = "/proc/sys/net/core/somaxconn";

/// The lowest port that any user may bind.
const UNPRIVILEGED_PORT_FILE: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Which family of addresses may be bound (`-4`, `-6`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Either; an IPv6 wildcard takes IPv4 connections too.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only: not even IPv4 connections to an IPv6 wildcard.
    V6,
}

impl Family {
    fn allows(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }

    /// The family and the option that chose it, for messages.
    fn described(self) -> &'static str {
        match self {
            Self::Any => "IPv4 or IPv6",
            Self::V4 => "IPv4 (-4)",
            Self::V6 => "IPv6 (-6)",
        }
    }
}

/// A socket that listens. It is close-on-exec: workers get copies. Closed when dropped.
#[derive(Debug)]
pub struct Listener {
    /// What was asked for.
    pub spec: BindSpec,
    /// The address that it really has.
    pub address: SocketAddr,
    /// How many connections may wait in its queue: what was asked for, within the system's limit.
    pub backlog: u32,
    pub(super) fd: OwnedFd,
}

impl Listener {
    /// Its name in `LISTEN_FDNAMES` if it is number `index` of the listeners, from 0.
    #[must_use]
    pub fn name_at(&self, index: usize) -> String {
        self.spec.name.clone().unwrap_or_else(|| format!("socket-{index}"))
    }

    /// Its family, as `EINHORN_FD_FAMILY_n` and status tell it.
    #[must_use]
    pub fn family_name(&self) -> &'static str {
        if self.address.is_ipv4() { "AF_INET" } else { "AF_INET6" }
    }
}

/// A [`Listener`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerRecord {
    /// Its descriptor.
    pub fd: Fd,
    bind: String,
    address: SocketAddr,
    backlog: u32,
}

/// A listener that was written down cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// Its descriptor is not there.
    #[error(transparent)]
    NotInherited(#[from] NotInherited),
    /// What it was asked for by is nothing that this version binds.
    #[error(transparent)]
    Spec(#[from] BindSpecError),
}

impl Listener {
    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> ListenerRecord {
        ListenerRecord {
            fd: Fd::of(&self.fd),
            bind: self.spec.to_string(),
            address: self.address,
            backlog: self.backlog,
        }
    }

    /// Takes over what was written down.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt(record: &ListenerRecord, inherited: &mut Inherited) -> Result<Self, AdoptError> {
        let (spec, address, backlog) = (record.bind.parse()?, record.address, record.backlog);
        Ok(Self { spec, address, backlog, fd: inherited.take(record.fd.0)? })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A listener could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The system refuses the address.
    #[error("cannot bind {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
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
}

impl BindError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let (address, source) = match self {
            Self::Bind { address, source } => (address, source),
            Self::WrongFamily { .. } | Self::NoAddress { .. } => {
                return Some("leave out -4 or -6, or give an address of that family".to_owned());
            }
            Self::Resolve { .. } => return Some("is it in DNS or in /etc/hosts?".to_owned()),
        };
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => {
                let lowest = read_number(UNPRIVILEGED_PORT_FILE).unwrap_or(1024);
                if u32::from(address.port()) >= lowest {
                    return None;
                }
                format!("ports below {lowest} need CAP_NET_BIND_SERVICE, or choose a higher port")
            }
            io::ErrorKind::AddrInUse => {
                let port = address.port();
                let both = if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
                    "; without -6 it takes the port of IPv4 too"
                } else {
                    ""
                };
                format!(
                    "something listens there already, perhaps a worker that has outlived its master: \
                     ss -ltnp 'sport = :{port}' shows what{both}"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine has no such address: ip address shows those it has".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }
}

/// Binds what `spec` asks for and listens, with a queue of `backlog` connections or of as many as the system
/// allows. Looking up a host name may block for as long as DNS does.
///
/// - A host name gives one listener, on its first IPv4 address; on its first IPv6 address only with
///   [`Family::V6`], or if it has no other. einhorn knows IPv4 alone, and a name that has both (`localhost`)
///   must mean the same with us.
/// - No host gives `[::]` that takes IPv4 connections too, or `0.0.0.0` where the system has no IPv6.
/// - `SO_REUSEADDR` is always set, so that connections of an earlier master that linger do not keep the port.
///
/// # Errors
/// [`BindError`] names the address.
pub fn bind(spec: &BindSpec, family: Family, backlog: Option<u32>) -> Result<Listener, BindError> {
    let BindAddress::Tcp { host, port } = &spec.address;
    let backlog = Backlog::new(backlog);
    let listen_at = |ip: IpAddr| {
        let address = SocketAddr::new(ip, *port);
        listen(spec, address, family, backlog).map_err(|source| BindError::Bind { address, source })
    };
    match host {
        Host::Any => match family {
            Family::Any => prefer_ipv6(
                || listen_at(Ipv6Addr::UNSPECIFIED.into()),
                || listen_at(Ipv4Addr::UNSPECIFIED.into()),
            ),
            Family::V4 => listen_at(Ipv4Addr::UNSPECIFIED.into()),
            Family::V6 => listen_at(Ipv6Addr::UNSPECIFIED.into()),
        },
        Host::Ip(ip) if family.allows(*ip) => listen_at(*ip),
        Host::Ip(_) => Err(BindError::WrongFamily { address: spec.address.clone(), family }),
        Host::Name(name) => listen_at(resolve(name, family)?),
    }
}

/// Tries IPv6, and IPv4 if the system has no IPv6: not built in, or switched off.
fn prefer_ipv6<T>(
    ipv6: impl FnOnce() -> Result<T, BindError>,
    ipv4: impl FnOnce() -> Result<T, BindError>,
) -> Result<T, BindError> {
    match ipv6() {
        Err(BindError::Bind { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            ipv4()
        }
        result => result,
    }
}

/// The address of `name` that is to be bound.
fn resolve(name: &str, family: Family) -> Result<IpAddr, BindError> {
    let found =
        (name, 0).to_socket_addrs().map_err(|source| BindError::Resolve { name: name.to_owned(), source })?;
    let found: Vec<_> = found.map(|address| address.ip()).collect();
    choose(&found, family).ok_or_else(|| BindError::NoAddress { name: name.to_owned(), family })
}

fn choose(found: &[IpAddr], family: Family) -> Option<IpAddr> {
    let allowed = || found.iter().copied().filter(|ip| family.allows(*ip));
    allowed().find(IpAddr::is_ipv4).or_else(|| allowed().next())
}

fn listen(spec: &BindSpec, address: SocketAddr, family: Family, backlog: Backlog) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Said either way, because the system's default (bindv6only) is the administrator's.
        socket.set_only_v6(family == Family::V6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(spec.nonblocking)?;
    socket.bind(&address.into())?;
    socket.listen(backlog.asked)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Listener { spec: spec.clone(), address, backlog: backlog.effective, fd: socket.into() })
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    pub(super) asked: i32,
    pub(super) effective: u32,
}

impl Backlog {
    /// The kernel clamps whatever is asked; the limit is read only to tell what that makes.
    pub(super) fn new(asked: Option<u32>) -> Self {
        let asked = asked.and_then(|asked| i32::try_from(asked).ok()).unwrap_or(i32::MAX);
        let limit = read_number(SOMAXCONN_FILE).unwrap_or(u32::MAX);
        Self { asked, effective: asked.unsigned_abs().min(limit) }
    }
}

fn read_number(file: &str) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    use socket2::SockRef;

    use super::*;
    use crate::sys::testing::{PATIENCE, isolated};

    fn bound(spec: &str, family: Family) -> Listener {
        bind(&spec.parse().unwrap(), family, None).unwrap()
    }

    /// The whole message, as the outermost layer prints it, and the hint.
    fn refused(spec: &str, family: Family) -> (String, Option<String>) {
        let error = bind(&spec.parse().unwrap(), family, None).unwrap_err();
        let hint = error.hint();
        (format!("{:#}", anyhow::Error::from(error)), hint)
    }

    fn connects(ip: &str, listener: &Listener) -> bool {
        TcpStream::connect((ip, listener.address.port())).is_ok()
    }

    #[test]
    fn port_zero_is_bound_and_the_real_port_known() {
        let listener = bound("127.0.0.1:0", Family::Any);
        assert_ne!(listener.address.port(), 0);
        assert_eq!(listener.address.ip(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(listener.family_name(), "AF_INET");
        assert!(connects("127.0.0.1", &listener));
    }

    #[test]
    fn a_listener_is_close_on_exec_reuses_its_address_and_blocks_unless_asked_not_to() {
        for (spec, nonblocking) in [("127.0.0.1:0", false), ("127.0.0.1:0,n", true)] {
            let listener = bound(spec, Family::Any);
            let flags = OFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFL).unwrap());
            assert_eq!(flags.contains(OFlag::O_NONBLOCK), nonblocking, "{spec}");
            let flags = FdFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            assert!(SockRef::from(&listener).reuse_address().unwrap());
        }
    }

    #[test]
    fn no_host_takes_both_families_and_the_options_one() {
        let both = bound(":0", Family::Any);
        assert_eq!(both.family_name(), "AF_INET6");
        assert!(connects("127.0.0.1", &both) && connects("::1", &both));
        let ipv4 = bound(":0", Family::V4);
        assert!(connects("127.0.0.1", &ipv4) && !connects("::1", &ipv4));
        let ipv6 = bound(":0", Family::V6);
        assert!(!connects("127.0.0.1", &ipv6) && connects("::1", &ipv6));
    }

    #[test]
    fn no_host_falls_back_to_ipv4_only_where_there_is_no_ipv6() {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
        let failed = |errno| BindError::Bind { address, source: io::Error::from_raw_os_error(errno) };
        for errno in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
            assert_eq!(prefer_ipv6(|| Err(failed(errno)), || Ok(4)).unwrap(), 4);
        }
        assert!(prefer_ipv6(|| Err(failed(libc::EADDRINUSE)), || Ok(4)).is_err());
        assert_eq!(prefer_ipv6(|| Ok(6), || Ok(4)).unwrap(), 6);
    }

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_too_unless_asked_not_to() {
        let both = bound("[::]:0", Family::Any);
        assert!(connects("127.0.0.1", &both) && connects("::1", &both));
        let only = bound("[::]:0", Family::V6);
        assert!(SockRef::from(&only).only_v6().unwrap());
        assert!(!connects("127.0.0.1", &only) && connects("::1", &only));
    }

    #[test]
    fn a_name_means_its_ipv4_address_unless_ipv6_is_asked_for() {
        assert_eq!(bound("localhost:0", Family::Any).address.ip(), IpAddr::from([127, 0, 0, 1]));
        let [four, six]: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        assert_eq!(choose(&[six, four], Family::Any), Some(four));
        assert_eq!(choose(&[six], Family::Any), Some(six));
        assert_eq!(choose(&[four, six], Family::V6), Some(six));
        assert_eq!(choose(&[six, four], Family::V4), Some(four));
        assert_eq!(choose(&[four], Family::V6), None);
        assert_eq!(choose(&[], Family::Any), None);
    }

    #[test]
    fn an_address_of_the_other_family_is_refused_by_name() {
        let hint = Some("leave out -4 or -6, or give an address of that family".to_owned());
        assert_eq!(
            refused("127.0.0.1:0", Family::V6),
            ("cannot bind 127.0.0.1:0: only IPv6 (-6) is allowed".to_owned(), hint.clone())
        );
        assert_eq!(
            refused("[::1]:0", Family::V4),
            ("cannot bind [::1]:0: only IPv4 (-4) is allowed".to_owned(), hint)
        );
    }

    #[test]
    fn the_backlog_is_the_systems_maximum_or_what_was_asked_for() {
        let maximum = read_number(SOMAXCONN_FILE).unwrap();
        let asked = |backlog| bind(&"127.0.0.1:0".parse().unwrap(), Family::Any, backlog).unwrap().backlog;
        assert_eq!(asked(None), maximum);
        assert_eq!(asked(Some(7)), 7);
        assert_eq!(asked(Some(u32::MAX)), maximum);
    }

    #[test]
    fn the_backlog_is_passed_on_to_the_system() {
        // The kernel queues backlog + 1 connections; what exceeds that does not finish its handshake.
        let listener = bind(&"127.0.0.1:0".parse().unwrap(), Family::Any, Some(1)).unwrap();
        let connect = |deadline| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.connect_timeout(&listener.address.into(), deadline).map(|()| socket)
        };
        let queued = [connect(PATIENCE).unwrap(), connect(PATIENCE).unwrap()];
        assert_eq!(connect(Duration::from_millis(100)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(queued);
    }

    #[test]
    fn an_address_in_use_is_named_with_a_way_to_find_who_has_it() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let (message, hint) = refused(&address.to_string(), Family::Any);
        assert_eq!(message, format!("cannot bind {address}: Address already in use (os error 98)"));
        let command = format!("ss -ltnp 'sport = :{}' shows what", address.port());
        assert!(hint.unwrap().ends_with(&command));
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        // 203.0.113.0/24 is for documentation only (RFC 5737).
        let (message, hint) = refused("203.0.113.77:0", Family::Any);
        assert_eq!(message, "cannot bind 203.0.113.77:0: Cannot assign requested address (os error 99)");
        assert_eq!(hint.unwrap(), "this machine has no such address: ip address shows those it has");
    }

    #[test]
    fn a_port_for_the_privileged_is_named() {
        isolated("listen::bind::tests::a_port_for_the_privileged_is_named", || {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
            }
            let lowest = read_number(UNPRIVILEGED_PORT_FILE).unwrap();
            assert!(lowest > 1, "this machine lets anybody bind any port");
            let (message, hint) = refused("127.0.0.1:1", Family::Any);
            assert_eq!(message, "cannot bind 127.0.0.1:1: Permission denied (os error 13)");
            let expected = format!("ports below {lowest} need CAP_NET_BIND_SERVICE, or choose a higher port");
            assert_eq!(hint, Some(expected));
        });
    }

    #[test]
    fn a_name_that_nobody_has_is_named() {
        // .invalid never resolves (RFC 2606).
        let (message, hint) = refused("nobody.invalid:80", Family::Any);
        assert!(message.starts_with("cannot look up the address of nobody.invalid: "), "{message}");
        assert!(hint.unwrap().contains("/etc/hosts"));
    }
}
