//! Messages of workers over `NOTIFY_SOCKET`: readiness, pings, status text, stopping.
//!
//! The socket (`socket.rs`) is the workers' user's, or everybody's. The kernel reports the sender, and only workers and
//! their descendants are believed.

mod socket;

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use einhorn_proto::AckSource;
use einhyrningsins_supervisor::{Event, Report};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use super::children::Census;
use super::parts::Part;
use super::ready::{self, Ready};
use super::refusals::Refusals;
use crate::forms::core_pid;
use crate::logging::Log;
use crate::socket_place::Lost;
use crate::sys::notify::{NotifyError, NotifyMessage};
use crate::sys::peer::{Sender, Workers as _};

pub use socket::{Access, NotifySocket};

/// Messages read in one round, so that a flood does not starve the rest.
const MESSAGES_PER_ROUND: usize = 256;

/// Messages read in a round in which children have ended: more than may have been in the queue before that, so that what
/// a worker sent before its death is read. Source: `net.unix.max_dgram_qlen`, 10, or 512 where systemd sets it.
const MESSAGES_AFTER_DEATHS: usize = 1024;

/// Messages of each user in a second whose senders are looked up in vain. The look is what a message costs most.
const LOOKS_MAX: u32 = 100;

/// So many users have a count of such looks.
const USERS_MAX: usize = 256;

const VARIABLE: &str = "NOTIFY_SOCKET";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Notify {
    #[serde(flatten)]
    socket: NotifySocket,
    #[serde(skip)]
    looks: Looks,
    #[serde(default)]
    refusals: Refusals,
}

/// How often each user's senders were looked up in vain in this second: a user that floods the socket is not to cost more
/// than the reading, and not to keep the helpers of workers of other users from being heard.
#[derive(Debug, Default)]
struct Looks {
    since: Option<Instant>,
    vain: HashMap<Uid, u32>,
}

impl Looks {
    fn are_left(&mut self, user: Uid) -> bool {
        if self.since.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
            *self = Self { since: Some(Instant::now()), vain: HashMap::new() };
        }
        self.vain.get(&user).map_or(self.vain.len() < USERS_MAX, |vain| *vain < LOOKS_MAX)
    }

    fn add_vain(&mut self, user: Uid) {
        *self.vain.entry(user).or_default() += 1;
    }
}

impl Notify {
    pub(crate) fn new(socket: NotifySocket) -> Self {
        Self { socket, looks: Looks::default(), refusals: Refusals::default() }
    }

    /// The variables for workers.
    pub(crate) fn exports(&self) -> Vec<(String, String)> {
        vec![(VARIABLE.to_owned(), self.socket.address().to_owned())]
    }

    /// How many messages were refused since the master started.
    pub(super) fn refused(&self) -> u64 {
        self.refusals.total()
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
        self.refusals.settle("messages to the notify socket were refused", log);
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
                    let dropped = format_args!("a message to the notify socket was dropped: {error}");
                    self.refusals.log(error.sender(), dropped, log);
                }
            }
        }
        ready.notify = true;
        events
    }

    /// What the path of its socket no longer leads to.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.socket.lost()
    }

    /// Makes the file again, with another socket, after what was still to be read from the one before is `heard`.
    pub(super) fn bind_again(
        &mut self,
        heard: &mut Vec<Event>,
        ready: &mut Ready,
        registry: &Registry,
        census: Census<'_>,
        log: &mut Log,
    ) -> anyhow::Result<()> {
        ready.notify = true;
        heard.extend(self.turn(true, ready, census, log));
        self.socket.bind_again()?;
        self.register(registry)
    }

    /// The path to watch, if there is a file.
    pub(super) fn path(&self) -> Option<&Path> {
        self.socket.path()
    }

    fn on_message(
        &mut self,
        sender: &Sender,
        message: NotifyMessage,
        census: Census<'_>,
        log: &mut Log,
        events: &mut Vec<Event>,
    ) {
        let is_hopeless = !census.has(sender.pid) && !self.looks.are_left(sender.uid);
        if is_hopeless || !self.socket.admits(sender.uid) {
            return self.refusals.count();
        }
        let pid = match sender.worker(&census) {
            Ok(worker) => core_pid(worker),
            Err(stranger) => {
                self.looks.add_vain(sender.uid);
                let pid = sender.pid;
                let refusal = format_args!(
                    "a message to the notify socket refused: it came from process {pid}, {stranger}"
                );
                return self.refusals.log(Some(pid), refusal, log);
            }
        };
        let NotifyMessage { ready, watchdog, stopping, status } = message;
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

    fn deadline(&self) -> Option<Instant> {
        self.refusals.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_floods_is_not_looked_up_and_others_are() {
        let mut looks = Looks::default();
        let (loud, quiet) = (Uid::from_raw(1), Uid::from_raw(2));
        for _ in 0..LOOKS_MAX {
            assert!(looks.are_left(loud));
            looks.add_vain(loud);
        }
        assert!(!looks.are_left(loud) && looks.are_left(quiet));
        looks.since = Some(Instant::now() - Duration::from_secs(1));
        assert!(looks.are_left(loud), "a second is over");
        for user in 0..u32::try_from(USERS_MAX).unwrap() {
            looks.add_vain(Uid::from_raw(user));
        }
        assert!(looks.are_left(loud) && !looks.are_left(Uid::from_raw(u32::MAX)), "there are too many users");
    }
}
