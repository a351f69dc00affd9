//! HTTP clients that count an answer as lost if it is refused, reset, cut, malformed or late.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use super::{Control, PATIENCE, Running, Worker, ack_of};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n";

/// A client's connection.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// The parts of an answer that matter here.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) closes: bool,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: &str) -> io::Result<()> {
        self.stream.write_all(bytes.as_bytes())
    }

    /// Sends a request that keeps the connection, and reads the answer.
    pub(crate) fn get(&mut self) -> io::Result<Answer> {
        self.send(&format!("{REQUEST}\r\n"))?;
        self.answer()
    }

    /// Sends the last request, reads the answer, and expects the server to close.
    pub(crate) fn get_and_close(&mut self) -> io::Result<Answer> {
        self.send(&format!("{REQUEST}Connection: close\r\n\r\n"))?;
        let answer = self.answer()?;
        self.see_close()?;
        Ok(answer)
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    /// Reads the head of an answer, in lower case.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive()?;
        };
        let head = self.received.drain(..end).collect();
        Ok(String::from_utf8(head).map_err(io::Error::other)?.to_ascii_lowercase())
    }

    /// Reads a whole answer.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head()?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim().to_owned())
        };
        let length = header("content-length").and_then(|length| length.parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::Error::other(format!("not an answer: {head}")));
        };
        while self.received.len() < length {
            self.receive()?;
        }
        let body = String::from_utf8(self.received.drain(..length).collect()).map_err(io::Error::other)?;
        Ok(Answer { status, closes: header("connection").is_some_and(|value| value == "close"), body })
    }

    /// Checks that the server closes the connection here, without a reset.
    pub(crate) fn see_close(&mut self) -> io::Result<()> {
        match self.stream.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(io::Error::other("the server says more than it should")),
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut chunk = [0; 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.received.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}

/// A pool of one worker; this process plays the master.
pub(crate) struct Pool {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    control: Control,
    example: &'static str,
}

impl Pool {
    pub(crate) fn of(example: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        Self { address, listener, control: Control::new(), example }
    }

    /// Starts a worker and waits for its ack.
    pub(crate) fn spawn(&self) -> Running {
        let worker = Worker::example(self.example).fd(&self.listener).numbered().supervised();
        let worker =
            worker.env("EINHORN_SOCK_PATH", self.control.path()).env("EINHORN_GENERATION", "7").spawn();
        assert_eq!(self.control.read_next(), ack_of(worker.pid()));
        worker
    }

    /// Starts a worker next to one that was asked to stop. Returns when a new connection reaches it, which
    /// shows that the other has received the signal.
    pub(crate) fn spawn_successor(&self) -> Running {
        let successor = self.spawn();
        let name = successor.pid().to_string();
        let answer = || Client::connect(self.address).and_then(|mut client| client.get()).expect("an answer");
        while !answer().body.contains(&name) {}
        successor
    }

    /// Replaces the worker `rounds` times under the load of `clients` of each kind; returns the number of
    /// answers, and what was lost.
    pub(crate) fn replace_under_load(&self, rounds: usize, clients: usize) -> (u64, Vec<String>) {
        let (answers, lost, over) = (AtomicU64::new(0), Mutex::new(Vec::new()), AtomicBool::new(false));
        let client = |keep_alive: bool| {
            let mut connection = None;
            while !over.load(Ordering::Relaxed) {
                match request(self.address, keep_alive, &mut connection) {
                    Ok(Answer { status: 200, .. }) => _ = answers.fetch_add(1, Ordering::Relaxed),
                    Ok(answer) => lost.lock().expect("no panic").push(format!("{answer:?}")),
                    Err(error) => {
                        connection = None;
                        lost.lock().expect("no panic").push(format!("keep-alive {keep_alive}: {error}"));
                    }
                }
            }
        };
        // The last worker must outlive the clients.
        let mut worker = self.spawn();
        thread::scope(|scope| {
            // Also on a panic, or the scope would wait forever.
            let _over = SetOnDrop(&over);
            for number in 0..2 * clients {
                scope.spawn(move || client(number % 2 == 0));
            }
            for _ in 0..rounds {
                let seen = answers.load(Ordering::Relaxed);
                while answers.load(Ordering::Relaxed) < seen + 20 * clients as u64 {
                    thread::yield_now();
                }
                let successor = self.spawn();
                let predecessor = std::mem::replace(&mut worker, successor);
                predecessor.signal(Signal::SIGUSR2);
                predecessor.finish();
            }
        });
        (answers.into_inner(), lost.into_inner().expect("no panic"))
    }
}

fn request(address: SocketAddr, keep_alive: bool, connection: &mut Option<Client>) -> io::Result<Answer> {
    if !keep_alive {
        return Client::connect(address)?.get_and_close();
    }
    let mut client = match connection.take() {
        Some(client) => client,
        None => Client::connect(address)?,
    };
    let answer = client.get()?;
    if !answer.closes {
        *connection = Some(client);
    }
    Ok(answer)
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
