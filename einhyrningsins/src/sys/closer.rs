//! Closes descriptors that others have sent us, on a thread of its own.
//!
//! `close(2)` of the last descriptor of a socket with `SO_LINGER` waits for as long as its sender likes, and that of a
//! file waits for its file system. The thread begins with the first descriptor, so that all signals are blocked in it that
//! are blocked in the main thread, and an exec or the end of the process ends it, whatever it waits for.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use socket2::SockRef;

use super::ancillary::RIGHTS_MAX;
use super::inherit::Kept;
use super::thread;

/// Descriptors that wait to be closed: those of two full messages.
const WAITING_MAX: usize = 2 * RIGHTS_MAX;

/// The closer of this process. What waits for it goes over in the state, as a part of the master.
pub static CLOSER: Closer = Closer::new();

/// A thread that closes descriptors, and those that wait for it.
#[derive(Debug)]
pub struct Closer {
    queue: Mutex<Queue>,
    has_work: Condvar,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<OwnedFd>,
    has_thread: bool,
    /// What waits stays open: another image needs it.
    is_held: bool,
}

impl Closer {
    const fn new() -> Self {
        let queue = Queue { waiting: VecDeque::new(), has_thread: false, is_held: false };
        Self { queue: Mutex::new(queue), has_work: Condvar::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it takes the descriptors of another message.
    pub fn has_room(&self) -> bool {
        self.queue().waiting.len() + RIGHTS_MAX <= WAITING_MAX
    }

    /// Closes `descriptors`, soon. Never waits for that.
    pub fn close(&'static self, descriptors: impl IntoIterator<Item = OwnedFd>) {
        let mut queue = self.queue();
        queue.waiting.extend(descriptors);
        if queue.waiting.is_empty() || queue.is_held {
            return;
        }
        if !queue.has_thread {
            match thread::start("closer", || self.run()) {
                Ok(()) => queue.has_thread = true,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    while let Some(descriptor) = queue.next() {
                        close(descriptor);
                    }
                }
                // For want of memory. They wait for the next try.
                Err(_) => {}
            }
        }
        self.has_work.notify_one();
    }

    /// Closes nothing from now on, because another image gets what waits, until [`Self::go_on`].
    pub fn hold(&self) {
        self.queue().is_held = true;
    }

    pub fn go_on(&'static self) {
        self.queue().is_held = false;
        self.close([]);
    }

    fn run(&self) {
        let mut queue = self.queue();
        loop {
            let Some(descriptor) = queue.next() else {
                queue = self.has_work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            close(descriptor);
            queue = self.queue();
        }
    }
}

impl Queue {
    /// Takes the next descriptor to close; none while the queue is held.
    fn next(&mut self) -> Option<OwnedFd> {
        if self.is_held { None } else { self.waiting.pop_front() }
    }
}

fn close(descriptor: OwnedFd) {
    // Whoever has a copy may set it again before it is closed. That costs this thread alone its time. Most descriptors are
    // no sockets.
    let _ = SockRef::from(&descriptor).set_linger(None);
    drop(descriptor);
}

/// What waits for [`CLOSER`], as a part of the master's state.
#[derive(Debug, Default)]
pub struct Closing;

impl Serialize for Closing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let queue = CLOSER.queue();
        serializer.collect_seq(queue.waiting.iter().map(|fd| Kept::<OwnedFd>::Named(fd.as_raw_fd())))
    }
}

impl<'de> Deserialize<'de> for Closing {
    /// Holds the closer: until the takeover is complete, the old image may need them again.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kept = Vec::<Kept<OwnedFd>>::deserialize(deserializer)?;
        let open = kept.into_iter().filter_map(|kept| match kept {
            Kept::Open(descriptor) => Some(descriptor),
            Kept::Named(_) => None,
        });
        let mut queue = CLOSER.queue();
        queue.waiting.extend(open);
        queue.is_held |= !queue.waiting.is_empty();
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn is_closed(mut reader: PipeReader) -> bool {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(reader.read(&mut [0; 1]).is_ok_and(|count| count == 0)));
        receiver.recv_timeout(Duration::from_secs(30)) == Ok(true)
    }

    #[test]
    fn what_is_handed_over_is_closed_once_nothing_holds_it() {
        static CLOSER: Closer = Closer::new();
        let pipes: Vec<_> = (0..=RIGHTS_MAX).map(|_| pipe().unwrap()).collect();
        let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        CLOSER.hold();
        assert!(CLOSER.has_room());
        CLOSER.close(writers.into_iter().map(OwnedFd::from));
        assert!(!CLOSER.has_room(), "more than one message waits");
        assert_eq!(CLOSER.queue().waiting.len(), RIGHTS_MAX + 1, "it is held");
        CLOSER.go_on();
        assert!(readers.into_iter().all(is_closed));
        assert!(CLOSER.has_room());
    }
}
