//! Sockets for workers: what `-b` asks for ([`BindSpec`]), the open sockets ([`Listener`]), and the variables
//! that describe them to a worker ([`exports()`]).
//!
//! The master binds and listens, or takes sockets that it was passed ([`Passed`]); it never accepts or reads. A
//! [`Listener`] stays open as long as a current or later worker may need it: closing it resets the connections
//! that wait in its queue.

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

/// Opens what `spec` asks for: binds it, or takes it from `passed`. A plain `systemd` takes only sockets that
/// no other of `binds` names.
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
