//! The worker's side of a shared-socket master, for servers written in Rust.
//!
//! A master (einhyrningsins, einhorn or systemd) binds the sockets and starts the server as one or
//! more workers, which inherit them. A worker does three things: it takes its sockets ([`take`],
//! [`inherit_or_bind`]), it says when it takes traffic ([`ack`]), and it hears when it is to stop
//! ([`Stop`]). With that the master can replace every worker and no connection is lost.
//!
//! # A worker
//! ```no_run
//! use std::io::Write;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let stop = einhorn_child::Stop::install()?;
//!     let listener = einhorn_child::inherit_or_bind("127.0.0.1:8000")?;
//!     einhorn_child::ack()?;
//!     while let Some((mut stream, _)) = stop.accept(&listener)? {
//!         let _ = stream.write_all(b"hello\n");
//!     }
//!     Ok(()) // everything that was accepted has been answered
//! }
//! ```
//! Without a master the same program binds for itself and `ack` does nothing. The examples `hello` (threads
//! and the standard library) and `axum` are whole HTTP servers.
//!
//! # What makes an upgrade lose nothing
//! - The queue of an inherited listener belongs to all who hold it. A worker that stops just accepts no
//!   more; what is queued goes to its successors. Do not `shutdown(2)` the listener: that ends it for all.
//! - What has been accepted is this worker's alone: answer it before the process ends.
//! - A kept-alive HTTP connection may carry the client's next request at any moment. Answer that with
//!   `Connection: close` instead of closing under it. Graceful shutdown of most libraries does not; the
//!   example `axum` shows what to do about it.
//!
//! # Environment
//! The variables are read once, at the first call. Nothing here changes the environment, and
//! [`scrub`] keeps them from a program that the worker runs. Descriptors that were taken are closed when a
//! program is run. All of it is safe to use from any thread.
//!
//! # Features
//! `tokio`: `Stop::future`, the stop as a future.

mod accept;
mod environment;
mod error;
#[cfg(feature = "tokio")]
mod future;
mod sockets;
mod stop;
mod sys;
mod tell;

pub use accept::Acceptor;
pub use environment::{generation, index, is_supervised, master_pid, ping_timeout, scrub, slot};
pub use error::{BadVariable, NoSockets, TakeError};
#[cfg(feature = "tokio")]
pub use future::StopFuture;
pub use sockets::{Inherit, InheritedSocket, SocketKind, Which, inherit_or_bind, inherited, take};
pub use stop::{Signal, Stop};
pub use tell::{TellError, Told, ack, ping, status, stopping};

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
