//! All that the core knows between two events. This is what a master hands over to its next image.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use einhorn_proto::{Lasting, Pace};
use serde::{Deserialize, Serialize};

use super::aftermath::Aftermath;
use super::allowance::Allowance;
use super::event::{Generation, JobId};
use super::leftovers::Leftovers;
use super::moment::{Moment, milliseconds};
use super::plan::{Plan, Stage};
use super::policy::{Policy, Terms};
use super::pool::Pool;
use super::queue::Queue;
use super::recycling::Recycling;
use super::releases::Releases;
use super::trial::Trial;
use super::worker::Worker;

/// All that a supervisor knows between two events, written down and read by `serde`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tables {
    pub(crate) policy: Policy,
    pub(crate) plan: Plan,
    pub(crate) pool: Pool,
    pub(crate) releases: Releases,
    pub(crate) recycling: Recycling,
    /// Upgrades that have not begun; a master of format 2 knows none.
    #[serde(default)]
    pub(crate) queue: Queue,
    #[serde(default)]
    pub(crate) aftermath: Aftermath,
    #[serde(default)]
    pub(crate) leftovers: Leftovers,
    #[serde(default)]
    pub(crate) allowance: Allowance,
    /// The release that is being tried, if one is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) trial: Option<Trial>,
    /// The last number given to a job.
    #[serde(default, skip_serializing_if = "is_default")]
    jobs: u64,
    pub(crate) started_at: Option<Moment>,
    /// Whether the pool was once full. Until then spawns are not paced.
    pub(crate) was_ready: bool,
}

/// The tables cannot be handed over now: the core waits for the shell to carry out an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a spawn or the look for a release is under way")]
pub struct Busy;

/// The tables make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state of the pool contradicts itself: {0}")]
pub struct Contradiction(pub(crate) String);

impl Tables {
    /// Those of a master that has not started.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            plan: Plan::Waiting,
            pool: Pool::default(),
            releases: Releases::first(),
            recycling: Recycling::default(),
            queue: Queue::default(),
            aftermath: Aftermath::default(),
            leftovers: Leftovers::default(),
            allowance: Allowance::default(),
            trial: None,
            jobs: 0,
            started_at: None,
            was_ready: false,
        }
    }

    /// The generations whose release the shell holds.
    pub fn releases(&self) -> impl Iterator<Item = Generation> {
        self.releases.held()
    }

    /// How many workers there are, draining ones too.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.pool.live()
    }

    /// Gives out the number of a new job.
    pub(crate) fn next_job(&mut self) -> JobId {
        self.jobs += 1;
        JobId(self.jobs)
    }

    /// Whether the first start waits for the check of its release: no slot is filled before.
    pub(crate) fn is_first_tried(&self) -> bool {
        self.trial.is_some() && self.plan == Plan::Steady
    }

    /// Whether there is a trial, a trial worker, or something that one has left behind, of all of which older masters do not
    /// know.
    #[must_use]
    pub fn has_trial(&self) -> bool {
        self.trial.is_some() || self.pool.workers().any(Worker::is_trial) || self.leftovers.has_trial()
    }

    /// Whether an action waits for its answer.
    pub(crate) fn is_busy(&self) -> bool {
        let is_resolving = self.plan.rollout().is_some_and(|rollout| *rollout.stage() == Stage::Resolving);
        is_resolving || !self.pool.unspawned.is_empty()
    }

    /// What the workers of `generation` are held to.
    pub(crate) fn terms(&self, generation: Generation) -> Terms {
        self.releases.terms(generation, &self.policy)
    }

    /// A new generation has these terms. The others keep theirs, as long as something is there of them.
    pub(crate) fn add_terms(&mut self, generation: Generation, terms: Terms) {
        let workers = self.pool.workers().map(|worker| worker.generation);
        let known = self.releases.held().chain(workers).chain(self.leftovers.generations());
        let known: BTreeMap<_, _> = known.map(|known| (known, self.terms(known))).collect();
        self.releases.set_terms(known.into_iter().chain([(generation, terms)]).collect());
    }

    /// The number of workers asked for.
    pub(crate) fn wanted(&self) -> u32 {
        match self.plan {
            Plan::Waiting => self.policy.workers,
            _ => count(self.pool.size()),
        }
    }

    /// How many workers may live at a time, draining ones counted.
    ///
    /// One that cannot be signalled may never go: it takes nobody's place, or a rollout would wait for it for ever.
    pub(crate) fn live_max(&self) -> Option<usize> {
        let bound = self.pool.size() + self.pool.out_of_reach.len();
        self.policy.upgrade_additional_max.map(|more| bound + more as usize)
    }

    /// Whether `additional` workers more stay within that.
    pub(crate) fn has_room_for(&self, additional: usize) -> bool {
        self.live_max().is_none_or(|bound| self.pool.live() + additional <= bound)
    }

    /// Whether spawns are bound by the allowance: not before the pool was full, and not in a fleet.
    pub(crate) fn is_paced(&self) -> bool {
        let is_fleet = self.plan.rollout().is_some_and(super::plan::Rollout::is_fleet_forward);
        self.was_ready && !is_fleet
    }

    /// How many unacked workers there may be at this moment.
    pub(crate) fn pace(&self) -> Pace {
        self.allowance.now(&self.policy)
    }

    /// Whether one more worker may be spawned. The shell is asked for one at a time: before each, it can hear of other
    /// things, and a stop finds no queue of workers that are still to be spawned.
    pub(crate) fn may_spawn(&self) -> bool {
        let is_paced = self.is_paced() && self.pool.unacked() >= self.pace().workers as usize;
        self.pool.unspawned.is_empty() && !is_paced && self.has_room_for(1)
    }

    /// Whether each slot that was not given up has a worker that takes traffic.
    pub(crate) fn serves_everywhere(&self) -> bool {
        self.pool.up() + self.pool.given_up.len() == self.pool.size()
    }

    /// The generations of which a worker has drained for long, with all that drain.
    pub(crate) fn lasting(&self, now: Moment) -> Vec<Lasting> {
        let mut lasting: BTreeMap<Generation, (bool, u32, Moment)> = BTreeMap::new();
        for worker in self.pool.workers() {
            if let Some(drain) = worker.drain().filter(|drain| drain.is_asked()) {
                let known = lasting.entry(worker.generation).or_insert((false, 0, drain.since));
                *known = (known.0 || drain.is_long, known.1 + 1, known.2.min(drain.since));
            }
        }
        let lasting = lasting.into_iter().filter(|(_, (is_long, ..))| *is_long);
        let lasting = lasting.map(|(generation, (_, workers, since))| Lasting {
            generation: generation.0,
            workers,
            after_ms: milliseconds(now - since),
        });
        lasting.collect()
    }

    /// The generations that something may still be spawned from.
    pub(crate) fn used_generations(&self) -> BTreeSet<Generation> {
        let mut used: BTreeSet<_> = self.pool.slots().map(|(_, slot)| slot.generation).collect();
        used.extend(self.plan.rollout().iter().flat_map(|rollout| [rollout.to(), rollout.from()]));
        used
    }
}

/// For what there is of each worker and slot: what has its default is left out of a state, which shall be short.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number of workers or slots, as it travels.
pub(crate) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
