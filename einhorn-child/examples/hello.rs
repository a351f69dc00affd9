//! An HTTP/1.1 server that says hello, with only the standard library and `einhorn-child`.
//!
//! ```text
//! einhyrningsins -n 4 -b 127.0.0.1:8000 -m -- target/release/examples/hello
//! target/release/examples/hello 127.0.0.1:8000     # alone
//! ```
//!
//! Each answer names the process and its generation, so you can watch an upgrade with `curl`. A thread serves
//! each connection. When asked to stop, the server stops accepting, answers everything that it accepted, and
//! exits with status 0 when the last connection is closed:
//! - a request in flight is answered;
//! - the next request of each kept-alive connection is answered with `Connection: close`. An idle connection is
//!   closed after the time that every answer announces (`Keep-Alive: timeout=5`), and not earlier: the client's
//!   next request may be in flight, and closing would lose it.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use einhorn_child::Stop;

/// How long an idle connection is kept, as announced to clients.
const IDLE_ANNOUNCED: Duration = Duration::from_secs(5);

/// How long it is really kept: longer, for a request that was sent in time and arrives late.
const IDLE_MAX: Duration = Duration::from_secs(7);

/// How long a client may take to hang up after the last answer.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest request body that is read and discarded, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often a draining server checks for a second request to stop.
const IMPATIENCE_CHECK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let stop = Stop::install()?;
    // Not `args`, which panics if any word, the program's own path too, is not UTF-8.
    let address = std::env::args_os().nth(1);
    let address = address.map_or("127.0.0.1:8000".into(), |address| address.to_string_lossy().into_owned());
    let listener = einhorn_child::inherit_or_bind(address.as_str())?;
    einhorn_child::ack()?;

    let open = Arc::new(OpenConnections::default());
    let accepting = accept_all(&listener, stop, &open);
    if let Some(signal) = stop.signal() {
        say(&format!("{signal}: answering accepted requests, then exiting"));
    }
    open.wait_for_none(stop)?;
    Ok(accepting?)
}

/// Writes a line to standard error in one piece and ignores errors: `eprintln` panics if standard error is
/// closed, which is no reason to drop accepted connections.
fn say(line: &str) {
    let _ = io::stderr().write_all(format!("hello[{}]: {line}\n", std::process::id()).as_bytes());
}

/// Accepts until asked to stop, or until the listener fails.
fn accept_all(listener: &TcpListener, stop: Stop, open: &Arc<OpenConnections>) -> io::Result<()> {
    while let Some((stream, _)) = stop.accept(listener)? {
        serve_in_thread(stream, stop, open);
    }
    Ok(())
}

/// Serves `stream` in its own thread, or in this one if the system has no thread left, because it must be
/// served.
fn serve_in_thread(stream: TcpStream, stop: Stop, open: &Arc<OpenConnections>) {
    let stream = Arc::new(stream);
    let guard = open.enter();
    let spawned = thread::Builder::new().spawn({
        let stream = Arc::clone(&stream);
        move || {
            let _guard = guard;
            serve(&stream, stop);
        }
    });
    if spawned.is_err() {
        serve(&stream, stop);
    }
}

/// Answers requests until one side ends the connection. An error means that the client is gone or silent, so
/// there is nobody to report it to.
fn serve(stream: &TcpStream, stop: Stop) {
    let mut connection = Connection { stream, buffer: Vec::new() };
    if let Ok(LastWord::Ours) = connection.answer_all(stop) {
        connection.close();
    }
}

/// Which side ended a connection.
enum LastWord {
    /// We did, with an answer that announces it.
    Ours,
    /// The client did: it hung up, or was silent for too long.
    Theirs,
}

struct Connection<'a> {
    stream: &'a TcpStream,
    /// Bytes that were read and not yet used: with pipelining, the next request.
    buffer: Vec<u8>,
}

impl Connection<'_> {
    fn answer_all(&mut self, stop: Stop) -> io::Result<LastWord> {
        self.stream.set_read_timeout(Some(IDLE_MAX))?;
        self.stream.set_nodelay(true)?;
        while let Some(head) = self.read_head()? {
            let request = match Request::parse(&head) {
                Ok(request) => request,
                Err(status) => {
                    self.answer(status, "", &Request::refused())?;
                    return Ok(LastWord::Ours);
                }
            };
            if request.expects_continue {
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            self.skip_body(request.body_bytes)?;
            // Closing would lose a request that is already in the buffer, so answer it first.
            let keep_alive = request.keep_alive && !(stop.is_requested() && self.buffer.is_empty());
            self.answer("200 OK", &greeting(), &Request { keep_alive, ..request })?;
            if !keep_alive {
                return Ok(LastWord::Ours);
            }
        }
        Ok(LastWord::Theirs)
    }

    /// Reads up to the empty line that ends a request's head. `None` if the client closed the connection or was
    /// silent for too long.
    fn read_head(&mut self) -> io::Result<Option<String>> {
        let mut searched = 0;
        loop {
            if let Some(end) = find(&self.buffer[searched..], b"\r\n\r\n").map(|at| searched + at + 4) {
                let head = self.buffer.drain(..end).collect();
                return String::from_utf8(head).map(Some).map_err(|_| io::ErrorKind::InvalidData.into());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            searched = self.buffer.len().saturating_sub(3);
            match self.read_more() {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn skip_body(&mut self, mut bytes: u64) -> io::Result<()> {
        loop {
            let here = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.drain(..here);
            bytes -= here as u64;
            if bytes == 0 {
                return Ok(());
            }
            if self.read_more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let read = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }

    fn answer(&mut self, status: &str, body: &str, request: &Request) -> io::Result<()> {
        let connection = match request.keep_alive {
            true => format!("keep-alive\r\nKeep-Alive: timeout={}", IDLE_ANNOUNCED.as_secs()),
            false => "close".to_owned(),
        };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        if !request.wants_head_only {
            answer.push_str(body);
        }
        self.stream.write_all(answer.as_bytes())
    }

    /// Ends the connection after its last answer. Closing with unread input pending would reset it, and the
    /// client's system might then discard the answer. So announce the end first, and let the client hang up.
    fn close(&mut self) {
        let _ = self.stream.set_read_timeout(Some(GOODBYE_MAX));
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut unread = 0;
        while unread < HEAD_BYTES_MAX {
            self.buffer.clear();
            match self.read_more() {
                Ok(read) if read > 0 => unread += read,
                _ => break,
            }
        }
    }
}

/// The parts of a request that matter here.
struct Request {
    keep_alive: bool,
    wants_head_only: bool,
    expects_continue: bool,
    body_bytes: u64,
}

impl Request {
    /// Parses a head, or returns the status with which to refuse the request.
    fn parse(head: &str) -> Result<Self, &'static str> {
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default();
        let [method, _target, version] = start.split(' ').collect::<Vec<_>>()[..] else {
            return Err("400 Bad Request");
        };
        let keep_alive = match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return Err("505 HTTP Version Not Supported"),
        };
        let wants_head_only = method == "HEAD";
        let mut request = Self { keep_alive, wants_head_only, expects_continue: false, body_bytes: 0 };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "connection" => {
                    for option in value.split(',').map(str::trim) {
                        request.keep_alive &= !option.eq_ignore_ascii_case("close");
                        request.keep_alive |= option.eq_ignore_ascii_case("keep-alive");
                    }
                }
                "content-length" => match value.parse() {
                    Ok(bytes) if bytes <= BODY_BYTES_MAX => request.body_bytes = bytes,
                    Ok(_) => return Err("413 Content Too Large"),
                    Err(_) => return Err("400 Bad Request"),
                },
                "transfer-encoding" => return Err("411 Length Required"),
                "expect" => request.expects_continue = value.eq_ignore_ascii_case("100-continue"),
                _ => {}
            }
        }
        Ok(request)
    }

    /// Stands for a request that could not be read: what follows it cannot be read either.
    fn refused() -> Self {
        Self { keep_alive: false, wants_head_only: false, expects_continue: false, body_bytes: 0 }
    }
}

fn greeting() -> String {
    let pid = std::process::id();
    match einhorn_child::generation() {
        Some(generation) => format!("hello from process {pid}, generation {generation}\n"),
        None => format!("hello from process {pid}\n"),
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Counts the open connections.
#[derive(Default)]
struct OpenConnections {
    count: Mutex<usize>,
    ended: Condvar,
}

impl OpenConnections {
    fn enter(self: &Arc<Self>) -> ConnectionGuard {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        ConnectionGuard(Arc::clone(self))
    }

    /// Waits until no connection is open; gives up on the rest when asked to stop again.
    fn wait_for_none(&self, stop: Stop) -> Result<(), Box<dyn Error>> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            if stop.requests() > 1 {
                return Err(format!("asked to stop again: {} connections left unfinished", *count).into());
            }
            count =
                self.ended.wait_timeout(count, IMPATIENCE_CHECK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

struct ConnectionGuard(Arc<OpenConnections>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_all();
    }
}
