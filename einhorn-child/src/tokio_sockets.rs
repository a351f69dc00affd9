//! Sockets of tokio: non-blocking, and registered with the current runtime.

use std::io;
use std::net;
use std::os::fd::OwnedFd;
use std::os::unix::net as unix;

use crate::sockets::sealed::Sealed;
use crate::{Bind, Inherit, SocketKind, TakeError};

macro_rules! in_tokio {
    ($($socket:ident: $blocking:ty),* $(,)?) => {$(
        impl Sealed for tokio::net::$socket {}

        impl Inherit for tokio::net::$socket {
            const KIND: Option<SocketKind> = Some(SocketKind::$socket);

            fn adopt(fd: OwnedFd) -> io::Result<Self> {
                let socket = <$blocking>::from(fd);
                socket.set_nonblocking(true)?;
                Self::from_std(socket)
            }
        }

        impl<A> Bind<A> for tokio::net::$socket
        where
            $blocking: Bind<A>,
        {
            fn bind_here(address: A) -> Result<OwnedFd, TakeError> {
                <$blocking>::bind_here(address)
            }
        }
    )*};
}

in_tokio! {
    TcpListener: net::TcpListener,
    UdpSocket: net::UdpSocket,
    UnixListener: unix::UnixListener,
    UnixDatagram: unix::UnixDatagram,
}
