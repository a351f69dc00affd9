//! An independent observer of a supervisor, for the simulation and the model: it records what was really sent.
//!
//! The core checks I1 to I5, and I9, after every event. This module checks what the core cannot: no signal goes to a
//! reaped process (I5); each draining worker was asked to stop, once per signal (I6); each request gets exactly one last
//! reply (I7); a stopped master spawns nothing and exits with its last worker (I8); the report of an upgrade is true.

use super::Moment;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Pid;
use super::Signal;
use einhorn_proto::{AckSource, LastReply, Notice, Outcome, SignalReason, Termination, UpgradeReport};

use super::plan::{Plan, Stage};
use super::worker::{State, Worker};
use super::*;

/// What the `signal` command sends in tests: told apart from stop signals by being another one.
pub(super) const BYSTANDER: Signal = Signal::SIGWINCH;

/// What was seen of one supervisor's world.
#[derive(Clone, Default)]
pub(super) struct Onlooker {
    /// Processes that were not reaped yet, and the stop signals that each got, in order.
    pub(super) processes: BTreeMap<Pid, Vec<Signal>>,
    /// Those of them that the master may not signal.
    pub(super) refusing: BTreeSet<Pid>,
    /// Those of them that a stop signal has reached.
    pub(super) heard: BTreeSet<Pid>,
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
    /// The exit code, once the master has ended.
    pub(super) exit: Option<u8>,
    is_stopping: bool,
    is_stopped_at_once: bool,
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
        self.hear(supervisor, &event);
        let is_prepared = matches!(event, Event::UpgradePrepared { .. });
        let actions = handle(supervisor, event);
        // The upgrade may be refused after all.
        let resolves = |action: &Action| matches!(action, Action::ResolveRelease { .. });
        self.held.take_if(|_| is_prepared && !actions.iter().any(resolves));
        let mut reports = Vec::new();
        for action in &actions {
            self.see(action, &mut reports);
        }
        // SIGHUP comes last of those that wait, except where it takes the place of the upgrade that runs.
        let is_begun = |action: &Action| matches!(action, Action::PrepareUpgrade { request: None, .. });
        let Tables { queue, policy, .. } = &supervisor.tables;
        let is_last = queue.len() == 0 || policy.upgrade_restarts;
        self.is_hung_up &= !(is_last && actions.iter().any(is_begun));
        reports.into_iter().for_each(|(ok, report)| self.check_report(supervisor, ok, &report));
        self.check(supervisor);
        actions
    }

    fn hear(&mut self, supervisor: &Supervisor, event: &Event) {
        match event {
            Event::Spawned { worker, pid }
                if supervisor.tables.pool.worker(*worker).is_some_and(|worker| worker.pid.is_none()) =>
            {
                self.processes.insert(*pid, Vec::new());
            }
            Event::Exited { pid, .. } => {
                self.processes.remove(pid);
                self.refusing.remove(pid);
                self.heard.remove(pid);
            }
            Event::Heard { pid, report: Report::StopSent { .. } } => {
                self.heard.insert(*pid);
            }
            Event::UpgradePrepared { request, .. } => {
                self.preparing.pop_front();
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
            Event::Command { request, command } => {
                self.pending.extend(request);
                self.is_hung_up |= *command == PoolCommand::Hangup && supervisor.tables.plan.is_running();
                let Tables { plan, releases, .. } = &supervisor.tables;
                match command {
                    PoolCommand::Abort => self.is_hung_up &= plan.rollout().is_none(),
                    PoolCommand::Rollback => {
                        self.is_hung_up &= plan.rollout().is_none() && releases.previous().is_none();
                    }
                    _ => {}
                }
                if let PoolCommand::Stop { how: Stop::AtOnce(_), .. } = command {
                    self.is_stopped_at_once = true;
                }
            }
            Event::RequestAbandoned { request } => {
                self.pending.remove(request);
            }
            _ => {}
        }
    }

    fn see(&mut self, action: &Action, reports: &mut Vec<(bool, UpgradeReport)>) {
        match action {
            Action::Spawn { generation, .. } => {
                assert!(!self.is_stopping, "I8: spawned after the stop");
                assert_ne!(self.held, Some(*generation), "a slot is filled again before the upgrade begins");
            }
            Action::PrepareUpgrade { request, plan } => {
                self.preparing.push_back((*request, *plan));
            }
            Action::Signal { pid, signal } => {
                assert!(self.processes.contains_key(pid), "I5: {signal} to {pid}, which was reaped");
            }
            Action::Recognise { pid, .. } => {
                assert!(self.processes.contains_key(pid), "I5: a look at {pid}, which was reaped");
            }
            Action::Stop { pid, ask, .. } => {
                let signal = signal_of(*ask);
                let stops = self.processes.get_mut(pid);
                let stops = stops.unwrap_or_else(|| panic!("I5: {signal} to {pid}, which was reaped"));
                // What was refused may be tried again.
                let is_new = !stops.contains(&signal) || self.refusing.contains(pid);
                assert!(is_new, "I6: {signal} to {pid} twice");
                stops.push(signal);
            }
            Action::ResolveRelease { generation } => self.resolving.push(*generation),
            Action::Reply { request, answer } => {
                assert!(self.pending.remove(request), "I7: a second last reply to {request:?}");
                if let LastReply::Upgrade { ok, report, .. } = answer {
                    reports.push((*ok, report.clone()));
                }
            }
            Action::Exit { code } => {
                assert_eq!(self.exit.replace(*code), None, "I8: exits twice");
                let is_in_vain = self.processes.keys().all(|pid| self.refusing.contains(pid));
                assert!(
                    self.is_stopped_at_once || self.processes.is_empty() || (is_in_vain && *code == 1),
                    "I8: exits before its workers"
                );
            }
            Action::Notice { notice: Notice::MasterStopping { .. }, .. } => {
                self.is_stopping = true;
                self.is_hung_up = false;
            }
            Action::Notice {
                notice: Notice::UpgradeStarted { .. } | Notice::UpgradeFailed { .. }, ..
            } => self.held = None,
            Action::Notice { notice: Notice::RollbackStarted { generation, .. }, .. } => {
                self.turned.insert(*generation);
                self.held = None;
            }
            Action::Notice { .. } | Action::ForgetRelease { .. } => {}
        }
    }

    /// What the report of an ended upgrade says of the pool is so.
    fn check_report(&self, supervisor: &Supervisor, ok: bool, report: &UpgradeReport) {
        let generation = Generation(report.generation);
        let is_full = supervisor.tables.pool.up() == supervisor.tables.pool.size();
        let runs = |worker: &Worker| worker.generation == generation && worker.is_undrained();
        match report.outcome {
            Outcome::Done => {
                assert!(ok, "an upgrade that is done is no failure");
                assert!(
                    is_full && supervisor.tables.pool.workers().filter(|worker| worker.is_up()).all(runs)
                );
            }
            Outcome::RolledBack => {
                assert!(
                    !supervisor.tables.pool.workers().any(runs),
                    "rolled back, and {generation} still runs"
                );
                let given_up = supervisor.tables.pool.given_up.len();
                let is_served = supervisor.tables.pool.up() + given_up == supervisor.tables.pool.size();
                let is_whole = is_served || !self.turned.contains(&report.generation);
                assert!(is_whole, "rolled back, and not every slot that was not given up serves again");
            }
            Outcome::Failed => assert!(!ok, "a failed upgrade is no success"),
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
        let Tables { plan, queue, .. } = &supervisor.tables;
        let mut waiting: BTreeSet<_> =
            plan.rollout().map_or(Vec::new(), Rollout::requests).into_iter().collect();
        waiting.extend(queue.requests());
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
            let slot = worker.slot;
            assert!(!worker.is_up() || open.is_live(slot), "slot {} serves and gets nothing", slot.0);
            assert!(!open.is_gone(slot), "the sockets of slot {} are in use", slot.0);
        }
    }
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
pub(super) fn answer(action: &Action, refusing: &BTreeSet<Pid>) -> Option<Event> {
    let (pid, report) = match *action {
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
            (pid, Report::StopSent { signal, reason, is_caught: true })
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
    if let Some(&(request, plan)) = onlooker.preparing.front() {
        return Some((now, Event::UpgradePrepared { request, plan }));
    }
    if let Some(&generation) = onlooker.resolving.first() {
        return Some((now, Event::ReleaseResolved { generation, same_as: None }));
    }
    for worker in supervisor.tables.pool.workers() {
        let Some(pid) = worker.pid else { continue };
        match worker.state {
            // It never hears of it.
            State::Draining(_) if onlooker.refusing.contains(&pid) && !onlooker.heard.contains(&pid) => {}
            State::Draining(_) => {
                return Some((now, Event::Exited { pid, termination: Termination::Exited(0) }));
            }
            State::Starting(_) => {
                return Some((now, Event::Heard { pid, report: Report::Ack(AckSource::Notify) }));
            }
            State::Spawning | State::Up { .. } => {}
        }
    }
    if let Some(deadline) = supervisor.next_deadline() {
        return Some((now.max(deadline), Event::DeadlineReached));
    }
    let rollout = supervisor.tables.plan.rollout()?;
    let event = Event::Command { request: None, command: PoolCommand::Continue };
    matches!(rollout.stage(), Stage::Soaking { .. }).then_some((now, event))
}

/// I8: with nothing left to do, every slot serves or was given up, and no rollout runs. A master that was asked to stop
/// has exited.
pub(super) fn check_rest(supervisor: &Supervisor) {
    let Tables { pool, plan, queue, .. } = &supervisor.tables;
    match plan {
        Plan::Waiting | Plan::Exited => {}
        Plan::Stopping { .. } => panic!("I8: told to stop, and does not exit"),
        Plan::Steady | Plan::Rolling(_) => {
            assert_eq!(pool.up() + pool.given_up.len(), pool.size(), "I8: at rest, and not steady");
            let out_of_reach = pool.workers().filter(|worker| worker.is_out_of_reach()).count();
            assert_eq!(pool.live(), pool.up() + out_of_reach, "I8: at rest, and somebody drains");
            assert_eq!(queue.len(), 0, "I8: at rest, and an upgrade waits");
            assert!(*plan == Plan::Steady, "I8: at rest in the middle of a rollout: {plan:?}, {pool:?}");
        }
    }
}
