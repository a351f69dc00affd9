//! A connection to a master: sends requests and reads replies, within a [`Wait`].

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use einhorn_proto::{LineBuffer, RequestErrorKind, RequestId};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{UnixCredentials, getsockopt};
use serde_json::value::{RawValue, to_raw_value};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::ask::{Ask, as_einhorn_reads_it};
use crate::wait::{Ended, Wait};

/// The longest accepted reply, in bytes: `status` of [`einhorn_proto::WORKERS_MAX`] workers takes a few million, and
/// `state` may grow.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// How long connect(2) waits for room in the master's queue before the deadline and Ctrl-C are checked again.
const CONNECT_SLICE: Duration = Duration::from_millis(100);

/// A reply whose data is not yet parsed, and is printed as the master wrote it by `--json`.
pub(crate) type Reply = einhorn_proto::Reply<Box<RawValue>>;

/// A connected client.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    lines: LineBuffer,
    /// How many requests were sent. The last one has this number as its id.
    requests: u64,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The wait was over.
    Ended(Ended),
    /// The master closed the connection.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// A line is no reply.
    Garbage(String),
}

impl From<Ended> for Fault {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Failed(error) => Self::Broken(error),
            ended => Self::Ended(ended),
        }
    }
}

impl Connection {
    /// Connects to the master that listens at `path`.
    ///
    /// # Errors
    /// [`Fault::Broken`] with the system's error, or [`Fault::Ended`] if the master does not accept in time.
    pub(crate) fn open(path: &Path, wait: &Wait<'_>) -> Result<Self, Fault> {
        let address = SockAddr::unix(path).map_err(Fault::Broken)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(Fault::Broken)?;
        loop {
            // With a full queue, connect(2) waits for SO_SNDTIMEO; then try again.
            let slice = wait.check()?.map_or(CONNECT_SLICE, |rest| rest.min(CONNECT_SLICE));
            let slice = slice.max(Duration::from_millis(1));
            socket.set_write_timeout(Some(slice)).map_err(Fault::Broken)?;
            match socket.connect(&address) {
                Ok(()) => break,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(Fault::Broken(error)),
            }
        }
        socket.set_nonblocking(true).map_err(Fault::Broken)?;
        let stream = UnixStream::from(OwnedFd::from(socket));
        Ok(Self { stream, lines: LineBuffer::with_limit(REPLY_BYTES_MAX), requests: 0 })
    }

    /// The process that listens at the socket, and its user. The pid is 0 if it is in a pid namespace that cannot be seen.
    ///
    /// # Source
    /// `SO_PEERCRED` of `unix(7)`: whoever called `listen(2)`, whether it has accepted yet or not.
    pub(crate) fn peer(&self) -> Result<UnixCredentials, Errno> {
        getsockopt(&self.stream, PeerCredentials)
    }

    /// A new id for a request on this connection.
    pub(crate) fn next_id(&mut self) -> RequestId {
        self.requests += 1;
        RequestId::from(self.requests)
    }

    /// Sends `ask` under `id`, and returns how many of its bytes went out before the master hung up, or all of them.
    /// If none went out, the master cannot have acted on it. Either way the master may have left a reply with the
    /// reason, so the next step is [`Self::next_reply`].
    ///
    /// # Errors
    /// [`Fault`], after which the connection is unusable.
    pub(crate) fn send(&mut self, id: &RequestId, ask: &dyn Ask, wait: &Wait<'_>) -> Result<usize, Fault> {
        let line = as_einhorn_reads_it(&ask.to_json(id));
        let mut sent = 0;
        while sent < line.len() {
            match self.stream.write(&line.as_bytes()[sent..]) {
                Ok(count) => sent += count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => wait.until(self.stream.as_fd(), PollFlags::POLLOUT)?,
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => break,
                    _ => return Err(Fault::Broken(error)),
                },
            }
        }
        Ok(sent)
    }

    /// Waits for the next reply to request `id`. It skips replies to other requests, and accepts one without an id:
    /// einhorn sends none, nor does a master that could not read the line.
    ///
    /// # Errors
    /// [`Fault`], after which the connection is unusable.
    pub(crate) fn next_reply(&mut self, id: &RequestId, wait: &Wait<'_>) -> Result<Reply, Fault> {
        loop {
            while let Some(line) =
                self.lines.next_line().map_err(|error| Fault::Garbage(error.to_string()))?
            {
                let reply = parse(&line)?;
                if is_for(&reply, id) {
                    return Ok(reply);
                }
            }
            wait.until(self.stream.as_fd(), PollFlags::POLLIN)?;
            match self.read() {
                Ok(0) => return self.last_words(id),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock => {}
                    ErrorKind::ConnectionReset => return Err(Fault::Closed),
                    _ => return Err(Fault::Broken(error)),
                },
            }
        }
    }

    /// The last line may be complete without a newline.
    fn last_words(&mut self, id: &RequestId) -> Result<Reply, Fault> {
        let rest = self.lines.take_rest();
        let reply = rest.and_then(|line| parse(&line).ok());
        reply.filter(|reply| is_for(reply, id)).ok_or(Fault::Closed)
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        let count = self.stream.read(&mut bytes)?;
        self.lines.push(&bytes[..count]);
        Ok(count)
    }
}

fn is_for(reply: &Reply, id: &RequestId) -> bool {
    reply.request_id.as_ref().is_none_or(|of| of == id)
}

/// Reads a line in either language. Our master answers JSON in JSON, whose data is kept as it was written; einhorn in
/// Ruby answers everything in escaped YAML.
fn parse(line: &[u8]) -> Result<Reply, Fault> {
    if let Ok(reply) = serde_json::from_slice(line) {
        return Ok(reply);
    }
    let reply = einhorn_proto::Reply::from_line(line).map_err(|error| {
        let why = match error {
            RequestErrorKind::NotJson(error) => error.to_string(),
            RequestErrorKind::NotYaml(error) => error.to_string(),
            error => error.to_string(),
        };
        let start = String::from_utf8_lossy(line);
        Fault::Garbage(format!("\"{}\" is no reply: {why}", crate::text::cut(&start, 40)))
    })?;
    let einhorn_proto::Reply { message, request_id, wait, ok, refused, data } = reply;
    let data = data.and_then(|data| to_raw_value(&data).ok());
    Ok(Reply { message, request_id, wait, ok, refused, data })
}
