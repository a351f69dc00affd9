//! The load client sees every way in which a request can be lost: what it counts can be trusted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};
use tests::load::{Fault, Plan, Report};
use tests::{Process, binaries, wait};

tests::trials! {
    a_port_where_nobody_listens_is_refused,
    a_listener_closed_with_connections_queued_is_a_reset_for_each,
    a_server_that_resets_is_seen,
    an_answer_that_ends_half_way_is_cut_and_says_who_began_it,
    a_chunked_answer_that_lacks_its_last_chunk_is_cut,
    a_chunked_answer_is_whole_with_its_last_chunk,
    a_kept_connection_that_ends_unannounced_is_cut,
    a_kept_connection_that_ends_as_announced_is_no_loss,
    no_answer_by_the_deadline_is_late,
    garbage_a_wrong_status_and_surplus_bytes_are_wrong,
    a_report_with_one_loss_fails_a_test,
    a_load_that_ran_out_fails_a_test,
    a_worker_without_a_master_answers_every_request,
    a_worker_asked_to_stop_keeps_its_promise_to_every_kept_connection,
    a_killed_worker_loses_exactly_the_requests_that_it_held,
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Worker: 4711 7\r\n\r\nyes";

/// A listener that treats each connection as `serve` says, on a thread that ends with the test's process.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

fn read_request(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(count) => seen.extend_from_slice(&bytes[..count]),
        }
    }
}

fn answering(text: &'static str) -> SocketAddr {
    server(move |mut stream| {
        read_request(&mut stream);
        // The client may have gone.
        let _ = stream.write_all(text.as_bytes());
    })
}

/// Five requests one after another, on fresh connections or on kept ones.
fn five(address: SocketAddr, keep_alive: bool) -> Report {
    let clients = if keep_alive { (0, 1) } else { (1, 0) };
    let plan = Plan { fresh: clients.0, keep_alive: clients.1, requests_max: 5, ..Plan::new(address) };
    plan.start().run_to_end()
}

fn refuse_and_count(report: &Report, count: impl Fn(&Report) -> u64) {
    assert_eq!((report.requests, report.failed()), (5, 5), "{report}");
    assert_eq!(count(report), 5, "{report}");
    assert_eq!(report.failures.len(), 5, "{report}");
}

fn a_port_where_nobody_listens_is_refused() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    let report = five(address.expect("its address"), false);
    refuse_and_count(&report, |report| report.refused);
}

fn a_listener_closed_with_connections_queued_is_a_reset_for_each() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let plan = Plan {
        fresh: 8,
        keep_alive: 0,
        requests_max: 8,
        ..Plan::new(listener.local_addr().expect("its address"))
    };
    let load = plan.start();
    wait::wait_for("8 clients in the queue", || {
        (load.waiting_longer_than(Duration::ZERO).len() == 8).then_some(())
    });
    drop(listener);
    let report = load.run_to_end();
    assert_eq!((report.requests, report.reset), (8, 8), "{report}");
}

fn a_server_that_resets_is_seen() {
    let address = server(|stream| {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    });
    for keep_alive in [false, true] {
        refuse_and_count(&five(address, keep_alive), |report| report.reset);
    }
}

fn an_answer_that_ends_half_way_is_cut_and_says_who_began_it() {
    let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Worker: 4711 7\r\n\r\nye");
    for keep_alive in [false, true] {
        let report = five(address, keep_alive);
        refuse_and_count(&report, |report| report.cut);
        let worker = report.failures[0].worker.expect("the head was there");
        assert_eq!((worker.pid, worker.generation), (4711, 7));
    }
}

fn a_chunked_answer_that_lacks_its_last_chunk_is_cut() {
    let address = answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n");
    refuse_and_count(&five(address, false), |report| report.cut);
}

fn a_chunked_answer_is_whole_with_its_last_chunk() {
    let address = answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n");
    let report = five(address, false);
    assert_eq!((report.requests, report.failed()), (5, 0), "{report}");
}

/// The client comes back to a connection whose server promised to keep it: the promise was broken.
fn a_kept_connection_that_ends_unannounced_is_cut() {
    let address = server(|mut stream| {
        read_request(&mut stream);
        stream.write_all(WHOLE.as_bytes()).expect("the client waits");
        // The end is sent when the next request has come: sent before, it would reset that one.
        read_request(&mut stream);
        stream.shutdown(Shutdown::Both).expect("an open connection");
    });
    let report = five(address, true);
    assert_eq!((report.requests, report.cut, report.failed()), (5, 2, 2), "{report}");
    assert_eq!(report.failures[0].answers_before, 1, "{report}");
}

fn a_kept_connection_that_ends_as_announced_is_no_loss() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\nX-Worker: 4711 7\r\n\r\nyes",
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nX-Worker: 4711 7\r\n\r\nyes",
    ] {
        let report = five(answering(text), true);
        assert_eq!((report.requests, report.failed(), report.connections), (5, 0, 5), "{report}");
        assert_eq!(report.generations(), [7].into());
    }
}

fn no_answer_by_the_deadline_is_late() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let plan = Plan {
        fresh: 1,
        keep_alive: 0,
        requests_max: 5,
        deadline: Duration::from_millis(100),
        ..Plan::new(listener.local_addr().expect("its address"))
    };
    refuse_and_count(&plan.start().run_to_end(), |report| report.late);
}

fn garbage_a_wrong_status_and_surplus_bytes_are_wrong() {
    for text in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nno length",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes, and more",
    ] {
        let report = five(answering(text), false);
        refuse_and_count(&report, |report| report.wrong);
        assert!(matches!(report.failures[0].fault, Fault::Wrong(_)), "{report}");
    }
}

/// What a report says when it fails a test.
#[track_caller]
fn failure(report: &Report) -> String {
    let failure = panic::catch_unwind(AssertUnwindSafe(|| report.assert_nothing_lost()));
    failure.expect_err("a failed test").downcast_ref().cloned().unwrap_or_default()
}

fn a_report_with_one_loss_fails_a_test() {
    let report = five(answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), false);
    assert!(failure(&report).contains("requests were lost"), "{report}");
}

fn a_load_that_ran_out_fails_a_test() {
    let load = Plan { fresh: 1, keep_alive: 0, requests_max: 2, ..Plan::new(answering(WHOLE)) }.start();
    load.wait_for_answers(2);
    wait::wait_for("the client's end", || load.has_ended().then_some(()));
    let report = load.stop();
    assert!(failure(&report).contains("the load ended before the test did"), "{report}");
}

/// The worker program, run without a master.
struct Serve {
    child: Child,
    address: SocketAddr,
}

impl Serve {
    fn start(knobs: &[&str]) -> Self {
        let mut command = Command::new(binaries::worker("serve"));
        command.arg("bind=127.0.0.1:0").args(knobs).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the worker program");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").and_then(|text| text.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("it says {line:?}")) }
    }

    fn process(&self) -> Process {
        Process::of(self.child.id() as i32).expect("a running worker")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_worker_without_a_master_answers_every_request() {
    let serve = Serve::start(&[]);
    let load = Plan::new(serve.address).start();
    load.wait_for_answers(2000);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.pids(), [serve.child.id() as i32].into(), "{report}");
    assert_eq!(report.requests, report.answered_by.values().sum::<u64>(), "{report}");
    assert_eq!(report.answers.len() as u64, report.requests, "{report}");
}

/// Each kept connection is told with an answer that it was the last. There is no master to hold the listener,
/// so whoever comes back is refused, or reset in the queue of a listener that closes: never after an answer.
fn a_worker_asked_to_stop_keeps_its_promise_to_every_kept_connection() {
    let serve = Serve::start(&["request_ms=20"]);
    let load = Plan { fresh: 0, keep_alive: 32, ..Plan::new(serve.address) }.start();
    load.wait_for_answers(100);
    assert!(serve.process().signal(Signal::SIGUSR2));
    serve.process().wait_gone();
    wait::wait_for("every client to have come back", || (load.failed() >= 32).then_some(()));
    let report = load.stop();
    assert_eq!(report.failed(), report.refused + report.reset, "{report}");
    assert!(report.failures.iter().all(|failure| failure.answers_before == 0), "{report}");
}

fn a_killed_worker_loses_exactly_the_requests_that_it_held() {
    let serve = Serve::start(&[]);
    let load = Plan {
        path: "/hold/60000".into(),
        fresh: 8,
        keep_alive: 8,
        requests_max: 16,
        ..Plan::new(serve.address)
    }
    .start();
    wait::wait_for("16 requests held", || {
        let descriptors = serve.process().descriptors();
        let sockets = descriptors.values().filter(|descriptor| descriptor.target.starts_with("socket:"));
        let waiting = load.waiting_longer_than(Duration::from_millis(400));
        // The listener is a socket too.
        (sockets.count() == 17 && waiting.len() == 16).then_some(())
    });
    serve.process().signal(Signal::SIGKILL);
    let report = load.run_to_end();
    assert_eq!((report.requests, report.reset + report.cut), (16, 16), "{report}");
    assert!(report.failures.iter().all(|failure| failure.worker.is_some()), "{report}");
}
