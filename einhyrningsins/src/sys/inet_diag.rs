//! Which TCP and UDP sockets there are at a port, whoever has them. Only those in the network namespace of this process are
//! found.
//!
//! # Source
//! `sock_diag(7)`; `linux/inet_diag.h` for the layouts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

use nix::libc;

use super::sock_diag::{self, About, attributes, number};

/// `INET_DIAG_SKV6ONLY`: one byte, of IPv6 sockets only.
const ATTRIBUTE_ONLY_V6: u16 = 11;

/// Offsets in `struct inet_diag_msg`.
mod message {
    pub(super) const FAMILY: usize = 0;
    pub(super) const PORT: usize = 4;
    pub(super) const ADDRESS: usize = 8;
    pub(super) const INTERFACE: usize = 40;
    pub(super) const INODE: usize = 68;
    pub(super) const BYTES: usize = 72;
}

/// `struct inet_diag_sockid`: the port is its first field.
const ID_BYTES: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }

    /// The states, as bits, of sockets that take what comes from anybody: TCP_LISTEN, and TCP_CLOSE, which is that of a UDP
    /// socket that is not connected.
    fn states(self) -> u32 {
        match self {
            Self::Tcp => 1 << 10,
            Self::Udp => 1 << 7,
        }
    }
}

/// A socket that takes connections, or packets, from anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InetSocket {
    pub inode: u32,
    pub address: SocketAddr,
    /// Whether it is an IPv6 socket that takes nothing of IPv4.
    pub only_v6: bool,
    /// The index of the interface that it is bound to; 0 for any.
    pub interface: u32,
}

/// Passes each socket at `port` to `tell`, until that breaks. The kernel looks through all sockets that listen, or through
/// all of UDP.
///
/// # Errors
/// If the kernel lacks the module (`tcp_diag`, `udp_diag`), or a filter denies the question.
pub fn sockets_at(
    protocol: Protocol,
    port: u16,
    mut tell: impl FnMut(InetSocket) -> ControlFlow<()>,
) -> io::Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        sock_diag::ask(&question(family as u8, protocol, port), About::All, |answer| {
            // A kernel that does not filter by port passes all.
            let found = read(answer).filter(|socket| socket.address.port() == port);
            found.map_or(ControlFlow::Continue(()), &mut tell)
        })?;
    }
    Ok(())
}

/// `struct inet_diag_req_v2`.
fn question(family: u8, protocol: Protocol, port: u16) -> Vec<u8> {
    let mut bytes = vec![family, protocol.number(), 0, 0];
    bytes.extend(protocol.states().to_ne_bytes());
    let mut id = [0; ID_BYTES];
    id[..2].copy_from_slice(&port.to_be_bytes());
    bytes.extend(id);
    bytes
}

fn read(answer: &[u8]) -> Option<InetSocket> {
    let port = u16::from_be_bytes(*answer.get(message::PORT..)?.first_chunk()?);
    let address = answer.get(message::ADDRESS..)?;
    let ip = match i32::from(*answer.get(message::FAMILY)?) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*address.first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*address.first_chunk::<16>()?)),
        _ => return None,
    };
    let mut attributes = attributes(answer, message::BYTES);
    Some(InetSocket {
        inode: number(answer, message::INODE)?,
        address: SocketAddr::new(ip, port),
        only_v6: attributes.any(|(kind, value)| kind == ATTRIBUTE_ONLY_V6 && value.first() == Some(&1)),
        interface: number(answer, message::INTERFACE)?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use proptest::prelude::*;
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::sys::sock_diag::socket_inode;

    fn found(protocol: Protocol, port: u16) -> Vec<InetSocket> {
        let mut found = Vec::new();
        sockets_at(protocol, port, |socket| {
            found.push(socket);
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    fn socket(domain: Domain, kind: Type, address: &str, only_v6: bool) -> (Socket, SocketAddr) {
        let socket = Socket::new(domain, kind, None).unwrap();
        if domain == Domain::IPV6 {
            socket.set_only_v6(only_v6).unwrap();
        }
        socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    fn expected(socket: &impl AsFd, address: SocketAddr, only_v6: bool) -> InetSocket {
        InetSocket { inode: socket_inode(socket).unwrap(), address, only_v6, interface: 0 }
    }

    #[test]
    fn a_listener_is_found_at_its_port_and_nothing_else_is() {
        for (domain, at, only_v6) in [
            (Domain::IPV4, "127.0.0.1:0", false),
            (Domain::IPV4, "0.0.0.0:0", false),
            (Domain::IPV6, "[::]:0", false),
            (Domain::IPV6, "[::]:0", true),
            (Domain::IPV6, "[::1]:0", true),
        ] {
            let (socket, address) = socket(domain, Type::STREAM, at, only_v6);
            assert_eq!(found(Protocol::Tcp, address.port()), [], "it does not listen");
            socket.listen(1).unwrap();
            let client = std::net::TcpStream::connect(address);
            assert_eq!(found(Protocol::Tcp, address.port()), [expected(&socket, address, only_v6)], "{at}");
            drop(client);
        }
    }

    #[test]
    fn a_udp_socket_is_found_unless_it_is_connected() {
        let (socket, address) = socket(Domain::IPV4, Type::DGRAM, "127.0.0.1:0", false);
        assert_eq!(found(Protocol::Udp, address.port()), [expected(&socket, address, false)]);
        assert!(found(Protocol::Tcp, address.port()).iter().all(|found| found.address != address));
        UdpSocket::from(socket).connect("127.0.0.1:9").unwrap();
        assert_eq!(found(Protocol::Udp, address.port()), []);
    }

    #[test]
    fn the_interface_that_a_socket_is_bound_to_is_reported() {
        let (socket, address) = socket(Domain::IPV4, Type::STREAM, "127.0.0.1:0", false);
        socket.bind_device(Some(b"lo")).unwrap();
        socket.listen(1).unwrap();
        assert_ne!(found(Protocol::Tcp, address.port())[0].interface, 0);
    }

    proptest! {
        #[test]
        fn any_answer_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
