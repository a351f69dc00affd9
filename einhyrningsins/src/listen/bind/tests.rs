use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::umask;
use socket2::{SockAddr, SockRef};

use super::*;
use crate::sys::inherit::naming;
use crate::sys::testing::{PATIENCE, eventually, isolated};

fn bound(spec: &str, family: Family) -> Listener {
    bind(&spec.parse().unwrap(), family, None).unwrap()
}

/// The whole message, as the outermost layer prints it, and the hint.
fn refused(spec: &str, family: Family) -> (String, Option<String>) {
    let error = bind(&spec.parse().unwrap(), family, None).unwrap_err();
    let hint = error.hint();
    (format!("{:#}", anyhow::Error::from(error)), hint)
}

fn inet(listener: &Listener) -> SocketAddr {
    listener.address.inet().unwrap()
}

fn connects(ip: &str, listener: &Listener) -> bool {
    TcpStream::connect((ip, inet(listener).port())).is_ok()
}

#[test]
fn port_zero_is_bound_and_the_real_port_known() {
    let listener = bound("127.0.0.1:0", Family::Any);
    assert_ne!(inet(&listener).port(), 0);
    assert_eq!(inet(&listener).ip(), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(listener.address.family_name(), "AF_INET");
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
fn without_a_host_both_families_are_bound_or_the_one_of_the_option() {
    let both = bound(":0", Family::Any);
    assert_eq!(both.address.family_name(), "AF_INET6");
    assert!(connects("127.0.0.1", &both) && connects("::1", &both));
    let ipv4 = bound(":0", Family::V4);
    assert!(connects("127.0.0.1", &ipv4) && !connects("::1", &ipv4));
    let ipv6 = bound(":0", Family::V6);
    assert!(!connects("127.0.0.1", &ipv6) && connects("::1", &ipv6));
}

#[test]
fn no_host_falls_back_to_ipv4_only_where_there_is_no_ipv6() {
    let address = Address::Tcp((Ipv6Addr::UNSPECIFIED, 80).into());
    let failed =
        |errno| BindError::Bind { address: address.clone(), source: io::Error::from_raw_os_error(errno) };
    for errno in [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL] {
        assert_eq!(prefer_ipv6(|| Err(failed(errno)), || Ok(4)).unwrap(), 4);
    }
    assert!(prefer_ipv6(|| Err(failed(libc::EADDRINUSE)), || Ok(4)).is_err());
    assert_eq!(prefer_ipv6(|| Ok(6), || Ok(4)).unwrap(), 6);
}

#[test]
fn an_ipv6_wildcard_accepts_ipv4_too_unless_excluded() {
    let both = bound("[::]:0", Family::Any);
    assert!(connects("127.0.0.1", &both) && connects("::1", &both));
    let only = bound("[::]:0", Family::V6);
    assert!(SockRef::from(&only).only_v6().unwrap());
    assert!(!connects("127.0.0.1", &only) && connects("::1", &only));
}

#[test]
fn a_name_means_its_ipv4_address_unless_ipv6_is_asked_for() {
    assert_eq!(inet(&bound("localhost:0", Family::Any)).ip(), IpAddr::from([127, 0, 0, 1]));
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
    // The kernel queues backlog + 1 connections; the handshake of further ones does not finish.
    let listener = bind(&"127.0.0.1:0".parse().unwrap(), Family::Any, Some(1)).unwrap();
    let connect = |deadline| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.connect_timeout(&inet(&listener).into(), deadline).map(|()| socket)
    };
    let queued = [connect(PATIENCE).unwrap(), connect(PATIENCE).unwrap()];
    assert_eq!(connect(Duration::from_millis(100)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(queued);
}

#[test]
fn an_address_in_use_is_named_with_a_way_to_find_its_holder() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let (message, hint) = refused(&address.to_string(), Family::Any);
    assert_eq!(message, format!("cannot bind {address}: Address already in use (os error 98)"));
    let command = format!("ss -ltnp 'sport = :{}' shows what", address.port());
    assert!(hint.unwrap().ends_with(&command));
}

#[test]
fn an_address_of_another_machine_is_named() {
    // 203.0.113.0/24 is reserved for documentation (RFC 5737).
    let (message, hint) = refused("203.0.113.77:0", Family::Any);
    assert_eq!(message, "cannot bind 203.0.113.77:0: Cannot assign requested address (os error 99)");
    assert_eq!(hint.unwrap(), "this machine does not have the address; ip address shows those that it has");
}

#[test]
fn a_privileged_port_is_named() {
    isolated("listen::bind::tests::a_privileged_port_is_named", || {
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setuid(Uid::from_raw(65_534)).unwrap();
        }
        let lowest = read_number("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        assert!(lowest > 1, "this machine lets any user bind any port");
        let (message, hint) = refused("127.0.0.1:1", Family::Any);
        assert_eq!(message, "cannot bind 127.0.0.1:1: Permission denied (os error 13)");
        let expected = format!("ports below {lowest} need CAP_NET_BIND_SERVICE, or choose a higher port");
        assert_eq!(hint, Some(expected));
    });
}

#[test]
fn an_unknown_host_name_is_named() {
    // .invalid never resolves (RFC 2606).
    let (message, hint) = refused("nobody.invalid:80", Family::Any);
    assert!(message.starts_with("cannot look up the address of nobody.invalid: "), "{message}");
    assert!(hint.unwrap().contains("/etc/hosts"));
}

#[test]
fn each_option_is_on_the_socket() {
    let listener =
        bound("127.0.0.1:0,nodelay,keepalive,freebind,rcvbuf=10000,sndbuf=20000,backlog=9", Family::Any);
    let socket = SockRef::from(&listener);
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap() && socket.freebind_v4().unwrap());
    // The kernel doubles them.
    assert_eq!(socket.recv_buffer_size().unwrap(), 20_000);
    assert_eq!(socket.send_buffer_size().unwrap(), 40_000);
    assert_eq!((listener.backlog, listener.queue().unwrap().limit), (9, 9));
    assert_eq!(listener.shortfalls(), Vec::<String>::new());
    assert!(SockRef::from(&bound("[::1]:0,freebind", Family::Any)).freebind_v6().unwrap());
    assert_eq!(SockRef::from(&bound("127.0.0.1:0,device=lo", Family::Any)).device().unwrap().unwrap(), b"lo");
    for option in ["defer", "fastopen", "fastopen=3"] {
        bound(&format!("127.0.0.1:0,{option}"), Family::Any);
    }
}

#[test]
fn freebind_binds_an_address_that_the_machine_does_not_have() {
    let listener = bound("203.0.113.77:0,freebind", Family::Any);
    assert_eq!(inet(&listener).ip(), IpAddr::from([203, 0, 113, 77]));
}

#[test]
fn an_option_that_the_system_refuses_is_named() {
    let (message, hint) = refused("127.0.0.1:0,device=nosuch0", Family::Any);
    assert_eq!(message, "cannot set device=nosuch0 on 127.0.0.1:0: No such device (os error 19)");
    assert_eq!(hint.unwrap(), "ip link shows the network interfaces");
    isolated("listen::bind::tests::an_option_that_the_system_refuses_is_named", || {
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setuid(Uid::from_raw(65_534)).unwrap();
        }
        let (message, hint) = refused("127.0.0.1:0,mark=7", Family::Any);
        assert_eq!(message, "cannot set mark=7 on 127.0.0.1:0: Operation not permitted (os error 1)");
        assert_eq!(hint.unwrap(), "mark needs CAP_NET_ADMIN");
        let short = bound("127.0.0.1:0,rcvbuf=2000000000", Family::Any).shortfalls();
        assert!(short[0].contains("instead of 2000000000: net.core.rmem_max allows no more"), "{short:?}");
    });
}

#[test]
fn udp_receives_and_does_not_listen() {
    let socket = bound("udp:127.0.0.1:0,n", Family::Any);
    assert_eq!((socket.kind(), socket.backlog), (SocketKind::Udp, 0));
    assert_eq!(socket.address.to_string(), format!("udp:{}", inet(&socket)));
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"hello", inet(&socket)).unwrap();
    assert!(socket.queue().unwrap().length > 0);
    // Two masters on one port would share its packets.
    let (message, hint) = refused(&format!("udp:{}", inet(&socket)), Family::Any);
    assert_eq!(message, format!("cannot bind {}: Address already in use (os error 98)", socket.address));
    assert!(hint.unwrap().contains("ss -lunp"));
}

/// A path in a temporary directory, which is removed when dropped.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    (directory, path)
}

#[test]
fn a_unix_socket_is_a_file_as_long_as_the_listener_lives() {
    for kind in ["unix", "seqpacket"] {
        let (directory, path) = place();
        let listener = bound(&format!("{kind}:{},backlog=5", path.display()), Family::Any);
        assert_eq!(listener.address.to_string(), format!("{kind}:{}", path.display()));
        assert_eq!(listener.address.family_name(), "AF_UNIX");
        assert_eq!(listener.address.path(), Some(path.as_path()));
        let socket_type = if kind == "unix" { Type::STREAM } else { Type::SEQPACKET };
        let client = Socket::new(Domain::UNIX, socket_type, None).unwrap();
        client.connect(&SockAddr::unix(&path).unwrap()).unwrap();
        let queue = listener.queue().unwrap();
        assert_eq!((queue.length, queue.limit, queue.drops), (1, 5, None));
        drop(listener);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{kind}");
    }
}

#[test]
fn a_unix_socket_has_the_mode_that_was_asked_for_whatever_the_umask() {
    isolated("listen::bind::tests::a_unix_socket_has_the_mode_that_was_asked_for_whatever_the_umask", || {
        for (mask, option, expected) in
            [(0o077, ",mode=666", 0o666), (0, ",mode=600", 0o600), (0o027, "", 0o750)]
        {
            umask(Mode::from_bits_truncate(mask));
            let (_directory, path) = place();
            let _listener = bound(&format!("unix:{}{option}", path.display()), Family::Any);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, expected, "{option} with umask {mask:03o}");
            assert_eq!(umask(Mode::empty()).bits(), mask, "the umask must be unchanged");
        }
    });
}

#[test]
fn a_unix_socket_is_given_to_its_owner_or_refused_by_name() {
    let (directory, path) = place();
    let spec = |options: &str| format!("unix:{}{options}", path.display());
    assert_eq!(
        refused(&spec(",user=nobody-of-that-name"), Family::Any).0,
        "no such user: nobody-of-that-name"
    );
    assert_eq!(refused(&spec(",group=nogroup-here"), Family::Any).0, "no such group: nogroup-here");
    let us = format!("{},user={}", spec(""), nix::unistd::geteuid());
    drop(bound(&us, Family::Any));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    isolated("listen::bind::tests::a_unix_socket_is_given_to_its_owner_or_refused_by_name", || {
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setuid(Uid::from_raw(65_534)).unwrap();
        }
        let (directory, path) = place();
        let (message, _) = refused(&format!("unix:{},user=0", path.display()), Family::Any);
        let why = "it cannot be given to user=0: Operation not permitted (os error 1)";
        assert_eq!(message, format!("cannot bind unix:{}: {why}", path.display()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a file was left behind");
    });
}

#[test]
fn a_path_in_use_is_refused_and_left_alone() {
    let (_directory, path) = place();
    let spec = format!("unix:{}", path.display());
    let other = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    other.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    let (message, hint) = refused(&spec, Family::Any);
    assert_eq!(message, format!("cannot bind {spec}: another process has bound a socket there"));
    assert_eq!(hint.unwrap(), "ss -xlp shows what has it; stop that, or give another path");
    other.listen(1).unwrap();
    let (message, _) = refused(&spec, Family::Any);
    let us = std::process::id();
    assert_eq!(message, format!("cannot bind {spec}: process {us} is listening there"));
    UnixStream::connect(&path).unwrap();
    drop(other);
    // A child that another test is spawning may hold a copy until its exec.
    eventually("a stale socket to be replaced", || bind(&spec.parse().unwrap(), Family::Any, None).is_ok());
}

#[test]
fn anything_but_a_socket_is_refused_and_left_alone() {
    let (_directory, path) = place();
    std::fs::write(&path, "precious").unwrap();
    let (message, hint) = refused(&format!("unix:{}", path.display()), Family::Any);
    assert_eq!(message, format!("cannot bind unix:{}: it is not a socket", path.display()));
    assert_eq!(hint.unwrap(), "move it away, or give another path");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let long = path.with_file_name("x".repeat(108));
    assert!(
        refused(&format!("unix:{}", long.display()), Family::Any).0.contains("a socket path has at most 107")
    );
    let (_, hint) = refused("unix:/nonexistent/a.sock", Family::Any);
    assert_eq!(hint.unwrap(), "make the directory, or give another path");
}

#[test]
fn a_file_that_was_replaced_is_not_removed() {
    let (_directory, path) = place();
    let listener = bound(&format!("unix:{}", path.display()), Family::Any);
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(listener);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn an_abstract_name_is_bound_and_leaves_no_file() {
    let (directory, _) = place();
    let name = directory.path().display().to_string();
    let listener = bound(&format!("unix:@{name}"), Family::Any);
    assert_eq!(listener.address.to_string(), format!("unix:@{name}"));
    let (message, hint) = refused(&format!("unix:@{name}"), Family::Any);
    assert_eq!(message, format!("cannot bind unix:@{name}: Address already in use (os error 98)"));
    assert!(hint.unwrap().starts_with("ss -xlp"));
    // Names are separate per socket type.
    bound(&format!("seqpacket:@{name}"), Family::Any);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_saved_listener_names_the_descriptors_to_hand_over() {
    let (_directory, path) = place();
    let listener = bound(&format!("unix:{},name=web", path.display()), Family::Any);
    let (json, written) = naming(|| serde_json::to_string(&listener).unwrap());
    let (again, read) = naming(|| serde_json::from_str::<Listener>(&json).unwrap());
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    drop(again);
    assert!(path.exists(), "a listener that is only looked at removes nothing");
    assert_eq!((written.len(), &read), (2, &written), "the socket and the lock of its path");
    let inode = std::fs::metadata(&path).unwrap().ino();
    assert!(json.contains(&format!(r#""inode":{inode},"#)), "{json}");
    let old = r#"{"fd":7,"bind":"127.0.0.1:80,n","address":"127.0.0.1:80","backlog":5}"#;
    assert_eq!(naming(|| serde_json::from_str::<Listener>(old).unwrap()).1, [7]);
}
