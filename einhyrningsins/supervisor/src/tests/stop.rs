//! Stopping workers, and the end of the pool.

use super::*;

#[test]
fn the_grace_period_ends_in_sigkill_once() {
    let mut play = Play::steady(Policy { grace: Some(5 * SECOND), ..plain_policy(2) });
    play.command(PoolCommand::Dec(1));
    play.take_signals();
    play.advance(60 * SECOND);
    assert_eq!(play.take_signals(), [(101, Signal::SIGKILL)]);
    play.exit(101);
    assert_eq!(play.supervisor.next_deadline(), None);
}

#[test]
fn the_master_exits_zero_when_the_last_worker_is_reaped() {
    let mut play = Play::steady(plain_policy(2));
    play.stop(Stop::Gracefully);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2), (101, Signal::SIGUSR2)]);
    play.exit(100);
    assert_eq!(play.exit, None);
    play.exit(101);
    assert_eq!(play.exit, Some(0));
    assert_eq!(play.spawned.len(), 0, "nobody is replaced");
}

#[test]
fn an_interrupt_a_second_later_is_term_and_then_kill_and_never_the_same_again() {
    let mut play = Play::steady(plain_policy(1));
    for signal in [Signal::SIGUSR2, Signal::SIGTERM, Signal::SIGKILL] {
        play.stop(Stop::Escalating);
        assert_eq!(play.take_signals(), [(100, signal)]);
        play.stop(Stop::Escalating);
        assert_eq!(play.take_signals(), [], "a second press of the same keys");
        play.advance(SECOND);
    }
    play.stop(Stop::Escalating);
    assert_eq!(play.take_signals(), []);
}

#[test]
fn an_interrupt_gives_each_worker_the_next_signal_that_it_has_not_had() {
    let mut play = Play::steady(Policy { graceful_signal: None, ..plain_policy(2) });
    play.command(PoolCommand::Dec(1));
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2)], "they send worker:ack");
    play.stop(Stop::With(Signal::SIGTERM));
    play.take_signals();
    play.advance(SECOND);
    play.stop(Stop::Escalating);
    assert_eq!(play.take_signals(), [(100, Signal::SIGKILL), (101, Signal::SIGKILL)]);
}

#[test]
fn a_graceful_stop_of_a_master_that_stops_changes_nothing() {
    let mut play = Play::steady(plain_policy(2));
    play.stop(Stop::Escalating);
    play.take_signals();
    play.advance(60 * SECOND);
    let request = play.command(PoolCommand::Stop { how: Stop::Gracefully, why: "die".into() });
    assert_eq!(play.take_signals(), []);
    assert_eq!(play.replies, [(request, true, "stopping already; 2 workers left".into())]);
}

#[test]
fn a_worker_that_acked_by_time_and_later_by_its_own_word_is_asked_with_usr2() {
    let policy = Policy { graceful_signal: None, ack: AckMode::Timer(SECOND), ..plain_policy(3) };
    let mut play = Play::new(policy);
    play.advance(2 * SECOND);
    play.ack(101);
    play.stop(Stop::Gracefully);
    let (term, usr2) = (Signal::SIGTERM, Signal::SIGUSR2);
    assert_eq!(play.take_signals(), [(100, term), (101, usr2), (102, term)]);
    let told = play.notices.iter().filter(|notice| matches!(notice, Notice::StopSignal { .. })).count();
    assert_eq!(told, 2, "each convention of the release once");
}

#[test]
fn a_worker_that_never_acked_is_asked_as_the_others_of_its_release() {
    let mut play = Play::new(Policy { graceful_signal: None, ..plain_policy(2) });
    play.ack(100);
    play.stop(Stop::Gracefully);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2), (101, Signal::SIGUSR2)]);
}

#[test]
fn a_stop_does_not_wait_for_a_worker_that_cannot_be_signalled() {
    for grace in [None, Some(SECOND)] {
        let mut play = Play::steady(Policy { grace, ..plain_policy(2) });
        play.refusing.insert(Pid::from_raw(101));
        play.stop(Stop::Gracefully);
        play.exit(100);
        assert_eq!(play.exit, grace.is_none().then_some(1), "with a grace period SIGKILL is tried too");
        play.advance(SECOND);
        assert_eq!(play.exit, Some(1));
        let exiting = play.notices.iter().find_map(|notice| match notice {
            Notice::MasterExiting { why, .. } => Some(why.as_str()),
            _ => None,
        });
        assert_eq!(exiting, Some("workers are left that the master may not signal: 101"));
    }
}

#[test]
fn a_worker_that_was_stopped_before_it_had_a_pid_has_its_grace_from_its_signal_on() {
    let mut supervisor = Supervisor::new(Policy { grace: Some(SECOND), ..plain_policy(1) });
    let now = Moment::from_clock(Duration::from_secs(1000));
    let actions = supervisor.handle(now, Event::Started);
    let [Action::Spawn { worker, generation, .. }] = actions[..] else { panic!("{actions:?}") };
    let command = PoolCommand::Stop { how: Stop::Gracefully, why: "test".into() };
    let _ =
        supervisor.handle(now, Event::Command { request: None, requester: Requester::default(), command });
    let now = now + 2 * SECOND;
    let _ = supervisor.handle(now, Event::DeadlineReached);
    let pid = Pid::from_raw(100);
    let actions = supervisor.handle(now, Event::Spawned { worker, pid, start_ticks: None });
    let convention = Convention::Set(Signal::SIGUSR2);
    assert!(actions.contains(&Action::Stop { pid, generation, ask: Ask::ByConvention(convention) }));
    assert_eq!(supervisor.next_deadline(), Some(now + SECOND));
    let actions = supervisor.handle(now + SECOND, Event::DeadlineReached);
    assert!(actions.contains(&Action::Stop { pid, generation, ask: Ask::With(Signal::SIGKILL) }));
}

#[test]
fn the_same_stop_signal_is_not_sent_twice() {
    let mut play = Play::steady(plain_policy(2));
    play.command(PoolCommand::Dec(1));
    play.take_signals();
    play.stop(Stop::Gracefully);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2)], "101 has had it");
    play.stop(Stop::With(Signal::SIGTERM));
    assert_eq!(play.take_signals(), [(100, Signal::SIGTERM), (101, Signal::SIGTERM)]);
}

#[test]
fn a_repeating_stop_signals_all_again_and_never_harder() {
    let mut play = Play::steady(plain_policy(2));
    for _ in 0..3 {
        play.stop(Stop::Repeating(Signal::SIGUSR2));
        assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2), (101, Signal::SIGUSR2)]);
    }
    play.stop(Stop::Repeating(Signal::SIGTERM));
    assert_eq!(play.take_signals(), [(100, Signal::SIGTERM), (101, Signal::SIGTERM)]);
    play.exit(100);
    play.stop(Stop::Repeating(Signal::SIGTERM));
    assert_eq!(play.take_signals(), [(101, Signal::SIGTERM)]);
    play.exit(101);
    assert_eq!(play.exit, Some(0));
}

#[test]
fn quit_signals_everyone_and_exits_one_at_once() {
    let mut play = Play::steady(plain_policy(2));
    play.stop(Stop::AtOnce(Signal::SIGQUIT));
    assert_eq!(play.take_signals(), [(100, Signal::SIGQUIT), (101, Signal::SIGQUIT)]);
    assert_eq!(play.exit, Some(1));
}

#[test]
fn stopping_during_an_upgrade_answers_it() {
    let mut play = Play::steady(plain_policy(2));
    let request = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.stop(Stop::Gracefully);
    let (answered, ok, message) = &play.replies[0];
    assert_eq!((*answered, *ok), (request, false));
    assert!(message.contains("the master is stopping"), "{message}");
    play.command(PoolCommand::Inc(1));
    assert!(!play.replies[1].1);
    for pid in 100..104 {
        play.exit(pid);
    }
    assert_eq!(play.exit, Some(0));
}

#[test]
fn a_new_signal_timeout_holds_for_workers_that_stop_already() {
    let mut play = Play::steady(plain_policy(2));
    play.command(PoolCommand::Dec(1));
    play.signals.clear();
    play.advance(5 * SECOND);
    let change = vec![Setting::Grace(Some(8 * SECOND))];
    play.command(PoolCommand::Configure(change));
    play.advance(2 * SECOND);
    assert_eq!(play.signals, []);
    play.advance(SECOND);
    assert_eq!(play.signals, [(101, Signal::SIGKILL)]);
    let details = play.supervisor.worker_details(play.now);
    assert_eq!(details[0].stop_signals, []);
    assert_eq!(details[1].stop_signals, [Signal::SIGKILL, Signal::SIGUSR2]);
    assert_eq!(details[1].asked_to_stop, Some(8 * SECOND));
}

#[test]
fn time_in_which_nobody_ran_counts_for_no_deadline() {
    let mut play = Play::steady(Policy { grace: Some(5 * SECOND), ..plain_policy(2) });
    play.command(PoolCommand::Dec(1));
    play.take_signals();
    play.advance(2 * SECOND);
    play.now += 60 * SECOND;
    play.feed(Event::TimeLost(60 * SECOND));
    play.advance(2 * SECOND);
    assert_eq!(play.take_signals(), []);
    play.advance(SECOND);
    assert_eq!(play.take_signals(), [(101, Signal::SIGKILL)]);
    assert!(!play.supervisor.is_timed(), "nobody must look often any more");
}
