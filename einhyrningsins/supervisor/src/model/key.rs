//! What of a world decides its future, written down so that two worlds with the same future look the same.
//!
//! Times are relative to now, and ages count up to the longest backoff that can follow. Workers, generations and
//! requests are renamed by order, which is all that the core ever asks of them. Left out is what only messages
//! read: texts, pings, past deaths, what a draining worker had been. Indexes are left out because nothing
//! is decided by them; that the free ones are those that no worker has is asserted instead.

use core::time::Duration;
use std::collections::BTreeSet;

use super::Signal;

use super::super::rollout::Stage;
use super::super::timers::Timer;
use super::super::worker::{State, Worker};
use super::super::*;
use super::world::World;

/// One key; worlds with equal keys and equal means left have equal futures.
pub(super) type Key = Box<[u8]>;

/// The stop signals that a world of the model knows.
const STOPS: [Signal; 4] = [Signal::SIGUSR2, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGKILL];

pub(super) fn key_of(world: &World, age_max: Duration) -> Key {
    assert!(world.supervisor.pool.indexes_add_up(), "I5: an index is lost, or free twice");
    let mut writer = Writer::new(world);
    writer.phase();
    writer.workers(age_max);
    writer.slots();
    writer.queues();
    writer.generations();
    writer.rollout();
    writer.recycling();
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
            supervisor.pool.workers().partition(|worker| worker.is_undrained());
        let mut generations: BTreeSet<_> = workers.iter().map(|worker| worker.generation).collect();
        generations.extend(supervisor.pool.slots.values().map(|slot| slot.generation));
        generations.insert(supervisor.generation);
        generations.extend(supervisor.previous);
        generations.extend(&supervisor.proven);
        generations.extend(&supervisor.releases);
        generations.extend(&world.onlooker.resolving);
        if let Some(rollout) = &supervisor.rollout {
            generations.extend([rollout.generation, rollout.from]);
            generations.extend(&rollout.superseded);
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

    fn phase(&mut self) {
        let phase = match self.supervisor.phase {
            Phase::Waiting => [0, 0],
            Phase::Running => [1, u8::from(self.supervisor.was_ready)],
            Phase::Stopping { code } => [2, code],
            Phase::Exited => [3, 0],
        };
        self.bytes.extend(phase);
    }

    fn workers(&mut self, age_max: Duration) {
        self.small(self.workers.len());
        for worker in self.workers.clone() {
            self.small(usize::from(worker.pid.is_some()));
            match worker.state {
                State::Draining(drain) => {
                    let place = STOPS.iter().position(|stop| *stop == drain.signal);
                    self.small(10 + place.expect("a stop signal of the model"));
                    let had = STOPS.map(|stop| usize::from(drain.has_had(stop)));
                    had.into_iter().for_each(|had| self.small(had));
                    let seen = worker.pid.and_then(|pid| self.world.onlooker.processes.get(&pid));
                    let seen = STOPS.map(|stop| usize::from(seen.is_some_and(|seen| seen.contains(&stop))));
                    seen.into_iter().for_each(|seen| self.small(seen));
                    continue;
                }
                State::Spawning => self.small(0),
                State::Starting => self.small(1),
                State::Up => self.small(2),
            }
            self.small(worker.slot.0 as usize);
            self.generation(worker.generation);
            self.time((self.world.now - worker.spawned_at).min(age_max));
        }
    }

    fn slots(&mut self) {
        self.small(self.supervisor.pool.slots.len());
        for (number, slot) in &self.supervisor.pool.slots {
            self.small(number.0 as usize);
            self.worker(slot.current);
            self.worker(slot.successor);
            self.generation(slot.generation);
            for attempts in [slot.attempts, slot.succession] {
                self.small(attempts.tries as usize);
                self.small(attempts.deaths as usize);
            }
            self.small(usize::from(slot.is_due) + 2 * usize::from(slot.given_up));
        }
    }

    fn queues(&mut self) {
        self.small(self.supervisor.due.len());
        self.supervisor.due.iter().for_each(|slot| self.small(slot.0 as usize));
        self.small(self.supervisor.timers.iter().count());
        for (at, timer) in self.supervisor.timers.iter() {
            self.time(at - self.world.now);
            match timer {
                Timer::Ack(worker) => self.timer_of_worker(0, worker),
                Timer::Boot(worker) => self.timer_of_worker(1, worker),
                Timer::Kill(worker) => self.timer_of_worker(2, worker),
                Timer::Spawn(slot) => self.bytes.extend([3, slot.0 as u8]),
                Timer::Succeed(slot) => self.bytes.extend([4, slot.0 as u8]),
                Timer::Soak => self.bytes.extend([5, 0]),
                Timer::Recycle => self.bytes.extend([6, 0]),
                Timer::Age(worker) => self.timer_of_worker(7, worker),
                Timer::Ping(worker) => self.timer_of_worker(8, worker),
                Timer::Retire(worker) => self.timer_of_worker(9, worker),
            }
        }
    }

    fn timer_of_worker(&mut self, kind: usize, worker: WorkerId) {
        self.small(kind);
        self.worker(Some(worker));
    }

    fn generations(&mut self) {
        self.generation(self.supervisor.generation);
        let known = [&self.supervisor.proven, &self.supervisor.releases];
        let lists = known.map(|known| known.iter().copied().collect::<Vec<_>>());
        let more = [self.supervisor.previous.into_iter().collect(), self.world.onlooker.resolving.clone()];
        for list in lists.into_iter().chain(more) {
            self.small(list.len());
            list.into_iter().for_each(|generation| self.generation(generation));
        }
    }

    fn recycling(&mut self) {
        let recycling = self.supervisor.recycling.clone();
        self.small(recycling.failures as usize);
        self.small(recycling.queue.len());
        recycling.queue.iter().for_each(|(worker, _)| self.worker(Some(*worker)));
        match recycling.turn {
            Some(turn) => {
                self.bytes.extend([1, turn.slot.0 as u8, u8::from(turn.is_succeeded)]);
                self.worker(Some(turn.old));
            }
            None => self.small(0),
        }
    }

    fn rollout(&mut self) {
        let Some(rollout) = &self.supervisor.rollout else { return self.small(0) };
        self.small(match rollout.stage {
            Stage::Resolving => 1,
            Stage::Replacing => 2,
            Stage::Soaking => 3,
            Stage::RollingBack(_) => 4,
        });
        self.bytes.extend([rollout.kind as u8, u8::from(rollout.is_fleet)]);
        self.generation(rollout.generation);
        self.generation(rollout.from);
        self.small(rollout.superseded.len());
        rollout.superseded.iter().for_each(|generation| self.generation(*generation));
        match rollout.canary {
            Some(canary) => {
                self.small(1 + canary.slots as usize);
                self.time(canary.soak.unwrap_or(NO_END));
            }
            None => self.small(0),
        }
        self.small(rollout.waiters.len());
        rollout.waiters.iter().for_each(|waiter| self.bytes.push(waiter.wants as u8));
        self.small(rollout.todo.len());
        rollout.todo.iter().for_each(|slot| self.small(slot.0 as usize));
    }
}

/// Stands for a soak that lasts until somebody ends it; no time of the model is as long.
const NO_END: Duration = Duration::from_secs(1_000_000);
