use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::{Ipv6Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;
use socket2::{Protocol, Type};
use tempfile::TempDir;

use super::*;
use crate::listen::{BindAddress, BindSpec, Family, bind};
use crate::sys::inherit::naming;
use crate::sys::tcp_option::DEFER_SECONDS;

/// A control socket that is not there, and where its trials have their directory.
struct Setting {
    above: TempDir,
    control: PathBuf,
    trial: PathBuf,
}

fn place() -> Setting {
    let above = tempfile::tempdir().unwrap();
    let [control, trial] = ["c", "c.trial"].map(|name| above.path().join(name));
    Setting { above, control, trial }
}

impl Setting {
    fn open(&self, listeners: &[Listener]) -> Result<Twins, TwinError> {
        Twins::open(listeners, &self.control, None)
    }

    fn bound(&self, spec: &str) -> Listener {
        let spec = spec.replace("DIR", self.above.path().to_str().unwrap());
        bind(&spec.parse().unwrap(), Family::Any, None).unwrap()
    }

    /// The message as the outermost layer prints it, and the hint.
    fn refused(&self, listeners: &[Listener], user: Option<u32>) -> (String, Option<String>) {
        let error = Twins::open(listeners, &self.control, user).unwrap_err();
        assert!(!error.is_transient(), "{error}");
        let hint = error.hint();
        let message = format!("{:#}", anyhow::Error::from(error));
        let (start, message) = message.split_once(": ").unwrap();
        assert_eq!(
            start,
            format!("cannot use the directory {} for the sockets of a trial", self.trial.display())
        );
        (message.to_owned(), hint)
    }
}

/// As a socket that was passed.
fn passed(socket: impl Into<OwnedFd>) -> Listener {
    let socket = socket.into();
    let kind = SocketKind::of(&SockRef::from(&socket)).unwrap().unwrap();
    Listener {
        address: Address::of(&socket, kind).unwrap(),
        fd: Kept::Open(socket),
        spec: "systemd:x".parse().unwrap(),
        backlog: 5,
        passed_name: Some("x".into()),
        place: None,
    }
}

#[test]
fn a_twin_has_the_family_and_the_type_of_its_socket_and_an_address_of_its_own() {
    let place = place();
    let datagrams = UnixDatagram::bind(place.above.path().join("d")).unwrap();
    let listeners = [
        place.bound("127.0.0.1:0"),
        place.bound(":0"),
        place.bound("udp:0.0.0.0:0"),
        place.bound("udp:[::1]:0"),
        place.bound("unix:DIR/s"),
        place.bound("unix:@DIR"),
        place.bound("seqpacket:DIR/p"),
        passed(datagrams),
        passed(std::net::TcpListener::bind("127.0.0.1:0").unwrap()),
    ];
    let twins = place.open(&listeners).unwrap();
    let sockets = twins.sockets();
    assert_eq!(sockets.len(), listeners.len());
    for ((real, twin), fd) in listeners.iter().zip(&twins.listeners).zip(sockets) {
        let (asked, socket) = (SockRef::from(real), SockRef::from(&fd));
        assert_eq!(socket.domain().unwrap(), asked.domain().unwrap());
        assert_eq!(socket.r#type().unwrap(), asked.r#type().unwrap());
        assert_eq!(socket.protocol().unwrap(), asked.protocol().unwrap());
        assert_eq!(twin.kind(), real.kind());
        assert_ne!(twin.address, real.address);
        assert_eq!(twin.address, Address::of(&fd, twin.kind()).unwrap());
        assert_eq!(socket.is_listener().unwrap(), real.kind().has_connections());
        assert_eq!(twin.backlog, real.backlog);
        let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
    let ips = twins.listeners.iter().filter_map(|twin| Some(twin.address.inet()?.ip().to_string()));
    assert_eq!(ips.collect::<Vec<_>>(), ["127.0.0.1", "::1", "127.0.0.1", "::1", "127.0.0.1"]);
    let names = ["4", "5", "6", "7"].map(|name| place.trial.join(name));
    let paths: Vec<_> = twins.listeners.iter().filter_map(|twin| twin.address.path()).collect();
    assert_eq!(paths, names);
}

#[test]
fn clients_reach_a_twin_and_not_the_real_socket() {
    let place = place();
    let datagrams = UnixDatagram::bind(place.above.path().join("d")).unwrap();
    let listeners = [
        place.bound("127.0.0.1:0,n"),
        place.bound("udp:127.0.0.1:0,n"),
        place.bound("unix:DIR/s,n"),
        place.bound("seqpacket:DIR/p,n"),
        passed(datagrams),
    ];
    let twins = place.open(&listeners).unwrap();
    for (real, twin) in listeners.iter().zip(&twins.listeners) {
        let (domain, kind) = (SockRef::from(twin).domain().unwrap(), SockRef::from(twin).r#type().unwrap());
        let client = Socket::new(domain, kind, None).unwrap();
        client.connect(&twin.address.to_sockaddr().unwrap()).unwrap();
        client.send(b"x").unwrap();
        if let (Some(of_real), Some(of_twin)) = (real.queue(), twin.queue()) {
            assert_eq!(of_real.length, 0, "{}", real.address);
            assert!(of_twin.length > 0, "{}", twin.address);
        }
    }
}

#[test]
fn without_an_ipv6_loopback_a_dual_stack_twin_is_at_that_of_ipv4() {
    let socket = || Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).unwrap();
    let bind_where_there_is_none = |socket: &Socket, only_v6| {
        bind_ipv6(only_v6, |ip| match ip {
            Ipv6Addr::LOCALHOST => Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
            ip => socket.bind(&SocketAddr::from((ip, 0)).into()),
        })
    };
    let dual = socket();
    dual.set_only_v6(false).unwrap();
    bind_where_there_is_none(&dual, false).unwrap();
    dual.listen(1).unwrap();
    let address = Address::of(&dual, SocketKind::Tcp).unwrap();
    assert_eq!(address.family_name(), "AF_INET6");
    let port = address.inet().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    TcpStream::connect(address.inet().unwrap()).unwrap();
    assert_eq!(written(&address), format!("[::ffff:127.0.0.1]:{port}"));
    written(&address).parse::<BindSpec>().unwrap();
    assert!(is_missing(&bind_where_there_is_none(&socket(), true).unwrap_err()));
}

#[test]
fn the_options_of_a_socket_are_copied_but_not_what_ties_it_to_the_outside() {
    let place = place();
    let options =
        "n,nodelay,keepalive,defer,rcvbuf=10000,sndbuf=20000,backlog=9,device=lo,freebind,fastopen=3";
    let reals = [
        place.bound(&format!("127.0.0.1:0,{options}")),
        place.bound("127.0.0.1:0"),
        place.bound("[::1]:0,freebind,reuseport"),
        place.bound("udp:127.0.0.1:0,n,rcvbuf=10000"),
        place.bound("unix:DIR/s,n,sndbuf=20000,mode=600"),
    ];
    // Without CAP_NET_ADMIN there is no mark.
    let _ = SockRef::from(&reals[0]).set_mark(7);
    // As a worker may have set it since.
    SockRef::from(&reals[1]).set_keepalive(true).unwrap();
    let twins = place.open(&reals).unwrap();
    for (real, twin) in reals.iter().zip(&twins.listeners) {
        let (asked, socket) = (SockRef::from(real), SockRef::from(twin));
        assert_eq!(socket.nonblocking().unwrap(), asked.nonblocking().unwrap());
        assert_eq!(socket.recv_buffer_size().unwrap(), asked.recv_buffer_size().unwrap());
        assert_eq!(socket.send_buffer_size().unwrap(), asked.send_buffer_size().unwrap());
        assert_eq!(twin.queue().map(|queue| queue.limit), real.queue().map(|queue| queue.limit));
        if real.kind() == SocketKind::Tcp {
            assert_eq!(socket.tcp_nodelay().unwrap(), asked.tcp_nodelay().unwrap());
            assert_eq!(socket.keepalive().unwrap(), asked.keepalive().unwrap());
            assert_eq!(socket.reuse_address().unwrap(), asked.reuse_address().unwrap());
            assert_eq!(defer_accept(twin).unwrap(), defer_accept(real).unwrap());
            assert!(!socket.reuse_port().unwrap());
        }
    }
    let [all, six] = [0, 2].map(|index: usize| SockRef::from(&twins.listeners[index]));
    assert!(all.tcp_nodelay().unwrap() && defer_accept(&twins.listeners[0]).unwrap() >= DEFER_SECONDS);
    assert!(SockRef::from(&twins.listeners[1]).keepalive().unwrap());
    assert_eq!((all.device().unwrap(), all.freebind_v4().unwrap(), all.mark().unwrap()), (None, false, 0));
    assert!(!six.freebind_v6().unwrap());
}

#[test]
fn addresses_are_written_as_b_takes_them() {
    let mut place = place();
    place.above = tempfile::Builder::new().prefix(r"a,b\\c").tempdir().unwrap();
    place.control = place.above.path().join("c");
    let datagrams = UnixDatagram::bind(place.above.path().join("d")).unwrap();
    let names = [r"unix:@a", "seqpacket:@a"].map(|name| format!("{name}{}", std::process::id()));
    let listeners = [
        place.bound("127.0.0.1:0"),
        place.bound(":0"),
        place.bound("udp:127.0.0.1:0"),
        place.bound("udp:[::1]:0"),
        place.bound(&names[0]),
        place.bound(&names[1]),
        passed(datagrams),
    ];
    let twins = place.open(&listeners).unwrap();
    let addresses = twins.addresses();
    for (twin, address) in twins.listeners.iter().zip(&addresses[..6]) {
        let spec: BindSpec = address.parse().unwrap();
        assert_eq!(&spec.to_string(), address);
        let meant = match (twin.address.path(), spec.address) {
            (
                Some(path),
                BindAddress::Unix(Place::Path(read)) | BindAddress::Seqpacket(Place::Path(read)),
            ) => read == path,
            (None, _) => *address == twin.address.to_string(),
            _ => false,
        };
        assert!(meant, "{address}");
    }
    assert!(
        addresses[6].starts_with("unix-datagram:/") && addresses[6].ends_with(".trial/6"),
        "{addresses:?}"
    );
}

#[test]
fn the_variables_describe_the_twins() {
    let place = place();
    let listeners = [
        place.bound("0.0.0.0:0,name=web"),
        place.bound("unix:@DIR"),
        passed(std::net::TcpListener::bind("[::1]:0").unwrap()),
    ];
    let twins = place.open(&listeners).unwrap();
    let exported: BTreeMap<_, _> = twins.exports(Generation(3)).into_iter().collect();
    let [web, _, six] = &twins.addresses()[..] else { panic!("{twins:?}") };
    assert_eq!(
        exported["SERVER_STARTER_PORT"],
        format!("{web}=3;{}=4;{six}=5", place.trial.join("1").display())
    );
    assert_eq!(exported["LISTEN_FDNAMES"], "web:socket-1:x");
    assert_eq!(exported["EINHORN_FD_FAMILY_1"], "AF_UNIX");
    assert_eq!(exported["SERVER_STARTER_GENERATION"], "3");
}

/// Another user; without root, the test's own.
fn other_user() -> u32 {
    if Uid::effective().is_root() { 54_321 } else { Uid::effective().as_raw() }
}

#[test]
fn the_directory_belongs_to_the_workers_user_alone_and_goes_with_the_twins() {
    let place = place();
    let listeners = [place.bound("127.0.0.1:0"), place.bound("unix:DIR/s")];
    for user in [None, Some(other_user())] {
        let twins = Twins::open(&listeners, &place.control, user).unwrap();
        let found = fs::metadata(&place.trial).unwrap();
        let expected = user.unwrap_or(Uid::effective().as_raw());
        assert_eq!((found.uid(), found.mode() & 0o777), (expected, 0o700));
        assert_eq!(fs::metadata(place.trial.join("1")).unwrap().uid(), expected);
        UnixStream::connect(place.trial.join("1")).unwrap();
        drop(twins);
        assert!(!place.trial.exists());
    }
    // Without Unix sockets there is no need for one.
    let _twins = place.open(&listeners[..1]).unwrap();
    assert!(!place.trial.exists());
}

#[test]
fn what_a_crash_left_is_removed() {
    let place = place();
    let listeners = [place.bound("unix:DIR/s")];
    Twins::clear(&place.control, None).unwrap();
    for user in [None, Some(other_user())] {
        for again in [false, true] {
            let mut left = Twins::open(&listeners, &place.control, user).unwrap();
            left.directory.as_mut().unwrap().die();
            drop(left);
            let _other = UnixListener::bind(place.trial.join("temporary")).unwrap();
            if again {
                drop(Twins::open(&listeners, &place.control, user).unwrap());
            } else {
                Twins::clear(&place.control, user).unwrap();
            }
            assert!(!place.trial.exists());
        }
    }
}

#[test]
fn what_is_not_a_trials_is_refused_and_left_alone() {
    let place = place();
    let listeners = [place.bound("unix:DIR/s")];
    let refused = |message: &str| {
        let (found, hint) = place.refused(&listeners, None);
        assert_eq!(found, message);
        assert_eq!(hint.unwrap(), "move it away");
        assert!(Twins::clear(&place.control, None).is_err());
    };
    fs::write(&place.trial, "precious").unwrap();
    refused("something else has that name");
    assert_eq!(fs::read_to_string(&place.trial).unwrap(), "precious");
    fs::remove_file(&place.trial).unwrap();

    let elsewhere = place.above.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o700)).unwrap();
    let _socket = UnixListener::bind(elsewhere.join("0")).unwrap();
    symlink(&elsewhere, &place.trial).unwrap();
    refused("something else has that name");
    assert!(elsewhere.join("0").exists() && place.trial.is_symlink());
    fs::remove_file(&place.trial).unwrap();

    fs::rename(&elsewhere, &place.trial).unwrap();
    fs::set_permissions(&place.trial, Permissions::from_mode(0o750)).unwrap();
    let us = Uid::effective();
    refused(&format!("there is one already, of user {us} with mode 750"));
    fs::set_permissions(&place.trial, Permissions::from_mode(0o700)).unwrap();
    if us.is_root() {
        chown(&place.trial, Some(other_user()), None).unwrap();
        refused(&format!("there is one already, of user {} with mode 700", other_user()));
        chown(&place.trial, Some(us.as_raw()), None).unwrap();
    }
    assert!(place.trial.join("0").exists());

    fs::write(place.trial.join("notes"), "precious").unwrap();
    refused("there is one already, with other files in it, such as notes");
    assert_eq!(fs::read_to_string(place.trial.join("notes")).unwrap(), "precious");
}

#[test]
fn twins_remove_only_their_own_files() {
    let place = place();
    let listeners = [place.bound("unix:DIR/s"), place.bound("seqpacket:DIR/p")];
    let old = place.open(&listeners).unwrap();
    let new = place.open(&listeners).unwrap();
    drop(old);
    UnixStream::connect(place.trial.join("0")).unwrap();
    fs::write(place.trial.join("notes"), "precious").unwrap();
    drop(new);
    assert_eq!(fs::read_dir(&place.trial).unwrap().count(), 1);
}

#[test]
fn a_path_that_is_too_long_is_refused_before_anything_is_made() {
    let mut place = place();
    let listeners = [place.bound("127.0.0.1:0"), place.bound("unix:DIR/s")];
    let base = place.above.path().as_os_str().len();
    let name = |bytes: usize| "x".repeat(bytes - base - 1);
    // With ".trial/1", 107 bytes.
    place.control = place.above.path().join(name(99));
    drop(place.open(&listeners).unwrap());
    place.control = place.above.path().join(name(100));
    place.trial = place.above.path().join(name(100) + ".trial");
    let (message, hint) = place.refused(&listeners, None);
    assert_eq!(message, "the path of a socket in it has 108 bytes; a socket path has at most 107");
    assert_eq!(hint.unwrap(), "give the control socket a shorter path (-d PATH)");
    assert!(!place.trial.exists());
}

#[test]
fn a_failure_names_the_socket_and_leaves_nothing() {
    let place = place();
    let listeners = [place.bound("unix:DIR/s"), place.bound("127.0.0.1:0")];
    let shortage = TwinError::Socket {
        address: listeners[1].address.clone(),
        source: io::Error::from_raw_os_error(libc::EMFILE),
    };
    assert!(shortage.is_transient());
    assert_eq!(shortage.to_string(), format!("cannot make a private twin of {}", listeners[1].address));
    let name = "listen::twin::tests::a_failure_names_the_socket_and_leaves_nothing";
    crate::sys::testing::isolated(name, || {
        let place = self::place();
        let listeners = [place.bound("unix:DIR/s"), place.bound("127.0.0.1:0")];
        let highest = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        for room in 0..4 {
            setrlimit(Resource::RLIMIT_NOFILE, highest - 1 + room, hard).unwrap();
            let opened = place.open(&listeners);
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
            assert!(opened.map(drop).map_or_else(|error| error.is_transient(), |()| true), "{room}");
            assert!(!place.trial.exists(), "{room}");
        }
    });
}

#[test]
fn twins_cross_a_handover() {
    let place = place();
    let twins = place.open(&[place.bound("unix:DIR/s"), place.bound("127.0.0.1:0")]).unwrap();
    let (json, written) = naming(|| serde_json::to_string(&twins).unwrap());
    let (again, read) = naming(|| serde_json::from_str::<Twins>(&json).unwrap());
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    assert_eq!((written.len(), read), (2, written));
    assert_eq!(again.addresses(), twins.addresses());
    drop(again);
    assert!(place.trial.join("0").exists(), "twins that are only looked at remove nothing");
}
