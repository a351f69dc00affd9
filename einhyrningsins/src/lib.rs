//! The daemon of einhyrningsins, as a library: the program is [`main`] and nothing else.
//!
//! `ARCHITECTURE.md` at the top of the repository has the picture.

// Nobody but the modules of this crate sees them: there `pub` says no more and no less than `pub(crate)`.
#![allow(unreachable_pub)]

mod cli;
mod config;
mod einhorn;
mod failure;
mod forms;
#[cfg(fuzzing)]
pub mod fuzz;
mod listen;
mod logging;
mod manners;
mod master;
mod release;
mod servers;
mod socket_place;
mod start;
mod sys;
mod workers;

pub use start::main;
// For the benchmark of spawns, and the tests of those that need root.
pub use sys::account::Credentials;
pub use sys::limits::ResourceLimit;
pub use sys::spawn::{SpawnError, SpawnSpec, Spawner, Stage};
