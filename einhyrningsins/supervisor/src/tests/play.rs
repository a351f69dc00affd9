//! What scripts play: a supervisor on a virtual clock, and a shell that is as good or as bad as they say.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use super::Moment;

use super::Pid;
use super::Signal;
use einhorn_proto::{AckSource, LastReply, Notice, Requester, Termination};

use super::super::onlooker::{MEMBER, answer};
use super::super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Stands for the slot of a trial worker, which has none.
pub(super) const TRIAL: u32 = u32::MAX;
pub(super) const BOOT: Duration = Duration::from_secs(60);

/// A supervisor, a clock that jumps, and a shell in which every spawn works unless told otherwise.
pub(super) struct Play {
    pub(super) supervisor: Supervisor,
    pub(super) now: Moment,
    pub(super) next_pid: i32,
    pub(super) next_request: u64,
    /// Reasons for which the next spawns fail.
    pub(super) failures: VecDeque<(&'static str, bool)>,
    pub(super) resolves: bool,
    /// The processes that the master may not signal.
    pub(super) refusing: BTreeSet<Pid>,
    /// Groups in which nobody is left.
    pub(super) empty_groups: BTreeSet<Pid>,
    /// Groups that hold a listener.
    pub(super) listening: BTreeSet<Pid>,
    pub(super) group_signals: Vec<(i32, Signal)>,
    /// Whether upgrades begin at once, without a handover.
    pub(super) prepares: bool,
    /// Jobs that run, and what they check.
    pub(super) jobs: Vec<(JobId, Subject)>,
    /// What was spawned: pid, slot or [`TRIAL`], index, generation.
    pub(super) spawned: Vec<(i32, u32, u32, u64)>,
    pub(super) signals: Vec<(i32, Signal)>,
    pub(super) replies: Vec<(u64, bool, String)>,
    pub(super) reports: Vec<einhorn_proto::UpgradeReport>,
    pub(super) notices: Vec<Notice>,
    pub(super) records: Vec<RolloutRecord>,
    /// What was added to them: from, to, and how many workers.
    pub(super) listening_recorded: Vec<(u64, u64, u32)>,
    pub(super) exit: Option<u8>,
}

/// What a pool of scripts and of the model is held to, unless they say otherwise.
pub(in super::super) fn plain_policy(workers: u32) -> Policy {
    Policy {
        program: "./server".to_owned(),
        workers,
        seconds: SECOND,
        ack: AckMode::Manual(Some(BOOT)),
        retries: Retries::DEFAULT,
        unacked_max: 2,
        unacked_by_cpus: None,
        upgrade_additional_max: None,
        graceful_signal: Some(Signal::SIGUSR2),
        grace: None,
        shrink_grace: None,
        stop_group: false,
        drain_warning: None,
        report_wait: Duration::ZERO,
        upgrade_restarts: false,
        recycling: RecyclingLimits::default(),
        check: None,
        check_timeout: CHECK_TIMEOUT,
        checks_first: false,
        on_event: None,
    }
}

impl Play {
    pub(super) fn new(policy: Policy) -> Self {
        let mut play = Self {
            supervisor: Supervisor::new(policy),
            now: Moment::from_clock(Duration::from_secs(1000)),
            next_pid: 100,
            next_request: 0,
            failures: VecDeque::new(),
            resolves: true,
            refusing: BTreeSet::new(),
            empty_groups: BTreeSet::new(),
            listening: BTreeSet::new(),
            group_signals: Vec::new(),
            prepares: true,
            jobs: Vec::new(),
            spawned: Vec::new(),
            signals: Vec::new(),
            replies: Vec::new(),
            reports: Vec::new(),
            notices: Vec::new(),
            records: Vec::new(),
            listening_recorded: Vec::new(),
            exit: None,
        };
        play.feed(Event::Started);
        play
    }

    /// A pool whose first workers, pids 100 and up in slot order, have acked and are a minute old.
    pub(super) fn steady(policy: Policy) -> Self {
        let mut play = Self::new(policy);
        for pid in play.take_spawned() {
            play.ack(pid);
        }
        play.advance(60 * SECOND);
        play.notices.clear();
        play
    }

    pub(super) fn feed(&mut self, event: Event) {
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
                        self.spawned.push((pid, slot.map_or(TRIAL, |slot| slot.0), index, generation.0));
                        Event::Spawned { worker, pid: Pid::from_raw(pid), start_ticks: None }
                    }
                }),
                Action::ResolveRelease { generation } if self.resolves => {
                    Some(Event::ReleaseResolved { generation, same_as: None })
                }
                Action::ResolveRelease { generation } => {
                    Some(Event::ReleaseFailed { generation, reason: "no such program".into() })
                }
                Action::Signal { pid, signal } => {
                    self.signals.push((pid.as_raw(), signal));
                    None
                }
                Action::Stop { .. } | Action::Recognise { .. } => {
                    let answer = answer(&action, &self.refusing, &BTreeSet::new());
                    if let Some(Event::Heard { pid, report: Report::StopSent { signal, .. } }) = answer {
                        self.signals.push((pid.as_raw(), signal));
                    }
                    answer
                }
                Action::Notice { notice, .. } => {
                    self.notices.push(notice);
                    None
                }
                Action::RecordListening { generation, from, listening } => {
                    self.listening_recorded.push((from.0, generation.0, listening));
                    None
                }
                Action::Record { rollout } => {
                    self.records.push(*rollout);
                    None
                }
                Action::Reply { request, answer } => {
                    self.replies.push((request.0, answer.is_ok(), answer.to_string()));
                    if let LastReply::Upgrade { report, .. } = answer {
                        self.reports.push(*report);
                    }
                    None
                }
                Action::Exit { code } => {
                    self.exit = Some(code);
                    None
                }
                Action::PrepareUpgrade { request, plan } if self.prepares => {
                    Some(Event::UpgradePrepared { request, plan })
                }
                Action::Look { group } => {
                    let is_empty = self.empty_groups.contains(&group);
                    let members = if is_empty { Vec::new() } else { vec![MEMBER] };
                    Some(Event::GroupSeen { group, members, listens: self.listening.contains(&group) })
                }
                Action::StopGroup { group, signal } => {
                    self.group_signals.push((group.as_raw(), signal));
                    None
                }
                Action::Check { job, subject, .. } => {
                    self.jobs.push((job, subject));
                    None
                }
                Action::EndJob { job } => {
                    self.jobs.retain(|(running, _)| *running != job);
                    None
                }
                Action::PrepareUpgrade { .. } | Action::ForgetRelease { .. } => None,
            };
            if let Some(outcome) = outcome {
                queue.extend(self.supervisor.handle(self.now, outcome));
            }
        }
    }

    pub(super) fn command(&mut self, command: PoolCommand) -> u64 {
        self.next_request += 1;
        let request = Some(RequestKey(self.next_request));
        self.feed(Event::Command { request, requester: Requester::default(), command });
        self.next_request
    }

    /// What the user `uid` asks for.
    pub(super) fn command_of(&mut self, uid: u32, command: PoolCommand) {
        self.next_request += 1;
        let request = (command != PoolCommand::Hangup).then_some(RequestKey(self.next_request));
        let requester = Requester { uid: Some(uid), ..Requester::default() };
        self.feed(Event::Command { request, requester, command });
    }

    /// The only job that runs ends like this.
    pub(super) fn end_job(&mut self, outcome: JobOutcome) {
        let (job, _) = self.jobs.pop().unwrap();
        assert_eq!(self.jobs, []);
        self.feed(Event::JobEnded { job, outcome });
    }

    pub(super) fn stop(&mut self, how: Stop) {
        let (requester, command) = (Requester::default(), PoolCommand::Stop { how, why: "test".into() });
        self.feed(Event::Command { request: None, requester, command });
    }

    pub(super) fn ack(&mut self, pid: i32) {
        self.feed(Event::Heard { pid: Pid::from_raw(pid), report: Report::Ack(AckSource::Control) });
    }

    pub(super) fn exit(&mut self, pid: i32) {
        self.feed(Event::Exited { pid: Pid::from_raw(pid), termination: Termination::Exited(1) });
    }

    /// Lets time pass, stopping at each deadline.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(deadline) = self.supervisor.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.feed(Event::DeadlineReached);
        }
        self.now = end;
    }

    /// The pids spawned since the last call.
    pub(super) fn take_spawned(&mut self) -> Vec<i32> {
        self.spawned.drain(..).map(|(pid, ..)| pid).collect()
    }

    pub(super) fn take_signals(&mut self) -> Vec<(i32, Signal)> {
        core::mem::take(&mut self.signals)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.supervisor.snapshot(self.now)
    }

    /// Live pids that are not draining, by slot.
    pub(super) fn undrained(&self) -> Vec<(u32, i32, u64)> {
        let workers = self.snapshot().workers.into_iter();
        let undrained = workers.filter(|worker| worker.state != einhorn_proto::WorkerState::Draining);
        undrained.map(|worker| (worker.slot.0.unwrap_or(TRIAL), worker.pid, worker.generation)).collect()
    }
}
