//! Listening sockets: what is asked for ([`BindSpec`]), having it ([`Listener`]), and what a worker is told of
//! it ([`exports()`]).
//!
//! The master binds and listens; it never accepts. A [`Listener`] stays open for as long as a worker, or a later
//! one, may want it: closing it resets whatever waits in its queue.

mod bind;
mod exports;
mod kept;
mod spec;

pub use bind::{AdoptError, BindError, Family, Listener, ListenerRecord, bind};
pub use exports::exports;
pub use kept::KeptListeners;
pub use spec::{BindAddress, BindSpec, BindSpecError, BindSpecErrorKind, Host};
