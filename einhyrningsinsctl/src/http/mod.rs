//! HTTP: one request on a connection of its own, without TLS, within a limit of time.
//!
//! Nothing else in this program knows of an asynchronous runtime: [`run`] starts one, in the calling thread, and ends it. No
//! redirect is followed and nothing is tried twice; the caller decides what an answer is worth.

mod address;
mod get;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

pub(crate) use address::Address;
pub(crate) use get::{Answer, BODY_BYTES_MAX, Get};
pub(crate) use hyper::StatusCode;
pub(crate) use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
pub(crate) use hyper::http::uri::PathAndQuery;

use crate::interrupt::Interrupts;

/// How often to look whether Ctrl-C was pressed. Only unsafe code could have the runtime wait for the descriptor.
const INTERRUPTS_EVERY: Duration = Duration::from_millis(50);

/// Runs `future` to its end; `None` if Ctrl-C was pressed before.
///
/// # Errors
/// The system's, if the runtime cannot be set up.
pub(crate) fn run<T>(interrupts: &Interrupts, future: impl Future<Output = T>) -> io::Result<Option<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let result = runtime.block_on(async {
        let mut future = pin!(future);
        let mut interrupted = pin!(async {
            while !interrupts.take() {
                tokio::time::sleep(INTERRUPTS_EVERY).await;
            }
        });
        poll_fn(|context| match interrupted.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => future.as_mut().poll(context).map(Some),
        })
        .await
    });
    // The thread of a name's lookup may still wait for an answer that nobody needs.
    runtime.shutdown_background();
    Ok(result)
}
