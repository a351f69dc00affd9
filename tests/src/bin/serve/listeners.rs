//! The sockets that the worker accepts from: handed over by the master, or its own.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{Shutdown, shutdown};
use socket2::{Domain, Socket, Type};

use einhorn_child::{SocketKind, TakeError};

use crate::knobs::Knobs;

/// How many connections may wait at a listener of the worker's own; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// A socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// A seqpacket socket too, which accepts in the same way.
    Unix(UnixListener),
    Udp(UdpSocket),
}

impl Listener {
    fn take(number: usize, kind: Option<SocketKind>) -> Result<Self, TakeError> {
        Ok(match kind {
            Some(SocketKind::UdpSocket) => Self::Udp(einhorn_child::take(number)?),
            Some(SocketKind::UnixListener) => Self::Unix(einhorn_child::take(number)?),
            Some(SocketKind::UnixSeqpacketListener) => {
                Self::Unix(einhorn_child::take::<OwnedFd>(number)?.into())
            }
            _ => Self::Tcp(einhorn_child::take(number)?),
        })
    }

    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Udp(socket) => socket.set_nonblocking(true),
        }
    }

    /// Ends its listening, for all who share it.
    pub(crate) fn shut_down(&self) {
        // It may have been shut down before.
        let _ = shutdown(self.as_fd().as_raw_fd(), Shutdown::Both);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// The sockets that the worker is to accept from.
pub(crate) fn of(knobs: &Knobs) -> io::Result<Vec<Listener>> {
    if let Some(address) = knobs.bind {
        let listener = TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        return Ok(vec![Listener::Tcp(listener)]);
    }
    if let Some(address) = knobs.own {
        return Ok(vec![Listener::Tcp(own(address)?)]);
    }
    let inherited = einhorn_child::inherited().map_err(io::Error::other)?;
    let taken = inherited.iter().map(|socket| Listener::take(socket.number, socket.kind));
    taken.map(|taken| taken.map_err(io::Error::other)).collect()
}

/// A listener of the worker's own, beside those of its siblings.
fn own(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
