//! An independent observer of a supervisor, for the simulation and the model: it records what was really sent.
//!
//! The core checks I1 to I5, and I9, after every event. This module checks what the core cannot: no signal goes to a
//! reaped process (I5); each draining worker was asked to stop, once per signal (I6); each request gets exactly one last
//! reply (I7); a stopped master spawns nothing and exits with its last worker (I8); the report of an upgrade is true.

use super::Moment;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Pid;
use super::Signal;
use einhorn_proto::{
    AckSource, DrainEnding, LastReply, Notice, Outcome, PastOutcome, Requester, RolloutKind, SignalReason,
    Target, Termination, UpgradeReport, WorkerState, WorkerStatus,
};

use super::leftovers::SETTLE;
use super::plan::{Plan, Rollout, Stage};
use super::worker::{Boot, State, Worker};
use super::*;

/// What the `signal` command sends in tests: told apart from stop signals by being another one.
pub(super) const BYSTANDER: Signal = Signal::SIGWINCH;

/// The one process that is left in a group whose leader has exited.
pub(super) const MEMBER: Pid = Pid::from_raw(9);

/// What was seen of one supervisor's world.
#[derive(Clone, Default)]
pub(super) struct Onlooker {
    /// Processes that were not reaped yet, and the stop signals that each got, in order.
    pub(super) processes: BTreeMap<Pid, Vec<Signal>>,
    /// Those of them that the master may not signal.
    pub(super) refusing: BTreeSet<Pid>,
    /// Those of them that serve a socket that nobody reaches any more.
    pub(super) unreached: BTreeSet<Pid>,
    /// The stop signals that have reached them.
    pub(super) heard: BTreeMap<Pid, Vec<Signal>>,
    /// Groups whose leaders have exited, as far as the master knows, and the stop signals that each got.
    pub(super) groups: BTreeMap<Pid, Vec<Signal>>,
    /// Those of them in which nobody is left.
    pub(super) empty_groups: BTreeSet<Pid>,
    /// Those of them that are no groups: no signal reaches them.
    pub(super) strays: BTreeSet<Pid>,
    /// When the leader of each exited, on the clock of `asked_at`.
    left_at: BTreeMap<Pid, Moment>,
    /// How the pool was at the end of each rollout that was not reported yet, by kind and generation.
    ends: BTreeMap<(bool, u64), VecDeque<AtEnd>>,
    /// The processes that the command of the event names, if it sends signals to some.
    named: Option<BTreeSet<Pid>>,
    /// For how long nobody ran so far, and when each process was first asked to stop, on a clock that stands still then.
    frozen: Duration,
    asked_at: BTreeMap<Pid, Moment>,
    /// Requests without a last reply.
    pub(super) pending: BTreeSet<RequestKey>,
    /// Releases asked for and not answered.
    pub(super) resolving: Vec<Generation>,
    /// Upgrades that are being prepared.
    pub(super) preparing: VecDeque<(Option<RequestKey>, UpgradePlan)>,
    /// SIGHUP came, and no upgrade has begun for it.
    is_hung_up: bool,
    /// The generation that was to be replaced when the master was; nothing is spawned from it until the upgrade begins.
    pub(super) held: Option<Generation>,
    /// Rollouts that were turned around after they had begun to replace workers.
    turned: BTreeSet<u64>,
    /// Jobs that run, and the generation that each checks.
    pub(super) jobs: BTreeMap<JobId, Generation>,
    /// What the policy has for releases to come, as far as upgrades have changed it; and what it had before the one that runs.
    terms: Option<Terms>,
    terms_before: Option<Terms>,
    /// What the upgrade that begins changes.
    brings: OptionsChange,
    /// What each generation is held to, and the generation of each process.
    terms_of: BTreeMap<Generation, Terms>,
    generations: BTreeMap<Pid, Generation>,
    /// Generations whose check did not pass: none of their workers gets a slot.
    unchecked: BTreeSet<Generation>,
    /// The exit code, once the master has ended.
    pub(super) exit: Option<u8>,
    /// The last look at the workers that start showed pressure.
    is_pressed: bool,
    is_stopping: bool,
    is_stopped_at_once: bool,
}

/// How the pool was at the end of a rollout.
#[derive(Debug, Clone, Copy)]
struct AtEnd {
    /// Whether every slot had a worker up, and each of them was of the rollout's generation.
    is_all_new: bool,
    /// Whether a worker of that generation had a slot.
    is_any_new: bool,
    /// Whether every slot that was not given up had a worker up.
    is_served: bool,
}

fn key_of(kind: RolloutKind, generation: u64) -> (bool, u64) {
    (kind == RolloutKind::Upgrade, generation)
}

impl Onlooker {
    /// Feeds `event` to `supervisor` and panics, naming the invariant, if it may not do what it then does.
    pub(super) fn feed(&mut self, supervisor: &mut Supervisor, now: Moment, event: Event) -> Vec<Action> {
        self.feed_by(supervisor, event, |supervisor, event| supervisor.handle(now, event))
    }

    /// The same, with another way to handle the event.
    pub(super) fn feed_by(
        &mut self,
        supervisor: &mut Supervisor,
        event: Event,
        handle: impl FnOnce(&mut Supervisor, Event) -> Vec<Action>,
    ) -> Vec<Action> {
        let policy = supervisor.policy();
        let first = *self.terms.get_or_insert(policy.terms());
        self.terms_of.entry(supervisor.tables.releases.serving()).or_insert(first);
        self.hear(supervisor, &event);
        let event_name = event.clone();
        let is_pressed = self.is_pressed(supervisor);
        let is_prepared = matches!(event, Event::UpgradePrepared { .. });
        let actions = handle(supervisor, event);
        // The upgrade may be refused after all.
        let resolves = |action: &Action| matches!(action, Action::ResolveRelease { .. });
        self.held.take_if(|_| supervisor.tables.trial.is_some());
        self.held.take_if(|_| is_prepared && !actions.iter().any(resolves));
        let cannot_begin = matches!(event_name, Event::WorkersUnsignallable { .. });
        assert!(!cannot_begin || !actions.iter().any(resolves), "begins, and cannot replace the old workers");
        self.check_grace(supervisor, &event_name, &actions);
        self.check_leftovers(supervisor, &event_name, &actions, is_pressed);
        self.note_ends(supervisor, &actions);
        check_records(&actions);
        for action in &actions {
            self.see(action, supervisor);
        }
        // Only its upgrade ends the wait of SIGHUP.
        let is_begun = |action: &Action| matches!(action, Action::PrepareUpgrade { request: None, .. });
        let is_over = !supervisor.tables.queue.is_hung_up() && actions.iter().any(is_begun);
        self.is_hung_up &= !is_over;
        self.check(supervisor);
        actions
    }

    fn hear(&mut self, supervisor: &Supervisor, event: &Event) {
        match event {
            Event::Spawned { worker, pid, .. }
                if supervisor.tables.pool.worker(*worker).is_some_and(|worker| worker.pid.is_none()) =>
            {
                self.processes.insert(*pid, Vec::new());
            }
            Event::Exited { pid, .. } => {
                self.processes.remove(pid);
                self.refusing.remove(pid);
                self.unreached.remove(pid);
                self.heard.remove(pid);
                self.asked_at.remove(pid);
            }
            Event::Heard { pid, report: Report::LostSocket } if self.processes.contains_key(pid) => {
                self.unreached.insert(*pid);
            }
            Event::BootLoad(load) => {
                self.is_pressed = load.is_pressed && supervisor.tables.pool.unacked() > 0;
            }
            Event::TimeLost(lost) => self.frozen += *lost,
            Event::Heard { pid, report: Report::StopSent { signal, .. } } => {
                self.heard.entry(*pid).or_default().push(*signal);
            }
            Event::UpgradePrepared { request, plan } => {
                self.brings = plan.options.clone();
                self.preparing.pop_front();
                self.pending.extend(request);
            }
            Event::Heard { pid, report: Report::LeftBehind { is_group, .. } } => {
                self.strays.extend((!is_group).then_some(*pid));
                self.groups.insert(*pid, self.heard.get(pid).cloned().unwrap_or_default());
            }
            Event::GroupSeen { group, members, .. } if members.is_empty() => {
                self.groups.remove(group);
                self.strays.remove(group);
                self.empty_groups.remove(group);
            }
            Event::WorkersUnsignallable { request, .. } => {
                self.preparing.pop_front();
                self.held = None;
                self.pending.extend(request);
            }
            Event::UpgradeNotPrepared => {
                let prepared = self.preparing.pop_front();
                self.held = None;
                // The shell answers it.
                prepared.and_then(|(request, _)| request).map(|request| self.pending.remove(&request));
            }
            Event::ReleaseResolved { generation, .. } | Event::ReleaseFailed { generation, .. } => {
                self.resolving.retain(|resolving| resolving != generation);
            }
            Event::Command { request, command, .. } => {
                self.named = match command {
                    PoolCommand::SignalOnly(_, target) => Some(named(supervisor, *target)),
                    _ => None,
                };
                self.pending.extend(request);
                self.is_hung_up |= *command == PoolCommand::Hangup && supervisor.tables.plan.is_running();
                let Tables { plan, releases, .. } = &supervisor.tables;
                match command {
                    PoolCommand::Abort => self.is_hung_up &= plan.rollout().is_none(),
                    PoolCommand::Rollback => {
                        self.is_hung_up &= plan.rollout().is_none() && releases.previous().is_none();
                    }
                    PoolCommand::Configure(change) => {
                        let is_fixed =
                            |setting: &Setting| matches!(setting, Setting::Unacked { by_cpus: None, .. });
                        self.is_pressed &= !change.iter().any(is_fixed);
                    }
                    _ => {}
                }
                if let PoolCommand::Stop { how: Stop::AtOnce(_), .. } = command {
                    self.is_stopped_at_once = true;
                }
            }
            Event::JobEnded { job, outcome } => {
                let generation = self.jobs.remove(job).filter(|_| *outcome == JobOutcome::Passed);
                generation.map(|generation| self.unchecked.remove(&generation));
            }
            Event::RequestAbandoned { request } => {
                self.pending.remove(request);
            }
            _ => {}
        }
    }

    /// Whether somebody waits who cannot wait until every group has had its time to go.
    fn is_pressed(&self, supervisor: &Supervisor) -> bool {
        let reports = supervisor.tables.aftermath.pending();
        // A report that is given at once does not wait for them.
        let mut waits = reports.filter(|ended| !ended.is_at_once()).filter_map(|ended| ended.report_at);
        self.is_stopping || waits.any(|until| until <= supervisor.now)
    }

    /// What counts as left behind has had its time to go, or somebody could not wait or has killed it, and was there when it
    /// was last looked at: now.
    fn check_leftovers(
        &mut self,
        supervisor: &Supervisor,
        event: &Event,
        actions: &[Action],
        is_pressed: bool,
    ) {
        if self.is_stopped_at_once {
            return;
        }
        let clock = supervisor.now - self.frozen;
        if let Event::Heard { pid, report: Report::LeftBehind { .. } } = event {
            self.left_at.insert(*pid, clock);
        }
        for action in actions {
            let Action::Notice { notice: Notice::LeftBehind { pid, .. }, .. } = action else { continue };
            let leader = Pid::from_raw(*pid);
            let is_seen = match event {
                Event::GroupSeen { group, members, .. } => *group == leader && !members.is_empty(),
                _ => false,
            };
            assert!(is_seen, "nobody has looked whether {pid} still leaves somebody behind");
            let is_killed = self.groups.get(&leader).is_none_or(|stops| stops.contains(&Signal::SIGKILL));
            let is_over = self.left_at.get(&leader).is_none_or(|at| clock - *at >= SETTLE);
            assert!(is_over || is_pressed || is_killed, "{pid} had no time to leave nobody behind");
        }
    }

    /// No worker is killed for its time before it has had that much of it.
    fn check_grace(&mut self, supervisor: &Supervisor, event: &Event, actions: &[Action]) {
        let clock = supervisor.now - self.frozen;
        for action in actions {
            let Action::Stop { pid, ask, .. } = action else { continue };
            let asked_at = *self.asked_at.entry(*pid).or_insert(clock);
            if *ask == Ask::With(Signal::SIGKILL)
                && matches!(event, Event::DeadlineReached)
                && let Some(grace) = supervisor.tables.policy.grace
            {
                let had = clock - asked_at;
                assert!(had >= grace, "I6: {pid} is killed after {had:?}, and has {grace:?}");
            }
        }
    }

    /// Notes how the pool is after rollouts have ended.
    fn note_ends(&mut self, supervisor: &Supervisor, actions: &[Action]) {
        let pool = &supervisor.tables.pool;
        for action in actions {
            let Action::Notice {
                notice:
                    Notice::UpgradeDone { kind, generation, .. } | Notice::UpgradeFailed { kind, generation, .. },
                ..
            } = action
            else {
                continue;
            };
            let is_new = |worker: &&Worker| worker.generation == Generation(*generation);
            let up = pool.workers().filter(|worker| worker.is_up());
            let is_all_new = pool.up() == pool.size() && up.filter(is_new).count() == pool.size();
            // A master that exits at once has sent its trial worker a signal, and does not drain it.
            let is_left = |worker: &&Worker| self.is_stopped_at_once && worker.is_trial();
            let undrained = pool.workers().filter(|worker| worker.is_undrained() && !is_left(worker));
            let is_any_new = undrained.filter(is_new).count() > 0;
            let is_served = pool.up() + pool.given_up.len() == pool.size();
            let ends = self.ends.entry(key_of(*kind, *generation)).or_default();
            ends.push_back(AtEnd { is_all_new, is_any_new, is_served });
        }
    }

    fn see(&mut self, action: &Action, supervisor: &Supervisor) {
        match action {
            Action::Spawn { generation, slot, .. } => {
                let is_tried = slot.is_none();
                assert!(
                    is_tried || !self.unchecked.contains(generation),
                    "I10: {generation} was not checked"
                );
                if is_tried {
                    self.unchecked.insert(*generation);
                }
                assert!(!self.is_stopping, "I8: spawned after the stop");
                assert_ne!(self.held, Some(*generation), "a slot is filled again before the upgrade begins");
                let Tables { policy, pool, .. } = &supervisor.tables;
                let cpus = policy.unacked_by_cpus.filter(|_| self.is_pressed && supervisor.tables.is_paced());
                let is_too_many = cpus.is_some_and(|cpus| pool.unacked() > cpus as usize);
                assert!(is_tried || !is_too_many, "I4: {} workers start under pressure", pool.unacked());
            }
            Action::PrepareUpgrade { request, plan } => {
                self.preparing.push_back((*request, plan.clone()));
            }
            Action::Signal { pid, signal } => {
                assert!(self.processes.contains_key(pid), "I5: {signal} to {pid}, which was reaped");
                let is_named = self.named.as_ref().is_none_or(|named| named.contains(pid));
                assert!(is_named, "{signal} to {pid}, which nobody has named");
            }
            Action::Recognise { pid, .. } => {
                assert!(self.processes.contains_key(pid), "I5: a look at {pid}, which was reaped");
            }
            Action::Stop { pid, ask, .. } => {
                let signal = signal_of(*ask);
                let stops = self.processes.get_mut(pid);
                let stops = stops.unwrap_or_else(|| panic!("I5: {signal} to {pid}, which was reaped"));
                // What was refused may be tried again.
                if let (Ask::ByConvention(convention), Some(generation)) = (ask, self.generations.get(pid)) {
                    let set = self.terms_of[generation].graceful_signal;
                    let is_set = matches!(convention, Convention::Set(signal) if Some(*signal) == set);
                    assert_eq!(is_set, set.is_some(), "{pid} is not stopped by the terms of {generation}");
                }
                let is_new = !stops.contains(&signal) || self.refusing.contains(pid);
                assert!(is_new, "I6: {signal} to {pid} twice");
                stops.push(signal);
            }
            Action::ResolveRelease { generation } => {
                self.resolving.push(*generation);
                // One that is superseded leaves nothing.
                self.terms = self.terms_before.take().or(self.terms);
                let mut terms = self.terms.expect("the policy was seen");
                for setting in &self.brings.settings {
                    match setting {
                        Setting::Ack(ack) => terms.ack = *ack,
                        Setting::GracefulSignal(signal) => terms.graceful_signal = *signal,
                        Setting::StopGroup(is_wanted) => terms.stop_group = *is_wanted,
                        _ => {}
                    }
                }
                self.terms_of.insert(*generation, terms);
            }
            Action::Notice { notice: Notice::UpgradeStarted { kind, generation, .. }, .. }
                if *kind == RolloutKind::Upgrade =>
            {
                self.held = None;
                self.terms_before = self.terms;
                self.terms = self.terms_of.get(&Generation(*generation)).copied();
            }
            Action::Notice { notice: Notice::RollbackStarted { generation, .. }, .. } => {
                self.turned.insert(*generation);
                self.held = None;
                self.terms = self.terms_before.take().or(self.terms);
            }
            Action::Notice { notice: Notice::UpgradeDone { .. }, .. } => self.terms_before = None,
            Action::Notice { notice: Notice::Spawned { pid, generation, .. }, .. } => {
                let (pid, generation) = (Pid::from_raw(*pid), Generation(*generation));
                self.generations.insert(pid, generation);
                let terms = self.terms_of[&generation];
                if let Some(Worker { state: State::Starting(boot), .. }) = supervisor.tables.pool.by_pid(pid)
                {
                    let expected = match terms.ack {
                        AckMode::Timer(after) => Boot::AckedAt(supervisor.now + after),
                        AckMode::Manual(Some(deadline)) => Boot::AckBy(supervisor.now + deadline),
                        AckMode::Manual(None) => Boot::Unlimited,
                    };
                    assert_eq!(*boot, expected, "{pid} is not held to the terms of {generation}");
                }
            }
            Action::Reply { request, answer } => {
                assert!(self.pending.remove(request), "I7: a second last reply to {request:?}");
                if let LastReply::Upgrade { ok, report, .. } = answer {
                    match report.outcome {
                        Outcome::Done => {
                            assert!(*ok || report.left.is_serving(), "what is done is no failure");
                        }
                        Outcome::Failed => assert!(!ok, "a failed upgrade is no success"),
                        Outcome::RolledBack => {}
                    }
                }
            }
            Action::Exit { code } => {
                assert_eq!(self.exit.replace(*code), None, "I8: exits twice");
                assert!(self.jobs.is_empty(), "I10: exits before the check that it began");
                let is_stopped = |group: &Pid| self.terms_of[&self.generations[group]].stop_group;
                let is_group_left =
                    self.groups.keys().any(|group| !self.strays.contains(group) && is_stopped(group));
                assert!(
                    self.is_stopped_at_once || !is_group_left,
                    "I8: exits before what its workers have left behind"
                );
                let is_in_vain = self.processes.keys().all(|pid| self.refusing.contains(pid));
                assert!(
                    self.is_stopped_at_once || self.processes.is_empty() || (is_in_vain && *code == 1),
                    "I8: exits before its workers"
                );
            }
            Action::StopGroup { group, signal } => {
                let generation = self.generations[group];
                assert!(self.terms_of[&generation].stop_group, "group {group} is stopped against its terms");
                let stops = self.groups.get_mut(group);
                let stops = stops.unwrap_or_else(|| panic!("I5: {signal} to group {group}, which has gone"));
                assert!(!self.strays.contains(group), "I5: {signal} to a group of which nobody is left");
                assert!(!stops.contains(signal), "I6: {signal} to group {group} twice");
                stops.push(*signal);
                if *signal == Signal::SIGKILL {
                    self.empty_groups.insert(*group);
                }
            }
            Action::Look { group } => {
                assert!(self.groups.contains_key(group), "I5: a look at group {group}, which has gone");
            }
            Action::Notice { notice: Notice::UpgradeReported(report), .. } => self.check_report(report),
            Action::Notice { notice: Notice::MasterStopping { .. }, .. } => {
                self.is_stopping = true;
                self.is_hung_up = false;
            }
            Action::Notice {
                notice: Notice::UpgradeStarted { .. } | Notice::UpgradeFailed { .. }, ..
            } => self.held = None,
            Action::Check { job, subject, generation, .. } => {
                assert!(self.jobs.is_empty(), "I10: two checks at a time");
                let (pids, is_tried) = match subject {
                    Subject::Trial(pid) => (vec![*pid], true),
                    Subject::Canaries { canaries, baseline } => {
                        assert!(!canaries.is_empty(), "a check of no canary");
                        ([&canaries[..], baseline].concat(), false)
                    }
                };
                let is_alive = |pid: &Pid| self.processes.contains_key(pid);
                assert!(pids.iter().all(is_alive), "I5: a check of {pids:?}, of which some were reaped");
                assert_eq!(self.unchecked.contains(generation), is_tried, "a check of the wrong workers");
                self.jobs.insert(*job, *generation);
            }
            Action::EndJob { job } => {
                assert!(self.jobs.remove(job).is_some(), "{job:?} is ended, and does not run");
            }
            Action::Notice { .. }
            | Action::Record { .. }
            | Action::RecordListening { .. }
            | Action::ForgetRelease { .. } => {}
        }
    }

    /// What the report of an ended rollout says of the pool was so at its end.
    fn check_report(&mut self, report: &UpgradeReport) {
        let ends = self.ends.get_mut(&key_of(report.kind, report.generation));
        let at_end = ends.and_then(VecDeque::pop_front).expect("a report of a rollout that has not ended");
        match report.outcome {
            Outcome::Done => assert!(at_end.is_all_new, "done, and not every worker is new: {at_end:?}"),
            Outcome::RolledBack => {
                assert!(!at_end.is_any_new, "rolled back, and {} still runs", report.generation);
                let is_whole = at_end.is_served || !self.turned.contains(&report.generation);
                assert!(is_whole, "rolled back, and not every slot that was not given up serves again");
            }
            Outcome::Failed => {}
        }
    }

    fn check(&self, supervisor: &Supervisor) {
        if supervisor.tables.plan == Plan::Exited {
            // Those whose upgrade is being prepared get theirs from the shell.
            let preparing: BTreeSet<_> = self.preparing.iter().filter_map(|(request, _)| *request).collect();
            let forgotten: Vec<_> = self.pending.difference(&preparing).collect();
            assert!(forgotten.is_empty(), "I7: the master has gone without a reply to {forgotten:?}");
            return;
        }
        let Tables { plan, queue, aftermath, .. } = &supervisor.tables;
        let mut waiting: BTreeSet<_> =
            plan.rollout().map_or(Vec::new(), Rollout::requests).into_iter().collect();
        waiting.extend(queue.requests());
        let ended = aftermath.pending().flat_map(|ended| ended.waiters.iter());
        waiting.extend(ended.map(|waiter| waiter.request));
        // Somebody who has left is remembered in what is being prepared.
        let preparing = self.preparing.iter().filter_map(|(request, _)| *request);
        waiting.extend(preparing.filter(|request| self.pending.contains(request)));
        assert_eq!(self.pending, waiting, "I7: who waits for a last reply, and who will get one");
        assert_eq!(self.is_hung_up, queue.is_hung_up(), "I7: SIGHUP is forgotten, or has had its upgrade");
        let mut processes = 0;
        for worker in supervisor.tables.pool.workers() {
            let Some(pid) = worker.pid else { continue };
            let Some(stops) = self.processes.get(&pid) else {
                panic!("I5: {pid} was reaped, and is a worker")
            };
            let is_draining = matches!(worker.state, State::Draining(drain) if drain.is_asked());
            assert_eq!(
                is_draining,
                !stops.is_empty(),
                "I6: {pid} drains and got no stop signal, or the reverse"
            );
            processes += 1;
        }
        assert_eq!(processes, self.processes.len(), "a process that is no worker");
        self.check_slots(supervisor);
    }

    /// Generations whose check did not pass, and that somebody may still know.
    pub(super) fn unchecked(&self) -> impl Iterator<Item = Generation> {
        self.unchecked.iter().copied()
    }

    /// What the shell says of the upgrade that it prepares, where nothing fails.
    pub(super) fn prepared(&self, supervisor: &Supervisor) -> Option<Event> {
        let (request, plan) = self.preparing.front()?.clone();
        let serving = supervisor.tables.pool.workers().filter(|worker| worker.is_undrained());
        let pids: Vec<_> =
            serving.filter_map(|worker| worker.pid).filter(|pid| self.refusing.contains(pid)).collect();
        Some(match pids.is_empty() {
            true => Event::UpgradePrepared { request, plan },
            false => Event::WorkersUnsignallable { request, pids },
        })
    }

    /// The master is replaced by another image.
    pub(super) fn hand_over(&mut self, supervisor: &Supervisor) {
        self.held = (!self.preparing.is_empty()).then(|| supervisor.tables.releases.serving());
    }

    /// Checks the state of the slots' sockets: some slot gets new connections, each serving slot does, and the socket of a
    /// live worker is not closed.
    fn check_slots(&self, supervisor: &Supervisor) {
        let open = supervisor.slots();
        let mut slots = supervisor.tables.pool.slots().map(|(number, _)| number);
        assert!(
            supervisor.tables.plan == Plan::Waiting || slots.any(|slot| open.is_live(slot)),
            "nobody gets what is new"
        );
        for worker in supervisor.tables.pool.workers() {
            let Some(slot) = worker.slot else { continue };
            assert!(!worker.is_up() || open.is_live(slot), "slot {} serves and gets nothing", slot.0);
            assert!(!open.is_gone(slot), "the sockets of slot {} are in use", slot.0);
        }
    }
}

/// The processes of a target, by what the pool shows of itself.
fn named(supervisor: &Supervisor, target: Target) -> BTreeSet<Pid> {
    let workers = supervisor.snapshot(supervisor.now).workers.into_iter();
    let is_named = |worker: &WorkerStatus| match target {
        Target::Slot(slot) => worker.slot == slot && worker.state != WorkerState::Draining,
        Target::Pid(pid) => worker.pid == pid,
        Target::Draining => worker.state == WorkerState::Draining,
    };
    workers.filter(is_named).map(|worker| Pid::from_raw(worker.pid)).collect()
}

/// Each rollout that ends is recorded as what it ended, once.
fn check_records(actions: &[Action]) {
    let ended = actions.iter().filter_map(|action| match action {
        Action::Notice { notice: Notice::UpgradeDone { kind, generation, .. }, .. } => {
            Some((*kind, *generation, true))
        }
        Action::Notice { notice: Notice::UpgradeFailed { kind, generation, .. }, .. } => {
            Some((*kind, *generation, false))
        }
        _ => None,
    });
    let recorded = actions.iter().filter_map(|action| match action {
        Action::Record { rollout } if rollout.outcome != PastOutcome::Superseded => {
            Some((rollout.kind, rollout.generation.0, rollout.outcome == PastOutcome::Done))
        }
        _ => None,
    });
    let (ended, recorded): (Vec<_>, Vec<_>) = (ended.collect(), recorded.collect());
    assert_eq!(recorded, ended, "the rollouts that ended are not those that were recorded");
}

/// The signal that a process of tests gets: one that sends no `worker:ack` and is no server that is known.
fn signal_of(ask: Ask) -> Signal {
    match ask {
        Ask::With(signal) => signal,
        Ask::ByConvention(convention) => convention.choose(&Plain).0,
    }
}

/// A process that shows nothing of itself.
pub(super) struct Plain;

impl Shows for Plain {
    fn server(&self) -> Option<(&str, Signal)> {
        None
    }

    fn catches(&self, _signal: Signal) -> bool {
        false
    }
}

/// What a shell answers at once; `refusing` are the processes that it may not signal.
/// `empty_groups` are those in which nobody is left.
pub(super) fn answer(
    action: &Action,
    refusing: &BTreeSet<Pid>,
    empty_groups: &BTreeSet<Pid>,
) -> Option<Event> {
    let (pid, report) = match *action {
        Action::Look { group } => {
            let is_empty = empty_groups.contains(&group);
            let members = if is_empty { Vec::new() } else { vec![MEMBER] };
            return Some(Event::GroupSeen { group, members, listens: false });
        }
        Action::Recognise { pid, convention, .. } => {
            let (signal, reason) = convention.choose(&Plain);
            (pid, Report::Convention(signal, reason))
        }
        Action::Stop { pid, ask, .. } if refusing.contains(&pid) => {
            (pid, Report::SignalFailed { signal: signal_of(ask), reason: String::new() })
        }
        Action::Stop { pid, ask, .. } => {
            let (signal, reason) = match ask {
                Ask::With(signal) => (signal, SignalReason::Set),
                Ask::ByConvention(convention) => convention.choose(&Plain),
            };
            (pid, Report::StopSent { signal, reason, ending: DrainEnding::Handled })
        }
        _ => return None,
    };
    Some(Event::Heard { pid, report })
}

/// What happens next, and when, in a world where nothing fails: whoever starts acks, whoever was asked to stop and heard
/// it goes, releases are there, and somebody ends a soak that has no end. `None` if there is nothing left to do.
///
/// Spawns that are not answered yet are the caller's, who knows the next pid.
pub(super) fn good_event(
    supervisor: &Supervisor,
    now: Moment,
    onlooker: &Onlooker,
) -> Option<(Moment, Event)> {
    if let Some(event) = onlooker.prepared(supervisor) {
        return Some((now, event));
    }
    if let Some(&group) = onlooker.groups.keys().next() {
        return Some((now, Event::GroupSeen { group, members: Vec::new(), listens: false }));
    }
    if let Some(&generation) = onlooker.resolving.first() {
        return Some((now, Event::ReleaseResolved { generation, same_as: None }));
    }
    if let Some(&job) = onlooker.jobs.keys().next() {
        return Some((now, Event::JobEnded { job, outcome: JobOutcome::Passed }));
    }
    for worker in supervisor.tables.pool.workers() {
        let Some(pid) = worker.pid else { continue };
        match worker.state {
            // It never hears of it.
            State::Draining(_) if onlooker.refusing.contains(&pid) && !onlooker.heard.contains_key(&pid) => {}
            State::Draining(_) => {
                return Some((now, Event::Exited { pid, termination: Termination::Exited(0) }));
            }
            State::Starting(_) => {
                return Some((now, Event::Heard { pid, report: Report::Ack(AckSource::Notify) }));
            }
            State::Spawning | State::Up { .. } => {}
        }
    }
    // Its checks would go on without end, too.
    let is_endless = |rollout: &Rollout| matches!(rollout.stage(), Stage::Soaking { until: None, .. });
    if supervisor.tables.plan.rollout().is_some_and(is_endless) {
        let (requester, command) = (Requester::default(), PoolCommand::Continue);
        return Some((now, Event::Command { request: None, requester, command }));
    }
    supervisor.next_deadline().map(|deadline| (now.max(deadline), Event::DeadlineReached))
}

/// I8: with nothing left to do, every slot serves or was given up, with sockets that are reached, and no rollout runs. A
/// master that was asked to stop has exited.
pub(super) fn check_rest(supervisor: &Supervisor, onlooker: &Onlooker) {
    let Tables { pool, plan, queue, aftermath, .. } = &supervisor.tables;
    match plan {
        Plan::Waiting | Plan::Exited => {}
        Plan::Stopping { .. } => panic!("I8: told to stop, and does not exit"),
        Plan::Steady | Plan::Rolling(_) => {
            assert!(supervisor.tables.trial.is_none(), "I8: at rest in the middle of a trial");
            assert_eq!(pool.up() + pool.given_up.len(), pool.size(), "I8: at rest, and not steady");
            let out_of_reach = pool.workers().filter(|worker| worker.is_out_of_reach()).count();
            assert_eq!(pool.live(), pool.up() + out_of_reach, "I8: at rest, and somebody drains");
            let up = pool.workers().filter(|worker| worker.is_up()).filter_map(|worker| worker.pid);
            let unreached: Vec<_> = up.filter(|pid| onlooker.unreached.contains(pid)).collect();
            assert!(unreached.is_empty(), "I8: at rest, and nobody reaches {unreached:?}");
            assert_eq!(queue.len(), 0, "I8: at rest, and an upgrade waits");
            assert_eq!(aftermath.pending().count(), 0, "I7: at rest, and a report is due");
            assert!(*plan == Plan::Steady, "I8: at rest in the middle of a rollout: {plan:?}, {pool:?}");
        }
    }
}
