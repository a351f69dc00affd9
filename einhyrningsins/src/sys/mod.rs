//! The seam to the kernel: one module per kernel facility, and the only `unsafe` in the daemon.
//!
//! These modules make system calls and return typed results; they decide nothing. Functions that may block say
//! so.

pub mod access;
pub mod account;
pub mod ancillary;
pub mod attributes;
pub mod closer;
pub mod cpus;
pub mod group;
pub mod inet_diag;
pub mod inherit;
pub mod journal;
pub mod limits;
pub mod load;
pub mod local_time;
pub mod lock_file;
pub mod manager;
pub mod memory;
pub mod memory_file;
pub mod notify;
pub mod oom;
pub mod open;
pub mod peer;
pub mod pid_file;
pub mod process;
pub mod queue;
pub mod reap;
pub mod rollback;
pub mod shown;
pub mod signals;
pub mod sock_diag;
pub mod spawn;
pub mod stat;
pub mod steering;
pub mod surroundings;
pub mod tcp_option;
#[cfg(test)]
pub(crate) mod testing;
pub mod thread;
pub mod unix_diag;
pub mod writer;
