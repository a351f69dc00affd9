//! Child processes: signals to them, and their exits.

use std::collections::HashSet;
use std::io;

use einhorn_proto::Termination;
use einhyrningsins_supervisor::{Signal, Supervisor};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::ready::Ready;
use crate::forms::{system_pid, system_signal};
use crate::logging::Log;
use crate::sys::reap::{is_child, reap_one};

#[derive(Debug, Default)]
pub(super) struct Children {
    /// Children that are gone, and that the core does not know to be gone.
    unseen: HashSet<Pid>,
}

impl Children {
    /// Reaps the children that have exited. None of them gets a signal any more; call [`Self::are_seen`] once the core
    /// knows of all.
    pub(super) fn turn(&mut self, ready: &mut Ready, log: &mut Log) -> Vec<(Pid, Termination)> {
        let mut reaped = Vec::new();
        while ready.children {
            match reap_one() {
                Ok(Some(child)) => reaped.push(child),
                Ok(None) => ready.children = false,
                Err(errno) => {
                    log.error(format_args!("cannot reap children: {}", io::Error::from(errno)));
                    ready.children = false;
                }
            }
        }
        self.unseen.extend(reaped.iter().map(|(pid, _)| pid));
        reaped
    }

    /// Sends a signal to a worker, unless its pid may have been reused.
    pub(super) fn signal(&self, pid: Pid, signal: Signal, log: &mut Log) {
        if self.unseen.contains(&pid) {
            return;
        }
        if let Err(errno) = kill(pid, system_signal(signal)) {
            let why = io::Error::from(errno);
            log.warn(format_args!("cannot send {signal} to worker {pid}: {why}"));
        }
    }

    /// Workers that another program reaped while it ran between two images. The consequences of the first death
    /// must not signal the second worker: call [`Self::are_seen`] once the core knows of all.
    pub(super) fn find_unseen(&mut self, core: &Supervisor) -> Vec<Pid> {
        let gone: Vec<_> = core.pids().map(system_pid).filter(|pid| !is_child(*pid)).collect();
        self.unseen.extend(&gone);
        gone
    }

    pub(super) fn are_seen(&mut self) {
        self.unseen.clear();
    }
}
