//! Streams to journald: a connection to a socket of its, on which a header comes first and then lines.
//!
//! What a program writes to its standard output and error can be such a stream. journald asks the kernel which process has
//! written a line.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

/// Where journald listens. Source: systemd, `src/journal/journald-stream.c`.
const PATH: &str = "/run/systemd/journal/stdout";

/// Streams that one program may have: journald takes 4096, others' included, and closes what comes then. Source: as above,
/// `STDOUT_STREAMS_MAX` (64 Ki in later versions).
pub const STREAMS_MAX: usize = 4000;

/// The priority of a line that begins with none: facility `daemon`, level `info`. Source: the default of services, in
/// `systemd.exec(5)`, `SyslogFacility=` and `SyslogLevel=`.
const PRIORITY: libc::c_int = libc::LOG_DAEMON | libc::LOG_INFO;

/// A stream that nobody writes to yet. A write waits until journald has room for it.
#[derive(Debug)]
pub struct Stream {
    pub socket: OwnedFd,
    /// The value of `JOURNAL_STREAM`, by which a program finds out that its standard error is this stream.
    pub name: String,
}

impl Stream {
    /// Opens a stream for lines under `identifier`, in which a line may begin with its priority: `<3>`. It does not wait:
    /// journald has room now, or the stream fails.
    ///
    /// # Errors
    /// ENOENT or ECONNREFUSED if there is no journald, EAGAIN if too many wait for it.
    ///
    /// # Source
    /// systemd, `src/journal/journald-stream.c`, `stdout_stream_line()`, for the header: identifier, unit, priority, and
    /// whether lines begin with a priority and are passed on to syslog, the kernel's log and the console.
    pub fn open(identifier: &str) -> io::Result<Self> {
        let socket = connect()?;
        let header = format!("{identifier}\n\n{PRIORITY}\n1\n0\n0\n0\n");
        // The buffer of a new connection has room for it.
        if socket.send_with_flags(header.as_bytes(), libc::MSG_NOSIGNAL)? < header.len() {
            return Err(ErrorKind::WriteZero.into());
        }
        socket.shutdown(Shutdown::Read)?;
        socket.set_nonblocking(false)?;
        let file = File::from(OwnedFd::from(socket));
        let metadata = file.metadata()?;
        Ok(Self { name: format!("{}:{}", metadata.dev(), metadata.ino()), socket: file.into() })
    }
}

/// Whether a stream could be opened now.
///
/// # Errors
/// As [`Stream::open`].
pub fn check() -> io::Result<()> {
    connect().map(drop)
}

fn connect() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(PATH)?)?;
    Ok(socket)
}
