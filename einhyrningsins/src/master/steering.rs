//! Listeners while the pool runs: which slots' get what is new, where each slot has its own; and those that a worker has
//! shut down, which it can for all who hold them.
//!
//! What should be follows from the slots as they are, and is compared with what was last told to the kernel: so no way in
//! which a slot comes, goes, or loses its worker can be forgotten.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use einhyrningsins_supervisor::SlotNumber;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::{LISTENERS, Master};
use crate::listen::{BindError, Listener, Listeners, SocketKind};

/// Between two lines about listeners that were shut down. Whoever does it in a loop shall not fill the log.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Which listener it is: the number of its `-b`, and its slot, if it has one.
type Whose = (usize, Option<SlotNumber>);

/// What is known of the listeners of a running pool.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// Those whose end would be noticed, by the token that says so.
    watched: HashMap<usize, Whose>,
    tokens: HashMap<Whose, usize>,
    next_token: usize,
    /// Tokens that have spoken in this round.
    spoken: Vec<usize>,
    /// The order of each group, by the number of its `-b`, as the service manager was last told of it.
    orders: HashMap<usize, Vec<SlotNumber>>,
    /// Something has happened since the slots were last looked at.
    is_stale: bool,
    /// There is a listener that is not watched.
    is_any_new: bool,
    tell_not_before: Option<Instant>,
}

impl Steering {
    /// Nothing is watched yet, and the slots are to be looked at, which may run already.
    pub(super) fn new() -> Self {
        Self { is_stale: true, is_any_new: true, ..Self::default() }
    }

    /// Something has happened in the pool.
    pub(super) fn on_event(&mut self) {
        self.is_stale = true;
    }

    /// A listener has something to say, which can only be that it was shut down.
    pub(super) fn on_token(&mut self, token: usize) {
        self.spoken.push(token);
    }

    /// Has the end of a listener noticed, at the cost of nothing until then: it is registered for room to write, which
    /// listeners never have, and for hang-ups, as all are. Not for priority data, which they never have either: a new
    /// connection wakes whoever waits for that too (`sock_def_readable` of the kernel), only to find that there is none.
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

    fn forget(&mut self, registry: &Registry, whose: Whose, listener: &Listener) {
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

impl Master {
    /// Brings the listeners in line with the slots, after whatever has happened.
    pub(super) fn steer(&mut self) {
        self.revive_listeners();
        if !std::mem::take(&mut self.steering.is_stale) {
            return;
        }
        if self.workers.listeners().iter().any(|listeners| matches!(listeners, Listeners::PerSlot(_))) {
            self.steer_slots();
        }
        if std::mem::take(&mut self.steering.is_any_new) {
            self.watch_listeners();
        }
    }

    fn steer_slots(&mut self) {
        let seats = self.supervisor.seats();
        for (number, listeners) in self.workers.listeners_mut().iter_mut().enumerate() {
            let Listeners::PerSlot(group) = listeners else { continue };
            for slot in group.gone(&seats) {
                if let Some(listener) = group.of(slot) {
                    self.steering.forget(self.poll.registry(), (number, Some(slot)), listener);
                }
                group.close(slot);
                // The last of all stays.
                self.steering.is_any_new = true;
            }
            if let Err(error) = group.steer(&seats) {
                let address = group.address();
                self.log.warn(format_args!(
                    "{address}: cannot choose anew which slots get new connections; they go on as before: {error}"
                ));
            }
            // One that was opened for a new worker is in it already, and others may have gone.
            let order = group.order();
            if self.steering.orders.get(&number) != Some(&order) {
                self.steering.orders.insert(number, order);
                self.steering.is_any_new = true;
                self.service.on_listeners_changed();
            }
        }
    }

    /// Sees that the end of each listener would be noticed.
    fn watch_listeners(&mut self) {
        for (number, listeners) in self.workers.listeners().iter().enumerate() {
            for (slot, listener) in listeners.each() {
                if let Err(error) = self.steering.watch(self.poll.registry(), (number, slot), listener) {
                    self.steering.is_any_new = true;
                    let address = &listener.address;
                    self.log.debug(format_args!("{address}: its shutdown would not be noticed: {error}"));
                }
            }
        }
    }

    fn revive_listeners(&mut self) {
        let mut spoken: BTreeMap<usize, Vec<SlotNumber>> = BTreeMap::new();
        for token in std::mem::take(&mut self.steering.spoken) {
            if let Some((number, slot)) = self.steering.watched.get(&token) {
                spoken.entry(*number).or_default().extend(slot);
            }
        }
        for (number, slots) in spoken {
            match &mut self.workers.listeners_mut()[number] {
                Listeners::Shared(listener) => {
                    let revived = listener.revive();
                    self.on_revived((number, None), revived);
                }
                Listeners::PerSlot(group) => {
                    let could_choose = group.can_choose();
                    let revived = group.revive(&slots);
                    let (can_choose, address) = (group.can_choose(), group.address().clone());
                    for (slot, revived) in revived {
                        self.on_revived((number, Some(slot)), revived);
                    }
                    if could_choose && !can_choose {
                        self.log.warn(format_args!(
                            "{address}: workers have shut down several sockets at the same time; from now on slots \
                             without a worker, and slots that are taken away, get their share of new connections too"
                        ));
                    }
                    self.steering.is_stale = true;
                    self.service.on_listeners_changed();
                }
            }
        }
    }

    fn on_revived(&mut self, whose: Whose, revived: Result<bool, BindError>) {
        let (number, slot) = whose;
        let address = &self.workers.listeners()[number].any().address;
        let of_slot = slot.map_or(String::new(), |slot| format!(" of slot {}", slot.0));
        match revived {
            Ok(true) if self.steering.may_tell() => self.log.warn(format_args!(
                "{address}: a worker has shut down the socket{of_slot}, which ends it for all who have it; it listens \
                 again, and what waited in its queue is lost"
            )),
            Ok(_) => {}
            Err(error) => {
                let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
                self.log.error(format_args!(
                    "{address}: a worker has shut down the socket{of_slot}, and it cannot listen again: {error}{cause}"
                ));
                let is_closed = slot.is_some_and(|slot| self.workers.listeners()[number].of(slot).is_none());
                if is_closed && let Some(token) = self.steering.tokens.remove(&whose) {
                    self.steering.watched.remove(&token);
                }
            }
        }
    }
}
