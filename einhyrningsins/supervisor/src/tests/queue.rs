//! Upgrades that wait for the one that runs.

use super::*;
use crate::model::{NOBODY, plan};
use crate::tests::play::Play;

const SMOOTH: UpgradePlan = plan(false);

/// A pool of one worker whose upgrade to generation 2 runs; its new worker is 101.
fn upgrading() -> (Play, u64) {
    let mut play = Play::steady(plain_policy(1));
    let request = play.command(PoolCommand::Upgrade(SMOOTH));
    assert_eq!(play.take_spawned(), [101]);
    (play, request)
}

fn hang_up(play: &mut Play) {
    play.feed(Event::Command { request: None, requester: NOBODY, command: PoolCommand::Hangup });
}

#[test]
fn hangups_during_an_upgrade_merge_into_one_upgrade_after_it() {
    let (mut play, _) = upgrading();
    hang_up(&mut play);
    hang_up(&mut play);
    assert_eq!(play.snapshot().queued, 1);
    play.ack(101);
    assert_eq!(play.spawned, [(102, 0, 2, 3)], "the next upgrade begins at once");
    assert_eq!(play.snapshot().queued, 0);
    play.exit(100);
    play.ack(102);
    play.exit(101);
    assert_eq!(play.undrained(), [(0, 102, 3)]);
    assert_eq!(play.snapshot().upgrade, None);
}

#[test]
fn a_hangup_while_an_upgrade_is_prepared_is_remembered() {
    let mut play = Play::steady(plain_policy(1));
    play.prepares = false;
    hang_up(&mut play);
    hang_up(&mut play);
    assert_eq!(play.snapshot().queued, 1);
    play.prepares = true;
    play.feed(Event::UpgradePrepared { request: None, plan: SMOOTH });
    play.ack(101);
    play.ack(102);
    assert_eq!(play.undrained(), [(0, 102, 3)]);
}

#[test]
fn queued_upgrades_begin_in_order_and_the_hangup_comes_last() {
    let (mut play, first) = upgrading();
    hang_up(&mut play);
    let fleet = UpgradePlan { is_fleet: true, ..SMOOTH };
    let second = play.command(PoolCommand::QueueUpgrade(fleet));
    let third = play.command(PoolCommand::QueueUpgrade(SMOOTH));
    assert_eq!(play.snapshot().queued, 3);
    assert_eq!(play.replies, [], "nobody is answered before the end");
    for pid in 101..=104 {
        play.ack(pid);
    }
    let ended: Vec<_> = play.replies.iter().map(|(request, ok, _)| (*request, *ok)).collect();
    assert_eq!(ended, [(first, true), (second, true), (third, true)]);
    assert_eq!(play.undrained(), [(0, 104, 5)], "and SIGHUP has had its own");
}

#[test]
fn an_upgrade_that_need_not_wait_begins_at_once() {
    let mut play = Play::steady(plain_policy(1));
    play.command(PoolCommand::QueueUpgrade(SMOOTH));
    assert_eq!(play.take_spawned(), [101]);
}

#[test]
fn an_upgrade_waits_also_where_others_take_the_place_of_the_one_that_runs() {
    let mut play = Play::steady(Policy { upgrade_restarts: true, ..plain_policy(1) });
    let first = play.command(PoolCommand::Upgrade(SMOOTH));
    let second = play.command(PoolCommand::QueueUpgrade(SMOOTH));
    assert_eq!((play.take_spawned(), play.snapshot().queued), (vec![101], 1));
    play.ack(101);
    assert_eq!(play.take_spawned(), [102]);
    play.ack(102);
    let answered: Vec<_> = play.replies.iter().map(|(request, ok, _)| (*request, *ok)).collect();
    assert_eq!(answered, [(first, true), (second, true)]);
}

#[test]
fn sixteen_upgrades_wait_and_the_next_is_refused() {
    let (mut play, _) = upgrading();
    for _ in 0..16 {
        play.command(PoolCommand::QueueUpgrade(SMOOTH));
    }
    assert_eq!(play.replies, []);
    let refused = play.command(PoolCommand::QueueUpgrade(SMOOTH));
    assert_eq!(
        play.replies,
        [(refused, false, "upgrade refused: 16 upgrades are already waiting".to_owned())]
    );
    hang_up(&mut play);
    assert_eq!(play.snapshot().queued, 17, "SIGHUP has nobody to try again");
}

#[test]
fn a_failed_upgrade_leaves_the_queue_and_an_abort_empties_it() {
    let (mut play, _) = upgrading();
    play.command(PoolCommand::QueueUpgrade(SMOOTH));
    play.exit(101);
    play.advance(2 * SECOND);
    play.exit(102);
    play.advance(3 * SECOND);
    play.exit(103);
    assert_eq!(play.spawned.last().map(|spawned| spawned.3), Some(3), "the one that waited begins");
    let waiting = play.command(PoolCommand::QueueUpgrade(SMOOTH));
    hang_up(&mut play);
    play.replies.clear();
    play.command(PoolCommand::Abort);
    let not_started = "upgrade not started: the running upgrade was aborted".to_owned();
    assert_eq!(play.replies[0], (waiting, false, not_started));
    assert_eq!(play.snapshot().queued, 0);
    assert_eq!(play.undrained(), [(0, 100, 1)]);
}

#[test]
fn a_rollback_and_a_stop_answer_those_that_wait() {
    for (command, why) in [
        (PoolCommand::Rollback, "a rollback was requested"),
        (PoolCommand::Stop { how: Stop::Gracefully, why: "test".into() }, "the master is stopping"),
        (
            PoolCommand::Stop { how: Stop::AtOnce(Signal::SIGQUIT), why: "test".into() },
            "the master is stopping",
        ),
    ] {
        let (mut play, _) = upgrading();
        let waiting = play.command(PoolCommand::QueueUpgrade(SMOOTH));
        hang_up(&mut play);
        play.command(command);
        let reply = play.replies.iter().find(|(request, ..)| *request == waiting);
        assert_eq!(reply, Some(&(waiting, false, format!("upgrade not started: {why}"))));
        assert_eq!(play.snapshot().queued, 0);
    }
}

#[test]
fn an_upgrade_that_waits_is_kept_when_its_client_leaves_and_when_the_master_is_replaced() {
    let (mut play, _) = upgrading();
    let request = RequestKey(play.command(PoolCommand::QueueUpgrade(SMOOTH)));
    play.feed(Event::RequestAbandoned { request });
    let tables = play.supervisor.tables().unwrap().clone();
    play.supervisor = Supervisor::restore(tables).unwrap();
    play.ack(101);
    assert_eq!(play.spawned, [(102, 0, 2, 3)]);
}

#[test]
fn a_slot_that_lost_its_worker_while_the_master_was_replaced_gets_the_new_release() {
    let mut play = Play::steady(plain_policy(2));
    play.prepares = false;
    play.command(PoolCommand::Upgrade(SMOOTH));
    let tables = play.supervisor.tables().unwrap().clone();
    play.supervisor = Supervisor::restore(tables).unwrap();
    play.exit(101);
    assert_eq!(play.spawned, [], "the upgrade comes first");
    play.feed(Event::UpgradePrepared { request: None, plan: SMOOTH });
    assert_eq!(play.spawned, [(102, 1, 1, 2), (103, 0, 2, 2)]);
}

#[test]
fn a_slot_is_filled_from_its_own_release_if_the_upgrade_does_not_begin() {
    let mut play = Play::steady(plain_policy(2));
    play.prepares = false;
    play.command(PoolCommand::Upgrade(SMOOTH));
    let tables = play.supervisor.tables().unwrap().clone();
    play.supervisor = Supervisor::restore(tables).unwrap();
    play.exit(101);
    play.feed(Event::UpgradeNotPrepared);
    assert_eq!(play.spawned, [(102, 1, 1, 1)]);
}
