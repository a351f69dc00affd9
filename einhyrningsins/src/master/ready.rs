//! Readiness: what epoll reported, or what the previous round left over. Each part takes its own, a bounded amount in
//! each round, and leaves the rest for the next.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use mio::Token;
use mio::event::Event;
use nix::unistd::Pid;

use super::captures::Capture;
use super::control::ClientId;

pub(super) const CONTROL: Token = Token(0);
pub(super) const SIGNALS: Token = Token(1);
pub(super) const NOTIFY: Token = Token(2);
pub(super) const LOG: Token = Token(3);
pub(super) const CHECK: Token = Token(4);
pub(super) const PLACES: Token = Token(5);
pub(super) const JOBS: Token = Token(6);
/// Tokens from here on are clients.
pub(super) const CLIENTS: usize = 16;
/// Tokens from here on are listeners of workers.
pub(super) const LISTENERS: usize = 1 << (usize::BITS - 2);
/// Tokens from here on are workers' standard errors.
pub(super) const CAPTURES: usize = 1 << (usize::BITS - 1);

/// The client of an event, if it takes more than before.
pub(super) fn writable_client(event: &Event) -> Option<ClientId> {
    let Token(token) = event.token();
    ((CLIENTS..LISTENERS).contains(&token) && event.is_writable()).then(|| ClientId(token - CLIENTS))
}

#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) control: bool,
    pub(super) signals: bool,
    /// Whether any child may have changed.
    pub(super) children: bool,
    /// Children that a SIGCHLD named.
    pub(super) named_children: Vec<Pid>,
    pub(super) notify: bool,
    pub(super) log: bool,
    pub(super) check: bool,
    pub(super) places: bool,
    /// Whether any job may have written something.
    pub(super) jobs: bool,
    pub(super) clients: Turns<ClientId>,
    /// Those of them that are observers, who come after the others.
    pub(super) observers: Turns<ClientId>,
    /// Clients whose other end is closed: nothing can be sent to them any more.
    pub(super) closed: Vec<ClientId>,
    pub(super) captures: Turns<Capture>,
    /// Listeners that were shut down, by token.
    pub(super) listeners: Vec<usize>,
    /// Clients with which the next round continues.
    pub(super) clients_later: Turns<ClientId>,
    /// Clients, and whether the notify socket, whose next message brings descriptors for which the closer has no room.
    pub(super) blocked: Turns<ClientId>,
    pub(super) is_notify_blocked: bool,
}

/// When to try again what is blocked.
const BLOCKED_FOR: Duration = Duration::from_millis(50);

/// A queue of what is to be read. One that is in it already is not added again, however many events come for it.
#[derive(Debug)]
pub(super) struct Turns<T> {
    order: VecDeque<T>,
    waiting: HashSet<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: HashSet::new() }
    }
}

impl<T: Copy + Eq + Hash> Turns<T> {
    pub(super) fn push(&mut self, one: T) {
        if self.waiting.insert(one) {
            self.order.push_back(one);
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let one = self.order.pop_front()?;
        self.waiting.remove(&one);
        Some(one)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

impl<T: Copy + Eq + Hash> Extend<T> for Turns<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, others: I) {
        others.into_iter().for_each(|one| self.push(one));
    }
}

impl Ready {
    /// Starts a round with what the previous one left.
    pub(super) fn begin_round(&mut self) {
        self.clients.extend(std::mem::take(&mut self.clients_later).order);
        self.clients.extend(std::mem::take(&mut self.blocked).order);
        self.notify |= std::mem::take(&mut self.is_notify_blocked);
    }

    /// Adds an event of epoll.
    pub(super) fn add(&mut self, event: &Event) {
        match event.token() {
            CONTROL => self.control = true,
            SIGNALS => self.signals = true,
            NOTIFY => self.notify = true,
            LOG => self.log = true,
            CHECK => self.check = true,
            PLACES => self.places = true,
            JOBS => self.jobs = true,
            Token(token) if token >= CAPTURES => self.captures.push(Capture(token - CAPTURES)),
            Token(token) if token >= LISTENERS => self.listeners.push(token - LISTENERS),
            Token(token) => {
                let id = ClientId(token - CLIENTS);
                self.closed.extend(event.is_write_closed().then_some(id));
                self.clients.push(id);
            }
        }
    }

    /// When to go on with what is blocked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.is_notify_blocked || !self.blocked.is_empty()).then(|| Instant::now() + BLOCKED_FOR)
    }

    /// Whether something is left for which no event will come.
    pub(super) fn is_any_left(&self) -> bool {
        self.control
            || self.signals
            || self.children
            || self.notify
            || self.check
            || self.places
            || self.jobs
            || !self.clients.is_empty()
            || !self.observers.is_empty()
            || !self.clients_later.is_empty()
            || !self.captures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_gets_one_turn_however_many_events_come() {
        let mut turns = Turns::default();
        turns.extend([1, 2, 1, 1, 3, 2]);
        assert_eq!(turns.len(), 3);
        assert_eq!([turns.pop(), turns.pop()], [Some(1), Some(2)]);
        turns.push(1);
        assert_eq!([turns.pop(), turns.pop(), turns.pop()], [Some(3), Some(1), None]);
    }
}
