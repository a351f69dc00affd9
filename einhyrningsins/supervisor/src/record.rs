//! The supervisor written down, for the next image of the master, and read again.
//!
//! These types are the format: what they say, in which words, is what a newer master reads from an older one. A
//! field that is added has a default; one that an older master must not pass over raises the format's version. What can be worked out from the rest (counts, free indexes, pids) is not written.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::Pid;
use super::Signal;
use einhorn_proto::{Death, Outcome, RolloutKind};
use serde::{Deserialize, Serialize};

use super::Moment;
use super::care::Recycling;
use super::event::{Generation, RequestKey, SlotNumber, WorkerId};
use super::pool::{Attempts, Pool, Slot};
use super::rollout::{Canary, Failure, Rollout, Stage, Waiter};
use super::timers::{Timer, Timers};
use super::worker::{Drain, State, Worker};
use super::{Phase, Policy, Supervisor};

/// A supervisor between two events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupervisorRecord {
    policy: Policy,
    phase: Phase,
    workers: Vec<WorkerRecord>,
    slots: Vec<SlotRecord>,
    timers: Vec<(Timer, Moment)>,
    due: Vec<SlotNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rollout: Option<RolloutRecord>,
    #[serde(default)]
    recycling: Recycling,
    next_worker: u64,
    generation: Generation,
    generation_last: Generation,
    previous: Option<Generation>,
    proven: Vec<Generation>,
    releases: Vec<Generation>,
    started_at: Option<Moment>,
    was_ready: bool,
    stop_failure: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WorkerRecord {
    id: WorkerId,
    slot: SlotNumber,
    index: u32,
    generation: Generation,
    pid: i32,
    #[serde(flatten)]
    state: StateRecord,
    spawned_at: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acked_at: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pinged_at: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ping_word: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    last_words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum StateRecord {
    Starting,
    Up,
    Draining {
        since: Moment,
        signal: Signal,
        /// A bit for each signal's number.
        sent: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SlotRecord {
    slot: SlotNumber,
    current: Option<WorkerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<WorkerId>,
    generation: Generation,
    attempts: Attempts,
    succession: Attempts,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    is_due: bool,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    given_up: bool,
    restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_death: Option<(Moment, Death)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RolloutRecord {
    kind: RolloutKind,
    generation: Generation,
    from: Generation,
    superseded: Vec<Generation>,
    is_fleet: bool,
    canary: Option<Canary>,
    waiters: Vec<(RequestKey, Outcome)>,
    since: Option<Moment>,
    stage: StageRecord,
    todo: Vec<SlotNumber>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StageRecord {
    Replacing,
    Soaking,
    RollingBack { reason: String, death: Option<Death> },
}

/// The supervisor cannot be written down now: it waits for the shell to carry out an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a spawn or the look for a release is under way")]
pub struct Busy;

/// What was written down makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state of the pool contradicts itself: {0}")]
pub struct Contradiction(String);

impl Supervisor {
    /// Writes itself down.
    ///
    /// # Errors
    /// [`Busy`] before every action that it has asked for was answered.
    pub fn record(&self) -> Result<SupervisorRecord, Busy> {
        let workers: Result<_, _> = self.pool.workers().map(Worker::record).collect();
        Ok(SupervisorRecord {
            policy: self.policy.clone(),
            phase: self.phase,
            workers: workers?,
            slots: self.pool.slots.iter().map(|(number, slot)| slot.record(*number)).collect(),
            timers: self.timers.iter().map(|(at, timer)| (timer, at)).collect(),
            due: self.due.iter().copied().collect(),
            rollout: self.rollout.as_ref().map(Rollout::record).transpose()?,
            recycling: self.recycling.clone(),
            next_worker: self.pool.next_id(),
            generation: self.generation,
            generation_last: self.generation_last,
            previous: self.previous,
            proven: self.proven.iter().copied().collect(),
            releases: self.releases.iter().copied().collect(),
            started_at: self.started_at,
            was_ready: self.was_ready,
            stop_failure: self.stop_failure.clone(),
        })
    }

    /// Makes the supervisor that was written down. It goes on where that one stopped.
    ///
    /// # Errors
    /// [`Contradiction`] if no supervisor can have written this.
    pub fn restore(record: SupervisorRecord) -> Result<Self, Contradiction> {
        record.check()?;
        let mut timers = Timers::default();
        for (timer, moment) in record.timers {
            timers.set(timer, moment);
        }
        let workers = record.workers.into_iter().map(WorkerRecord::restore).collect();
        let slots = record.slots.into_iter().map(|slot| (slot.slot, slot.restore())).collect();
        Ok(Self {
            policy: record.policy,
            phase: record.phase,
            pool: Pool::restore(workers, slots, record.next_worker),
            timers,
            due: VecDeque::from(record.due),
            rollout: record.rollout.map(RolloutRecord::restore),
            recycling: record.recycling,
            generation: record.generation,
            generation_last: record.generation_last,
            previous: record.previous,
            proven: record.proven.into_iter().collect(),
            releases: record.releases.into_iter().collect(),
            started_at: record.started_at,
            was_ready: record.was_ready,
            stop_failure: record.stop_failure,
            actions: Vec::new(),
            #[cfg(test)]
            sabotage: None,
        })
    }
}

impl SupervisorRecord {
    /// The generations whose release the shell holds.
    pub fn releases(&self) -> impl Iterator<Item = Generation> {
        self.releases.iter().copied()
    }

    /// How many workers there are, draining ones too.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What every table of a supervisor takes for granted.
    fn check(&self) -> Result<(), Contradiction> {
        let refuse = |what: String| Err(Contradiction(what));
        let mut workers = BTreeMap::new();
        let (mut pids, mut indexes) = (BTreeSet::new(), BTreeSet::new());
        for worker in &self.workers {
            if worker.pid <= 1 || !pids.insert(worker.pid) {
                return refuse(format!("pid {} of worker {}", worker.pid, worker.id.0));
            }
            if !indexes.insert(worker.index) || worker.index > einhorn_proto::WORKERS_MAX.saturating_mul(2) {
                return refuse(format!("index {} of worker {}", worker.index, worker.id.0));
            }
            if worker.id.0 >= self.next_worker || workers.insert(worker.id, worker).is_some() {
                return refuse(format!("the number of worker {}", worker.id.0));
            }
        }
        let mut slots = BTreeSet::new();
        for slot in &self.slots {
            if !slots.insert(slot.slot) {
                return refuse(format!("slot {} is there twice", slot.slot.0));
            }
            for id in [slot.current, slot.successor].into_iter().flatten() {
                let seated = workers.get(&id);
                let fits = |worker: &&&WorkerRecord| {
                    worker.slot == slot.slot && !matches!(worker.state, StateRecord::Draining { .. })
                };
                if seated.filter(fits).is_none() {
                    return refuse(format!("slot {} has worker {}, which is none of its", slot.slot.0, id.0));
                }
            }
        }
        Ok(())
    }
}

impl Worker {
    fn record(&self) -> Result<WorkerRecord, Busy> {
        let state = match self.state {
            State::Spawning => return Err(Busy),
            State::Starting => StateRecord::Starting,
            State::Up => StateRecord::Up,
            State::Draining(drain) => {
                StateRecord::Draining { since: drain.since, signal: drain.signal, sent: drain.sent }
            }
        };
        Ok(WorkerRecord {
            id: self.id,
            slot: self.slot,
            index: self.index,
            generation: self.generation,
            pid: self.pid.ok_or(Busy)?.as_raw(),
            state,
            spawned_at: self.spawned_at,
            acked_at: self.acked_at,
            pinged_at: self.pinged_at,
            ping_word: self.ping_word.clone(),
            text: self.text.clone(),
            last_words: self.last_words.clone(),
        })
    }
}

impl WorkerRecord {
    fn restore(self) -> Worker {
        Worker {
            id: self.id,
            slot: self.slot,
            index: self.index,
            generation: self.generation,
            state: match self.state {
                StateRecord::Starting => State::Starting,
                StateRecord::Up => State::Up,
                StateRecord::Draining { since, signal, sent } => {
                    State::Draining(Drain { since, signal, sent })
                }
            },
            pid: Some(Pid::from_raw(self.pid)),
            spawned_at: self.spawned_at,
            acked_at: self.acked_at,
            pinged_at: self.pinged_at,
            ping_word: self.ping_word,
            text: self.text,
            last_words: self.last_words,
        }
    }
}

impl Slot {
    fn record(&self, slot: SlotNumber) -> SlotRecord {
        SlotRecord {
            slot,
            current: self.current,
            successor: self.successor,
            generation: self.generation,
            attempts: self.attempts,
            succession: self.succession,
            is_due: self.is_due,
            given_up: self.given_up,
            restarts: self.restarts,
            last_death: self.last_death.as_ref().map(|(at, death)| (*at, death.clone())),
        }
    }
}

impl SlotRecord {
    fn restore(self) -> Slot {
        Slot {
            current: self.current,
            successor: self.successor,
            generation: self.generation,
            attempts: self.attempts,
            succession: self.succession,
            is_due: self.is_due,
            given_up: self.given_up,
            restarts: self.restarts,
            last_death: self.last_death,
        }
    }
}

impl Rollout {
    fn record(&self) -> Result<RolloutRecord, Busy> {
        Ok(RolloutRecord {
            kind: self.kind,
            generation: self.generation,
            from: self.from,
            superseded: self.superseded.clone(),
            is_fleet: self.is_fleet,
            canary: self.canary,
            waiters: self.waiters.iter().map(|waiter| (waiter.request, waiter.wants)).collect(),
            since: self.since,
            stage: match &self.stage {
                Stage::Resolving => return Err(Busy),
                Stage::Replacing => StageRecord::Replacing,
                Stage::Soaking => StageRecord::Soaking,
                Stage::RollingBack(Failure { reason, death }) => {
                    StageRecord::RollingBack { reason: reason.clone(), death: death.clone() }
                }
            },
            todo: self.todo.iter().copied().collect(),
        })
    }
}

impl RolloutRecord {
    fn restore(self) -> Rollout {
        Rollout {
            kind: self.kind,
            generation: self.generation,
            from: self.from,
            superseded: self.superseded,
            is_fleet: self.is_fleet,
            canary: self.canary,
            waiters: self.waiters.into_iter().map(|(request, wants)| Waiter { request, wants }).collect(),
            since: self.since,
            stage: match self.stage {
                StageRecord::Replacing => Stage::Replacing,
                StageRecord::Soaking => Stage::Soaking,
                StageRecord::RollingBack { reason, death } => Stage::RollingBack(Failure { reason, death }),
            },
            todo: VecDeque::from(self.todo),
        }
    }
}
