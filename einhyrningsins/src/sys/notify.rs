//! The notify socket: receives `sd_notify(3)` messages from workers, with the sender's pid from the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::{fmt, io};

use einhorn_proto::visible_line;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, getsockname, socket};
use nix::unistd::Pid;

use super::ancillary::{Received, hold_senders, name_senders, receive};
use super::peer::Sender;
use super::process::truncate;

/// The longest message that is read, in bytes; the same limit as systemd's.
const MESSAGE_BYTES_MAX: usize = 4096;

/// How much of a `STATUS=` is kept, in bytes. It is kept per worker and shown on one line of a table.
const STATUS_BYTES_MAX: usize = 200;

/// The receiving end of datagrams for which the kernel reports the sender.
#[derive(Debug)]
pub struct NotifyReceiver {
    fd: OwnedFd,
}

/// One message of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotifyMessage {
    /// `READY=1`: the worker takes traffic.
    pub ready: bool,
    /// `WATCHDOG=1`: the worker is alive.
    pub watchdog: bool,
    /// `STOPPING=1`: the worker is stopping by itself.
    pub stopping: bool,
    /// `STATUS=`: one line without control characters; empty to clear the previous one.
    pub status: Option<String>,
}

/// A message was refused and discarded, or none could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    #[error("it came from {} and is longer than {MESSAGE_BYTES_MAX} bytes", Named(*.sender))]
    TooLong {
        /// The sender, if it is visible from here.
        sender: Option<Pid>,
    },
    #[error("it came from {} and is not UTF-8", Named(*.sender))]
    NotText {
        /// The sender, if it is visible from here.
        sender: Option<Pid>,
    },
    /// The kernel reported no sender, or one outside our pid namespace.
    #[error("its sender is not visible from here")]
    UnknownSender,
    /// It stays unread, and what is behind it.
    #[error("the descriptors of earlier messages are not closed yet")]
    NoRoom,
    #[error("cannot read the notify socket: {0}")]
    Io(io::Error),
}

impl NotifyError {
    /// The sender of a message that was discarded, if it is visible from here.
    pub fn sender(&self) -> Option<Pid> {
        match self {
            Self::TooLong { sender } | Self::NotText { sender } => *sender,
            Self::UnknownSender | Self::NoRoom | Self::Io(_) => None,
        }
    }
}

#[derive(Debug)]
struct Named(Option<Pid>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("a process that is not visible from here"),
        }
    }
}

impl NotifyReceiver {
    /// Creates the socket without an address: close-on-exec, non-blocking.
    pub fn new() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        // Set before the socket has an address, so that no message arrives without credentials.
        name_senders(&fd)?;
        hold_senders(&fd, true);
        Ok(Self { fd })
    }

    /// Gets a descriptor of each sender's process from now on, as a new receiver does, or none any more: other images may
    /// not expect it.
    pub fn hold_senders(&self, are_held: bool) {
        // That of an older image may lack the times.
        let _ = name_senders(&self.fd);
        hold_senders(&self.fd, are_held);
    }

    /// Binds the socket to an unused abstract name that the kernel chooses, and returns the name.
    ///
    /// # Errors
    /// EINVAL if the socket has an address already; ENOSPC if every name is taken.
    ///
    /// # Source
    /// `unix(7)`, "Autobind feature".
    pub fn bind_to_any_name(&self) -> Result<String, Errno> {
        bind(self.fd.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let bound: UnixAddr = getsockname(self.fd.as_raw_fd())?;
        let name = bound.as_abstract().and_then(|name| std::str::from_utf8(name).ok());
        name.map(str::to_owned).ok_or(Errno::EADDRNOTAVAIL)
    }

    /// Takes the next message; `None` if there is none. Never blocks. Descriptors that came with the message
    /// are closed soon, which is what a sender of `BARRIER=1` waits for.
    ///
    /// # Errors
    /// [`NotifyError`]. Except after [`NotifyError::Io`] and [`NotifyError::NoRoom`], the message is discarded and the
    /// next one can be taken.
    pub fn receive(&mut self) -> Result<Option<(Sender, NotifyMessage)>, NotifyError> {
        let mut text = [0; MESSAGE_BYTES_MAX];
        let datagram = match receive(&self.fd, &mut text).map_err(NotifyError::Io)? {
            Received::Message(datagram) => datagram,
            Received::Nothing => return Ok(None),
            Received::NoRoom => return Err(NotifyError::NoRoom),
        };
        let sender = datagram.sender.as_ref().map(|sender| sender.pid);
        if datagram.is_truncated {
            return Err(NotifyError::TooLong { sender });
        }
        let Ok(text) = std::str::from_utf8(&text[..datagram.bytes]) else {
            return Err(NotifyError::NotText { sender });
        };
        Ok(Some((datagram.sender.ok_or(NotifyError::UnknownSender)?, parse(text))))
    }
}

impl From<OwnedFd> for NotifyReceiver {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for NotifyReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads the assignments of a message, one per line; skips unknown ones and lines that are not assignments.
pub fn parse(text: &str) -> NotifyMessage {
    let mut message = NotifyMessage::default();
    for line in text.trim_end_matches('\0').lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => message.ready = true,
            Some(("WATCHDOG", "1")) => message.watchdog = true,
            Some(("STOPPING", "1")) => message.stopping = true,
            Some(("STATUS", status)) => message.status = Some(tidy(status)),
            _ => {}
        }
    }
    message
}

/// Makes a text fit for a line of a table: short, and without characters that control a terminal.
fn tidy(text: &str) -> String {
    let mut tidy = visible_line(text).into_owned();
    if tidy.len() > STATUS_BYTES_MAX {
        let ellipsis = '\u{2026}';
        truncate(&mut tidy, STATUS_BYTES_MAX - ellipsis.len_utf8());
        tidy.push(ellipsis);
    }
    tidy
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{IoSlice, Read};
    use std::os::fd::RawFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::process::Command;
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use nix::unistd::{getpid, pipe};
    use proptest::prelude::*;

    use super::*;
    use crate::sys::peer::{SinceBoot, Stranger, Workers};
    use crate::sys::testing::{eventually, isolated};

    fn bound() -> NotifyReceiver {
        let receiver = NotifyReceiver::new().unwrap();
        receiver.bind_to_any_name().unwrap();
        receiver
    }

    fn address(socket: &NotifyReceiver) -> UnixAddr {
        getsockname(socket.fd.as_raw_fd()).unwrap()
    }

    fn send(socket: &NotifyReceiver, bytes: &[u8]) {
        let address = SocketAddr::from_abstract_name(address(socket).as_abstract().unwrap()).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(bytes, &address).unwrap();
    }

    fn send_with(socket: &NotifyReceiver, text: &[u8], fds: &[RawFd]) {
        let address = address(socket);
        let sender = UnixDatagram::unbound().unwrap();
        let rights = [ControlMessage::ScmRights(fds)];
        let parts = [IoSlice::new(text)];
        sendmsg(sender.as_raw_fd(), &parts, &rights, MsgFlags::empty(), Some(&address)).unwrap();
    }

    fn nothing() -> NotifyMessage {
        NotifyMessage::default()
    }

    /// The next message, which this process has sent.
    #[track_caller]
    fn received(socket: &mut NotifyReceiver) -> Option<NotifyMessage> {
        let (sender, message) = socket.receive().unwrap()?;
        assert_eq!(sender.pid, getpid());
        Some(message)
    }

    #[test]
    fn a_message_arrives_with_its_sender() {
        let mut socket = bound();
        assert!(socket.receive().unwrap().is_none());
        let mut poll = Poll::new().unwrap();
        let source = &mut SourceFd(&socket.fd.as_raw_fd());
        poll.registry().register(source, Token(3), Interest::READABLE).unwrap();
        send(&socket, b"READY=1\nSTATUS=serving\nMAINPID=1\nX=\n");
        send(&socket, b"WATCHDOG=1");
        send(&socket, b"STOPPING=1\nSTATUS=");
        send(&socket, b"");
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert_eq!(events.iter().count(), 1);
        let serving = Some("serving".to_owned());
        for expected in [
            NotifyMessage { ready: true, status: serving, ..nothing() },
            NotifyMessage { watchdog: true, ..nothing() },
            NotifyMessage { stopping: true, status: Some(String::new()), ..nothing() },
            nothing(),
        ] {
            assert_eq!(received(&mut socket), Some(expected));
        }
        assert!(socket.receive().unwrap().is_none());
    }

    /// A child sends READY=1 through a socket that this process has made, and ends.
    fn send_from_child(socket: &NotifyReceiver) -> Pid {
        let client = UnixDatagram::unbound().unwrap();
        let address = address(socket);
        client
            .connect_addr(&SocketAddr::from_abstract_name(address.as_abstract().unwrap()).unwrap())
            .unwrap();
        let mut command = Command::new("/bin/sh");
        let mut child = command.args(["-c", "printf READY=1"]).stdout(OwnedFd::from(client)).spawn().unwrap();
        child.wait().unwrap();
        Pid::from_raw(child.id() as i32)
    }

    #[test]
    fn the_sender_is_the_sending_process_not_the_creator_of_the_socket() {
        let mut socket = bound();
        let child = send_from_child(&socket);
        let (sender, message) = socket.receive().unwrap().unwrap();
        assert_eq!(sender.pid, child);
        assert_eq!(message, NotifyMessage { ready: true, ..nothing() });
    }

    #[test]
    fn a_sender_that_has_ended_speaks_for_nobody_and_is_not_mistaken_for_another() {
        struct Any;
        impl Workers for Any {
            fn has(&self, _pid: Pid) -> bool {
                true
            }
            fn last_heard_of(&self, _pid: Pid) -> Option<SinceBoot> {
                None
            }
        }
        for are_held in [false, true] {
            let mut socket = bound();
            socket.hold_senders(are_held);
            send(&socket, b"READY=1");
            let (sender, _) = socket.receive().unwrap().unwrap();
            assert_eq!(sender.worker(&Any), Ok(getpid()), "held: {are_held}");
            send_from_child(&socket);
            let (sender, _) = socket.receive().unwrap().unwrap();
            assert_eq!(sender.worker(&Any), Err(Stranger::Ended), "held: {are_held}");
        }
    }

    #[test]
    fn no_two_sockets_get_the_same_name() {
        let sockets: Vec<_> = (0..10).map(|_| NotifyReceiver::new().unwrap()).collect();
        let mut names: Vec<_> = sockets.iter().map(|socket| socket.bind_to_any_name().unwrap()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), sockets.len());
    }

    #[test]
    fn passed_descriptors_are_closed() {
        let mut socket = bound();
        let (reader, writer) = pipe().unwrap();
        send_with(&socket, b"BARRIER=1", &[writer.as_raw_fd()]);
        send_with(&socket, b"READY=1", &[writer.as_raw_fd(); 253]);
        drop(writer);
        assert_eq!(received(&mut socket), Some(nothing()));
        assert_eq!(received(&mut socket), Some(NotifyMessage { ready: true, ..nothing() }));
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut reader = File::from(reader);
        eventually("nobody to hold the writer", || reader.read(&mut [0; 1]).is_ok_and(|bytes| bytes == 0));
    }

    #[test]
    fn descriptors_are_closed_even_if_only_some_could_be_received() {
        isolated("sys::notify::tests::descriptors_are_closed_even_if_only_some_could_be_received", || {
            let mut socket = bound();
            let (_reader, writer) = pipe().unwrap();
            send_with(&socket, b"READY=1", &[writer.as_raw_fd(); 8]);
            // The directory's own descriptor is among those listed.
            let open = || fs::read_dir("/proc/self/fd").unwrap().count() - 1;
            let before = open();
            let highest = fs::read_dir("/proc/self/fd")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u64>().unwrap())
                .max()
                .unwrap();
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, highest + 2, hard).unwrap();
            let message = received(&mut socket);
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            assert_eq!(message, Some(NotifyMessage { ready: true, ..nothing() }));
            eventually("the descriptors to be closed", || open() == before);
        });
    }

    #[test]
    fn a_bad_message_is_named_and_the_next_one_is_received() {
        let mut socket = bound();
        send(&socket, &[b'x'; MESSAGE_BYTES_MAX + 1]);
        send(&socket, b"STATUS=\xff");
        send(&socket, &[b'x'; MESSAGE_BYTES_MAX]);
        let pid = getpid();
        assert_eq!(
            socket.receive().unwrap_err().to_string(),
            format!("it came from process {pid} and is longer than 4096 bytes")
        );
        assert_eq!(
            socket.receive().unwrap_err().to_string(),
            format!("it came from process {pid} and is not UTF-8")
        );
        assert_eq!(received(&mut socket), Some(nothing()));
    }

    #[test]
    fn a_status_is_one_short_line_without_control_characters() {
        assert_eq!(tidy("a\x1b[2J\tb\u{9b}c\u{202e}"), "a\\u{1b}[2J b\\u{9b}c\\u{202e}");
        let exact = "x".repeat(STATUS_BYTES_MAX);
        assert_eq!(tidy(&exact), exact);
        assert_eq!(tidy(&format!("{exact}x")), format!("{}\u{2026}", &exact[3..]));
    }

    #[test]
    fn only_whole_assignments_count() {
        for text in ["READY", "READY=0", "READY=11", " READY=1", "XREADY=1", "ready=1", "READY=1 "] {
            assert_eq!(parse(text), nothing(), "for {text}");
        }
        for text in ["READY=1\0", "READY=1\r\n", "A\n\nREADY=1\nREADY=0"] {
            assert!(parse(text).ready, "for {text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut socket = bound();
            send(&socket, &bytes);
            let received = socket.receive();
            prop_assert_eq!(received.is_ok(), std::str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn any_text_gives_a_bounded_status(text in "\\PC{0,300}", status in ".{0,300}") {
            let message = parse(&format!("{text}\nSTATUS={status}"));
            let found = message.status.unwrap();
            prop_assert!(found.len() <= STATUS_BYTES_MAX && !found.contains(char::is_control));
        }
    }
}
