//! Taking sockets in real processes: each source, each kind, each mistake.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod common;

use std::fs::File;
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::Command;

use common::{Worker, role, say};
use einhorn_child::{TakeError, Which};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType};

/// The worker's side: carries out the steps of `ROLE` and prints the result of each.
#[test]
fn worker() {
    let Some(role) = role() else { return };
    let mut taken = Vec::new();
    for step in role.split("; ") {
        let (verb, which) = step.split_once(' ').unwrap_or((step, ""));
        let result = match verb {
            "tcp" => take::<TcpListener>(which, &mut taken, |it| it.local_addr().unwrap().to_string()),
            "udp" => take::<UdpSocket>(which, &mut taken, |it| it.local_addr().unwrap().to_string()),
            "unix" => take::<UnixListener>(which, &mut taken, |it| abstract_name(&it.local_addr().unwrap())),
            "datagram" => {
                take::<UnixDatagram>(which, &mut taken, |it| abstract_name(&it.local_addr().unwrap()))
            }
            "any" => take::<OwnedFd>(which, &mut taken, |_| "some socket".to_owned()),
            "race" => Ok(race(&mut taken)),
            "bind" => einhorn_child::inherit_or_bind(which).map(|listener| {
                let address = listener.local_addr().unwrap();
                taken.push(listener.into());
                address.to_string()
            }),
            "list" => einhorn_child::inherited().map(|sockets| {
                let of = |it: einhorn_child::InheritedSocket| {
                    format!("{} {:?} {} {} {:?}", it.number, it.name, it.fd, it.taken, it.kind)
                };
                sockets.into_iter().map(of).collect::<Vec<_>>().join(", ")
            }),
            "held" => Ok(held_by_a_program(which)),
            _ => panic!("no such step: {step}"),
        };
        match result {
            Ok(text) => say(text),
            Err(error) => say(error),
        }
    }
}

fn take<T: einhorn_child::Inherit>(
    which: &str,
    taken: &mut Vec<OwnedFd>,
    describe: impl FnOnce(&T) -> String,
) -> Result<String, TakeError>
where
    OwnedFd: From<T>,
{
    let which = which.parse::<usize>().map_or_else(|_| Which::from(which), Which::from);
    let socket = einhorn_child::take::<T>(which)?;
    let text = describe(&socket);
    taken.push(socket.into());
    Ok(text)
}

/// Takes socket 0 in eight threads and returns how many got it.
fn race(taken: &mut Vec<OwnedFd>) -> String {
    let results: Vec<_> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..8).map(|_| scope.spawn(|| einhorn_child::take::<TcpListener>(0))).collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).collect()
    });
    let before = taken.len();
    taken.extend(results.into_iter().flatten().map(OwnedFd::from));
    format!("{} of 8", taken.len() - before)
}

/// The descriptors among `fds` that a program started by this process inherits.
fn held_by_a_program(fds: &str) -> String {
    let script = format!("for fd in {fds}; do test -e /proc/self/fd/$fd && echo $fd; done; true");
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn abstract_name(address: &SocketAddr) -> String {
    String::from_utf8(address.as_abstract_name().unwrap().to_vec()).unwrap()
}

fn tcp() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn unix_name(kind: &str) -> (SocketAddr, String) {
    let name = format!("einhorn-child-{}-{kind}", std::process::id());
    (SocketAddr::from_abstract_name(&name).unwrap(), name)
}

const NOT_LEFT: &str = "has been taken already, and two owners would close it under each other; take it once and clone it (try_clone)";

#[test]
fn each_kind_is_taken_by_number() {
    let (tcp, tcp_address) = tcp();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, unix_name_) = unix_name("unix");
    let unix = UnixListener::bind_addr(&address).unwrap();
    let (address, datagram_name) = unix_name("datagram");
    let datagram = UnixDatagram::bind_addr(&address).unwrap();
    let packets =
        nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
    let packets = packets.unwrap();
    nix::sys::socket::bind(packets.as_raw_fd(), &nix::sys::socket::UnixAddr::new_unnamed()).unwrap();
    nix::sys::socket::listen(&packets, Backlog::new(1).unwrap()).unwrap();
    let said = Worker::new("tcp 0; udp 1; unix 2; datagram 3; unix 4; any 4")
        .fd(&tcp)
        .fd(&udp)
        .fd(&unix)
        .fd(&datagram)
        .fd(&packets)
        .numbered()
        .run();
    let udp_address = udp.local_addr().unwrap().to_string();
    let refused = "socket 4 (descriptor 7) is a Unix seqpacket listener, not a Unix listener";
    assert_eq!(said[..4], [tcp_address, udp_address, unix_name_, datagram_name]);
    assert!(said[4].starts_with(refused), "{}", said[4]);
    assert_eq!(said[5], "some socket");
}

#[test]
fn sockets_are_taken_by_name_and_those_of_one_name_in_order() {
    let ((web, web_address), (first, first_address), (second, second_address)) = (tcp(), tcp(), tcp());
    let worker = |role| {
        let worker = Worker::new(role).fd(&first).fd(&web).fd(&second).numbered();
        worker.env("LISTEN_FDNAMES", "admin:web:admin")
    };
    let said = worker("tcp web; tcp admin; tcp admin; tcp admin; tcp metrics").run();
    assert_eq!(
        said,
        [
            web_address,
            first_address,
            second_address,
            format!("socket \"admin\" {NOT_LEFT}"),
            "no socket is named \"metrics\"; the names are admin, web, admin".to_owned(),
        ]
    );
    let said = worker("tcp web").env("LISTEN_FDNAMES", "unlike:these").run();
    assert_eq!(said, ["no socket is named \"web\": none has a name (LISTEN_FDNAMES); take it by its number"]);
}

#[test]
fn systemd_socket_activation_is_understood() {
    let ((web, web_address), (admin, admin_address)) = (tcp(), tcp());
    let worker = Worker::activated("tcp admin; tcp 0").fd(&web).fd(&admin);
    let said = worker.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "web:admin").run();
    assert_eq!(said, [admin_address, web_address]);
}

#[test]
fn sockets_activated_for_another_process_are_left_alone() {
    let (listener, _) = tcp();
    let said = Worker::new("tcp 0; bind 127.0.0.1:0; list")
        .fd(&listener)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_PID", "1")
        .spawn();
    let pid = said.pid();
    let said = said.finish();
    assert_eq!(
        said[0],
        format!(
            "no sockets were passed to this process: LISTEN_FDS is meant for process 1 (LISTEN_PID), and this is \
             process {pid}; start this program with exec, not as a child of the process that was activated"
        )
    );
    assert!(said[1].starts_with("127.0.0.1:"), "it binds for itself: {}", said[1]);
    assert_eq!(said[2], "");
}

#[test]
fn the_list_of_early_einhorn_is_understood() {
    let ((web, web_address), (admin, admin_address)) = (tcp(), tcp());
    let said = Worker::new("tcp 0; tcp 1").fd(&admin).fd(&web).env("EINHORN_FDS", "4 3").run();
    assert_eq!(said, [web_address, admin_address]);
}

#[test]
fn a_server_behind_a_wrapper_has_the_sockets_too() {
    let (listener, address) = tcp();
    let worker = Worker::behind_a_wrapper("tcp web").fd(&listener).numbered().supervised();
    assert_eq!(worker.env("LISTEN_FDNAMES", "web").run(), [address]);
}

#[test]
fn a_socket_of_another_kind_is_left_in_place() {
    let (listener, address) = tcp();
    let said = Worker::new("udp 0; unix 0; tcp 0").fd(&listener).numbered().run();
    assert_eq!(
        said,
        [
            "socket 0 (descriptor 3) is a TCP listener, not a UDP socket; it was left in place".to_owned(),
            "socket 0 (descriptor 3) is a TCP listener, not a Unix listener; it was left in place".to_owned(),
            address,
        ]
    );
}

#[test]
fn a_socket_is_taken_once() {
    let (listener, address) = tcp();
    let said = Worker::new("tcp 0; tcp 0; any 0; list").fd(&listener).numbered().run();
    let refused = format!("socket 0 {NOT_LEFT}");
    assert_eq!(said, [address, refused.clone(), refused, "0 None 3 true None".to_owned()]);
    assert_eq!(Worker::new("race").fd(&listener).numbered().run(), ["1 of 8"]);
}

#[test]
fn anything_but_a_listening_socket_is_refused_by_its_kind() {
    let (listener, address) = tcp();
    let connected = TcpStream::connect(&address).unwrap();
    let file = File::open("/dev/null").unwrap();
    let said = Worker::new("tcp 0; tcp 1; tcp 2; tcp 3")
        .fd(&file)
        .fd(&connected)
        .fd(&listener)
        .numbered()
        .env("EINHORN_FD_COUNT", "4")
        .env("EINHORN_FD_2", "77")
        .env("EINHORN_FD_3", "5")
        .env("EINHORN_FD_FAMILY_3", "AF_UNIX")
        .run();
    assert_eq!(
        said,
        [
            "socket 0 (descriptor 3) is not a socket; check whether the variables belong to another process",
            "socket 1 (descriptor 4) is a TCP socket that does not listen, not a TCP listener; it was left in place \
             (if it used to listen, one of its holders has shut it down)",
            "socket 2 (descriptor 77) is not open; check whether a wrapper closed it, or the variables belong to another process",
            "socket 3 (descriptor 5) is a TCP listener, but the variables say AF_UNIX; check whether they belong to \
             another process",
        ]
    );
}

#[test]
fn a_correct_address_family_is_accepted() {
    let (four, four_address) = tcp();
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let worker = Worker::new("tcp 0; tcp 1").fd(&four).fd(&six).numbered();
    let said = worker.env("EINHORN_FD_FAMILY_0", "AF_INET").env("EINHORN_FD_FAMILY_1", "AF_INET6").run();
    assert_eq!(said, [four_address, six.local_addr().unwrap().to_string()]);
}

#[test]
fn programs_that_the_worker_runs_get_nothing_that_was_taken() {
    let ((first, address), (second, _)) = (tcp(), tcp());
    let worker = Worker::new("held 3 4; tcp 0; held 3 4").fd(&first).fd(&second).numbered();
    assert_eq!(worker.run(), ["3 4".to_owned(), address, "4".to_owned()]);
}

#[test]
fn too_few_sockets_are_an_error_with_their_number() {
    let (listener, address) = tcp();
    let said = Worker::new("tcp 1; bind 127.0.0.1:0; bind 127.0.0.1:0").fd(&listener).numbered().run();
    assert_eq!(
        said,
        [
            "there is no socket 1: the master passed 1, counted from 0; give the master -b ADDR:PORT once \
             more"
                .to_owned(),
            address,
            "all 1 sockets that were passed have been taken; give the master -b ADDR:PORT once more"
                .to_owned(),
        ]
    );
}

#[test]
fn inherit_or_bind_takes_the_tcp_listeners_in_order() {
    let ((first, first_address), (second, second_address)) = (tcp(), tcp());
    let (name, _) = unix_name("between");
    let between = UnixListener::bind_addr(&name).unwrap();
    let role = "bind 127.0.0.1:0; bind 127.0.0.1:0; bind 127.0.0.1:0; list";
    let said = Worker::new(role).fd(&first).fd(&between).fd(&second).numbered().run();
    assert_eq!(
        said,
        [
            first_address,
            second_address,
            "socket 1 (descriptor 4) is a Unix listener, not a TCP listener; it was left in place".to_owned(),
            "0 None 3 true None, 1 None 4 false Some(UnixListener), 2 None 5 true None".to_owned(),
        ]
    );
}

#[test]
fn without_a_master_a_server_binds_for_itself_and_says_where_it_cannot() {
    let (_taken, address) = tcp();
    let said = Worker::new(&format!("bind 127.0.0.1:0; bind {address}; bind nowhere; tcp 0; list")).run();
    assert!(said[0].starts_with("127.0.0.1:"), "{}", said[0]);
    assert_eq!(said[1], format!("cannot bind {address}: Address already in use (os error 98)"));
    assert_eq!(said[2], "cannot bind the given address: invalid socket address");
    assert_eq!(
        said[3],
        "no sockets were passed to this process: none of EINHORN_FD_COUNT, EINHORN_FDS and LISTEN_FDS is set; \
         start this program under a master (einhyrningsins -b ADDR:PORT -- PROGRAM), or let it bind for itself \
         (inherit_or_bind)"
    );
    assert_eq!(said[4], "");
}

#[test]
fn a_worker_of_a_master_without_sockets_does_not_bind_behind_its_back() {
    let said = Worker::new("bind 127.0.0.1:0").numbered().supervised().run();
    assert_eq!(
        said,
        [
            "no sockets were passed to this process: EINHORN_FD_COUNT says that the master has none; start the \
          master with -b ADDR:PORT, once for each socket that this program takes"
        ]
    );
}

#[test]
fn a_variable_that_makes_no_sense_stops_every_way_of_taking() {
    let bad = "cannot determine which sockets were passed to this process: EINHORN_FD_COUNT is \"two\", which is not a \
               usable number";
    assert_eq!(Worker::new("tcp 0; bind 127.0.0.1:0; list").env("EINHORN_FD_COUNT", "two").run(), [bad; 3]);
}
