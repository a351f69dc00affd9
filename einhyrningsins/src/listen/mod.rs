//! Sockets for workers: what is asked for ([`BindSpec`]), having it ([`Listener`]), and what a worker is told of
//! it ([`exports()`]).
//!
//! The master binds and listens, or takes what it was passed ([`Passed`]); it never accepts and never reads. A
//! [`Listener`] stays open for as long as a worker, or a later one, may want it: closing it resets whatever waits in
//! its queue.

mod address;
mod bind;
mod exports;
mod listener;
mod passed;
mod spec;

pub use address::{Address, SocketKind, UnixName};
pub use bind::{BindError, Family, bind, bind_at};
pub use exports::exports;
pub use listener::{AdoptError, Listener, ListenerQueue, ListenerRecord};
pub use passed::{Passed, PassedError};
pub use spec::{
    BindAddress, BindOption, BindOptions, BindSpec, BindSpecError, BindSpecErrorKind, FastOpen, Host, Origin,
    Place,
};

/// Has all that `binds` ask for, in order: binds it, or takes it from `passed`.
///
/// # Errors
/// [`BindError`], for the first that cannot be had.
pub fn open(
    binds: &[BindSpec],
    family: Family,
    backlog: Option<u32>,
    mut passed: Option<&mut Passed>,
) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for spec in binds {
        match &mut passed {
            Some(passed) if spec.address.origin() == Origin::Passed => {
                listeners.extend(passed.take(spec, binds)?);
            }
            _ => listeners.push(bind(spec, family, backlog)?),
        }
    }
    Ok(listeners)
}
