//! The daemon of einhyrningsins, as a library: the program is [`run`] and nothing else.
//!
//! `ARCHITECTURE.md` at the top of the repository has the picture.

pub mod cli;
pub mod config;
pub mod control_socket;
pub mod dialect;
pub mod forms;
pub mod handover;
pub mod listen;
pub mod logging;
pub mod master;
pub mod notify_socket;
pub mod release;
pub mod socket_place;
pub mod supervisor;
pub mod sys;
pub mod workers;

mod start;
mod takeover;

pub use start::{Failure, run};
pub use takeover::take_over;
