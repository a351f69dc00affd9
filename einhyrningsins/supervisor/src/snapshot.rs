//! How the pool is, for `status` and `state`.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use einhorn_proto::{
    Counts, LastUpgrade, Lasting, LeftoverStatus, MasterState, Pace, Recycled, RolloutKind, SignalReason,
    SlotStatus, UpgradeStage, UpgradeStatus, WorkerState, WorkerStatus,
};

use super::event::shown;
use super::moment::{Moment, milliseconds};
use super::plan::{Plan, Rollout, Stage};
use super::signal::{Pid, Signal};
use super::slot::Holder;
use super::tables::count;
use super::worker::{State, Worker};
use super::{Generation, Supervisor};

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
    /// How many upgrades wait for its end.
    pub queued: u32,
    /// The last rollout that has ended.
    pub last_upgrade: Option<LastUpgrade>,
    /// Generations of which a worker has drained for long.
    pub lasting: Vec<Lasting>,
    /// What workers have left behind.
    pub leftovers: Vec<LeftoverStatus>,
    /// How many workers may start at a time.
    pub pace: Pace,
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
    /// How many upgrades wait for its end.
    pub queued: u32,
}

/// Details of a worker that only einhorn's clients get.
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
        let mut workers: Vec<_> =
            self.tables.pool.workers().filter_map(|worker| status_of(worker, now)).collect();
        // Stable: within a slot the order of ids, which is that of age, stays.
        workers.sort_by_key(|worker| in_order(worker.slot.0));
        Snapshot {
            state: self.master_state(),
            generation: self.tables.plan.rollout().map_or(self.tables.releases.serving(), Rollout::to),
            wanted: self.tables.wanted(),
            up: count(self.tables.pool.up()),
            starting: count(self.tables.pool.unacked()),
            draining: count(self.tables.pool.draining()),
            slots: self.slot_statuses(now),
            workers,
            recycled: self.tables.recycling.counts(),
            upgrade: self.upgrade_status(now),
            queued: count(self.tables.queue.len()),
            last_upgrade: self.tables.aftermath.last(now),
            lasting: self.tables.lasting(now),
            leftovers: self.tables.leftovers.statuses(now),
            pace: self.tables.pace(),
        }
    }

    /// How the pool is now, without a table of its workers.
    #[must_use]
    pub fn summary(&self, now: Moment) -> Summary {
        Summary {
            state: self.master_state(),
            was_ready: self.tables.was_ready,
            generation: self.tables.releases.serving(),
            wanted: self.tables.wanted(),
            up: count(self.tables.pool.up()),
            live: count(self.tables.pool.live()),
            given_up: count(self.tables.pool.given_up.len()),
            upgrade: self.upgrade_status(now),
            queued: count(self.tables.queue.len()),
        }
    }

    /// The pids of all live workers.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.tables.pool.workers().filter_map(|worker| worker.pid)
    }

    /// The workers that have not acked, and when they were spawned.
    pub fn starting(&self) -> impl Iterator<Item = (Pid, Moment)> {
        let starting = self.tables.pool.workers().filter(|worker| worker.is_unacked());
        starting.filter_map(|worker| Some((worker.pid?, worker.spawned_at)))
    }

    /// The pids of the workers that were not asked to stop.
    pub fn serving_pids(&self) -> impl Iterator<Item = Pid> {
        let serving = self.tables.pool.workers().filter(|worker| worker.is_undrained());
        serving.filter_map(|worker| worker.pid)
    }

    /// Whether a release is being tried: a worker of it is checked, or will be.
    #[must_use]
    pub fn is_trying(&self) -> bool {
        self.tables.trial.is_some()
    }

    /// The label that a client gave to the release of `generation`.
    #[must_use]
    pub fn release_label(&self, generation: Generation) -> Option<&String> {
        self.tables.releases.label(generation)
    }

    /// How workers of `generation` are asked to stop, as far as that is known.
    #[must_use]
    pub fn stop_signals(&self, generation: Generation) -> &[(Signal, SignalReason)] {
        self.tables.releases.conventions(generation)
    }

    /// How many workers live, draining ones too.
    #[must_use]
    pub fn live(&self) -> usize {
        self.tables.pool.live()
    }

    /// Whether the master is stopping, or does not run yet: it begins nothing then.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        !self.tables.plan.is_running()
    }

    /// More of each worker that has a pid, in the order of the snapshot.
    #[must_use]
    pub fn worker_details(&self, now: Moment) -> Vec<WorkerDetail> {
        let mut workers: Vec<_> = self.tables.pool.workers().filter(|worker| worker.pid.is_some()).collect();
        workers.sort_by_key(|worker| in_order(worker.slot));
        let details = workers.into_iter().filter_map(|worker| {
            let drain = worker.drain();
            Some(WorkerDetail {
                pid: worker.pid?,
                stop_signals: drain.map_or(Vec::new(), |drain| drain.sent.signals()),
                asked_to_stop: drain.map(|drain| now - drain.since),
                ping_word: worker.ping_word.clone(),
            })
        });
        details.collect()
    }

    /// Whether `pid` is a live worker: only then may an ack be believed.
    #[must_use]
    pub fn is_worker(&self, pid: Pid) -> bool {
        self.tables.pool.by_pid(pid).is_some()
    }

    /// Whether `pid` is a worker that has not acked.
    #[must_use]
    pub fn is_unacked(&self, pid: Pid) -> bool {
        self.tables.pool.by_pid(pid).is_some_and(Worker::is_unacked)
    }

    fn master_state(&self) -> MasterState {
        match self.tables.plan {
            Plan::Stopping { .. } | Plan::Exited => MasterState::Stopping,
            Plan::Rolling(_) => MasterState::Upgrading,
            Plan::Waiting | Plan::Steady if !self.tables.was_ready => MasterState::Starting,
            Plan::Waiting | Plan::Steady => MasterState::Running,
        }
    }

    fn slot_statuses(&self, now: Moment) -> Vec<SlotStatus> {
        let slots = self.tables.pool.slots().map(|(number, slot)| SlotStatus {
            slot: number.0,
            restarts: slot.restarts,
            tries: slot.attempts.tries,
            given_up: slot.holder == Holder::GivenUp,
            next_spawn_ms: match slot.holder {
                Holder::Empty { due } => Some(milliseconds(due - now)),
                Holder::GivenUp | Holder::Held { .. } | Holder::Passing { .. } | Holder::Closed => None,
            },
            last_death: slot.last_death.as_ref().map(|(_, death)| death.clone()),
            last_death_age_ms: slot.last_death.as_ref().map(|(at, _)| milliseconds(now - *at)),
        });
        slots.collect()
    }

    /// The number of workers asked for.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        self.tables.wanted()
    }

    /// How many workers were replaced while they served, by reason.
    #[must_use]
    pub fn recycled(&self) -> Recycled {
        self.tables.recycling.counts()
    }

    /// How far the rollout that runs is.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        let rollout = self.tables.plan.rollout()?;
        let pool = &self.tables.pool;
        let upgraded = pool.up_of(rollout.to());
        let done = if rollout.is_rolling_back() { pool.up() - upgraded } else { upgraded };
        Some(Counts {
            kind: rollout.kind(),
            stage: stage_of(rollout),
            generation: rollout.to().0,
            done: count(done),
            wanted: self.tables.wanted(),
            starting: count(pool.unacked_of(rollout.target())),
            draining: count(pool.draining()),
            ack_within_ms: self.ack_within_ms(),
        })
    }

    fn ack_within_ms(&self) -> Option<u64> {
        self.tables.policy.ack.within().map(milliseconds)
    }

    /// The upgrade that runs.
    pub(crate) fn upgrade_status(&self, now: Moment) -> Option<UpgradeStatus> {
        let rollout = self.tables.plan.rollout()?;
        Some(UpgradeStatus {
            kind: rollout.kind(),
            stage: stage_of(rollout),
            generation: rollout.to().0,
            from: rollout.from().0,
            soak_left_ms: rollout.soak_ends().map(|at| milliseconds(at - now)),
            upgraded: count(self.tables.pool.up_of(rollout.to())),
            wanted: self.tables.wanted(),
            starting: count(self.tables.pool.unacked_of(rollout.to())),
            ack_within_ms: self.ack_within_ms(),
            age_ms: rollout.since().map_or(0, |since| milliseconds(now - since)),
        })
    }
}

impl Supervisor {
    /// The upgrade that the shell prepares.
    pub(crate) fn prepared_status(&self) -> Option<UpgradeStatus> {
        self.tables.queue.is_preparing().then(|| UpgradeStatus {
            kind: RolloutKind::Upgrade,
            stage: UpgradeStage::Resolving,
            generation: self.tables.releases.upcoming().0,
            from: self.tables.releases.serving().0,
            soak_left_ms: None,
            upgraded: 0,
            wanted: self.tables.wanted(),
            starting: 0,
            ack_within_ms: None,
            age_ms: 0,
        })
    }
}

fn stage_of(rollout: &Rollout) -> UpgradeStage {
    match rollout.stage() {
        Stage::Resolving => UpgradeStage::Resolving,
        Stage::Trying => UpgradeStage::Checking,
        Stage::Replacing => UpgradeStage::Replacing,
        Stage::Soaking { .. } => UpgradeStage::Soaking,
        Stage::RollingBack { .. } => UpgradeStage::RollingBack,
    }
}

/// Workers stand by slot, and after those the trial worker.
fn in_order<T: Ord>(slot: Option<T>) -> (bool, Option<T>) {
    (slot.is_none(), slot)
}

fn status_of(worker: &Worker, now: Moment) -> Option<WorkerStatus> {
    let pid = worker.pid?;
    Some(WorkerStatus {
        slot: shown(worker.slot),
        index: worker.index,
        pid: pid.as_raw(),
        start_ticks: worker.start_ticks,
        generation: worker.generation.0,
        state: match worker.state {
            State::Spawning | State::Starting(_) => WorkerState::Starting,
            State::Up { .. } => WorkerState::Up,
            State::Draining(_) => WorkerState::Draining,
        },
        age_ms: milliseconds(now - worker.spawned_at),
        boot_ms: worker.acked_at.map(|at| milliseconds(at - worker.spawned_at)),
        pinged_ms: worker.pinged_at.map(|at| milliseconds(now - at)),
        text: worker.text.clone(),
        stopped: worker.is_suspended,
        unsignallable: worker.is_unsignallable,
    })
}
