//! Messages of Unix sockets with what came beside their bytes: who sent them, and descriptors that nobody asked for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::socket::sockopt::{PassCred, ReceiveTimestampns};
use nix::sys::socket::{getsockopt, setsockopt};
use nix::sys::time::TimeSpec;
use nix::unistd::{Pid, Uid};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

use super::closer::CLOSER;
use super::peer::{Process, Sender, SinceBoot};

/// Descriptors that one message may bring. Source: `SCM_MAX_FD` of the kernel, in `unix(7)`.
pub const RIGHTS_MAX: usize = 253;

/// Most architectures. Source: `include/uapi/asm-generic/socket.h`, since Linux 6.16.
const SO_PASSRIGHTS: c_int = 83;

sockopt_impl!(PassRights, SetOnly, libc::SOL_SOCKET, SO_PASSRIGHTS, bool);

/// Source: `include/linux/socket.h`, since Linux 6.5.
const SCM_PIDFD: c_int = 4;

sockopt_impl!(PassPidfd, Both, libc::SOL_SOCKET, libc::SO_PASSPIDFD, bool);

/// Room for ancillary data in words of 8 bytes, for its alignment, each behind a header of 16 bytes, in this order: the
/// time of sending (16 bytes), the credentials (12 bytes), [`RIGHTS_MAX`] descriptors, and the pidfd.
const CONTROL_WORDS: usize = TIME_WORDS + CREDENTIALS_WORDS + 2 + RIGHTS_MAX.div_ceil(2) + 3;

const TIME_WORDS: usize = 4;

const CREDENTIALS_WORDS: usize = 4;

/// What was received.
#[derive(Debug)]
pub enum Received {
    Message(Message),
    /// Nothing is there yet.
    Nothing,
    /// It brings descriptors for which the closer has no room yet, and stays unread.
    NoRoom,
}

/// A datagram, or a part of a stream: how long it is, and what came with it.
#[derive(Debug)]
pub struct Message {
    pub bytes: usize,
    pub is_truncated: bool,
    pub sender: Option<Sender>,
}

/// Makes the kernel name the sender of each message to this socket: its credentials, and when it was sent.
///
/// # Source
/// `unix(7)`, `SO_PASSCRED`; `socket(7)`, `SO_TIMESTAMP`.
pub fn name_senders(socket: &impl AsFd) -> Result<(), Errno> {
    setsockopt(socket, PassCred, &true)?;
    setsockopt(socket, ReceiveTimestampns, &true)
}

/// Makes the kernel give a descriptor of the sender's process with each message, too, or no more: a program that does not
/// expect these would never close them. Before Linux 6.5 there are none.
pub fn hold_senders(socket: &impl AsFd, are_held: bool) {
    let _ = setsockopt(socket, PassPidfd, &are_held);
}

/// Makes the kernel refuse messages with descriptors to this socket, and to those that are accepted on it; their senders get
/// EPERM.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.16. [`receive`] takes such messages then.
pub fn refuse_rights(socket: &impl AsFd) -> Result<(), Errno> {
    setsockopt(socket, PassRights, &false)
}

/// Receives one message into `buffer` and hands descriptors that came with it to the closer. Never blocks.
///
/// `nix`'s `recvmsg` does not fit: if some ancillary data did not fit, as when this process has no descriptor
/// left (MSG_CTRUNC), it shows none of it, and the descriptors that did arrive would stay open forever.
///
/// # Errors
/// Those of `recvmsg(2)`, except EINTR and EAGAIN.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let socket = socket.as_fd();
    if !CLOSER.has_room() && brings_descriptors(socket)? {
        return Ok(Received::NoRoom);
    }
    let mut control = [0; CONTROL_WORDS];
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let Some((bytes, header)) = recvmsg(socket, buffer, &mut control, flags)? else {
        return Ok(Received::Nothing);
    };
    let Control { sender, descriptors } = take_control(&header);
    if !descriptors.is_empty() {
        CLOSER.close(descriptors);
    }
    let is_truncated = header.msg_flags & libc::MSG_TRUNC != 0;
    Ok(Received::Message(Message { bytes, is_truncated, sender }))
}

/// Whether the next message brings descriptors: whether it has more than there is room for. With more room, a look at it
/// would bring them.
fn brings_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut control = [0; TIME_WORDS + CREDENTIALS_WORDS];
    let time = if getsockopt(&socket, ReceiveTimestampns)? { TIME_WORDS } else { 0 };
    let credentials = if getsockopt(&socket, PassCred)? { CREDENTIALS_WORDS } else { 0 };
    let are_held = getsockopt(&socket, PassPidfd).unwrap_or(false);
    if are_held {
        hold_senders(&socket, false);
    }
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let found = recvmsg(socket, &mut [0; 1], &mut control[..time + credentials], flags);
    if are_held {
        hold_senders(&socket, true);
    }
    Ok(found?.is_some_and(|(_, header)| header.msg_flags & libc::MSG_CTRUNC != 0))
}

/// The number of bytes, and the header, which points to `buffer` and `control`; `None` if nothing is there.
fn recvmsg(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    control: &mut [u64],
    flags: c_int,
) -> io::Result<Option<(usize, libc::msghdr)>> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: plain integers and pointers, for which all zero is valid: no address, no buffers.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control) as _;
    loop {
        // SAFETY: the header points at one part and at a control buffer, both alive and of the lengths that it
        // gives.
        let bytes = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        match usize::try_from(bytes) {
            Ok(bytes) => return Ok(Some((bytes, header))),
            Err(_) => match Errno::last() {
                Errno::EINTR => {}
                Errno::EAGAIN => return Ok(None),
                errno => return Err(errno.into()),
            },
        }
    }
}

/// What came with a message.
#[derive(Debug)]
struct Control {
    sender: Option<Sender>,
    descriptors: Vec<OwnedFd>,
}

/// Walks the ancillary data of a header, whose control buffer is alive: takes the descriptors, and the sender.
fn take_control(header: &libc::msghdr) -> Control {
    let (mut credentials, mut process, mut sent_at) = (None, Process::Unknown, None);
    let mut descriptors = Vec::new();
    // SAFETY: the header and its control buffer are as `recvmsg` left them.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: the kernel wrote a whole `cmsghdr` there, and the buffer is aligned for it.
        let control = unsafe { next.read() };
        // SAFETY: as above; the data begin after the header.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: computes a length.
        let header_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
        // The type of `cmsg_len` differs between C libraries.
        let data_bytes = (control.cmsg_len as usize).saturating_sub(header_bytes);
        match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if data_bytes >= size_of::<libc::ucred>() => {
                // SAFETY: the kernel wrote a whole `ucred` there; its alignment is not relied on.
                let found = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                // 0 is a process that is not visible from here.
                credentials = Some(found).filter(|found| found.pid > 0);
            }
            (libc::SOL_SOCKET, SCM_PIDFD) if data_bytes >= size_of::<RawFd>() => {
                // SAFETY: the kernel wrote a descriptor there, or an error; its alignment is not relied on.
                let fd = unsafe { data.cast::<RawFd>().read_unaligned() };
                process = Process::of(match fd {
                    // SAFETY: the kernel has just created it for us; nothing else owns it.
                    0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
                    error => Err(Errno::from_raw(-error)),
                });
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if data_bytes >= size_of::<libc::timespec>() => {
                // SAFETY: the kernel wrote a whole `timespec` there; its alignment is not relied on.
                sent_at = Some(unsafe { data.cast::<libc::timespec>().read_unaligned() });
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..data_bytes / size_of::<RawFd>() {
                    // SAFETY: within the data, of which `data_bytes` were written.
                    let place = unsafe { data.cast::<RawFd>().add(index) };
                    // SAFETY: the kernel wrote a descriptor there; its alignment is not relied on.
                    let fd = unsafe { place.read_unaligned() };
                    // SAFETY: the kernel has just created it for us; nothing else owns it.
                    descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            _ => {}
        }
        // SAFETY: `next` is a header within this message's control buffer.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    let sender = credentials.map(|found| {
        let sent_at = sent_at.map(TimeSpec::from).map_or_else(SinceBoot::now, SinceBoot::at_wall_clock);
        Sender::new(Pid::from_raw(found.pid), Uid::from_raw(found.uid), process, sent_at)
    });
    Control { sender, descriptors }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read, pipe};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use nix::unistd::getpid;

    use super::*;
    use crate::sys::testing::{eventually, isolated};

    fn send_with(socket: &UnixStream, fds: &[RawFd]) -> nix::Result<usize> {
        let rights = [ControlMessage::ScmRights(fds)];
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)
    }

    #[track_caller]
    fn receives(socket: &UnixStream, bytes: usize) {
        let received = receive(socket, &mut [0; 16]).unwrap();
        assert!(matches!(&received, Received::Message(message) if message.bytes == bytes), "{received:?}");
    }

    #[test]
    fn descriptors_that_come_over_a_stream_are_closed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        assert!(matches!(receive(&ours, &mut [0; 16]).unwrap(), Received::Nothing));
        send_with(&theirs, &[writer.as_raw_fd(); RIGHTS_MAX]).unwrap();
        drop(writer);
        receives(&ours, 1);
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0, "all of them must be closed");
        drop(theirs);
        receives(&ours, 0);
    }

    #[test]
    fn a_message_with_descriptors_stays_unread_while_there_is_no_room() {
        isolated(
            "sys::ancillary::tests::a_message_with_descriptors_stays_unread_while_there_is_no_room",
            || {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let (_reader, writer) = pipe().unwrap();
                CLOSER.hold();
                send_with(&theirs, &[writer.as_raw_fd(); RIGHTS_MAX]).unwrap();
                send_with(&theirs, &[writer.as_raw_fd()]).unwrap();
                receives(&ours, 1);
                receives(&ours, 1);
                assert!(!CLOSER.has_room());
                sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"yy")], &[], MsgFlags::empty(), None)
                    .unwrap();
                receives(&ours, 2);
                send_with(&theirs, &[writer.as_raw_fd()]).unwrap();
                for _ in 0..3 {
                    assert!(matches!(receive(&ours, &mut [0; 16]).unwrap(), Received::NoRoom));
                }
                CLOSER.go_on();
                eventually("room", || CLOSER.has_room());
                receives(&ours, 1);
            },
        );
    }

    /// That of a notify socket, whose messages come with more than those of a stream.
    #[test]
    fn a_named_sender_is_no_descriptor() {
        isolated("sys::ancillary::tests::a_named_sender_is_no_descriptor", || {
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            name_senders(&ours).unwrap();
            hold_senders(&ours, true);
            let (_reader, writer) = pipe().unwrap();
            let send = |fds: &[RawFd]| {
                let rights = [ControlMessage::ScmRights(fds)];
                let rights = if fds.is_empty() { &[][..] } else { &rights };
                sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"x")], rights, MsgFlags::empty(), None)
                    .unwrap();
            };
            let next = || receive(&ours, &mut [0; 16]).unwrap();
            let is_named = |received: &Received| matches!(received, Received::Message(Message { sender: Some(sender), .. }) if sender.pid == getpid());
            CLOSER.hold();
            send(&[writer.as_raw_fd(); RIGHTS_MAX]);
            send(&[writer.as_raw_fd(); RIGHTS_MAX]);
            assert!(is_named(&next()) && is_named(&next()) && !CLOSER.has_room());
            send(&[]);
            assert!(is_named(&next()), "it brings none");
            send(&[writer.as_raw_fd()]);
            assert!(matches!(next(), Received::NoRoom));
            let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
            let before = open();
            (0..3).for_each(|_| assert!(matches!(next(), Received::NoRoom)));
            assert_eq!(open(), before, "a look brings nothing");
            CLOSER.go_on();
            eventually("room", || CLOSER.has_room());
            assert!(is_named(&next()));
        });
    }

    #[test]
    fn a_socket_that_refuses_descriptors_gets_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        match refuse_rights(&ours) {
            Ok(()) => assert_eq!(send_with(&theirs, &[0]), Err(Errno::EPERM)),
            Err(errno) => assert_eq!(errno, Errno::ENOPROTOOPT, "this kernel is older than Linux 6.16"),
        }
    }
}
