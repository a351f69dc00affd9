//! How full the queue of a socket is, and what did not get into it.
//!
//! Each question is one system call, or two; nothing is read from files, and nothing is added up.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

/// Places in the answer to `SO_MEMINFO`: `SK_MEMINFO_*` of `linux/sock_diag.h`.
mod meminfo {
    pub(super) const RECEIVED: usize = 0;
    pub(super) const RECEIVE_BUFFER: usize = 1;
    pub(super) const DROPS: usize = 8;
    pub(super) const COUNT: usize = 9;
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// What waits in it: connections, or bytes of packets.
    pub length: u32,
    /// How much may, likewise.
    pub limit: u32,
    /// What was turned away since the socket was made; the counter starts over after 2^32.
    pub drops: u32,
}

/// The queue of connections of a TCP socket that listens: those that have finished their handshake and were not
/// accepted. `drops` counts handshakes that were not begun or not finished, because the queue was full or for lack of
/// memory; most clients try again.
///
/// # Errors
/// EINVAL or EOPNOTSUPP if it is no TCP socket.
///
/// # Source
/// `tcp_get_info` of the kernel: of a listener, `tcpi_unacked` is the length and `tcpi_sacked` the limit.
pub fn tcp_queue(socket: &impl AsFd) -> io::Result<Queue> {
    let info: libc::tcp_info = get(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let drops = memory(socket)?[meminfo::DROPS];
    Ok(Queue { length: info.tcpi_unacked, limit: info.tcpi_sacked, drops })
}

/// The queue of packets of a UDP socket, in bytes as the kernel counts them, with what it needs besides: a packet of
/// a few bytes takes several hundred. `drops` counts packets.
///
/// # Errors
/// None is known for a socket.
pub fn udp_queue(socket: &impl AsFd) -> io::Result<Queue> {
    let memory = memory(socket)?;
    Ok(Queue {
        length: memory[meminfo::RECEIVED],
        limit: memory[meminfo::RECEIVE_BUFFER],
        drops: memory[meminfo::DROPS],
    })
}

fn memory(socket: &impl AsFd) -> io::Result<[u32; meminfo::COUNT]> {
    get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)
}

/// What `getsockopt(2)` answers, for what is plain numbers; zero where an older kernel knows less.
fn get<T: PlainNumbers>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`, and `value` outlives the call.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    Errno::result(result)?;
    // SAFETY: all bytes are initialised, with zero or by the kernel, and by `PlainNumbers` any bytes are a value.
    Ok(unsafe { value.assume_init() })
}

/// Made of integers and nothing else.
///
/// # Safety
/// Any bytes must be a value of the type.
unsafe trait PlainNumbers: Copy {}

// SAFETY: it is a C structure of integers.
unsafe impl PlainNumbers for libc::tcp_info {}
// SAFETY: they are integers.
unsafe impl PlainNumbers for [u32; meminfo::COUNT] {}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::sys::testing::eventually;

    fn listener(backlog: i32) -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(backlog).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[test]
    fn connections_that_wait_are_counted_and_those_that_found_no_room() {
        let (socket, address) = listener(1);
        assert_eq!(tcp_queue(&socket).unwrap(), Queue { length: 0, limit: 1, drops: 0 });
        // The kernel queues one more than the limit.
        let _waiting = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        eventually("two in the queue", || tcp_queue(&socket).unwrap().length == 2);
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err());
        assert!(tcp_queue(&socket).unwrap().drops > 0, "{:?}", tcp_queue(&socket));
    }

    #[test]
    fn packets_that_wait_are_counted_and_those_that_found_no_room() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
        let empty = udp_queue(&socket).unwrap();
        assert_eq!((empty.length, empty.drops), (0, 0));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        }
        let full = udp_queue(&socket).unwrap();
        assert!(full.length > 0 && full.limit == empty.limit && full.drops > 0, "{full:?}");
    }

    #[test]
    fn what_is_no_tcp_socket_is_refused() {
        assert!(tcp_queue(&UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
    }
}
