//! The core's behaviour as scripts on a virtual clock.

mod care;
mod retiring;
mod stop;

use std::time::{Duration, Instant};

use einhorn_proto::{AckSource, Notice, Outcome, Termination};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BOOT: Duration = Duration::from_secs(60);

/// A supervisor, a clock that jumps, and a shell in which every spawn works unless told otherwise.
struct Play {
    supervisor: Supervisor,
    now: Instant,
    next_pid: i32,
    next_request: u64,
    /// Reasons for which the next spawns fail.
    failures: VecDeque<(&'static str, bool)>,
    resolves: bool,
    /// What was spawned: pid, slot, index, generation.
    spawned: Vec<(i32, u32, u32, u64)>,
    signals: Vec<(i32, Signal)>,
    replies: Vec<(u64, bool, String)>,
    reports: Vec<einhorn_proto::UpgradeReport>,
    notices: Vec<Notice>,
    exit: Option<u8>,
}

fn policy(workers: u32) -> Policy {
    Policy {
        program: "./server".to_owned(),
        workers,
        seconds: SECOND,
        ack: AckMode::Manual(Some(BOOT)),
        retries: Retries::DEFAULT,
        unacked_max: 2,
        upgrade_additional_max: None,
        graceful_signal: Signal::SIGUSR2,
        grace: None,
        shrink_grace: None,
        upgrade_restarts: false,
        care: Care::default(),
    }
}

impl Play {
    fn new(policy: Policy) -> Self {
        let mut play = Self {
            supervisor: Supervisor::new(policy),
            now: Instant::now(),
            next_pid: 100,
            next_request: 0,
            failures: VecDeque::new(),
            resolves: true,
            spawned: Vec::new(),
            signals: Vec::new(),
            replies: Vec::new(),
            reports: Vec::new(),
            notices: Vec::new(),
            exit: None,
        };
        play.feed(Event::Started);
        play
    }

    /// A pool whose first workers, pids 100 and up in slot order, have acked and are a minute old.
    fn steady(policy: Policy) -> Self {
        let mut play = Self::new(policy);
        for pid in play.take_spawned() {
            play.ack(pid);
        }
        play.advance(60 * SECOND);
        play.notices.clear();
        play
    }

    fn feed(&mut self, event: Event) {
        let mut queue = VecDeque::from(self.supervisor.handle(self.now, event));
        while let Some(action) = queue.pop_front() {
            let outcome = match action {
                Action::Spawn { worker, slot, index, generation } => Some(match self.failures.pop_front() {
                    Some((reason, transient)) => {
                        Event::SpawnFailed { worker, reason: reason.into(), transient }
                    }
                    None => {
                        let pid = self.next_pid;
                        self.next_pid += 1;
                        self.spawned.push((pid, slot.0, index, generation.0));
                        Event::Spawned { worker, pid: Pid::from_raw(pid) }
                    }
                }),
                Action::ResolveRelease { generation } if self.resolves => {
                    Some(Event::ReleaseResolved { generation })
                }
                Action::ResolveRelease { generation } => {
                    Some(Event::ReleaseFailed { generation, reason: "no such program".into() })
                }
                Action::Signal { pid, signal } => {
                    self.signals.push((pid.as_raw(), signal));
                    None
                }
                Action::Notice { notice, .. } => {
                    self.notices.push(notice);
                    None
                }
                Action::Reply { request, ok, message, data } => {
                    self.replies.push((request.0, ok, message));
                    if let Some(ReplyData::Upgrade(report)) = data {
                        self.reports.push(report);
                    }
                    None
                }
                Action::Exit { code } => {
                    self.exit = Some(code);
                    None
                }
                Action::ForgetRelease { .. } => None,
            };
            if let Some(outcome) = outcome {
                queue.extend(self.supervisor.handle(self.now, outcome));
            }
        }
    }

    fn command(&mut self, command: PoolCommand) -> u64 {
        self.next_request += 1;
        let request = Some(RequestKey(self.next_request));
        self.feed(Event::Command { request, command });
        self.next_request
    }

    fn stop(&mut self, how: Stop) {
        self.feed(Event::Command { request: None, command: PoolCommand::Stop { how, why: "test".into() } });
    }

    fn ack(&mut self, pid: i32) {
        self.feed(Event::Acked { pid: Pid::from_raw(pid), source: AckSource::Control });
    }

    fn exit(&mut self, pid: i32) {
        self.feed(Event::Exited { pid: Pid::from_raw(pid), termination: Termination::Exited(1) });
    }

    /// Lets time pass, stopping at each deadline.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(deadline) = self.supervisor.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.feed(Event::DeadlineReached);
        }
        self.now = end;
    }

    /// The pids spawned since the last call.
    fn take_spawned(&mut self) -> Vec<i32> {
        self.spawned.drain(..).map(|(pid, ..)| pid).collect()
    }

    fn take_signals(&mut self) -> Vec<(i32, Signal)> {
        std::mem::take(&mut self.signals)
    }

    fn snapshot(&self) -> Snapshot {
        self.supervisor.snapshot(self.now)
    }

    /// Live pids that are not draining, by slot.
    fn seated(&self) -> Vec<(u32, i32, u64)> {
        let workers = self.snapshot().workers.into_iter();
        let undrained = workers.filter(|worker| worker.state != einhorn_proto::WorkerState::Draining);
        undrained.map(|worker| (worker.slot, worker.pid, worker.generation)).collect()
    }
}

#[test]
fn all_workers_start_at_once() {
    let mut play = Play::new(policy(5));
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
    let mut play = Play::new(Policy { ack: AckMode::Timer(SECOND), ..policy(2) });
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
    let mut play = Play::new(policy(2));
    let counts = |play: &mut Play| -> Vec<_> {
        let notices = std::mem::take(&mut play.notices).into_iter();
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
    let mut play = Play::steady(policy(3));
    play.exit(101);
    assert_eq!(play.spawned, [(103, 1, 1, 1)]);
    assert_eq!(play.snapshot().slots[1].restarts, 1);
}

#[test]
fn one_that_died_young_waits_until_a_second_after_its_own_spawn() {
    let mut play = Play::new(policy(1));
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
    let mut play = Play::steady(policy(1));
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
    let mut play = Play::steady(policy(4));
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
    let mut play = Play::new(policy(2));
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
    let mut play = Play::steady(policy(1));
    play.failures.extend([("no such file", false); 3]);
    play.exit(100);
    assert_eq!(play.exit, None, "a proven release is tried again");
    play.advance(5 * SECOND);
    assert!(play.failures.is_empty());
    assert_eq!(play.exit, None);

    let mut supervisor = Supervisor::new(policy(1));
    let now = Instant::now();
    let actions = supervisor.handle(now, Event::Started);
    let [Action::Spawn { worker, .. }] = actions[..] else { panic!("{actions:?}") };
    let failed = Event::SpawnFailed { worker, reason: "no such file".into(), transient: false };
    let actions = supervisor.handle(now, failed);
    assert_eq!(actions.last(), Some(&Action::Exit { code: 1 }));
}

#[test]
fn a_spawn_that_fails_for_want_of_processes_is_retried_without_end() {
    let mut play = Play::steady(policy(1));
    play.failures.extend([("out of processes", true); 12]);
    play.exit(100);
    play.advance(300 * SECOND);
    assert_eq!(play.exit, None);
    assert_eq!(play.take_spawned().first(), Some(&101));
}

#[test]
fn a_slot_given_up_is_revived_once_the_release_has_been_up() {
    let mut play = Play::new(policy(2));
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
    let mut play = Play::steady(Policy { retries: Retries::always(2), ..policy(2) });
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
    let mut play = Play::steady(policy(1));
    play.exit(100);
    play.take_spawned();
    play.advance(BOOT);
    assert_eq!(play.take_signals(), [(101, Signal::SIGUSR2)]);
    assert_eq!(play.take_spawned(), [102], "it lived for longer than the backoff");
    play.advance(10 * SECOND);
    assert_eq!(play.take_signals(), [(101, Signal::SIGKILL)]);
}

#[test]
fn a_smooth_upgrade_drains_an_old_worker_for_each_new_one_that_acks() {
    let mut play = Play::steady(policy(3));
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
    assert_eq!(play.seated(), [(0, 103, 2), (1, 104, 2), (2, 105, 2)]);
    let [(answered, true, message)] = &play.replies[..] else { panic!("{:?}", play.replies) };
    assert_eq!(*answered, request);
    assert!(message.contains("2 old workers still finish"), "{message}");
    assert_eq!(play.reports[0].outcome, Outcome::Done);
}

#[test]
fn an_index_is_free_again_when_its_worker_is_reaped() {
    let mut play = Play::steady(policy(1));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(101);
    play.exit(100);
    play.spawned.clear();
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.spawned, [(102, 0, 0, 3)]);
}

#[test]
fn a_second_upgrade_is_refused_and_told_which_one_runs() {
    let mut play = Play::steady(policy(2));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(102);
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    let (_, ok, message) = play.replies.last().unwrap();
    assert!(!ok);
    assert_eq!(message, "upgrade refused: generation 2 is still coming up (1 of 2 acked)");
}

#[test]
fn a_bad_release_fails_the_upgrade_and_the_old_workers_go_on() {
    let mut play = Play::steady(policy(2));
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
    assert_eq!(play.seated(), [(0, 100, 1), (1, 101, 1)]);
    let drained: Vec<_> = play.take_signals().into_iter().filter(|(pid, _)| *pid < 102).collect();
    assert!(drained.is_empty());
    assert_eq!(play.supervisor.next_deadline(), None);
}

#[test]
fn a_release_that_cannot_be_resolved_fails_the_upgrade_before_anything_happens() {
    let mut play = Play::steady(policy(2));
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
    let mut play = Play::steady(Policy { unacked_max: 1, ..policy(3) });
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.exit(102);
    play.ack(103);
    assert_eq!(play.spawned.last(), Some(&(104, 2, 0x2, 1)), "slot 2 waits for its turn");
}

#[test]
fn when_an_old_worker_dies_its_starting_successor_takes_the_slot() {
    let mut play = Play::steady(policy(2));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.take_spawned();
    play.exit(100);
    assert!(play.spawned.is_empty());
    play.ack(102);
    play.ack(103);
    assert_eq!(play.replies.len(), 1);
    assert_eq!(play.seated(), [(0, 102, 2), (1, 103, 2)]);
}

#[test]
fn upgrade_additional_bounds_live_workers_exactly() {
    let mut play = Play::steady(Policy { upgrade_additional_max: Some(1), ..policy(4) });
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
fn dec_takes_an_unacked_worker_before_the_youngest() {
    let mut play = Play::steady(policy(4));
    play.exit(101);
    play.take_signals();
    play.command(PoolCommand::Dec(1));
    assert_eq!(play.take_signals(), [(104, Signal::SIGUSR2)], "unacked");
    play.command(PoolCommand::Dec(1));
    assert_eq!(play.take_signals(), [(103, Signal::SIGUSR2)], "youngest");
    assert_eq!(play.seated(), [(0, 100, 1), (2, 102, 1)], "slots keep their numbers");
    play.take_spawned();
    play.command(PoolCommand::Inc(1));
    assert_eq!(play.spawned[0].1, 1, "the lowest free number");
}

#[test]
fn the_last_worker_cannot_be_taken_away() {
    let mut play = Play::steady(policy(2));
    play.command(PoolCommand::Dec(2));
    play.command(PoolCommand::Dec(1));
    play.command(PoolCommand::Dec(1));
    let oks: Vec<_> = play.replies.iter().map(|(_, ok, _)| *ok).collect();
    assert_eq!(oks, [false, true, false]);
}

#[test]
fn more_workers_during_an_upgrade_get_the_new_release() {
    let mut play = Play::steady(policy(1));
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.command(PoolCommand::SetWorkers(3));
    play.ack(101);
    play.ack(102);
    play.ack(103);
    assert_eq!(play.seated(), [(0, 101, 2), (1, 102, 2), (2, 103, 2)]);
    assert_eq!(play.reports.len(), 1);
}

#[test]
fn a_fleet_without_room_for_a_second_try_goes_on_smoothly() {
    let mut play = Play::steady(Policy { upgrade_additional_max: Some(1), unacked_max: 1, ..policy(1) });
    let fleet = PoolCommand::Upgrade(UpgradePlan { is_fleet: true, ..UpgradePlan::default() });
    let request = Some(RequestKey(77));
    let actions = play.supervisor.handle(play.now, Event::Command { request, command: fleet });
    assert_eq!(actions, [Action::ResolveRelease { generation: Generation(2) }]);
    play.command(PoolCommand::Inc(1));
    play.feed(Event::ReleaseResolved { generation: Generation(2) });
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
fn late_repeated_and_strange_acks_change_nothing() {
    let mut play = Play::steady(policy(1));
    let before = play.snapshot();
    play.ack(100);
    play.ack(4711);
    assert_eq!(play.snapshot(), before);
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.ack(101);
    play.ack(100);
    assert_eq!(play.seated(), [(0, 101, 2)]);
}

#[test]
fn an_upgrade_goes_on_when_its_client_leaves() {
    let mut play = Play::steady(policy(1));
    let request = play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    play.feed(Event::RequestAbandoned { request: RequestKey(request) });
    play.ack(101);
    assert_eq!(play.seated(), [(0, 101, 2)]);
    assert!(play.replies.is_empty());
}

#[test]
fn a_death_before_the_ack_tells_what_the_worker_last_wrote_and_one_after_it_does_not() {
    let mut play = Play::steady(policy(2));
    let say = |play: &mut Play, pid: i32, line: &str| {
        play.feed(Event::LastWords { pid: Pid::from_raw(pid), lines: vec![line.to_owned()] });
    };
    let tails = |play: &mut Play| -> Vec<Vec<String>> {
        let notices = std::mem::take(&mut play.notices);
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
fn a_slot_that_was_given_up_before_does_not_hold_up_the_way_back() {
    let mut play = Play::steady(Policy { retries: Retries::always(1), unacked_max: 1, ..policy(2) });
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
    assert_eq!(play.spawned.last(), Some(&(105, 0, 1, 1)), "a successor of the release before");
    play.ack(105);
    assert_eq!(play.reports.first().map(|report| report.outcome), Some(Outcome::RolledBack));
}

/// A pool of two in which upgrades restart, with one of its slots on generation 2 and the other being tried.
fn half_upgraded(unacked_max: u32) -> (Play, u64) {
    let mut play = Play::steady(Policy { upgrade_restarts: true, unacked_max, ..policy(2) });
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
    let generations: Vec<_> = play.supervisor.pool.slots.values().map(|slot| slot.generation.0).collect();
    assert_eq!(generations, [1, 1]);
    assert_eq!(play.supervisor.snapshot(play.now).upgrade, None);
}

#[test]
fn a_higher_bound_lets_an_upgrade_go_on_at_once() {
    let mut play = Play::steady(Policy { unacked_max: 1, ..policy(3) });
    play.command(PoolCommand::Upgrade(UpgradePlan::default()));
    assert_eq!(play.take_spawned().len(), 1);
    let change = PolicyChange { unacked_max: Some(3), ..PolicyChange::default() };
    play.command(PoolCommand::Configure(change));
    assert_eq!(play.take_spawned().len(), 2);
}

#[test]
fn a_number_among_other_options_is_answered_as_a_resize() {
    let mut play = Play::steady(policy(2));
    let change = PolicyChange { workers: Some(3), seconds: Some(2 * SECOND), ..PolicyChange::default() };
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
    let mut play = Play::steady(policy(1));
    for word in [Some("first".to_owned()), None, Some("last".to_owned())] {
        play.feed(Event::Pinged { pid: Pid::from_raw(100), word });
    }
    assert_eq!(play.supervisor.worker_details(play.now)[0].ping_word.as_deref(), Some("last"));
}
