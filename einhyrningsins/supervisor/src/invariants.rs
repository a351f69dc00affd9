//! What must hold after every event, checked in debug builds. The numbers are those of ARCHITECTURE.md,
//! "What must hold".
//!
//! I3 and I4 bound what we *spawn*, so they are checked where the number grows. I6 and I7 are about what was sent,
//! which only an onlooker can count: the simulation does. What types make impossible is not checked: a slot without a
//! worker that waits for nothing, a draining worker with a slot, two successors in one slot.

use super::event::Event;
use super::pacing::BACKOFF_MAX;
use super::plan::{Plan, Rollout};
use super::policy::AckMode;
use super::slot::Holder;
use super::worker::{Boot, Drain, Next, State, Worker};
use super::{Supervisor, WorkerId};

/// Live workers up to which everything is checked after every event. Each check goes through all of them: with thousands, a
/// debug build would do nothing else.
const CHECKED_MAX: usize = 250;

/// Counts from before an event, to compare with what it left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    covered: usize,
    unacked: usize,
    live: usize,
    was_ready: bool,
}

impl Supervisor {
    /// The counts before `event`, less the worker that the event itself takes away.
    pub(crate) fn counts_before(&self, event: &Event) -> Before {
        let gone = match event {
            Event::Exited { pid, .. } if cfg!(debug_assertions) => {
                self.tables.pool.by_pid(*pid).map(|worker| worker.id)
            }
            _ => None,
        };
        Before {
            covered: self.covered(gone),
            unacked: self.tables.pool.unacked(),
            live: self.tables.pool.live(),
            was_ready: self.tables.was_ready,
        }
    }

    /// How many slots have an acked, undrained worker, `without` not counted. Not looked up in release builds.
    fn covered(&self, without: Option<WorkerId>) -> usize {
        if !self.is_checked() {
            return 0;
        }
        let pool = &self.tables.pool;
        let is_up = |id: WorkerId| Some(id) != without && pool.worker(id).is_some_and(Worker::is_up);
        pool.slots().filter(|(_, slot)| slot.workers().any(is_up)).count()
    }

    fn is_checked(&self) -> bool {
        cfg!(debug_assertions) && self.tables.pool.live() <= CHECKED_MAX
    }

    pub(crate) fn check_invariants(&self, before: Before) {
        if !self.is_checked() || before.live > CHECKED_MAX || self.tables.plan == Plan::Exited {
            return;
        }
        debug_assert!(self.tables.pool.is_indexed(), "the index is off");
        debug_assert!(self.tables.leftovers.is_indexed(), "the index of groups is off");
        debug_assert_eq!(self.tables.pool.loss(), None, "nobody has decided about a loss");
        self.check_deadlines();
        if self.tables.plan.is_running() {
            self.check_slots();
            self.check_bounds(before);
        }
    }

    /// I1: every slot has exactly one current undrained worker, or a pending spawn, or was given up. I9: at most one
    /// worker has its turn to be recycled.
    fn check_slots(&self) {
        let pool = &self.tables.pool;
        let rollout = self.tables.plan.rollout();
        let wait_max = BACKOFF_MAX.max(self.tables.policy.seconds);
        let mut held = 0;
        for (number, slot) in pool.slots() {
            held += slot.workers().count();
            for id in slot.workers() {
                let is_its = |worker: &Worker| worker.is_undrained() && worker.slot == Some(number);
                debug_assert!(pool.worker(id).is_some_and(is_its), "I1: slot {} is held by nobody", number.0);
            }
            match slot.holder {
                Holder::Empty { due } => {
                    debug_assert!(due <= self.now + wait_max, "I1: slot {} waits for nothing", number.0);
                }
                Holder::Closed => debug_assert!(false, "I1: slot {} is closed", number.0),
                Holder::Passing { successor, .. } => {
                    let is_recycled = self.tables.recycling.is_succeeding(number);
                    debug_assert!(rollout.is_some() || is_recycled, "I9: a successor without a turn");
                    let is_fleet = rollout.is_some_and(Rollout::is_fleet_forward);
                    let may_wait = |worker: &Worker| worker.is_unacked() || is_fleet;
                    debug_assert!(
                        pool.worker(successor).is_some_and(may_wait),
                        "I1: a successor without reason to wait"
                    );
                }
                Holder::GivenUp | Holder::Held { .. } => {}
            }
        }
        debug_assert!(rollout.is_some() || pool.passing.len() <= 1, "I9: two workers are replaced at once");
        debug_assert_eq!(held, pool.up() + pool.unacked(), "I1: an undrained worker without a slot");
    }

    fn check_bounds(&self, before: Before) {
        let pool = &self.tables.pool;
        let (covered, unacked) = (self.covered(None), pool.unacked());
        debug_assert!(
            covered >= before.covered.min(pool.size()),
            "I2: from {} to {covered} slots with an acked worker by an act of ours",
            before.covered
        );
        if let Some(bound) = self.tables.live_max()
            && pool.live() > before.live
        {
            debug_assert!(pool.live() <= bound, "I3: {} live workers, bound {bound}", pool.live());
        }
        if before.was_ready && self.tables.is_paced() && unacked > before.unacked {
            let bound = self.tables.pace().workers as usize;
            debug_assert!(unacked <= bound, "I4: {unacked} unacked workers, bound {bound}");
        }
    }

    /// I6: whoever drains is asked some time and killed in the end, and whoever starts is up or lost in the end. (I5,
    /// that no two workers share a pid or an index, is in the index.)
    fn check_deadlines(&self) {
        let policy = &self.tables.policy;
        for worker in self.tables.pool.workers() {
            match worker.state {
                State::Draining(Drain { next: Next::Nothing, .. }) => {
                    let may_linger = policy.grace.is_none() || worker.pid.is_none();
                    debug_assert!(may_linger, "worker {:?} would linger", worker.id);
                }
                State::Starting(Boot::Unlimited) => debug_assert_eq!(
                    self.tables.terms(worker.generation).ack,
                    AckMode::Manual(None),
                    "worker {:?} would never be up",
                    worker.id
                ),
                State::Spawning | State::Starting(_) | State::Up { .. } | State::Draining(_) => {}
            }
        }
    }
}
