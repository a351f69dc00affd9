//! Observers: clients that `--observe-group` lets in, and that may ask questions only.
//!
//! The kernel decides who may connect, by mode and group of the socket's file. Everybody who does is an observer, except the
//! user of the master and root, whichever of its groups has let it in: there is no list of members to keep. Observers have
//! a quota of their own and a part of each round of their own, so they keep nobody waiting. Which commands they may send
//! is in the table of commands ([`CommandInfo::is_for_observers`]).

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use einhorn_proto::{CommandClass, CommandInfo, RefusalKind, Reply};
use nix::errno::Errno;
use nix::unistd::Uid;

use super::answers::Asker;
use super::clients::{ClientId, Quota};
use super::dropped::Why;
use super::{Budget, Control, Serving};
use crate::logging::Log;
use crate::master::ready::Ready;
use crate::sys::peer;

/// Observers at a time, beside the other clients. einhorn-control(7) lists this limit in "LIMITS".
pub(super) const OBSERVERS_MAX: usize = 64;

/// How long one round takes up requests of all observers together.
const OBSERVERS_TIME: Duration = Duration::from_millis(2);

/// Whether the owner of the master made the connection `socket`, or root.
pub(super) fn is_owner(socket: &impl AsFd) -> bool {
    peer::user(socket).is_ok_and(|user| user.is_root() || user == Uid::effective())
}

/// The user that made the connection `socket`, unless that is the owner of the master or root.
pub(super) fn observer(socket: &impl AsFd) -> Option<u32> {
    // If the kernel does not say who it is, it is not the owner. No user has this number.
    (!is_owner(socket)).then(|| peer::user(socket).map_or(u32::MAX, Uid::as_raw))
}

impl Control {
    /// Whether there may be observers.
    pub(super) fn has_observers(&self) -> bool {
        self.settings.observe_group.is_some()
    }

    /// Whether one client more might take another one's place.
    pub(super) fn is_full(&self) -> bool {
        [Quota::Clients, Quota::Observers]
            .into_iter()
            .any(|quota| self.clients.connected(quota) >= quota.max())
    }

    /// The next client to serve in this round that is no observer; an observer is left for the end of the round.
    pub(super) fn next_ready(&self, budget: &Budget, ready: &mut Ready) -> Option<Serving> {
        while Instant::now() < budget.requests_until
            && let Some(id) = ready.clients.pop()
        {
            if self.clients.observer(id).is_none() {
                return Some(Serving::new(id));
            }
            ready.observers.push(id);
        }
        None
    }

    /// The next observer to serve in this round. None while others may be waiting to be accepted, the owner among them.
    pub(super) fn next_observer(
        &self,
        budget: &mut Budget,
        ready: &mut Ready,
        accepts: bool,
    ) -> Option<Serving> {
        if accepts || ready.observers.is_empty() {
            return None;
        }
        let until = *budget.observers_until.get_or_insert_with(|| Instant::now() + OBSERVERS_TIME);
        let id = if Instant::now() < until { ready.observers.pop() } else { None };
        id.map(Serving::new)
    }

    /// Until when `id` is served in this round.
    pub(super) fn until(&self, id: ClientId, budget: &Budget) -> Instant {
        let until = self.clients.observer(id).and(budget.observers_until);
        until.unwrap_or(budget.requests_until)
    }

    /// Makes room for an observer; `false` if only busy ones could give way, and its user has as many as others have.
    pub(super) fn make_room_for_observer(&mut self, id: ClientId) -> bool {
        while self.clients.connected(Quota::Observers) > OBSERVERS_MAX {
            let Some((business, surplus)) = self.clients.surplus_observer(id) else { return false };
            self.take_place(business, surplus);
        }
        true
    }

    /// Drops an observer if there was no descriptor for another client: the owner may be waiting.
    pub(super) fn give_way(&mut self, error: &io::Error) {
        let is_shortage =
            matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE));
        if is_shortage && let Some((_, idlest)) = self.clients.idlest(Quota::Observers, None, |_| false) {
            self.clients.note_dropped(idlest, Why::Shortage);
            self.clients.close(idlest);
        }
    }

    /// Answers a command that an observer may not send; `false` if the client is none, or may. Whether a worker's own
    /// message counts is not decided here.
    pub(super) fn is_denied(&mut self, asker: &Asker, info: &CommandInfo, log: &mut Log) -> bool {
        let Some(user) = self.clients.observer(asker.client) else { return false };
        if info.is_for_observers() || info.class == CommandClass::Worker {
            return false;
        }
        let what = info.name;
        let denial = format_args!(
            "{what} of an observer refused: user {user} may ask questions only (--observe-group)"
        );
        self.denials.log(None, denial, log);
        self.refuse(
            asker,
            format!(
                "{what} refused: only root and the user of the master may send it, and you are an observer"
            ),
        );
        true
    }

    /// Refuses what only the owner of the master and root may do.
    pub(super) fn refuse(&mut self, asker: &Asker, message: impl Into<String>) {
        let last = Reply::<()>::last(asker.id.clone(), false, message, None);
        let reply = Reply { refused: Some(RefusalKind::OwnerOnly), ..last };
        self.clients.send(asker.client, asker.language, &reply);
    }
}
