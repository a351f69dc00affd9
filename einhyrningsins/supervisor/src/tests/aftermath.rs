//! What an upgrade says of the workers that it replaced, and what outlives those.

use einhorn_proto::{DrainEnding, LeftoverStatus, Severity};

use super::*;

fn reporting(workers: u32) -> Policy {
    Policy { report_wait: SECOND, ..plain_policy(workers) }
}

/// A pool of two workers that has been upgraded: 100 and 101 drain.
fn upgraded(policy: Policy, plan: UpgradePlan) -> (Play, u64) {
    let mut play = Play::steady(policy);
    let request = play.command(PoolCommand::Upgrade(plan));
    play.ack(102);
    play.ack(103);
    assert!(play.notices.iter().any(|notice| matches!(notice, Notice::UpgradeDone { .. })));
    (play, request)
}

fn dies_of(play: &mut Play, pid: i32, signal: Signal) {
    let signal = signal.as_str().to_owned();
    let termination = Termination::Killed { signal, core_dumped: false, out_of_memory: false };
    play.feed(Event::Exited { pid: Pid::from_raw(pid), termination });
}

/// The worker dies and leaves a process behind, in its group or elsewhere.
fn leaves(play: &mut Play, pid: i32, listens: bool, is_group: bool) {
    if listens {
        play.listening.insert(Pid::from_raw(pid));
    }
    let report = Report::LeftBehind { members: vec![Pid::from_raw(7)], listens, is_group };
    play.feed(Event::Heard { pid: Pid::from_raw(pid), report });
    play.exit(pid);
}

fn leaves_behind(play: &mut Play, pid: i32, listens: bool) {
    leaves(play, pid, listens, true);
}

#[test]
fn the_report_comes_when_the_last_old_worker_has_gone() {
    let (mut play, request) = upgraded(reporting(2), UpgradePlan::default());
    play.exit(100);
    assert_eq!(play.replies, []);
    play.exit(101);
    assert_eq!(play.replies, [(request, true, "upgrade to generation 2 done in 0ms".into())]);
}

#[test]
fn the_report_waits_a_second_and_no_longer_and_the_pool_does_not_wait_with_it() {
    let (mut play, request) = upgraded(reporting(2), UpgradePlan::default());
    let next = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.replies, [], "it is not refused");
    play.advance(SECOND);
    let words = "upgrade to generation 2 done in 0ms; 2 old workers still finish their requests";
    assert_eq!(play.replies, [(request, true, words.into())]);
    play.ack(104);
    play.ack(105);
    play.advance(SECOND);
    assert_eq!(play.replies.last().map(|reply| (reply.0, reply.1)), Some((next, true)));
}

#[test]
fn a_report_that_waits_for_drained_workers_comes_with_the_last_of_them() {
    let plan = UpgradePlan { is_reported_drained: true, ..UpgradePlan::default() };
    let (mut play, request) = upgraded(reporting(2), plan);
    play.advance(1000 * SECOND);
    play.exit(100);
    assert_eq!(play.replies, []);
    play.exit(101);
    assert_eq!(play.replies.last().map(|reply| reply.0), Some(request));
}

#[test]
fn what_old_workers_died_of_is_counted_and_what_new_ones_do_is_not() {
    let (mut play, _) = upgraded(reporting(2), UpgradePlan::default());
    // The processes of these scripts have handlers.
    dies_of(&mut play, 100, Signal::SIGUSR2);
    dies_of(&mut play, 102, Signal::SIGUSR2);
    play.exit(101);
    let report = play.reports.last().unwrap();
    assert_eq!((report.left.ended_by_signal, report.left.warnings.len()), (1, 1), "{report:?}");
    let Notice::Drained { pid: 100, ending: DrainEnding::Handled, .. } = report.left.warnings[0] else {
        panic!("{report:?}")
    };
    assert!(
        play.replies[0].2.ends_with("done in 0ms; 1 old worker may not have drained"),
        "{:?}",
        play.replies
    );
}

#[test]
fn what_becomes_of_old_workers_after_the_report_is_added_to_the_last_one() {
    let (mut play, _) = upgraded(reporting(2), UpgradePlan::default());
    play.advance(60 * SECOND);
    dies_of(&mut play, 100, Signal::SIGUSR2);
    let last = play.snapshot().last_upgrade.unwrap();
    assert_eq!((last.report.left.ended_by_signal, last.report.draining), (1, 1));
    assert_eq!(last.ended_ms, 60_000);
}

#[test]
fn an_upgrade_of_which_something_still_listens_has_failed_its_client() {
    let (mut play, request) = upgraded(reporting(2), UpgradePlan::default());
    leaves_behind(&mut play, 100, true);
    leaves_behind(&mut play, 101, false);
    assert_eq!(play.replies, [], "they may be on the way out");
    play.advance(SECOND);
    let [(replied, false, message)] = &play.replies[..] else { panic!("{:?}", play.replies) };
    assert_eq!(*replied, request);
    assert!(message.contains("; 1 old worker left processes that hold a listener"), "{message}");
    assert_eq!(play.listening_recorded, [(1, 2, 1)], "and the history says the same");
}

#[test]
fn who_goes_a_moment_after_its_leader_is_not_left_behind() {
    let (mut play, request) = upgraded(reporting(2), UpgradePlan::default());
    leaves_behind(&mut play, 100, true);
    play.exit(101);
    play.empty_groups.insert(Pid::from_raw(100));
    play.advance(SECOND / 2);
    assert_eq!(play.replies, [(request, true, "upgrade to generation 2 done in 0ms".into())]);
    assert!(!play.notices.iter().any(|notice| matches!(notice, Notice::LeftBehind { .. })));
}

fn names_leftovers(play: &Play) -> bool {
    play.notices.iter().any(|notice| matches!(notice, Notice::LeftBehind { .. }))
}

#[test]
fn who_was_there_at_the_first_look_has_until_the_end_of_the_second_to_go() {
    for gone_after in [3, 9] {
        let (mut play, request) = upgraded(reporting(2), UpgradePlan::default());
        leaves_behind(&mut play, 100, true);
        play.exit(101);
        play.advance(SECOND * gone_after / 10);
        assert_eq!(play.replies, []);
        play.empty_groups.insert(Pid::from_raw(100));
        play.advance(SECOND);
        assert_eq!(play.replies, [(request, true, "upgrade to generation 2 done in 0ms".into())]);
        assert!(!names_leftovers(&play), "after {gone_after}00 ms: {:?}", play.notices);
    }
}

#[test]
fn a_report_that_can_wait_no_longer_is_preceded_by_a_look() {
    let (mut play, request) = upgraded(reporting(2), UpgradePlan::default());
    play.exit(101);
    play.advance(SECOND * 9 / 10);
    leaves_behind(&mut play, 100, true);
    play.empty_groups.insert(Pid::from_raw(100));
    play.advance(SECOND / 10);
    assert_eq!(play.replies, [(request, true, "upgrade to generation 2 done in 0ms".into())]);
    assert!(!names_leftovers(&play), "{:?}", play.notices);
}

#[test]
fn what_has_left_the_group_has_until_the_end_of_the_second_too() {
    for is_gone in [true, false] {
        let (mut play, _) = upgraded(reporting(2), UpgradePlan::default());
        leaves(&mut play, 100, true, false);
        play.exit(101);
        play.advance(SECOND / 2);
        assert_eq!(play.replies, []);
        play.empty_groups.extend(is_gone.then_some(Pid::from_raw(100)));
        play.advance(SECOND / 2);
        assert_eq!(play.replies.last().map(|reply| reply.1), Some(is_gone));
    }
}

#[test]
fn what_has_left_the_group_gets_no_signal_and_a_stop_does_not_wait_for_it() {
    let policy = Policy { stop_group: true, grace: Some(SECOND), ..plain_policy(2) };
    let mut play = Play::steady(policy);
    leaves(&mut play, 100, true, false);
    play.ack(102);
    let grace = vec![Setting::Grace(Some(2 * SECOND))];
    play.command(PoolCommand::Configure(grace));
    play.advance(60 * SECOND);
    assert_eq!(play.snapshot().leftovers.len(), 1);
    play.stop(Stop::Escalating);
    play.exit(101);
    play.exit(102);
    assert_eq!((play.exit, play.group_signals), (Some(0), Vec::new()));
}

#[test]
fn a_worker_with_the_pid_of_one_that_has_left_somebody_elsewhere_is_another() {
    let mut play = Play::steady(plain_policy(1));
    play.next_pid = 100;
    leaves(&mut play, 100, true, false);
    assert_eq!(play.take_spawned(), [100]);
    leaves(&mut play, 100, true, true);
    play.advance(SECOND);
    let named = play.notices.iter().filter_map(|notice| match notice {
        Notice::LeftBehind { listens, .. } => Some(*listens),
        _ => None,
    });
    assert_eq!(named.collect::<Vec<_>>(), [true, true], "it is named before it is forgotten");
}

#[test]
fn a_grace_period_that_is_given_later_is_none_for_what_gets_no_signals() {
    let mut play = Play::steady(plain_policy(1));
    leaves_behind(&mut play, 100, true);
    let grace = vec![Setting::Grace(Some(SECOND))];
    play.command(PoolCommand::Configure(grace));
    play.advance(60 * SECOND);
    assert_eq!(play.group_signals, []);
}

#[test]
fn what_is_left_behind_where_nobody_waits_is_named_after_a_second_and_once() {
    let mut play = Play::steady(plain_policy(1));
    leaves_behind(&mut play, 100, true);
    play.advance(SECOND - Duration::from_millis(1));
    assert!(!names_leftovers(&play) && play.snapshot().leftovers.is_empty(), "{:?}", play.notices);
    play.advance(10 * SECOND);
    let named = play.notices.iter().filter(|notice| matches!(notice, Notice::LeftBehind { .. }));
    assert_eq!((named.count(), play.snapshot().leftovers.len()), (1, 1));
}

#[test]
fn time_in_which_nobody_ran_is_none_in_which_somebody_could_go() {
    let mut play = Play::steady(plain_policy(1));
    leaves_behind(&mut play, 100, true);
    play.now += 5 * SECOND;
    play.feed(Event::TimeLost(5 * SECOND));
    play.advance(SECOND / 2);
    assert!(!names_leftovers(&play), "{:?}", play.notices);
    play.advance(SECOND / 2);
    assert!(names_leftovers(&play), "{:?}", play.notices);
}

#[test]
fn a_master_that_exits_looks_once_more() {
    let mut play = Play::steady(plain_policy(1));
    play.stop(Stop::Gracefully);
    play.empty_groups.insert(Pid::from_raw(100));
    leaves_behind(&mut play, 100, true);
    assert_eq!(play.exit, Some(0));
    assert!(!names_leftovers(&play), "{:?}", play.notices);
}

#[test]
fn what_has_to_be_killed_counts_as_left_behind() {
    let policy = Policy { stop_group: true, grace: Some(SECOND / 4), ..reporting(2) };
    let (mut play, _) = upgraded(policy, UpgradePlan::default());
    play.exit(101);
    leaves_behind(&mut play, 100, true);
    play.advance(SECOND / 4);
    assert_eq!(play.group_signals, [(100, Signal::SIGKILL)]);
    let [(_, false, message)] = &play.replies[..] else { panic!("{:?}", play.replies) };
    assert!(message.contains("1 old worker left processes that hold a listener"), "{message}");
}

#[test]
fn a_report_that_can_wait_no_longer_tells_what_was_left_last() {
    let (mut play, _) = upgraded(reporting(2), UpgradePlan::default());
    play.advance(SECOND * 9 / 10);
    leaves_behind(&mut play, 100, true);
    play.advance(SECOND / 10);
    let [(_, false, message)] = &play.replies[..] else { panic!("{:?}", play.replies) };
    assert!(message.contains("1 old worker left processes that hold a listener"), "{message}");
}

#[test]
fn a_report_that_does_not_wait_counts_nobody_who_still_has_time_to_go() {
    let policy = Policy { report_wait: Duration::ZERO, ..plain_policy(2) };
    let mut play = Play::steady(policy);
    let request = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(102);
    leaves_behind(&mut play, 100, true);
    play.ack(103);
    let words = "upgrade to generation 2 done in 0ms; 2 old workers still finish their requests";
    assert_eq!(play.replies, [(request, true, words.into())]);
    assert!(!names_leftovers(&play), "{:?}", play.notices);
    play.advance(SECOND);
    let last = play.snapshot().last_upgrade.expect("an upgrade has ended");
    assert!(names_leftovers(&play) && last.report.left.is_serving(), "{:?}", play.notices);
}

#[test]
fn a_stop_gives_the_report_at_once() {
    let (mut play, request) = upgraded(reporting(2), UpgradePlan::default());
    play.stop(Stop::Gracefully);
    assert_eq!(play.replies.last().map(|reply| (reply.0, reply.1)), Some((request, true)));
}

#[test]
fn a_generation_that_drains_for_long_is_named_once() {
    let policy = Policy { drain_warning: Some(30 * SECOND), ..reporting(2) };
    let (mut play, _) = upgraded(policy, UpgradePlan::default());
    play.advance(29 * SECOND);
    assert_eq!(play.snapshot().lasting, []);
    play.advance(60 * SECOND);
    let named =
        play.notices.iter().filter(|notice| matches!(notice, Notice::StillDraining { workers: 2, .. }));
    assert_eq!(named.count(), 1);
    assert_eq!(play.snapshot().lasting[0].after_ms, 89_000);
    play.exit(100);
    play.exit(101);
    assert_eq!(play.snapshot().lasting, []);
    assert_eq!(play.supervisor.next_deadline(), None);
}

#[test]
fn a_group_is_looked_at_until_it_is_empty_and_killed_after_the_grace_period() {
    let policy = Policy { stop_group: true, grace: Some(2 * SECOND), ..plain_policy(2) };
    let mut play = Play::steady(policy);
    play.command(PoolCommand::Dec(1));
    leaves_behind(&mut play, 101, true);
    assert_eq!(play.group_signals, [], "it had the signal of its leader");
    play.advance(2 * SECOND);
    assert_eq!(play.group_signals, [(101, Signal::SIGKILL)]);
    let [LeftoverStatus { pid: 101, listens: true, .. }] = play.snapshot().leftovers[..] else {
        panic!("{:?}", play.snapshot().leftovers)
    };
    play.empty_groups.insert(Pid::from_raw(101));
    play.advance(SECOND);
    assert_eq!(play.snapshot().leftovers, []);
    assert_eq!(play.group_signals.len(), 1);
    assert_eq!(play.supervisor.next_deadline(), None);
}

#[test]
fn what_a_worker_that_died_by_itself_left_behind_is_asked_to_stop() {
    let mut play = Play::steady(Policy { stop_group: true, ..plain_policy(1) });
    leaves_behind(&mut play, 100, true);
    assert_eq!(play.group_signals, [(100, Signal::SIGUSR2)]);
}

#[test]
fn without_the_option_a_group_is_only_shown() {
    let mut play = Play::steady(Policy { grace: Some(SECOND), ..plain_policy(1) });
    play.stop(Stop::Gracefully);
    leaves_behind(&mut play, 100, true);
    assert_eq!((play.exit, play.group_signals), (Some(0), Vec::new()));
    let told =
        play.notices.iter().position(|notice| matches!(notice, Notice::LeftBehind { listens: true, .. }));
    let exits = play.notices.iter().position(|notice| matches!(notice, Notice::MasterExiting { .. }));
    assert!(told.is_some() && told < exits, "{:?}", play.notices);
}

#[test]
fn a_stop_waits_for_groups_and_takes_them_a_step_further() {
    let mut play = Play::steady(Policy { stop_group: true, ..plain_policy(1) });
    play.stop(Stop::Escalating);
    leaves_behind(&mut play, 100, true);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        play.advance(SECOND);
        assert_eq!(play.exit, None);
        play.stop(Stop::Escalating);
        assert_eq!(play.group_signals.pop(), Some((100, signal)));
    }
    play.empty_groups.insert(Pid::from_raw(100));
    play.advance(SECOND);
    assert_eq!(play.exit, Some(0));
}

#[test]
fn a_worker_that_exits_with_0_after_its_ack_is_no_fault() {
    let mut play = Play::steady(plain_policy(1));
    play.feed(Event::Exited { pid: Pid::from_raw(100), termination: Termination::Exited(0) });
    assert_eq!(play.take_spawned(), [101], "it is replaced as any other");
    let slot = play.snapshot().slots.remove(0);
    assert_eq!((slot.restarts, slot.last_death), (0, None));
    let died = play.notices.iter().find(|notice| matches!(notice, Notice::Died { .. }));
    assert_eq!(died.map(Notice::severity), Some(Severity::Info));
}
