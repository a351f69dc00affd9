//! Queues of listening and datagram sockets: how full they are, and how much they dropped.
//!
//! Each question takes one or two system calls. Nothing is read from files.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

use einhorn_proto::QueueStatus;
use nix::errno::Errno;
use nix::libc;

/// Indexes in the answer to `SO_MEMINFO`: `SK_MEMINFO_*` of `linux/sock_diag.h`.
mod meminfo {
    pub(super) const RECEIVED: usize = 0;
    pub(super) const RECEIVE_BUFFER: usize = 1;
    pub(super) const DROPS: usize = 8;
    pub(super) const COUNT: usize = 9;
}

/// The accept queue of a listening TCP socket: connections that finished their handshake and were not accepted.
/// `drops` counts handshakes that were not begun or not finished because the queue was full or memory ran out;
/// most clients retry.
///
/// # Errors
/// EINVAL or EOPNOTSUPP if it is not a TCP socket.
///
/// # Source
/// `tcp_get_info` of the kernel: for a listener, `tcpi_unacked` is the length and `tcpi_sacked` the limit.
pub fn tcp_queue(socket: &impl AsFd) -> io::Result<QueueStatus> {
    let info: libc::tcp_info = get(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let drops = Some(memory(socket)?[meminfo::DROPS]);
    Ok(QueueStatus { length: info.tcpi_unacked, limit: info.tcpi_sacked, drops })
}

/// The receive queue of a UDP socket, in bytes as the kernel counts them, overhead included: a packet of a few
/// bytes takes several hundred. `drops` counts packets.
pub fn udp_queue(socket: &impl AsFd) -> io::Result<QueueStatus> {
    let memory = memory(socket)?;
    Ok(QueueStatus {
        length: memory[meminfo::RECEIVED],
        limit: memory[meminfo::RECEIVE_BUFFER],
        drops: Some(memory[meminfo::DROPS]),
    })
}

fn memory(socket: &impl AsFd) -> io::Result<[u32; meminfo::COUNT]> {
    get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO)
}

/// `getsockopt(2)` for options that are plain numbers. Fields that an older kernel does not fill are zero.
fn get<T: PlainNumbers>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`, and `value` outlives the
    // call.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    Errno::result(result)?;
    // SAFETY: all bytes are initialised, with zero or by the kernel, and by `PlainNumbers` any bytes are a
    // value.
    Ok(unsafe { value.assume_init() })
}

/// A type that consists of integers only.
///
/// # Safety
/// Any bytes must be a value of the type.
unsafe trait PlainNumbers: Copy {}

// SAFETY: a C structure of integers.
unsafe impl PlainNumbers for libc::tcp_info {}
// SAFETY: integers.
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
    fn waiting_and_dropped_connections_are_counted() {
        let (socket, address) = listener(1);
        assert_eq!(tcp_queue(&socket).unwrap(), QueueStatus { length: 0, limit: 1, drops: Some(0) });
        // The kernel queues one more than the limit.
        let _waiting = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        eventually("two in the queue", || tcp_queue(&socket).unwrap().length == 2);
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err());
        assert!(tcp_queue(&socket).unwrap().drops > Some(0), "{:?}", tcp_queue(&socket));
    }

    #[test]
    fn waiting_and_dropped_packets_are_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
        let empty = udp_queue(&socket).unwrap();
        assert_eq!((empty.length, empty.drops), (0, Some(0)));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        }
        let full = udp_queue(&socket).unwrap();
        assert!(full.length > 0 && full.limit == empty.limit && full.drops > Some(0), "{full:?}");
    }

    #[test]
    fn other_sockets_are_refused() {
        assert!(tcp_queue(&UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
    }
}
