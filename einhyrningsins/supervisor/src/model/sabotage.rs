//! Bugs put in by hand, each at one place of the core, and that the search finds every one of them.

use super::search::explore;
use super::*;

/// A bug that a supervisor of the tests can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Sabotage {
    /// A slot whose worker died is never filled again.
    ForgetSlot,
    /// A rollback leaves the seats empty that the failed release had left.
    SkipRollbackRefill,
    /// The old worker goes before the new one has acked.
    CullBeforeAck,
    /// `--max-upgrade-additional` lets one live more than it says.
    OneTooManyLive,
    /// `--max-unacked` lets one start more than it says.
    OneTooManyUnacked,
    /// A drained worker gets another signal when it has been reaped.
    SignalAfterReap,
    /// A stop tells a draining worker again what it was told.
    SignalTwice,
    /// The end of an upgrade is told twice to whoever waits.
    DoubleReply,
    /// Whoever ends a soak never hears of the end.
    ForgetWaiter,
    /// The end of a soak starts nobody.
    SleepAfterSoak,
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
fn seats_left_empty_by_a_rollback_are_found() {
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
