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
mod passed;
mod spec;

pub use address::{Address, SocketKind, UnixName};
pub use bind::{BindError, Family, bind, bind_at};
pub use exports::exports;
pub use kept::KeptListeners;
pub use listener::{AdoptError, Listener, ListenerQueue, ListenerRecord};
pub use passed::{Passed, PassedError};
pub use spec::{
    BindAddress, BindOption, BindOptions, BindSpec, BindSpecError, BindSpecErrorKind, FastOpen, Host, Origin,
    Place,
};

/// What is listened on.
#[derive(Debug)]
pub struct Opened {
    /// The sockets, in the order of what asked for them.
    pub listeners: Vec<Listener>,
    /// How many of them the service manager has kept.
    pub kept: usize,
    /// What it has kept and nobody asks for, by the names that it knows them by.
    pub unwanted: Vec<String>,
}

/// Has all that `binds` ask for, in order: takes it from what the service manager has kept or passed, or binds it.
///
/// # Errors
/// [`BindError`], for the first that cannot be had.
pub fn open(
    binds: &[BindSpec],
    family: Family,
    backlog: Option<u32>,
    mut passed: Option<&mut Passed>,
) -> Result<Opened, BindError> {
    let mut kept = KeptListeners::of(passed.as_deref_mut());
    let taken: Vec<_> = binds.iter().map(|spec| kept.take(spec, family, backlog)).collect();
    // Before others are bound, whose addresses they may have.
    let unwanted = kept.give_up();
    let mut opened = Opened { listeners: Vec::new(), kept: taken.iter().flatten().count(), unwanted };
    for (spec, taken) in binds.iter().zip(taken) {
        match (taken, &mut passed) {
            (Some(listener), _) => opened.listeners.push(listener),
            (None, Some(passed)) if spec.address.origin() == Origin::Passed => {
                opened.listeners.extend(passed.take(spec, binds)?);
            }
            (None, _) => opened.listeners.push(bind(spec, family, backlog)?),
        }
    }
    Ok(opened)
}
