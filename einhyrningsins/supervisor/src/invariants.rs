//! What must hold after every event, checked in debug builds. The numbers are those of ARCHITECTURE.md,
//! "What must hold".
//!
//! I3 and I4 bound what we *spawn*, so they are checked where the number grows. I6 and I7 are about what was
//! sent, which only an onlooker can count: the simulation does.

use alloc::collections::BTreeSet;

use super::Signal;
use super::event::{Event, WorkerId};
use super::timers::Timer;
use super::worker::{State, Worker};
use super::{AckMode, Phase, Supervisor};

/// Counts from before an event, to compare with what it left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    covered: usize,
    unacked: usize,
    live: usize,
    is_first_start: bool,
}

impl Supervisor {
    /// The counts before `event`, less the worker that the event itself takes away.
    pub(super) fn counts_before(&self, event: &Event) -> Before {
        let gone = match event {
            Event::Exited { pid, .. } if cfg!(debug_assertions) => {
                self.pool.by_pid(*pid).map(|worker| worker.id)
            }
            _ => None,
        };
        Before {
            covered: self.covered(gone),
            unacked: self.pool.unacked(),
            live: self.pool.live(),
            is_first_start: !self.was_ready,
        }
    }

    /// How many slots have an acked, undrained worker, `without` not counted. Not looked up in release builds.
    fn covered(&self, without: Option<WorkerId>) -> usize {
        if !cfg!(debug_assertions) {
            return 0;
        }
        let is_up = |id: &WorkerId| Some(*id) != without && self.pool.get(*id).is_some_and(Worker::is_up);
        let slots = self.pool.slots.values();
        slots.filter(|slot| [slot.current, slot.successor].iter().flatten().any(is_up)).count()
    }

    pub(super) fn check_invariants(&self, before: Before) {
        if !cfg!(debug_assertions) || self.phase == Phase::Exited {
            return;
        }
        self.check_tables();
        if self.phase == Phase::Running {
            self.check_seats();
            self.check_bounds(before);
        }
    }

    /// I1: every slot has exactly one current undrained worker, or a pending spawn, or was given up. I9: at most one
    /// worker has its turn to be recycled.
    fn check_seats(&self) {
        for (number, slot) in &self.pool.slots {
            let is_pending = slot.is_due
                || self.timers.at(Timer::Spawn(*number)).is_some()
                || slot.given_up
                || self.is_in_rollout(*number);
            match slot.current {
                None => debug_assert!(is_pending, "I1: slot {} waits for nothing", number.0),
                Some(id) => {
                    let worker = self.pool.get(id);
                    debug_assert!(
                        worker.is_some_and(Worker::is_undrained),
                        "I1: slot {} is held by a worker that is gone or draining",
                        number.0
                    );
                }
            }
            if let Some(id) = slot.successor {
                let worker = self.pool.get(id);
                let is_recycled = self.recycling.is_succeeding(*number);
                debug_assert!((self.rollout.is_some() || is_recycled) && slot.current.is_some());
                let is_fleet = self.rollout.as_ref().is_some_and(super::Rollout::is_fleet_forward);
                debug_assert!(
                    worker.is_some_and(|worker| worker.is_unacked() || (is_fleet && worker.is_up())),
                    "I1: a successor without reason to wait"
                );
            }
        }
        let successors = self.pool.slots.values().filter(|slot| slot.successor.is_some()).count();
        debug_assert!(self.rollout.is_some() || successors <= 1, "I9: two workers are replaced at once");
        let seated =
            self.pool.slots.values().flat_map(|slot| [slot.current, slot.successor]).flatten().count();
        let undrained = self.pool.up() + self.pool.unacked();
        debug_assert_eq!(seated, undrained, "I1: an undrained worker without a seat");
    }

    fn check_bounds(&self, before: Before) {
        let (covered, unacked) = (self.covered(None), self.pool.unacked());
        debug_assert!(
            covered >= before.covered.min(self.pool.slots.len()),
            "I2: from {} to {covered} slots with an acked worker by an act of ours",
            before.covered
        );
        if let Some(bound) = self.live_max()
            && self.pool.live() > before.live
        {
            debug_assert!(self.pool.live() <= bound, "I3: {} live workers, bound {bound}", self.pool.live());
        }
        let is_fleet = self.rollout.as_ref().is_some_and(super::Rollout::is_fleet_forward);
        let is_paced = self.was_ready && !before.is_first_start && !is_fleet;
        if is_paced && unacked > before.unacked {
            let bound = self.policy.unacked_max as usize;
            debug_assert!(unacked <= bound, "I4: {unacked} unacked workers, bound {bound}");
        }
    }

    /// I5 and I6, and that what is counted is what is there.
    fn check_tables(&self) {
        let mut indexes = BTreeSet::new();
        let mut pids = BTreeSet::new();
        let (mut up, mut unacked) = (0, 0);
        for worker in self.pool.workers() {
            debug_assert!(indexes.insert(worker.index), "I5: two workers with index {}", worker.index);
            if let Some(pid) = worker.pid {
                debug_assert!(pids.insert(pid), "I5: two workers with pid {pid}");
            }
            up += usize::from(worker.is_up());
            unacked += usize::from(worker.is_unacked());
            match worker.state {
                State::Draining(drain) => {
                    let has_deadline = self.timers.at(Timer::Kill(worker.id)).is_some();
                    let is_retiring = self.timers.at(Timer::Retire(worker.id)).is_some();
                    debug_assert_ne!(drain.is_asked(), is_retiring, "worker {:?} is never asked", worker.id);
                    let needs_one = self.policy.grace.is_some()
                        && drain.is_asked()
                        && worker.pid.is_some()
                        && drain.signal != Signal::SIGKILL;
                    debug_assert!(has_deadline || !needs_one, "worker {:?} would linger", worker.id);
                }
                State::Starting => {
                    let has_deadline = self.timers.at(Timer::Ack(worker.id)).is_some()
                        || self.timers.at(Timer::Boot(worker.id)).is_some();
                    let needs_one = self.policy.ack != AckMode::Manual(None);
                    debug_assert!(has_deadline || !needs_one, "worker {:?} would never be up", worker.id);
                }
                State::Spawning | State::Up => {}
            }
        }
        debug_assert_eq!((up, unacked), (self.pool.up(), self.pool.unacked()), "the counts are off");
    }
}
