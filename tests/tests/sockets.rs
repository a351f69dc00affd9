//! Sockets of every kind, bound by the master or passed to it: served, upgraded, handed over and cleaned up.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr as InetAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use einhorn_proto::{ListenerStatus, Status};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::User;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use tests::load::Plan;
use tests::wait::patience;
use tests::{Gate, Master, MasterBuilder};

tests::trials! {
    each_kind_of_socket_is_served_told_of_and_handed_over,
    a_unix_socket_under_load_loses_nothing_by_upgrades_and_reloads,
    packets_are_answered_through_upgrades,
    connections_that_wait_show_in_the_status,
    a_socket_of_socket_activation_is_served needs "systemd",
    sockets_of_socket_activation_are_told_apart_by_name needs "systemd",
    a_socket_that_was_passed_and_is_not_used_is_warned_of needs "systemd",
    a_socket_that_the_parent_has_left_open_is_served,
    what_cannot_be_had_is_refused_in_words,
    a_unix_socket_is_given_to_its_owner needs "root",
    what_a_killed_master_has_left_is_taken_over_and_what_a_living_one_has_is_not,
}

/// A master of some workers on these sockets alone.
fn on<S: AsRef<str>>(workers: u32, binds: impl IntoIterator<Item = S>) -> MasterBuilder {
    let builder = Master::builder().workers(workers).without_bind();
    binds.into_iter().fold(builder, |builder, bind| builder.options(["-b", bind.as_ref()]))
}

/// The text of `-b` for a file of the test.
fn at(kind: &str, path: &Path) -> String {
    format!("{kind}:{}", path.display())
}

fn addresses(status: &Status) -> Vec<&str> {
    status.listeners.iter().map(|listener| listener.address.as_str()).collect()
}

/// Where a UDP listener is.
fn udp_address(listener: &ListenerStatus) -> InetAddr {
    let address = listener.address.strip_prefix("udp:").and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("{listener:?} is no UDP socket"))
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/// The body of the answer that comes over a connection.
#[track_caller]
fn facts(mut stream: impl Read + Write) -> Value {
    stream.write_all(REQUEST).expect("a request is sent");
    // At once as much as can come: of a packet, what does not fit is lost.
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        match stream.read(&mut bytes[length..]).expect("an answer to its end") {
            0 => break,
            count => length += count,
        }
    }
    let answer = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// The answer to one packet.
#[track_caller]
fn packet_facts(to: InetAddr) -> Value {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(patience())).expect("a time-out");
    socket.send_to(b"hello", to).expect("a packet is sent");
    let mut answer = [0; 512];
    let count = socket.recv(&mut answer).expect("an answer");
    serde_json::from_slice(&answer[..count]).expect("facts")
}

fn seqpacket(path: &Path) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    socket.connect(&SockAddr::unix(path).expect("an address")).expect("a listener");
    socket
}

fn abstract_stream(name: &str) -> UnixStream {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    UnixStream::connect_addr(&address).expect("a listener")
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn each_kind_of_socket_is_served_told_of_and_handed_over() {
    let builder = Master::builder();
    let (here, name) = (builder.file("here"), builder.file("x").display().to_string());
    fs::create_dir(&here).expect("a directory");
    let binds = [
        "unix:web.sock,mode=640,name=web".to_owned(),
        "udp:127.0.0.1:0,name=packets,rcvbuf=50000".to_owned(),
        "seqpacket:./seq.sock,backlog=9".to_owned(),
        format!("unix:@{name}"),
    ];
    let builder = binds.iter().fold(builder.without_bind(), |builder, bind| builder.options(["-b", bind]));
    let mut master = builder.workers(2).current_dir(&here).option("-g").start();

    let check = |master: &mut Master| {
        let status = master.status();
        let (web, seq) = (here.join("web.sock"), here.join("seq.sock"));
        let udp = udp_address(&status.listeners[1]);
        let expected =
            [at("unix", &web), format!("udp:{udp}"), at("seqpacket", &seq), format!("unix:@{name}")];
        assert_eq!(addresses(&status), expected, "{master}");
        let kinds: Vec<_> = status
            .listeners
            .iter()
            .map(|listener| (listener.kind.as_str(), listener.family.as_str(), listener.name.as_str()))
            .collect();
        let expected = [
            ("unix", "AF_UNIX", "web"),
            ("udp", "AF_INET", "packets"),
            ("seqpacket", "AF_UNIX", "socket-2"),
            ("unix", "AF_UNIX", "socket-3"),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(fs::metadata(&web).expect("the socket").permissions().mode() & 0o7777, 0o640);
        let limits = [0, 1, 2].map(|index: usize| status.listeners[index].queue.expect("a queue").limit);
        assert_eq!((limits[1], limits[2]), (100_000, 9), "{status:?}");
        assert_eq!(status.listeners[0].backlog, limits[0]);
        assert_eq!(facts(UnixStream::connect(&web).expect("a listener"))["listener"], 0);
        assert!(packet_facts(udp)["pid"].is_u64());
        assert_eq!(facts(seqpacket(&seq))["listener"], 2);
        assert_eq!(facts(abstract_stream(&name))["listener"], 3);
        let environment = master.workers_up()[0].environment();
        let variable = |name: &str| environment.get(name).cloned().unwrap_or_default();
        assert_eq!(variable("LISTEN_FDNAMES"), "web:packets:socket-2:socket-3");
        let families = [0, 1, 2, 3].map(|index| variable(&format!("EINHORN_FD_FAMILY_{index}")));
        assert_eq!(families, ["AF_UNIX", "AF_INET", "AF_UNIX", "AF_UNIX"]);
        assert_eq!(
            variable("SERVER_STARTER_PORT"),
            format!("{}=3;127.0.0.1:u{}=4", web.display(), udp.port())
        );
        udp
    };
    let udp = check(&mut master);
    master.ctl(["reload"]).assert_code(0);
    assert_eq!(check(&mut master), udp, "the same port");
    master.upgrade();
    check(&mut master);
    master.ctl(["reload"]).assert_code(0);
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert_eq!(files(&here), Vec::<String>::new(), "the sockets go with the master that was handed them");
}

fn a_unix_socket_under_load_loses_nothing_by_upgrades_and_reloads() {
    let builder = Master::builder();
    let path = builder.file("web.sock");
    let mut master = builder.workers(3).without_bind().options(["-b", &at("unix", &path)]).start();
    let load = Plan::new(path.as_path()).start();
    for _ in 0..2 {
        load.wait_for_answers(300);
        master.upgrade();
        load.wait_for_answers(300);
        master.ctl(["reload"]).assert_code(0);
    }
    load.wait_for_answers(300);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations(), [1, 2, 3].into(), "{report}");
}

fn packets_are_answered_through_upgrades() {
    let mut master = on(2, ["udp:127.0.0.1:0"]).start();
    let to = udp_address(&master.status().listeners[0]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(patience())).expect("a time-out");
    for _ in 0..3 {
        let mut control = master.control();
        control.send(r#"{"command":"upgrade"}"#);
        // As many as fit into the queue with room to spare, while workers come and go.
        (0..50).for_each(|_| assert!(socket.send_to(b"hello", to).is_ok()));
        (0..50).for_each(|_| assert!(socket.recv(&mut [0; 512]).is_ok(), "a packet was lost\n{master}"));
        assert_eq!(control.replies().last().and_then(|reply| reply.ok), Some(true), "{master}");
    }
    assert_eq!(master.status().listeners[0].queue.and_then(|queue| queue.drops), Some(0));
}

fn connections_that_wait_show_in_the_status() {
    let builder = Master::builder();
    let (gate, path) = (Gate::closed(builder.file("gate")), builder.file("web.sock"));
    let builder = builder.options(["-b", &format!("{},backlog=5", at("unix", &path))]);
    let mut master = builder.serve([gate.knob()]).start_unready();
    let tcp = master.addresses_of_tcp()[0];
    let waiting = (TcpStream::connect(tcp), TcpStream::connect(tcp), UnixStream::connect(&path));
    assert!(waiting.0.is_ok() && waiting.1.is_ok() && waiting.2.is_ok());
    let status = master.wait_status("two in the queue", |status| {
        status.listeners[0].queue.is_some_and(|queue| queue.length == 2)
    });
    let queue = status.listeners[0].queue.expect("a queue");
    assert_eq!((queue.limit, queue.drops), (status.listeners[0].backlog, Some(0)));
    let queue = status.listeners[1].queue.expect("a queue");
    assert_eq!((queue.length, queue.limit, queue.drops), (1, 5, None));
    let told = master.ctl(["status"]);
    told.assert_code(0);
    assert!(told.stdout.contains(", queue 2 of ") && told.stdout.contains(", queue 1 of 5\n"), "{told}");
}

/// Starts a master of which this process may be the parent or the one before it, and waits for it to answer.
fn started(builder: MasterBuilder, touch: impl FnOnce()) -> Master {
    let socket = builder.file("control.sock");
    let mut master = builder.without_socket().option("-d").option(&socket).start_unready();
    touch();
    master.at_socket(&socket);
    master
}

/// systemd's own tool listens, and becomes the master at the first connection, which is then served.
fn activated(tool: &[&str], binds: &[&str], connect: impl Fn() -> bool) -> Master {
    let builder = on(2, binds).under(std::iter::once("systemd-socket-activate").chain(tool.iter().copied()));
    started(builder, || tests::wait::wait_for("the tool to listen", || connect().then_some(())))
}

/// A port that nobody has now.
fn free_port() -> InetAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

fn a_socket_of_socket_activation_is_served() {
    let address = free_port();
    let mut master =
        activated(&["-l", &address.to_string()], &["systemd"], || TcpStream::connect(address).is_ok());
    let status = master.wait_up(2);
    assert_eq!(addresses(&status), [address.to_string()]);
    let load = Plan::new(address).start();
    load.wait_for_answers(200);
    master.upgrade();
    master.ctl(["reload"]).assert_code(0);
    load.wait_for_answers(200);
    load.stop().assert_nothing_lost();
    assert!(!master.log().contains("is not used"), "{master}");
}

fn sockets_of_socket_activation_are_told_apart_by_name() {
    let directory = Master::builder();
    let (address, path) = (free_port(), directory.file("admin.sock"));
    let (listen, text) = (address.to_string(), path.display().to_string());
    let connect = || TcpStream::connect(address).is_ok();
    let tool = ["-l", &listen, "-l", &text, "--fdname=web:admin"];
    let mut master = activated(&tool, &["systemd:admin", "systemd:web,n"], connect);
    let status = master.wait_up(2);
    assert_eq!(addresses(&status), [at("unix", &path), listen.clone()]);
    let names: Vec<_> = status.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["admin", "web"]);
    assert_eq!(facts(UnixStream::connect(&path).expect("a listener"))["listener"], 0);
    assert_eq!(facts(TcpStream::connect(address).expect("a listener"))["listener"], 1);
    let environment = master.workers_up()[0].environment();
    assert_eq!(environment.get("LISTEN_FDNAMES").map(String::as_str), Some("admin:web"));
    master.signal(Signal::SIGTERM);
    master.wait_exit_code(0);
    assert!(path.exists(), "what another has bound is another's to remove");
}

fn a_socket_that_was_passed_and_is_not_used_is_warned_of() {
    let (web, admin) = (free_port(), free_port());
    let (first, second) = (web.to_string(), admin.to_string());
    let tool = ["-l", &first, "-l", &second, "--fdname=web:admin"];
    let mut master = activated(&tool, &["systemd:web"], || TcpStream::connect(web).is_ok());
    master.wait_up(2);
    let warning =
        "descriptor 4 (admin) was passed to this master and is not used; use it with -b systemd:admin";
    assert!(master.log().contains(warning), "{master}");
    let unused = master.process().descriptors().get(&4).map(|descriptor| descriptor.target.clone());
    let workers = master.workers_up();
    let held = workers.iter().flat_map(|worker| worker.descriptors().into_values());
    assert!(held.map(|descriptor| Some(descriptor.target)).all(|target| target != unused), "a worker has it");
}

/// Leaves a socket open for the programs that this process runs from now on.
fn left_open(socket: &impl AsRawFd, fd: &impl std::os::fd::AsFd) -> RawFd {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).expect("its flags");
    socket.as_raw_fd()
}

fn a_socket_that_the_parent_has_left_open_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let fd = left_open(&listener, &listener);
    let mut master = on(2, [format!("fd:{fd},name=mine,backlog=7")]).start();
    drop(listener);
    let status = master.status();
    assert_eq!(addresses(&status), [address.to_string()]);
    assert_eq!((status.listeners[0].name.as_str(), status.listeners[0].backlog), ("mine", 7));
    assert_eq!(status.listeners[0].queue.expect("a queue").limit, 7);
    let descriptors = master.process().descriptors();
    assert!(descriptors.get(&fd).is_some_and(|descriptor| descriptor.close_on_exec), "{descriptors:?}");
    master.ctl(["reload"]).assert_code(0);
    master.assert_well(2);
}

fn what_cannot_be_had_is_refused_in_words() {
    let directory = Master::builder();
    let path = |name: &str| -> PathBuf { directory.file(name) };
    fs::write(path("file"), "precious").expect("a file");
    let _other = UnixListener::bind(path("other")).expect("a listener");
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let connection = TcpStream::connect(plain.local_addr().expect("an address")).expect("a connection");
    let fd = left_open(&connection, &connection);
    let own = std::process::id();
    for (code, bind, texts) in [
        (
            2,
            "udp:127.0.0.1:0,nodelay".to_owned(),
            vec!["\"nodelay\" does not apply to a UDP socket; it is for TCP"],
        ),
        (
            2,
            "127.0.0.1:0,nodelai".to_owned(),
            vec!["unknown option \"nodelai\"; valid options: n", "and keepalive"],
        ),
        (2, "127.0.0.1:0,mode=600".to_owned(), vec!["it is for unix:PATH and seqpacket:PATH"]),
        (2, "unix:".to_owned(), vec!["the path is missing"]),
        (2, "fd:1".to_owned(), vec!["give fd:N with N at least 3"]),
        (1, at("unix", &path("file")), vec!["it is not a socket", "hint: move it away"]),
        (1, at("unix", &path("other")), vec![&format!("process {own} is listening there"), "hint: ss -xlp"]),
        (1, at("seqpacket", &path("other")), vec![&format!("process {own} is listening there")]),
        (1, at("unix", &path("no/dir")), vec!["No such file or directory", "hint: make the directory"]),
        (1, format!("{},user=nobody-here", at("unix", &path("new"))), vec!["no such user: nobody-here"]),
        (1, format!("fd:{fd}"), vec![&format!("descriptor {fd} is a TCP socket that does not listen")]),
        (
            1,
            "fd:999".to_owned(),
            vec!["cannot take fd:999: descriptor 999 is not open", "hint: the program that starts"],
        ),
        (1, "systemd".to_owned(), vec!["cannot take systemd: no sockets were passed: LISTEN_FDS is not set"]),
    ] {
        let finished = on(1, [&bind]).run_to_end();
        finished.assert_code(code);
        for text in texts {
            assert!(finished.stderr.contains(text), "{bind}: {text:?} is not in\n{finished}");
        }
    }
    let elsewhere = on(1, ["systemd"]).env("LISTEN_FDS", "1").env("LISTEN_PID", "1").run_to_end();
    assert!(elsewhere.stderr.contains("LISTEN_PID is 1"), "{elsewhere}");
    assert!(UnixStream::connect(path("other")).is_ok() && path("file").exists());
    assert_eq!(files(directory.file("x").parent().expect("its directory")), ["file", "other"]);
}

fn what_a_killed_master_has_left_is_taken_over_and_what_a_living_one_has_is_not() {
    let directory = Master::builder();
    let path = directory.file("web.sock");
    let bind = at("unix", &path);
    let first = on(1, [&bind]).start();
    let refused = on(1, [&bind]).run_to_end();
    refused.assert_code(1);
    let pid = first.process().pid();
    assert!(refused.stderr.contains(&format!("process {pid} is listening there")), "{refused}");
    assert_eq!(facts(UnixStream::connect(&path).expect("the first"))["listener"], 0);
    // With all that it has started: a worker that lives on listens on.
    drop(first);
    assert!(path.exists(), "nobody removed it");
    let mut second = on(1, [&bind]).start();
    assert_eq!(facts(UnixStream::connect(&path).expect("the second"))["listener"], 0);
    second.signal(Signal::SIGTERM);
    second.wait_exit_code(0);
    assert!(!path.exists());
}

fn a_unix_socket_is_given_to_its_owner() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("owned.sock");
    let bind = at("unix", &path);
    let _master = on(1, [format!("{bind},owner=nobody,group=12345")]).start();
    let found = fs::metadata(&path).expect("the socket");
    let nobody = User::from_name("nobody").expect("the name service").expect("a user nobody");
    assert_eq!((found.uid(), found.gid()), (nobody.uid.as_raw(), 12_345));
}
