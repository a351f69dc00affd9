//! The handover: a master is replaced by another program in the same process.
//!
//! [`check`] starts the program that is to take over as a child, to see whether it can read the state. [`exec`] writes
//! the state and executes the program. On the other side of the exec, [`takeover`] takes over what the state names,
//! and [`resume`] continues what was under way. [`format`] has the form of the state, [`record`] its content. `reload`
//! is the command that starts a handover; an upgrade starts one where the program on disk has changed.

mod check;
mod exec;
mod format;
mod record;
mod resume;
mod takeover;

pub(super) use exec::{Replacement, Then};
pub use takeover::take_over;

#[cfg(test)]
mod tests;
