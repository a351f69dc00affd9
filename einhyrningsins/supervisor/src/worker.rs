//! One worker and its states.
//!
//! ```text
//!            Spawned            Acked, or its time passed
//! Spawning ---------> Starting --------------------------> Up
//!    |                   |                                  |
//!    +-------------------+---------- asked to stop ---------+---> Draining ---> gone when reaped
//!                             or its slot was closed
//! ```
//! A death is possible in every state that has a pid, and always ends in "gone". A spawn that failed ends there
//! too. Each state has the deadline that belongs to it, so leaving a state leaves its deadline behind. What the
//! *slot* does next is decided in `rules/loss.rs`: a worker knows nothing of its slot but the number.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use einhorn_proto::{Death, DrainEnding, DrainReason, Termination};
use serde::{Deserialize, Serialize};

use super::event::{Generation, SlotNumber, WorkerId};
use super::moment::{Moment, milliseconds};
use super::rules::Step;
use super::signal::{Pid, Signal};
use super::tables::is_default;

/// A live worker, or one that is about to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    /// The slot that it has or had; `None` for a trial worker.
    pub(crate) slot: Option<SlotNumber>,
    pub(crate) index: u32,
    pub(crate) generation: Generation,
    pub(crate) state: State,
    /// `None` until the shell says that the spawn worked.
    pub(crate) pid: Option<Pid>,
    /// When that started, as the kernel says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) start_ticks: Option<u64>,
    /// When the spawn was asked for, and from its answer on when that came.
    pub(crate) spawned_at: Moment,
    pub(crate) acked_at: Option<Moment>,
    /// Whether it has sent `worker:ack`, at any time. A master that did not note it took every worker for one that had.
    #[serde(default = "assumed")]
    pub(crate) speaks_einhorn: bool,
    /// Whether it was stopped, as by SIGSTOP, and not continued.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) is_suspended: bool,
    /// Whether the master may not signal it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) is_unsignallable: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) pinged_at: Option<Moment>,
    /// When it counts as silent. Only a worker that has pinged, and that is not draining, is expected to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) ping_due: Option<Moment>,
    /// The word that it sent with its last ping.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) ping_word: Option<String>,
    /// The status line that it last sent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) text: Option<String>,
    /// Until its ack: what it last wrote to standard error, where that is captured.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) last_words: Vec<String>,
}

/// A worker that has a pid, as signals and notices name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) id: WorkerId,
    pub(crate) slot: Option<SlotNumber>,
    pub(crate) pid: Pid,
    pub(crate) generation: Generation,
}

/// What a worker is doing, as far as the master knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// The shell was asked to spawn it and has not answered.
    Spawning,
    /// It runs and has not acked.
    Starting(Boot),
    /// It runs and has acked.
    Up {
        /// When it is old enough to be replaced.
        #[serde(default, skip_serializing_if = "is_default")]
        old_at: Option<Moment>,
    },
    /// It was asked to stop, or will be as soon as it has a pid, or when its slot's sockets get nothing new any more.
    Draining(Drain),
}

/// How long a worker may take to ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Boot {
    /// As long as it likes.
    Unlimited,
    /// At this time it counts as acked.
    AckedAt(Moment),
    /// It must ack before this time.
    AckBy(Moment),
}

/// A stop in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// When it was asked, or its slot was closed.
    pub(crate) since: Moment,
    /// The signal that asks it first; `None` for that of its own convention.
    pub(crate) signal: Option<Signal>,
    #[serde(default)]
    pub(crate) why: DrainReason,
    /// The stop signals that it got.
    pub(crate) sent: Stops,
    /// The last of them but SIGKILL, and what it tells if the worker dies of that.
    #[serde(default)]
    pub(crate) last: Option<(Signal, DrainEnding)>,
    /// When this takes so long that it is worth a warning.
    #[serde(default)]
    pub(crate) warn_at: Option<Moment>,
    /// Whether it has taken so long.
    #[serde(default)]
    pub(crate) is_long: bool,
    pub(crate) next: Next,
}

/// A set of stop signals, a bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Stops(u64);

/// What a draining worker gets next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Next {
    /// Nothing: it may take as long as it likes, or has no pid yet.
    Nothing,
    /// Its first stop signal, at this time.
    Ask(Moment),
    /// SIGKILL, at this time.
    Kill(Moment),
    /// Nothing: SIGKILL was sent.
    End,
}

impl Worker {
    /// Whether it was not asked to stop. It has a slot then, as its worker or as a successor, unless it is a trial worker.
    pub(crate) fn is_undrained(&self) -> bool {
        !matches!(self.state, State::Draining(_))
    }

    /// Whether it is for a slot, undrained, and has not acked.
    pub(crate) fn is_unacked(&self) -> bool {
        matches!(self.state, State::Spawning | State::Starting(_)) && !self.is_trial()
    }

    /// Whether it serves: it is for a slot, has acked and was not asked to stop.
    pub(crate) fn is_up(&self) -> bool {
        self.has_acked() && !self.is_trial()
    }

    /// Whether it has acked and was not asked to stop.
    pub(crate) fn has_acked(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether it tries a release for a check, without a slot, and serves nobody.
    pub(crate) fn is_trial(&self) -> bool {
        self.slot.is_none()
    }

    /// The stop in progress, if there is one.
    pub(crate) fn drain(&self) -> Option<Drain> {
        match self.state {
            State::Draining(drain) => Some(drain),
            State::Spawning | State::Starting(_) | State::Up { .. } => None,
        }
    }

    /// The worker as a process; `None` until its spawn has worked.
    pub(crate) fn process(&self) -> Option<Process> {
        let Self { id, slot, generation, .. } = *self;
        self.pid.map(|pid| Process { id, slot, pid, generation })
    }

    /// Its end at `now`.
    pub(crate) fn death(&self, now: Moment, reason: String, termination: Option<Termination>) -> Death {
        Death {
            pid: self.pid.map(Pid::as_raw),
            generation: self.generation.0,
            reason,
            termination,
            age_ms: milliseconds(now - self.spawned_at),
            acked: self.acked_at.is_some(),
            stderr_tail: self.last_words.clone(),
        }
    }

    /// Whether it drains and the master can do no more about it: it may not signal the worker.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        let is_at_end = self.drain().is_some_and(|drain| matches!(drain.next, Next::Nothing | Next::End));
        self.is_unsignallable && is_at_end
    }

    /// Whether it was asked to stop, and the shell has not said what came of that.
    pub(crate) fn is_answer_due(&self) -> bool {
        let is_asked = self.drain().is_some_and(|drain| drain.is_asked() && drain.sent == Stops::default());
        self.pid.is_some() && is_asked && !self.is_unsignallable
    }

    /// Everything that it must do by some time may take so much longer. Its age goes on.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.ping_due = self.ping_due.map(|at| at + by);
        match &mut self.state {
            State::Starting(Boot::AckedAt(at) | Boot::AckBy(at)) => *at += by,
            State::Draining(drain) => {
                drain.since += by;
                drain.warn_at = drain.warn_at.map(|at| at + by);
                if let Next::Ask(at) | Next::Kill(at) = &mut drain.next {
                    *at += by;
                }
            }
            State::Spawning | State::Starting(Boot::Unlimited) | State::Up { .. } => {}
        }
    }

    /// Whether it must do something by some time.
    pub(crate) fn is_timed(&self) -> bool {
        let is_to_act = match self.state {
            State::Starting(boot) => boot != Boot::Unlimited,
            State::Draining(drain) => matches!(drain.next, Next::Ask(_) | Next::Kill(_)),
            State::Spawning | State::Up { .. } => false,
        };
        is_to_act || self.ping_due.is_some()
    }

    /// What is to happen to it, and when.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Moment, Step)> {
        let (id, process) = (self.id, self.process());
        let warn_at = self.drain().and_then(|drain| drain.warn_at);
        let warning = warn_at.zip(process).map(|(at, process)| (at, Step::WarnOfDrain(process)));
        let of_state = match self.state {
            State::Spawning
            | State::Starting(Boot::Unlimited)
            | State::Up { old_at: None }
            | State::Draining(Drain { next: Next::Nothing | Next::End, .. }) => None,
            State::Starting(Boot::AckedAt(at)) => Some((at, Step::CountAsAcked(id))),
            State::Starting(Boot::AckBy(at)) => process.map(|process| (at, Step::MissBoot(process))),
            State::Up { old_at: Some(at) } => Some((at, Step::GrowOld(id))),
            State::Draining(Drain { next: Next::Ask(at), .. }) => {
                process.map(|process| (at, Step::Ask(process)))
            }
            State::Draining(Drain { next: Next::Kill(at), .. }) => {
                process.map(|process| (at, Step::Kill(process)))
            }
        };
        // One that has not acked has its boot deadline, and a trial worker that of its check.
        let ping = if self.is_up() { Step::FallSilent(id) } else { Step::ExpectPing(id) };
        of_state.into_iter().chain(self.ping_due.map(|at| (at, ping))).chain(warning)
    }
}

impl State {
    /// The state, to complete "it is ...".
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Spawning => "not spawned yet",
            Self::Starting(_) => "starting",
            Self::Up { .. } => "up already",
            Self::Draining(_) => "draining",
        }
    }
}

impl Drain {
    /// One that begins with `signal`, and ends with SIGKILL where there is a time for that.
    pub(crate) fn asked(
        since: Moment,
        signal: Option<Signal>,
        why: DrainReason,
        kill_at: Option<Moment>,
    ) -> Self {
        let next = kill_at.map_or(Next::Nothing, Next::Kill);
        Self { since, signal, why, sent: Stops::default(), last: None, warn_at: None, is_long: false, next }
    }

    /// One that begins with time to finish: the stop signal comes at `ask_at`.
    pub(crate) fn unasked(since: Moment, why: DrainReason, ask_at: Moment) -> Self {
        Self { next: Next::Ask(ask_at), ..Self::asked(since, None, why, None) }
    }

    /// Whether the worker was sent a stop signal, or gets one as soon as it has a pid.
    pub(crate) fn is_asked(self) -> bool {
        !matches!(self.next, Next::Ask(_))
    }

    /// Whether the worker has had `signal`, or SIGKILL, after which there is nothing to add.
    pub(crate) fn has_had(self, signal: Signal) -> bool {
        self.next == Next::End || self.sent.has(signal)
    }

    /// The stop after `signal` was sent too.
    pub(crate) fn with(self, signal: Signal, ending: DrainEnding) -> Self {
        let last = if signal == Signal::SIGKILL { self.last } else { Some((signal, ending)) };
        Self { sent: self.sent.with(signal), last, ..self }
    }

    /// The next step of a stop that takes too long.
    pub(crate) fn next_signal(self) -> Option<Signal> {
        self.sent.next().filter(|_| self.next != Next::End)
    }

    /// What this end tells of a worker that took traffic.
    pub(crate) fn ending(self, termination: &Termination) -> DrainEnding {
        let last = self.last.filter(|(signal, _)| termination.signal() == Some(signal.as_str()));
        last.map_or(DrainEnding::Own, |(_, ending)| ending)
    }
}

impl Stops {
    pub(crate) fn has(self, signal: Signal) -> bool {
        self.0 & bit(signal) != 0
    }

    pub(crate) fn with(self, signal: Signal) -> Self {
        Self(self.0 | bit(signal))
    }

    /// The next step of a stop that takes too long: of TERM and KILL the first that is missing.
    pub(crate) fn next(self) -> Option<Signal> {
        [Signal::SIGTERM, Signal::SIGKILL].into_iter().find(|signal| !self.has(*signal))
    }

    /// All of them.
    pub(crate) fn signals(self) -> Vec<Signal> {
        Signal::ALL.iter().copied().filter(|signal| self.has(*signal)).collect()
    }
}

/// What is assumed of a worker of which a state does not say whether it has sent `worker:ack`.
fn assumed() -> bool {
    true
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as u32)
}
