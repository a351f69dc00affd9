//! Connections of each kind, and where they go.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Target {
    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Connects, within `deadline` over TCP. A Unix socket whose queue is full makes the caller wait for room.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn connect(&self, deadline: Duration) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => TcpStream::connect_timeout(address, deadline).map(Stream::Tcp),
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        }
    }
}

/// A connection. That of a seqpacket socket is [`Stream::Unix`] too: it is read and written in the same way.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// Calls the same of both.
macro_rules! both {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl Stream {
    /// The port on this side; 0 over a Unix socket.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn port(&self) -> io::Result<u16> {
        match self {
            Self::Tcp(stream) => Ok(stream.local_addr()?.port()),
            Self::Unix(_) => Ok(0),
        }
    }

    /// Sends at once what is written, as a Unix socket always does.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Whether it waits.
    ///
    /// # Errors
    /// Those of `ioctl(2)`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        both!(self, stream => stream.set_nonblocking(nonblocking))
    }

    /// How long a read waits.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        both!(self, stream => stream.set_read_timeout(timeout))
    }

    /// How long a write waits.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        both!(self, stream => stream.set_write_timeout(timeout))
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        both!(*self, stream => (&mut &*stream).read(buffer))
    }
}

impl Write for &Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        both!(*self, stream => (&mut &*stream).write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        both!(*self, stream => (&mut &*stream).flush())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        both!(self, stream => stream.as_fd())
    }
}
