//! `probe` against real sockets: servers that are well, that are not, and that are hostile.

#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};

use support::terminal::Terminal;
use support::{Client, DEADLINE, Master, Outcome, Peer, client_program, greeting};

/// A connection, over TCP or a Unix socket.
trait Stream: Read + Write + Send {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// What a server does with a connection, of which it has read a request.
type Part = Box<dyn FnOnce(&mut dyn Stream) + Send>;

/// A server that plays a part for each connection, in order.
struct Server {
    address: String,
    requests: Receiver<String>,
}

impl Server {
    fn play(parts: Vec<Part>) -> Self {
        Self::at("127.0.0.1:0", parts)
    }

    fn at(address: &str, parts: Vec<Part>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::accept(address, parts, move || listener.accept().unwrap().0)
    }

    fn on_unix(address: String, listener: UnixListener, parts: Vec<Part>) -> Self {
        Self::accept(address, parts, move || listener.accept().unwrap().0)
    }

    fn accept<S: Stream>(
        address: String,
        parts: Vec<Part>,
        mut accept: impl FnMut() -> S + Send + 'static,
    ) -> Self {
        let (told, requests) = channel();
        thread::spawn(move || {
            for play in parts {
                let mut stream = accept();
                let _ = told.send(head_of_request(&mut stream));
                play(&mut stream);
            }
        });
        Self { address, requests }
    }

    /// Gives each connection the next of these answers, and then hangs up.
    fn answering<A: Into<Vec<u8>>>(answers: impl IntoIterator<Item = A>) -> Self {
        Self::play(answers.into_iter().map(saying).collect())
    }

    fn probe(&self, options: &[&str]) -> Outcome {
        let arguments = [&["probe", "http:/healthz?full=1", "--addr", &self.address], options].concat();
        run(&arguments)
    }

    /// Checks that it fails, with the message behind the request.
    #[track_caller]
    fn assert_fails(&self, options: &[&str], message: &str) {
        let stderr = format!("einhyrningsinsctl: GET /healthz?full=1 at {}{message}\n", self.address);
        self.probe(options).expect(1, "", &stderr);
    }

    /// Checks that it passes, in one line.
    #[track_caller]
    fn assert_passes(&self, options: &[&str], status: &str) {
        let outcome = self.probe(options);
        let said = format!("GET /healthz?full=1 at {}: {status} in ", self.address);
        assert!(outcome.stdout.starts_with(&said) && outcome.stdout.ends_with("s\n"), "{outcome:?}");
        assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:?}");
        assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""));
    }

    fn request(&self) -> String {
        self.requests.recv_timeout(DEADLINE).unwrap()
    }
}

fn run(arguments: &[&str]) -> Outcome {
    Client::spawn(Command::new(client_program()).args(arguments).env_remove("EINHORN_CHECK_ADDR_0")).finish()
}

fn part(play: impl FnOnce(&mut dyn Stream) + Send + 'static) -> Part {
    Box::new(play)
}

fn saying(answer: impl Into<Vec<u8>>) -> Part {
    let answer = answer.into();
    // Whoever reads only a part of it may have gone.
    part(move |stream| drop(stream.write_all(&answer)))
}

/// Says `start`, and then `more` for as long as anybody listens.
fn without_end(start: &'static str, more: &'static str) -> Part {
    part(move |stream| {
        let mut said = stream.write_all(start.as_bytes());
        let more = more.repeat(1000);
        while said.is_ok() {
            said = stream.write_all(more.as_bytes());
        }
    })
}

/// Says `start`, and then nothing until the client has gone.
fn stalling(start: &'static str) -> Part {
    part(move |stream| {
        stream.write_all(start.as_bytes()).unwrap();
        let _ = io::copy(stream, &mut io::sink());
    })
}

fn head_of_request(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn ok(body: &str) -> String {
    with_status("200 OK", body)
}

fn with_status(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_good_answer_passes_in_one_line() {
    Server::answering([ok("well")]).assert_passes(&[], "200 OK");
    Server::answering(["HTTP/1.1 204 No Content\r\n\r\n"]).assert_passes(&[], "204 No Content");
    // The body ends with the connection.
    Server::answering(["HTTP/1.0 200 OK\r\n\r\nwell"]).assert_passes(&["--contains", "well"], "200 OK");
    Server::answering([
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ])
    .assert_passes(&[], "200 OK");
}

#[test]
fn another_status_fails_and_shows_what_came() {
    let body = "<h1>Oh\r\n no\u{1b}[2J</h1>";
    Server::answering([with_status("500 Internal Server Error", body)])
        .assert_fails(&[], ": status 500 Internal Server Error, not 2xx\n  body: <h1>Oh no\\u{1b}[2J</h1>");
    let long = "x".repeat(401);
    let message = format!(": status 503 Service Unavailable, not 2xx\n  body: {}...", &long[1..]);
    Server::answering([with_status("503 Service Unavailable", &long)]).assert_fails(&[], &message);
    Server::answering([with_status("404 Not Found", "")])
        .assert_fails(&[], ": status 404 Not Found, not 2xx");
}

#[test]
fn a_status_that_is_asked_for_is_the_only_good_one() {
    Server::answering([with_status("404 Not Found", "")])
        .assert_passes(&["--status", "404"], "404 Not Found");
    Server::answering([ok("")]).assert_fails(&["--status", "404"], ": status 200 OK, not 404");
    Server::answering([ok("")]).assert_fails(&["--status", "201"], ": status 200 OK, not 201");
}

#[test]
fn redirects_are_not_followed() {
    let moved = "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n";
    let server = Server::answering([moved.to_owned(), ok("")]);
    server.assert_fails(&[], ": status 302 Found, not 2xx; redirects are not followed: /login");
    server.request();
    server.requests.try_recv().unwrap_err();
    Server::answering([moved]).assert_passes(&["--status", "302"], "302 Found");
}

#[test]
fn a_text_is_looked_for_in_the_body() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nversi\
                   \r\n";
    // A chunk that is longer than it says.
    Server::answering([chunked]).assert_fails(
        &["--contains", "version 7"],
        ": status 200 OK, but no complete body (4 bytes came): error reading a body from connection: Invalid chunk body CR",
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nversi\r\n6;a=b\r\non 7.1\r\n0\r\nX: y\r\n\r\n";
    Server::answering([chunked]).assert_passes(&["--contains", "version 7"], "200 OK");
    Server::answering([ok("version 6")]).assert_fails(
        &["--contains", "version 7"],
        ": status 200 OK, but the body, of 9 bytes, does not contain \"version 7\"\n  body: version 6",
    );
}

#[test]
fn no_more_than_one_mebibyte_of_a_body_is_read() {
    let body = format!("{}end", "x".repeat((1 << 20) - 3));
    Server::answering([ok(&body)]).assert_passes(&["--contains", "end"], "200 OK");
    let body = format!("{}end", "x".repeat(1 << 20));
    Server::answering([ok(&body)]).assert_passes(&[], "200 OK");
    let message = format!(
        ": status 200 OK, but the first 1048576 bytes of the body do not contain \"end\"\n  body: {}...",
        &body[..400]
    );
    Server::answering([ok(&body)]).assert_fails(&["--contains", "end"], &message);
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    Server::play(vec![without_end(endless, "x")]).assert_passes(&["--contains", "xxx"], "200 OK");
}

#[test]
fn a_silent_server_runs_out_of_its_time() {
    let limit = &["--timeout", "0.3"];
    Server::play(vec![stalling("")]).assert_fails(limit, ": no answer within 0.3s");
    Server::play(vec![stalling("HTTP/1.1 200 OK\r\nContent-")])
        .assert_fails(limit, ": no answer within 0.3s");
    Server::play(vec![stalling("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwel")])
        .assert_fails(limit, ": status 200 OK, but no complete body (3 bytes came) within 0.3s");
    let server = Server::play(vec![stalling("")]);
    let outcome = run(&["--timeout", "0.3", "probe", "http:/", "--addr", &server.address]);
    assert!(outcome.stderr.ends_with(": no answer within 0.3s\n"), "{outcome:?}");
    Server::play(vec![without_end("", "HTTP/1.1 100 Continue\r\n\r\n")])
        .assert_fails(limit, ": no answer within 0.3s");
}

#[test]
fn a_server_that_does_not_accept_runs_out_of_its_time() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // The kernel lets one connection more than the backlog into the queue.
    let _waiting = TcpStream::connect(address).unwrap();
    let address = address.to_string();
    run(&["probe", "http:/", "--addr", &address, "--timeout", "0.3"]).expect(
        1,
        "",
        &format!("einhyrningsinsctl: GET / at {address}: no connection within 0.3s\n"),
    );
}

#[test]
fn a_refused_connection_fails() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    run(&["probe", "http:/", "--addr", &address]).expect(
        1,
        "",
        &format!(
            "einhyrningsinsctl: GET / at {address}: cannot connect: Connection refused (os error 111)\n"
        ),
    );
    run(&["probe", "http:/", "--addr", "unix:/nowhere/web.sock"]).expect(
        1,
        "",
        "einhyrningsinsctl: GET / at unix:/nowhere/web.sock: cannot connect: No such file or directory (os error 2)\n",
    );
}

#[test]
fn an_answer_that_breaks_off_fails() {
    let closed = ": no answer: connection closed before message completed";
    Server::answering([""]).assert_fails(&[], closed);
    Server::answering(["HTTP/1.1 200 OK\r\nContent-Le"]).assert_fails(&[], closed);
    Server::answering(["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwel"]).assert_fails(
        &[],
        ": status 200 OK, but no complete body (3 bytes came): error reading a body from connection: end of file before message length reached",
    );
    Server::answering(["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwel\r\n"]).assert_fails(
        &[],
        ": status 200 OK, but no complete body (3 bytes came): error reading a body from connection: unexpected EOF during chunk size line",
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        head_of_request(&mut stream);
        SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    let outcome = run(&["probe", "http:/", "--addr", &address]);
    assert!(outcome.stderr.contains("no answer: connection error: Connection reset by peer"), "{outcome:?}");
    assert_eq!(outcome.status.code(), Some(1));
}

#[test]
fn what_is_not_http_fails() {
    for (answer, why) in [
        (&b"220 mail.example.org ESMTP\r\n"[..], "invalid HTTP version parsed"),
        (b"\x16\x03\x01\0\xff\xfe\x1b[2J\r\n\r\n", "invalid HTTP version parsed"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "invalid HTTP status-code parsed"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "invalid HTTP header parsed"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            "invalid content-length parsed",
        ),
    ] {
        Server::answering([answer]).assert_fails(&[], &format!(": no answer: {why}"));
    }
}

#[test]
fn a_head_without_end_fails() {
    let too_large = ": no answer: message head is too large";
    Server::play(vec![without_end("HTTP/1.1 200 OK\r\nX: ", "x")]).assert_fails(&[], too_large);
    Server::play(vec![without_end("HTTP/1.1 200 OK\r\n", "X: y\r\n")]).assert_fails(&[], too_large);
}

#[test]
fn requests_in_a_row_have_a_connection_each_and_must_all_pass() {
    let server = Server::answering([ok(""), ok(""), ok("")]);
    let outcome = server.probe(&["--times", "3"]);
    assert!(outcome.stdout.contains(": 200 OK 3 times, the slowest in "), "{outcome:?}");
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let server = Server::answering([ok(""), ok(""), with_status("500 Oh no", "third"), ok(""), ok("")]);
    server.assert_fails(
        &["--times", "5"],
        ", request 3 of 5: status 500 Internal Server Error, not 2xx\n  body: third",
    );
    assert_eq!(server.requests.iter().take(3).count(), 3);
    server.requests.try_recv().unwrap_err();
}

#[test]
fn the_limit_of_time_is_for_each_request() {
    // Each answer comes in time, and both together take longer than the limit.
    let slow = || {
        part(|stream| {
            // Nobody sends: this is how long it takes.
            let (_silent, work) = channel::<()>();
            work.recv_timeout(std::time::Duration::from_secs(2)).unwrap_err();
            stream.write_all(ok("").as_bytes()).unwrap();
        })
    };
    let outcome = Server::play(vec![slow(), slow()]).probe(&["--times", "2", "--timeout", "3.5"]);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
}

#[test]
fn a_request_has_what_servers_expect_and_the_headers_that_are_given() {
    let server = Server::answering([ok(""), ok("")]);
    server.assert_passes(&[], "200 OK");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        server.request(),
        format!(
            "GET /healthz?full=1 HTTP/1.1\r\nhost: {}\r\nuser-agent: einhyrningsinsctl/{version}\r\naccept: */*\r\nconnection: \
             close\r\n\r\n",
            server.address
        )
    );
    server.assert_passes(
        &["--header", "Host: example.org", "--header", "X-A:1", "--header", "X-A: 2", "--header", "X-B: ü"],
        "200 OK",
    );
    let request = server.request();
    for line in ["host: example.org", "x-a: 1", "x-a: 2", "x-b: ü", "accept: */*"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
    assert_eq!(request.matches("host:").count(), 1, "{request}");
}

#[test]
fn servers_of_every_kind_of_address_are_asked() {
    Server::at("[::1]:0", vec![saying(ok(""))]).assert_passes(&[], "200 OK");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a,b.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let address = format!("unix:{}", path.display());
    let server = Server::on_unix(address.replace(',', "\\,"), listener, vec![saying(ok(""))]);
    server.assert_passes(&[], "200 OK");
    assert!(server.request().contains("\r\nhost: localhost\r\n"));
    let name = directory.path().display().to_string();
    let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
    Server::on_unix(format!("unix:@{name}"), listener, vec![saying(ok(""))]).assert_passes(&[], "200 OK");
    let mut server = Server::answering([ok(""), ok("")]);
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    for address in [format!(":{port}"), format!("localhost:{port}")] {
        server.address = address;
        server.assert_passes(&[], "200 OK");
        assert!(server.request().contains(&format!("\r\nhost: localhost:{port}\r\n")));
    }
}

#[test]
fn an_address_is_taken_from_the_environment_by_its_number() {
    let server = Server::answering([ok(""), ok("")]);
    for (options, variable) in
        [(&[][..], "EINHORN_CHECK_ADDR_0"), (&["--addr", "12"], "EINHORN_CHECK_ADDR_12")]
    {
        let mut command = Command::new(client_program());
        command.args(["probe", "http:/"]).args(options).env(variable, &server.address);
        let outcome = Client::spawn(&mut command).finish();
        assert!(outcome.stdout.starts_with(&format!("GET / at {}: 200 OK", server.address)), "{outcome:?}");
    }
    run(&["probe", "http:/"]).expect(
        2,
        "",
        "einhyrningsinsctl: EINHORN_CHECK_ADDR_0 is not set, as it is in a check that a master runs; give --addr ADDRESS\n",
    );
    let mut command = Command::new(client_program());
    command.args(["probe", "http:/"]).env("EINHORN_CHECK_ADDR_0", "udp:127.0.0.1:80");
    Client::spawn(&mut command).finish().expect(
        2,
        "",
        "einhyrningsinsctl: EINHORN_CHECK_ADDR_0: \"udp:127.0.0.1:80\" has no HTTP; give the address of a TCP or a Unix stream \
         socket\n",
    );
}

#[test]
fn bad_usage_is_told_apart_from_a_failure() {
    for (arguments, part) in [
        (&["https:/x"][..], "there is no TLS in this program; use curl"),
        (&["http://127.0.0.1:80/x"], "an address does not belong here: give http:/x and --addr ADDRESS"),
        (&["/x"], "give http:/x"),
        (&["http:x"], "the path begins with a slash"),
        (&["http:/a b"], "a path may have no blanks"),
        (&["http:/a#b"], "what is behind a # is not sent"),
        (&["ftp:/x"], "give http:/PATH"),
        (&[], "<http:/PATH>"),
        (&["http:/", "--addr", "127.0.0.1"], "give 127.0.0.1:PORT"),
        (&["http:/", "--addr", "/run/web.sock"], "is no address"),
        (&["http:/", "--status", "99"], "from 200 to 999"),
        (&["http:/", "--status", "2xx"], "from 200 to 999"),
        (&["http:/", "--contains", ""], "--contains"),
        (&["http:/", "--header", "Host"], "give NAME: VALUE"),
        (&["http:/", "--header", "a b: c"], "is no name of a header"),
        (&["http:/", "--header", "a: b\r\nc: d"], "a value is one line"),
        (&["http:/", "--times", "0"], "--times"),
        (&["http:/", "--timeout", "0"], "--timeout"),
    ] {
        let outcome = run(&[&["probe"], arguments].concat());
        assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(outcome.stderr.contains(part), "{arguments:?}: {outcome:?}");
    }
}

#[test]
fn ctrl_c_ends_a_probe_silently() {
    let server = Server::play(vec![stalling("")]);
    let client =
        Client::spawn(Command::new(client_program()).args(["probe", "http:/", "--addr", &server.address]));
    server.request();
    client.signal(Signal::SIGINT);
    let outcome = client.finish();
    assert_eq!(outcome.status.signal(), Some(Signal::SIGINT as i32), "{outcome:?}");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn ctrl_c_at_the_prompt_ends_only_the_probe() {
    let server = Server::play(vec![stalling(""), saying(ok(""))]);
    let master = Master::play(vec![greeting(Peer::await_end)]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    let probe = format!("probe http:/ --timeout 29 --addr {}\r", server.address);
    let prompt = "einhyrningsins> ";
    terminal.await_text(prompt);
    terminal.type_keys(&probe);
    server.request();
    terminal.type_keys("\x03");
    terminal.await_text(prompt);
    terminal.type_keys(&probe);
    terminal.await_text(": 200 OK in ");
    terminal.await_text(prompt);
    terminal.type_keys("q\r");
    assert_eq!(terminal.finish().0, Some(0));
    master.finish();
}

#[test]
fn a_passed_probe_is_an_object_with_json() {
    let server = Server::answering([ok(""), ok("")]);
    let outcome = server.probe(&["--json", "--times", "2"]);
    let told: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&told["address"], &told["path"]),
        (&server.address.as_str().into(), &"/healthz?full=1".into())
    );
    assert_eq!((&told["status"], &told["times"]), (&200.into(), &2.into()));
    assert_eq!((&told["event"], &told["ok"]), (&"probe".into(), &true.into()));
    assert!(told["slowest_ms"].is_u64(), "{told}");
}

#[test]
fn no_master_is_asked_and_the_probe_of_a_script_fails_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let master = UnixListener::bind(&path).unwrap();
    master.set_nonblocking(true).unwrap();
    let server = Server::answering([ok(""), with_status("500 Oh no", "")]);
    let probe = format!("probe http:/ --timeout 9 --addr {}", server.address);
    let outcome = run(&["-d", path.to_str().unwrap(), "-e", &format!("{probe}; {probe}; {probe}")]);
    assert_eq!((outcome.status.code(), outcome.stdout.lines().count()), (Some(1), 1), "{outcome:?}");
    assert_eq!(master.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}
