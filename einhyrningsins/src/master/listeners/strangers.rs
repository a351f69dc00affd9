//! The look for strangers: sockets of other programs at the addresses of ours.
//!
//! A server that binds its address by itself, with SO_REUSEPORT, gets connections of ours as soon as it listens, and one
//! that binds its own socket at the path of ours gets all that come from then on. Neither the master nor a client notices.
//! Whoever tries a release looks before and after: what is new then is the release's.
//!
//! Only the network namespace of the master is seen, and of a socket that was passed from another one, nothing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde::{Deserialize, Serialize};

use super::Listeners;
use super::bound::Bound;
use crate::listen::{Address, Listener, SocketKind};
use crate::sys::inet_diag::{InetSocket, Protocol, sockets_at};
use crate::sys::unix_diag::{SocketFile, is_bound_to};

/// As many sockets at one port are looked at: more than slots. The answer for each takes about 100 bytes.
const SOCKETS_MAX: usize = 65_536;

/// As many strangers are reported. They must belong to the workers' user, who must not keep the master busy.
const STRANGERS_MAX: usize = 1000;

/// A socket at an address of ours that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::master) struct Stranger {
    /// In the form of a log line.
    pub(in crate::master) address: String,
    /// Its inode, or that of its file.
    inode: u64,
}

/// The result of a look.
#[derive(Debug, Default)]
pub(in crate::master) struct Strangers {
    pub(in crate::master) found: Vec<Stranger>,
    /// The first address that could not be looked at, and why: the kernel lacks a module, or a filter refuses.
    pub(in crate::master) unseen: Option<(String, io::Error)>,
}

impl Strangers {
    /// The first that is not in `before`.
    pub(in crate::master) fn new_since(&self, before: &[Stranger]) -> Option<&Stranger> {
        self.found.iter().find(|stranger| !before.contains(stranger))
    }
}

impl Listeners {
    /// Looks for strangers at each address.
    ///
    /// It takes two questions to the kernel for each port, and one or two calls for each path, and waits for nobody. A file
    /// that is missing is no stranger.
    pub(in crate::master) fn strangers(&self) -> Strangers {
        // Inodes of sockets have 32 bits.
        let ours: HashSet<_> = self.inodes().into_iter().map(|inode| inode as u32).collect();
        let mut strangers = Strangers::default();
        let mut asked = Vec::new();
        for listener in self.bound.iter().map(Bound::any) {
            match at_port(&listener.address) {
                Some(port) if !asked.contains(&port) => {
                    asked.push(port);
                    match strangers_at(port, &ours) {
                        Ok(found) => strangers.found.extend(found),
                        Err(error) => {
                            strangers.unseen.get_or_insert((listener.address.to_string(), error));
                        }
                    }
                }
                Some(_) => {}
                None => strangers.found.extend(at_path(listener)),
            }
        }
        strangers.found.truncate(STRANGERS_MAX);
        strangers
    }
}

fn at_port(address: &Address) -> Option<(Protocol, u16)> {
    let protocol = if address.kind() == SocketKind::Udp { Protocol::Udp } else { Protocol::Tcp };
    Some((protocol, address.inet()?.port()))
}

/// The sockets at a port that overlap one of ours there and are none.
fn strangers_at((protocol, port): (Protocol, u16), ours: &HashSet<u32>) -> io::Result<Vec<Stranger>> {
    let (mut own, mut others): (Vec<InetSocket>, Vec<InetSocket>) = (Vec::new(), Vec::new());
    let mut left = SOCKETS_MAX;
    sockets_at(protocol, port, |socket| {
        if !ours.contains(&socket.inode) {
            others.push(socket);
        } else if !own.iter().any(|other| InetSocket { inode: socket.inode, ..*other } == socket) {
            own.push(socket);
        }
        left -= 1;
        if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if left == 0 {
        return Err(io::Error::other(format!("there are {SOCKETS_MAX} sockets or more at port {port}")));
    }
    others.retain(|other| own.iter().any(|own| overlap(own, other)));
    let stranger = |socket: InetSocket| {
        let address = match protocol {
            Protocol::Tcp => Address::Tcp(socket.address),
            Protocol::Udp => Address::Udp(socket.address),
        };
        Stranger { address: address.to_string(), inode: socket.inode.into() }
    };
    Ok(others.into_iter().map(stranger).collect())
}

/// Whether a client can reach both at the same address.
fn overlap(one: &InetSocket, other: &InetSocket) -> bool {
    let is_apart = one.interface != other.interface && one.interface != 0 && other.interface != 0;
    let is_same = canonical(one) == canonical(other);
    !is_apart && (is_same || takes_in(one, other) || takes_in(other, one))
}

/// Whether `wide` is at all addresses of a family in which `other` has one.
fn takes_in(wide: &InetSocket, other: &InetSocket) -> bool {
    match canonical(wide) {
        IpAddr::V4(ip) => ip.is_unspecified() && is_at_ipv4(other),
        IpAddr::V6(ip) => {
            ip.is_unspecified() && (canonical(other).is_ipv6() || is_at_ipv4(wide) && is_at_ipv4(other))
        }
    }
}

fn is_at_ipv4(socket: &InetSocket) -> bool {
    match canonical(socket) {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => ip.is_unspecified() && !socket.only_v6,
    }
}

/// An IPv4 address is one in an IPv6 socket too.
fn canonical(socket: &InetSocket) -> IpAddr {
    socket.address.ip().to_canonical()
}

/// The socket that clients reach at the path of `listener`, if it is another one.
fn at_path(listener: &Listener) -> Option<Stranger> {
    let path = listener.address.path().filter(|path| path.is_absolute())?;
    let found = fs::metadata(path).ok().filter(|found| found.file_type().is_socket())?;
    let is_other = match &listener.place {
        Some(place) => place.lost().is_some_and(|lost| lost.socket),
        // On some file systems, the kernel knows the file of a passed socket by other numbers. Then it is in every look.
        None => {
            let file = SocketFile { device: found.dev(), inode: found.ino() };
            is_bound_to(listener, file).is_ok_and(|is_it| !is_it)
        }
    };
    is_other.then(|| Stranger { address: listener.address.to_string(), inode: found.ino() })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::os::unix::net::UnixListener;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::listen::{Family, bind};
    use crate::sys::inherit::Kept;

    fn listeners_of(bound: impl IntoIterator<Item = Bound>) -> Listeners {
        Listeners { bound: bound.into_iter().collect(), ..serde_json::from_str("[]").unwrap() }
    }

    /// Of a pool of two slots.
    fn listeners(spec: &str, family: Family) -> Listeners {
        let listener = bind(&spec.parse().unwrap(), family, None).unwrap();
        listeners_of([Bound::new(listener, 2).unwrap()])
    }

    fn port(listeners: &Listeners) -> u16 {
        listeners.bound[0].any().address.inet().unwrap().port()
    }

    /// Binds as a server does that has its address in its own configuration.
    fn bound_by_itself(kind: Type, address: &str, port: u16) -> Socket {
        try_bind(kind, address, port).unwrap()
    }

    fn try_bind(kind: Type, address: &str, port: u16) -> io::Result<Socket> {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        if kind == Type::STREAM {
            socket.listen(1)?;
        }
        Ok(socket)
    }

    fn addresses(listeners: &Listeners) -> Vec<String> {
        let strangers = listeners.strangers();
        assert!(strangers.unseen.is_none(), "{strangers:?}");
        strangers.found.into_iter().map(|stranger| stranger.address).collect()
    }

    #[test]
    fn a_socket_that_joins_a_group_of_ours_is_a_stranger() {
        let ours = listeners("127.0.0.1:0,reuseport", Family::Any);
        let port = port(&ours);
        assert_eq!(addresses(&ours), [""; 0], "the sockets of all slots are ours");
        let before = ours.strangers().found;
        let other = bound_by_itself(Type::STREAM, "127.0.0.1", port);
        assert_eq!(addresses(&ours), [format!("127.0.0.1:{port}")]);
        let strangers = ours.strangers();
        assert_eq!(strangers.new_since(&before), strangers.found.first());
        assert_eq!(strangers.new_since(&strangers.found), None);
        drop(other);
        crate::sys::testing::eventually("it to be gone", || addresses(&ours).is_empty());
    }

    #[test]
    fn a_wildcard_and_any_address_of_its_family_overlap() {
        for (spec, family, theirs, expected) in [
            ("0.0.0.0:0,reuseport", Family::Any, "127.0.0.1", true),
            ("127.0.0.1:0,reuseport", Family::Any, "0.0.0.0", true),
            ("127.0.0.1:0,reuseport", Family::Any, "127.0.0.2", false),
            ("[::]:0,reuseport", Family::Any, "127.0.0.1", true),
            ("[::]:0,reuseport", Family::Any, "::1", true),
            ("[::]:0,reuseport", Family::V6, "127.0.0.1", false),
            ("[::]:0,reuseport", Family::V6, "::1", true),
            ("[::1]:0,reuseport", Family::Any, "::", true),
            ("[::1]:0,reuseport", Family::Any, "0.0.0.0", false),
        ] {
            // Another program may have the port at the other address.
            let both = std::iter::repeat_with(|| {
                let ours = listeners(spec, family);
                let other = try_bind(Type::STREAM, theirs, port(&ours)).ok()?;
                Some((ours, other))
            });
            let (ours, _other) =
                both.take(100).flatten().next().expect("a port that is free at both addresses");
            assert_eq!(addresses(&ours).len(), usize::from(expected), "{spec} {family:?} and {theirs}");
        }
    }

    #[test]
    fn overlaps_are_symmetric_and_end_at_interfaces() {
        let socket = |ip: &str, only_v6, interface| InetSocket {
            inode: 0,
            address: SocketAddr::new(ip.parse().unwrap(), 80),
            only_v6,
            interface,
        };
        for (one, other, expected) in [
            (socket("::", false, 0), socket("0.0.0.0", false, 0), true),
            (socket("::", true, 0), socket("0.0.0.0", false, 0), false),
            (socket("::", true, 0), socket("::", false, 0), true),
            (socket("::ffff:1.2.3.4", false, 0), socket("1.2.3.4", false, 0), true),
            (socket("::ffff:1.2.3.4", false, 0), socket("::", false, 0), true),
            (socket("::ffff:1.2.3.4", false, 0), socket("::", true, 0), false),
            (socket("fe80::1", true, 2), socket("fe80::1", true, 3), false),
            (socket("0.0.0.0", false, 2), socket("1.2.3.4", false, 0), true),
            (socket("0.0.0.0", false, 2), socket("1.2.3.4", false, 2), true),
            (socket("0.0.0.0", false, 2), socket("1.2.3.4", false, 3), false),
        ] {
            assert_eq!(overlap(&one, &other), expected, "{one:?} {other:?}");
            assert_eq!(overlap(&other, &one), expected, "{other:?} {one:?}");
        }
    }

    #[test]
    fn another_port_or_protocol_is_no_ones_business() {
        let ours = listeners("127.0.0.1:0,reuseport", Family::Any);
        let _udp = bound_by_itself(Type::DGRAM, "127.0.0.1", port(&ours));
        let _elsewhere = bound_by_itself(Type::STREAM, "127.0.0.1", 0);
        assert_eq!(addresses(&ours), [""; 0]);
    }

    #[test]
    fn packet_sockets_are_looked_at_too() {
        let ours = listeners("udp:127.0.0.1:0,reuseport", Family::Any);
        assert_eq!(addresses(&ours), [""; 0]);
        let _other = bound_by_itself(Type::DGRAM, "127.0.0.1", port(&ours));
        assert_eq!(addresses(&ours), [format!("udp:127.0.0.1:{}", port(&ours))]);
    }

    #[test]
    fn a_path_that_leads_to_another_socket_has_a_stranger() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let ours = listeners(&format!("unix:{}", path.display()), Family::Any);
        assert_eq!(addresses(&ours), [""; 0]);
        fs::remove_file(&path).unwrap();
        assert_eq!(addresses(&ours), [""; 0], "a file that is missing is made again");
        let _other = UnixListener::bind(&path).unwrap();
        assert_eq!(addresses(&ours), [format!("unix:{}", path.display())]);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(addresses(&ours), [""; 0], "nobody can connect to a file");
    }

    #[test]
    fn the_path_of_a_passed_socket_is_looked_at_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let socket = UnixListener::bind(&path).unwrap();
        let address = Address::of(&socket, SocketKind::Unix).unwrap();
        let fd = Kept::Open(socket.into());
        let spec = "fd:3".parse().unwrap();
        let ours = Listener { fd, spec, address, backlog: 5, passed_name: None, place: None };
        let ours = listeners_of([Bound::Shared(Box::new(ours))]);
        let before = ours.strangers();
        assert!(before.unseen.is_none());
        fs::rename(&path, directory.path().join("t")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        let after = ours.strangers();
        assert_eq!(after.new_since(&before.found).unwrap().address, format!("unix:{}", path.display()));
    }

    #[test]
    fn a_look_where_the_kernel_says_nothing_is_no_discovery() {
        let name =
            "master::listeners::strangers::tests::a_look_where_the_kernel_says_nothing_is_no_discovery";
        crate::sys::testing::isolated(name, || {
            let ours = listeners("127.0.0.1:0,reuseport", Family::Any);
            let _other = bound_by_itself(Type::STREAM, "127.0.0.1", port(&ours));
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
            let strangers = ours.strangers();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            assert!(strangers.found.is_empty());
            let (address, error) = strangers.unseen.unwrap();
            assert_eq!(
                (address, error.raw_os_error()),
                (format!("127.0.0.1:{}", port(&ours)), Some(nix::libc::EMFILE))
            );
        });
    }
}
