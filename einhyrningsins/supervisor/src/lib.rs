//! The core: decides everything about the pool, and touches nothing.
//!
//! Events and the time go in, actions come out. There is no clock, process, socket, environment or log
//! behind this module; the master carries each [`Action`] out and feeds what became of it back as an
//! [`Event`]. So every behaviour can be played in a test on a clock that jumps.
//!
//! What must hold is written in `invariants.rs` and checked after every event in debug builds. In a release
//! build nothing here may end the master: an event that makes no sense is dropped.

#![cfg_attr(not(test), no_std)]

#[macro_use]
extern crate alloc;

mod care;
mod configure;
mod draining;
mod event;
mod invariants;
mod lifecycle;
mod moment;
mod pacing;
mod policy;
mod pool;
mod record;
mod resize;
mod rollback;
mod rollout;
mod seats;
mod signal;
mod snapshot;
mod stop;
mod succession;
mod timers;
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

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use einhorn_proto::{Notice, Severity};
use serde::{Deserialize, Serialize};

pub use event::{
    Action, Event, Generation, PoolCommand, ReplyData, RequestKey, SlotNumber, Stop, UpgradePlan, WorkerId,
};
pub use moment::Moment;
pub use policy::{AckMode, Care, MaxAge, Policy, PolicyChange, Retries};
pub use record::{Busy, Contradiction, SupervisorRecord};
pub use seats::Seats;
pub use signal::{Pid, Signal};
pub use snapshot::{Snapshot, Summary, WorkerDetail};

use care::Recycling;
use pool::Pool;
use rollout::Rollout;
use timers::{Timer, Timers};

/// What the master is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// [`Event::Started`] has not come.
    Waiting,
    /// It supervises.
    Running,
    /// It waits for the last worker and then exits with `code`.
    Stopping { code: u8 },
    /// [`Action::Exit`] was given out.
    Exited,
}

/// The supervisor of one pool.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Supervisor {
    policy: Policy,
    phase: Phase,
    pool: Pool,
    timers: Timers,
    /// Empty seats whose time has come, in that order; they wait only for fewer unacked workers.
    due: VecDeque<SlotNumber>,
    rollout: Option<Rollout>,
    recycling: Recycling,
    /// What new seats run.
    generation: Generation,
    /// The last number given to a generation.
    generation_last: Generation,
    /// What was there before the last upgrade.
    previous: Option<Generation>,
    /// Generations of which a worker has acked.
    proven: BTreeSet<Generation>,
    /// Generations whose release the shell holds.
    releases: BTreeSet<Generation>,
    started_at: Option<Moment>,
    /// Whether the pool was once full. Until then spawns are not paced.
    was_ready: bool,
    /// Why the master will exit with a failure.
    stop_failure: Option<String>,
    actions: Vec<Action>,
    /// A bug to have, for a test of the checker.
    #[cfg(test)]
    sabotage: Option<model::Sabotage>,
}

impl Supervisor {
    /// Makes a supervisor that has done nothing yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let first = Generation(1);
        Self {
            policy,
            phase: Phase::Waiting,
            pool: Pool::default(),
            timers: Timers::default(),
            due: VecDeque::new(),
            rollout: None,
            recycling: Recycling::default(),
            generation: first,
            generation_last: first,
            previous: None,
            proven: BTreeSet::new(),
            releases: BTreeSet::from([first]),
            started_at: None,
            was_ready: false,
            stop_failure: None,
            actions: Vec::new(),
            #[cfg(test)]
            sabotage: None,
        }
    }

    /// Feeds one event to the supervisor and returns what the shell must now do, in order.
    ///
    /// `now` must not go back from one call to the next.
    #[must_use = "an action that is not carried out is lost"]
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let before = self.counts_before(&event);
        match event {
            Event::Started => self.on_started(now),
            Event::Spawned { worker, pid } => self.on_spawned(now, worker, pid),
            Event::SpawnFailed { worker, reason, transient } => {
                self.on_spawn_failed(now, worker, reason, transient);
            }
            Event::Exited { pid, termination } => self.on_exited(now, pid, termination),
            Event::Acked { pid, source } => self.on_ack_message(now, pid, source),
            Event::Pinged { pid, word } => self.on_pinged(now, pid, word),
            Event::Measured { pid, rss_bytes } => self.on_measured(now, pid, rss_bytes),
            Event::StatusText { pid, text } => self.on_status_text(pid, text),
            Event::LastWords { pid, lines } => self.on_last_words(pid, lines),
            Event::StopAnnounced { pid } => self.on_stop_announced(pid),
            Event::Command { request, command } => self.on_command(now, request, command),
            Event::RequestAbandoned { request } => self.on_request_abandoned(request),
            Event::ReleaseResolved { generation } => self.on_release_resolved(now, generation),
            Event::ReleaseFailed { generation, reason } => self.on_release_failed(now, generation, reason),
            Event::DeadlineReached => self.on_deadline(now),
        }
        self.check_invariants(before);
        core::mem::take(&mut self.actions)
    }

    /// What the pool is held to.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// When to call [`Self::handle`] with [`Event::DeadlineReached`]; `None` if nothing is pending.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timers.earliest()
    }

    fn on_started(&mut self, now: Moment) {
        if self.phase != Phase::Waiting {
            return;
        }
        self.phase = Phase::Running;
        self.started_at = Some(now);
        for _ in 0..self.policy.workers {
            let slot = self.pool.open_slot(self.generation);
            self.fill_seat(now, slot);
        }
    }

    fn on_command(&mut self, now: Moment, request: Option<RequestKey>, command: PoolCommand) {
        match command {
            PoolCommand::Stop { how, why } => self.on_stop(now, request, how, &why),
            PoolCommand::Signal(signals) => self.on_signal(request, &signals),
            _ if self.phase != Phase::Running => {
                let refusal = self.stopping().unwrap_or_default();
                self.reply(request, false, refusal, None);
            }
            PoolCommand::Inc(by) => self.resize(now, request, self.wanted().saturating_add(by)),
            PoolCommand::Dec(by) => self.on_dec(now, request, by),
            PoolCommand::SetWorkers(count) => self.resize(now, request, count),
            PoolCommand::Configure(change) => self.on_configure(now, request, change),
            PoolCommand::Upgrade(plan) => self.on_upgrade(now, request, plan),
            PoolCommand::Continue => self.on_continue(now, request),
            PoolCommand::Abort => self.on_abort(now, request, "an abort was asked for"),
            PoolCommand::Follow => self.on_follow(request),
            PoolCommand::Rollback => self.on_rollback(now, request),
            PoolCommand::Respawn => self.on_respawn(now, request),
        }
    }

    fn on_request_abandoned(&mut self, request: RequestKey) {
        if let Some(rollout) = &mut self.rollout {
            rollout.abandon(request);
        }
    }

    fn on_deadline(&mut self, now: Moment) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Ack(worker) => self.on_acked(now, worker, einhorn_proto::AckSource::Timer),
                Timer::Boot(worker) => self.on_boot_deadline(now, worker),
                Timer::Kill(worker) => self.on_grace_over(now, worker),
                Timer::Retire(worker) => self.on_retired(now, worker),
                Timer::Spawn(slot) => self.make_due(slot),
                Timer::Succeed(slot) => self.retry_successor(slot),
                Timer::Soak => self.on_soak_over(now),
                Timer::Age(worker) => self.on_age_reached(now, worker),
                Timer::Ping(worker) => self.on_ping_overdue(now, worker),
                // The pump looks who is next.
                Timer::Recycle => {}
            }
        }
        self.pump(now);
        // A fleet may find no room for a successor whose time has come, and must not wait for it.
        self.settle_rollout(now);
    }

    /// Spawns what is due, as far as the bounds allow: empty seats first, then successors.
    fn pump(&mut self, now: Moment) {
        while self.phase == Phase::Running && self.may_have_one_more_unacked() && self.has_room() {
            if let Some(slot) = self.next_due() {
                self.fill_seat(now, slot);
            } else if !self.advance_rollout(now) && !self.advance_recycling(now) {
                break;
            }
        }
    }

    /// The number of workers asked for.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        match self.phase {
            Phase::Waiting => self.policy.workers,
            _ => u32::try_from(self.pool.slots.len()).unwrap_or(u32::MAX),
        }
    }

    fn may_have_one_more_unacked(&self) -> bool {
        #[cfg(test)]
        if self.sabotage == Some(model::Sabotage::OneTooManyUnacked) {
            return self.pool.unacked() <= self.policy.unacked_max as usize;
        }
        let is_exempt = !self.was_ready || self.rollout.as_ref().is_some_and(Rollout::is_fleet_forward);
        is_exempt || self.pool.unacked() < self.policy.unacked_max as usize
    }

    /// Whether one more worker stays within `--max-upgrade-additional`, draining ones counted.
    fn has_room(&self) -> bool {
        #[cfg(test)]
        if self.sabotage == Some(model::Sabotage::OneTooManyLive) {
            return self.live_max().is_none_or(|bound| self.pool.live() <= bound);
        }
        self.live_max().is_none_or(|bound| self.pool.live() < bound)
    }

    /// How many workers may live at a time, draining ones counted.
    fn live_max(&self) -> Option<usize> {
        self.policy.upgrade_additional_max.map(|more| self.pool.slots.len() + more as usize)
    }

    /// Puts an empty seat in the queue of those to fill now.
    fn make_due(&mut self, number: SlotNumber) {
        let Some(slot) = self.pool.slots.get_mut(&number) else { return };
        if slot.current.is_none() && !slot.is_due && !slot.given_up {
            slot.is_due = true;
            self.timers.clear(Timer::Spawn(number));
            self.due.push_back(number);
        }
    }

    fn next_due(&mut self) -> Option<SlotNumber> {
        while let Some(number) = self.due.pop_front() {
            if let Some(slot) = self.pool.slots.get_mut(&number)
                && core::mem::take(&mut slot.is_due)
                && slot.current.is_none()
            {
                return Some(number);
            }
        }
        None
    }

    /// Tells the log, whoever follows events, and whoever waits for the upgrade that runs.
    fn tell(&mut self, notice: Notice) {
        let requests = self.rollout.as_ref().map_or(Vec::new(), Rollout::requests);
        let progress_of = if notice.severity() == Severity::Debug { Vec::new() } else { requests };
        let counts = if progress_of.is_empty() { None } else { self.counts() };
        self.actions.push(Action::Notice { notice, progress_of, counts });
    }

    /// Gives the last reply to a request, if there was one.
    fn reply(&mut self, request: Option<RequestKey>, ok: bool, message: String, data: Option<ReplyData>) {
        match request {
            Some(request) => self.actions.push(Action::Reply { request, ok, message, data }),
            None if ok => self.tell(Notice::Decided { message }),
            None => self.tell(Notice::Refused { message }),
        }
    }

    /// Lets the shell forget the releases that nothing can be spawned from any more.
    fn forget_releases(&mut self) {
        let mut used: BTreeSet<_> = self.pool.slots.values().map(|slot| slot.generation).collect();
        used.insert(self.generation);
        used.extend(self.previous);
        used.extend(self.rollout.iter().flat_map(|rollout| [rollout.generation, rollout.from]));
        let unused: Vec<_> = self.releases.difference(&used).copied().collect();
        for generation in unused {
            self.releases.remove(&generation);
            self.proven.remove(&generation);
            self.actions.push(Action::ForgetRelease { generation });
        }
    }
}
