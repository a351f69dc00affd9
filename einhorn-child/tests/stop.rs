//! The stop request: as a flag, a wait, a descriptor and a future, and while accepting.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use common::{PATIENCE, Running, Worker, readable, role, say};
use einhorn_child::{Signal, Stop};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal as Sent;
use nix::unistd::gettid;

/// The worker's side: waits for the stop in the way that `ROLE` names, and prints the result.
#[test]
fn worker() {
    let Some(role) = role() else { return };
    let stop = if role == "window" { Stop::on([Signal::WINCH]) } else { Stop::install() }.unwrap();
    if !["again", "accept"].contains(&role.as_str()) {
        say("ready");
    }
    match role.as_str() {
        "flag" => {
            while !stop.is_requested() {
                std::thread::yield_now();
            }
        }
        "wait" | "window" => stop.wait(),
        "timeout" => {
            say(format!("in no time: {}", stop.wait_timeout(Duration::ZERO)));
            assert!(stop.wait_timeout(PATIENCE));
            assert!(stop.wait_timeout(Duration::MAX), "once asked, asked for good");
        }
        "descriptor" => {
            assert!(readable(&stop.as_fd(), PATIENCE));
            assert!(readable(&stop.as_fd(), PATIENCE), "it stays readable");
        }
        "twice" => {
            stop.wait();
            say("once");
            while stop.requests() < 2 {
                std::thread::yield_now();
            }
        }
        "again" => {
            let again = Stop::install().unwrap();
            let more = Stop::on([Signal::HUP, Signal::TERM]).unwrap();
            say("ready");
            more.wait();
            assert!(stop.is_requested() && again.is_requested());
        }
        #[cfg(feature = "tokio")]
        "future" => in_tokio(stop),
        "readable" => receive(stop),
        "accept" => accept(stop),
        "shortage" => return accept_without_descriptors(stop),
        _ => panic!("no such role: {role}"),
    }
    say(format!("asked {} times, first by {}", stop.requests(), stop.signal().unwrap()));
}

/// Awaits the stop in two tasks at once, after one that gave up waiting.
#[cfg(feature = "tokio")]
fn in_tokio(stop: Stop) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let given_up = tokio::time::timeout(Duration::from_millis(1), stop.future().unwrap()).await;
        say(format!("given up: {}", given_up.is_err()));
        let other = tokio::spawn(stop.future().unwrap());
        stop.future().unwrap().await;
        other.await.unwrap();
        stop.future().unwrap().await;
    });
}

/// Prints what socket 0 receives.
fn receive(stop: Stop) {
    let socket: UdpSocket = einhorn_child::take(0).unwrap();
    let mut packet = [0; 9];
    while stop.wait_readable(&socket).unwrap() {
        let length = socket.recv(&mut packet).unwrap();
        say(String::from_utf8_lossy(&packet[..length]));
    }
    assert!(!stop.wait_readable(&socket).unwrap(), "once asked, asked for good");
}

/// Sends one byte to each connection of sockets 0 and 1.
fn accept(stop: Stop) {
    let unix = einhorn_child::take::<UnixListener>(1).unwrap();
    let unix = std::thread::spawn(move || {
        while let Some((mut stream, _)) = stop.accept(&unix).unwrap() {
            stream.write_all(b"u").unwrap();
        }
    });
    let tcp = einhorn_child::take::<TcpListener>(0).unwrap();
    say("ready");
    while let Some((mut stream, _)) = stop.accept(&tcp).unwrap() {
        stream.write_all(b"t").unwrap();
    }
    unix.join().unwrap();
}

/// Accepts while no descriptor is left, until it pauses for that reason; then frees some.
fn accept_without_descriptors(stop: Stop) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut acceptor = File::open(format!("/proc/self/task/{}/stat", gettid())).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    assert_eq!(File::open("/dev/null").unwrap_err().raw_os_error(), Some(libc::EMFILE));
    let relief = std::thread::spawn(move || {
        let mut stat = String::new();
        while !stat.contains(") S ") {
            stat.clear();
            acceptor.rewind().unwrap();
            acceptor.read_to_string(&mut stat).unwrap();
        }
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    });
    let accepted = stop.accept(&listener);
    relief.join().unwrap();
    say(format!("accepted: {}", accepted.unwrap().is_some()));
}

fn ready(role: &str) -> Running {
    let mut worker = Worker::new(role).spawn();
    worker.hear("ready");
    worker
}

#[test]
fn a_stop_is_seen_in_every_way_of_looking() {
    for role in ["flag", "wait", "descriptor"] {
        let worker = ready(role);
        worker.signal(Sent::SIGUSR2);
        assert_eq!(worker.finish(), ["ready", "asked 1 times, first by SIGUSR2"], "as {role}");
    }
}

#[test]
fn a_wait_with_a_timeout_says_which_of_the_two_ended_it() {
    let mut worker = ready("timeout");
    worker.hear("in no time: false");
    worker.signal(Sent::SIGTERM);
    assert_eq!(worker.finish().last().unwrap(), "asked 1 times, first by SIGTERM");
}

#[cfg(feature = "tokio")]
#[test]
fn futures_end_with_the_stop_and_one_that_was_dropped_misses_nothing() {
    let mut worker = ready("future");
    worker.hear("given up: true");
    worker.signal(Sent::SIGINT);
    assert_eq!(worker.finish().last().unwrap(), "asked 1 times, first by SIGINT");
}

#[test]
fn a_second_request_is_counted_and_the_first_one_named() {
    let mut worker = ready("twice");
    worker.signal(Sent::SIGUSR2);
    worker.hear("once");
    worker.signal(Sent::SIGTERM);
    assert_eq!(worker.finish().last().unwrap(), "asked 2 times, first by SIGUSR2");
}

#[test]
fn installing_again_adds_signals_and_counts_each_once() {
    for signal in [Sent::SIGHUP, Sent::SIGTERM] {
        let worker = ready("again");
        worker.signal(signal);
        assert_eq!(worker.finish().last().unwrap(), &format!("asked 1 times, first by {}", signal.as_str()));
    }
}

#[test]
fn other_signals_keep_their_action() {
    let mut worker = ready("window");
    worker.signal(Sent::SIGUSR2);
    assert_eq!(worker.end().signal(), Some(Sent::SIGUSR2 as i32));
    let worker = ready("window");
    worker.signal(Sent::SIGWINCH);
    assert_eq!(worker.finish().last().unwrap(), "asked 1 times, first by SIGWINCH");
    let mut worker = ready("wait");
    worker.signal(Sent::SIGQUIT);
    assert_eq!(worker.end().signal(), Some(Sent::SIGQUIT as i32));
}

#[test]
fn signals_that_cannot_be_caught_are_refused_by_name() {
    for (signal, message) in [
        (9, "cannot listen for signal 9: this signal cannot be caught"),
        (0, "cannot listen for signal 0: Invalid argument (os error 22)"),
        (-1, "cannot listen for signal -1: Invalid argument (os error 22)"),
        (99, "cannot listen for signal 99: Invalid argument (os error 22)"),
    ] {
        let error = Stop::on([Signal::from_number(signal)]).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (std::io::ErrorKind::InvalidInput, message.to_owned()));
    }
}

/// Each connection wakes both workers, and one of them finds that the other was faster. A blocking accept would
/// then wait and miss the stop.
#[test]
fn workers_on_one_listener_stop_even_if_another_takes_each_connection() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("worker.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let address = tcp.local_addr().unwrap();
    let workers = [(); 2].map(|()| {
        let mut worker = Worker::new("accept").fd(&tcp).fd(&unix).numbered().spawn();
        worker.hear("ready");
        worker
    });
    let check = |mut stream: Box<dyn Read>, byte: &str| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, byte);
    };
    for _ in 0..200 {
        // Another holder changes the flag: the workers must not end up in a blocking accept.
        tcp.set_nonblocking(false).unwrap();
        check(Box::new(TcpStream::connect(address).unwrap()), "t");
        check(Box::new(UnixStream::connect(&path).unwrap()), "u");
    }
    let [first, second] = workers;
    first.signal(Sent::SIGUSR2);
    first.finish();
    check(Box::new(TcpStream::connect(address).unwrap()), "t");
    second.signal(Sent::SIGUSR2);
    second.finish();
}

#[test]
fn a_wait_for_a_socket_ends_when_it_is_readable_and_when_the_worker_is_to_stop() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut worker = Worker::new("readable").fd(&socket).numbered().spawn();
    worker.hear("ready");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for packet in ["one", "two"] {
        client.send_to(packet.as_bytes(), socket.local_addr().unwrap()).unwrap();
        worker.hear(packet);
    }
    worker.signal(Sent::SIGTERM);
    assert_eq!(worker.finish(), ["ready", "one", "two", "asked 1 times, first by SIGTERM"]);
}

#[test]
fn a_connection_that_finds_no_descriptor_left_is_late_and_not_lost() {
    assert_eq!(Worker::new("shortage").run(), ["ready", "accepted: true"]);
}
