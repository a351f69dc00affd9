//! Accepting connections until asked to stop.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};
use std::time::Duration;

use crate::{Stop, sys};

/// How long [`Stop::accept`] lets others go first when this process or the system is out of descriptors
/// or memory. Connections wait in the queue meanwhile, and a sibling may take them.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A listener that [`Stop::accept`] accepts from: [`TcpListener`] or [`UnixListener`].
///
/// ```
/// use einhorn_child::{Acceptor, Stop};
///
/// fn serve<L: Acceptor>(stop: Stop, listener: &L, handle: impl Fn(L::Stream)) -> std::io::Result<()> {
///     while let Some((stream, _)) = stop.accept(listener)? {
///         handle(stream);
///     }
///     Ok(())
/// }
/// ```
pub trait Acceptor: AsFd + sealed::Sealed {
    /// A connection.
    type Stream;
    /// The address of the other side.
    type Address;

    #[doc(hidden)]
    fn accept_now(&self) -> io::Result<(Self::Stream, Self::Address)>;
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for TcpListener {}
impl sealed::Sealed for UnixListener {}

impl Acceptor for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;

    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.set_nonblocking(true)?;
        self.accept()
    }
}

impl Acceptor for UnixListener {
    type Stream = UnixStream;
    type Address = unix::SocketAddr;

    fn accept_now(&self) -> io::Result<(UnixStream, unix::SocketAddr)> {
        self.set_nonblocking(true)?;
        self.accept()
    }
}

impl Stop {
    /// Waits for the next connection of `listener`; `None` once the worker was asked to stop.
    ///
    /// Nothing is lost by stopping: the queue of the listener belongs to all its holders, and what this
    /// worker does not accept another does. A connection that it returned is the caller's to answer.
    /// Several threads may accept from one listener.
    ///
    /// The listener is made non-blocking, again at each call, since the flag belongs to all who hold the
    /// socket: a worker that waited in a blocking accept would not hear the stop, as it waits again when a
    /// sibling was quicker to a connection. Other holders must therefore expect `WouldBlock`, as
    /// every event loop does. The connection itself blocks as usual.
    ///
    /// A connection that breaks before it is accepted is passed over. When descriptors or memory run out it
    /// tries again after a pause of 50 ms, with the connection still queued.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let stop = einhorn_child::Stop::install()?;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// # let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// while let Some((mut stream, _)) = stop.accept(&listener)? {
    ///     std::thread::spawn(move || stream.write_all(b"hello\n"));
    ///     # stop.request();
    /// }
    /// # assert_eq!(std::io::read_to_string(client)?, "hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// What cannot pass: the listener does not listen, for one because another holder shut it down.
    pub fn accept<L: Acceptor>(self, listener: &L) -> io::Result<Option<(L::Stream, L::Address)>> {
        while !self.is_requested() {
            match listener.accept_now() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) => match Trouble::of(&error) {
                    Trouble::NothingThere => {
                        sys::wait_readable([self.as_fd(), listener.as_fd()], None)?;
                    }
                    Trouble::OfTheConnection => {}
                    Trouble::Shortage => {
                        let _ = self.wait_timeout(SHORTAGE_PAUSE);
                    }
                    Trouble::OfTheListener => return Err(error),
                },
            }
        }
        Ok(None)
    }
}

/// Whose trouble an error of `accept(2)` is.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    NothingThere,
    OfTheConnection,
    Shortage,
    OfTheListener,
}

impl Trouble {
    /// `accept(2)`, "Error handling": errors that the network left on the new socket are to be treated like
    /// EAGAIN, by trying again.
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Self::NothingThere,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Shortage,
            Some(
                libc::EINTR
                | libc::ECONNABORTED
                | libc::EPERM
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ETIMEDOUT,
            ) => Self::OfTheConnection,
            _ => Self::OfTheListener,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_pass_is_returned() {
        for (errno, trouble) in [
            (libc::EAGAIN, Trouble::NothingThere),
            (libc::ECONNABORTED, Trouble::OfTheConnection),
            (libc::EMFILE, Trouble::Shortage),
            (libc::EINVAL, Trouble::OfTheListener),
            (libc::EBADF, Trouble::OfTheListener),
        ] {
            assert_eq!(Trouble::of(&io::Error::from_raw_os_error(errno)), trouble, "for {errno}");
        }
    }
}
