//! Reading one answer of HTTP/1.1 or 1.0, and telling in how many ways it can go wrong.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

use crate::stream::Stream;

/// No answer of a test server has a longer head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Which worker answered, from the header `X-Worker: PID GENERATION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId {
    /// Its pid.
    pub pid: i32,
    /// Its generation.
    pub generation: u64,
}

/// One whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Who answered, if it said.
    pub worker: Option<WorkerId>,
    /// Whether the server will close the connection.
    pub close: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Why a request was not answered as it should be.
#[derive(Debug)]
pub enum Fault {
    /// Nobody listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer was whole.
    Cut,
    /// The answer was not whole when the deadline had passed.
    Late,
    /// What came was not the answer that was asked for.
    Wrong(String),
    /// This process could not even ask, for instance for want of a port; it says nothing of the server.
    Client(io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Cut => f.write_str("cut"),
            Self::Late => f.write_str("late"),
            Self::Wrong(what) => write!(f, "wrong answer: {what}"),
            Self::Client(error) => write!(f, "the client's own fault: {error}"),
        }
    }
}

impl Fault {
    /// What an error of `connect(2)` means.
    pub(super) fn of_connect(error: io::Error) -> Self {
        match error.kind() {
            // Of a Unix socket: the path leads nowhere.
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Self::Refused,
            ErrorKind::ConnectionReset => Self::Reset,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Late,
            _ => Self::Client(error),
        }
    }

    /// What an error of `read(2)` or `write(2)` means.
    pub(super) fn of_transfer(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Self::Reset,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Late,
            _ => Self::Client(error),
        }
    }
}

/// Reads one answer; a new one for each.
#[derive(Debug)]
pub(super) struct AnswerReader<'a> {
    stream: &'a Stream,
    deadline: Instant,
    bytes: Vec<u8>,
    /// Who is answering, known as soon as the head is there, even if the rest never comes.
    pub(super) worker: Option<WorkerId>,
}

impl<'a> AnswerReader<'a> {
    pub(super) fn new(stream: &'a Stream, deadline: Instant) -> Self {
        Self { stream, deadline, bytes: Vec::new(), worker: None }
    }

    /// Reads the whole answer.
    pub(super) fn read(&mut self) -> Result<Answer, Fault> {
        let head_length = loop {
            if let Some(at) = find(&self.bytes, b"\r\n\r\n") {
                break at + 4;
            }
            if self.bytes.len() > HEAD_BYTES_MAX {
                return Err(Fault::Wrong(format!("a head of more than {HEAD_BYTES_MAX} bytes")));
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.bytes[..head_length]).into_owned();
        self.bytes.drain(..head_length);
        let head = Head::parse(&head)?;
        self.worker = head.worker;
        let body = match head.length {
            Length::Bytes(count) => self.take(count)?,
            Length::Chunked => self.chunks()?,
        };
        if !self.bytes.is_empty() {
            return Err(Fault::Wrong(format!("{} bytes more than the answer has", self.bytes.len())));
        }
        Ok(Answer { status: head.status, worker: head.worker, close: head.close, body })
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| Fault::Wrong(format!("a chunk of size {size:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            self.line()?;
        }
    }

    fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(at) = find(&self.bytes, b"\r\n") {
                let line: Vec<u8> = self.bytes.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, Fault> {
        while self.bytes.len() < count {
            self.fill()?;
        }
        Ok(self.bytes.drain(..count).collect())
    }

    fn fill(&mut self) -> Result<(), Fault> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(1) {
            return Err(Fault::Late);
        }
        self.stream.set_read_timeout(Some(left)).map_err(Fault::Client)?;
        let mut bytes = [0; 4096];
        match (&mut &*self.stream).read(&mut bytes) {
            Ok(0) => Err(Fault::Cut),
            Ok(count) => {
                self.bytes.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(Fault::of_transfer(error)),
        }
    }
}

/// How long a body is.
enum Length {
    Bytes(usize),
    Chunked,
}

struct Head {
    status: u16,
    worker: Option<WorkerId>,
    close: bool,
    length: Length,
}

impl Head {
    fn parse(text: &str) -> Result<Self, Fault> {
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let (version, rest) = first.split_once(' ').unwrap_or_default();
        let status = rest.get(..3).and_then(|status| status.parse().ok());
        let status = status.filter(|_| ["HTTP/1.0", "HTTP/1.1"].contains(&version));
        let status = status.ok_or_else(|| Fault::Wrong(format!("begins with {first:?}")))?;
        // HTTP/1.0 keeps a connection only if the client asks for that.
        let (mut worker, mut close, mut length) = (None, version == "HTTP/1.0", None);
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) =
                line.split_once(':').ok_or_else(|| Fault::Wrong(format!("header {line:?}")))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-worker" => worker = worker_id(value),
                "connection" => close = value.eq_ignore_ascii_case("close"),
                "content-length" => length = value.parse().ok().map(Length::Bytes),
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                    length = Some(Length::Chunked);
                }
                _ => {}
            }
        }
        // An answer that ends with the connection cannot be told from one that was cut.
        let length = length.ok_or_else(|| Fault::Wrong("no length".into()))?;
        Ok(Self { status, worker, close, length })
    }
}

fn worker_id(value: &str) -> Option<WorkerId> {
    let (pid, generation) = value.split_once(' ')?;
    Some(WorkerId { pid: pid.parse().ok()?, generation: generation.parse().ok()? })
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
