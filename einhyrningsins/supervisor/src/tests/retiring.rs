//! Slots that are taken away where they have sockets of their own: who goes on for a while, and which sockets are wanted.

use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn retiring(workers: u32) -> Policy {
    Policy { shrink_grace: Some(GRACE), ..plain_policy(workers) }
}

/// Which of the first four slots get new connections, and which are gone.
fn open_slots(play: &Play) -> (Vec<u32>, Vec<u32>) {
    let open = play.supervisor.slots();
    let slots = |is: &dyn Fn(SlotNumber) -> bool| (0..4).filter(|slot| is(SlotNumber(*slot))).collect();
    (slots(&|slot| open.is_live(slot)), slots(&|slot| open.is_gone(slot)))
}

#[test]
fn a_worker_whose_slot_is_taken_away_is_asked_to_stop_after_the_grace() {
    let mut play = Play::steady(retiring(2));
    play.command(PoolCommand::Dec(1));
    let snapshot = play.snapshot();
    assert_eq!((snapshot.up, snapshot.draining), (1, 1));
    assert_eq!(open_slots(&play), (vec![0], vec![2, 3]), "its socket is still in use");
    play.advance(GRACE - Duration::from_millis(1));
    assert_eq!(play.take_signals(), []);
    play.advance(Duration::from_millis(1));
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2)]);
    let told: Vec<_> = play.notices.iter().skip(1).map(Notice::to_string).collect();
    assert_eq!(
        told,
        [
            "slot 1: worker 101 (generation 1) gets nothing new, and is asked to stop in 5.0s",
            "slot 1: worker 101 (generation 1) draining with SIGUSR2: fewer workers were asked for",
        ]
    );
    play.exit(101);
    assert_eq!(open_slots(&play), (vec![0], vec![1, 2, 3]));
    assert_eq!(play.supervisor.next_deadline(), None);
}

#[test]
fn the_time_to_stop_counts_from_the_signal() {
    let mut play = Play::steady(Policy { grace: Some(SECOND), ..retiring(2) });
    play.command(PoolCommand::Dec(1));
    play.advance(GRACE);
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2)]);
    play.advance(SECOND - Duration::from_millis(1));
    assert_eq!(play.take_signals(), []);
    play.advance(Duration::from_millis(1));
    assert_eq!(play.take_signals(), [(101, Signal::SIGKILL)]);
}

#[test]
fn a_shorter_time_to_stop_does_not_kill_who_was_not_asked() {
    let mut play = Play::steady(retiring(2));
    play.command(PoolCommand::Dec(1));
    let change = vec![Setting::Grace(Some(SECOND))];
    play.command(PoolCommand::Configure(change));
    play.advance(2 * SECOND);
    assert_eq!(play.take_signals(), []);
    play.advance(GRACE);
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2), (101, Signal::SIGKILL)]);
}

#[test]
fn a_stop_does_not_wait_for_the_grace() {
    let mut play = Play::steady(Policy { grace: Some(SECOND), ..retiring(2) });
    play.command(PoolCommand::Dec(1));
    play.stop(Stop::Gracefully);
    let mut signals = play.take_signals();
    signals.sort_unstable_by_key(|(pid, _)| *pid);
    assert_eq!(signals, [(100, Signal::SIGUSR2), (101, Signal::SIGUSR2)]);
    play.advance(GRACE);
    assert_eq!(play.take_signals(), [(100, Signal::SIGKILL), (101, Signal::SIGKILL)]);
}

#[test]
fn one_that_dies_in_the_grace_is_not_replaced() {
    let mut play = Play::steady(retiring(2));
    play.command(PoolCommand::Dec(1));
    play.exit(101);
    play.advance(60 * SECOND);
    assert_eq!((play.take_spawned(), play.take_signals()), (vec![], vec![]));
    assert_eq!(open_slots(&play).1, [1, 2, 3]);
}

#[test]
fn a_slot_that_comes_back_meanwhile_keeps_its_socket_and_serves_when_its_new_worker_has_acked() {
    let mut play = Play::steady(retiring(2));
    play.command(PoolCommand::Dec(1));
    play.command(PoolCommand::Inc(1));
    assert_eq!(play.take_spawned(), [102]);
    assert_eq!(open_slots(&play), (vec![0], vec![2, 3]));
    play.ack(102);
    assert_eq!(open_slots(&play), (vec![0, 1], vec![2, 3]));
    play.advance(GRACE);
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2)]);
    play.exit(101);
    assert_eq!(open_slots(&play), (vec![0, 1], vec![2, 3]));
}

#[test]
fn a_slot_whose_worker_died_gets_nothing_new_until_it_serves_again() {
    let mut play = Play::steady(retiring(2));
    play.exit(100);
    assert_eq!(open_slots(&play).0, [1]);
    let [successor] = play.take_spawned()[..] else { panic!("not replaced") };
    assert_eq!(open_slots(&play).0, [1]);
    play.ack(successor);
    assert_eq!(open_slots(&play).0, [0, 1]);
}

#[test]
fn a_slot_that_was_given_up_gets_nothing_new_and_keeps_its_socket() {
    let mut play = Play::steady(Policy { retries: Retries::always(1), ..retiring(2) });
    play.exit(100);
    let [successor] = play.take_spawned()[..] else { panic!("not replaced") };
    play.exit(successor);
    assert!(play.snapshot().slots[0].given_up);
    assert_eq!(open_slots(&play), (vec![1], vec![2, 3]));
}

#[test]
fn where_nobody_serves_every_slot_is_as_good_as_another() {
    let mut play = Play::new(retiring(2));
    assert_eq!(open_slots(&play), (vec![0, 1], vec![2, 3]));
    play.ack(101);
    assert_eq!(open_slots(&play).0, [1]);
}

#[test]
fn through_an_upgrade_every_slot_gets_new_connections() {
    for is_fleet in [false, true] {
        let mut play = Play::steady(retiring(2));
        play.command(PoolCommand::Upgrade(UpgradePlan { is_fleet, ..UpgradePlan::default() }));
        while let Some(pid) = play.take_spawned().pop() {
            assert_eq!(open_slots(&play).0, [0, 1]);
            play.ack(pid);
            assert_eq!(open_slots(&play).0, [0, 1]);
        }
    }
}

#[test]
fn a_round_of_a_large_pool_shows_what_has_changed_in_it() {
    const WORKERS: u32 = 300;
    let mut play = Play::steady(plain_policy(WORKERS));
    let mut seen = play.supervisor.slots().revision();
    let mut changed = |play: &Play| {
        let slots = play.supervisor.slots();
        let changed = slots.changed_since(seen).map(|slots| slots.map(|slot| slot.0).collect::<Vec<_>>());
        seen = slots.revision();
        changed
    };
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    for pid in 100..400 {
        assert_eq!(changed(&play), Some(vec![]), "a successor starts");
        play.ack(pid + 300);
        assert_eq!(changed(&play), Some(vec![]), "it serves, and the worker before it drains");
        play.exit(pid);
        assert_eq!(changed(&play), Some(vec![]), "that is gone");
    }
    assert_eq!(play.replies.len(), 1);
    play.exit(407);
    assert_eq!(changed(&play), Some(vec![7]), "nobody serves there");
    play.advance(SECOND);
    assert_eq!(changed(&play), Some(vec![7]), "the next worker has its socket");
    play.ack(700);
    assert_eq!(changed(&play), Some(vec![7]), "it serves");
}
