//! What a master is put together from, at a start or when a master is replaced.

use anyhow::Context;
use einhyrningsins_supervisor::Supervisor;
use mio::{Interest, Poll};

use super::control::ControlSocket;
use super::notify::NotifySocket;
use super::service::Service;
use super::{CONTROL, NOTIFY, SIGNALS};
use crate::config::{Control, Identity, Reexec};
use crate::logging::Log;
use crate::sys::lock_file::LockFile;
use crate::sys::pid_file::PidFile;
use crate::sys::signals::Signals;
use crate::workers::Workers;

/// What a master is put together from.
#[derive(Debug)]
pub struct Parts {
    /// How the master was called.
    pub identity: Identity,
    /// How it replaces itself.
    pub reexec: Reexec,
    /// The core.
    pub supervisor: Supervisor,
    /// How workers are made.
    pub workers: Workers,
    /// How it is controlled.
    pub control: Control,
    /// Where workers notify.
    pub notify: NotifySocket,
    /// The control socket. Dropped after that, whose file goes by its lock.
    pub control_socket: ControlSocket,
    /// The lock of `--lockfile`.
    pub lockfile: Option<LockFile>,
    /// The pid file.
    pub pidfile: Option<PidFile>,
    /// Signals to the master.
    pub signals: Signals,
    /// What the service manager is told.
    pub service: Service,
    /// The log.
    pub log: Log,
}

/// The parts could not be put together. They are in here as they were: to drop them closes what they hold, and
/// removes the files that are theirs.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub struct NotAssembled {
    /// What the kernel refused.
    pub error: anyhow::Error,
    pub(super) parts: Box<Parts>,
}

impl Parts {
    /// Begins to wait for what they read.
    pub(super) fn poll(&mut self) -> anyhow::Result<Poll> {
        let poll = Poll::new().context("cannot make an epoll descriptor")?;
        let registry = poll.registry();
        registry
            .register(&mut self.signals, SIGNALS, Interest::READABLE)
            .context("cannot wait for signals")?;
        registry
            .register(&mut self.notify, NOTIFY, Interest::READABLE)
            .context("cannot wait for notifications")?;
        registry
            .register(&mut self.control_socket.listener, CONTROL, Interest::READABLE)
            .context("cannot wait for control clients")?;
        Ok(poll)
    }
}
