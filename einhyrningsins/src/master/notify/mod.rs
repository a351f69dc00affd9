//! Messages of workers over `NOTIFY_SOCKET`: readiness, pings, status text, stopping.
//!
//! Any process may send to the socket (`socket.rs`). The kernel reports the sender, and only workers and their
//! descendants are believed.

mod socket;

use std::collections::HashSet;
use std::os::fd::AsRawFd;

use anyhow::Context;
use einhorn_proto::AckSource;
use einhyrningsins_supervisor::{Event, Report};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::children::Census;
use super::parts::Part;
use super::ready::{self, Ready};
use crate::forms::core_pid;
use crate::logging::Log;
use crate::sys::notify::{NotifyError, NotifyMessage};
use crate::sys::peer::Sender;

pub use socket::{Access, NotifySocket};

/// Messages read in one round, so that a flood does not starve the rest.
const MESSAGES_PER_ROUND: usize = 256;

/// Messages read in a round in which children have ended: more than may have been in the queue before that, so that what
/// a worker sent before its death is read. Source: `net.unix.max_dgram_qlen`, 10, or 512 where systemd sets it.
const MESSAGES_AFTER_DEATHS: usize = 1024;

/// Senders of refused messages that are remembered.
const STRANGERS_MAX: usize = 256;

const VARIABLE: &str = "NOTIFY_SOCKET";

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Notify {
    socket: NotifySocket,
    #[serde(skip)]
    strangers: Strangers,
}

/// Senders that are not workers; each is warned about once. Workers of a dead master find its successor at the same
/// path and may ping for as long as they live.
#[derive(Debug, Default)]
struct Strangers {
    seen: HashSet<Pid>,
}

impl Strangers {
    fn is_new(&mut self, pid: Pid) -> bool {
        if self.seen.len() >= STRANGERS_MAX {
            self.seen.clear();
        }
        self.seen.insert(pid)
    }
}

impl Notify {
    pub(crate) fn new(socket: NotifySocket) -> Self {
        Self { socket, strangers: Strangers::default() }
    }

    /// The variables for workers.
    pub(crate) fn exports(&self) -> Vec<(String, String)> {
        vec![(VARIABLE.to_owned(), self.socket.address().to_owned())]
    }

    pub(crate) fn socket(&mut self) -> &mut NotifySocket {
        &mut self.socket
    }

    pub(super) fn turn(
        &mut self,
        has_deaths: bool,
        ready: &mut Ready,
        census: Census<'_>,
        log: &mut Log,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        if !std::mem::take(&mut ready.notify) {
            return events;
        }
        for _ in 0..if has_deaths { MESSAGES_AFTER_DEATHS } else { MESSAGES_PER_ROUND } {
            match self.socket.receive() {
                Ok(Some((sender, message))) => self.on_message(&sender, message, census, log, &mut events),
                Ok(None) => return events,
                Err(NotifyError::NoRoom) => {
                    ready.is_notify_blocked = true;
                    return events;
                }
                Err(error) => {
                    log.warn(format_args!("a message to the notify socket was dropped: {error}"));
                }
            }
        }
        ready.notify = true;
        events
    }

    fn on_message(
        &mut self,
        sender: &Sender,
        message: NotifyMessage,
        census: Census<'_>,
        log: &mut Log,
        events: &mut Vec<Event>,
    ) {
        let NotifyMessage { ready, watchdog, stopping, status } = message;
        let pid = match sender.worker(&census) {
            Ok(worker) => core_pid(worker),
            Err(stranger) => {
                let pid = sender.pid;
                let refusal = format_args!(
                    "a message to the notify socket refused: it came from process {pid}, {stranger}"
                );
                return if self.strangers.is_new(pid) { log.warn(refusal) } else { log.debug(refusal) };
            }
        };
        events.extend(ready.then_some(Event::Heard { pid, report: Report::Ack(AckSource::Notify) }));
        events.extend(watchdog.then_some(Event::Heard { pid, report: Report::Ping(None) }));
        events.extend(status.map(|text| Event::Heard { pid, report: Report::Status(text) }));
        events.extend(stopping.then_some(Event::Heard { pid, report: Report::Stopping }));
    }
}

impl Part for Notify {
    fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        let source = &mut SourceFd(&self.socket.as_raw_fd());
        registry.register(source, ready::NOTIFY, Interest::READABLE).context("cannot wait for notifications")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stranger_is_new_once_and_the_memory_is_bounded() {
        let mut strangers = Strangers::default();
        let pids = || (1..=STRANGERS_MAX as i32).map(Pid::from_raw);
        assert!(pids().all(|pid| strangers.is_new(pid)));
        assert!(strangers.is_new(Pid::from_raw(i32::MAX)) && !strangers.is_new(Pid::from_raw(i32::MAX)));
        assert!(strangers.seen.len() <= STRANGERS_MAX);
    }
}
