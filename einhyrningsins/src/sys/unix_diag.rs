//! Queries about Unix sockets over netlink. Nothing else reports the length of a listener's queue, or whether
//! any process has a socket file that refuses connections.
//!
//! # Source
//! `sock_diag(7)`; `linux/unix_diag.h` for the layouts, which are in native byte order.

use std::io::{self, Read};
use std::os::fd::AsFd;

use einhorn_proto::QueueStatus;
use nix::libc;
use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// `UDIAG_SHOW_VFS`: report the file.
const SHOW_FILE: u32 = 0x02;

/// `UDIAG_SHOW_RQLEN`: report the queue.
const SHOW_QUEUE: u32 = 0x10;

/// `UNIX_DIAG_VFS`: inode and device of the file.
const ATTRIBUTE_FILE: u16 = 1;

/// `UNIX_DIAG_RQLEN`: length of the queue and its limit.
const ATTRIBUTE_QUEUE: u16 = 4;

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;

/// `struct unix_diag_msg`: family, type, state, pad, inode, cookie.
const MESSAGE_BYTES: usize = 16;

/// The kernel never fills a larger buffer with one answer.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// The identity of a socket file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFile {
    /// The device, as `stat(2)` returns it.
    pub device: u64,
    /// The inode on that device.
    pub inode: u64,
}

/// The queue of a listening Unix socket of this process. A client that finds no room waits or gets an error: nothing is
/// dropped silently.
///
/// # Errors
/// If the kernel was built without `CONFIG_UNIX_DIAG`, or denies the query.
pub fn queue(socket: &impl AsFd) -> io::Result<QueueStatus> {
    let mut found = None;
    ask(Some(socket_inode(socket)?), SHOW_QUEUE, |attribute, [length, limit]| {
        if attribute == ATTRIBUTE_QUEUE {
            found = Some(QueueStatus { length, limit, drops: None });
        }
    })?;
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether any process has a socket that is bound to `file`. Searches all Unix sockets.
pub fn is_bound(file: SocketFile) -> io::Result<bool> {
    find_file(None, file)
}

/// Whether `socket`, a Unix socket of this process that anybody may have created, is bound to `file`.
///
/// # Errors
/// As [`queue`], and if the socket was created in another network namespace.
pub fn is_bound_to(socket: &impl AsFd, file: SocketFile) -> io::Result<bool> {
    find_file(Some(socket_inode(socket)?), file)
}

fn find_file(socket_inode: Option<u32>, file: SocketFile) -> io::Result<bool> {
    // The kernel's own form of a device, and the part of the inode that it reports.
    let device = (libc::major(file.device) << 20) | libc::minor(file.device);
    let inode = file.inode as u32;
    let mut is_found = false;
    ask(socket_inode, SHOW_FILE, |attribute, pair| {
        is_found |= attribute == ATTRIBUTE_FILE && pair == [inode, device];
    })?;
    Ok(is_found)
}

/// The number by which the kernel identifies the socket. Inodes of sockets have 32 bits.
fn socket_inode(socket: &impl AsFd) -> io::Result<u32> {
    Ok(fstat(socket)?.st_ino as u32)
}

/// Queries one socket by its inode, or all, and passes each attribute that is a pair of numbers to `tell`.
fn ask(inode: Option<u32>, show: u32, mut tell: impl FnMut(u16, [u32; 2])) -> io::Result<()> {
    let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    // The kernel answers before `send` returns, or when the answer is read.
    socket.set_nonblocking(true)?;
    socket.send(&request(inode, show))?;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let count = socket.read(&mut buffer)?;
        for message in messages(&buffer[..count]) {
            match i32::from(message.kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let errno = number(message.body, 0).unwrap_or_default().cast_signed();
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                _ => attributes(message.body.get(MESSAGE_BYTES..).unwrap_or_default())
                    .for_each(|(attribute, pair)| tell(attribute, pair)),
            }
        }
        if inode.is_some() || count == 0 {
            return Ok(());
        }
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn request(inode: Option<u32>, show: u32) -> Vec<u8> {
    let dump = if inode.is_none() { libc::NLM_F_DUMP } else { 0 };
    let mut bytes = vec![0; 4];
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | dump) as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    // Any state, any socket or this one, with any cookie.
    for field in [u32::MAX, inode.unwrap_or_default(), show, u32::MAX, u32::MAX] {
        bytes.extend(field.to_ne_bytes());
    }
    let length = u32::try_from(bytes.len()).unwrap_or_default();
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = number(bytes, 0)? as usize;
        let body = bytes.get(HEADER_BYTES..length)?;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    })
}

/// The attributes that are two numbers.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, [u32; 2])> {
    let every = std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    });
    every.filter_map(|(kind, value)| Some((kind, [number(value, 0)?, number(value, 4)?])))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use proptest::prelude::*;
    use socket2::SockAddr;

    use super::*;

    fn file(path: &Path) -> SocketFile {
        let found = std::fs::metadata(path).unwrap();
        SocketFile { device: found.dev(), inode: found.ino() }
    }

    #[test]
    fn the_queue_of_a_listener_is_reported_with_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(7).unwrap();
        assert_eq!(queue(&socket).unwrap(), QueueStatus { length: 0, limit: 7, drops: None });
        let _waiting = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
        assert_eq!(queue(&socket).unwrap(), QueueStatus { length: 2, limit: 7, drops: None });
    }

    #[test]
    fn a_file_is_bound_as_long_as_a_process_has_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert!(is_bound(file(&path)).unwrap(), "a socket that does not listen is bound too");
        let other = directory.path().join("b.sock");
        let _other = UnixListener::bind(&other).unwrap();
        assert!(is_bound(file(&other)).unwrap());
        drop(socket);
        // A child that another test is spawning may hold a copy until its exec.
        crate::sys::testing::eventually("nobody to have it", || !is_bound(file(&path)).unwrap());
    }

    #[test]
    fn a_socket_stays_bound_to_its_file_after_a_rename() {
        let directory = tempfile::tempdir().unwrap();
        let [path, other] = ["a.sock", "b.sock"].map(|name| directory.path().join(name));
        let (socket, another) = (UnixListener::bind(&path).unwrap(), UnixListener::bind(&other).unwrap());
        assert!(is_bound_to(&socket, file(&path)).unwrap());
        assert!(!is_bound_to(&socket, file(&other)).unwrap());
        std::fs::rename(&path, directory.path().join("moved")).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!is_bound_to(&socket, file(&path)).unwrap());
        assert!(is_bound_to(&another, file(&path)).unwrap());
        let (unnamed, _peer) = UnixStream::pair().unwrap();
        assert!(!is_bound_to(&unnamed, file(&path)).unwrap());
    }

    #[test]
    fn other_sockets_have_no_queue() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(queue(&listener).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_to_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = attributes(message.body).count();
            }
            let _ = attributes(&bytes).count();
        }
    }
}
