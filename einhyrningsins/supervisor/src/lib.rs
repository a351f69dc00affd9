//! The core of einhyrningsins: decides everything about a pool of workers, and touches nothing.
//!
//! Events and the time go in, actions come out. The shell, which is the daemon or a test, carries each [`Action`] out
//! and feeds its outcome back as an [`Event`]. There is no standard library here, so no file, process, socket, thread
//! or clock: every behaviour can be played in a test on a clock that jumps.
//!
//! # The state model
//!
//! What is *wanted* is the plan (`plan.rs`): nothing yet, steady, rolling to another release, stopping, exited. What
//! *is* are the slots and workers of the pool (`pool.rs`, `slot.rs`, `worker.rs`). Neither knows of the other; rules
//! compare them.
//!
//! - A slot is empty, with a time from which on it may be filled; held by a worker; passing from its worker to a
//!   successor; given up; or closed, when the master stops.
//! - A worker is spawning, starting, up, or draining. Undrained workers have a slot, and draining ones have none: what
//!   a slot does next never waits for a worker that is on its way out.
//! - A rollout has an order (smooth, fleet, canary) and a direction. It goes from resolving its release to replacing
//!   workers, and perhaps to a soak and on; when it fails, it turns back and replaces what it had replaced.
//! - One spawn at a time waits for the shell's answer, and the next one follows that. Between two spawns anything may
//!   be heard, and the rules look again at what is wanted.
//! - Each deadline is part of the state that it ends. Whoever leaves the state leaves the deadline behind.
//!
//! # How an event is handled
//!
//! `record.rs` notes the facts: for every state and event it changes one fact, or says which event it ignores and why.
//! Then the rules (`rules/mod.rs`, which has their order of precedence) name one step after another, and `steps.rs`
//! takes it, until nothing is left to do. What matters is how things are, and not by which path they came there: an
//! event that comes late or twice, or a master that was replaced, needs no code of its own. A command of a person
//! changes the plan or the pool at once (`commands.rs`), and the rules see to the rest.
//!
//! What must hold is written in `invariants.rs` and checked after every event in debug builds. In a release build
//! nothing here may end the master.

#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

mod aftermath;
mod allowance;
mod commands;
mod convention;
mod event;
mod index;
mod invariants;
mod leftovers;
mod moment;
mod pacing;
mod plan;
mod policy;
mod pool;
mod queue;
mod record;
mod recycling;
mod releases;
mod rules;
mod signal;
mod slot;
mod slots;
mod snapshot;
mod soak;
mod steps;
mod tables;
mod trial;
mod upgrade;
mod worker;

#[cfg(test)]
mod model;
#[cfg(test)]
mod onlooker;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use einhorn_proto::{LastReply, Notice, Severity};

pub use allowance::BootLoad;
pub use convention::{Convention, Shows};
pub use event::{
    Action, Ask, CheckPlan, Event, Generation, JobId, JobOutcome, PoolCommand, Report, RequestKey,
    RolloutRecord, SlotNumber, SoakCheck, Stop, Subject, UpgradePlan, WorkerId,
};
pub use leftovers::LEFTOVERS_MAX;
pub use moment::Moment;
pub use policy::{
    AckMode, CHECK_TIMEOUT, Check, MaxAge, OptionsChange, Policy, RecyclingLimits, Retries, Setting, Terms,
};
pub use signal::{Pid, Signal};
pub use slots::Slots;
pub use snapshot::{Snapshot, Summary, WorkerDetail};
pub use tables::{Busy, Contradiction, Tables};

use rules::View;

/// The supervisor of one pool.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Supervisor {
    tables: Tables,
    /// The time of the last event.
    now: Moment,
    /// The time of the last [`Event::DeadlineReached`].
    reached: Moment,
    actions: Vec<Action>,
    /// The master was replaced for an upgrade that has not begun yet: slots that lost their worker meanwhile wait for
    /// its release.
    is_held_for_upgrade: bool,
    /// How many events there were.
    revision: u64,
}

impl Supervisor {
    /// Makes a supervisor that has done nothing yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::with(Tables::new(policy))
    }

    fn with(tables: Tables) -> Self {
        let is_held_for_upgrade = tables.queue.is_preparing();
        let (now, reached) = (Moment::default(), Moment::default());
        Self { tables, now, reached, actions: Vec::new(), is_held_for_upgrade, revision: 0 }
    }

    /// Makes the supervisor that has written these tables down. It continues where that one stopped.
    ///
    /// # Errors
    /// [`Contradiction`] if no supervisor can have written them.
    pub fn restore(mut tables: Tables) -> Result<Self, Contradiction> {
        tables.pool = tables.pool.restore()?;
        tables.leftovers = tables.leftovers.restore();
        if tables.is_busy() {
            return Err(Contradiction("it waits for an action that nobody carries out".to_owned()));
        }
        Ok(Self::with(tables))
    }

    /// All that it knows, to be written down.
    ///
    /// # Errors
    /// [`Busy`] before every action that it has asked for was answered.
    pub fn tables(&self) -> Result<&Tables, Busy> {
        if self.tables.is_busy() { Err(Busy) } else { Ok(&self.tables) }
    }

    /// Grows with each event: as long as it stays, so do the tables.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Feeds one event to the supervisor and returns what the shell must now do, in order.
    ///
    /// `now` must not go back from one call to the next.
    #[must_use = "an action that is not carried out is lost"]
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Action> {
        self.revision += 1;
        let before = self.counts_before(&event);
        self.record(now, event);
        while let Some(step) = self.next_step() {
            self.take(step);
        }
        self.check_invariants(before);
        self.take_actions()
    }

    /// What the rules want done next.
    fn next_step(&self) -> Option<rules::Step> {
        let Self { tables, now, reached, is_held_for_upgrade, .. } = self;
        let (now, reached, is_held_for_upgrade) = (*now, *reached, *is_held_for_upgrade);
        rules::next_step(&View { tables, now, reached, is_held_for_upgrade })
    }

    fn take_actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.actions)
    }

    /// When to call [`Self::handle`] with [`Event::DeadlineReached`]; `None` if nothing is pending.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let Tables { pool, plan, recycling, aftermath, leftovers, trial, .. } = &self.tables;
        let deadlines = [
            pool.next_deadline(self.now),
            plan.rollout().and_then(|rollout| rollout.next_deadline(self.now)),
            recycling.next_deadline(self.reached),
            aftermath.next_deadline(),
            leftovers.next().map(|(at, _)| at),
            trial.as_ref().and_then(|trial| trial.next_deadline(self.now)),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether a process must do something by some time. Somebody must then notice soon if nobody runs any more: see
    /// [`Event::TimeLost`].
    #[must_use]
    pub fn is_timed(&self) -> bool {
        !self.tables.pool.timed.is_empty() || self.tables.leftovers.is_timed()
    }

    /// What the pool is held to.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.tables.policy
    }

    /// What the workers of `generation` are held to.
    #[must_use]
    pub fn terms(&self, generation: Generation) -> Terms {
        self.tables.terms(generation)
    }

    /// Whether stop signals go to the whole process group of the worker `pid`.
    #[must_use]
    pub fn stops_group_of(&self, pid: Pid) -> bool {
        self.tables.pool.by_pid(pid).is_some_and(|worker| self.terms(worker.generation).stop_group)
    }

    /// Informs the log, whoever follows events, and whoever waits for the upgrade that runs.
    fn tell(&mut self, notice: Notice) {
        self.tell_to(Vec::new(), notice);
    }

    /// The same, and informs these requests too.
    fn tell_to(&mut self, mut requests: Vec<RequestKey>, notice: Notice) {
        requests.extend(self.tables.plan.rollout().iter().flat_map(|rollout| rollout.requests()));
        let progress_of = if notice.severity() == Severity::Debug { Vec::new() } else { requests };
        let counts = if progress_of.is_empty() { None } else { self.counts() };
        self.actions.push(Action::Notice { notice, progress_of, counts });
    }

    /// Gives the last reply to a request, if there was one, or to the log.
    fn reply(&mut self, request: Option<RequestKey>, answer: LastReply) {
        match request {
            Some(request) => self.actions.push(Action::Reply { request, answer }),
            None if answer.is_ok() => self.tell(Notice::Decided { message: format!("{answer}") }),
            None => self.tell(Notice::Refused { message: format!("{answer}") }),
        }
    }
}
