use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::*;

fn socket(address: SocketAddr, kind: Type) -> Socket {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol)).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    if kind == Type::STREAM {
        socket.listen(1024).unwrap();
    }
    socket
}

/// A group, and its address.
fn group(ip: &str, kind: Type, size: usize) -> (Vec<Socket>, SocketAddr) {
    let first = socket(SocketAddr::new(ip.parse().unwrap(), 0), kind);
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let others = (1..size).map(|_| socket(address, kind));
    (std::iter::once(first).chain(others).collect(), address)
}

/// How many of `count` connections each member got.
fn shares(listeners: &[TcpListener], address: SocketAddr, count: usize) -> Vec<usize> {
    let clients: Vec<_> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    let shares: Vec<_> =
        listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count()).collect();
    assert_eq!(shares.iter().sum::<usize>(), clients.len());
    shares
}

fn listeners(size: usize) -> (Vec<TcpListener>, SocketAddr) {
    let (sockets, address) = group("127.0.0.1", Type::STREAM, size);
    (sockets.into_iter().map(TcpListener::from).collect(), address)
}

#[test]
fn connections_go_to_each_live_position_and_no_other() {
    let (listeners, address) = listeners(5);
    for live in [&[0, 1, 2, 3, 4][..], &[0, 1, 2], &[1, 3], &[4], &[0, 2, 4], &[3, 4], &[]] {
        steer(&listeners[2], 5, live, Spread::Random).unwrap();
        let shares = shares(&listeners, address, 200);
        for (at, share) in shares.iter().enumerate() {
            // With five members, one run in 10^19 misses a member by chance.
            assert_eq!(*share > 0, live.is_empty() || live.contains(&at), "{live:?}: {shares:?}");
        }
    }
}

#[test]
fn the_last_member_takes_the_place_of_one_that_leaves_and_a_new_one_is_last() {
    let (mut listeners, address) = listeners(4);
    // Mirrors what the kernel does.
    listeners.swap_remove(1);
    listeners.push(socket(address, Type::STREAM).into());
    for live in 0..4 {
        steer(&listeners[0], 4, &[live], Spread::Random).unwrap();
        let shares = shares(&listeners, address, 20);
        assert_eq!(shares[live], 20, "{live}: {shares:?}");
    }
    // A member that was shut down has left too, and comes back as the last.
    let revived = listeners.swap_remove(1);
    let socket = socket2::SockRef::from(&revived);
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    socket.listen(1024).unwrap();
    listeners.push(revived);
    for live in 0..4 {
        steer(&listeners[0], 4, &[live], Spread::Random).unwrap();
        let shares = shares(&listeners, address, 20);
        assert_eq!(shares[live], 20, "{live}: {shares:?}");
    }
}

#[test]
fn the_most_positions_that_can_be_left_out_fit_in_a_program() {
    for (kind, spread) in [(Type::STREAM, Spread::Random), (Type::DGRAM, Spread::ByFlow)] {
        let (members, _) = group("127.0.0.1", kind, 2);
        for size in [1, 2, 100, 399, 400, 799, 800, 801, 1000, 5000] {
            for wanted in [0, 1, size / 3, size / 2, size / 2 + 1, size - 1] {
                let left_out = spread.can_leave_out(wanted, size);
                let is_short =
                    size <= 2 * spread.named_max() || wanted.min(size - wanted) <= spread.named_max();
                assert!(
                    left_out <= wanted && (left_out == wanted || !is_short),
                    "{left_out} of {wanted}, {size}"
                );
                // The worst case: every live position lies where a left-out one would be.
                let live: Vec<_> = (left_out..size).collect();
                let program = program(size, &live, spread);
                // The kernel translates the program to its own machine: at most three instructions of eight
                // bytes for each.
                assert!(program.len() * 3 * 8 < 20_480, "{wanted} of {size}: {}", program.len());
                steer(&members[0], size, &live, spread).unwrap();
            }
        }
    }
}

/// The source ports of the packets that a member got.
fn received(member: &UdpSocket) -> Vec<u16> {
    let packets = std::iter::from_fn(|| member.recv_from(&mut [0; 16]).ok());
    let mut ports: Vec<_> = packets.map(|(_, sender)| sender.port()).collect();
    ports.sort_unstable();
    ports
}

/// Sends twice from each client, and returns the senders that each member heard, each once.
fn flows(clients: &[UdpSocket], members: &[UdpSocket], to: SocketAddr) -> Vec<Vec<u16>> {
    for client in clients.iter().chain(clients) {
        client.send_to(b"packet", to).unwrap();
    }
    let mut shares: Vec<_> = members.iter().map(received).collect();
    for ports in &mut shares {
        let all = ports.len();
        ports.dedup();
        assert_eq!(ports.len() * 2, all, "both packets of a sender must go to one member");
    }
    assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), clients.len());
    shares
}

fn conversations_stay(bound: &str, client: &str) {
    let (members, address) = group(bound, Type::DGRAM, 4);
    let members: Vec<_> = members.into_iter().map(UdpSocket::from).collect();
    let client: IpAddr = client.parse().unwrap();
    let to = SocketAddr::new(client, address.port());
    let clients: Vec<_> = (0..64).map(|_| UdpSocket::bind((client, 0)).unwrap()).collect();
    steer(&members[0], 4, &[0, 1, 2, 3], Spread::ByFlow).unwrap();
    let before = flows(&clients, &members, to);
    assert!(before.iter().all(|ports| !ports.is_empty()), "{before:?}");
    assert_eq!(flows(&clients, &members, to), before);
    for left_out in [vec![2], vec![3], vec![0, 1], vec![1, 2, 3]] {
        let live: Vec<_> = (0..4).filter(|at| !left_out.contains(at)).collect();
        steer(&members[0], 4, &live, Spread::ByFlow).unwrap();
        let meanwhile = flows(&clients, &members, to);
        for at in 0..4 {
            if left_out.contains(&at) {
                assert!(meanwhile[at].is_empty(), "{left_out:?}: {meanwhile:?}");
            } else {
                let stays = before[at].iter().all(|port| meanwhile[at].contains(port));
                assert!(stays, "{left_out:?}: {before:?} {meanwhile:?}");
            }
        }
    }
    steer(&members[0], 4, &[], Spread::ByFlow).unwrap();
    assert_eq!(flows(&clients, &members, to), before, "every conversation must be back at its member");
}

#[test]
fn packets_of_one_sender_go_to_one_member_and_stay_there() {
    conversations_stay("127.0.0.1", "127.0.0.1");
    conversations_stay("::1", "::1");
    // IPv4 packets that arrive at an IPv6 socket.
    conversations_stay("::", "127.0.0.1");
}

#[test]
fn a_socket_without_a_group_is_refused() {
    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = steer(&alone, 1, &[0], Spread::Random).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}
