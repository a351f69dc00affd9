//! systemd's protocol, `sd_notify(3)`: the variables that ask for it, and the queue of messages to the manager.
//!
//! Messages that the manager does not take now are sent later, in order.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::store::REMOVE;
use crate::forms;
use crate::logging::Log;
use crate::sys::manager::{ManagerError, ManagerSocket};

/// The time between two tries to send to a manager whose queue is full.
pub(super) const RETRY_EVERY: Duration = Duration::from_millis(200);

/// The limit of the queue, messages about descriptors not counted. A manager that is further behind has read nothing
/// for dozens of upgrades; the oldest messages are dropped.
pub(super) const QUEUE_MAX: usize = 64;

/// Settings from the variables that the manager set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// The manager's socket (`NOTIFY_SOCKET`).
    #[serde(with = "forms::written")]
    pub notify: Option<OsString>,
    /// The longest time between two `WATCHDOG=1` (`WATCHDOG_USEC`).
    pub watchdog: Option<Duration>,
    /// How many descriptors it stores (`FDSTORE`).
    pub kept_fds_max: u32,
}

impl ServiceSettings {
    /// Reads them from the variables of the process `pid`, which `variable` looks up.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // A process that only inherited the variables must not speak for the watched one.
        let is_watched = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && is_watched);
        Self {
            notify: variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
            kept_fds_max: number("FDSTORE").map_or(0, |max| u32::try_from(max).unwrap_or(u32::MAX)),
        }
    }
}

/// A message that has not been sent yet.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) fd: Option<OwnedFd>,
}

/// The messages to the manager, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// `None` if no manager asks for messages.
    socket: Option<ManagerSocket>,
    /// Why the manager's address cannot be used.
    refused: Option<ManagerError>,
    pub(super) queue: VecDeque<Message>,
    pub(super) retry_at: Option<Instant>,
    /// Whether the last message was not delivered, which was logged.
    pub(super) is_lost: bool,
}

impl Outbox {
    /// Opens a socket to the manager. An unusable address is only a warning.
    pub(super) fn new(settings: &ServiceSettings, unsent: Vec<String>) -> Self {
        let queue = unsent.into_iter().map(|text| Message { text, fd: None }).collect();
        match settings.notify.as_deref().map(ManagerSocket::new).transpose() {
            Ok(socket) => Self { socket, queue, ..Self::default() },
            Err(error) => Self { refused: Some(error), ..Self::default() },
        }
    }

    /// Logs that the address cannot be used.
    pub(super) fn report(&mut self, settings: &ServiceSettings, log: &mut Log) {
        if let (Some(error), Some(address)) = (self.refused.take(), &settings.notify) {
            let address = address.to_string_lossy();
            log.warn(format_args!("cannot send to the service manager: NOTIFY_SOCKET={address}: {error}"));
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.socket.is_some()
    }

    /// Queues one message.
    pub(super) fn push(&mut self, text: String, fd: Option<OwnedFd>) {
        if self.socket.is_none() {
            return;
        }
        // Only the last of these counts.
        let is_of_now = |text: &str| text.starts_with("STATUS=") || text.starts_with("WATCHDOG=");
        if is_of_now(&text) {
            let same = text.split('=').next().unwrap_or_default();
            self.queue.retain(|waiting| !(is_of_now(&waiting.text) && waiting.text.starts_with(same)));
        }
        self.queue.push_back(Message { text, fd });
        let is_text = |message: &Message| message.fd.is_none() && !message.text.starts_with(REMOVE);
        if self.queue.iter().filter(|message| is_text(message)).count() > QUEUE_MAX {
            let oldest = self.queue.iter().position(is_text);
            oldest.map(|at| self.queue.remove(at));
        }
    }

    /// Sends what the manager takes.
    pub(super) fn flush(&mut self, now: Instant, log: &mut Log) {
        self.retry_at = None;
        let Some(socket) = &self.socket else { return };
        while let Some(message) = self.queue.front() {
            let fds: Vec<_> = message.fd.iter().map(AsFd::as_fd).collect();
            match socket.send(&message.text, &fds) {
                Ok(()) => self.is_lost = false,
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS) => {
                    self.retry_at = Some(now + RETRY_EVERY);
                    return;
                }
                Err(errno) => {
                    if !std::mem::replace(&mut self.is_lost, true) {
                        let why = io::Error::from(errno);
                        log.warn(format_args!("cannot send to the service manager: {why}"));
                    }
                }
            }
            self.queue.pop_front();
        }
    }
}
