//! Sockets for workers: what is asked for ([`BindSpec`]), having it ([`Listener`]), and what a worker is told of
//! it ([`exports()`]).
//!
//! The master binds and listens, or takes what it was passed ([`Passed`]); it never accepts and never reads. A
//! [`Listener`] stays open for as long as a worker, or a later one, may want it: closing it resets whatever waits in
//! its queue.

mod address;
mod bind;
mod exports;
mod kept;
mod listener;
mod listeners;
mod passed;
mod per_slot;
mod spec;

pub use address::{Address, SocketKind, UnixName};
pub use bind::{BindError, Family, bind};
pub use exports::exports;
pub use kept::KeptListeners;
pub use listener::{AdoptError, Listener, ListenerQueue};
pub use listeners::{Listeners, ListenersRecord};
pub use passed::{Passed, PassedError};
pub use per_slot::PerSlot;
pub use spec::{BindSpec, Origin};

/// Has what `spec` asks for: binds it, or takes it from `passed`. What other `binds` name is not for a `systemd` without a
/// name.
///
/// # Errors
/// [`BindError`].
pub fn open(
    spec: &BindSpec,
    binds: &[BindSpec],
    family: Family,
    backlog: Option<u32>,
    passed: &mut Passed,
) -> Result<Vec<Listener>, BindError> {
    match spec.address.origin() {
        Origin::Passed => passed.take(spec, binds),
        _ => Ok(vec![bind(spec, family, backlog)?]),
    }
}
