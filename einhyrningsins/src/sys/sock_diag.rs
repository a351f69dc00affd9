//! Questions to the kernel about sockets, over netlink: what `unix_diag` and `inet_diag` have in common.
//!
//! # Source
//! `sock_diag(7)` and `netlink(7)` for the layouts, which are in native byte order.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::stat::fstat;
use socket2::{Domain, Protocol, Socket, Type};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;

/// The kernel never fills a larger buffer with one answer.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The socket that it names.
    One,
    /// Every socket in the network namespace of this process that it describes.
    All,
}

/// The number by which the kernel identifies the socket. Inodes of sockets have 32 bits.
pub fn socket_inode(socket: &impl AsFd) -> io::Result<u32> {
    Ok(fstat(socket)?.st_ino as u32)
}

/// Asks, and passes what follows the header of each answer to `tell`, until that breaks.
///
/// # Errors
/// ENOENT if there is no such socket, or the kernel lacks the protocol's module; EPERM and others if a filter denies the
/// question.
pub(super) fn ask(
    question: &[u8],
    about: About,
    mut tell: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    // The kernel answers before `send` returns, or when the answer is read.
    socket.set_nonblocking(true)?;
    socket.send(&request(question, about))?;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let count = socket.read(&mut buffer)?;
        for message in messages(&buffer[..count]) {
            match i32::from(message.kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    return match number(message.body, 0).unwrap_or_default().cast_signed() {
                        errno @ ..0 => Err(io::Error::from_raw_os_error(-errno)),
                        _ => Ok(()),
                    };
                }
                _ if tell(message.body).is_break() => return Ok(()),
                _ => {}
            }
        }
        if about == About::One || count == 0 {
            return Ok(());
        }
    }
}

/// `struct nlmsghdr` and the question.
fn request(question: &[u8], about: About) -> Vec<u8> {
    let dump = if about == About::All { libc::NLM_F_DUMP } else { 0 };
    let length = u32::try_from(HEADER_BYTES + question.len()).unwrap_or_default();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | dump) as u16).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(question);
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

/// The attributes after the first `skipped` bytes of an answer.
pub(super) fn attributes(answer: &[u8], skipped: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = answer.get(skipped..).unwrap_or_default();
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_answer_is_read_to_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = attributes(message.body, 16).count();
            }
            let _ = attributes(&bytes, 0).count();
        }
    }
}
