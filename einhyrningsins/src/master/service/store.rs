//! The descriptor store of the service manager, which keeps listeners in case the master crashes.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use super::protocol::{Message, Outbox};

/// How messages that store and remove a descriptor begin; its name follows.
const STORE: &str = "FDSTORE=1\nFDNAME=";
pub(super) const REMOVE: &str = "FDSTOREREMOVE=1\nFDNAME=";

#[derive(Debug)]
pub(super) struct Store {
    max: usize,
    /// Names.
    pub(super) stored: BTreeSet<String>,
    /// Whether the listeners have changed since they were last stored.
    pub(super) is_stale: bool,
}

impl Store {
    pub(super) fn new(max: u32, stored: BTreeSet<String>, is_stale: bool) -> Self {
        Self { max: max as usize, stored, is_stale }
    }

    /// Whether [`Self::follow`] has something to do.
    pub(super) fn is_behind(&self) -> bool {
        self.max > 0 && self.is_stale
    }

    /// Stores `listeners`, and removes everything else of ours. The manager identifies a descriptor by the socket,
    /// not by its name, so a name that has changed is removed first. The listeners of one `-b` are stored together or
    /// not at all. If no descriptor is left for a copy, the next round tries again.
    pub(super) fn follow<'a>(
        &mut self,
        listeners: impl Iterator<Item = Vec<(String, BorrowedFd<'a>)>>,
        outbox: &mut Outbox,
    ) {
        let mut room = self.max;
        let mut kept = Vec::new();
        for group in listeners {
            if group.len() <= room {
                room -= group.len();
                kept.extend(group);
            }
        }
        let names: BTreeSet<_> = kept.iter().map(|(name, _)| name.clone()).collect();
        let before = std::mem::replace(&mut self.stored, names.clone());
        self.is_stale = false;
        remove(before.difference(&names), outbox);
        for (name, fd) in kept.into_iter().filter(|(name, _)| !before.contains(name)) {
            let Ok(copy) = fd.try_clone_to_owned() else {
                self.stored.remove(&name);
                self.is_stale = true;
                continue;
            };
            // FDPOLL=0, or the manager would drop a listener that a worker has shut down, and that the master can
            // revive.
            outbox.push(format!("{STORE}{name}\nFDPOLL=0"), Some(copy));
        }
    }

    /// Removes what is stored under this name, which [`Self::follow`] stores anew.
    pub(super) fn forget(&mut self, name: &str, outbox: &mut Outbox) {
        remove(self.stored.take(name).as_ref(), outbox);
        self.is_stale = true;
    }

    /// The names of what was sent, and whether that is everything. What is still queued is stored anew.
    pub(super) fn record(&self, outbox: &Outbox) -> (BTreeSet<String>, bool) {
        let queued: Vec<_> = outbox.queue.iter().filter_map(stored_name).collect();
        let stored = self.stored.iter().filter(|name| !queued.contains(&name.as_str())).cloned().collect();
        (stored, !self.is_stale && queued.is_empty())
    }
}

/// Removes these names from the store.
pub(super) fn remove<'a>(names: impl IntoIterator<Item = &'a String>, outbox: &mut Outbox) {
    for name in names {
        outbox.push(format!("{REMOVE}{name}"), None);
    }
}

/// The name that a message with a descriptor stores it under.
fn stored_name(message: &Message) -> Option<&str> {
    message.fd.as_ref().and(message.text.strip_prefix(STORE)?.lines().next())
}
