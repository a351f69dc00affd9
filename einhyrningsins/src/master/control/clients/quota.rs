//! How many clients there may be, and which of them gives way to a new one.

use std::collections::BTreeMap;
use std::fmt;

use super::super::observers::OBSERVERS_MAX;
use super::{Client, ClientId, Clients, Peer};

/// Clients at a time, not counting workers' own connections, nor observers. einhorn-control(7) lists this limit, and those up to
/// [`super::OUTPUT_BYTES_FULL`], in "LIMITS".
pub(in crate::master::control) const CLIENTS_MAX: usize = 256;

/// The limit that a client counts against. Those of one quota never give way to those of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::master::control) enum Quota {
    /// [`CLIENTS_MAX`], for clients that may send every command.
    Clients,
    /// [`OBSERVERS_MAX`].
    Observers,
}

/// How busy a client is. Of two, the idler one gives way to a new client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::master::control) enum Business {
    /// It waits for no last reply, and its worker is gone, or it is on its way out and does not read.
    Left,
    /// Nothing is on its way to it.
    Idle,
    /// It follows events, or has not read its replies.
    Follows,
    /// It waits for a last reply.
    Waits,
    /// What it wants is not known yet.
    Unread,
}

impl Quota {
    /// The most clients at a time.
    pub(in crate::master::control) fn max(self) -> usize {
        match self {
            Self::Clients => CLIENTS_MAX,
            Self::Observers => OBSERVERS_MAX,
        }
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients => write!(f, "{CLIENTS_MAX} clients"),
            Self::Observers => write!(f, "{OBSERVERS_MAX} observers"),
        }
    }
}

impl Clients {
    /// The number of clients that count against a quota.
    pub(in crate::master::control) fn connected(&self, quota: Quota) -> usize {
        self.clients.values().filter(|client| client.counts(quota)).count()
    }

    /// Of the clients that count against a quota, the one that is least busy, and of those the one that was silent for longest.
    pub(in crate::master::control) fn idlest(
        &self,
        quota: Quota,
        except: Option<ClientId>,
        awaits_replies: impl Fn(ClientId) -> bool,
    ) -> Option<(Business, ClientId)> {
        self.idlest_of(|client| Some(client.id) != except && client.counts(quota), awaits_replies)
    }

    fn idlest_of(
        &self,
        is_among: impl Fn(&Client) -> bool,
        awaits_replies: impl Fn(ClientId) -> bool,
    ) -> Option<(Business, ClientId)> {
        let ranked = self.clients.values().filter(|client| is_among(client)).map(|client| {
            let business = if !client.was_read {
                Business::Unread
            } else if awaits_replies(client.id) {
                Business::Waits
            } else if client.has_outlived || client.is_leaving {
                Business::Left
            } else if client.follows.is_some() || !client.output.is_empty() {
                Business::Follows
            } else {
                Business::Idle
            };
            (business, client.heard, client.id)
        });
        ranked.min().map(|(business, _, id)| (business, id))
    }

    /// The quota that `id` counts against, unless it is a worker's or on its way out.
    pub(in crate::master::control) fn quota(&self, id: ClientId) -> Quota {
        self.clients.get(&id).map_or(Quota::Clients, Client::quota)
    }

    /// The observer that gives way to `new`, which is one, too. Observers share their quota evenly: the user who has most of
    /// them gives up the idlest, though it may be busy. Of equals, an idle one gives way.
    pub(in crate::master::control) fn surplus_observer(&self, new: ClientId) -> Option<(Business, ClientId)> {
        let mut counts = BTreeMap::new();
        for client in self.clients.values().filter(|client| client.counts(Quota::Observers)) {
            *counts.entry(client.observer).or_insert(0) += 1;
        }
        let own = counts.get(&self.clients.get(&new)?.observer).copied().unwrap_or(0);
        let most = counts.into_iter().filter(|(_, count)| *count > own).max_by_key(|(_, count)| *count);
        let is_other = |client: &Client| client.id != new && client.counts(Quota::Observers);
        // Nobody keeps an observer waiting for a last reply.
        match most {
            Some((user, _)) => {
                self.idlest_of(|client| is_other(client) && client.observer == user, |_| false)
            }
            None => self.idlest_of(is_other, |_| false).filter(|(business, _)| *business <= Business::Idle),
        }
    }
}

impl Client {
    fn quota(&self) -> Quota {
        if self.observer.is_some() { Quota::Observers } else { Quota::Clients }
    }

    /// Whether it counts against `quota`. A worker's own connection counts against none, nor does one that is on its way out.
    pub(super) fn counts(&self, quota: Quota) -> bool {
        let is_there = self.is_staying() || (!self.is_broken && !self.output.is_empty());
        let is_somebodys = matches!(self.peer, Peer::Connected(_)) && self.of_worker.is_none();
        self.quota() == quota && is_somebodys && is_there
    }
}
