//! Where lines go: a pipe, a terminal, a socket, a file, or a thread that writes to one of those.
//!
//! No write blocks. What is not taken is left to the caller.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use mio::Interest;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, send};

use crate::sys::writer::{Target, Writer};

/// Standard error as a path, to examine and to open again. Source: `proc_pid_fd(5)`.
const STDERR_PATH: &str = "/proc/self/fd/2";

#[derive(Debug, Default)]
pub(super) enum Sink {
    /// Not yet: the log of a state that is only looked at.
    #[default]
    Nowhere,
    /// A second, non-blocking open file for the same pipe or terminal.
    Reopened(File),
    /// Standard error is a socket.
    Socket,
    /// Standard error is a regular file, which has no reader to wait for.
    Direct,
    /// What may make its writer wait.
    Thread(Writer, Target),
}

impl Sink {
    pub(super) fn of_stderr() -> Self {
        let Ok(kind) = fs::metadata(STDERR_PATH).map(|metadata| metadata.file_type()) else {
            return Self::Direct;
        };
        if kind.is_socket() {
            return Self::Socket;
        }
        if !kind.is_fifo() && !io::stderr().is_terminal() {
            return Self::Direct;
        }
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let reopened = OpenOptions::new().write(true).custom_flags(flags).open(STDERR_PATH);
        // The file may be of a user that we are not.
        reopened.map_or_else(|_| Self::Thread(Writer::new(), Target::Stderr), Self::Reopened)
    }

    /// The descriptor to wait on for the reader, and for what; `None` if there is none.
    pub(super) fn descriptor(&self) -> Option<(RawFd, Interest)> {
        match self {
            Self::Reopened(file) => Some((file.as_raw_fd(), Interest::WRITABLE)),
            Self::Socket => Some((libc::STDERR_FILENO, Interest::WRITABLE)),
            Self::Thread(writer, _) => Some((writer.news()?.as_raw_fd(), Interest::READABLE)),
            Self::Direct | Self::Nowhere => None,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Reopened(file) => file.write(bytes).map_err(|error| errno(&error)),
            Self::Socket => send(libc::STDERR_FILENO, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
            Self::Direct => nix::unistd::write(io::stderr().as_fd(), bytes),
            Self::Thread(writer, target) => writer.write(target, bytes),
            Self::Nowhere => Err(Errno::EAGAIN),
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
