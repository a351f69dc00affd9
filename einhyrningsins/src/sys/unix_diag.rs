//! Queries about Unix sockets over netlink. Nothing else reports the length of a listener's queue, or whether
//! any process has a socket file that refuses connections.
//!
//! # Source
//! `sock_diag(7)`; `linux/unix_diag.h` for the layouts.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use einhorn_proto::QueueStatus;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::sock_diag::{self, About, attributes, number, socket_inode};

/// `UDIAG_SHOW_VFS`: report the file.
const SHOW_FILE: u32 = 0x02;

/// `UDIAG_SHOW_RQLEN`: report the queue.
const SHOW_QUEUE: u32 = 0x10;

/// `UNIX_DIAG_VFS`: inode and device of the file.
const ATTRIBUTE_FILE: u16 = 1;

/// `UNIX_DIAG_RQLEN`: length of the queue and its limit.
const ATTRIBUTE_QUEUE: u16 = 4;

/// `struct unix_diag_msg`: family, type, state, pad, inode, cookie.
const MESSAGE_BYTES: usize = 16;

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

/// Asks about one socket by its inode, or all, and passes each attribute that is a pair of numbers to `tell`.
fn ask(inode: Option<u32>, show: u32, mut tell: impl FnMut(u16, [u32; 2])) -> io::Result<()> {
    let about = if inode.is_some() { About::One } else { About::All };
    sock_diag::ask(&question(inode, show), about, |answer| {
        for (attribute, value) in attributes(answer, MESSAGE_BYTES) {
            if let (Some(first), Some(second)) = (number(value, 0), number(value, 4)) {
                tell(attribute, [first, second]);
            }
        }
        ControlFlow::Continue(())
    })
}

/// `struct unix_diag_req`: any state, any socket or this one, with any cookie.
fn question(inode: Option<u32>, show: u32) -> Vec<u8> {
    let mut bytes = vec![libc::AF_UNIX as u8, 0, 0, 0];
    for field in [u32::MAX, inode.unwrap_or_default(), show, u32::MAX, u32::MAX] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use socket2::{Domain, SockAddr, Socket, Type};

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
}
