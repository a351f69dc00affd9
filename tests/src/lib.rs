//! What the tests and benchmarks of the real programs stand on.
//!
//! A [`Master`] is a daemon with a directory and a control socket of its own; it goes, with its workers,
//! when it is dropped, and shows its log when a test fails. [`load`] sends requests and counts every one
//! that was lost. [`faults`] makes system calls fail. [`wait`] is how a test waits: for a condition, under
//! a deadline. Nothing here is meant for anything but tests: what goes wrong is a panic that says what.

pub mod alone;
pub mod ask;
pub mod binaries;
pub mod browser;
mod builder;
mod cgroup;
pub mod control;
pub mod faults;
pub mod gate;
pub mod install;
pub mod listening;
pub mod load;
pub mod master;
pub mod needs;
pub mod pages;
pub mod process;
mod releases;
mod service_manager;
pub mod serving;
pub mod stream;
mod successor;
pub mod terminal;
pub mod wait;

pub use builder::MasterBuilder;
pub use cgroup::Cgroup;
pub use control::Control;
pub use gate::Gate;
pub use libtest_mimic::Trial;
pub use listening::Listening;
pub use master::Master;
pub use process::{Finished, Process};
pub use releases::{Releases, place_worker};
pub use service_manager::{ServiceManager, Told};
pub use serving::Serving;
pub use successor::{Successor, place_daemon, place_script};
