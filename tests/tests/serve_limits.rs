//! What hostile clients of `einhyrningsinsctl serve` can do to it, and to others that it serves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tests::serving::Answer;
use tests::wait::wait_for;
use tests::{Master, Serving};

tests::trials! {
    sixty_four_connections_are_served_and_one_more_is_sent_away,
    a_head_that_does_not_end_is_given_up_and_others_are_served_meanwhile,
    a_head_that_is_too_long_is_refused,
    a_reader_of_events_that_does_not_read_is_cut_off_and_others_are_not,
    garbage_is_refused,
    readers_do_not_hold_up_the_end,
}

/// As the page of the manual has it.
const CONNECTIONS_MAX: usize = 64;

fn sixty_four_connections_are_served_and_one_more_is_sent_away() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    let mut readers: Vec<_> = (0..CONNECTIONS_MAX).map(|_| serving.events()).collect();
    for reader in &mut readers {
        reader.wait("start", |_| true);
    }
    for _ in 0..3 {
        let answer = serving.get("/metrics");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains("all the connections that it takes"), "{answer:?}");
    }
    for reader in &mut readers {
        reader.wait("picture", |_| true);
    }
    readers.pop();
    wait_for("room", || (serving.get("/metrics").status == 200).then_some(()));
    // One that says nothing has its place, too, until its time is over.
    let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| serving.connect()).collect();
    wait_for("no room", || (serving.get("/metrics").status == 503).then_some(()));
    drop(silent);
    wait_for("room", || (serving.get("/metrics").status == 200).then_some(()));
}

fn a_head_that_does_not_end_is_given_up_and_others_are_served_meanwhile() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    let slow: Vec<_> = ["", "GET /metrics HTTP/1.1\r\n", "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: "]
        .into_iter()
        .map(|begin| {
            let mut stream = serving.connect();
            stream.write_all(begin.as_bytes()).expect("room in the connection");
            stream
        })
        .collect();
    // A byte now and then buys no time.
    let mut dripping = slow[2].try_clone().expect("a descriptor");
    let drip = thread::spawn(move || {
        while dripping.write_all(b"x").is_ok() {
            thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    // And one that has had its answer, and asks for nothing more.
    let mut idle = serving.connect();
    idle.write_all(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("room in the connection");
    assert_eq!(serving.get("/metrics").status, 200);
    for mut stream in slow.into_iter().chain([idle]) {
        let mut text = String::new();
        // To the end of the connection, or a reset.
        let ended = stream.read_to_string(&mut text);
        let is_timed_out = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!is_timed_out, "it is still open: {text:?}");
        assert!(!text.contains("einhyrningsins_"), "{text:?}");
    }
    drip.join().expect("the end of the connection");
    assert_eq!(serving.get("/metrics").status, 200);
}

fn a_head_that_is_too_long_is_refused() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    let head = |length: usize| {
        let value = "x".repeat(length);
        serving.send(&format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: {value}\r\n\r\n"))
    };
    assert_eq!(head(8_000).status, 200);
    // What is not read any more may cut the answer off.
    for length in [20_000, 200_000, 5_000_000] {
        assert!(matches!(head(length).status, 431 | 0), "{length}");
    }
    let many = "X: y\r\n".repeat(500);
    let answer = serving.send(&format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"));
    assert!(matches!(answer.status, 431 | 0), "{answer:?}");
    let path = "x".repeat(70_000);
    assert!(matches!(serving.ask(&format!("GET /{path}"), &[]).status, 414 | 431 | 400 | 0));
    assert_eq!(serving.get("/metrics").status, 200);
}

/// A master with this status, which hands over whoever follows its events.
fn talking_master(path: &Path, status: Value) -> Receiver<(UnixStream, Value)> {
    let listener = UnixListener::bind(path).expect("a socket");
    let (sender, followers): (Sender<_>, _) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (status, sender) = (status.clone(), sender.clone());
            thread::spawn(move || {
                let requests = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
                for request in requests.map_while(Result::ok) {
                    let request: Value = serde_json::from_str(&request).expect("JSON");
                    if request["command"] == "events" {
                        let _ =
                            sender.send((stream.try_clone().expect("a descriptor"), request["id"].clone()));
                        continue;
                    }
                    let reply =
                        json!({ "message": "", "ok": true, "request_id": request["id"], "data": status });
                    let _ = (&stream).write_all(format!("{reply}\n").as_bytes());
                }
            });
        }
    });
    followers
}

fn a_reader_of_events_that_does_not_read_is_cut_off_and_others_are_not() {
    let mut master = Master::builder().workers(1).start();
    let status = serde_json::to_value(master.status()).expect("JSON");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let followers = talking_master(&path, status);
    let serving = Serving::start(&path);
    let mut good = serving.events();
    good.wait("start", |_| true);
    let (mut talk, id) = followers.recv().expect("somebody who follows the events");
    // The kernel keeps little for it.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a buffer");
    socket.connect(&serving.address().into()).expect("a connection");
    let mut bad: TcpStream = socket.into();
    let port = bad.local_addr().expect("an address").port();
    let token = serving.token();
    let request = format!("GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    bad.write_all(request.as_bytes()).expect("room in the connection");
    let mut first = [0; 12];
    bad.read_exact(&mut first).expect("the begin of an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut said = 0;
    let text = "x".repeat(30_000);
    wait_for("the reader to be cut off", || {
        let is_there = serving.process().connections().contains(&port);
        let notice = json!({ "event": "status_text", "slot": 0, "pid": 1, "text": text, "number": said });
        let reply = json!({ "message": "m", "wait": true, "request_id": id, "data": notice });
        talk.write_all(format!("{reply}\n").as_bytes()).expect("a reader");
        said += 1;
        // The good one takes each before the next is said.
        good.wait("event", |_| true);
        (!is_there).then_some(())
    });
    assert!(said > 34, "{said} events of 30 kB are less than 1 MiB");
    let notice = json!({ "event": "resized", "from": 1, "to": 2 });
    let reply = json!({ "message": "m", "wait": true, "request_id": id, "data": notice });
    talk.write_all(format!("{reply}\n").as_bytes()).expect("a reader");
    good.wait("event", |event| event["notice"]["event"] == "resized");
    assert_eq!(serving.get("/").status, 200);
}

fn garbage_is_refused() {
    let master = Master::builder().workers(1).start();
    let serving = Serving::start(master.socket());
    for text in [
        "\r\n\r\n",
        "hello\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}",
    ] {
        let mut stream = serving.connect();
        stream.write_all(text.as_bytes()).expect("room in the connection");
        stream.shutdown(std::net::Shutdown::Write).expect("a connection");
        let answer = Answer::read(stream);
        assert!(matches!(answer.status, 0 | 400 | 505), "{text:?}: {answer:?}");
    }
    // Two requests in one: the second is judged for itself.
    let smuggled = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcdGET /status.json HTTP/1.1\r\n\
                    Host: evil.com\r\nConnection: close\r\n\r\n";
    let mut stream = serving.connect();
    stream.write_all(smuggled.as_bytes()).expect("room in the connection");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
    assert!(!text.contains("at_ms"), "{text}");
    assert_eq!(serving.get("/metrics").status, 200);
}

fn readers_do_not_hold_up_the_end() {
    let master = Master::builder().workers(1).start();
    let mut serving = Serving::start(master.socket());
    let mut reader = serving.events();
    reader.wait("picture", |_| true);
    let silent = serving.connect();
    master.signal(Signal::SIGSTOP);
    let mut asking = serving.connect();
    asking.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("room in the connection");
    serving.signal(Signal::SIGTERM);
    serving.wait_exit_code(0);
    while reader.hear().is_some() {}
    master.signal(Signal::SIGCONT);
    drop(silent);
}
