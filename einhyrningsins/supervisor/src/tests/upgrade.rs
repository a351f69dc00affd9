//! Upgrades: whose turn it is, what becomes of a bad release, and what may come between.

use einhorn_proto::{Pace, PaceReason};

use super::*;

#[test]
fn a_smooth_upgrade_drains_an_old_worker_for_each_new_one_that_acks() {
    let mut play = Play::steady(plain_policy(3));
    play.take_signals();
    let request = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.spawned, [(103, 0, 3, 2), (104, 1, 4, 2)]);
    assert!(play.signals.is_empty(), "nobody goes before somebody has come");
    play.ack(104);
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2)], "the one whose slot it takes");
    assert_eq!(play.spawned.last(), Some(&(105, 2, 5, 2)));
    play.ack(103);
    play.exit(101);
    assert!(play.replies.is_empty());
    play.ack(105);
    assert_eq!(play.undrained(), [(0, 103, 2), (1, 104, 2), (2, 105, 2)]);
    let [(answered, true, message)] = &play.replies[..] else { panic!("{:?}", play.replies) };
    assert_eq!(*answered, request);
    assert!(message.contains("2 old workers still finish"), "{message}");
    assert_eq!(play.reports[0].outcome, Outcome::Done);
}

#[test]
fn an_index_is_free_again_when_its_worker_is_reaped() {
    let mut play = Play::steady(plain_policy(1));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(101);
    play.exit(100);
    play.spawned.clear();
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.spawned, [(102, 0, 0, 3)]);
}

#[test]
fn a_second_upgrade_is_refused_and_told_which_one_runs() {
    let mut play = Play::steady(plain_policy(2));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(102);
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    let (_, ok, message) = play.replies.last().unwrap();
    assert!(!ok);
    assert_eq!(message, "upgrade refused: generation 2 is still coming up (1 of 2 acked)");
}

#[test]
fn a_bad_release_fails_the_upgrade_and_the_old_workers_go_on() {
    let mut play = Play::steady(plain_policy(2));
    play.take_signals();
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    for _ in 0..6 {
        for pid in play.take_spawned().into_iter().filter(|pid| *pid > 101) {
            play.exit(pid);
        }
        play.advance(2 * SECOND);
    }
    let [(_, false, message)] = &play.replies[..] else { panic!("{:?}", play.replies) };
    assert!(message.contains("unacked; 3 tries"), "{message}");
    assert!(message.contains("2 of 2 workers of generation 1 serve"), "{message}");
    assert_eq!(play.undrained(), [(0, 100, 1), (1, 101, 1)]);
    let drained: Vec<_> = play.take_signals().into_iter().filter(|(pid, _)| *pid < 102).collect();
    assert!(drained.is_empty());
    assert_eq!(play.supervisor.next_deadline(), None);
}

#[test]
fn a_release_that_cannot_be_resolved_fails_the_upgrade_before_anything_happens() {
    let mut play = Play::steady(plain_policy(2));
    play.resolves = false;
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    let [(_, false, message)] = &play.replies[..] else { panic!("{:?}", play.replies) };
    assert!(message.contains("no such program"), "{message}");
    assert!(play.spawned.iter().all(|(.., generation)| *generation == 1));
    play.resolves = true;
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.spawned.last().unwrap().3, 3, "a generation's number is not used twice");
}

#[test]
fn an_old_worker_that_dies_during_an_upgrade_comes_back_from_its_own_release() {
    let mut play = Play::steady(Policy { unacked_max: 1, ..plain_policy(3) });
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.exit(102);
    play.ack(103);
    assert_eq!(play.spawned.last(), Some(&(104, 2, 0x2, 1)), "slot 2 waits for its turn");
}

#[test]
fn boots_that_leave_cpus_idle_become_more_until_there_is_pressure() {
    let mut play = Play::steady(Policy { unacked_by_cpus: Some(1), unacked_max: 100, ..plain_policy(9) });
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    let mut starting = vec![play.take_spawned().len()];
    let idle = BootLoad { busy_permille: 200, ..BootLoad::default() };
    let pressed = BootLoad { is_pressed: true, ..idle };
    for load in [idle, pressed, idle] {
        play.feed(Event::BootLoad(load));
        starting.push(play.take_spawned().len());
    }
    assert_eq!(starting, [1, 1, 0, 2], "one, two, none, four at a time");
    (109..118).for_each(|pid| play.ack(pid));
    let pace = Pace { workers: 4, why: PaceReason::Idle };
    assert_eq!(play.snapshot().last_upgrade.and_then(|last| last.report.pace), Some(pace));
}

#[test]
fn when_an_old_worker_dies_its_starting_successor_takes_the_slot() {
    let mut play = Play::steady(plain_policy(2));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.take_spawned();
    play.exit(100);
    assert!(play.spawned.is_empty());
    play.ack(102);
    play.ack(103);
    assert_eq!(play.replies.len(), 1);
    assert_eq!(play.undrained(), [(0, 102, 2), (1, 103, 2)]);
}

#[test]
fn upgrade_additional_bounds_live_workers_exactly() {
    let mut play = Play::steady(Policy { upgrade_additional_max: Some(1), ..plain_policy(4) });
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    let mut peak = 0;
    for _ in 0..4 {
        let [pid] = play.take_spawned()[..] else { panic!("one at a time") };
        play.ack(pid);
        peak = peak.max(play.snapshot().workers.len());
        let (old, _) = play.take_signals()[0];
        play.exit(old);
    }
    assert_eq!(peak, 5);
    assert_eq!(play.replies.len(), 1);
}

#[test]
fn more_workers_during_an_upgrade_get_the_new_release() {
    let mut play = Play::steady(plain_policy(1));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.command(PoolCommand::SetWorkers(3));
    play.ack(101);
    play.ack(102);
    play.ack(103);
    assert_eq!(play.undrained(), [(0, 101, 2), (1, 102, 2), (2, 103, 2)]);
    assert_eq!(play.reports.len(), 1);
}

#[test]
fn a_release_that_runs_the_same_as_the_one_that_serves_is_pointed_out() {
    let unchanged = |same_as| {
        let mut play = Play::steady(plain_policy(1));
        let event = Event::UpgradePrepared { request: None, plan: UpgradePlan::default() };
        let actions = play.supervisor.handle(play.now, event);
        assert_eq!(actions, [Action::ResolveRelease { generation: Generation(2) }]);
        play.feed(Event::ReleaseResolved { generation: Generation(2), same_as });
        let notices = play.notices.iter();
        notices.filter(|notice| matches!(notice, Notice::ReleaseUnchanged { generation: 2, from: 1 })).count()
    };
    assert_eq!(unchanged(Some(Generation(1))), 1);
    assert_eq!(unchanged(None), 0);
    assert_eq!(unchanged(Some(Generation(0))), 0, "one that serves no more");
}

#[test]
fn a_fleet_without_room_for_a_second_try_goes_on_smoothly() {
    let mut play =
        Play::steady(Policy { upgrade_additional_max: Some(1), unacked_max: 1, ..plain_policy(1) });
    let fleet = PoolCommand::Upgrade(UpgradePlan { is_fleet: true, ..UpgradePlan::default() });
    let request = Some(RequestKey(77));
    let command = Event::Command { request, requester: Requester::default(), command: fleet };
    let actions = play.supervisor.handle(play.now, command);
    let [Action::PrepareUpgrade { request, plan }] = &actions[..] else { panic!("{actions:?}") };
    let prepared = Event::UpgradePrepared { request: *request, plan: plan.clone() };
    let actions = play.supervisor.handle(play.now, prepared);
    assert_eq!(actions, [Action::ResolveRelease { generation: Generation(2) }]);
    play.command(PoolCommand::Inc(1));
    play.feed(Event::ReleaseResolved { generation: Generation(2), same_as: None });
    assert_eq!(play.take_spawned(), [101, 102], "the second slot's first worker, the first slot's successor");
    play.exit(102);
    assert_eq!(play.take_spawned(), [103], "the second slot's successor has taken the room");
    play.ack(101);
    play.ack(103);
    play.advance(2 * SECOND);
    let signals = play.take_signals();
    assert_eq!(signals, [(101, Signal::SIGUSR2)], "the first slot waits for room, and the other need not");
    play.exit(101);
    assert_eq!(play.take_spawned(), [104]);
    play.ack(104);
    assert_eq!(play.reports.iter().map(|report| report.outcome).collect::<Vec<_>>(), [Outcome::Done]);
}

#[test]
fn an_upgrade_goes_on_when_its_client_leaves() {
    let mut play = Play::steady(plain_policy(1));
    let request = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.feed(Event::RequestAbandoned { request: RequestKey(request) });
    play.ack(101);
    assert_eq!(play.undrained(), [(0, 101, 2)]);
    assert!(play.replies.is_empty());
}

#[test]
fn a_slot_that_was_given_up_before_does_not_hold_up_a_rollback() {
    let mut play = Play::steady(Policy { retries: Retries::always(1), unacked_max: 1, ..plain_policy(2) });
    play.exit(100);
    play.exit(102);
    assert!(play.snapshot().slots[0].given_up);
    // A canary of one goes to the empty slot first; the other slot is given up during its soak.
    let plan = UpgradePlan { canary: Some(1), ..UpgradePlan::default() };
    play.command(PoolCommand::Upgrade(plan));
    play.ack(103);
    play.exit(101);
    play.exit(104);
    assert!(play.snapshot().slots[1].given_up);
    play.command(PoolCommand::Abort);
    assert_eq!(play.spawned.last(), Some(&(105, 0, 1, 1)), "a successor of the previous release");
    play.ack(105);
    assert_eq!(play.reports.first().map(|report| report.outcome), Some(Outcome::RolledBack));
}

/// A pool of two in which upgrades restart, with one of its slots on generation 2 and the other being tried.
fn half_upgraded(unacked_max: u32) -> (Play, u64) {
    let mut play = Play::steady(Policy { upgrade_restarts: true, unacked_max, ..plain_policy(2) });
    let first = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.take_spawned(), [102]);
    play.ack(102);
    assert_eq!(play.take_spawned(), [103]);
    play.exit(100);
    play.signals.clear();
    (play, first)
}

#[test]
fn where_upgrades_restart_a_second_one_takes_the_place_of_the_first_and_answers_both() {
    let (mut play, first) = half_upgraded(1);
    let second = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.signals, [(103, Signal::SIGUSR2)], "what was being tried is not wanted any more");
    assert_eq!(play.spawned, [(104, 0, 0, 3)]);
    play.ack(104);
    play.ack(105);
    assert_eq!(play.spawned[1..], [(105, 1, 4, 3)]);
    let report = &play.reports[0];
    assert_eq!((report.outcome, report.generation, report.upgraded), (Outcome::Done, 3, 2));
    let answered: Vec<_> = play.replies.iter().map(|(request, ok, _)| (*request, *ok)).collect();
    assert_eq!(answered, [(first, true), (second, true)]);
}

#[test]
fn an_upgrade_that_took_the_place_of_another_goes_back_to_what_was_there_before_both() {
    let (mut play, _) = half_upgraded(1);
    play.resolves = false;
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.spawned, [(104, 0, 0, 1)], "the slot that the first had upgraded goes back");
    play.ack(104);
    assert_eq!(play.reports[0].outcome, Outcome::RolledBack);
    let generations: Vec<_> =
        play.supervisor.tables.pool.slots().map(|(_, slot)| slot.generation.0).collect();
    assert_eq!(generations, [1, 1]);
    assert_eq!(play.supervisor.snapshot(play.now).upgrade, None);
}

#[test]
fn a_higher_bound_lets_an_upgrade_go_on_at_once() {
    let mut play = Play::steady(Policy { unacked_max: 1, ..plain_policy(3) });
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.take_spawned().len(), 1);
    let change = vec![Setting::Unacked { max: 3, by_cpus: None }];
    play.command(PoolCommand::Configure(change));
    assert_eq!(play.take_spawned().len(), 2);
}

#[test]
fn a_bound_that_follows_boots_again_knows_them_and_forgets_the_pressure() {
    let mut play = Play::steady(Policy { unacked_by_cpus: Some(1), unacked_max: 100, ..plain_policy(9) });
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.feed(Event::BootLoad(BootLoad { is_pressed: true, filling: Some(4), ..BootLoad::default() }));
    assert_eq!(play.take_spawned().len(), 1);
    let bound = |max, by_cpus| vec![Setting::Unacked { max, by_cpus }];
    play.command(PoolCommand::Configure(bound(2, None)));
    assert_eq!(play.take_spawned().len(), 1, "two at a time");
    play.command(PoolCommand::Configure(bound(100, Some(1))));
    assert_eq!(play.take_spawned().len(), 2, "four at a time");
    play.command(PoolCommand::Configure(bound(5, Some(1))));
    play.feed(Event::BootLoad(BootLoad { filling: Some(8), ..BootLoad::default() }));
    assert_eq!(play.take_spawned().len(), 1, "five at a time");
}

#[test]
fn a_release_that_fails_after_it_was_resolved_does_not_fail_the_upgrade() {
    let mut play = Play::steady(plain_policy(2));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(102);
    play.feed(Event::ReleaseFailed { generation: Generation(2), reason: "no such program".into() });
    assert!(play.replies.is_empty());
    let last = play.notices.last().map(Notice::to_string);
    assert_eq!(last.unwrap(), "ignored: the release of generation 2, because no upgrade waits for it");
    play.ack(103);
    assert_eq!(play.reports[0].outcome, Outcome::Done);
}
