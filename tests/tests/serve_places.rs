//! `einhyrningsinsctl serve`: where it listens, as whom it runs, and who may be served there.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tests::process::Captured;
use tests::serving::Answer;
use tests::wait::wait_for;
use tests::{Master, Process, Serving, binaries};

tests::trials! {
    a_unix_socket_is_for_its_owner_and_group_and_goes_with_the_server,
    sockets_of_systemd_are_taken needs "systemd",
    what_others_reach_needs_a_token_file_and_answers_to_hosts_that_are_named,
    a_reader_that_has_gone_does_not_end_the_server,
    a_user_who_may_only_ask_can_serve needs "root" "util-linux",
}

/// A child that goes when it is dropped.
struct Running(Child);

impl Running {
    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().expect("a child"))
    }

    /// Sends a signal, and waits for its exit code.
    #[track_caller]
    fn end(mut self, signal: Signal) -> Option<i32> {
        let process = Process::of(self.0.id().cast_signed()).expect("a child");
        assert!(process.signal(signal));
        wait_for("its end", || self.0.try_wait().ok().flatten()).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_unix_socket_is_for_its_owner_and_group_and_goes_with_the_server() {
    let master = Master::builder().workers(1).start();
    let path = master.file("serve.sock");
    let place = format!("unix:{}", path.display());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let output = Captured::new();
        let mut command = master.ctl_command(["serve", "--listen", &place]);
        let child = Running::spawn(command.stdout(output.writer()));
        wait_for("the socket", || output.text().ends_with('\n').then_some(()));
        assert!(output.text().starts_with(&format!("{place} http://localhost/#token=")), "{}", output.text());
        let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o660);
        let ask = |host: &str| {
            let mut stream = UnixStream::connect(&path).expect("a connection");
            let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("a reader");
            Answer::read(stream).status
        };
        assert_eq!((ask("localhost"), ask("evil.com")), (200, 403));
        let second = master.ctl(["serve", "--listen", &place]);
        second.assert_code(1).assert_says("another process listens there");
        assert_eq!((child.end(signal), path.exists()), (Some(0), false));
    }
}

fn sockets_of_systemd_are_taken() {
    let master = Master::builder().workers(1).start();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address");
    drop(free);
    let path = master.file("activated.sock").display().to_string();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &address.to_string(), "-l", &path]).arg(binaries::einhyrningsinsctl());
    command.arg("-d").arg(master.socket()).args(["serve", "--listen", "systemd"]);
    let child = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()));
    let mut ask = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        Some(Answer::read(stream).status)
    };
    assert_eq!(wait_for("the tool to listen", &mut ask), 200);
    let mut stream = UnixStream::connect(&path).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a reader");
    assert_eq!(Answer::read(stream).status, 200);
    assert_eq!(child.end(Signal::SIGTERM), Some(0));
    assert!(Path::new(&path).exists(), "the socket is systemd's");
    master.ctl(["serve", "--listen", "systemd"]).assert_code(1).assert_says("no socket was passed");
}

fn what_others_reach_needs_a_token_file_and_answers_to_hosts_that_are_named() {
    let master = Master::builder().workers(1).start();
    for place in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let refused = master.ctl(["serve", "--listen", place]);
        refused.assert_code(1).assert_says("give --token-file");
        assert_eq!(refused.stdout, "");
    }
    let file = master.file("token");
    let file = file.to_str().expect("UTF-8");
    let with_file = |place: &str| master.ctl(["serve", "--listen", place, "--token-file", file]);
    with_file("0.0.0.0:0").assert_code(1).assert_says("cannot read the token").assert_says("No such file");
    fs::write(file, "0123456789abcdef-ours\n").expect("a file");
    fs::set_permissions(file, Permissions::from_mode(0o604)).expect("an owner");
    with_file("0.0.0.0:0").assert_code(1).assert_says("everybody may read");
    fs::set_permissions(file, Permissions::from_mode(0o600)).expect("an owner");
    fs::write(file, "short").expect("a file");
    with_file("0.0.0.0:0").assert_code(1).assert_says("is not one line of 16");
    fs::write(file, "0123456789abcdef-ours\n").expect("a file");
    let mut command = master.ctl_command(["serve", "--listen", "0.0.0.0:0", "--token-file", file]);
    command.args(["--host", "ops.example.org"]);
    let serving = Serving::run(command);
    assert_eq!(serving.token(), "", "it is not printed");
    assert!(!serving.output().contains("ours") && !serving.log().contains("ours"), "nowhere");
    let status = |host: &str, token: &str| {
        let authorization = format!("Bearer {token}");
        serving.ask("GET /status.json", &[("Host", host), ("Authorization", &authorization)]).status
    };
    assert_eq!(status("ops.example.org", "0123456789abcdef-ours"), 200);
    assert_eq!(status("ops.example.org", "0123456789abcdef-our"), 401);
    assert_eq!(status(&serving.address().to_string(), "0123456789abcdef-ours"), 403);
    for arguments in [["--listen", "localhost:1"], ["--host", "a:80"], ["--host", "http://a"]] {
        master.ctl(["serve"].iter().chain(&arguments)).assert_code(2);
    }
    master.ctl(["-e", "serve"]).assert_code(2).assert_says("give it on the command line");
}

/// `serve | head -1` prints the address and goes on.
fn a_reader_that_has_gone_does_not_end_the_server() {
    let master = Master::builder().workers(1).start();
    let mut command = master.ctl_command(["serve", "--listen", "127.0.0.1:0"]);
    let mut child = Running::spawn(command.stdout(Stdio::piped()));
    let mut line = String::new();
    let mut output = BufReader::new(child.0.stdout.take().expect("a pipe"));
    output.read_line(&mut line).expect("an address");
    drop(output);
    let address = line.trim_start_matches("http://").split('/').next().expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a reader");
    assert_eq!(Answer::read(stream).status, 200);
    assert_eq!(child.end(Signal::SIGTERM), Some(0));
}

/// As the shipped unit has it: a user of its own, in the group of `--observe-group`.
fn a_user_who_may_only_ask_can_serve() {
    let (user, group) = ("54321", "54322");
    let builder = Master::builder().workers(2).options(["--observe-group", group]);
    let place = builder.file("ctl");
    let directory = place.parent().expect("a directory");
    fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("a mode");
    if fs::hard_link(binaries::einhyrningsinsctl(), &place).is_err() {
        fs::copy(binaries::einhyrningsinsctl(), &place).expect("a copy of the client");
    }
    let mut master = builder.start();
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
    command.arg(&place).arg("-d").arg(master.socket()).args(["serve", "--listen", "127.0.0.1:0"]);
    let serving = Serving::run(command);
    let metrics = serving.get("/metrics");
    assert_eq!(metrics.status, 200, "{metrics:?}");
    assert!(metrics.body.contains("worker_resident_memory_bytes{slot=\"1\"}"), "{metrics:?}");
    let mut events = serving.events();
    events.wait("picture", |picture| picture["link"]["link"] == "found");
    master.upgrade();
    events.wait("event", |event| event["notice"]["event"] == "upgrade_done");
    assert_eq!(serving.get("/history.json").json()["rollouts"][0]["outcome"], "done");
}
