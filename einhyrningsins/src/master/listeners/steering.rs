//! Steering: listeners follow the slots. New connections go to slots that serve, the listener of a removed slot
//! is closed, and a listener that a worker shut down, which ends it for all holders, is revived.
//!
//! Each round looks at the slots that have changed since the last, compares them with what the kernel was last configured
//! for, and sets only the difference. So no way in which a slot appears, disappears or loses its worker can be missed, and a
//! round of a large pool costs what has changed in it.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use einhyrningsins_supervisor::{SlotNumber, Supervisor};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::Listeners;
use super::bound::Bound;
use crate::listen::{BindError, Listener, SocketKind};
use crate::logging::Log;
use crate::master::ready::{LISTENERS, Ready};

/// The interval between two log lines about listeners that were shut down: a worker that does so in a loop must
/// not fill the log.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A listener: the number of its `-b`, and its slot, if it has one.
type Whose = (usize, Option<SlotNumber>);

#[derive(Debug)]
pub(super) struct Steering {
    /// Listeners whose shutdown epoll reports, by token.
    watched: HashMap<usize, Whose>,
    tokens: HashMap<Whose, usize>,
    next_token: usize,
    /// The last known order of each group, by the number of its `-b`. The names in the store depend on it.
    orders: HashMap<usize, Vec<SlotNumber>>,
    /// Something has happened since the last look at the slots.
    is_stale: bool,
    /// The revision of the slots at that look.
    followed: Option<u64>,
    is_any_new: bool,
    tell_not_before: Option<Instant>,
}

impl Default for Steering {
    /// Nothing is watched yet, and the pool may be running already.
    fn default() -> Self {
        Self {
            watched: HashMap::new(),
            tokens: HashMap::new(),
            next_token: 0,
            orders: HashMap::new(),
            is_stale: true,
            followed: None,
            is_any_new: true,
            tell_not_before: None,
        }
    }
}

impl Steering {
    /// Registers a listener so that epoll reports its shutdown, at no cost until then: for room to write, which
    /// listeners never have. Not for priority data: a new connection would wake the master for that too
    /// (`sock_def_readable` of the kernel).
    fn watch(&mut self, registry: &Registry, whose: Whose, listener: &Listener) -> std::io::Result<()> {
        if listener.kind() != SocketKind::Tcp || self.tokens.contains_key(&whose) {
            return Ok(());
        }
        let token = self.next_token;
        let fd = listener.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), Token(LISTENERS + token), Interest::WRITABLE)?;
        self.next_token += 1;
        self.tokens.insert(whose, token);
        self.watched.insert(token, whose);
        Ok(())
    }

    pub(super) fn forget(&mut self, registry: &Registry, whose: Whose, listener: &Listener) {
        if let Some(token) = self.tokens.remove(&whose) {
            self.watched.remove(&token);
            let fd = listener.as_fd().as_raw_fd();
            let _ = registry.deregister(&mut SourceFd(&fd));
        }
    }

    fn may_tell(&mut self) -> bool {
        let now = Instant::now();
        let may = self.tell_not_before.is_none_or(|at| at <= now);
        if may {
            self.tell_not_before = Some(now + TELL_EVERY);
        }
        may
    }
}

impl Listeners {
    pub(in crate::master) fn on_event(&mut self) {
        self.steering.is_stale = true;
    }

    /// Brings the listeners in line with the slots. Returns whether they, or their names in the store, have changed.
    pub(in crate::master) fn follow(
        &mut self,
        ready: &mut Ready,
        core: &Supervisor,
        registry: &Registry,
        log: &mut Log,
    ) -> bool {
        let mut has_changed = self.revive(ready, log);
        if !std::mem::take(&mut self.steering.is_stale) {
            return has_changed;
        }
        if self.bound.iter().any(|bound| matches!(bound, Bound::PerSlot(_))) {
            has_changed |= self.steer(core, registry, log);
        }
        if std::mem::take(&mut self.steering.is_any_new) {
            self.watch(registry, log);
        }
        has_changed
    }

    fn steer(&mut self, core: &Supervisor, registry: &Registry, log: &mut Log) -> bool {
        let open_slots = core.slots();
        let followed = self.steering.followed.replace(open_slots.revision());
        let mut has_changed = false;
        for (number, bound) in self.bound.iter_mut().enumerate() {
            let Bound::PerSlot(group) = bound else { continue };
            let changed = followed.and_then(|revision| open_slots.changed_since(revision));
            if changed.is_some_and(|changed| group.is_steered(open_slots, changed)) {
                continue;
            }
            for slot in group.gone(open_slots) {
                if let Some(listener) = group.of(slot) {
                    self.steering.forget(registry, (number, Some(slot)), listener);
                }
                group.close(slot);
                // The last listener of a group stays.
                self.steering.is_any_new = true;
            }
            if let Err(error) = group.steer(open_slots) {
                let address = group.address();
                log.warn(format_args!(
                    "{address}: cannot change which slots get new connections; the distribution stays as it was: {error}"
                ));
            }
            // A new worker's listener is in it already, and others may have gone.
            let order = group.order();
            if self.steering.orders.get(&number) != Some(&order) {
                self.steering.orders.insert(number, order);
                self.steering.is_any_new = true;
                has_changed = true;
            }
        }
        has_changed
    }

    /// Watches the listeners that are new.
    fn watch(&mut self, registry: &Registry, log: &mut Log) {
        for (number, bound) in self.bound.iter().enumerate() {
            for (slot, listener) in bound.each() {
                if let Err(error) = self.steering.watch(registry, (number, slot), listener) {
                    self.steering.is_any_new = true;
                    let address = &listener.address;
                    log.debug(format_args!("{address}: its shutdown would not be noticed: {error}"));
                }
            }
        }
    }

    fn revive(&mut self, ready: &mut Ready, log: &mut Log) -> bool {
        let mut spoken: BTreeMap<usize, Vec<SlotNumber>> = BTreeMap::new();
        for token in ready.listeners.drain(..) {
            if let Some((number, slot)) = self.steering.watched.get(&token) {
                spoken.entry(*number).or_default().extend(slot);
            }
        }
        let mut has_changed = false;
        for (number, slots) in spoken {
            match &mut self.bound[number] {
                Bound::Shared(listener) => {
                    let revived = listener.revive();
                    self.on_revived((number, None), revived, log);
                }
                Bound::PerSlot(group) => {
                    let could_choose = group.can_choose();
                    let revived = group.revive(&slots);
                    let (can_choose, address) = (group.can_choose(), group.address().clone());
                    for (slot, revived) in revived {
                        self.on_revived((number, Some(slot)), revived, log);
                    }
                    if could_choose && !can_choose {
                        log.warn(format_args!(
                            "{address}: workers have shut down several sockets at the same time; from now on, slots \
                             without a worker and slots that are being removed get new connections too"
                        ));
                    }
                    self.steering.is_stale = true;
                    has_changed = true;
                }
            }
        }
        has_changed
    }

    fn on_revived(&mut self, whose: Whose, revived: Result<bool, BindError>, log: &mut Log) {
        let (number, slot) = whose;
        let address = &self.bound[number].any().address;
        let of_slot = slot.map_or(String::new(), |slot| format!(" of slot {}", slot.0));
        match revived {
            Ok(true) if self.steering.may_tell() => log.warn(format_args!(
                "{address}: a worker has shut down the socket{of_slot}, which ends it for all holders; it listens again, \
                 and the connections in its queue are lost"
            )),
            Ok(_) => {}
            Err(error) => {
                let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
                log.error(format_args!(
                    "{address}: a worker has shut down the socket{of_slot}, and it cannot listen again: {error}{cause}"
                ));
                let is_closed = slot.is_some_and(|slot| self.bound[number].of(slot).is_none());
                if is_closed && let Some(token) = self.steering.tokens.remove(&whose) {
                    self.steering.watched.remove(&token);
                }
            }
        }
    }
}
