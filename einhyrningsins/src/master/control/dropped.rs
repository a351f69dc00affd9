//! Clients that were dropped, and why: a line in the log for each.

use std::fmt;

use nix::unistd::{Pid, Uid};

use super::clients::{Peer, Quota, WORKER_CLIENTS_MAX};

/// A client that was dropped, for the log.
#[derive(Debug)]
pub(super) struct Dropped {
    pub(super) peer: Peer,
    pub(super) user: Option<Uid>,
    pub(super) why: Why,
}

/// Why a client is dropped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    /// It has left so many bytes unread.
    Deaf(usize),
    /// So have all clients together, and it has read nothing for longest.
    Deafest(usize),
    /// Another one came, and it was the idlest of those that count against this quota.
    Idlest(Quota),
    /// It was the idlest observer when no descriptor was left for another client.
    Shortage,
    /// It was one more than a worker may have.
    Surplus(Pid),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("control client dropped: ")?;
        match (self.peer, self.user) {
            (Peer::Worker(pid), _) => write!(f, "worker {pid}"),
            (Peer::Connected(Some(pid)), Some(user)) => write!(f, "process {pid} of user {user}"),
            (Peer::Connected(_), Some(user)) => write!(f, "a process of user {user}"),
            (Peer::Connected(_), None) => f.write_str("a process that is not visible from here"),
        }?;
        match self.why {
            Why::Deaf(bytes) => {
                write!(f, " left {bytes} bytes unread; hint: a client must read what it asks for")
            }
            Why::Deafest(bytes) => write!(
                f,
                " read nothing for longest when all clients together left {bytes} bytes unread; hint: a client must read \
                 what it asks for"
            ),
            Why::Idlest(quota) => write!(
                f,
                " was the idlest when one more than {quota} came; hint: close connections that are not in use"
            ),
            Why::Shortage => f.write_str(
                " was the idlest observer when no descriptor was left for another client; hint: raise the limit on open files \
                 (ulimit -n, LimitNOFILE=)",
            ),
            Why::Surplus(worker) => write!(
                f,
                " was silent for longest when worker {worker} made one more than {WORKER_CLIENTS_MAX}; hint: it should close \
                 connections that are not in use"
            ),
        }
    }
}
