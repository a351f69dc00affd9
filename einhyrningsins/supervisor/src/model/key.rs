//! What of a world decides its future, written down so that two worlds with the same future look the same.
//!
//! Times are relative to now, and ages count up to the longest backoff that can follow. Workers, generations and
//! requests are renamed by order, which is all that the core ever asks of them. Left out is what only messages
//! read: texts, pings, past deaths, what a draining worker had been. Indexes are left out because nothing
//! is decided by them; that the free ones are those that no worker has is asserted instead.

use core::time::Duration;
use std::collections::BTreeSet;

use super::Signal;

use super::super::plan::{Plan, Stage};
use super::super::slot::Holder;
use super::super::trial::{Progress, Trial};
use super::super::worker::{Boot, Next, State, Worker};
use super::super::*;
use super::world::World;

/// One key; worlds with equal keys and equal means left have equal futures.
pub(super) type Key = Box<[u8]>;

/// The stop signals that a world of the model knows.
const STOPS: [Signal; 4] = [Signal::SIGUSR2, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGKILL];

pub(super) fn key_of(world: &World, age_max: Duration) -> Key {
    let mut writer = Writer::new(world);
    writer.plan();
    writer.workers(age_max);
    writer.slots();
    writer.generations();
    writer.rollout();
    writer.trial();
    writer.recycling();
    writer.queue();
    writer.aftermath();
    writer.leftovers();
    writer.allowance();
    writer.bytes.into_boxed_slice()
}

struct Writer<'a> {
    world: &'a World,
    supervisor: &'a Supervisor,
    /// Undrained ones by age, then draining ones by age.
    workers: Vec<&'a Worker>,
    generations: Vec<Generation>,
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(world: &'a World) -> Self {
        let supervisor = &world.supervisor;
        let (mut workers, draining): (Vec<_>, Vec<_>) =
            supervisor.tables.pool.workers().partition(|worker| worker.is_undrained());
        let mut generations: BTreeSet<_> = workers.iter().map(|worker| worker.generation).collect();
        let Tables { pool, plan, releases, .. } = &supervisor.tables;
        generations.extend(pool.slots().map(|(_, slot)| slot.generation));
        generations.insert(releases.serving());
        generations.extend(releases.previous());
        generations.extend(releases.held());
        generations.extend(releases.proven());
        generations.extend(&world.onlooker.resolving);
        generations.extend(supervisor.tables.trial.as_ref().map(Trial::generation));
        generations.extend(world.onlooker.unchecked());
        if let Some(rollout) = plan.rollout() {
            generations.insert(rollout.from());
            generations.extend(rollout.brought());
        }
        workers.extend(draining);
        let generations = generations.into_iter().collect();
        Self { world, supervisor, workers, generations, bytes: Vec::with_capacity(128) }
    }

    fn small(&mut self, number: usize) {
        self.bytes.push(u8::try_from(number).expect("the model's pools are small"));
    }

    fn time(&mut self, duration: Duration) {
        let ms = u32::try_from(duration.as_millis()).expect("the model's times are short");
        self.bytes.extend(ms.to_le_bytes());
    }

    /// One more than its place by age, or 0 for none.
    fn worker(&mut self, id: Option<WorkerId>) {
        let place = id.and_then(|id| self.workers.iter().position(|worker| worker.id == id));
        self.small(place.map_or(0, |place| place + 1));
    }

    fn generation(&mut self, generation: Generation) {
        let place = self.generations.iter().position(|known| *known == generation);
        self.small(place.expect("every generation in use was listed"));
    }

    fn plan(&mut self) {
        let Tables { plan, was_ready, .. } = &self.supervisor.tables;
        let kind = match plan {
            Plan::Waiting => [0, 0],
            Plan::Steady | Plan::Rolling(_) => [1, u8::from(*was_ready)],
            Plan::Stopping { code, .. } => [2, *code],
            Plan::Exited => [3, 0],
        };
        self.bytes.extend(kind);
        if let Plan::Stopping { stepped_at, .. } = plan {
            // Until then it is not taken a step further.
            self.time((self.world.now - *stepped_at).min(Duration::from_secs(1)));
        }
        // Whether time has passed that it was not told of.
        self.small(usize::from(self.supervisor.now < self.world.now));
    }

    /// How long until `at`; what has come counts as now.
    fn until(&mut self, kind: usize, at: Option<Moment>) {
        self.small(if at.is_some() { kind } else { 0 });
        if let Some(at) = at {
            self.time(at - self.world.now);
        }
    }

    fn workers(&mut self, age_max: Duration) {
        self.small(self.workers.len());
        for worker in self.workers.clone() {
            self.small(usize::from(worker.pid.is_some()));
            self.small(usize::from(worker.is_unsignallable));
            let onlooker = &self.world.onlooker;
            let is_in = |pids: &BTreeSet<Pid>| worker.pid.is_some_and(|pid| pids.contains(&pid));
            let heard = worker.pid.is_some_and(|pid| onlooker.heard.contains_key(&pid));
            let refuses = is_in(&onlooker.refusing);
            self.bytes.extend([u8::from(refuses), u8::from(heard)]);
            match worker.state {
                State::Draining(drain) => {
                    let place = STOPS.iter().position(|stop| Some(*stop) == drain.signal);
                    self.small(10 + place.unwrap_or(STOPS.len()));
                    let had = STOPS.map(|stop| usize::from(drain.has_had(stop)));
                    had.into_iter().for_each(|had| self.small(had));
                    let seen = worker.pid.and_then(|pid| self.world.onlooker.processes.get(&pid));
                    let seen = STOPS.map(|stop| usize::from(seen.is_some_and(|seen| seen.contains(&stop))));
                    seen.into_iter().for_each(|seen| self.small(seen));
                    match drain.next {
                        Next::Nothing => self.until(0, None),
                        Next::Ask(at) => self.until(1, Some(at)),
                        Next::Kill(at) => self.until(2, Some(at)),
                        Next::End => self.small(3),
                    }
                    continue;
                }
                State::Spawning => self.small(0),
                State::Starting(boot) => {
                    self.small(1);
                    match boot {
                        Boot::Unlimited => self.until(0, None),
                        Boot::AckedAt(at) => self.until(1, Some(at)),
                        Boot::AckBy(at) => self.until(2, Some(at)),
                    }
                }
                State::Up { old_at } => {
                    self.small(2);
                    self.until(1, old_at);
                }
            }
            let is_forgotten = !self.supervisor.tables.recycling.has_lost_socket(worker.id);
            self.small(usize::from(is_in(&onlooker.unreached) && is_forgotten));
            self.until(1, worker.ping_due);
            self.small(worker.slot.map_or(0, |slot| 1 + slot.0 as usize));
            self.generation(worker.generation);
            self.time((self.world.now - worker.spawned_at).min(age_max));
        }
    }

    fn slots(&mut self) {
        self.small(self.supervisor.tables.pool.size());
        for (number, slot) in self.supervisor.tables.pool.slots() {
            self.small(number.0 as usize);
            self.worker(slot.current());
            self.worker(slot.successor());
            self.generation(slot.generation);
            self.small(slot.attempts.tries as usize);
            self.small(slot.attempts.deaths as usize);
            match slot.holder {
                Holder::Empty { due } => self.until(1, Some(due)),
                Holder::GivenUp => self.small(2),
                Holder::Held { .. } | Holder::Passing { .. } => self.small(3),
                Holder::Closed => self.small(4),
            }
        }
        self.order_of_empty_slots();
    }

    /// The longest due is filled first.
    fn order_of_empty_slots(&mut self) {
        let slots = self.supervisor.tables.pool.slots();
        let mut empty: Vec<_> = slots
            .filter_map(|(number, slot)| match slot.holder {
                Holder::Empty { due } => Some((due, number)),
                _ => None,
            })
            .collect();
        empty.sort_unstable();
        empty.into_iter().for_each(|(_, number)| self.small(number.0 as usize));
    }

    fn generations(&mut self) {
        let releases = &self.supervisor.tables.releases;
        self.generation(releases.serving());
        let lists: [Vec<_>; 4] = [
            releases.proven().collect(),
            releases.held().collect(),
            releases.previous().into_iter().collect(),
            self.world.onlooker.resolving.clone(),
        ];
        for list in lists {
            self.small(list.len());
            list.into_iter().for_each(|generation| self.generation(generation));
        }
        let Tables { policy, .. } = &self.supervisor.tables;
        self.terms(policy.terms());
        for generation in self.generations.clone() {
            self.terms(self.supervisor.terms(generation));
        }
    }

    /// One byte for most worlds: those in which nobody has changed anything.
    fn terms(&mut self, terms: Terms) {
        let first = self.world.first_terms;
        if terms == first {
            return self.small(0);
        }
        self.small(1 + usize::from(terms.stop_group));
        self.small(terms.graceful_signal.map_or(0, |signal| 1 + signal as usize));
        match terms.ack {
            AckMode::Timer(after) => self.time(after),
            AckMode::Manual(deadline) => self.time(deadline.unwrap_or(NO_END) + NO_END),
        }
    }

    fn recycling(&mut self) {
        let recycling = &self.supervisor.tables.recycling;
        self.small(recycling.failures() as usize);
        let queue: Vec<_> = recycling.queue().collect();
        self.small(queue.len());
        for (worker, reason) in queue {
            self.worker(Some(worker));
            self.bytes.extend([reason as u8, u8::from(recycling.has_lost_socket(worker))]);
        }
        self.until(1, recycling.next_deadline(self.supervisor.reached));
        match recycling.turn() {
            Some(turn) => {
                self.bytes.extend([1, turn.slot.0 as u8, u8::from(turn.is_succeeded)]);
                self.bytes.extend([turn.reason as u8, u8::from(recycling.has_lost_socket(turn.old))]);
                self.worker(Some(turn.old));
            }
            None => self.small(0),
        }
    }

    fn queue(&mut self) {
        let queue = &self.supervisor.tables.queue;
        self.small(queue.len() + 16 * self.world.onlooker.preparing.len());
        self.small(queue.requests().count());
        let is_held = self.supervisor.is_held_for_upgrade;
        self.bytes.extend([is_held, self.world.onlooker.held.is_some()].map(u8::from));
        self.bytes.push(u8::from(queue.is_hung_up()));
    }

    fn aftermath(&mut self) {
        let pending: Vec<_> = self.supervisor.tables.aftermath.pending().collect();
        self.small(pending.len());
        for ended in pending {
            self.until(1, ended.report_at);
            self.bytes.push(ended.report.outcome as u8);
            self.small(ended.waiters.len());
            ended.waiters.iter().for_each(|waiter| self.bytes.push(waiter.wants as u8));
            self.small(ended.old.len());
            ended.old.iter().for_each(|id| self.worker(Some(*id)));
        }
    }

    fn leftovers(&mut self) {
        let leftovers: Vec<_> = self.supervisor.tables.leftovers.iter().collect();
        self.small(leftovers.len());
        for (leader, leftover) in leftovers {
            self.small(usize::from(self.world.onlooker.empty_groups.contains(&leader)));
            self.small(usize::from(self.world.onlooker.strays.contains(&leader)));
            self.small(usize::from(leftover.is_told()));
            self.until(1, (!leftover.is_told()).then(|| leftover.settle_at()));
            let mut reports = self.supervisor.tables.aftermath.pending();
            let report = reports.position(|ended| ended.old.contains(&leftover.worker()));
            self.small(report.map_or(0, |place| place + 1));
            leftover.deadlines(leader).for_each(|(at, _)| self.until(1, Some(at)));
            STOPS.into_iter().for_each(|stop| self.small(usize::from(leftover.stops.has(stop))));
        }
    }

    fn allowance(&mut self) {
        self.small(self.supervisor.tables.pace().workers as usize);
        self.small(self.supervisor.tables.allowance.doublings() as usize);
    }

    fn trial(&mut self) {
        self.small(self.world.onlooker.jobs.len());
        let unchecked: Vec<_> = self.world.onlooker.unchecked().collect();
        self.small(unchecked.len());
        unchecked.into_iter().for_each(|generation| self.generation(generation));
        let Some(trial) = &self.supervisor.tables.trial else { return self.small(0) };
        self.small(1);
        self.generation(trial.generation());
        self.until(1, Some(trial.spawn_by()));
        match *trial.progress() {
            Progress::Due(at) => self.until(1, Some(at)),
            Progress::Booting(worker) => self.place(2, worker),
            Progress::Checking(worker, _) => self.place(3, worker),
            Progress::Passed(worker) => self.place(4, worker),
            Progress::Failed(..) => self.small(5),
        }
    }

    fn place(&mut self, kind: usize, worker: WorkerId) {
        self.small(kind);
        self.worker(Some(worker));
    }

    fn rollout(&mut self) {
        let Some(rollout) = self.supervisor.tables.plan.rollout() else { return self.small(0) };
        self.small(match rollout.stage() {
            Stage::Resolving => 1,
            Stage::Trying => 5,
            Stage::Replacing => 2,
            Stage::Soaking { .. } => 3,
            Stage::RollingBack { .. } => 4,
        });
        self.small(usize::from(rollout.is_to_be_checked()));
        self.until(1, rollout.soak_ends());
        match rollout.soak_checking() {
            None => self.small(0),
            Some(check) => {
                self.small(1 + check.failures() as usize);
                self.until(1, check.due());
            }
        }
        self.bytes.extend([rollout.kind() as u8, u8::from(rollout.is_fleet_forward())]);
        self.small(rollout.options().settings.len());
        self.small(rollout.undo().len());
        for undo in rollout.undo() {
            // Others are not in the model's plans.
            match undo.before() {
                Setting::Workers(before) => self.small(*before as usize),
                Setting::Ack(ack) => self.terms(Terms { ack: *ack, ..self.world.first_terms }),
                Setting::GracefulSignal(graceful_signal) => {
                    self.terms(Terms { graceful_signal: *graceful_signal, ..self.world.first_terms });
                }
                _ => {}
            }
        }
        self.generation(rollout.from());
        let brought: Vec<_> = rollout.brought().collect();
        self.small(brought.len());
        brought.into_iter().for_each(|generation| self.generation(generation));
        match rollout.canary() {
            Some(canary) => {
                self.small(1 + canary.slots as usize);
                self.time(canary.soak.unwrap_or(NO_END));
            }
            None => self.small(0),
        }
        self.small(rollout.waiters().len());
        rollout.waiters().iter().for_each(|waiter| self.bytes.push(waiter.wants as u8));
        for (number, _) in self.supervisor.tables.pool.slots() {
            let attempts = rollout.attempts(number);
            self.small(attempts.tries as usize);
            self.small(attempts.deaths as usize);
            self.until(1, rollout.retry_of(number));
        }
    }
}

/// Stands for a soak that lasts until somebody ends it; no time of the model is as long.
const NO_END: Duration = Duration::from_secs(1_000_000);
