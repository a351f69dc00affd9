//! One supervisor and all that is outside it, of which a copy can be made: what may happen next, and what does.

use core::time::Duration;

use super::Moment;

use super::Pid;
use einhorn_proto::{AckSource, RecycleReason, Termination};

use super::super::onlooker::{MEMBER, Onlooker, answer, check_rest, good_event};
use super::super::rules;
use super::super::worker::{State, Worker};
use super::super::*;
use super::{FREEZE, LOADS, Means, NOBODY, Sabotage, Scope};

/// Something that may happen next.
#[derive(Debug, Clone)]
pub(super) enum Step {
    SpawnWorks(WorkerId),
    SpawnFails {
        worker: WorkerId,
        transient: bool,
    },
    Dies(Pid),
    /// It dies, and somebody of its group lives on and listens.
    Leaves(Pid),
    /// It dies, and somebody that has left its group does so.
    Strays(Pid),
    /// Nobody is left of the group.
    GroupEnds(Pid),
    Acks(Pid),
    /// It is measured, and holds more than it may.
    Swells(Pid),
    /// It is measured, and holds less than that again.
    Shrinks(Pid),
    LosesSocket(Pid),
    /// It changes to another user, so the master may not signal it any more.
    Hardens(Pid),
    /// The clock jumps to the next deadline, and the supervisor hears of it.
    Deadline,
    /// The clock jumps to the next deadline, and something else is heard first.
    Late,
    /// No deadline is near, and everybody grows old.
    Idle,
    /// Nobody runs for a while, and the supervisor hears of it.
    Freezes,
    /// Somebody looks at the workers that start.
    Loads(BootLoad),
    /// The upgrade can begin that was being prepared.
    Prepared,
    NotPrepared,
    /// The master is replaced for that upgrade.
    HandsOver,
    /// The command of a check ends with 0.
    Passes(JobId),
    /// It ends otherwise.
    Fails(JobId),
    Resolves(Generation),
    CannotResolve(Generation),
    Command(Box<PoolCommand>),
    Abandon(RequestKey),
}

/// A supervisor and all that is outside it.
#[derive(Clone)]
pub(super) struct World {
    pub(super) supervisor: Supervisor,
    pub(super) now: Moment,
    pub(super) onlooker: Onlooker,
    /// What may still go wrong or be asked for.
    pub(super) means: Means,
    pids: i32,
    requests: u64,
    /// What workers are held to before any upgrade.
    pub(super) first_terms: Terms,
    sabotage: Option<Sabotage>,
}

impl World {
    /// The world of `scope` before its first step.
    pub(super) fn new(scope: &Scope, sabotage: Option<Sabotage>) -> Self {
        let mut world = Self {
            supervisor: Supervisor::new(scope.policy.clone()),
            now: Moment::from_clock(Duration::from_secs(1000)),
            onlooker: Onlooker::default(),
            means: Means::default(),
            pids: 100,
            requests: 0,
            first_terms: scope.policy.terms(),
            sabotage: None,
        };
        world.feed(Event::Started);
        if scope.is_steady_at_first {
            while world.good_step() {}
            world.now += scope.age_max();
        }
        world.means = scope.means;
        world.sabotage = sabotage;
        world
    }

    pub(super) fn feed(&mut self, event: Event) -> Vec<Action> {
        self.feed_at(self.now, event)
    }

    /// Feeds an event, and what a shell answers at once.
    fn feed_at(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let sabotage = self.sabotage;
        let mut actions =
            self.onlooker.feed_by(&mut self.supervisor, event, |supervisor, event| match sabotage {
                None => supervisor.handle(now, event),
                Some(sabotage) => sabotage.handle(supervisor, now, event),
            });
        let answers: Vec<_> = actions.iter().filter_map(|action| self.answer(action)).collect();
        for event in answers {
            actions.extend(self.feed_at(now, event));
        }
        actions
    }

    fn answer(&self, action: &Action) -> Option<Event> {
        answer(action, &self.onlooker.refusing, &self.onlooker.empty_groups)
    }

    fn spawning(&self) -> impl Iterator<Item = &Worker> {
        self.supervisor.tables.pool.workers().filter(|worker| worker.pid.is_none())
    }

    /// Everything that may happen next and that the means allow.
    pub(super) fn steps(&self, scope: &Scope) -> Vec<Step> {
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
        if !self.onlooker.preparing.is_empty() {
            steps.push(Step::Prepared);
            if means.failures > 0 {
                steps.push(Step::NotPrepared);
            }
            if !scope.hands_over {
                // Nor does it listen to anybody else here.
                return steps;
            }
            if means.handovers > 0 && self.supervisor.tables().is_ok() {
                steps.push(Step::HandsOver);
            }
        }
        for (pid, stops) in &self.onlooker.processes {
            if means.deaths > 0 || !stops.is_empty() {
                steps.push(Step::Dies(*pid));
            }
            if means.leavings > 0 && (means.deaths > 0 || !stops.is_empty()) {
                steps.push(Step::Leaves(*pid));
                // Without signals to groups, it is the same.
                steps.extend(scope.policy.stop_group.then_some(Step::Strays(*pid)));
            }
            if self.awaits_ack(*pid) {
                steps.push(Step::Acks(*pid));
            }
            if means.swells > 0 {
                steps.extend([Step::Swells(*pid), Step::LosesSocket(*pid)]);
            }
            if self.is_too_large(*pid) {
                steps.push(Step::Shrinks(*pid));
            }
            if means.hardens > 0 && !self.onlooker.refusing.contains(pid) {
                steps.push(Step::Hardens(*pid));
            }
        }
        let groups = self.onlooker.groups.keys();
        let live = groups.filter(|group| !self.onlooker.empty_groups.contains(group));
        steps.extend(live.map(|group| Step::GroupEnds(*group)));
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
        if means.freezes > 0 && self.supervisor.is_timed() {
            steps.push(Step::Freezes);
        }
        if means.loads > 0 && self.supervisor.tables.pool.unacked() > 0 {
            steps.extend(LOADS.map(Step::Loads));
        }
        for &job in self.onlooker.jobs.keys() {
            steps.push(Step::Passes(job));
            if means.failures > 0 {
                steps.push(Step::Fails(job));
            }
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
            .filter(|command| self.price(&Step::Command(Box::new((*command).clone()))).fits(means));
        steps.extend(wishes.cloned().map(|command| Step::Command(Box::new(command))));
        if means.abandons > 0 {
            steps.extend(self.onlooker.pending.first().map(|request| Step::Abandon(*request)));
        }
        steps
    }

    fn is_too_large(&self, pid: Pid) -> bool {
        let Tables { pool, recycling, .. } = &self.supervisor.tables;
        pool.by_pid(pid).is_some_and(|worker| {
            recycling.queue().any(|waiting| waiting == (worker.id, RecycleReason::MaxRss))
        })
    }

    fn awaits_ack(&self, pid: Pid) -> bool {
        self.supervisor
            .tables
            .pool
            .by_pid(pid)
            .is_some_and(|worker| matches!(worker.state, State::Starting(_)))
    }

    fn is_somebody_young(&self, age_max: Duration) -> bool {
        let mut workers = self.supervisor.tables.pool.workers().filter(|worker| worker.is_undrained());
        workers.any(|worker| self.now - worker.spawned_at < age_max)
    }

    /// Acks from whoever need not ack, and from a stranger: they change nothing, so they are no steps. They come at the
    /// time of the last event: when time passes, that may change something.
    pub(super) fn hear_strange_acks(&mut self) {
        let pids = self.onlooker.processes.keys().filter(|pid| !self.awaits_ack(**pid));
        for pid in pids.copied().chain([Pid::from_raw(1)]).collect::<Vec<_>>() {
            self.feed_at(self.supervisor.now, Event::Heard { pid, report: Report::Ack(AckSource::Control) });
        }
    }

    /// How many workers miss their boot deadline at `at`: each is a death as any other.
    fn boots_missed(&self, at: Moment) -> u8 {
        let due = self.supervisor.tables.pool.deadlines.iter().take_while(|(due, _)| *due <= at);
        due.filter(|(_, deadline)| matches!(deadline, rules::Step::MissBoot(_)))
            .count()
            .try_into()
            .unwrap_or(u8::MAX)
    }

    /// What a step takes of the means.
    fn price(&self, step: &Step) -> Means {
        let none = Means::default();
        match step {
            Step::SpawnFails { .. } | Step::CannotResolve(_) | Step::NotPrepared | Step::Fails(_) => {
                Means { failures: 1, ..none }
            }
            Step::Leaves(pid) | Step::Strays(pid) => {
                let deaths = u8::from(self.onlooker.processes[pid].is_empty());
                Means { deaths, leavings: 1, ..none }
            }
            Step::Dies(pid) if self.onlooker.processes[pid].is_empty() => Means { deaths: 1, ..none },
            Step::Deadline => {
                let at = self.supervisor.next_deadline();
                Means { deaths: at.map_or(0, |at| self.boots_missed(at)), ..none }
            }
            Step::HandsOver => Means { handovers: 1, ..none },
            Step::Late => Means { lates: 1, ..none },
            Step::Freezes => Means { freezes: 1, ..none },
            Step::Loads(_) => Means { loads: 1, ..none },
            Step::Swells(_) | Step::LosesSocket(_) => Means { swells: 1, ..none },
            Step::Hardens(_) => Means { hardens: 1, ..none },
            Step::Abandon(_) => Means { abandons: 1, ..none },
            Step::Command(command) => match **command {
                PoolCommand::Upgrade(_) | PoolCommand::QueueUpgrade(_) | PoolCommand::Hangup => {
                    Means { upgrades: 1, ..none }
                }
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
    pub(super) fn take(&mut self, step: &Step, scope: &Scope) -> Vec<Action> {
        self.means = self.means.less(self.price(step));
        match step {
            &Step::SpawnWorks(worker) => {
                self.pids += 1;
                self.feed(Event::Spawned { worker, pid: Pid::from_raw(self.pids), start_ticks: None })
            }
            &Step::SpawnFails { worker, transient } => {
                self.feed(Event::SpawnFailed { worker, reason: String::new(), transient })
            }
            &Step::Dies(pid) => self.feed(Event::Exited { pid, termination: Termination::Exited(1) }),
            &(Step::Leaves(pid) | Step::Strays(pid)) => {
                let is_group = matches!(step, Step::Leaves(_));
                let report = Report::LeftBehind { members: vec![MEMBER], listens: true, is_group };
                let mut actions = self.feed(Event::Heard { pid, report });
                actions.extend(self.feed(Event::Exited { pid, termination: Termination::Exited(1) }));
                actions
            }
            &Step::GroupEnds(group) => {
                self.onlooker.empty_groups.insert(group);
                Vec::new()
            }
            &Step::Swells(pid) => self.feed(Event::Heard { pid, report: Report::Rss(u64::MAX) }),
            &Step::Shrinks(pid) => self.feed(Event::Heard { pid, report: Report::Rss(0) }),
            &Step::LosesSocket(pid) => self.feed(Event::Heard { pid, report: Report::LostSocket }),
            &Step::Hardens(pid) => {
                self.onlooker.refusing.insert(pid);
                Vec::new()
            }
            &Step::Acks(pid) => self.feed(Event::Heard { pid, report: Report::Ack(AckSource::Control) }),
            Step::Deadline => {
                self.now = self.supervisor.next_deadline().map_or(self.now, |at| at.max(self.now));
                self.feed(Event::DeadlineReached)
            }
            Step::Late => {
                self.now = self.supervisor.next_deadline().map_or(self.now, |at| at.max(self.now));
                Vec::new()
            }
            Step::Freezes => {
                self.now += FREEZE;
                self.feed(Event::TimeLost(FREEZE))
            }
            &Step::Loads(load) => self.feed(Event::BootLoad(load)),
            Step::Idle => {
                self.now += scope.age_max();
                Vec::new()
            }
            Step::Prepared => match self.onlooker.prepared(&self.supervisor) {
                Some(event) => self.feed(event),
                None => Vec::new(),
            },
            Step::NotPrepared => self.feed(Event::UpgradeNotPrepared),
            Step::HandsOver => {
                self.onlooker.hand_over(&self.supervisor);
                let mut successor = Supervisor::restore(self.supervisor.tables.clone()).unwrap();
                (successor.now, successor.reached) = (self.supervisor.now, self.supervisor.reached);
                self.supervisor = successor;
                if self.sabotage == Some(Sabotage::FillBeforeUpgrade) {
                    self.supervisor.is_held_for_upgrade = false;
                }
                Vec::new()
            }
            &Step::Passes(job) => self.feed(Event::JobEnded { job, outcome: JobOutcome::Passed }),
            &Step::Fails(job) => {
                let outcome = JobOutcome::Failed { reason: String::new(), output: Vec::new() };
                self.feed(Event::JobEnded { job, outcome })
            }
            &Step::Resolves(generation) => self.feed(Event::ReleaseResolved { generation, same_as: None }),
            &Step::CannotResolve(generation) => {
                self.feed(Event::ReleaseFailed { generation, reason: String::new() })
            }
            Step::Command(command) => {
                self.requests += 1;
                let request = (**command != PoolCommand::Hangup).then_some(RequestKey(self.requests));
                self.feed(Event::Command { request, requester: NOBODY, command: (**command).clone() })
            }
            &Step::Abandon(request) => self.feed(Event::RequestAbandoned { request }),
        }
    }

    /// Does what a world does in which nothing fails; `false` if it is at rest.
    pub(super) fn good_step(&mut self) -> bool {
        if self.onlooker.exit.is_some() {
            return false;
        }
        let spawning = self.spawning().next().map(|worker| worker.id);
        if let Some(worker) = spawning {
            self.pids += 1;
            self.feed(Event::Spawned { worker, pid: Pid::from_raw(self.pids), start_ticks: None });
            return true;
        }
        let Some((at, event)) = good_event(&self.supervisor, self.now, &self.onlooker) else {
            check_rest(&self.supervisor, &self.onlooker);
            return false;
        };
        self.now = at;
        self.feed(event);
        true
    }
}
