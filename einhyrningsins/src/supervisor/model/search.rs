//! Breadth first through every world that a scope allows: each is a clone of the real supervisor and what an
//! onlooker has seen of it.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use einhorn_proto::{AckSource, Termination};
use nix::unistd::Pid;

use super::super::onlooker::{Onlooker, check_rest, good_event};
use super::super::timers::Timer;
use super::super::worker::{State, Worker};
use super::super::*;
use super::key::{Key, key_of};
use super::{Means, Sabotage, Scope};

/// The most steps that a pool may need to come to rest when everybody behaves. Far above what small pools
/// need, far below for ever.
const REST_STEPS_MAX: u32 = 300;

/// What a search that found nothing wrong has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Explored {
    /// Worlds whose every next step was tried.
    pub(super) states: usize,
    /// Worlds that differ in more than the means that are left, those on the way to rest too.
    pub(super) pools: usize,
    /// Steps tried.
    pub(super) transitions: usize,
    /// Steps to the farthest world.
    pub(super) depth: u32,
    /// The most steps to rest from anywhere.
    pub(super) rest: u32,
}

/// A way to a broken invariant; there is no shorter one.
#[derive(Debug)]
pub(super) struct Violation {
    /// The message of the check, which names the invariant.
    pub(super) what: String,
    /// Each step, and what the supervisor then did.
    pub(super) path: Vec<String>,
}

/// Something that may happen next.
#[derive(Debug, Clone)]
enum Step {
    SpawnWorks(WorkerId),
    SpawnFails {
        worker: WorkerId,
        transient: bool,
    },
    Dies(Pid),
    Acks(Pid),
    /// It is measured, and holds more than it may.
    Swells(Pid),
    /// The clock jumps to the next deadline, and the supervisor hears of it.
    Deadline,
    /// The clock jumps to the next deadline, and something else is heard first.
    Late,
    /// No deadline is near, and everybody grows old.
    Idle,
    Resolves(Generation),
    CannotResolve(Generation),
    Command(PoolCommand),
    Abandon(RequestKey),
}

/// A supervisor and all that is outside it.
#[derive(Clone)]
pub(super) struct World {
    pub(super) supervisor: Supervisor,
    pub(super) now: Instant,
    pub(super) onlooker: Onlooker,
    /// What may still go wrong or be asked for.
    means: Means,
    pids: i32,
    requests: u64,
}

impl World {
    /// The world of `scope` before its first step.
    fn new(scope: &Scope, sabotage: Option<Sabotage>) -> Self {
        let mut world = Self {
            supervisor: Supervisor::new(scope.policy.clone()),
            now: Instant::now(),
            onlooker: Onlooker::default(),
            means: Means::default(),
            pids: 100,
            requests: 0,
        };
        world.feed(Event::Started);
        if scope.is_steady_at_first {
            while world.good_step() {}
            world.now += scope.age_max();
        }
        world.means = scope.means;
        world.supervisor.sabotage = sabotage;
        world
    }

    fn feed(&mut self, event: Event) -> Vec<Action> {
        self.onlooker.feed(&mut self.supervisor, self.now, event)
    }

    fn spawning(&self) -> impl Iterator<Item = &Worker> {
        self.supervisor.pool.workers().filter(|worker| worker.pid.is_none())
    }

    /// Everything that may happen next and that the means allow.
    fn steps(&self, scope: &Scope) -> Vec<Step> {
        let means = self.means;
        let mut steps = Vec::new();
        for id in self.spawning().map(|worker| worker.id) {
            steps.push(Step::SpawnWorks(id));
            if means.failures > 0 {
                steps.extend([true, false].map(|transient| Step::SpawnFails { worker: id, transient }));
            }
            if scope.spawns_at_once {
                // The shell answers one spawn after the other before it listens to anybody else.
                return steps;
            }
        }
        for (pid, stops) in &self.onlooker.processes {
            if means.deaths > 0 || !stops.is_empty() {
                steps.push(Step::Dies(*pid));
            }
            if self.awaits_ack(*pid) {
                steps.push(Step::Acks(*pid));
            }
            if means.swells > 0 {
                steps.push(Step::Swells(*pid));
            }
        }
        match self.supervisor.next_deadline() {
            Some(at) if self.boots_missed(at) <= means.deaths => {
                steps.push(Step::Deadline);
                if means.lates > 0 && at > self.now {
                    steps.push(Step::Late);
                }
            }
            Some(_) => {}
            None if self.is_somebody_young(scope.age_max()) => steps.push(Step::Idle),
            None => {}
        }
        for &generation in &self.onlooker.resolving {
            steps.push(Step::Resolves(generation));
            if means.failures > 0 {
                steps.push(Step::CannotResolve(generation));
            }
        }
        let wishes = scope
            .commands
            .iter()
            .filter(|command| self.price(&Step::Command((*command).clone())).fits(means));
        steps.extend(wishes.cloned().map(Step::Command));
        if means.abandons > 0 {
            steps.extend(self.onlooker.pending.first().map(|request| Step::Abandon(*request)));
        }
        steps
    }

    fn awaits_ack(&self, pid: Pid) -> bool {
        self.supervisor.pool.by_pid(pid).is_some_and(|worker| worker.state == State::Starting)
    }

    fn is_somebody_young(&self, age_max: Duration) -> bool {
        let mut workers = self.supervisor.pool.workers().filter(|worker| worker.is_undrained());
        workers.any(|worker| self.now - worker.spawned_at < age_max)
    }

    /// Acks from whoever need not ack, and from a stranger: they change nothing, so they are no steps.
    fn hear_strange_acks(&mut self) {
        let pids = self.onlooker.processes.keys().filter(|pid| !self.awaits_ack(**pid));
        for pid in pids.copied().chain([Pid::from_raw(1)]).collect::<Vec<_>>() {
            self.feed(Event::Acked { pid, source: AckSource::Control });
        }
    }

    /// How many workers miss their boot deadline at `at`: each is a death as any other.
    fn boots_missed(&self, at: Instant) -> u8 {
        let due = self.supervisor.timers.iter().take_while(|(due, _)| *due <= at);
        due.filter(|(_, timer)| matches!(timer, Timer::Boot(_))).count().try_into().unwrap_or(u8::MAX)
    }

    /// What a step takes of the means.
    fn price(&self, step: &Step) -> Means {
        let none = Means::default();
        match step {
            Step::SpawnFails { .. } | Step::CannotResolve(_) => Means { failures: 1, ..none },
            Step::Dies(pid) if self.onlooker.processes[pid].is_empty() => Means { deaths: 1, ..none },
            Step::Deadline => {
                let at = self.supervisor.next_deadline();
                Means { deaths: at.map_or(0, |at| self.boots_missed(at)), ..none }
            }
            Step::Late => Means { lates: 1, ..none },
            Step::Swells(_) => Means { swells: 1, ..none },
            Step::Abandon(_) => Means { abandons: 1, ..none },
            Step::Command(command) => match command {
                PoolCommand::Upgrade(_) => Means { upgrades: 1, ..none },
                PoolCommand::Inc(_) | PoolCommand::Dec(_) | PoolCommand::SetWorkers(_) => {
                    Means { resizes: 1, ..none }
                }
                PoolCommand::Stop { .. } => Means { stops: 1, ..none },
                _ => Means { turns: 1, ..none },
            },
            _ => none,
        }
    }

    /// Takes a step, and checks all that can be checked after it.
    fn take(&mut self, step: &Step, scope: &Scope) -> Vec<Action> {
        self.means = self.means.less(self.price(step));
        match step {
            &Step::SpawnWorks(worker) => {
                self.pids += 1;
                self.feed(Event::Spawned { worker, pid: Pid::from_raw(self.pids) })
            }
            &Step::SpawnFails { worker, transient } => {
                self.feed(Event::SpawnFailed { worker, reason: String::new(), transient })
            }
            &Step::Dies(pid) => self.feed(Event::Exited { pid, termination: Termination::Exited(1) }),
            &Step::Swells(pid) => self.feed(Event::Measured { pid, rss_bytes: u64::MAX }),
            &Step::Acks(pid) => self.feed(Event::Acked { pid, source: AckSource::Control }),
            Step::Deadline => {
                self.now = self.supervisor.next_deadline().map_or(self.now, |at| at.max(self.now));
                self.feed(Event::DeadlineReached)
            }
            Step::Late => {
                self.now = self.supervisor.next_deadline().map_or(self.now, |at| at.max(self.now));
                Vec::new()
            }
            Step::Idle => {
                self.now += scope.age_max();
                Vec::new()
            }
            &Step::Resolves(generation) => self.feed(Event::ReleaseResolved { generation }),
            &Step::CannotResolve(generation) => {
                self.feed(Event::ReleaseFailed { generation, reason: String::new() })
            }
            Step::Command(command) => {
                self.requests += 1;
                let request = Some(RequestKey(self.requests));
                self.feed(Event::Command { request, command: command.clone() })
            }
            &Step::Abandon(request) => self.feed(Event::RequestAbandoned { request }),
        }
    }

    /// Does what a world does in which nothing fails; `false` if it is at rest.
    fn good_step(&mut self) -> bool {
        if self.onlooker.exit.is_some() {
            return false;
        }
        let spawning = self.spawning().next().map(|worker| worker.id);
        if let Some(worker) = spawning {
            self.pids += 1;
            self.feed(Event::Spawned { worker, pid: Pid::from_raw(self.pids) });
            return true;
        }
        let Some((at, event)) = good_event(&self.supervisor, self.now, &self.onlooker.resolving) else {
            check_rest(&self.supervisor);
            return false;
        };
        self.now = at;
        self.feed(event);
        true
    }
}

/// What is known of the worlds with one key.
#[derive(Default)]
struct Seen {
    /// The means of those that were met on the search.
    means: Vec<Means>,
    /// The steps to rest.
    rest: u32,
}

struct Search<'a> {
    scope: &'a Scope,
    age_max: Duration,
    seen: HashMap<Key, Seen>,
    explored: Explored,
}

/// Tries every step in every world of `scope`, and from each world the way to rest and the way out.
pub(super) fn explore(scope: &Scope, sabotage: Option<Sabotage>) -> Result<Explored, Violation> {
    let first = World::new(scope, sabotage);
    let age_max = scope.age_max();
    let mut search = Search { scope, age_max, seen: HashMap::new(), explored: Explored::default() };
    // How each world was come by: from which one, and by what.
    let mut trail: Vec<(usize, Step)> = vec![(0, Step::Idle)];
    let mut queue = VecDeque::from([(first.clone(), 0, 0)]);
    while let Some((world, number, depth)) = queue.pop_front() {
        search.explored.states += 1;
        search.explored.depth = depth;
        for step in world.steps(scope) {
            search.explored.transitions += 1;
            match catch_unwind(AssertUnwindSafe(|| search.follow(&world, &step))) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    trail.push((number, step));
                    queue.push_back((next, trail.len() - 1, depth + 1));
                }
                Err(panic) => {
                    let what = panic.downcast_ref::<String>().cloned();
                    let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
                    let mut steps = vec![step];
                    let mut at = number;
                    while at != 0 {
                        steps.push(trail[at].1.clone());
                        at = trail[at].0;
                    }
                    steps.reverse();
                    let path = retell(first, &steps, scope);
                    return Err(Violation { what: what.unwrap_or_default(), path });
                }
            }
        }
    }
    search.explored.pools = search.seen.len();
    Ok(search.explored)
}

impl Search<'_> {
    /// The world after `step`, if nothing like it was met before.
    fn follow(&mut self, world: &World, step: &Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step, self.scope);
        if next.onlooker.exit.is_some() {
            return None;
        }
        let key = key_of(&next, self.age_max);
        if !self.seen.contains_key(&key) {
            next.hear_strange_acks();
            assert_eq!(key, key_of(&next, self.age_max), "an ack that nobody waits for changes something");
            self.come_to_rest(next.clone());
            let mut stopped = next.clone();
            let how = Stop::Gracefully;
            stopped.feed(Event::Command {
                request: None,
                command: PoolCommand::Stop { how, why: String::new() },
            });
            self.come_to_rest(stopped);
        }
        let seen = self.seen.entry(key).or_default();
        // With more means and the same pool, everything was reached that can be reached from here.
        if seen.means.iter().any(|means| next.means.fits(*means)) {
            return None;
        }
        seen.means.push(next.means);
        Some(next)
    }

    /// I8: everybody behaves from here on. Ends at a world of which the way to rest is known already.
    fn come_to_rest(&mut self, mut world: World) {
        let mut way = Vec::new();
        let rest = loop {
            if world.onlooker.exit.is_some() {
                break 0;
            }
            let key = key_of(&world, self.age_max);
            if let Some(seen) = self.seen.get(&key) {
                break seen.rest;
            }
            way.push(key);
            assert!(way.len() < REST_STEPS_MAX as usize, "I8: never at rest");
            if !world.good_step() {
                break 0;
            }
        };
        for (key, steps) in way.into_iter().rev().zip(1..) {
            let seen = Seen { means: Vec::new(), rest: rest + steps };
            self.explored.rest = self.explored.rest.max(seen.rest);
            self.seen.insert(key, seen);
        }
    }
}

/// Takes the steps once more and writes down what happens, up to where a check fails.
fn retell(mut world: World, steps: &[Step], scope: &Scope) -> Vec<String> {
    let mut lines = Vec::new();
    for step in steps {
        lines.push(format!("{step:?}"));
        let Ok(actions) = catch_unwind(AssertUnwindSafe(|| world.take(step, scope))) else { break };
        lines.extend(actions.iter().map(|action| match action {
            Action::Notice { notice, .. } => format!("    {notice}"),
            action => format!("    {action:?}"),
        }));
    }
    lines
}
