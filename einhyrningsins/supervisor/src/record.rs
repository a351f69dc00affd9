//! What has happened, noted in the tables: facts, no decisions.
//!
//! This is the table of every state and event: an event changes one fact here, or is ignored by name. Commands are
//! facts too; `commands.rs` has the table for those.

use alloc::string::{String, ToString};
use core::time::Duration;

use einhorn_proto::{
    AckSource, Death, DrainEnding, Ignored, Notice, RecycleReason, SignalReason, Termination, UpgradeFailure,
    WorkerSlot,
};

use super::Supervisor;
use super::event::{Action, Event, Generation, Report, RequestKey, WorkerId, shown};
use super::moment::{Moment, milliseconds};
use super::plan::{Plan, Rollout, Stage};
use super::policy::AckMode;
use super::pool::Cause;
use super::signal::{Pid, Signal};
use super::tables::count;
use super::worker::{Boot, Drain, Process, State, Stops, Worker};

impl Supervisor {
    /// Notes an event.
    pub(crate) fn record(&mut self, now: Moment, event: Event) {
        self.now = now;
        // Somebody waits for the answer to these.
        let is_answered = matches!(event, Event::UpgradePrepared { .. } | Event::WorkersUnsignallable { .. });
        if self.tables.plan == Plan::Exited && !is_answered {
            return self.ignore(&Ignored::Exited);
        }
        match event {
            Event::Started => self.on_started(),
            Event::Spawned { worker, pid, start_ticks } => self.on_spawned(worker, pid, start_ticks),
            Event::SpawnFailed { worker, reason, transient } => {
                self.on_spawn_failed(worker, reason, transient);
            }
            Event::Exited { pid, termination } => self.on_exited(pid, termination),
            Event::Heard { pid, report } => self.on_heard(pid, report),
            Event::Command { request, requester, command } => self.on_command(request, requester, command),
            Event::RequestAbandoned { request } => self.on_request_abandoned(request),
            Event::UpgradePrepared { request, plan } => self.on_upgrade_prepared(request, plan),
            Event::UpgradeNotPrepared => self.on_upgrade_not_prepared(),
            Event::WorkersUnsignallable { request, pids } => self.on_workers_unsignallable(request, &pids),
            Event::GroupSeen { group, members, listens } => self.on_group_seen(group, members, listens),
            Event::ReleaseResolved { generation, same_as } => self.on_release_resolved(generation, same_as),
            Event::ReleaseFailed { generation, reason } => self.on_release_failed(generation, reason),
            Event::JobEnded { job, outcome } => self.on_job_ended(job, outcome),
            Event::BootLoad(load) => {
                let is_last = self.tables.pool.unacked() == 0;
                self.tables.allowance.note(load, is_last);
            }
            Event::TimeLost(lost) => self.on_time_lost(lost),
            Event::DeadlineReached => self.reached = now,
        }
    }

    /// An event makes no sense, and changes nothing.
    pub(crate) fn ignore(&mut self, what: &Ignored) {
        let message = what.to_string();
        let is_odd = matches!(what, Ignored::StrayAck { .. } | Ignored::PidTaken { .. });
        self.tell(if is_odd { Notice::Refused { message } } else { Notice::Decided { message } });
    }

    fn on_started(&mut self) {
        match self.tables.plan {
            Plan::Waiting => {
                self.tables.plan = Plan::Steady;
                self.tables.started_at = Some(self.now);
                let (workers, generation) = (self.tables.policy.workers, self.tables.releases.serving());
                self.tables.pool.open_slots(workers, generation, self.now);
                let check = self.tables.policy.check.clone().filter(|_| self.tables.policy.checks_first);
                check.into_iter().for_each(|check| self.begin_trial(generation, check));
            }
            Plan::Steady | Plan::Rolling(_) | Plan::Stopping { .. } | Plan::Exited => {
                self.ignore(&Ignored::AlreadyStarted);
            }
        }
    }

    fn on_time_lost(&mut self, lost: Duration) {
        self.tables.pool.postpone(lost);
        self.tables.leftovers.postpone(lost);
        self.tables.trial.iter_mut().for_each(|trial| trial.postpone(lost));
        self.tell(Notice::TimeLost { lost_ms: milliseconds(lost) });
    }

    fn on_spawned(&mut self, id: WorkerId, pid: Pid, start_ticks: Option<u64>) {
        if self.tables.pool.by_pid(pid).is_some() {
            return self.ignore(&Ignored::PidTaken { pid: pid.as_raw() });
        }
        let worker = self.tables.pool.worker(id).map(|worker| (worker.state, worker.pid, worker.generation));
        match worker {
            Some((State::Spawning, _, generation)) => {
                let ack = self.tables.terms(generation).ack;
                let boot = match ack {
                    AckMode::Timer(after) => Boot::AckedAt(self.now + after),
                    AckMode::Manual(Some(deadline)) => Boot::AckBy(self.now + deadline),
                    AckMode::Manual(None) => Boot::Unlimited,
                };
                self.tables.pool.spawned(id, (pid, start_ticks), self.now, boot);
                self.tell_spawned(id, pid);
                if ack == AckMode::Timer(Duration::ZERO) {
                    self.ack(id, AckSource::Timer);
                }
            }
            // It was asked to stop before it had a pid to send the signal to.
            Some((State::Draining(drain), None, _)) => {
                let kill_at = self.grace_of(id).map(|grace| self.now + grace);
                self.tables.pool.spawned_draining(id, (pid, start_ticks), self.now, kill_at);
                self.tell_spawned(id, pid);
                self.send_stop(id, drain.signal);
            }
            Some((state @ (State::Starting(_) | State::Up { .. } | State::Draining(_)), ..)) => {
                self.ignore(&Ignored::SpawnAnswered { worker: id.0, state: Some(state.name()) });
            }
            None => self.ignore(&Ignored::SpawnAnswered { worker: id.0, state: None }),
        }
    }

    fn tell_spawned(&mut self, id: WorkerId, pid: Pid) {
        if let Some(worker) = self.tables.pool.worker(id) {
            let (slot, index, generation) = (shown(worker.slot), worker.index, worker.generation.0);
            self.tell(Notice::Spawned { slot, index, pid: pid.as_raw(), generation });
        }
    }

    fn on_spawn_failed(&mut self, id: WorkerId, reason: String, transient: bool) {
        match self.tables.pool.worker(id).map(|worker| (worker.state, worker.pid)) {
            Some((State::Spawning, _) | (State::Draining(_), None)) => {
                let cause = if transient { Cause::CannotSpawnNow } else { Cause::CannotSpawn };
                let death = self.trial_death(id, reason.clone(), None);
                self.tables.pool.gone(id, self.now, cause, reason, None);
                death.into_iter().for_each(|death| self.fail_trial_spawn(id, death, transient));
            }
            Some((state @ (State::Starting(_) | State::Up { .. } | State::Draining(_)), _)) => {
                self.ignore(&Ignored::SpawnAnswered { worker: id.0, state: Some(state.name()) });
            }
            None => self.ignore(&Ignored::SpawnAnswered { worker: id.0, state: None }),
        }
    }

    fn on_exited(&mut self, pid: Pid, termination: Termination) {
        let Some(worker) = self.tables.pool.by_pid(pid) else {
            return self.ignore(&Ignored::Stranger { pid: pid.as_raw(), termination });
        };
        let (id, slot, generation) = (worker.id, shown(worker.slot), worker.generation);
        if let Some(drain) = worker.drain() {
            let took_ms = milliseconds(self.now - drain.since);
            let has_served = worker.acked_at.is_some() && !worker.is_trial();
            let ending = if has_served { drain.ending(&termination) } else { DrainEnding::Own };
            let (pid, termination) = (pid.as_raw(), termination.clone());
            let generation_number = generation.0;
            let notice =
                Notice::Drained { slot, pid, generation: generation_number, termination, took_ms, ending };
            self.tell_of(id, generation, notice);
        }
        let death = self.trial_death(id, termination.to_string(), Some(termination.clone()));
        self.tables.pool.gone(id, self.now, Cause::Died, termination.to_string(), Some(termination));
        death.into_iter().for_each(|death| self.lose_trial(id, death));
        self.tables.recycling.gone(id);
        // What it has left behind may keep it there.
        if !self.tables.leftovers.untold().any(|(worker, _)| worker == id) {
            self.tables.aftermath.gone(id);
        }
    }

    fn on_heard(&mut self, pid: Pid, report: Report) {
        let Some(worker) = self.tables.pool.by_pid(pid) else {
            return self.ignore(&match report {
                Report::Ack(_) => Ignored::StrayAck { pid: pid.as_raw() },
                report => Ignored::NoWorker { pid: pid.as_raw(), what: report.name() },
            });
        };
        let (id, slot, state, pid) = (worker.id, shown(worker.slot), worker.state, pid.as_raw());
        let (generation, is_trial) = (worker.generation, worker.is_trial());
        match (report, state) {
            (Report::Ack(source), State::Starting(_)) => self.ack(id, source),
            (Report::Ack(AckSource::Control), State::Up { .. }) => self.tables.pool.spoke_einhorn(id),
            (Report::Ack(_), State::Spawning | State::Up { .. } | State::Draining(_)) => {
                self.ignore(&Ignored::Ack { pid, state: state.name() });
            }
            (Report::Ping(word), _) => {
                let due = self.tables.policy.recycling.ping_timeout.map(|timeout| self.now + timeout);
                self.tables.pool.pinged(id, self.now, word, due);
                if !matches!(state, State::Draining(_)) {
                    self.forgive(id, RecycleReason::PingTimeout);
                }
            }
            (Report::Rss(bytes), State::Up { .. }) if !is_trial => {
                match self.tables.policy.recycling.max_rss_bytes {
                    Some(max) if bytes > max => self.tables.recycling.enqueue(id, RecycleReason::MaxRss),
                    Some(_) | None => self.forgive(id, RecycleReason::MaxRss),
                }
            }
            // It is not replaced for its size: it does not serve.
            (Report::Rss(_), _) => {}
            (Report::LostSocket, State::Spawning | State::Starting(_) | State::Up { .. }) if !is_trial => {
                self.tables.recycling.lost_socket(id);
            }
            (Report::LostSocket, _) => {}
            (Report::Status(text), _) => {
                self.tables.pool.sent_text(id, (!text.is_empty()).then(|| text.clone()));
                self.tell(Notice::StatusText { slot, pid, text });
            }
            (Report::LastWords(lines), _) => self.tables.pool.wrote(id, lines),
            (Report::Convention(signal, reason), _) => self.note_convention(generation, signal, &reason),
            (Report::StopSent { signal, reason, ending }, State::Draining(drain)) => {
                let warn_at = self.tables.policy.drain_warning.map(|after| self.now + after);
                self.tables.pool.stop_sent(id, signal, ending, warn_at);
                self.tell_stop_sent(id, (slot, pid, generation), drain, signal, &reason);
            }
            (Report::StopSent { signal, .. }, State::Spawning | State::Starting(_) | State::Up { .. }) => {
                self.ignore(&Ignored::StopSent { pid, signal: signal.as_str() });
            }
            (Report::SignalFailed { signal, reason }, _) => {
                self.tables.pool.unsignallable(id);
                let signal = signal.as_str().into();
                let notice = Notice::SignalRefused { slot, pid, generation: generation.0, signal, reason };
                self.tell_of(id, generation, notice);
            }
            (Report::LeftBehind { members, listens, is_group }, _) => {
                let process = Process { id, slot: worker.slot, pid: Pid::from_raw(pid), generation };
                self.follow_group(process, members, listens, is_group);
            }
            (Report::Suspended(is_suspended), _) => self.tables.pool.suspended(id, is_suspended),
            (Report::Stopping, _) => self.tell(Notice::Stopping { slot, pid }),
        }
    }

    fn note_convention(&mut self, generation: Generation, signal: Signal, reason: &SignalReason) {
        if self.tables.releases.note_convention(generation, signal, reason) && *reason != SignalReason::Set {
            let signal = signal.as_str().into();
            self.tell(Notice::StopSignal { generation: generation.0, signal, why: format!("{reason}") });
        }
    }

    /// A worker was sent a stop signal: its first one, or a harder one. One that it had before is no news.
    fn tell_stop_sent(
        &mut self,
        id: WorkerId,
        (slot, pid, generation): (WorkerSlot, i32, Generation),
        drain: Drain,
        signal: Signal,
        reason: &SignalReason,
    ) {
        let (is_first, name) = (drain.sent == Stops::default(), signal.as_str().into());
        if is_first && signal != Signal::SIGKILL {
            self.note_convention(generation, signal, reason);
            let (generation, why) = (generation.0, format!("{}", drain.why));
            self.tell(Notice::Draining { slot, pid, generation, signal: name, why });
        } else if !drain.sent.has(signal) {
            let after_ms = milliseconds(self.now - drain.since);
            let notice = Notice::Escalated { slot, pid, generation: generation.0, signal: name, after_ms };
            self.tell_of(id, generation, notice);
        }
    }

    /// A worker takes traffic, because somebody says so or its time has passed.
    pub(crate) fn ack(&mut self, id: WorkerId, source: AckSource) {
        let is_trial = self.tables.pool.worker(id).is_some_and(Worker::is_trial);
        let max_age = self.tables.policy.recycling.max_age.filter(|_| !is_trial);
        let old_at = max_age.map(|max_age| self.now + max_age.of(id));
        self.tables.pool.acked(id, self.now, old_at);
        if source == AckSource::Control {
            self.tables.pool.spoke_einhorn(id);
        }
        let Some(worker) = self.tables.pool.worker(id) else { return };
        let generation = worker.generation;
        if !is_trial {
            self.tables.releases.prove(generation);
        }
        if self.tables.releases.conventions(generation).is_empty() {
            let convention = self.convention(worker);
            self.actions.extend(worker.pid.map(|pid| Action::Recognise { pid, generation, convention }));
        }
        let notice = Notice::Acked {
            slot: shown(worker.slot),
            pid: worker.pid.map_or(0, Pid::as_raw),
            generation: generation.0,
            source,
            age_ms: milliseconds(self.now - worker.spawned_at),
            up: count(self.tables.pool.up_of(generation)),
            wanted: self.tables.wanted(),
        };
        self.tell(notice);
    }

    /// A worker does not wait to be replaced for this reason any more. Its age it keeps.
    fn forgive(&mut self, id: WorkerId, reason: RecycleReason) {
        let is_old = self.tables.policy.recycling.max_age.is_some()
            && self.tables.pool.worker(id).is_some_and(|worker| worker.state == State::Up { old_at: None });
        if self.tables.recycling.forgive(id, reason) && is_old {
            self.tables.recycling.enqueue(id, RecycleReason::MaxAge);
        }
    }

    fn on_request_abandoned(&mut self, request: RequestKey) {
        self.tables.queue.abandon(request);
        self.tables.aftermath.abandon(request, self.now);
        if let Some(rollout) = self.tables.plan.rollout_mut() {
            rollout.abandon(request);
        }
    }

    fn on_release_resolved(&mut self, generation: Generation, same_as: Option<Generation>) {
        self.tables.releases.resolved(generation);
        if self.is_resolving(generation) {
            match self.tables.plan.rollout_mut().and_then(Rollout::take_check) {
                Some(check) => self.begin_trial(generation, check),
                None => self.begin_replacing(),
            }
            let from = self.tables.plan.rollout().map(Rollout::from);
            if let Some(from) = from.filter(|from| same_as == Some(*from)) {
                self.tell(Notice::ReleaseUnchanged { generation: generation.0, from: from.0 });
            }
        } else {
            self.ignore(&Ignored::Release { generation: generation.0 });
        }
        self.forget_releases();
    }

    fn on_release_failed(&mut self, generation: Generation, reason: String) {
        if self.is_resolving(generation) {
            self.turn_back(UpgradeFailure::Release(reason));
        } else {
            self.ignore(&Ignored::Release { generation: generation.0 });
        }
    }

    /// The end of a worker that is on trial and of which nothing bad was known.
    fn trial_death(&self, id: WorkerId, reason: String, how: Option<Termination>) -> Option<Death> {
        let worker = self.tables.pool.worker(id).filter(|_| self.is_tried(id))?;
        Some(worker.death(self.now, reason, how))
    }

    /// Whether the rollout that runs waits for the release of `generation`.
    fn is_resolving(&self, generation: Generation) -> bool {
        let rollout = self.tables.plan.rollout();
        rollout.is_some_and(|rollout| rollout.to() == generation && *rollout.stage() == Stage::Resolving)
    }
}

impl Report {
    /// The report, to complete "... of a process".
    fn name(&self) -> &'static str {
        match self {
            Self::Ack(_) => "ack",
            Self::Ping(_) => "ping",
            Self::Rss(_) => "size",
            Self::LostSocket => "lost socket",
            Self::Status(_) => "status",
            Self::LastWords(_) => "last words",
            Self::Stopping => "stop",
            Self::Convention(..) => "convention",
            Self::StopSent { .. } => "stop signal",
            Self::SignalFailed { .. } => "failed signal",
            Self::LeftBehind { .. } => "leftovers",
            Self::Suspended(_) => "suspension",
        }
    }
}
