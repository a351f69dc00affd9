//! One connection: as much of HTTP/1.1 as a load needs.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use tests::stream::Stream;

use crate::stop::Stop;

/// No request of a test has a longer head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What all connections have in common.
#[derive(Debug)]
pub(crate) struct Service {
    /// Set when the worker was asked to stop.
    pub(crate) stop: Stop,
    /// The status of HTTP that each answer has.
    pub(crate) status: u16,
    /// How long a request takes.
    pub(crate) request: Duration,
    /// The CPU time that it then uses.
    pub(crate) request_burn: Duration,
    /// What a request then waits for.
    pub(crate) request_gate: Option<PathBuf>,
    /// How long an idle connection may send its last request.
    pub(crate) linger: Duration,
    /// `PID GENERATION`, for the header `X-Worker`.
    pub(crate) worker: String,
    /// The body of an answer, but for the listener that the connection came by.
    pub(crate) facts: String,
}

/// Serves a connection to its end.
///
/// # Errors
/// Those of the connection; nobody is left to tell.
pub(crate) fn serve(service: &Service, stream: &Stream, listener: usize) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay()?;
    let mut unread = Vec::new();
    while wait_for_request(service, stream)?
        && answer_next(service, stream, &mut unread, listener)? == AfterAnswer::Keep
    {}
    Ok(())
}

/// Waits for the next request and answers it. `unread` keeps what was read of the request after it.
///
/// # Errors
/// Those of the connection.
pub(crate) fn answer_next(
    service: &Service,
    stream: &Stream,
    unread: &mut Vec<u8>,
    listener: usize,
) -> io::Result<AfterAnswer> {
    match read_head(stream, unread)? {
        Some(request) => answer(service, stream, &request, listener),
        None => Ok(AfterAnswer::Close),
    }
}

/// Waits until there is something to read; `false` when the worker stops and nothing came in time.
fn wait_for_request(service: &Service, stream: &Stream) -> io::Result<bool> {
    if !service.stop.is_asked() {
        let mut ready = [
            PollFd::new(stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(service.stop.as_fd(), PollFlags::POLLIN),
        ];
        retry(|| poll(&mut ready, PollTimeout::NONE))?;
        if ready[0].any() == Some(true) {
            return Ok(true);
        }
    }
    let deadline = Instant::now() + service.linger;
    let mut ready = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    let came = retry(|| {
        let left = deadline.saturating_duration_since(Instant::now());
        poll(&mut ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))
    })?;
    Ok(came > 0)
}

fn retry(mut call: impl FnMut() -> nix::Result<i32>) -> io::Result<i32> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// The head of a request.
struct Request {
    path: String,
    close: bool,
}

/// Reads the head of a request; `None` if the client has gone.
fn read_head(stream: &Stream, unread: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let length = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if unread.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("request head too long"));
        }
        let mut bytes = [0; 2048];
        match (&mut &*stream).read(&mut bytes)? {
            0 => return Ok(None),
            count => unread.extend_from_slice(&bytes[..count]),
        }
    };
    let head = String::from_utf8_lossy(&unread[..length]).to_ascii_lowercase();
    unread.drain(..length);
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    Ok(Some(Request { path, close: head.contains("\r\nconnection: close\r\n") }))
}

/// What happens to the connection.
#[derive(PartialEq, Eq)]
pub(crate) enum AfterAnswer {
    /// It ends, or its client has gone.
    Close,
    Keep,
}

/// Answers, on `/hold/MS` with the head at once and the body after that time, on any other path all at once.
fn answer(service: &Service, stream: &Stream, request: &Request, listener: usize) -> io::Result<AfterAnswer> {
    let hold = request.path.strip_prefix("/hold/").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    if hold.is_none() {
        thread::sleep(service.request);
        tests::process::burn_more(service.request_burn);
        if let Some(gate) = &service.request_gate {
            tests::gate::pass(gate);
        }
    }
    let body = format!("{{{},\"listener\":{listener}}}\n", service.facts);
    // Asked as late as can be: the client should learn it with this answer rather than with the next.
    let close = request.close || service.stop.is_asked();
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-Worker: {}\r\n{}\r\n",
        service.status,
        if service.status == 200 { "OK" } else { "Not OK" },
        body.len(),
        service.worker,
        if close { "Connection: close\r\n" } else { "" },
    );
    match hold {
        None => (&mut &*stream).write_all(format!("{head}{body}").as_bytes())?,
        Some(time) => {
            (&mut &*stream).write_all(head.as_bytes())?;
            thread::sleep(time);
            (&mut &*stream).write_all(body.as_bytes())?;
        }
    }
    Ok(if close { AfterAnswer::Close } else { AfterAnswer::Keep })
}
