//! Readiness: what epoll reported, or what the previous round left over. Each part takes its own, and puts back
//! what it leaves for the next round.

use std::collections::VecDeque;

use mio::Token;
use mio::event::Event;

use super::captures::Capture;
use super::control::ClientId;

pub(super) const CONTROL: Token = Token(0);
pub(super) const SIGNALS: Token = Token(1);
pub(super) const NOTIFY: Token = Token(2);
pub(super) const LOG: Token = Token(3);
pub(super) const CHECK: Token = Token(4);
/// Tokens from here on are clients.
pub(super) const CLIENTS: usize = 16;
/// Tokens from here on are listeners of workers.
pub(super) const LISTENERS: usize = 1 << (usize::BITS - 2);
/// Tokens from here on are workers' standard errors.
pub(super) const CAPTURES: usize = 1 << (usize::BITS - 1);

#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) control: bool,
    pub(super) signals: bool,
    pub(super) children: bool,
    pub(super) notify: bool,
    pub(super) log: bool,
    pub(super) check: bool,
    pub(super) clients: VecDeque<ClientId>,
    /// Clients whose other end is closed: nothing can be sent to them any more.
    pub(super) closed: Vec<ClientId>,
    pub(super) captures: Vec<Capture>,
    /// Listeners that were shut down, by token.
    pub(super) listeners: Vec<usize>,
    /// Clients with which the next round continues.
    pub(super) clients_later: VecDeque<ClientId>,
}

impl Ready {
    /// Starts a round with what the previous one left.
    pub(super) fn begin_round(&mut self) {
        self.clients.append(&mut self.clients_later);
    }

    /// Adds an event of epoll.
    pub(super) fn add(&mut self, event: &Event) {
        match event.token() {
            CONTROL => self.control = true,
            SIGNALS => self.signals = true,
            NOTIFY => self.notify = true,
            LOG => self.log = true,
            CHECK => self.check = true,
            Token(token) if token >= CAPTURES => self.captures.push(Capture(token - CAPTURES)),
            Token(token) if token >= LISTENERS => self.listeners.push(token - LISTENERS),
            Token(token) => {
                let id = ClientId(token - CLIENTS);
                self.closed.extend(event.is_write_closed().then_some(id));
                self.clients.push_back(id);
            }
        }
    }

    /// Whether something is left for which no event will come.
    pub(super) fn is_any_left(&self) -> bool {
        self.signals
            || self.children
            || self.notify
            || !self.clients_later.is_empty()
            || !self.captures.is_empty()
    }
}
