use std::net::{TcpListener, UdpSocket};
use std::os::fd::IntoRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use proptest::prelude::*;

use super::*;
use crate::listen::{Family, Sockets};
use crate::sys::testing::isolated;

fn variables<'a>(of: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| of.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
}

fn read(of: &[(&str, &str)]) -> Result<Vec<(RawFd, Option<String>)>, String> {
    let activated = activated(variables(of), 77).map_err(|error| error.to_string())?;
    Ok(activated.into_iter().map(|socket| (socket.fd, socket.name)).collect())
}

#[test]
fn the_variables_of_socket_activation_are_read() {
    assert_eq!(read(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "77")]), Ok(vec![(3, None), (4, None)]));
    let named = [("LISTEN_FDS", "2"), ("LISTEN_PID", "77"), ("LISTEN_FDNAMES", "web:")];
    assert_eq!(read(&named), Ok(vec![(3, Some("web".into())), (4, None)]));
}

#[test]
fn faults_of_the_variables_are_named() {
    for (of, message) in [
        (&[][..], "no sockets were passed: LISTEN_FDS is not set"),
        (
            &[("LISTEN_FDS", "1")],
            "the sockets of LISTEN_FDS are not for this process (77): LISTEN_PID is not set",
        ),
        (
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "78")],
            "the sockets of LISTEN_FDS are not for this process (77): LISTEN_PID is 78",
        ),
        (
            &[("LISTEN_FDS", "x"), ("LISTEN_PID", "77")],
            r#"LISTEN_FDS is "x", which is not a number of sockets"#,
        ),
        (
            &[("LISTEN_FDS", "99999999"), ("LISTEN_PID", "77")],
            r#"LISTEN_FDS is "99999999", which is not a number of sockets"#,
        ),
        (
            &[("LISTEN_FDS", "2"), ("LISTEN_PID", "77"), ("LISTEN_FDNAMES", "web")],
            r#"LISTEN_FDNAMES is "web", which is not one name per socket of LISTEN_FDS"#,
        ),
    ] {
        assert_eq!(read(of).unwrap_err(), message);
    }
}

/// Passed sockets: `sockets` by socket activation, with these names.
fn passed(sockets: Vec<(OwnedFd, &str)>) -> (Passed, Vec<RawFd>) {
    let (fds, names): (Vec<_>, Vec<_>) =
        sockets.into_iter().map(|(socket, name)| (socket.into_raw_fd(), name.to_owned())).unzip();
    let activated = fds.iter().zip(names);
    let activated = activated.map(|(fd, name)| Activated { fd: *fd, name: Some(name) }).collect();
    (Passed { inherited: Inherited::new().unwrap(), activated: Ok(activated), taken: Vec::new() }, fds)
}

fn tcp() -> OwnedFd {
    TcpListener::bind("127.0.0.1:0").unwrap().into()
}

fn take(passed: &mut Passed, binds: &[&str]) -> Result<Vec<Listener>, String> {
    let binds = binds.iter().map(|text| text.parse().unwrap()).collect();
    let sockets = Sockets { binds, family: Family::Any, backlog: None };
    let mut listeners = Vec::new();
    for spec in &sockets.binds {
        let found = crate::listen::open(spec, &sockets, passed, false);
        listeners.extend(found.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?);
    }
    Ok(listeners)
}

#[test]
fn each_is_taken_once_by_number_by_name_or_with_the_rest() {
    isolated("listen::passed::tests::each_is_taken_once_by_number_by_name_or_with_the_rest", || {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let sockets = vec![(tcp(), "web"), (tcp(), "rest"), (tcp(), "web"), (udp, "rest"), (tcp(), "left")];
        let (mut passed, fds) = passed(sockets);
        let by_number = format!("fd:{},name=mine", fds[4]);
        let listeners = take(&mut passed, &["systemd", "systemd:web,n,backlog=7", &by_number]).unwrap();
        let found: Vec<_> = listeners
            .iter()
            .map(|listener| (listener.fd.as_raw_fd(), listener.name_at(0), listener.kind().name()))
            .collect();
        let expected = [
            (1, "rest", "tcp"),
            (3, "rest", "udp"),
            (0, "web", "tcp"),
            (2, "web", "tcp"),
            (4, "mine", "tcp"),
        ];
        assert_eq!(found, expected.map(|(at, name, kind)| (fds[at], name.to_owned(), kind)));
        assert_eq!((listeners[2].backlog, listeners[0].backlog), (7, 128));
        assert!(SockRef::from(&listeners[2]).nonblocking().unwrap());
        assert!(passed.leftovers().is_empty());
        let fd = fds[1];
        assert_eq!(
            take(&mut passed, &[&format!("fd:{fd}")]).unwrap_err(),
            format!("cannot take fd:{fd}: descriptor {fd} is taken by another -b")
        );
        assert_eq!(
            take(&mut passed, &["systemd"]).unwrap_err(),
            "cannot take systemd: no socket is left; 5 were passed, and other -b take them"
        );
        assert_eq!(
            take(&mut passed, &["systemd:nosuch"]).unwrap_err(),
            "cannot take systemd:nosuch: no socket of that name was passed; names that were passed: web, rest, web, rest, left"
        );
    });
}

#[test]
fn unused_sockets_are_reported() {
    isolated("listen::passed::tests::unused_sockets_are_reported", || {
        let (mut passed, fds) = passed(vec![(tcp(), "web"), (tcp(), "admin")]);
        take(&mut passed, &["systemd:web"]).unwrap();
        let fd = fds[1];
        let expected = "was passed to this master and is not used; use it with -b systemd:admin";
        assert_eq!(passed.leftovers(), [format!("descriptor {fd} (admin) {expected}")]);
    });
}

#[test]
fn stored_listeners_are_invisible_to_binds_and_not_warned_about() {
    isolated("listen::passed::tests::stored_listeners_are_invisible_to_binds_and_not_warned_about", || {
        let (mut passed, fds) = passed(vec![(tcp(), "bind-127.0.0.1%3A0"), (tcp(), "web")]);
        let mut kept = crate::master::KeptListeners::of(&mut passed);
        let taken = kept.take(&"127.0.0.1:0".parse().unwrap(), Default::default(), None, 1).unwrap();
        assert_eq!(taken.any().fd.as_raw_fd(), fds[0]);
        assert_eq!(take(&mut passed, &["systemd"]).unwrap().len(), 1);
        assert!(passed.leftovers().is_empty());
        assert!(
            take(&mut passed, &[&format!("fd:{}", fds[0])]).unwrap_err().ends_with("taken by another -b")
        );
    });
}

#[test]
fn sockets_that_a_worker_cannot_use_are_refused_with_a_reason() {
    isolated("listen::passed::tests::sockets_that_a_worker_cannot_use_are_refused_with_a_reason", || {
        let file = std::fs::File::open("/dev/null").unwrap().into();
        let (connected, _other) = UnixStream::pair().unwrap();
        let unbound = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap().into();
        let packets = UnixDatagram::unbound().unwrap().into();
        let netlink = socket2::Domain::from(libc::AF_NETLINK);
        let netlink = Socket::new(netlink, socket2::Type::RAW, None).unwrap().into();
        let sockets =
            vec![(file, "a"), (connected.into(), "b"), (unbound, "c"), (packets, "d"), (netlink, "e")];
        let (mut passed, fds) = passed(sockets);
        let [file, connected, unbound, packets, netlink] = fds.try_into().unwrap();
        for (fd, options, why) in [
            (file, "", format!("descriptor {file} is not a socket")),
            (connected, "", format!("descriptor {connected} is a Unix stream socket that does not listen")),
            (unbound, "", format!("descriptor {unbound} is a TCP socket that does not listen")),
            (
                packets,
                ",nodelay",
                format!(
                    "descriptor {packets}: \"nodelay\" does not apply to a Unix datagram socket; it is for TCP"
                ),
            ),
            (
                netlink,
                "",
                format!(
                    "descriptor {netlink} is a socket of family 16 and type 3, which a worker cannot get"
                ),
            ),
            (12_345, "", "descriptor 12345 is not open".to_owned()),
        ] {
            let error = take(&mut passed, &[&format!("fd:{fd}{options}")]).unwrap_err();
            assert!(error.ends_with(&why), "{error}\n{why}");
        }
    });
}

proptest! {
    #[test]
    fn any_variables_are_read_or_refused(count in "[0-9x+-]{0,4}", pid in "7{0,3}", names in ".{0,20}") {
        let of = [("LISTEN_FDS", count.as_str()), ("LISTEN_PID", &pid), ("LISTEN_FDNAMES", &names)];
        let _ = read(&of);
    }
}
