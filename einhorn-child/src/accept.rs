//! Accepting connections until the worker is asked to stop.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};
use std::time::Duration;

use crate::{Stop, sys};

/// How long [`Stop::accept`] pauses when this process or the system runs out of descriptors or memory.
/// Connections wait in the queue meanwhile, and another worker may accept them.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// A listener that [`Stop::accept`] can accept from: [`TcpListener`] or [`UnixListener`].
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
    /// The type of an accepted connection.
    type Stream;
    /// The type of the peer's address.
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
    /// Waits for the next connection of `listener`; returns `None` once the worker is asked to stop.
    ///
    /// A stop loses nothing: all holders share the queue of the listener, and another worker accepts what this
    /// one does not. The caller must answer each connection that this method returned. Several threads may
    /// accept from one listener.
    ///
    /// Each call makes the listener non-blocking, because all holders of the socket share that flag. A worker
    /// in a blocking accept would not notice a stop: it waits again when another worker takes the connection
    /// first. Other holders must therefore expect `WouldBlock`, as every event loop does. The connection itself
    /// is blocking.
    ///
    /// A connection that breaks before it is accepted is skipped. If descriptors or memory run out, the method
    /// pauses for 50 ms and retries; the connection stays queued.
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
    /// Permanent errors: the listener does not listen, for instance because another holder shut it down.
    pub fn accept<L: Acceptor>(self, listener: &L) -> io::Result<Option<(L::Stream, L::Address)>> {
        while !self.is_requested() {
            match listener.accept_now() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) => match Trouble::of(&error) {
                    Trouble::NothingThere => _ = self.wait_readable(listener)?,
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

    /// Waits until `fd` is readable, can be accepted from, has ended or has an error; returns `false` once the
    /// worker is asked to stop, even if `fd` is readable too.
    ///
    /// For what [`accept`](Self::accept) does not cover: a UDP socket, several listeners in an epoll descriptor, a
    /// connection that is idle. Several workers share an inherited socket, and another may be faster, so make it
    /// non-blocking and expect `WouldBlock` after `true`.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::net::UdpSocket;
    ///
    /// let stop = einhorn_child::Stop::install()?;
    /// let socket: UdpSocket = einhorn_child::inherit_or_bind("127.0.0.1:0")?;
    /// socket.set_nonblocking(true)?;
    /// # socket.send_to(b"ping", socket.local_addr()?)?;
    /// let mut packet = [0; 1500];
    /// while stop.wait_readable(&socket)? {
    ///     match socket.recv_from(&mut packet) {
    ///         Ok((length, sender)) => _ = socket.send_to(&packet[..length], sender)?,
    ///         Err(error) if error.kind() == ErrorKind::WouldBlock => {} // another worker was faster
    ///         Err(error) => return Err(error.into()),
    ///     }
    ///     # stop.request();
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// ENOMEM: the system has no memory for the wait.
    ///
    /// # Source
    /// `poll(2)` with `POLLIN`.
    pub fn wait_readable(self, fd: &impl AsFd) -> io::Result<bool> {
        if !self.is_requested() {
            sys::wait_readable([self.as_fd(), fd.as_fd()], None)?;
        }
        Ok(!self.is_requested())
    }
}

/// The cause of an `accept(2)` error.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    NothingThere,
    OfTheConnection,
    Shortage,
    OfTheListener,
}

impl Trouble {
    /// `accept(2)`, "Error handling": network errors that are pending on the new socket must be treated like
    /// EAGAIN, by retrying.
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
    fn only_permanent_errors_are_returned() {
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
