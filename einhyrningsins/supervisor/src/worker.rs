//! One worker and its states.
//!
//! ```text
//!            Spawned            Acked, or its time passed
//! Spawning ---------> Starting --------------------------> Up
//!    |                   |                                  |
//!    +-------------------+---------- asked to stop ---------+---> Draining ---> gone when reaped
//!                               or its slot taken away
//! ```
//! A death is possible in every state with a pid and always ends in "gone". What the *slot* then does is
//! decided in `lifecycle.rs`: a worker knows nothing of its seat but the number.

use super::Moment;
use alloc::string::String;
use alloc::vec::Vec;

use super::Pid;
use super::Signal;

use super::event::{Generation, SlotNumber, WorkerId};

/// A live worker, or one that is about to be.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: SlotNumber,
    pub(super) index: u32,
    pub(super) generation: Generation,
    pub(super) state: State,
    /// `None` until the shell says that the spawn worked.
    pub(super) pid: Option<Pid>,
    pub(super) spawned_at: Moment,
    pub(super) acked_at: Option<Moment>,
    pub(super) pinged_at: Option<Moment>,
    /// What it said with its last ping.
    pub(super) ping_word: Option<String>,
    /// What it last said of itself.
    pub(super) text: Option<String>,
    /// Until its ack: what it last wrote to standard error, where that is captured.
    pub(super) last_words: Vec<String>,
}

/// What a worker is doing, as far as the master knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The shell was asked to spawn it and has not answered.
    Spawning,
    /// It runs and has not acked.
    Starting,
    /// It runs and has acked.
    Up,
    /// It was asked to stop, or will be as soon as it has a pid, or when its slot's sockets get nothing new any more.
    Draining(Drain),
}

/// A stop in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    /// When it was asked, or its slot was taken away.
    pub(super) since: Moment,
    /// The last stop signal that it got, or gets next.
    pub(super) signal: Signal,
    /// All that it got, a bit for each number.
    pub(super) sent: u64,
}

impl Drain {
    pub(super) fn new(since: Moment, signal: Signal) -> Self {
        Self { since, signal, sent: bit(signal) }
    }

    /// One that begins with time to finish: `signal` comes later.
    pub(super) fn unasked(since: Moment, signal: Signal) -> Self {
        Self { since, signal, sent: 0 }
    }

    /// Whether it got a signal, or gets one as soon as it has a pid.
    pub(super) fn is_asked(self) -> bool {
        self.sent != 0
    }

    /// The stop after `signal` too; `None` if it has had that one, or SIGKILL.
    pub(super) fn escalate(self, signal: Signal) -> Option<Self> {
        let has_had = self.sent & (bit(signal) | bit(Signal::SIGKILL)) != 0;
        (!has_had).then_some(Self { signal, sent: self.sent | bit(signal), ..self })
    }

    /// All the stop signals that the worker got, by number.
    pub(super) fn signals(self) -> Vec<Signal> {
        Signal::ALL.iter().copied().filter(|signal| self.sent & bit(*signal) != 0).collect()
    }

    /// Whether the worker has had `signal`, or SIGKILL, after which there is nothing to add.
    pub(super) fn has_had(self, signal: Signal) -> bool {
        self.escalate(signal).is_none()
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as u32)
}

impl Worker {
    /// Whether it holds or will hold a seat: everything but draining.
    pub(super) fn is_undrained(&self) -> bool {
        !matches!(self.state, State::Draining(_))
    }

    /// Whether it is undrained and has not acked.
    pub(super) fn is_unacked(&self) -> bool {
        matches!(self.state, State::Spawning | State::Starting)
    }

    /// Whether it has acked and was not asked to stop.
    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }
}
