//! Bugs put in by hand, and that the search finds every one of them.
//!
//! The core has no place for them. A saboteur handles an event as [`Supervisor::handle`] does, from the same parts,
//! and cheats in between: with an event before it is noted, a step before or after it is taken, a bound, or an action
//! that goes out.

use std::collections::BTreeMap;

use super::super::rules::{Fate, Step};
use super::search::explore;
use super::*;
use einhorn_proto::{DrainEnding, DrainReason, LastReply, SignalReason};

/// A bug that a supervisor of the tests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// A slot whose worker died is never filled again.
    ForgetSlot,
    /// A rollback leaves the slots empty that the failed release had left.
    SkipRollbackRefill,
    /// The old worker goes before the new one has acked.
    CullBeforeAck,
    /// `Policy::upgrade_additional_max` lets one live more than it says.
    OneTooManyLive,
    /// `Policy::unacked_max` lets one start more than it says.
    OneTooManyUnacked,
    /// A drained worker gets another signal when it has been reaped.
    SignalAfterReap,
    /// A stop sends a draining worker again the signal that it got.
    SignalTwice,
    /// Whoever waits for the end of an upgrade gets two last replies.
    DoubleReply,
    /// Whoever ends a soak never hears of the end.
    ForgetWaiter,
    /// The end of a soak starts nobody.
    SleepAfterSoak,
    /// A signal that was refused counts as sent.
    BelieveInSignals,
    /// SIGHUP during an upgrade is forgotten.
    ForgetHangup,
    /// An upgrade begins although the master may not signal the workers.
    BeginInVain,
    /// `replace` stops the worker before its successor has acked.
    ReplaceAtOnce,
    /// Time in which nobody ran counts.
    CountLostTime,
    /// A signal for some workers goes to all.
    SignalEverybody,
    /// What workers leave behind is not followed.
    ForgetLeftovers,
    /// What has left the group of its worker is taken for that group.
    SignalStrays,
    /// What the first look finds counts as left behind.
    JudgeByFirstLook,
    /// A report that can wait no longer is given before somebody has looked again.
    ReportUnseen,
    /// A worker that has lost a socket serves on.
    ForgetLostSocket,
    /// A worker that has lost a socket serves on if it was too large, and is not any more.
    ForgiveLostSocket,
    /// A report that waits is never given.
    ForgetReport,
    /// Workers start under pressure as if there were none.
    ForgetPressure,
    /// A slot that lost its worker during a handover is filled from the old release.
    FillBeforeUpgrade,
    /// A release whose check has failed replaces workers all the same.
    PassAnyCheck,
    /// A release replaces workers while it is checked.
    RollBeforeCheck,
    /// The command of a check goes on when an abort has ended that.
    LetCheckRun,
    /// The end of a check changes nothing.
    ForgetCheck,
    /// What an upgrade changes of the terms holds for the workers of every release.
    ForgetTerms,
}

/// Far beyond every wait of the model.
const NEVER: Duration = Duration::from_secs(1_000_000);

impl Sabotage {
    /// Handles an event, with the bug.
    pub(super) fn handle(self, supervisor: &mut Supervisor, now: Moment, mut event: Event) -> Vec<Action> {
        let before = supervisor.counts_before(&event);
        let extra = self.extra_signals(supervisor, &event);
        let mut falls_asleep = false;
        if let Event::Command { request, command: PoolCommand::Continue, .. } = &mut event {
            falls_asleep = self == Self::SleepAfterSoak;
            if self == Self::ForgetWaiter {
                *request = None;
            }
        }
        if self == Self::BelieveInSignals
            && let Event::Heard { report, .. } = &mut event
            && let Report::SignalFailed { signal, .. } = *report
        {
            *report = Report::StopSent { signal, reason: SignalReason::Set, ending: DrainEnding::Own };
        }
        if self == Self::ForgetHangup
            && supervisor.upgrade_refusal().is_some()
            && let Event::Command { command: command @ PoolCommand::Hangup, .. } = &mut event
        {
            *command = PoolCommand::Signal(Vec::new());
        }
        match &event {
            Event::WorkersUnsignallable { request, .. } if self == Self::BeginInVain => {
                event = Event::UpgradePrepared { request: *request, plan: UpgradePlan::default() };
            }
            Event::BootLoad(load) if self == Self::ForgetPressure => {
                event = Event::BootLoad(BootLoad { is_pressed: false, ..*load });
            }
            Event::JobEnded { job, .. } if self == Self::PassAnyCheck => {
                event = Event::JobEnded { job: *job, outcome: JobOutcome::Passed };
            }
            Event::JobEnded { .. } if self == Self::ForgetCheck => event = Event::DeadlineReached,
            Event::TimeLost(_) if self == Self::CountLostTime => event = Event::TimeLost(Duration::ZERO),
            Event::Heard { report: Report::LeftBehind { .. }, .. } if self == Self::ForgetLeftovers => {
                event = Event::DeadlineReached;
            }
            Event::Heard { pid, report: Report::LostSocket }
                if self == Self::ForgetLostSocket
                    || self == Self::ForgiveLostSocket && supervisor.is_recycled(*pid) =>
            {
                event = Event::DeadlineReached;
            }
            _ => {}
        }
        if self == Self::SignalStrays
            && let Event::Heard { report: Report::LeftBehind { is_group, .. }, .. } = &mut event
        {
            *is_group = true;
        }
        self.change_bounds(supervisor, 1);
        let was_rolling_back = is_rolling_back(supervisor);
        supervisor.record(now, event);
        if self == Self::SkipRollbackRefill && !was_rolling_back && is_rolling_back(supervisor) {
            let numbers: Vec<_> = supervisor.tables.pool.slots().map(|(number, _)| number).collect();
            numbers.into_iter().for_each(|number| supervisor.tables.pool.wait(number, now + NEVER));
        }
        while !falls_asleep && let Some(step) = supervisor.next_step() {
            self.take(supervisor, step);
        }
        self.change_bounds(supervisor, -1);
        if self == Self::ForgetTerms {
            supervisor.tables.releases.set_terms(BTreeMap::new());
        }
        supervisor.check_invariants(before);
        let mut actions = supervisor.take_actions();
        actions.extend(extra);
        if self == Self::ForgetReport && !supervisor.tables.policy.report_wait.is_zero() {
            actions
                .retain(|action| !matches!(action, Action::Reply { answer: LastReply::Upgrade { .. }, .. }));
        }
        if self == Self::LetCheckRun {
            actions.retain(|action| !matches!(action, Action::EndJob { .. }));
        }
        if self == Self::DoubleReply {
            let reply = actions
                .iter()
                .find(|action| matches!(action, Action::Reply { answer: LastReply::Upgrade { .. }, .. }));
            actions.extend(reply.cloned());
        }
        actions
    }

    fn take(self, supervisor: &mut Supervisor, step: Step) {
        let now = supervisor.now;
        match (self, step) {
            (Self::ForgetSlot, Step::Decide(Fate::Wait { attempts, .. })) => {
                supervisor.take(Step::Decide(Fate::Wait { at: now + NEVER, attempts }));
            }
            (Self::CullBeforeAck, step @ Step::Replace(_, old, _)) => {
                supervisor.take(step);
                supervisor.cull(old, DrainReason::UpgradeBegan);
            }
            (Self::RollBeforeCheck, step @ Step::BeginCheck(_)) => {
                supervisor.take(step);
                supervisor.begin_replacing();
            }
            (Self::JudgeByFirstLook, Step::Look(group)) => supervisor.take(Step::Settle(group)),
            (Self::ReportUnseen, Step::Settle(_)) => supervisor.tell_all_leftovers(),
            (Self::ReplaceAtOnce, step @ Step::BeginTurn(process, _)) => {
                supervisor.take(step);
                supervisor.cull(process.id, DrainReason::UpgradeBegan);
            }
            (_, step) => supervisor.take(step),
        }
    }

    fn extra_signals(self, supervisor: &Supervisor, event: &Event) -> Vec<Action> {
        let again = |pid, signal| {
            let generation = supervisor.tables.releases.serving();
            Action::Stop { pid, generation, ask: Ask::With(signal) }
        };
        let draining = |worker: &worker::Worker| Some((worker.pid?, worker.drain()?));
        let pool = &supervisor.tables.pool;
        match (self, event) {
            (Self::SignalAfterReap, Event::Exited { pid, .. }) => {
                let drained = pool.by_pid(*pid).and_then(draining);
                drained.map(|(pid, _)| again(pid, Signal::SIGKILL)).into_iter().collect()
            }
            (Self::SignalTwice, Event::Command { command: PoolCommand::Stop { .. }, .. }) => {
                let drains = pool.workers().filter_map(draining);
                let had = drains.filter_map(|(pid, drain)| Some((pid, *drain.sent.signals().first()?)));
                had.map(|(pid, signal)| again(pid, signal)).collect()
            }
            (Self::SignalEverybody, Event::Command { command: PoolCommand::SignalOnly(signals, _), .. }) => {
                let signal = signals[0];
                supervisor.pids().map(|pid| Action::Signal { pid, signal }).collect()
            }
            _ => Vec::new(),
        }
    }

    fn change_bounds(self, supervisor: &mut Supervisor, by: i32) {
        let policy = &mut supervisor.tables.policy;
        match self {
            Self::OneTooManyUnacked => policy.unacked_max = policy.unacked_max.saturating_add_signed(by),
            Self::OneTooManyLive => {
                let max = policy.upgrade_additional_max;
                policy.upgrade_additional_max = max.map(|max| max.saturating_add_signed(by));
            }
            _ => {}
        }
    }
}

impl Supervisor {
    /// Whether a worker waits to be replaced.
    fn is_recycled(&self, pid: Pid) -> bool {
        let Tables { pool, recycling, .. } = &self.tables;
        let worker = pool.by_pid(pid).map(|worker| worker.id);
        recycling.queue().any(|(id, _)| Some(id) == worker)
    }
}

fn is_rolling_back(supervisor: &Supervisor) -> bool {
    supervisor.tables.plan.rollout().is_some_and(Rollout::is_rolling_back)
}

/// Finds `sabotage` in `scope`, in which a sound supervisor does no wrong.
fn find(sabotage: Sabotage, invariant: &str, scope: &Scope) {
    if let Err(violation) = explore(scope, None) {
        panic!("{}\n{}", violation.what, violation.path.join("\n"));
    }
    let violation = explore(scope, Some(sabotage)).expect_err("the bug was not found");
    let story = violation.path.join("\n");
    eprintln!("{sabotage:?}: {}\n{story}", violation.what);
    assert!(
        violation.what.contains(invariant),
        "{sabotage:?} breaks {invariant}: {}\n{story}",
        violation.what
    );
}

fn upgrades(workers: u32, means: Means) -> Scope {
    let commands = vec![SMOOTH, PoolCommand::Abort];
    Scope { commands, means: Means { upgrades: 1, ..means }, ..Scope::steady("sabotage", workers) }
}

#[test]
fn a_forgotten_slot_is_found() {
    let means = Means { deaths: 1, ..Means::default() };
    find(Sabotage::ForgetSlot, "I1:", &Scope { means, ..Scope::steady("sabotage", 1) });
}

#[test]
fn slots_left_empty_by_a_rollback_are_found() {
    let means = Means { deaths: 2, turns: 1, ..Means::default() };
    find(Sabotage::SkipRollbackRefill, "I1:", &upgrades(1, means));
}

#[test]
fn a_cull_before_the_ack_is_found() {
    find(Sabotage::CullBeforeAck, "I2:", &upgrades(1, Means::default()));
}

#[test]
fn one_worker_too_many_is_found() {
    let mut scope = upgrades(1, Means { deaths: 2, ..Means::default() });
    scope.policy.upgrade_additional_max = Some(1);
    find(Sabotage::OneTooManyLive, "I3:", &scope);
}

#[test]
fn one_unacked_worker_too_many_is_found() {
    find(Sabotage::OneTooManyUnacked, "I4:", &upgrades(2, Means::default()));
}

#[test]
fn a_spawn_under_pressure_is_found() {
    let mut scope = upgrades(2, Means { loads: 1, ..Means::default() });
    (scope.policy.unacked_by_cpus, scope.policy.unacked_max) = (Some(1), 2);
    find(Sabotage::ForgetPressure, "I4:", &scope);
}

#[test]
fn a_signal_after_the_reap_is_found() {
    find(Sabotage::SignalAfterReap, "I5:", &upgrades(1, Means::default()));
}

#[test]
fn a_signal_sent_twice_is_found() {
    let commands = vec![PoolCommand::Dec(1), stop(Stop::Gracefully)];
    let means = Means { resizes: 1, stops: 1, ..Means::default() };
    find(Sabotage::SignalTwice, "I6:", &Scope { commands, means, ..Scope::steady("sabotage", 2) });
}

#[test]
fn a_second_last_reply_is_found() {
    find(Sabotage::DoubleReply, "I7:", &upgrades(1, Means::default()));
}

#[test]
fn a_reply_that_never_comes_is_found() {
    let commands = vec![canary(1, None), PoolCommand::Continue];
    let means = Means { upgrades: 1, turns: 1, ..Means::default() };
    find(Sabotage::ForgetWaiter, "I7:", &Scope { commands, means, ..Scope::steady("sabotage", 2) });
}

#[test]
fn a_pool_that_falls_asleep_is_found() {
    let commands = vec![canary(1, None), PoolCommand::Continue];
    let means = Means { upgrades: 1, turns: 1, ..Means::default() };
    find(Sabotage::SleepAfterSoak, "I8:", &Scope { commands, means, ..Scope::steady("sabotage", 2) });
}

#[test]
fn a_wait_for_a_worker_out_of_reach_is_found() {
    let commands = vec![stop(Stop::Gracefully)];
    let means = Means { stops: 1, hardens: 1, ..Means::default() };
    let mut scope = Scope { commands, means, ..Scope::steady("sabotage", 1) };
    scope.policy.grace = Some(SECOND);
    find(Sabotage::BelieveInSignals, "I8:", &scope);
}

#[test]
fn an_upgrade_that_could_not_replace_anybody_is_found() {
    let means = Means { upgrades: 1, hardens: 1, ..Means::default() };
    let scope = Scope { commands: vec![SMOOTH], means, ..Scope::steady("sabotage", 1) };
    find(Sabotage::BeginInVain, "cannot replace", &scope);
}

#[test]
fn a_replacement_without_a_successor_is_found() {
    let commands = vec![PoolCommand::Replace(Target::Slot(0))];
    let means = Means { turns: 1, ..Means::default() };
    find(Sabotage::ReplaceAtOnce, "I2:", &Scope { commands, means, ..Scope::steady("sabotage", 1) });
}

#[test]
fn a_signal_to_workers_that_nobody_named_is_found() {
    let commands = vec![PoolCommand::SignalOnly(vec![BYSTANDER], Target::Slot(0))];
    let means = Means { turns: 1, ..Means::default() };
    find(
        Sabotage::SignalEverybody,
        "nobody has named",
        &Scope { commands, means, ..Scope::steady("sabotage", 2) },
    );
}

#[test]
fn a_deadline_that_counts_lost_time_is_found() {
    let commands = vec![stop(Stop::Gracefully)];
    let means = Means { stops: 1, freezes: 1, ..Means::default() };
    let mut scope = Scope { commands, means, ..Scope::steady("sabotage", 1) };
    scope.policy.grace = Some(3 * SECOND);
    find(Sabotage::CountLostTime, "I6:", &scope);
}

#[test]
fn a_stop_that_does_not_wait_for_leftovers_is_found() {
    let commands = vec![stop(Stop::Gracefully)];
    let means = Means { stops: 1, leavings: 1, ..Means::default() };
    let mut scope = Scope { commands, means, ..Scope::steady("sabotage", 1) };
    scope.policy.stop_group = true;
    find(Sabotage::ForgetLeftovers, "I8:", &scope);
}

#[test]
fn a_signal_to_a_group_of_which_nobody_is_left_is_found() {
    let means = Means { deaths: 1, leavings: 1, ..Means::default() };
    let mut scope = Scope { means, ..Scope::steady("sabotage", 1) };
    scope.policy.stop_group = true;
    find(Sabotage::SignalStrays, "I5:", &scope);
}

fn leaves_behind() -> Scope {
    let mut scope = upgrades(1, Means { leavings: 1, ..Means::default() });
    scope.policy.report_wait = SECOND;
    scope
}

#[test]
fn a_judgement_by_the_first_look_is_found() {
    find(Sabotage::JudgeByFirstLook, "had no time", &leaves_behind());
}

#[test]
fn a_report_of_what_nobody_has_looked_at_again_is_found() {
    let mut scope = leaves_behind();
    scope.policy.report_wait = SECOND / 2;
    find(Sabotage::ReportUnseen, "nobody has looked", &scope);
}

#[test]
fn a_worker_that_nobody_reaches_any_more_is_found() {
    let means = Means { swells: 1, ..Means::default() };
    find(Sabotage::ForgetLostSocket, "nobody reaches", &Scope { means, ..Scope::steady("sabotage", 1) });
}

#[test]
fn a_lost_socket_that_is_forgiven_is_found() {
    let means = Means { deaths: 1, swells: 2, ..Means::default() };
    let mut scope = Scope { means, ..Scope::steady("sabotage", 2) };
    scope.policy.recycling.max_rss_bytes = Some(1);
    find(Sabotage::ForgiveLostSocket, "nobody reaches", &scope);
}

#[test]
fn a_report_that_is_never_given_is_found() {
    let mut scope = upgrades(1, Means::default());
    scope.policy.report_wait = SECOND;
    find(Sabotage::ForgetReport, "I7:", &scope);
}

#[test]
fn a_forgotten_hangup_is_found() {
    let commands = vec![SMOOTH, PoolCommand::Hangup];
    let means = Means { upgrades: 2, ..Means::default() };
    find(Sabotage::ForgetHangup, "I7:", &Scope { commands, means, ..Scope::steady("sabotage", 1) });
}

#[test]
fn a_slot_filled_from_the_old_release_after_a_handover_is_found() {
    let means = Means { deaths: 1, upgrades: 1, handovers: 1, ..Means::default() };
    let commands = vec![SMOOTH];
    let scope = Scope { commands, means, hands_over: true, ..Scope::steady("sabotage", 1) };
    find(Sabotage::FillBeforeUpgrade, "before the upgrade begins", &scope);
}

/// A pool of one worker whose upgrades are checked.
fn checked(means: Means) -> Scope {
    let mut scope = upgrades(1, means);
    scope.policy.check = Some(String::new());
    scope
}

#[test]
fn a_release_that_serves_although_its_check_has_failed_is_found() {
    find(Sabotage::PassAnyCheck, "was not checked", &checked(Means { failures: 1, ..Means::default() }));
}

#[test]
fn a_release_that_serves_before_its_check_is_over_is_found() {
    find(Sabotage::RollBeforeCheck, "was not checked", &checked(Means::default()));
}

#[test]
fn a_check_that_outlives_its_upgrade_is_found() {
    find(Sabotage::LetCheckRun, "two checks", &{
        let means = Means { turns: 1, ..Means::default() };
        let mut scope = checked(means);
        scope.means.upgrades = 2;
        scope
    });
}

#[test]
fn terms_of_another_release_are_found() {
    let means = Means { upgrades: 1, turns: 1, ..Means::default() };
    let commands = vec![other_terms(), PoolCommand::Rollback];
    let scope = Scope { commands, means, ..Scope::steady("sabotage", 1) };
    find(Sabotage::ForgetTerms, "the terms of", &scope);
}

#[test]
fn a_check_whose_end_is_forgotten_is_found() {
    find(Sabotage::ForgetCheck, "I8:", &checked(Means::default()));
}
