//! The stop request as a future.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::Stop;

/// Completes when the worker is asked to stop: see [`Stop::future`].
///
/// ```
/// # use einhorn_child::{Stop, StopFuture};
/// async fn serve_until(stopped: StopFuture) {
///     tokio::select! {
///         () = stopped => println!("asked to stop"),
///         () = std::future::pending() => {}
///     }
/// }
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// # runtime.block_on(async {
/// #     let stop = Stop::install()?;
/// #     stop.request();
/// #     serve_until(stop.future()?).await;
/// #     Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a future does nothing unless it is awaited"]
pub struct StopFuture {
    stop: Stop,
    /// A duplicate, because a runtime can register a descriptor only once.
    woken: UnixStream,
}

impl Stop {
    /// A future that completes when the worker is asked to stop, or at once if it already was. Create one per
    /// task.
    ///
    /// Dropping it loses nothing. It is created ahead of its use, and not by an `async fn`, so that errors show
    /// at start-up.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # runtime.block_on(async {
    /// let stop = einhorn_child::Stop::install()?;
    /// let stopped = stop.future()?;
    /// # stop.request();
    /// stopped.await;
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// No descriptor is left, or the runtime refuses it.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without I/O (`enable_io`).
    pub fn future(self) -> io::Result<StopFuture> {
        let woken = unix::net::UnixStream::from(self.as_fd().try_clone_to_owned()?);
        Ok(StopFuture { stop: self, woken: UnixStream::from_std(woken)? })
    }
}

impl Future for StopFuture {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        while !self.stop.is_requested() {
            // An error means that the runtime is shutting down, and whatever waits for this with it.
            if ready!(self.woken.poll_read_ready(context)).is_err() {
                break;
            }
            // Readiness is a hint, and only the flag counts: if it is not set, wait for the next hint.
            let unless_requested = || match self.stop.is_requested() {
                true => Ok(()),
                false => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            };
            let _ = self.woken.try_io(Interest::READABLE, unless_requested);
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for StopFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopFuture").field("stop", &self.stop).finish_non_exhaustive()
    }
}
