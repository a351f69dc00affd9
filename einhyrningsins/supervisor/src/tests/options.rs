//! Options that change with an upgrade.

use einhorn_proto::{OptionChange, OptionEffect};

use super::*;

/// An upgrade that changes these.
fn upgrade(settings: Vec<Setting>) -> UpgradePlan {
    let change = OptionChange {
        option: "--number".into(),
        from: None,
        to: Some("4".into()),
        place: None,
        effect: OptionEffect::Now,
    };
    UpgradePlan { options: OptionsChange { settings, changes: vec![change] }, ..UpgradePlan::default() }
}

fn ack_all(play: &mut Play) {
    loop {
        match play.take_spawned() {
            pids if pids.is_empty() => return,
            pids => pids.into_iter().for_each(|pid| play.ack(pid)),
        }
    }
}

#[test]
fn options_change_when_the_first_worker_is_replaced_and_not_before() {
    let mut play = Play::steady(Policy { check: Some("check".into()), ..plain_policy(2) });
    let settings = vec![Setting::Workers(4), Setting::Seconds(3 * SECOND), Setting::MaxRss(Some(7))];
    play.command(PoolCommand::Upgrade(upgrade(settings)));
    let trial = play.take_spawned()[0];
    play.ack(trial);
    let policy = |play: &Play| {
        let policy = play.supervisor.policy();
        (policy.seconds, policy.recycling.max_rss_bytes, play.snapshot().wanted)
    };
    assert_eq!(policy(&play), (SECOND, None, 2));
    play.end_job(JobOutcome::Passed);
    assert_eq!(policy(&play), (3 * SECOND, Some(7), 4));
    ack_all(&mut play);
    assert_eq!(play.reports[0].outcome, Outcome::Done);
    assert_eq!(play.reports[0].options[0].effect, OptionEffect::Now);
    assert_eq!(play.undrained().len(), 4);
    play.command(PoolCommand::Rollback);
    ack_all(&mut play);
    assert_eq!(play.reports[1].outcome, Outcome::Done);
    assert_eq!(policy(&play), (3 * SECOND, Some(7), 4), "a later rollback changes the release alone");
}

#[test]
fn a_rollback_of_the_upgrade_puts_the_options_back() {
    for end in [PoolCommand::Abort, PoolCommand::Rollback] {
        for workers in [1, 3] {
            let mut play = Play::steady(Policy { unacked_max: 1, ..plain_policy(2) });
            let settings = vec![Setting::Workers(workers), Setting::Grace(Some(9 * SECOND))];
            play.command(PoolCommand::Upgrade(upgrade(settings)));
            assert_eq!(play.snapshot().wanted, workers);
            if workers > 1 {
                let pid = play.take_spawned()[0];
                play.ack(pid);
            }
            play.command(end.clone());
            ack_all(&mut play);
            assert_eq!(play.reports[0].outcome, Outcome::RolledBack);
            assert_eq!(play.reports[0].options[0].effect, OptionEffect::Undone);
            assert_eq!((play.snapshot().wanted, play.supervisor.policy().grace), (2, None));
            let generations: Vec<_> = play.undrained().iter().map(|(.., generation)| *generation).collect();
            assert_eq!(generations, [1, 1]);
        }
    }
}

#[test]
fn a_release_that_fails_puts_the_options_back() {
    let mut play = Play::steady(plain_policy(1));
    play.command(PoolCommand::Upgrade(upgrade(vec![Setting::Seconds(2 * SECOND)])));
    for _ in 0..3 {
        play.take_spawned().into_iter().for_each(|pid| play.exit(pid));
        play.advance(10 * SECOND);
    }
    assert_eq!(play.reports[0].outcome, Outcome::RolledBack);
    assert_eq!(play.supervisor.policy().seconds, SECOND);
}

#[test]
fn what_somebody_has_set_since_stays_in_a_rollback() {
    let mut play = Play::steady(plain_policy(2));
    play.command(PoolCommand::Upgrade(upgrade(vec![Setting::Workers(4), Setting::Seconds(3 * SECOND)])));
    play.command(PoolCommand::SetWorkers(3));
    play.command(PoolCommand::Abort);
    ack_all(&mut play);
    assert_eq!((play.snapshot().wanted, play.supervisor.policy().seconds), (3, SECOND));
}

#[test]
fn each_release_keeps_the_terms_that_it_came_with() {
    const QUIT: Signal = Signal::SIGQUIT;
    let mut play = Play::steady(Policy { ack: AckMode::Manual(Some(9 * SECOND)), ..plain_policy(1) });
    let (before, old) = (play.supervisor.policy().terms(), Generation(1));
    let settings = vec![
        Setting::Ack(AckMode::Timer(SECOND)),
        Setting::GracefulSignal(Some(QUIT)),
        Setting::StopGroup(true),
    ];
    let after = Terms { ack: AckMode::Timer(SECOND), graceful_signal: Some(QUIT), stop_group: true };
    let terms = |play: &Play, generation| play.supervisor.terms(Generation(generation));

    // An upgrade that is aborted leaves nothing to the next.
    play.command(PoolCommand::Upgrade(upgrade(settings.clone())));
    assert_eq!((terms(&play, 1), terms(&play, 2)), (before, after));
    play.command(PoolCommand::Abort);
    assert_eq!(play.supervisor.policy().terms(), before);
    play.take_spawned();

    // One that is done gives them to the releases that follow, too.
    play.command(PoolCommand::Upgrade(upgrade(settings)));
    assert_eq!(play.take_spawned().len(), 1);
    play.advance(SECOND);
    assert_eq!(play.reports.last().unwrap().outcome, Outcome::Done, "it is up after a second");
    assert_eq!(play.supervisor.policy().terms(), after);
    assert_eq!((play.supervisor.terms(old), terms(&play, 3)), (before, after));

    // A rollback brings back those of the previous release.
    play.command(PoolCommand::Rollback);
    let pid = play.take_spawned()[0];
    play.advance(2 * SECOND);
    assert_eq!(play.snapshot().up, 1, "the one before serves: the other has not acked");
    play.ack(pid);
    assert_eq!(play.reports.last().unwrap().outcome, Outcome::Done);
    assert_eq!(play.supervisor.policy().terms(), after);
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(terms(&play, 4), after);
}

#[test]
fn a_fleet_is_judged_by_the_options_that_it_brings() {
    let fleet = |settings| UpgradePlan { is_fleet: true, ..upgrade(settings) };
    for (additional, settings, begins) in [
        (1, vec![], false),
        (1, vec![Setting::UpgradeAdditional(Some(3))], true),
        (3, vec![Setting::UpgradeAdditional(Some(2))], false),
        (1, vec![Setting::Workers(1)], true),
        (3, vec![Setting::Workers(5)], true),
        (2, vec![Setting::Workers(5)], false),
    ] {
        let policy = Policy { upgrade_additional_max: Some(additional), ..plain_policy(3) };
        let mut play = Play::steady(policy);
        play.command(PoolCommand::Upgrade(fleet(settings.clone())));
        let is_begun = play.supervisor.tables.plan.rollout().is_some();
        assert_eq!(is_begun, begins, "{additional} {settings:?}");
        if begins {
            play.take_signals().into_iter().for_each(|(pid, _)| play.exit(pid));
            ack_all(&mut play);
            assert_eq!(play.reports[0].outcome, Outcome::Done, "{additional} {settings:?}");
        }
    }
}

#[test]
fn a_new_check_is_that_of_the_upgrade_which_brings_it() {
    let mut play = Play::steady(plain_policy(1));
    let settings = vec![Setting::Check(Some("check".into())), Setting::CheckTimeout(4 * SECOND)];
    play.command(PoolCommand::Upgrade(upgrade(settings)));
    let trial = play.take_spawned()[0];
    play.ack(trial);
    assert_eq!(play.jobs.len(), 1);
    assert_eq!(play.supervisor.policy().check, None);
    play.end_job(JobOutcome::Failed { reason: "no".into(), output: Vec::new() });
    assert_eq!(play.supervisor.policy().check, None, "the release that brought it was bad");
    assert_eq!(play.reports[0].options[0].effect, OptionEffect::Undone);
}
