//! The core's behaviour as scripts on a virtual clock.

mod aftermath;
mod history;
mod options;
mod pings;
mod play;
mod queue;
mod recycling;
mod retiring;
mod stop;
mod trial;
mod upgrade;

use core::time::Duration;

use super::Pid;
use super::Signal;
use einhorn_proto::{Notice, Outcome, Requester, Termination};

use super::*;
pub(super) use play::plain_policy;
use play::{BOOT, Play, SECOND};

#[test]
fn all_workers_start_at_once() {
    let mut play = Play::new(plain_policy(5));
    assert_eq!(
        play.spawned,
        [(100, 0, 0, 1), (101, 1, 1, 1), (102, 2, 2, 1), (103, 3, 3, 1), (104, 4, 4, 1)]
    );
    for pid in play.take_spawned() {
        play.ack(pid);
    }
    assert!(matches!(play.notices.last(), Some(Notice::Ready { workers: 5, .. })));
}

#[test]
fn in_timer_mode_a_worker_that_lives_is_taken_as_acked() {
    let mut play = Play::new(Policy { ack: AckMode::Timer(SECOND), ..plain_policy(2) });
    play.advance(SECOND / 2);
    assert_eq!(play.snapshot().up, 0);
    play.ack(101);
    assert_eq!(play.snapshot().up, 1, "its own word counts before the timer's");
    play.advance(SECOND);
    assert_eq!(play.snapshot().up, 2);
    assert_eq!(play.supervisor.next_deadline(), None, "nothing to wake up for");
}

#[test]
fn an_ack_tells_how_many_workers_of_its_generation_take_traffic_by_now() {
    let mut play = Play::new(plain_policy(2));
    let counts = |play: &mut Play| -> Vec<_> {
        let notices = core::mem::take(&mut play.notices).into_iter();
        let acked = notices.filter_map(|notice| match notice {
            Notice::Acked { generation, up, wanted, .. } => Some((generation, up, wanted)),
            _ => None,
        });
        acked.collect()
    };
    play.ack(100);
    play.ack(101);
    assert_eq!(counts(&mut play), [(1, 1, 2), (1, 2, 2)]);
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(102);
    play.ack(103);
    assert_eq!(counts(&mut play), [(2, 1, 2), (2, 2, 2)]);
}

#[test]
fn a_worker_that_was_up_for_long_is_replaced_at_once() {
    let mut play = Play::steady(plain_policy(3));
    play.exit(101);
    assert_eq!(play.spawned, [(103, 1, 1, 1)]);
    assert_eq!(play.snapshot().slots[1].restarts, 1);
}

#[test]
fn one_that_died_young_waits_until_a_second_after_its_own_spawn() {
    let mut play = Play::new(plain_policy(1));
    play.ack(100);
    play.advance(SECOND / 4);
    play.take_spawned();
    play.exit(100);
    assert!(play.spawned.is_empty());
    play.advance(SECOND * 3 / 4 - Duration::from_millis(1));
    assert!(play.spawned.is_empty());
    play.advance(Duration::from_millis(1));
    assert_eq!(play.take_spawned(), [101]);
}

#[test]
fn deaths_before_ack_back_off_and_an_ack_resets_it() {
    let mut play = Play::steady(plain_policy(1));
    play.exit(100);
    for (pid, wait) in [(101, 1500), (102, 2250), (103, 3375)] {
        assert_eq!(play.take_spawned(), [pid]);
        play.exit(pid);
        play.advance(Duration::from_millis(wait - 1));
        assert!(play.spawned.is_empty(), "{wait} ms after the spawn of {pid}");
        play.advance(Duration::from_millis(1));
    }
    play.ack(104);
    play.exit(104);
    play.advance(SECOND);
    assert_eq!(play.take_spawned(), [104, 105]);
}

#[test]
fn all_workers_killed_at_once_come_back_within_the_unacked_bound() {
    let mut play = Play::steady(plain_policy(4));
    for pid in 100..104 {
        play.exit(pid);
    }
    assert_eq!(play.take_spawned(), [104, 105]);
    play.ack(104);
    play.ack(105);
    assert_eq!(play.take_spawned(), [106, 107]);
}

#[test]
fn a_release_that_never_acks_ends_the_master_after_three_tries_per_slot() {
    let mut play = Play::new(plain_policy(2));
    for round in 0..3 {
        for pid in play.take_spawned() {
            assert_eq!(play.exit, None, "round {round}");
            play.exit(pid);
        }
        play.advance(10 * SECOND);
    }
    assert_eq!(play.exit, Some(1));
    let Some(Notice::MasterExiting { code: 1, why }) = play.notices.last() else {
        panic!("{:?}", play.notices)
    };
    assert!(why.contains("worker 105 (generation 1) exited with status 1 after"), "{why}");
    assert!(why.starts_with("no worker of ./server stays up"), "{why}");
    assert!(why.contains("hint: the program's own output"), "{why}");
}

#[test]
fn a_program_that_cannot_be_executed_is_not_tried_again_at_first_start() {
    let mut play = Play::steady(plain_policy(1));
    play.failures.extend([("no such file", false); 3]);
    play.exit(100);
    assert_eq!(play.exit, None, "a proven release is tried again");
    play.advance(5 * SECOND);
    assert!(play.failures.is_empty());
    assert_eq!(play.exit, None);

    let mut supervisor = Supervisor::new(plain_policy(1));
    let now = Moment::from_clock(Duration::from_secs(1000));
    let actions = supervisor.handle(now, Event::Started);
    let [Action::Spawn { worker, .. }] = actions[..] else { panic!("{actions:?}") };
    let failed = Event::SpawnFailed { worker, reason: "no such file".into(), transient: false };
    let actions = supervisor.handle(now, failed);
    assert_eq!(actions.last(), Some(&Action::Exit { code: 1 }));
}

#[test]
fn a_spawn_that_fails_for_want_of_processes_is_retried_without_end() {
    let mut play = Play::steady(plain_policy(1));
    play.failures.extend([("out of processes", true); 12]);
    play.exit(100);
    play.advance(300 * SECOND);
    assert_eq!(play.exit, None);
    assert_eq!(play.take_spawned().first(), Some(&101));
}

#[test]
fn a_slot_given_up_is_revived_once_the_release_has_been_up() {
    let mut play = Play::new(plain_policy(2));
    for pid in [100, 102, 103] {
        play.exit(pid);
        play.advance(10 * SECOND);
    }
    assert!(play.snapshot().slots[0].given_up);
    play.take_spawned();
    play.ack(101);
    assert!(!play.snapshot().slots[0].given_up);
    assert_eq!(play.take_spawned(), [104]);
}

#[test]
fn with_retries_given_a_slot_stays_empty_until_respawn() {
    let mut play = Play::steady(Policy { retries: Retries::always(2), ..plain_policy(2) });
    play.exit(100);
    for pid in [102, 103] {
        play.exit(pid);
        play.advance(40 * SECOND);
    }
    assert!(play.snapshot().slots[0].given_up);
    assert_eq!(play.supervisor.next_deadline(), None);
    play.take_spawned();
    play.command(PoolCommand::Respawn);
    assert_eq!(play.take_spawned(), [104]);
}

#[test]
fn a_missed_boot_deadline_costs_the_worker_its_slot_and_in_the_end_its_life() {
    let mut play = Play::steady(plain_policy(1));
    play.exit(100);
    play.take_spawned();
    play.advance(BOOT);
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2)]);
    assert_eq!(play.take_spawned(), [102], "it lived for longer than the backoff");
    play.advance(10 * SECOND);
    assert_eq!(play.take_signals(), [(101, Signal::SIGKILL)]);
}

#[test]
fn dec_takes_an_unacked_worker_before_the_youngest() {
    let mut play = Play::steady(plain_policy(4));
    play.exit(101);
    play.take_signals();
    play.command(PoolCommand::Dec(1));
    assert_eq!(play.take_signals(), [(104, Signal::SIGUSR2)], "unacked");
    play.command(PoolCommand::Dec(1));
    assert_eq!(play.take_signals(), [(103, Signal::SIGUSR2)], "youngest");
    assert_eq!(play.undrained(), [(0, 100, 1), (2, 102, 1)], "slots keep their numbers");
    play.take_spawned();
    play.command(PoolCommand::Inc(1));
    assert_eq!(play.spawned[0].1, 1, "the lowest free number");
}

#[test]
fn the_last_worker_cannot_be_taken_away() {
    let mut play = Play::steady(plain_policy(2));
    play.command(PoolCommand::Dec(2));
    play.command(PoolCommand::Dec(1));
    play.command(PoolCommand::Dec(1));
    let oks: Vec<_> = play.replies.iter().map(|(_, ok, _)| *ok).collect();
    assert_eq!(oks, [false, true, false]);
}

#[test]
fn late_repeated_and_strange_acks_change_nothing() {
    let mut play = Play::steady(plain_policy(1));
    let before = play.snapshot();
    play.ack(100);
    play.ack(4711);
    assert_eq!(play.snapshot(), before);
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(101);
    play.ack(100);
    assert_eq!(play.undrained(), [(0, 101, 2)]);
}

#[test]
fn a_death_before_the_ack_tells_what_the_worker_last_wrote_and_one_after_it_does_not() {
    let mut play = Play::steady(plain_policy(2));
    let say = |play: &mut Play, pid: i32, line: &str| {
        play.feed(Event::Heard { pid: Pid::from_raw(pid), report: Report::LastWords(vec![line.to_owned()]) });
    };
    let tails = |play: &mut Play| -> Vec<Vec<String>> {
        let notices = core::mem::take(&mut play.notices);
        let tail = |notice| match notice {
            Notice::Died { death, .. } => Some(death.stderr_tail),
            _ => None,
        };
        notices.into_iter().filter_map(tail).collect()
    };
    say(&mut play, 100, "it is up already");
    play.exit(100);
    let pid = play.take_spawned()[0];
    say(&mut play, pid, "hello");
    say(&mut play, pid, "no such table");
    play.exit(pid);
    assert_eq!(tails(&mut play), [vec![], vec!["no such table".to_owned()]]);
    let status = play.supervisor.snapshot(play.now);
    assert!(
        status
            .slots
            .iter()
            .filter_map(|slot| slot.last_death.as_ref())
            .all(|death| death.stderr_tail.is_empty())
    );

    play.advance(10 * SECOND);
    let pid = play.take_spawned()[0];
    say(&mut play, pid, "waiting for the database");
    play.advance(BOOT);
    assert_eq!(tails(&mut play), [vec!["waiting for the database".to_owned()]]);
}

#[test]
fn a_number_among_other_options_is_answered_as_a_resize() {
    let mut play = Play::steady(plain_policy(2));
    let change = vec![Setting::Workers(3), Setting::Seconds(2 * SECOND)];
    play.command(PoolCommand::Configure(change));
    assert_eq!(play.take_spawned().len(), 1);
    assert_eq!(
        play.replies.last().map(|(_, ok, message)| (*ok, message.as_str())),
        Some((true, "number of workers 2 -> 3"))
    );
    assert_eq!(play.supervisor.policy().seconds, 2 * SECOND);
}

#[test]
fn the_word_of_the_last_ping_is_kept() {
    let mut play = Play::steady(plain_policy(1));
    for word in [Some("first".to_owned()), None, Some("last".to_owned())] {
        play.feed(Event::Heard { pid: Pid::from_raw(100), report: Report::Ping(word) });
    }
    assert_eq!(play.supervisor.worker_details(play.now)[0].ping_word.as_deref(), Some("last"));
}

#[test]
fn an_answer_to_a_spawn_that_was_answered_before_changes_nothing() {
    let mut play = Play::steady(plain_policy(1));
    let pid = Pid::from_raw(100);
    let worker = play.supervisor.tables.pool.by_pid(pid).unwrap().id;
    let before = play.snapshot();
    play.feed(Event::Spawned { worker, pid: Pid::from_raw(4711), start_ticks: None });
    play.feed(Event::SpawnFailed { worker, reason: "no such file".into(), transient: false });
    assert_eq!(play.snapshot(), before);
    let told: Vec<_> = play.notices.iter().map(Notice::to_string).collect();
    assert_eq!(told, ["ignored: the answer to a spawn, because worker number 0 is up already"; 2]);
    play.exit(100);
    play.feed(Event::SpawnFailed { worker, reason: "no such file".into(), transient: false });
    let last = play.notices.last().map(Notice::to_string);
    assert_eq!(last.unwrap(), "ignored: the answer to a spawn, because there is no worker number 0");
}

#[test]
fn a_worker_with_the_pid_of_another_is_not_believed() {
    let mut supervisor = Supervisor::new(plain_policy(2));
    let now = Moment::from_clock(SECOND);
    let spawned = |actions: &[Action]| {
        let spawn = actions.iter().find_map(|action| match action {
            Action::Spawn { worker, .. } => Some(*worker),
            _ => None,
        });
        spawn.unwrap()
    };
    let pid = Pid::from_raw(100);
    let first = spawned(&supervisor.handle(now, Event::Started));
    let second = spawned(&supervisor.handle(now, Event::Spawned { worker: first, pid, start_ticks: None }));
    let _ = supervisor.handle(now, Event::Spawned { worker: second, pid, start_ticks: None });
    assert_eq!(supervisor.pids().collect::<Vec<_>>(), [pid]);
    assert_eq!(supervisor.tables.pool.by_pid(pid).map(|worker| worker.id), Some(first));
}

#[test]
fn an_ended_master_heeds_nothing() {
    let mut play = Play::steady(plain_policy(1));
    play.stop(Stop::AtOnce(Signal::SIGQUIT));
    play.notices.clear();
    play.exit(100);
    play.advance(60 * SECOND);
    assert!(play.spawned.is_empty());
    assert_eq!(play.notices[0].to_string(), "ignored: an event, because the master has exited");
}
