//! What is recorded of rollouts that have ended: who asked for each, what its release is called, and how it ended.

use einhorn_proto::{PastOutcome, RolloutKind, RolloutOrder};

use super::*;

const ALICE: u32 = 1001;
const BOB: u32 = 1002;
const CAROL: u32 = 1003;

/// The two generations, who asked, the label and the outcome of a rollout.
type Row<'a> = (u64, u64, Option<u32>, Option<&'a str>, PastOutcome);

fn rows(play: &Play) -> Vec<Row<'_>> {
    let records = play.records.iter();
    records
        .map(|rollout| {
            let RolloutRecord { generation, from, requester, label, outcome, .. } = rollout;
            (from.0, generation.0, requester.uid, label.as_deref(), *outcome)
        })
        .collect()
}

/// Who ended each before its time.
fn enders(play: &Play) -> Vec<Option<u32>> {
    play.records.iter().map(|rollout| rollout.ended_by.as_ref()?.uid).collect()
}

fn labelled(label: &str) -> UpgradePlan {
    UpgradePlan { label: Some(label.to_owned()), ..UpgradePlan::default() }
}

/// A pool of one worker.
fn pool() -> Play {
    Play::steady(plain_policy(1))
}

/// The newest worker acks, and those before it go.
fn succeed(play: &mut Play) {
    let new = play.take_spawned().pop().expect("a successor");
    play.ack(new);
    play.exit(new - 1);
}

#[test]
fn an_upgrade_is_recorded_at_its_end_with_who_asked_its_label_and_how_long_it_took() {
    let mut play = pool();
    play.command_of(ALICE, PoolCommand::Upgrade(labelled("v2")));
    play.take_spawned();
    play.now += 3 * SECOND;
    assert!(play.records.is_empty(), "it has not ended");
    play.ack(101);
    assert_eq!(rows(&play), [(1, 2, Some(ALICE), Some("v2"), PastOutcome::Done)]);
    let RolloutRecord { kind, order, took, reason, .. } = &play.records[0];
    assert_eq!((*kind, *order), (RolloutKind::Upgrade, RolloutOrder::Smooth));
    assert_eq!((*took, reason), (3 * SECOND, &None));
}

#[test]
fn who_joins_an_upgrade_does_not_change_who_asked_for_it() {
    let mut play = pool();
    play.command_of(ALICE, PoolCommand::Upgrade(UpgradePlan { canary: Some(1), ..labelled("v2") }));
    play.command_of(BOB, PoolCommand::Follow);
    play.ack(101);
    play.command_of(BOB, PoolCommand::Upgrade(labelled("v3")));
    play.command_of(BOB, PoolCommand::Continue);
    assert_eq!(rows(&play), [(1, 2, Some(ALICE), Some("v2"), PastOutcome::Done)]);
    assert_eq!(play.records[0].order, RolloutOrder::Canary, "as it was asked for");
}

#[test]
fn a_fleet_that_goes_on_one_by_one_is_recorded_as_the_fleet_that_was_asked_for() {
    let mut play = Play::steady(Policy { upgrade_additional_max: Some(1), ..plain_policy(1) });
    play.command_of(ALICE, PoolCommand::Upgrade(UpgradePlan { is_fleet: true, ..UpgradePlan::default() }));
    let event = PoolCommand::Inc(1);
    play.command(event);
    for pid in [101, 102, 103] {
        play.ack(pid);
    }
    assert_eq!(play.records[0].order, RolloutOrder::Fleet);
}

#[test]
fn an_upgrade_that_failed_was_aborted_or_found_no_release_is_recorded_with_its_reason() {
    let mut play = pool();
    play.command_of(ALICE, PoolCommand::Upgrade(labelled("v2")));
    for _ in 0..4 {
        play.take_spawned().into_iter().filter(|pid| *pid > 100).for_each(|pid| play.exit(pid));
        play.advance(5 * SECOND);
    }
    play.command_of(BOB, PoolCommand::Upgrade(labelled("v3")));
    play.command_of(CAROL, PoolCommand::Abort);
    play.resolves = false;
    play.command_of(CAROL, PoolCommand::Upgrade(labelled("v4")));
    let rolled_back = PastOutcome::RolledBack;
    assert_eq!(
        rows(&play),
        [
            (1, 2, Some(ALICE), Some("v2"), rolled_back),
            (1, 3, Some(BOB), Some("v3"), rolled_back),
            (1, 4, Some(CAROL), Some("v4"), rolled_back)
        ]
    );
    assert_eq!(enders(&play), [None, Some(CAROL), None]);
    let reasons: Vec<_> = play.records.iter().map(|rollout| rollout.reason.as_deref().unwrap()).collect();
    assert!(reasons[0].contains("exited with status 1"), "{reasons:?}");
    assert!(reasons[1].contains("abort"), "{reasons:?}");
    assert!(reasons[2].contains("no such program"), "{reasons:?}");
}

#[test]
fn a_rollback_is_recorded_under_the_label_of_the_release_that_it_goes_back_to() {
    let mut play = pool();
    for (user, label) in [(ALICE, "v2"), (ALICE, "v3")] {
        play.command_of(user, PoolCommand::Upgrade(labelled(label)));
        succeed(&mut play);
    }
    play.command_of(BOB, PoolCommand::Rollback);
    play.ack(103);
    let done = PastOutcome::Done;
    assert_eq!(
        rows(&play),
        [
            (1, 2, Some(ALICE), Some("v2"), done),
            (2, 3, Some(ALICE), Some("v3"), done),
            (3, 2, Some(BOB), Some("v2"), done)
        ]
    );
    assert_eq!(play.records[2].kind, RolloutKind::Rollback);
    assert_eq!(play.supervisor.tables.releases.label(Generation(3)), None, "nothing can lead there any more");
}

#[test]
fn upgrades_that_wait_are_recorded_for_those_who_asked_and_hangups_for_the_first_of_them() {
    let mut play = pool();
    play.command_of(ALICE, PoolCommand::Upgrade(labelled("v2")));
    play.command_of(CAROL, PoolCommand::Hangup);
    play.command_of(ALICE, PoolCommand::Hangup);
    play.command_of(BOB, PoolCommand::QueueUpgrade(labelled("v3")));
    for _ in 0..3 {
        succeed(&mut play);
    }
    let done = PastOutcome::Done;
    assert_eq!(
        rows(&play),
        [
            (1, 2, Some(ALICE), Some("v2"), done),
            (2, 3, Some(BOB), Some("v3"), done),
            (3, 4, Some(CAROL), None, done)
        ]
    );
    play.command_of(BOB, PoolCommand::Hangup);
    succeed(&mut play);
    assert_eq!(rows(&play)[3..], [(4, 5, Some(BOB), None, done)], "the next one is of its own");
}

#[test]
fn an_upgrade_that_lost_its_place_is_recorded_as_superseded() {
    let mut play = Play::steady(Policy { upgrade_restarts: true, ..plain_policy(1) });
    play.command_of(ALICE, PoolCommand::Upgrade(labelled("v2")));
    play.command_of(BOB, PoolCommand::Upgrade(labelled("v3")));
    play.ack(102);
    assert_eq!(
        rows(&play),
        [
            (1, 2, Some(ALICE), Some("v2"), PastOutcome::Superseded),
            (1, 3, Some(BOB), Some("v3"), PastOutcome::Done)
        ]
    );
    assert!(play.records[0].reason.as_deref().unwrap().contains("generation 3"));
    assert_eq!(enders(&play), [Some(BOB), None]);
}

#[test]
fn an_upgrade_that_the_stop_of_the_master_ends_is_recorded() {
    let mut play = pool();
    play.command_of(ALICE, PoolCommand::Upgrade(labelled("v2")));
    play.command_of(BOB, PoolCommand::Stop { how: Stop::Gracefully, why: "test".into() });
    play.command_of(CAROL, PoolCommand::Stop { how: Stop::Gracefully, why: "test".into() });
    assert_eq!(enders(&play), [Some(BOB)]);
    assert_eq!(rows(&play), [(1, 2, Some(ALICE), Some("v2"), PastOutcome::Failed)]);
}

#[test]
fn whoever_ends_an_upgrade_that_has_failed_already_does_not_change_why() {
    let mut play = pool();
    play.command_of(ALICE, PoolCommand::Upgrade(UpgradePlan { canary: Some(1), ..labelled("v2") }));
    play.ack(101);
    play.command_of(BOB, PoolCommand::Rollback);
    play.command_of(CAROL, PoolCommand::Abort);
    play.ack(102);
    assert_eq!(enders(&play), [Some(BOB)]);
    assert_eq!(play.records[0].reason.as_deref(), Some("a rollback was asked for"));
}

#[test]
fn an_upgrade_that_ends_with_the_master_at_once_is_recorded() {
    let mut play = pool();
    play.command_of(ALICE, PoolCommand::Upgrade(labelled("v2")));
    play.command_of(BOB, PoolCommand::Stop { how: Stop::AtOnce(Signal::SIGQUIT), why: "test".into() });
    assert_eq!(rows(&play), [(1, 2, Some(ALICE), Some("v2"), PastOutcome::Failed)]);
    assert_eq!(enders(&play), [Some(BOB)]);
    let refused = play.replies.iter().filter(|reply| !reply.1).count();
    assert_eq!(refused, 1, "its client has one answer: {:?}", play.replies);
}
