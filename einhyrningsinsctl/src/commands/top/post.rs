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

    fn ring(&self) {
        // Full, it rings already.
        let _ = (&*self.bell).write(&[0]);
    }
}

impl Letterbox {
    /// What becomes readable when there is a message.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The messages that have come.
    pub(super) fn take(&self) -> impl Iterator<Item = Input> {
        let mut rings = [0; 4096];
        while (&self.bell).read(&mut rings).is_ok_and(|count| count == rings.len()) {}
        self.receiver.try_iter()
    }
}
