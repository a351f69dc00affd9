//! A reader of events: what waits for it, as the body of its answer.
//!
//! One that does not keep up is cut off, rather than that it would be sent less, or all of it would be kept.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::Notify;

/// How much may wait for a reader, in bytes. One event may be longer.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Ends a connection at once, whatever it does.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<Notify>);

impl Cut {
    pub(super) fn now(&self) {
        self.0.notify_one();
    }

    /// Waits until it is cut.
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }
}

/// The end of the queue that a reader's connection reads.
#[derive(Debug)]
pub(super) struct Reader(Arc<Queue>);

/// The end of the queue into which events are put.
#[derive(Debug)]
pub(super) struct Events(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    cut: Cut,
    /// Told when the reader leaves.
    left: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Bytes>,
    bytes: usize,
    waker: Option<Waker>,
    /// The reader has gone, or nothing follows.
    is_over: bool,
}

/// A queue for one reader. `cut` closes its connection; `left` is notified when the reader has gone.
pub(super) fn queue(cut: Cut, left: Arc<Notify>) -> (Events, Reader) {
    let queue = Arc::new(Queue { waiting: Mutex::default(), cut, left });
    (Events(Arc::clone(&queue)), Reader(queue))
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// Adds an event. If too much would wait for the reader, its connection is closed.
    pub(super) fn push(&self, event: Bytes) {
        let mut waiting = self.0.lock();
        if waiting.is_over {
            return;
        }
        if waiting.bytes > 0 && waiting.bytes + event.len() > WAITING_BYTES_MAX {
            *waiting = Waiting { is_over: true, ..Waiting::default() };
            drop(waiting);
            self.0.cut.now();
            return;
        }
        waiting.bytes += event.len();
        waiting.events.push_back(event);
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    /// Whether it has left, or was cut off.
    pub(super) fn is_over(&self) -> bool {
        self.0.lock().is_over
    }
}

impl Drop for Events {
    /// Ends the answer, behind what waits.
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_over = true;
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut waiting = self.0.lock();
        if let Some(event) = waiting.events.pop_front() {
            waiting.bytes -= event.len();
            return Poll::Ready(Some(Ok(Frame::data(event))));
        }
        if waiting.is_over {
            return Poll::Ready(None);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        *self.0.lock() = Waiting { is_over: true, ..Waiting::default() };
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(reader: &mut Reader) -> Poll<Option<usize>> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(reader)
            .poll_frame(&mut context)
            .map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap().len()))
    }

    fn event(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    #[test]
    fn events_come_in_order_and_the_end_behind_them() {
        let (events, mut reader) = queue(Cut::default(), Arc::default());
        assert!(next(&mut reader).is_pending());
        events.push(event(3));
        events.push(event(5));
        assert_eq!(next(&mut reader), Poll::Ready(Some(3)));
        drop(events);
        assert_eq!(next(&mut reader), Poll::Ready(Some(5)));
        assert_eq!(next(&mut reader), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_reader_for_whom_too_much_waits_is_cut_off() {
        let cut = Cut::default();
        let (events, mut reader) = queue(cut.clone(), Arc::default());
        // One long event is no reason.
        events.push(event(2 * WAITING_BYTES_MAX));
        assert_eq!(next(&mut reader), Poll::Ready(Some(2 * WAITING_BYTES_MAX)));
        events.push(event(WAITING_BYTES_MAX));
        assert!(!events.is_over());
        events.push(event(1));
        assert!(events.is_over());
        cut.wait().await;
        assert_eq!(next(&mut reader), Poll::Ready(None), "what waited is gone");
    }

    #[tokio::test]
    async fn a_reader_that_leaves_is_told() {
        let left = Arc::new(Notify::new());
        let (events, reader) = queue(Cut::default(), Arc::clone(&left));
        assert!(!events.is_over());
        drop(reader);
        assert!(events.is_over());
        left.notified().await;
    }
}
