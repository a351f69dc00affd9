//! The seam to the kernel: one module per thing that the daemon asks of it, and the only `unsafe` there is.
//!
//! Nothing here decides anything; it asks, and answers in types. What may block says so.

pub mod account;
pub mod cpus;
pub mod go_back;
pub mod inherit;
pub mod limits;
pub mod lock_file;
pub mod manager;
pub mod memory_file;
pub mod notify;
pub mod peer;
pub mod pid_file;
pub mod process;
pub mod queue;
pub mod reap;
pub mod signals;
pub mod spawn;
pub mod steering;
pub mod tcp_option;
#[cfg(test)]
pub(crate) mod testing;
pub mod unix_diag;
