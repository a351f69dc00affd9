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
            "unix" => take::<UnixListener>(which, &mut taken, |it| name(&it.local_addr().unwrap())),
            "datagram" => take::<UnixDatagram>(which, &mut taken, |it| name(&it.local_addr().unwrap())),
            "any" => take::<OwnedFd>(which, &mut taken, |_| "some socket".to_owned()),
            "race" => Ok(race(&mut taken)),
            "bind" => bind::<TcpListener>(which, &mut taken, |it| it.local_addr().unwrap().to_string()),
            "bind-udp" => bind::<UdpSocket>(which, &mut taken, |it| it.local_addr().unwrap().to_string()),
            "bind-unix" => bind::<UnixListener>(which, &mut taken, |it| name(&it.local_addr().unwrap())),
            "bind-datagram" => bind::<UnixDatagram>(which, &mut taken, |it| name(&it.local_addr().unwrap())),
            #[cfg(feature = "tokio")]
            "tokio" => Ok(in_tokio()),
            "supervised" => Ok(format!("{} {:?}", einhorn_child::is_supervised(), einhorn_child::slot())),
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

fn bind<T>(
    address: &str,
    taken: &mut Vec<OwnedFd>,
    describe: impl FnOnce(&T) -> String,
) -> Result<String, TakeError>
where
    T: for<'a> einhorn_child::Bind<&'a str>,
    OwnedFd: From<T>,
{
    let socket: T = einhorn_child::inherit_or_bind(address)?;
    let text = describe(&socket);
    taken.push(socket.into());
    Ok(text)
}

/// Takes a socket of each kind as tokio has it, uses it, and returns what came.
#[cfg(feature = "tokio")]
fn in_tokio() -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp: net::TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:0").unwrap();
        let unix: net::UnixListener = einhorn_child::inherit_or_bind("@nowhere").unwrap();
        let udp: net::UdpSocket = einhorn_child::take("udp").unwrap();
        let datagram: net::UnixDatagram = einhorn_child::take(3).unwrap();
        let mut buffer = [0; 9];
        let mut said = String::new();
        let (mut client, _) = tcp.accept().await.unwrap();
        client.write_all(b"from tokio").await.unwrap();
        client.read_to_string(&mut said).await.unwrap();
        let (mut client, _) = unix.accept().await.unwrap();
        client.read_to_string(&mut said).await.unwrap();
        for length in [udp.recv(&mut buffer).await, datagram.recv(&mut buffer[3..]).await] {
            assert_eq!(length.unwrap(), 3);
        }
        said + std::str::from_utf8(&buffer[..6]).unwrap()
    })
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

/// An abstract name, or a path.
fn name(address: &SocketAddr) -> String {
    let path = || address.as_pathname().unwrap().to_str().unwrap().to_owned();
    address.as_abstract_name().map_or_else(path, |name| String::from_utf8(name.to_vec()).unwrap())
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
fn inherit_or_bind_takes_the_sockets_of_systemd_and_is_supervised_by_it() {
    let (web, web_address) = tcp();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let worker = Worker::activated("bind-udp 127.0.0.1:0; bind 127.0.0.1:0; bind 127.0.0.1:0; supervised");
    let said = worker.fd(&web).fd(&udp).env("LISTEN_FDS", "2").run();
    assert_eq!(said[..2], [udp.local_addr().unwrap().to_string(), web_address]);
    assert!(said[2].starts_with("all 2 sockets that were passed have been taken"), "{}", said[2]);
    assert_eq!(said[3], "true None");
    let said = Worker::new("supervised").fd(&web).env("LISTEN_FDS", "1").env("LISTEN_PID", "1").run();
    assert_eq!(said, ["false None"]);
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
fn inherit_or_bind_takes_the_next_socket_of_each_kind() {
    let (web, web_address) = tcp();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, unix_name_) = unix_name("next");
    let unix = UnixListener::bind_addr(&address).unwrap();
    let (address, datagram_name) = unix_name("next-datagram");
    let datagram = UnixDatagram::bind_addr(&address).unwrap();
    let said =
        Worker::new("bind-datagram @x; bind-unix @x; bind-udp 127.0.0.1:0; bind 127.0.0.1:0; bind-unix @x")
            .fd(&web)
            .fd(&udp)
            .fd(&unix)
            .fd(&datagram)
            .numbered()
            .run();
    let udp_address = udp.local_addr().unwrap().to_string();
    assert_eq!(said[..4], [datagram_name, unix_name_, udp_address, web_address]);
    assert!(said[4].starts_with("all 4 sockets"), "{}", said[4]);
}

#[test]
fn without_a_master_each_kind_of_socket_is_bound() {
    let directory = tempfile::tempdir().unwrap();
    let [unix, datagram] = ["unix", "datagram"].map(|name| directory.path().join(name).display().to_string());
    let (_, name) = unix_name("alone");
    let role = format!("bind-udp 127.0.0.1:0; bind-unix {unix}; bind-datagram {datagram}; bind-unix @{name}");
    let said = Worker::new(&role).run();
    assert!(said[0].starts_with("127.0.0.1:"), "{}", said[0]);
    assert_eq!(said[1..], [unix, datagram, name]);
}

/// As `SO_REUSEADDR` does for TCP: a server that was killed does not keep its successor from starting.
#[test]
fn the_file_that_a_unix_socket_left_is_replaced_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    let path = path.to_str().unwrap();
    let in_use = format!("cannot bind {path}: Address already in use (os error 98)");
    for (step, other) in [("bind-unix", "bind-datagram"), ("bind-datagram", "bind-unix")] {
        let role = format!("{step} {path}; {step} {path}; {other} {path}");
        // The second process finds the file of the first.
        for _ in 0..2 {
            assert_eq!(Worker::new(&role).run(), [path, &in_use, &in_use], "{role}");
        }
    }
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, "precious").unwrap();
    assert_eq!(Worker::new(&format!("bind-unix {path}")).run(), [&*in_use]);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}

#[cfg(feature = "tokio")]
#[test]
fn each_kind_of_socket_is_ready_in_tokio() {
    use std::io::{Read, Write};

    let (tcp, address) = tcp();
    let (unix_address, _) = unix_name("tokio");
    let unix = UnixListener::bind_addr(&unix_address).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (datagram_address, _) = unix_name("tokio-datagram");
    let datagram = UnixDatagram::bind_addr(&datagram_address).unwrap();
    // Blocking, as a master passes them.
    let worker = Worker::new("tokio").fd(&tcp).fd(&unix).fd(&udp).fd(&datagram).numbered();
    let worker = worker.env("LISTEN_FDNAMES", "tcp:unix:udp:datagram").spawn();
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut greeting = [0; 10];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"from tokio");
    client.write_all(b"tcp ").unwrap();
    drop(client);
    std::os::unix::net::UnixStream::connect_addr(&unix_address).unwrap().write_all(b"unix ").unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"udp", udp.local_addr().unwrap()).unwrap();
    UnixDatagram::unbound().unwrap().send_to_addr(b"dgm", &datagram_address).unwrap();
    assert_eq!(worker.finish(), ["tcp unix udpdgm"]);
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
