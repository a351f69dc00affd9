//! How the pool is, for `status` and `state`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::Moment;

use super::Pid;
use super::Signal;
use einhorn_proto::{
    Counts, MasterState, Recycled, SlotStatus, UpgradeStage, UpgradeStatus, WorkerState, WorkerStatus,
};

use super::moment::milliseconds;
use super::rollout::Stage;
use super::timers::Timer;
use super::worker::{Drain, State, Worker};
use super::{Generation, Phase, Supervisor};

/// How the pool is at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What the master is doing.
    pub state: MasterState,
    /// The generation that new workers get.
    pub generation: Generation,
    /// Workers asked for.
    pub wanted: u32,
    /// Workers that are acked and undrained.
    pub up: u32,
    /// Workers that are unacked and undrained.
    pub starting: u32,
    /// Workers that are draining.
    pub draining: u32,
    /// Each slot, by number.
    pub slots: Vec<SlotStatus>,
    /// Each worker that has a pid, by slot and then by age.
    pub workers: Vec<WorkerStatus>,
    /// How many workers were replaced while they served, by reason.
    pub recycled: Recycled,
    /// The upgrade that runs.
    pub upgrade: Option<UpgradeStatus>,
}

/// How the pool is, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What the master is doing.
    pub state: MasterState,
    /// Whether all slots have had an acked worker at one time.
    pub was_ready: bool,
    /// The generation that serves; of an upgrade that runs, [`Self::upgrade`] tells the other.
    pub generation: Generation,
    /// Workers asked for.
    pub wanted: u32,
    /// Workers that are acked and undrained.
    pub up: u32,
    /// Workers that live, draining ones too.
    pub live: u32,
    /// Slots that were given up.
    pub given_up: u32,
    /// The upgrade that runs.
    pub upgrade: Option<UpgradeStatus>,
}

/// What is told of a worker to einhorn's clients and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerDetail {
    /// Its pid.
    pub pid: Pid,
    /// The stop signals that it got, by number.
    pub stop_signals: Vec<Signal>,
    /// How long ago it was asked to stop.
    pub asked_to_stop: Option<Duration>,
    /// What it said with its last ping.
    pub ping_word: Option<String>,
}

impl Supervisor {
    /// How the pool is now.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        let mut workers: Vec<_> = self.pool.workers().filter_map(|worker| status_of(worker, now)).collect();
        // Stable: within a slot the order of ids, which is that of age, stays.
        workers.sort_by_key(|worker| worker.slot);
        Snapshot {
            state: self.master_state(),
            generation: self.rollout.as_ref().map_or(self.generation, |rollout| rollout.generation),
            wanted: self.wanted(),
            up: count(self.pool.up()),
            starting: count(self.pool.unacked()),
            draining: count(self.pool.draining()),
            slots: self.slot_statuses(now),
            workers,
            recycled: self.recycling.counts,
            upgrade: self.upgrade_status(now),
        }
    }

    /// How the pool is now, without a table of its workers.
    #[must_use]
    pub fn summary(&self, now: Moment) -> Summary {
        Summary {
            state: self.master_state(),
            was_ready: self.was_ready,
            generation: self.generation,
            wanted: self.wanted(),
            up: count(self.pool.up()),
            live: count(self.pool.live()),
            given_up: count(self.pool.slots.values().filter(|slot| slot.given_up).count()),
            upgrade: self.upgrade_status(now),
        }
    }

    /// The pids of all live workers.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.pool.workers().filter_map(|worker| worker.pid)
    }

    /// How many workers live, draining ones too.
    #[must_use]
    pub fn live(&self) -> usize {
        self.pool.live()
    }

    /// Why a command that begins something is refused, if the master is stopping.
    #[must_use]
    pub fn stopping(&self) -> Option<String> {
        (self.phase != Phase::Running).then(|| "refused: the master is stopping".to_owned())
    }

    /// More of each worker that has a pid, in the order of the snapshot.
    #[must_use]
    pub fn worker_details(&self, now: Moment) -> Vec<WorkerDetail> {
        let mut workers: Vec<_> = self.pool.workers().filter(|worker| worker.pid.is_some()).collect();
        workers.sort_by_key(|worker| worker.slot);
        let details = workers.into_iter().filter_map(|worker| {
            let drain = match worker.state {
                State::Draining(drain) => Some(drain),
                State::Spawning | State::Starting | State::Up => None,
            };
            Some(WorkerDetail {
                pid: worker.pid?,
                stop_signals: drain.map_or(Vec::new(), Drain::signals),
                asked_to_stop: drain.map(|drain| now - drain.since),
                ping_word: worker.ping_word.clone(),
            })
        });
        details.collect()
    }

    /// Whether `pid` is a live worker: only then may an ack be believed.
    #[must_use]
    pub fn is_worker(&self, pid: Pid) -> bool {
        self.pool.by_pid(pid).is_some()
    }

    fn master_state(&self) -> MasterState {
        match self.phase {
            Phase::Stopping { .. } | Phase::Exited => MasterState::Stopping,
            _ if self.rollout.is_some() => MasterState::Upgrading,
            _ if !self.was_ready => MasterState::Starting,
            _ => MasterState::Running,
        }
    }

    fn slot_statuses(&self, now: Moment) -> Vec<SlotStatus> {
        let slots = self.pool.slots.iter().map(|(number, slot)| SlotStatus {
            slot: number.0,
            restarts: slot.restarts,
            tries: slot.attempts.tries,
            given_up: slot.given_up,
            next_spawn_ms: match self.timers.at(Timer::Spawn(*number)) {
                Some(at) => Some(milliseconds(at - now)),
                None => slot.is_due.then_some(0),
            },
            last_death: slot.last_death.as_ref().map(|(_, death)| death.clone()),
            last_death_age_ms: slot.last_death.as_ref().map(|(at, _)| milliseconds(now - *at)),
        });
        slots.collect()
    }

    /// How far the rollout that runs is.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        let rollout = self.rollout.as_ref()?;
        let upgraded = self.upgraded(rollout.generation);
        let is_back = matches!(rollout.stage, Stage::RollingBack(_));
        let (target, done) = match is_back {
            true => (rollout.from, count(self.pool.up()).saturating_sub(upgraded)),
            false => (rollout.generation, upgraded),
        };
        let is_starting = |worker: &&Worker| worker.generation == target && worker.is_unacked();
        Some(Counts {
            kind: rollout.kind,
            stage: rollout.stage.told(),
            generation: rollout.generation.0,
            done,
            wanted: self.wanted(),
            starting: count(self.pool.workers().filter(is_starting).count()),
            draining: count(self.pool.draining()),
        })
    }

    fn upgrade_status(&self, now: Moment) -> Option<UpgradeStatus> {
        let rollout = self.rollout.as_ref()?;
        let generation = rollout.generation;
        let is_new = |worker: &&Worker| worker.generation == generation && worker.is_unacked();
        let soak_ends = self.timers.at(Timer::Soak);
        Some(UpgradeStatus {
            kind: rollout.kind,
            stage: rollout.stage.told(),
            generation: generation.0,
            from: rollout.from.0,
            soak_left_ms: soak_ends.map(|at| milliseconds(at - now)),
            upgraded: self.upgraded(generation),
            wanted: self.wanted(),
            starting: count(self.pool.workers().filter(is_new).count()),
            age_ms: rollout.since.map_or(0, |since| milliseconds(now - since)),
        })
    }
}

impl Stage {
    /// The stage as clients read it.
    fn told(&self) -> UpgradeStage {
        match self {
            Self::Resolving => UpgradeStage::Resolving,
            Self::Replacing => UpgradeStage::Replacing,
            Self::Soaking => UpgradeStage::Soaking,
            Self::RollingBack(_) => UpgradeStage::RollingBack,
        }
    }
}

fn status_of(worker: &Worker, now: Moment) -> Option<WorkerStatus> {
    let pid = worker.pid?;
    Some(WorkerStatus {
        slot: worker.slot.0,
        index: worker.index,
        pid: pid.as_raw(),
        generation: worker.generation.0,
        state: match worker.state {
            State::Spawning | State::Starting => WorkerState::Starting,
            State::Up => WorkerState::Up,
            State::Draining(_) => WorkerState::Draining,
        },
        age_ms: milliseconds(now - worker.spawned_at),
        boot_ms: worker.acked_at.map(|at| milliseconds(at - worker.spawned_at)),
        pinged_ms: worker.pinged_at.map(|at| milliseconds(now - at)),
        text: worker.text.clone(),
    })
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
