//! TCP socket options for which our crates have no setter.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

/// How long a connection without data may stay out of the queue, in seconds. The kernel rounds it up to the
/// time of a retransmission of its answer, so one second becomes about three.
const DEFER_SECONDS: libc::c_int = 1;

/// Keeps a connection out of the queue until the client sends data, for a few seconds at most.
///
/// # Errors
/// ENOPROTOOPT or EOPNOTSUPP if it is not a TCP socket.
///
/// # Source
/// `TCP_DEFER_ACCEPT` in `tcp(7)`.
pub fn set_defer_accept(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::TCP_DEFER_ACCEPT, DEFER_SECONDS)
}

/// Lets clients send data with their first packet, with at most `pending` such connections in progress. It
/// takes effect if bit 2 of `net.ipv4.tcp_fastopen` is set.
///
/// # Errors
/// As [`set_defer_accept`].
///
/// # Source
/// `TCP_FASTOPEN` in `tcp(7)`.
pub fn set_fastopen(socket: &impl AsFd, pending: u32) -> io::Result<()> {
    set(socket, libc::TCP_FASTOPEN, libc::c_int::try_from(pending).unwrap_or(libc::c_int::MAX))
}

fn set(socket: &impl AsFd, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads an int, of the size that is passed, and `value` outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn get(socket: &Socket, name: libc::c_int) -> libc::c_int {
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        let (fd, into) = (socket.as_raw_fd(), (&raw mut value).cast());
        // SAFETY: the kernel writes at most an int, into one that outlives the call.
        let result = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, name, into, &raw mut length) };
        assert_eq!(result, 0);
        value
    }

    #[test]
    fn a_set_option_can_be_read_back() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(get(&socket, libc::TCP_DEFER_ACCEPT), 0);
        set_defer_accept(&socket).unwrap();
        assert!(get(&socket, libc::TCP_DEFER_ACCEPT) > 0);
        set_fastopen(&socket, 7).unwrap();
        assert_eq!(get(&socket, libc::TCP_FASTOPEN), 7);
    }

    #[test]
    fn other_sockets_are_refused() {
        assert!(set_defer_accept(&UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
    }
}
