//! The worker's side of a shared-socket master, for servers written in Rust.
//!
//! A master (einhyrningsins, einhorn or systemd) binds the sockets and starts the server as one or more
//! workers, which inherit them. A worker does three things: it takes its sockets ([`take`],
//! [`inherit_or_bind`]), it acks once it takes traffic ([`ack`]), and it watches for the request to stop
//! ([`Stop`]). The master can then replace every worker without losing a connection.
//!
//! # A worker
//! ```no_run
//! use std::io::Write;
//! use std::net::TcpListener;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let stop = einhorn_child::Stop::install()?;
//!     let listener: TcpListener = einhorn_child::inherit_or_bind("127.0.0.1:8000")?;
//!     einhorn_child::ack()?;
//!     while let Some((mut stream, _)) = stop.accept(&listener)? {
//!         let _ = stream.write_all(b"hello\n");
//!     }
//!     Ok(()) // everything that was accepted has been answered
//! }
//! ```
//! Without a master, the same program binds its own socket, and `ack` does nothing. The examples `hello`
//! (threads and the standard library) and `axum` are complete HTTP servers, and `worker` is a short one.
//!
//! # Under systemd
//! Socket activation without a master works too, with all functions of this crate: [`take`] and
//! [`inherit_or_bind`] find the sockets of a `.socket` unit, by number in the order of its `ListenStream=`,
//! `ListenDatagram=` and so on, or by their `FileDescriptorName=`, and [`is_supervised`] returns `true`. There are
//! no slots, indexes and generations. [`ack`] sends `READY=1` if the unit has `Type=notify`, else nothing;
//! [`ping_timeout`] returns its `WatchdogSec=`. The request to stop is SIGTERM. With `Accept=yes`, systemd passes
//! a connection instead of a listener: take it as [`OwnedFd`](std::os::fd::OwnedFd).
//!
//! # What keeps an upgrade from losing requests
//! - All holders share the queue of an inherited listener. A worker that stops only needs to stop accepting;
//!   its successors accept what is queued. Do not call `shutdown(2)` on the listener: that ends it for all
//!   holders.
//! - Connections that this worker has accepted belong to it alone: answer them before the process exits.
//! - A kept-alive HTTP connection may carry the client's next request at any moment. Answer it with
//!   `Connection: close` instead of closing the connection. The graceful shutdown of most libraries does not do
//!   this. For axum there is `serve`, with the feature `axum`; the example `hello` shows how to do it by hand.
//!
//! # Environment
//! The variables are read once, at the first call. This crate never changes the environment; [`scrub`] removes
//! the variables from that of a program that the worker runs. Taken descriptors are closed at an exec.
//! Everything can be used from any thread.
//!
//! # Features
//! - `tokio`: [`take`] and [`inherit_or_bind`] return the sockets of `tokio::net` as well, ready to use, and
//!   `Stop::future` is the stop as a future.
//! - `axum`, which includes `tokio`: `serve` runs an axum application and loses no request when it stops.

mod accept;
mod bind;
mod environment;
mod error;
#[cfg(feature = "tokio")]
mod future;
#[cfg(feature = "axum")]
mod serve;
mod sockets;
mod stop;
mod sys;
mod tell;
#[cfg(feature = "tokio")]
mod tokio_sockets;

pub use accept::Acceptor;
pub use bind::Bind;
pub use environment::{generation, index, is_supervised, is_trial, master_pid, ping_timeout, scrub, slot};
pub use error::{BadVariable, NoSockets, TakeError};
#[cfg(feature = "tokio")]
pub use future::StopFuture;
#[cfg(feature = "axum")]
pub use serve::{Serve, serve};
pub use sockets::{Inherit, InheritedSocket, SocketKind, Which, inherit_or_bind, inherited, take};
pub use stop::{Signal, Stop};
pub use tell::{TellError, Told, ack, ping, status, stopping};

/// Compiles the examples in the README, one of which needs the feature `axum`.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
