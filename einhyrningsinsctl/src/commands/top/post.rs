//! What the other threads tell the one that has the terminal, with a bell that it can wait for beside the keys.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use super::order::Answer;
use crate::live::{Event, Picture};

/// How much may lie unread. Who posts more waits, as long as the terminal takes to be drawn on.
const POSTS_MAX: usize = 256;

/// A message to the thread that has the terminal.
#[derive(Debug)]
pub(super) enum Input {
    /// How the master is.
    Picture(Box<Picture>),
    /// Something has happened.
    Event(Event),
    /// An order has ended.
    Answer(Answer),
}

/// Where messages are posted.
#[derive(Debug, Clone)]
pub(super) struct Post {
    sender: SyncSender<Input>,
    bell: Arc<UnixStream>,
    reader: Weak<()>,
}

/// Where they arrive.
#[derive(Debug)]
pub(super) struct Letterbox {
    receiver: Receiver<Input>,
    bell: UnixStream,
    /// Lives as long as this, and so tells who posts whether anybody reads.
    _reader: Arc<()>,
}

/// A letterbox, and who posts there.
///
/// # Errors
/// The system's, if it has no descriptors left.
pub(super) fn post() -> io::Result<(Post, Letterbox)> {
    let (sender, receiver) = sync_channel(POSTS_MAX);
    let (there, here) = UnixStream::pair()?;
    there.set_nonblocking(true)?;
    here.set_nonblocking(true)?;
    let reader = Arc::new(());
    let post = Post { sender, bell: Arc::new(there), reader: Arc::downgrade(&reader) };
    Ok((post, Letterbox { receiver, bell: here, _reader: reader }))
}

impl Post {
    /// Posts a message, and returns whether anybody will read it.
    pub(super) fn send(&self, input: Input) -> bool {
        let is_read = self.sender.send(input).is_ok();
        self.ring();
        is_read
    }

    /// Posts a message, unless too many are unread.
    pub(super) fn try_send(&self, input: Input) {
        if self.sender.try_send(input).is_ok() {
            self.ring();
        }
    }

    /// Whether anybody will read what is posted.
    pub(super) fn is_read(&self) -> bool {
        self.reader.strong_count() > 0
    }

    /// Rings without a message, for those that were left.
    pub(super) fn ring(&self) {
        // Full, it rings already.
        let _ = (&*self.bell).write(&[0]);
    }
}

impl Letterbox {
    /// What becomes readable when there is a message.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Messages that have come, and whether more may have: whoever posts without end must not keep the keys waiting.
    pub(super) fn take(&self) -> (Vec<Input>, bool) {
        let mut rings = [0; 4096];
        while (&self.bell).read(&mut rings).is_ok_and(|count| count == rings.len()) {}
        let inputs: Vec<_> = self.receiver.try_iter().take(POSTS_MAX).collect();
        let is_more = inputs.len() == POSTS_MAX;
        (inputs, is_more)
    }
}

#[cfg(test)]
mod tests {
    use einhorn_proto::Severity;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn event(number: usize) -> Input {
        let at_ms = u64::try_from(number).unwrap();
        Input::Event(Event { at_ms, severity: Severity::Info, message: String::new(), notice: None })
    }

    fn is_ringing(letterbox: &Letterbox) -> bool {
        let mut bell = [PollFd::new(letterbox.bell(), PollFlags::POLLIN)];
        poll(&mut bell, PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn the_bell_rings_until_all_is_taken_and_one_who_posts_without_end_takes_turns() {
        let (post, letterbox) = post().unwrap();
        assert!(!is_ringing(&letterbox));
        for number in 0..POSTS_MAX {
            assert!(post.send(event(number)));
        }
        assert!(is_ringing(&letterbox));
        let (inputs, is_more) = letterbox.take();
        assert_eq!((inputs.len(), is_more, is_ringing(&letterbox)), (POSTS_MAX, true, false));
        post.ring();
        assert!(is_ringing(&letterbox));
        post.try_send(event(0));
        let (inputs, is_more) = letterbox.take();
        assert_eq!((inputs.len(), is_more, is_ringing(&letterbox)), (1, false, false));
    }

    #[test]
    fn whoever_posts_knows_that_nobody_reads() {
        let (post, letterbox) = post().unwrap();
        assert!(post.is_read());
        drop(letterbox);
        assert!(!post.is_read());
        assert!(!post.send(event(0)));
    }
}
