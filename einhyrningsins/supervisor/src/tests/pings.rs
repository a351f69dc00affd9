//! Workers that have stopped saying that they are well: replaced first, and then killed.

use einhorn_proto::{RecycleReason, Recycled};

use super::recycling::{HOUR, MIB, by_pings, by_rss, recycling_policy};
use super::*;

#[test]
fn a_worker_that_never_pinged_is_not_expected_to() {
    let mut play = Play::steady(by_pings());
    play.ping(101);
    play.advance(4 * SECOND);
    play.ping(101);
    play.advance(4 * SECOND);
    assert!(play.take_spawned().is_empty());
    play.advance(SECOND);
    assert_eq!(play.turns(), [(101, RecycleReason::PingTimeout)]);
    play.exit(104);
    play.advance(HOUR);
    assert!(play.turns().iter().all(|(pid, _)| *pid == 101));
}

#[test]
fn a_silent_worker_is_replaced_first_then_asked_and_then_killed() {
    let mut play = Play::steady(by_pings());
    play.take_signals();
    play.ping(100);
    play.advance(5 * SECOND);
    assert_eq!(play.take_spawned(), [104]);
    assert!(play.signals.is_empty());
    play.ack(104);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2)]);
    play.advance(10 * SECOND - Duration::from_millis(1));
    assert!(play.signals.is_empty());
    play.advance(Duration::from_millis(1));
    assert_eq!(play.take_signals(), [(100, Signal::SIGKILL)]);
    play.exit(100);
    assert_eq!(play.supervisor.next_deadline(), None);
    assert_eq!(
        play.recycled(),
        Recycled { max_age: 0, max_rss: 0, ping_timeout: 1, asked: 0, lost_socket: 0 }
    );
}

#[test]
fn where_there_is_a_signal_timeout_a_silent_worker_has_that() {
    let mut play = Play::steady(Policy { grace: Some(3 * SECOND), ..by_pings() });
    play.take_signals();
    play.ping(100);
    play.advance(5 * SECOND);
    play.ack(104);
    play.take_signals();
    play.advance(3 * SECOND);
    assert_eq!(play.take_signals(), [(100, Signal::SIGKILL)]);
}

#[test]
fn one_that_is_replaced_for_its_memory_is_not_killed() {
    let mut play = Play::steady(by_rss());
    play.measure(100, 2 * MIB);
    play.ack(104);
    play.take_signals();
    play.advance(HOUR);
    assert!(play.signals.is_empty());
}

#[test]
fn an_upgrade_that_replaces_a_silent_worker_has_it_killed_too() {
    let mut play = Play::steady(Policy { unacked_max: 1, ..by_pings() });
    play.ping(103);
    play.upgrade();
    play.advance(5 * SECOND);
    (104..108).for_each(|pid| play.ack(pid));
    play.take_signals();
    (100..103).for_each(|pid| play.exit(pid));
    play.advance(10 * SECOND);
    assert_eq!(play.take_signals(), [(103, Signal::SIGKILL)]);
}

#[test]
fn a_ping_that_comes_before_its_turn_forgives_and_one_in_it_does_not() {
    let mut play = Play::steady(by_pings());
    play.ping(100);
    play.advance(SECOND);
    play.ping(101);
    play.advance(4 * SECOND);
    assert_eq!(play.take_spawned(), [104]);
    play.advance(SECOND);
    play.ping(100);
    play.ping(101);
    play.ack(104);
    play.exit(100);
    assert!(play.spawned.is_empty());
    assert_eq!(play.turns(), [(100, RecycleReason::PingTimeout)]);
    play.advance(5 * SECOND);
    assert_eq!(play.turns(), [(101, RecycleReason::PingTimeout)], "it has fallen silent again");
}

#[test]
fn a_ping_before_the_ack_counts_from_the_ack_on() {
    let mut play = Play::new(Policy { workers: 1, ..by_pings() });
    play.ping(100);
    play.advance(30 * SECOND);
    assert_eq!(play.take_spawned(), [100], "it has its boot deadline");
    play.ack(100);
    play.advance(5 * SECOND);
    assert_eq!(play.turns(), [(100, RecycleReason::PingTimeout)]);
}

#[test]
fn a_silent_worker_goes_before_those_that_are_only_large() {
    let mut play =
        Play::steady(recycling_policy(RecyclingLimits { max_rss_bytes: Some(MIB), ..by_pings().recycling }));
    play.ping(102);
    play.ping(103);
    (100..103).for_each(|pid| play.measure(pid, 2 * MIB));
    play.advance(5 * SECOND);
    let silent = RecycleReason::PingTimeout;
    for (old, reason) in
        [(100, RecycleReason::MaxRss), (103, silent), (102, silent), (101, RecycleReason::MaxRss)]
    {
        assert_eq!(play.turns(), [(old, reason)]);
        let successor = play.take_spawned()[0];
        play.ack(successor);
        play.exit(old);
    }
    assert_eq!(
        play.recycled(),
        Recycled { max_age: 0, max_rss: 2, ping_timeout: 2, asked: 0, lost_socket: 0 }
    );
}

#[test]
fn one_that_falls_silent_in_its_turn_is_killed_in_the_end() {
    let mut play =
        Play::steady(recycling_policy(RecyclingLimits { max_rss_bytes: Some(MIB), ..by_pings().recycling }));
    play.ping(100);
    play.measure(100, 2 * MIB);
    play.advance(5 * SECOND);
    play.ack(104);
    play.take_signals();
    play.advance(10 * SECOND);
    assert_eq!(play.take_signals(), [(100, Signal::SIGKILL)]);
}
