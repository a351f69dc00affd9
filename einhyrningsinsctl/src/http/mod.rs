//! HTTP: one request on a connection of its own, without TLS, within a limit of time.
//!
//! Nothing else in this program knows of an asynchronous runtime: [`run`] starts one, in the calling thread, and ends it. No
//! redirect is followed and nothing is tried twice; the caller decides what an answer is worth.

mod address;
mod get;

use std::future::Future;
use std::io;

pub(crate) use address::Address;
pub(crate) use get::{Answer, BODY_BYTES_MAX, Get};
pub(crate) use hyper::StatusCode;
pub(crate) use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
pub(crate) use hyper::http::uri::PathAndQuery;

/// Runs `future` to its end.
///
/// # Errors
/// The system's, if the runtime cannot be set up.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let result = runtime.block_on(future);
    // The thread of a name's lookup may still wait for an answer that nobody needs.
    runtime.shutdown_background();
    Ok(result)
}
