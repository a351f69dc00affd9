//! Recycling: workers that serve: who is replaced, in which order, and what may come between.

use einhorn_proto::{RecycleReason, Recycled, Target, WorkerState};

use super::*;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Four workers that may hold a MiB each, as a rule; any number of them may be starting.
pub(super) fn recycling_policy(recycling: RecyclingLimits) -> Policy {
    Policy { unacked_max: 4, recycling, ..plain_policy(4) }
}

pub(super) fn by_rss() -> Policy {
    recycling_policy(RecyclingLimits { max_rss_bytes: Some(MIB), ..RecyclingLimits::default() })
}

pub(super) fn by_pings() -> Policy {
    recycling_policy(RecyclingLimits { ping_timeout: Some(5 * SECOND), ..RecyclingLimits::default() })
}

fn by_age(age: Duration, jitter: Duration) -> Policy {
    recycling_policy(RecyclingLimits {
        max_age: Some(MaxAge { age, jitter, seed: 1 }),
        ..RecyclingLimits::default()
    })
}

impl Play {
    pub(super) fn measure(&mut self, pid: i32, rss_bytes: u64) {
        self.feed(Event::Heard { pid: Pid::from_raw(pid), report: Report::Rss(rss_bytes) });
    }

    pub(super) fn ping(&mut self, pid: i32) {
        self.feed(Event::Heard { pid: Pid::from_raw(pid), report: Report::Ping(None) });
    }

    pub(super) fn upgrade(&mut self) -> u64 {
        self.command(PoolCommand::Upgrade(UpgradePlan::default()))
    }

    /// Whose turns began since the last call, and why.
    pub(super) fn turns(&mut self) -> Vec<(i32, RecycleReason)> {
        let notices = core::mem::take(&mut self.notices).into_iter();
        let turns = notices.filter_map(|notice| match notice {
            Notice::Recycling { pid, reason, .. } => Some((pid, reason)),
            _ => None,
        });
        turns.collect()
    }

    fn count(&self, of: WorkerState) -> usize {
        self.snapshot().workers.iter().filter(|worker| worker.state == of).count()
    }

    pub(super) fn recycled(&self) -> Recycled {
        self.snapshot().recycled
    }

    /// Another image of the master goes on.
    fn hand_over(&mut self) {
        let json = serde_json::to_string(self.supervisor.tables().unwrap()).unwrap();
        self.supervisor = Supervisor::restore(serde_json::from_str(&json).unwrap()).unwrap();
    }
}

#[test]
fn a_worker_is_replaced_by_request_once_and_not_beside_an_upgrade() {
    let mut play = Play::new(plain_policy(2));
    play.advance(SECOND);
    play.ack(100);
    play.ack(101);
    play.take_spawned();
    let replace = |target| PoolCommand::Replace(target);
    play.command(replace(Target::Slot(7)));
    play.command(replace(Target::Pid(101)));
    play.command(replace(Target::Slot(1)));
    assert_eq!(play.turns(), [(101, RecycleReason::Asked)], "asked for twice, replaced once");
    assert_eq!(play.spawned.len(), 1);
    play.ack(102);
    play.exit(101);
    assert_eq!(play.recycled().asked, 1);
    play.upgrade();
    play.command(replace(Target::Slot(0)));
    assert_eq!(play.turns(), []);
}

#[test]
fn a_worker_is_replaced_at_its_age_and_its_successor_at_its_own() {
    let mut play = Play::new(Policy { workers: 1, ..by_age(HOUR, Duration::ZERO) });
    play.advance(SECOND);
    play.ack(100);
    play.take_spawned();
    play.advance(HOUR - Duration::from_millis(1));
    assert!(play.spawned.is_empty());
    play.advance(Duration::from_millis(1));
    assert_eq!(
        play.spawned,
        [(101, 0, 1, 1)],
        "an hour after its ack; of its own generation, in its own slot"
    );
    assert_eq!(play.turns(), [(100, RecycleReason::MaxAge)]);
    assert!(play.signals.is_empty(), "it serves until somebody else does");
    play.ack(101);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2)]);
    assert_eq!(play.snapshot().slots[0].restarts, 0, "nobody died");
    play.exit(100);
    play.advance(HOUR - SECOND);
    assert_eq!(play.take_spawned(), [101]);
    play.advance(SECOND);
    assert_eq!(play.take_spawned(), [102]);
    assert_eq!(
        play.recycled(),
        Recycled { max_age: 1, max_rss: 0, ping_timeout: 0, asked: 0, lost_socket: 0 }
    );
}

#[test]
fn with_jitter_workers_of_one_age_reach_theirs_at_different_times() {
    let mut play = Play::new(by_age(HOUR, HOUR / 4));
    let pids = play.take_spawned();
    pids.iter().for_each(|&pid| play.ack(pid));
    play.notices.clear();
    let (mut turns, mut began) = (Vec::new(), play.now);
    let start = play.now;
    while turns.len() < 4 {
        let before = play.now;
        play.advance(play.supervisor.next_deadline().unwrap() - play.now);
        for (old, reason) in play.turns() {
            assert_eq!(reason, RecycleReason::MaxAge);
            assert!((HOUR..=HOUR * 5 / 4).contains(&(play.now - start)));
            assert!(turns.is_empty() || play.now - began > SECOND, "{turns:?} and {old} at one time");
            (began, turns) = (play.now, [&turns[..], &[old]].concat());
            let successor = play.take_spawned()[0];
            play.ack(successor);
            play.exit(old);
        }
        assert!(play.now > before);
    }
    turns.sort_unstable();
    assert_eq!(turns, pids);
}

#[test]
fn all_over_the_limit_at_once_are_replaced_one_after_the_other_and_nobody_is_missing() {
    let mut play = Play::steady(by_rss());
    play.take_signals();
    for pid in 100..104 {
        play.measure(pid, 2 * MIB);
        // Once more, as each look at it does.
        play.measure(pid, 3 * MIB);
    }
    for (old, new) in (100..104).zip(104..) {
        assert_eq!(play.take_spawned(), [new]);
        assert_eq!(play.turns(), [(old, RecycleReason::MaxRss)]);
        assert_eq!((play.count(WorkerState::Up), play.count(WorkerState::Starting)), (4, 1));
        play.ack(new);
        assert_eq!(play.take_signals(), [(old, Signal::SIGUSR2)]);
        assert_eq!((play.count(WorkerState::Up), play.count(WorkerState::Draining)), (4, 1));
        play.advance(60 * SECOND);
        assert!(play.spawned.is_empty(), "the next turn begins when {old} is gone");
        play.exit(old);
    }
    assert!(play.spawned.is_empty());
    assert_eq!(
        play.recycled(),
        Recycled { max_age: 0, max_rss: 4, ping_timeout: 0, asked: 0, lost_socket: 0 }
    );
    assert_eq!(play.supervisor.next_deadline(), None);
}

fn loses_socket(play: &mut Play, pid: i32) {
    play.feed(Event::Heard { pid: Pid::from_raw(pid), report: Report::LostSocket });
}

#[test]
fn workers_that_have_lost_a_socket_are_replaced_one_after_the_other() {
    let mut play = Play::steady(plain_policy(2));
    play.take_signals();
    [100, 101].iter().for_each(|pid| loses_socket(&mut play, *pid));
    // Once more, as when a second listener is lost.
    loses_socket(&mut play, 100);
    for (old, new) in [(100, 102), (101, 103)] {
        assert_eq!(play.take_spawned(), [new]);
        assert_eq!(play.turns(), [(old, RecycleReason::LostSocket)]);
        play.ack(new);
        assert_eq!(play.take_signals(), [(old, Signal::SIGUSR2)]);
        loses_socket(&mut play, old);
        play.exit(old);
    }
    assert!(play.take_spawned().is_empty(), "one that drains is not replaced for that");
    assert_eq!(
        play.recycled(),
        Recycled { max_age: 0, max_rss: 0, ping_timeout: 0, asked: 0, lost_socket: 2 }
    );
    assert_eq!(play.supervisor.next_deadline(), None);
}

#[test]
fn one_that_starts_with_a_lost_socket_is_replaced_once_it_serves() {
    let mut play = Play::new(plain_policy(1));
    play.advance(SECOND);
    play.take_spawned();
    loses_socket(&mut play, 100);
    assert!(play.take_spawned().is_empty());
    play.ack(100);
    assert_eq!(play.take_spawned(), [101]);
    assert_eq!(play.turns(), [(100, RecycleReason::LostSocket)]);
}

#[test]
fn a_lost_socket_is_not_forgiven_with_another_reason() {
    let mut play = Play::steady(by_rss());
    // 100 has its turn, and 101 waits for its own.
    [100, 101].iter().for_each(|pid| play.measure(*pid, 2 * MIB));
    loses_socket(&mut play, 101);
    play.hand_over();
    play.measure(101, 0);
    assert_eq!(play.turns(), [(100, RecycleReason::MaxRss)]);
    play.ack(104);
    play.exit(100);
    assert_eq!(play.turns(), [(101, RecycleReason::LostSocket)]);
}

#[test]
fn no_turn_begins_before_every_slot_is_served() {
    let mut play = Play::new(by_rss());
    (100..103).for_each(|pid| play.ack(pid));
    play.take_spawned();
    play.measure(100, 2 * MIB);
    assert!(play.spawned.is_empty(), "the first start is not over");
    play.ack(103);
    play.advance(2 * SECOND);
    assert_eq!(play.take_spawned(), [104]);
    play.ack(104);
    play.exit(102);
    assert_eq!(play.take_spawned(), [105], "a respawn");
    play.measure(101, 2 * MIB);
    play.exit(100);
    assert!(play.spawned.is_empty(), "slot 2 has a worker that has not acked");
    play.ack(105);
    assert_eq!(play.take_spawned(), [106]);
    assert_eq!(play.turns(), [(100, RecycleReason::MaxRss), (101, RecycleReason::MaxRss)]);
}

#[test]
fn a_slot_that_was_given_up_holds_nobody_up() {
    let mut play = Play::steady(Policy { retries: Retries::always(1), ..by_rss() });
    play.exit(103);
    play.exit(104);
    assert!(play.snapshot().slots[3].given_up);
    play.take_spawned();
    play.measure(100, 2 * MIB);
    assert_eq!(play.take_spawned(), [105]);
}

#[test]
fn a_successor_that_dies_is_tried_again_with_backoff_and_the_worker_goes_on() {
    let mut play = Play::steady(Policy { retries: Retries::always(1), ..by_rss() });
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    for (pid, wait) in [(104, 1500), (105, 2250), (106, 3375)] {
        assert_eq!(play.take_spawned(), [pid]);
        play.exit(pid);
        assert!(play.take_signals().is_empty());
        play.advance(Duration::from_millis(wait - 1));
        assert!(play.spawned.is_empty(), "{wait} ms after the spawn of {pid}");
        play.advance(Duration::from_millis(1));
    }
    assert_eq!(
        play.turns().iter().map(|(old, _)| *old).collect::<Vec<_>>(),
        [100; 4],
        "one turn, tried anew"
    );
    assert!(!play.snapshot().slots[0].given_up, "however few tries a slot has");
    play.ack(107);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2)]);
    play.exit(100);
    assert_eq!(play.take_spawned(), [107, 108]);
    play.exit(108);
    play.advance(Duration::from_millis(1500));
    assert_eq!(play.take_spawned(), [109], "the ack has reset the backoff");
    assert_eq!(play.recycled().max_rss, 1);
}

#[test]
fn a_successor_that_cannot_be_spawned_is_tried_again() {
    let mut play = Play::steady(by_rss());
    play.failures.extend([("no such file", false), ("out of processes", true)]);
    play.measure(100, 2 * MIB);
    play.advance(10 * SECOND);
    assert_eq!(play.take_spawned(), [104]);
    assert_eq!(play.exit, None);
}

#[test]
fn a_successor_that_misses_its_boot_deadline_is_stopped_and_the_worker_goes_on() {
    let mut play = Play::steady(by_rss());
    play.measure(100, 2 * MIB);
    assert_eq!(play.take_spawned(), [104]);
    play.advance(BOOT);
    assert_eq!(play.take_signals(), [(104, Signal::SIGUSR2)]);
    assert_eq!(play.take_spawned(), [105], "it had lived for longer than the backoff");
    assert_eq!(play.undrained()[0].1, 100);
    play.advance(10 * SECOND);
    assert_eq!(play.take_signals(), [(104, Signal::SIGKILL)]);
    play.exit(104);
    play.ack(105);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2)]);
}

#[test]
fn when_a_worker_dies_in_its_turn_its_successor_has_the_slot_and_the_next_waits_for_its_ack() {
    let mut play = Play::steady(by_rss());
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    play.exit(100);
    assert_eq!(play.take_spawned(), [104], "no respawn beside it, and no other turn");
    assert_eq!(play.undrained()[0], (0, 104, 1));
    play.ack(104);
    assert_eq!(play.take_spawned(), [105]);
    assert_eq!(play.recycled().max_rss, 0, "it died, and was not replaced while it served");
    assert_eq!(play.snapshot().slots[0].restarts, 1);
}

#[test]
fn a_worker_that_cannot_be_signalled_holds_no_other_up() {
    let mut play = Play::steady(by_rss());
    play.refusing.insert(Pid::from_raw(100));
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    assert_eq!(play.take_spawned(), [104]);
    play.ack(104);
    assert_eq!(play.undrained()[0], (0, 104, 1));
    assert_eq!(play.take_spawned(), [105], "100 may never go");
}

#[test]
fn one_that_dies_before_its_turn_has_none() {
    let mut play = Play::steady(by_rss());
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    play.exit(101);
    assert_eq!(play.take_spawned(), [104, 105]);
    play.ack(104);
    play.ack(105);
    play.exit(100);
    assert!(play.spawned.is_empty());
    assert_eq!(play.turns(), [(100, RecycleReason::MaxRss)]);
}

#[test]
fn an_upgrade_ends_a_turn_and_replaces_everybody_once() {
    let mut play = Play::steady(Policy { unacked_max: 1, ..by_rss() });
    (100..104).for_each(|pid| play.measure(pid, 2 * MIB));
    assert_eq!(play.take_spawned(), [104]);
    play.take_signals();
    let request = play.upgrade();
    assert_eq!(play.take_signals(), [(104, Signal::SIGUSR2)], "the successor, which has not acked");
    for (old, new) in (100..104).zip(105..) {
        assert_eq!(
            play.spawned.drain(..).map(|(pid, .., generation)| (pid, generation)).collect::<Vec<_>>(),
            [(new, 2)]
        );
        play.ack(new);
        assert_eq!(play.take_signals(), [(old, Signal::SIGUSR2)]);
    }
    assert_eq!(play.replies.iter().map(|(id, ok, _)| (*id, *ok)).collect::<Vec<_>>(), [(request, true)]);
    (100..105).for_each(|pid| play.exit(pid));
    play.advance(HOUR);
    assert!(play.spawned.is_empty(), "those that were over the limit are gone");
    assert_eq!(play.turns(), [(100, RecycleReason::MaxRss)]);
    assert_eq!(play.recycled(), Recycled::default());
}

#[test]
fn no_turn_begins_during_an_upgrade_and_after_one_that_failed_it_comes() {
    let mut play = Play::steady(Policy { retries: Retries::always(1), unacked_max: 1, ..by_rss() });
    play.upgrade();
    assert_eq!(play.spawned.drain(..).map(|(.., generation)| generation).collect::<Vec<_>>(), [2]);
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    play.advance(SECOND);
    assert!(play.spawned.is_empty() && play.turns().is_empty());
    play.exit(104);
    assert!(!play.replies[0].1, "the upgrade failed");
    assert_eq!(play.spawned, [(105, 0, 4, 1)], "and now it is its turn");
    assert_eq!(play.turns(), [(100, RecycleReason::MaxRss)]);
}

#[test]
fn a_soak_is_part_of_the_upgrade() {
    let mut play = Play::steady(by_rss());
    play.command(PoolCommand::Upgrade(UpgradePlan { canary: Some(1), ..UpgradePlan::default() }));
    play.ack(104);
    play.exit(100);
    play.take_spawned();
    play.measure(101, 2 * MIB);
    play.advance(HOUR);
    assert!(play.spawned.is_empty());
    play.command(PoolCommand::Abort);
    play.ack(105);
    assert_eq!(
        play.spawned.iter().map(|(pid, slot, ..)| (*pid, *slot)).collect::<Vec<_>>(),
        [(105, 0), (106, 1)]
    );
}

#[test]
fn an_upgrade_that_begins_while_the_replaced_worker_drains_lets_it_drain() {
    let mut play = Play::steady(by_rss());
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    play.ack(104);
    play.take_spawned();
    play.take_signals();
    play.upgrade();
    (105..109).for_each(|pid| play.ack(pid));
    assert_eq!(play.reports[0].outcome, Outcome::Done);
    (101..105).for_each(|pid| play.exit(pid));
    play.measure(105, 2 * MIB);
    play.take_spawned();
    assert!(play.spawned.is_empty(), "100 still holds its memory");
    play.exit(100);
    assert_eq!(play.take_spawned(), [109]);
}

#[test]
fn an_upgrade_resets_the_backoff_of_the_previous_release() {
    let mut play = Play::steady(by_rss());
    play.measure(100, 2 * MIB);
    for pid in 104..110 {
        play.exit(pid);
        play.advance(30 * SECOND);
    }
    play.exit(110);
    play.upgrade();
    (111..115).for_each(|pid| play.ack(pid));
    play.take_spawned();
    play.measure(111, 2 * MIB);
    assert_eq!(play.take_spawned(), [115]);
    play.exit(115);
    play.advance(Duration::from_millis(1500));
    assert_eq!(play.take_spawned(), [116]);
}

#[test]
fn a_stop_ends_it_all() {
    let mut play = Play::steady(by_rss());
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    play.take_signals();
    play.stop(Stop::Gracefully);
    assert_eq!(play.take_signals(), (100..105).map(|pid| (pid, Signal::SIGUSR2)).collect::<Vec<_>>());
    play.measure(102, 2 * MIB);
    play.take_spawned();
    (100..105).for_each(|pid| play.exit(pid));
    assert_eq!((play.exit, play.spawned.len()), (Some(0), 0));
}

#[test]
fn a_slot_that_is_closed_in_its_turn_takes_both_workers_along_and_the_next_turn_comes() {
    let mut play = Play::steady(by_rss());
    play.measure(103, 2 * MIB);
    play.measure(100, 2 * MIB);
    assert_eq!(play.take_spawned(), [104]);
    play.take_signals();
    play.command(PoolCommand::Dec(1));
    assert_eq!(play.take_signals(), [(103, Signal::SIGUSR2), (104, Signal::SIGUSR2)]);
    play.command(PoolCommand::Inc(1));
    assert_eq!(play.take_spawned(), [105], "the slot anew");
    play.ack(105);
    play.exit(104);
    assert!(play.spawned.is_empty());
    play.exit(103);
    assert_eq!(play.take_spawned(), [106]);
    assert_eq!(play.turns(), [(103, RecycleReason::MaxRss), (100, RecycleReason::MaxRss)]);
    assert_eq!(play.recycled(), Recycled::default());
}

#[test]
fn memory_that_is_given_back_before_its_turn_is_forgiven() {
    let mut play = Play::steady(by_rss());
    (100..103).for_each(|pid| play.measure(pid, 2 * MIB));
    play.measure(101, MIB);
    play.measure(100, MIB);
    play.ack(104);
    play.exit(100);
    assert_eq!(play.turns(), [(100, RecycleReason::MaxRss), (102, RecycleReason::MaxRss)]);
}

#[test]
fn nobody_is_forgiven_his_age() {
    let limits = RecyclingLimits { max_rss_bytes: Some(MIB), ..by_age(HOUR, Duration::ZERO).recycling };
    let mut play =
        Play::steady(Policy { ack: AckMode::Manual(None), workers: 2, ..recycling_policy(limits) });
    (100..102).for_each(|pid| play.measure(pid, 2 * MIB));
    play.advance(HOUR);
    play.measure(101, 0);
    play.ack(102);
    play.exit(100);
    assert_eq!(play.turns(), [(100, RecycleReason::MaxRss), (101, RecycleReason::MaxAge)]);
}

#[test]
fn without_limits_nothing_is_looked_at() {
    let mut play = Play::steady(plain_policy(4));
    for pid in 100..104 {
        play.ping(pid);
        play.measure(pid, u64::MAX);
    }
    assert_eq!(play.supervisor.next_deadline(), None);
    play.take_spawned();
    play.advance(HOUR);
    assert!(play.spawned.is_empty());
}

#[test]
fn a_turn_a_queue_and_clocks_outlive_the_master() {
    let limits = RecyclingLimits { max_rss_bytes: Some(MIB), ..by_pings().recycling };
    let mut play = Play::steady(recycling_policy(limits));
    play.take_signals();
    play.ping(103);
    play.measure(100, 2 * MIB);
    play.measure(101, 2 * MIB);
    play.hand_over();
    assert_eq!(play.take_spawned(), [104]);
    play.measure(100, 2 * MIB);
    play.ack(104);
    assert_eq!(play.take_signals(), [(100, Signal::SIGUSR2)]);
    play.hand_over();
    assert!(play.spawned.is_empty(), "100 is still there");
    play.exit(100);
    assert_eq!(play.take_spawned(), [105]);
    play.exit(105);
    play.hand_over();
    play.advance(Duration::from_millis(1500));
    assert_eq!(play.take_spawned(), [106]);
    play.ack(106);
    play.exit(101);
    play.advance(5 * SECOND);
    let turns = play.turns();
    assert_eq!(turns.last(), Some(&(103, RecycleReason::PingTimeout)));
    let olds: Vec<_> = turns.iter().map(|(old, _)| *old).collect();
    assert_eq!(olds, [100, 101, 101, 103]);
    assert_eq!(play.recycled().max_rss, 2);
}
