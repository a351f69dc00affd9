//! One request at a time, held in hand: who answered it, or that it still waits.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use crate::wait;

/// What the worker program `serve` says of itself in each answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Facts {
    /// Its pid.
    pub pid: i32,
    /// Its slot.
    pub slot: Option<u32>,
    /// Its generation.
    pub generation: Option<u64>,
}

/// A request over TCP that was sent and may wait in a queue.
#[derive(Debug)]
pub struct Question(TcpStream);

impl Question {
    /// Asks on a connection of its own.
    ///
    /// # Panics
    /// If nobody listens at `address`.
    #[track_caller]
    #[must_use]
    pub fn ask(address: SocketAddr) -> Self {
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&address, wait::patience())?;
            stream.set_read_timeout(Some(wait::patience()))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
            io::Result::Ok(Self(stream))
        };
        ask().unwrap_or_else(|error| panic!("cannot ask at {address}: {error}"))
    }

    /// Whether an answer has begun to come, or will never come.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    /// Who answers.
    ///
    /// # Errors
    /// Those of `read(2)`: the connection was reset, or no answer came in time; or the answer is not whole.
    pub fn answer(mut self) -> io::Result<Facts> {
        let mut text = String::new();
        self.0.read_to_string(&mut text)?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|error| io::Error::other(format!("{error} in answer {text:?}")))
    }
}

/// Asks so often, each time on a new connection and without waiting for the answer to the one before; gives who
/// answered.
///
/// # Panics
/// If a request is lost.
#[track_caller]
#[must_use]
pub fn ask_often(address: SocketAddr, count: usize) -> Vec<Facts> {
    let asked: Vec<_> = (0..count).map(|_| Question::ask(address)).collect();
    let answers = asked.into_iter().enumerate();
    answers
        .map(|(number, question)| {
            question.answer().unwrap_or_else(|error| panic!("request {number} was lost: {error}"))
        })
        .collect()
}

/// A client over UDP: always the same source.
#[derive(Debug)]
pub struct Flow(UdpSocket);

impl Flow {
    /// A client of the server at `address`.
    ///
    /// # Panics
    /// If there is no port for it.
    #[track_caller]
    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(wait::patience())).expect("a time-out");
        socket.connect(address).expect("an address of this machine");
        Self(socket)
    }

    /// Sends a packet that asks for an answer.
    ///
    /// # Panics
    /// If it cannot be sent.
    #[track_caller]
    pub fn ask(&self) {
        self.0.send(b"hello").expect("a packet is sent");
    }

    /// The next answer.
    ///
    /// # Panics
    /// If none comes: a packet, or its answer, was lost.
    #[track_caller]
    #[must_use]
    pub fn answer(&self) -> Facts {
        let mut answer = [0; 512];
        let count = self.0.recv(&mut answer).unwrap_or_else(|error| panic!("a packet was lost: {error}"));
        serde_json::from_slice(&answer[..count]).expect("facts")
    }
}
