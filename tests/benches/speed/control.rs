//! How many questions a master answers.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use tests::{Master, binaries, wait};

use crate::client::Client;
use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade::stop;

/// The word by which this program is told to be the floor: `echo-server PATH BYTES`.
pub(crate) const ECHO: &str = "echo-server";

/// Workers, connections, and how many answers a second are aimed at.
const CASES: [(u32, usize, f64); 3] = [(4, 1, 10_000.0), (4, 16, 40_000.0), (500, 1, 1_000.0)];

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(500);

const STATUS: &str = "{\"command\":\"status\"}\n";

pub(crate) fn run() {
    report::topic("control", "a process that answers every line with as many bytes that it has ready");
    for (workers, connections, aim) in CASES {
        let mut master = Master::builder().workers(workers).program([binaries::worker("tiny")]).start();
        let bytes = Client::connect(master.socket()).ask(STATUS).len();
        let echo = Echo::start(&master.file("echo.sock"), bytes);
        let (mut measured, mut floor) = (Figure::new(Unit::Rate), Figure::new(Unit::Rate));
        for _ in 0..ROUNDS {
            floor.add(answers_a_second(&master.file("echo.sock"), connections));
            measured.add(answers_a_second(master.socket(), connections));
        }
        let what = format!("status of {workers} workers ({bytes} bytes) on {connections}");
        report::line(&what, &measured, Some(&floor), Aim::AtLeast(aim));
        drop(echo);
        stop(&mut master);
    }
}

/// Asks for the status on so many connections, each of which waits for its answer before it asks again.
fn answers_a_second(socket: &Path, connections: usize) -> f64 {
    let (answers, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut streams: Vec<_> = (0..connections).map(|_| connect(socket)).collect();
    let begun = Instant::now();
    thread::scope(|scope| {
        for stream in &mut streams {
            scope.spawn(|| {
                let mut mine = 0;
                while !stop.load(Ordering::Relaxed) {
                    ask(stream);
                    mine += 1;
                }
                answers.fetch_add(mine, Ordering::Relaxed);
            });
        }
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
    });
    answers.into_inner() as f64 / begun.elapsed().as_secs_f64()
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("a connection to the socket");
    stream.set_read_timeout(Some(wait::patience())).expect("a time limit on the socket");
    stream
}

fn ask(stream: &mut UnixStream) {
    stream.write_all(STATUS.as_bytes()).expect("a request is taken");
    let mut bytes = [0; 64 * 1024];
    loop {
        let count = stream.read(&mut bytes).expect("an answer");
        assert!(count > 0, "the connection was closed");
        if bytes[count - 1] == b'\n' {
            return;
        }
    }
}

/// The floor, a process of its own as the master is.
struct Echo(Child);

impl Echo {
    fn start(socket: &Path, bytes: usize) -> Self {
        let program = std::env::current_exe().expect("this program's path");
        let mut command = Command::new(program);
        command.arg(ECHO).arg(socket).arg(bytes.to_string()).stdin(Stdio::null());
        let echo = Self(command.spawn().expect("this program, once more"));
        wait::wait_for("the echo server", || UnixStream::connect(socket).ok());
        echo
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers every line that comes over the socket at `path` with a line of `bytes` bytes, until it is killed.
pub(crate) fn echo(path: &str, bytes: &str) -> ExitCode {
    let mut answer = vec![b'.'; bytes.parse().unwrap_or(1)];
    answer.extend(b"\n");
    answer.remove(0);
    let listener = UnixListener::bind(path).expect("a socket to listen on");
    listener.set_nonblocking(true).expect("a socket that does not block");
    let mut listener = mio::net::UnixListener::from_std(listener);
    let mut poll = Poll::new().expect("an epoll descriptor");
    poll.registry().register(&mut listener, Token(0), Interest::READABLE).expect("a place in it");
    let mut clients: Vec<Option<EchoClient>> = Vec::new();
    let mut events = Events::with_capacity(64);
    loop {
        poll.poll(&mut events, None).expect("events");
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((mut stream, _)) = listener.accept() {
                    let token = Token(clients.len() + 1);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, token, interest).expect("a place in it");
                    clients.push(Some(EchoClient { stream, unsent: Vec::new() }));
                }
            } else if let Some(place) = clients.get_mut(event.token().0 - 1)
                && place.as_mut().is_some_and(|client| !client.serve(&answer))
            {
                *place = None;
            }
        }
    }
}

struct EchoClient {
    stream: mio::net::UnixStream,
    unsent: Vec<u8>,
}

impl EchoClient {
    /// Answers what has come; `false` when the client has gone.
    fn serve(&mut self, answer: &[u8]) -> bool {
        let mut bytes = [0; 4096];
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(count) => drop(self.unsent.drain(..count)),
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => {
                    for _ in bytes[..count].iter().filter(|byte| **byte == b'\n') {
                        self.unsent.extend_from_slice(answer);
                    }
                }
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }
}
