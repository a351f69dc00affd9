//! What workers say of themselves, over the control socket or the notify socket, and whether to believe it.

use std::collections::HashSet;

use einhorn_proto::AckSource;
use einhyrningsins_supervisor::Event;
use nix::unistd::Pid;

use crate::forms::core_pid;
use crate::master::Master;
use crate::master::control::{ClientId, Peer};
use crate::sys::notify::NotifyMessage;
use crate::sys::peer;

/// Notify messages taken up in one round, so that a flood of them does not keep the rest waiting.
const NOTIFICATIONS_PER_ROUND: usize = 256;

/// How much is kept of what a worker says with a ping, in characters. einhorn's own are 36 long.
const PING_WORD_MAX: usize = 256;

/// How many of those whose notifications are refused are remembered.
const STRANGERS_MAX: usize = 256;

/// Processes that notify and are no workers, so that the log is loud about each of them once: workers of a master that
/// has died find its successor at the same path, and may ping for as long as they live.
#[derive(Debug, Default)]
pub(in crate::master) struct Strangers {
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

impl Master {
    /// `worker:ack`: believed if the worker, or a process that descends from it, says so.
    pub(in crate::master) fn on_worker_ack(&mut self, client: ClientId, pid: i32) {
        let pid = Pid::from_raw(pid);
        if self.may_speak_for(client, pid, "worker:ack") {
            self.feed(Event::Acked { pid: core_pid(pid), source: AckSource::Control });
        }
    }

    /// `worker:ping`: as with the ack.
    pub(in crate::master) fn on_worker_ping(&mut self, client: ClientId, pid: i32, word: Option<String>) {
        let pid = Pid::from_raw(pid);
        if self.may_speak_for(client, pid, "worker:ping") {
            let word = word.map(|word| word.chars().take(PING_WORD_MAX).collect());
            self.feed(Event::Pinged { pid: core_pid(pid), word });
        }
    }

    fn may_speak_for(&mut self, client: ClientId, pid: Pid, what: &str) -> bool {
        let refusal = match self.clients.peer(client) {
            _ if !self.supervisor.is_worker(core_pid(pid)) => format!("{pid} is no worker"),
            Some(Peer::Worker(owner)) if owner == pid => return true,
            Some(Peer::Worker(owner)) => format!("it came from worker {owner}"),
            Some(Peer::Connected(Some(peer))) if peer::is_self_or_descendant(peer, pid) => return true,
            Some(Peer::Connected(Some(peer))) => {
                format!("it came from process {peer}, which is neither that worker nor descends from it")
            }
            Some(Peer::Connected(None)) | None => "its sender is not visible from here".to_owned(),
        };
        self.log.warn(format_args!("{what} for {pid} refused: {refusal}"));
        false
    }

    pub(in crate::master) fn read_notifications(&mut self) {
        for _ in 0..NOTIFICATIONS_PER_ROUND {
            match self.notify.receive() {
                Ok(Some(message)) => self.on_notification(message),
                Ok(None) => return,
                Err(error) => {
                    self.log.warn(format_args!("a message to the notify socket was dropped: {error}"));
                }
            }
        }
        self.backlog.notifications = true;
    }

    fn on_notification(&mut self, message: NotifyMessage) {
        let worker = peer::ancestor_among(message.pid, |pid| self.supervisor.is_worker(core_pid(pid)));
        let Some(pid) = worker.map(core_pid) else {
            let sender = message.pid;
            let refusal = format_args!(
                "a message to the notify socket refused: it came from process {sender}, which is neither a worker \
                 nor descends from one"
            );
            if self.strangers.is_new(sender) {
                self.log.warn(refusal);
            } else {
                self.log.debug(refusal);
            }
            return;
        };
        let NotifyMessage { ready, watchdog, stopping, status, .. } = message;
        if ready {
            self.feed(Event::Acked { pid, source: AckSource::Notify });
        }
        if watchdog {
            self.feed(Event::Pinged { pid, word: None });
        }
        if let Some(text) = status {
            self.feed(Event::StatusText { pid, text });
        }
        if stopping {
            self.feed(Event::StopAnnounced { pid });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_new_once_and_so_many_are_remembered() {
        let mut strangers = Strangers::default();
        let pids = || (1..=STRANGERS_MAX as i32).map(Pid::from_raw);
        assert!(pids().all(|pid| strangers.is_new(pid)));
        assert!(strangers.is_new(Pid::from_raw(i32::MAX)) && !strangers.is_new(Pid::from_raw(i32::MAX)));
        assert!(strangers.seen.len() <= STRANGERS_MAX);
    }
}
