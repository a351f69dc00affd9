//! Releases that are checked before they replace a worker.

use einhorn_proto::{DrainReason, Outcome, PastOutcome, UpgradeStage};

use super::*;
use crate::tests::play::{Play, TRIAL};

fn checked(workers: u32) -> Policy {
    Policy { check: Some("./check".to_owned()), ..plain_policy(workers) }
}

fn upgrade() -> PoolCommand {
    PoolCommand::Upgrade(UpgradePlan::default())
}

fn subjects(play: &Play) -> Vec<Subject> {
    play.jobs.iter().map(|(_, subject)| subject.clone()).collect()
}

fn failed() -> JobOutcome {
    JobOutcome::Failed { reason: "exited with status 3".into(), output: vec!["500".into()] }
}

/// A pool of `workers` whose upgrade to generation 2 runs: its trial worker, the first pid, has acked and is checked.
fn checking(policy: Policy) -> (Play, u64, i32) {
    let mut play = Play::steady(policy);
    let request = play.command(upgrade());
    let &[(pid, TRIAL, _, 2)] = &play.spawned[..] else { panic!("{:?}", play.spawned) };
    assert_eq!(play.jobs, [], "it has not acked");
    play.take_spawned();
    play.ack(pid);
    assert_eq!(subjects(&play), [Subject::Trial(Pid::from_raw(pid))]);
    (play, request, pid)
}

#[test]
fn a_release_gets_its_first_slot_when_its_check_has_passed() {
    let (mut play, request, trial) = checking(checked(2));
    let upgrade = play.snapshot().upgrade.unwrap();
    assert_eq!((upgrade.stage, upgrade.upgraded, upgrade.starting), (UpgradeStage::Checking, 0, 0));
    assert_eq!((play.snapshot().up, play.snapshot().starting, play.snapshot().draining), (2, 0, 0));
    assert_eq!(play.spawned, [], "no slot is touched");
    play.end_job(JobOutcome::Passed);
    assert_eq!(play.take_signals(), [(trial, Signal::SIGUSR2)], "the trial worker drains beside the rollout");
    for pid in play.take_spawned() {
        play.ack(pid);
    }
    assert_eq!(play.reports.last().map(|report| report.outcome), Some(Outcome::Done));
    assert_eq!(play.replies.last().map(|reply| (reply.0, reply.1)), Some((request, true)));
    assert_eq!(play.undrained(), [(0, trial + 1, 2), (1, trial + 2, 2)]);
    let drained: Vec<_> = play.notices.iter().filter(|notice| matches!(notice, Notice::Draining { why, .. } if *why == DrainReason::TrialOver.to_string())).collect();
    assert_eq!(drained.len(), 1);
    play.advance(super::super::trial::GRACE);
    assert!(play.take_signals().contains(&(trial, Signal::SIGKILL)), "it serves nobody");
}

#[test]
fn a_check_that_fails_ends_the_upgrade_and_touches_no_worker() {
    let (mut play, request, trial) = checking(checked(2));
    let words = Report::LastWords(vec!["no database".into()]);
    play.feed(Event::Heard { pid: Pid::from_raw(trial), report: words });
    play.end_job(failed());
    assert_eq!(play.take_signals(), [(trial, Signal::SIGUSR2)]);
    assert_eq!(play.spawned, []);
    let report = play.reports.pop().unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(report.reason.as_deref(), Some("the check failed: exited with status 3"));
    let check = report.check.unwrap();
    assert_eq!((check.output, check.stderr_tail), (vec!["500".to_owned()], vec!["no database".to_owned()]));
    assert_eq!(play.replies.pop().map(|reply| (reply.0, reply.1)), Some((request, false)));
    assert_eq!(play.undrained(), [(0, 100, 1), (1, 101, 1)]);
}

#[test]
fn a_trial_worker_is_tried_once() {
    let (mut play, _, trial) = checking(checked(1));
    play.exit(trial);
    assert_eq!(play.jobs, [], "its command is killed");
    assert_eq!(play.spawned, []);
    let report = play.reports.pop().unwrap();
    assert_eq!(report.death.and_then(|death| death.pid), Some(trial));
    assert_eq!(report.check.map(|check| check.stage), Some(UpgradeStage::Checking));
    assert!(report.is_untouched && play.records[0].is_untouched);
    assert_eq!((report.outcome, play.undrained()), (Outcome::RolledBack, vec![(0, 100, 1)]));
}

#[test]
fn an_upgrade_that_ends_while_its_release_is_checked_has_touched_no_worker() {
    let stop = PoolCommand::Stop { how: Stop::Gracefully, why: "test".into() };
    for (end, outcome) in [
        (PoolCommand::Abort, PastOutcome::RolledBack),
        (PoolCommand::Rollback, PastOutcome::RolledBack),
        (stop, PastOutcome::RolledBack),
        (upgrade(), PastOutcome::Superseded),
    ] {
        let (mut play, ..) = checking(Policy { upgrade_restarts: true, ..checked(2) });
        play.command(end.clone());
        let [record] = &play.records[..] else { panic!("{end:?}") };
        assert_eq!((record.is_untouched, record.outcome), (true, outcome), "{end:?}");
        let is_told = |notice: &Notice| match notice {
            Notice::UpgradeFailed { serving, .. } => {
                serving == "no worker was touched: 2 of 2 workers of generation 1 serve"
            }
            _ => outcome == PastOutcome::Superseded,
        };
        assert!(play.notices.iter().any(is_told), "{end:?}: {:?}", play.notices);
        let reports = play.reports.iter();
        assert!(reports.clone().all(|report| report.is_untouched), "{end:?}: {:?}", play.reports);
    }
}

#[test]
fn an_upgrade_that_fails_later_has_touched_workers() {
    let (mut play, ..) = checking(checked(2));
    play.end_job(JobOutcome::Passed);
    play.command(PoolCommand::Abort);
    for pid in play.take_spawned() {
        play.ack(pid);
    }
    let report = play.reports.pop().unwrap();
    assert_eq!((report.outcome, report.is_untouched), (Outcome::RolledBack, false));
    assert!(!play.records[0].is_untouched);
}

#[test]
fn a_trial_worker_that_does_not_ack_in_time_fails_the_check() {
    let mut play = Play::steady(checked(1));
    play.command(upgrade());
    let [trial] = play.take_spawned()[..] else { panic!() };
    play.advance(BOOT);
    let report = play.reports.pop().unwrap();
    assert!(report.reason.unwrap().contains("missed its boot deadline"));
    assert_eq!((play.spawned.len(), play.take_signals()), (0, vec![(trial, Signal::SIGUSR2)]));
    play.advance(super::super::trial::GRACE);
    assert_eq!(play.take_signals(), [(trial, Signal::SIGKILL)]);
}

#[test]
fn the_spawn_of_a_trial_worker_is_tried_again_only_for_want_of_resources() {
    let mut play = Play::steady(checked(1));
    play.failures.extend([("no memory", true), ("no memory", true)]);
    play.command(upgrade());
    assert_eq!((play.spawned.len(), play.reports.len()), (0, 0));
    play.advance(2 * SECOND);
    assert_eq!(play.take_spawned(), [101]);
    play.ack(101);
    play.end_job(JobOutcome::Passed);
    play.ack(102);
    assert_eq!(play.reports.pop().unwrap().outcome, Outcome::Done);

    let mut play = Play::steady(checked(1));
    play.failures.push_back(("no such program", false));
    play.command(upgrade());
    assert_eq!(play.spawned, []);
    assert_eq!(play.reports.pop().unwrap().outcome, Outcome::RolledBack);

    let mut play = Play::steady(checked(1));
    play.failures.extend([("no memory", true); 200]);
    play.command(upgrade());
    play.advance(BOOT);
    assert_eq!(play.reports.pop().unwrap().outcome, Outcome::RolledBack, "within the boot deadline");
}

#[test]
fn a_trial_worker_counts_as_one_that_an_upgrade_may_have_in_addition() {
    let (mut play, _, trial) = checking(Policy { upgrade_additional_max: Some(1), ..checked(2) });
    play.end_job(JobOutcome::Passed);
    assert_eq!(play.spawned, [], "the rollout waits for its end");
    play.exit(trial);
    assert_eq!(play.take_spawned(), [trial + 1]);
}

#[test]
fn an_abort_and_a_stop_end_the_check() {
    let (mut play, request, trial) = checking(checked(1));
    play.command(PoolCommand::Abort);
    assert_eq!((play.jobs.len(), play.take_signals()), (0, vec![(trial, Signal::SIGUSR2)]));
    assert!(play.replies.iter().any(|reply| (reply.0, reply.1) == (request, false)));

    let (mut play, _, trial) = checking(checked(1));
    play.stop(Stop::Gracefully);
    assert_eq!(play.jobs, []);
    play.exit(100);
    assert_eq!(play.exit, None, "the trial worker is a child like any other");
    play.exit(trial);
    assert_eq!(play.exit, Some(0));
}

#[test]
fn a_rollback_and_an_upgrade_without_a_check_begin_at_once() {
    let mut play = Play::steady(checked(1));
    play.command(PoolCommand::Upgrade(UpgradePlan { check: CheckPlan::Never, ..UpgradePlan::default() }));
    assert_eq!(play.take_spawned(), [101]);
    play.ack(101);
    play.command(PoolCommand::Rollback);
    assert_eq!((play.spawned.len(), play.jobs.len()), (1, 0));
    assert_ne!(play.spawned[0].1, TRIAL);
}

#[test]
fn with_a_checked_first_start_no_slot_is_filled_before() {
    let mut play = Play::new(Policy { checks_first: true, ..checked(2) });
    let &[(trial, TRIAL, 0, 1)] = &play.spawned[..] else { panic!("{:?}", play.spawned) };
    play.take_spawned();
    play.command(upgrade());
    assert!(play.replies.pop().unwrap().2.contains("still being checked"));
    play.command_of(0, PoolCommand::Hangup);
    assert_eq!(play.snapshot().queued, 1, "nobody could ask for that one again");
    play.ack(trial);
    play.advance(BOOT);
    assert_eq!(play.spawned, []);
    play.end_job(JobOutcome::Passed);
    assert!(
        play.spawned.iter().any(|(_, slot, _, generation)| (*slot, *generation) == (TRIAL, 2)),
        "its upgrade begins"
    );
    assert!(!play.notices.iter().any(|notice| matches!(notice, Notice::Ready { .. })));
}

#[test]
fn a_first_start_whose_check_fails_ends_the_master() {
    let mut play = Play::new(Policy { checks_first: true, ..checked(2) });
    let [trial] = play.take_spawned()[..] else { panic!() };
    play.ack(trial);
    play.end_job(failed());
    assert_eq!(play.exit, None);
    play.exit(trial);
    assert_eq!((play.exit, play.spawned.len()), (Some(1), 0));
}

#[test]
fn a_trial_goes_on_in_the_next_image_of_the_master() {
    let (mut play, _, trial) = checking(checked(1));
    assert!(play.supervisor.tables().unwrap().has_trial());
    let json = serde_json::to_string(play.supervisor.tables().unwrap()).unwrap();
    play.supervisor = Supervisor::restore(serde_json::from_str(&json).unwrap()).unwrap();
    play.end_job(JobOutcome::Passed);
    play.ack(trial + 1);
    assert_eq!(play.reports.pop().unwrap().outcome, Outcome::Done);
    assert!(play.supervisor.tables().unwrap().trial.is_none());
}

#[test]
fn what_a_trial_worker_leaves_behind_is_no_fault_of_the_old_release() {
    let (mut play, _, trial) = checking(Policy { report_wait: SECOND, ..checked(1) });
    play.end_job(JobOutcome::Passed);
    play.ack(trial + 1);
    let report = Report::LeftBehind { members: vec![Pid::from_raw(9)], listens: false, is_group: true };
    play.feed(Event::Heard { pid: Pid::from_raw(trial), report });
    play.exit(trial);
    play.exit(100);
    assert!(!play.reports.pop().unwrap().left.is_any());
}

/// A pool of two whose upgrade to generation 2 soaks, with canary 102; its checks may fail twice.
fn soaking(soak: Option<Duration>) -> (Play, u64) {
    let mut play = Play::steady(plain_policy(2));
    let soak_check = Some(SoakCheck { command: "./errors".into(), every: 10 * SECOND, failures_max: 2 });
    let plan = UpgradePlan { canary: Some(1), soak, soak_check, ..UpgradePlan::default() };
    let request = play.command(PoolCommand::Upgrade(plan));
    play.take_spawned();
    play.ack(102);
    let [canaries, baseline] = [102, 101].map(|pid| vec![Pid::from_raw(pid)]);
    assert_eq!(subjects(&play), [Subject::Canaries { canaries, baseline }], "at once");
    (play, request)
}

#[test]
fn canaries_are_checked_again_after_each_check() {
    let (mut play, request) = soaking(Some(16 * SECOND));
    play.advance(5 * SECOND);
    play.end_job(JobOutcome::Passed);
    play.advance(9 * SECOND);
    assert_eq!(play.jobs, [], "10 s after the end of the first");
    play.advance(SECOND);
    assert_eq!(play.jobs.len(), 1);
    play.advance(60 * SECOND);
    assert_eq!(
        play.snapshot().upgrade.unwrap().stage,
        UpgradeStage::Soaking,
        "what is being found out counts"
    );
    play.end_job(JobOutcome::Passed);
    play.advance(SECOND);
    play.ack(103);
    assert_eq!(play.replies.pop().map(|reply| (reply.0, reply.1)), Some((request, true)));
}

#[test]
fn canaries_whose_checks_fail_too_often_are_rolled_back() {
    let (mut play, request) = soaking(None);
    play.end_job(failed());
    assert!(
        play.notices.iter().any(|notice| matches!(notice, Notice::CanaryCheckFailed { failures: 1, .. }))
    );
    assert_eq!(play.snapshot().upgrade.unwrap().stage, UpgradeStage::Soaking);
    play.advance(10 * SECOND);
    play.end_job(failed());
    assert_eq!(play.take_spawned(), [103], "from the previous release");
    play.ack(103);
    let report = play.reports.pop().unwrap();
    assert_eq!((report.outcome, report.check.unwrap().output), (Outcome::RolledBack, vec!["500".to_owned()]));
    assert!(report.reason.unwrap().contains("failed 2 times"));
    assert_eq!(play.replies.pop().map(|reply| (reply.0, reply.1)), Some((request, false)));
}

#[test]
fn whoever_ends_a_soak_ends_its_check() {
    for command in [PoolCommand::Continue, PoolCommand::Abort] {
        let (mut play, _) = soaking(None);
        play.command(command);
        assert_eq!(play.jobs, []);
    }
    let (mut play, _) = soaking(None);
    play.exit(102);
    assert_eq!(play.jobs, [], "the death of a canary does, too");
}

#[test]
fn where_a_resize_has_taken_the_canary_nobody_is_checked() {
    let (mut play, _) = soaking(None);
    play.end_job(JobOutcome::Passed);
    play.command(PoolCommand::Dec(1));
    play.advance(20 * SECOND);
    assert_eq!(play.undrained(), [(1, 101, 1)]);
    assert_eq!(play.jobs, []);
}

#[test]
fn an_upgrade_that_takes_the_place_of_another_ends_its_checks() {
    let policy = Policy { upgrade_restarts: true, ..checked(1) };
    let (mut play, _, trial) = checking(policy);
    play.command(upgrade());
    assert_eq!((play.jobs.len(), play.take_signals()), (0, vec![(trial, Signal::SIGUSR2)]));
    play.ack(trial + 1);
    assert_eq!(subjects(&play), [Subject::Trial(Pid::from_raw(trial + 1))]);

    let mut play = Play::steady(Policy { upgrade_restarts: true, ..plain_policy(2) });
    let soak_check = Some(SoakCheck { command: "./errors".into(), every: SECOND, failures_max: 1 });
    let plan = UpgradePlan { canary: Some(1), soak_check, ..UpgradePlan::default() };
    play.command(PoolCommand::Upgrade(plan));
    play.ack(102);
    assert_eq!(play.jobs.len(), 1);
    play.command(upgrade());
    assert_eq!(play.jobs, []);
}
