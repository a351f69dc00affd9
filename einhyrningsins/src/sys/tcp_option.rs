//! TCP socket options for which our crates have no setter.

use std::io;
use std::os::fd::AsFd;

use nix::libc::{self, c_int};
use nix::sys::socket::{getsockopt, setsockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

sockopt_impl!(DeferAccept, Both, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, c_int);
sockopt_impl!(FastOpen, Both, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, c_int);

/// How long a connection without data may stay out of the queue, in seconds. The kernel rounds it up to the
/// time of a retransmission of its answer, so one second becomes about three.
pub const DEFER_SECONDS: c_int = 1;

/// Keeps a connection out of the queue until the client sends data, for some `seconds` at most.
///
/// # Errors
/// ENOPROTOOPT or EOPNOTSUPP if it is not a TCP socket.
///
/// # Source
/// `TCP_DEFER_ACCEPT` in `tcp(7)`.
pub fn set_defer_accept(socket: &impl AsFd, seconds: c_int) -> io::Result<()> {
    Ok(setsockopt(socket, DeferAccept, &seconds)?)
}

/// How many seconds that may be; 0 if connections do not wait for data.
///
/// # Errors
/// As [`set_defer_accept`].
pub fn defer_accept(socket: &impl AsFd) -> io::Result<c_int> {
    Ok(getsockopt(socket, DeferAccept)?)
}

/// Lets clients send data with their first packet, with at most `pending` such connections in progress. It
/// takes effect if bit 2 of `net.ipv4.tcp_fastopen` is set.
///
/// # Source
/// `TCP_FASTOPEN` in `tcp(7)`.
pub fn set_fastopen(socket: &impl AsFd, pending: u32) -> io::Result<()> {
    Ok(setsockopt(socket, FastOpen, &c_int::try_from(pending).unwrap_or(c_int::MAX))?)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn a_set_option_can_be_read_back() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(defer_accept(&socket).unwrap(), 0);
        set_defer_accept(&socket, DEFER_SECONDS).unwrap();
        let seconds = defer_accept(&socket).unwrap();
        assert!(seconds > 0);
        set_defer_accept(&socket, seconds).unwrap();
        assert_eq!(defer_accept(&socket).unwrap(), seconds);
        set_fastopen(&socket, 7).unwrap();
        assert_eq!(getsockopt(&socket, FastOpen).unwrap(), 7);
    }

    #[test]
    fn other_sockets_are_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(set_defer_accept(&socket, DEFER_SECONDS).is_err() && defer_accept(&socket).is_err());
    }
}
