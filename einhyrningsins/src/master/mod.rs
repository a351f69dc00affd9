//! The master: one thread, one loop, that waits for the world, feeds the core what happened and carries out its actions.
//!
//! Nothing here decides anything about the pool, and nothing here blocks: not on a client, not on a reader of the log,
//! not on a child. Each part below owns its descriptors and its state, and knows nothing of the others; `parts.rs` lists
//! those that outlive a handover. `carry_out` is where an action of the core meets them.

mod boots;
mod captures;
mod children;
mod control;
mod counters;
mod groups;
mod handover;
mod history;
mod hooks;
mod jobs;
mod listeners;
mod notify;
mod options;
mod parts;
mod places;
mod ready;
mod refusals;
mod rest;
mod sampling;
mod service;
mod signals;
mod spawning;
mod trial;
mod unacked;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use einhorn_proto::{LastReply, Notice, Refusal, Requester, Termination, WorkerSlot, Workers};
use einhyrningsins_supervisor::{Action, Event, Generation, PoolCommand, Report, RequestKey, UpgradePlan};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::forms::{self, core_pid, core_signal, system_pid, system_signal};
use crate::logging::{Log, Warnings};
use crate::sys::inherit;
use crate::sys::reap::Change;
use crate::sys::signals::Signals;
use crate::sys::spawn::Spawner;
use crate::sys::stat::Stat;

use boots::Boots;
pub(crate) use captures::Captures;
use children::{Census, Children, heard};
use control::{Budget, Request, View};
pub(crate) use control::{Control, ControlSocket, group_of};
pub(crate) use counters::Counters;
pub(crate) use groups::Groups;
pub(crate) use handover::Handover;
use handover::Then;
#[cfg(fuzzing)]
pub(crate) use handover::parse_state;
pub(crate) use handover::take_over;
#[cfg(fuzzing)]
pub(crate) use history::parse as parse_history;
pub(crate) use history::{History, HistoryFile, Task as HistoryTask, try_history};
pub(crate) use hooks::Hooks;
use jobs::JobKey;
pub(crate) use jobs::Jobs;
pub(crate) use listeners::Listeners;
#[cfg(test)]
pub(crate) use listeners::kept::KeptListeners;
pub(crate) use notify::{Access, Notify, NotifySocket};
pub(crate) use options::Options;
pub(crate) use parts::Parts;
use places::Places;
use ready::Ready;
use rest::Rest;
use sampling::Sampling;
pub(crate) use service::{Service, ServiceSettings};
pub(crate) use signals::HANDLED_SIGNALS;
pub(crate) use trial::Trial;
use unacked::Unacked;

/// Events taken up by one wait.
const EVENTS_MAX: usize = 256;

/// The longest wait while a process must do something by some time: so much of a time in which nobody ran may count.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Actions that a round carries out however long they take: what a pool of a few workers does at once, it does in one round.
/// On a machine whose processors are all busy, a spawn takes 5 ms.
const ACTIONS_MIN: usize = 8;

/// How long a round carries out actions while it hears what has happened, and again at its end, at least: one spawn takes
/// 0.1 ms. What is left waits for the next round, so that a pool of thousands keeps nobody waiting.
const ACTIONS_TIME: Duration = Duration::from_millis(5);

/// The same at the end of a round, at most. In between it is as long as the round has spent on what it heard: clients that ask
/// for more and more take half of the time from the pool, and no more.
const ACTIONS_TIME_MAX: Duration = Duration::from_millis(20);

/// How often clients get the next part of a reply in the meantime: one that is larger than a socket's buffer would otherwise
/// take a round for each buffer.
const SEND_EVERY: Duration = Duration::from_millis(1);

/// By how much later than it should a part of a round ends if nobody ran. A busy machine is late too, but not by so much.
const LATE: Duration = Duration::from_secs(1);

/// A master that runs.
#[derive(Debug)]
pub(crate) struct Master {
    poll: Poll,
    events: Events,
    parts: Parts,
    spawner: Spawner,
    signals: Signals,
    children: Children,
    sampling: Sampling,
    unacked: Unacked,
    boots: Boots,
    /// Workers that were to write to journald.
    streamless: Warnings,
    places: Places,
    rest: Rest,
    ready: Ready,
    /// What the core has asked for and was not carried out yet, in order.
    actions: VecDeque<Action>,
    /// How many of them the round has carried out, and how long it may.
    acted: usize,
    act_until: Instant,
    /// How long the round has spent on what it heard.
    heard_for: Duration,
    /// When clients last got more of their replies between actions.
    sent_at: Instant,
    /// Children were reaped, and the core does not know yet that they have ended. Nobody is spawned, with a pid of theirs.
    has_unburied: bool,
    exit: Option<u8>,
    /// When the last part of a round ended.
    seen_at: Instant,
}

impl Master {
    /// What a master waits with.
    pub(crate) fn poll() -> anyhow::Result<Poll> {
        Poll::new().context("cannot make an epoll descriptor")
    }

    pub(crate) fn new(poll: Poll, parts: Parts, spawner: Spawner, signals: Signals) -> Self {
        let sampling = Sampling::new();
        let ready = Ready { children: true, places: true, ..Ready::default() };
        let (children, unacked) = (Children::new(), Unacked::default());
        let is_paced = parts.core.policy().unacked_by_cpus.is_some();
        let starting = parts.core.starting().filter(|_| is_paced);
        let boots = Boots::new(starting.map(|(pid, at)| (system_pid(pid), forms::instant(at))));
        Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            parts,
            spawner,
            signals,
            children,
            sampling,
            unacked,
            boots,
            streamless: Warnings::default(),
            places: Places::default(),
            rest: Rest::new(),
            ready,
            actions: VecDeque::new(),
            acted: 0,
            act_until: Instant::now(),
            heard_for: Duration::ZERO,
            sent_at: Instant::now(),
            has_unburied: false,
            exit: None,
            seen_at: Instant::now(),
        }
    }

    /// Begins to wait for everything.
    pub(crate) fn register(&mut self) -> anyhow::Result<()> {
        let registry = self.poll.registry();
        let signals = &mut SourceFd(&self.signals.as_raw_fd());
        registry.register(signals, ready::SIGNALS, Interest::READABLE).context("cannot wait for signals")?;
        self.places.register(registry, &mut self.parts.log);
        self.parts.register(registry)
    }

    /// Its name, if it was given one.
    fn name(&self) -> Option<&str> {
        self.parts.control.settings().name.as_deref()
    }

    /// Runs the pool to its end and returns the master's exit code.
    ///
    /// # Errors
    /// If the kernel refuses to wait for events, which it does only for reasons inside this program.
    pub(crate) fn run(mut self) -> anyhow::Result<u8> {
        // If the start had failed, files that an earlier master made, and their queues, would be the next one's.
        inherit::settle();
        self.feed(Event::Started);
        self.go_on()
    }

    /// Runs a pool that runs already.
    fn go_on(mut self) -> anyhow::Result<u8> {
        // One that was taken over: not before it is certain that no other image goes on.
        self.parts.notify.socket().hold_senders(true);
        loop {
            let refused = self.parts.handover.yield_to_stop(&self.parts.core, &mut self.parts.log);
            self.perform(refused);
            for outcome in self.parts.handover.take_outcomes().into_iter().chain(self.places.take_outcomes())
            {
                self.feed(outcome);
            }
            self.act_until = Instant::now() + self.heard_for.clamp(ACTIONS_TIME, ACTIONS_TIME_MAX);
            self.act();
            self.settle();
            if let Some(code) = self.exit {
                self.parts.jobs.end_checks(&mut self.parts.log);
                self.start_last_jobs();
                let with_files = self.parts.listeners.kept_with_files();
                self.parts.service.leave(&with_files, &mut self.parts.log);
                return Ok(code);
            }
            self.start_waiting_jobs();
            if self.parts.handover.awaits_check() && self.actions.is_empty() {
                let begun = Handover::check(&mut self.parts, &mut self.spawner, self.poll.registry());
                self.perform(begun);
                continue;
            }
            let is_due = self.parts.handover.is_due() && self.actions.is_empty();
            if is_due && !self.parts.handover.prepare(&self.parts.core) {
                let watch = self.places.let_go();
                let failed = Handover::execute(&mut self.parts, watch);
                self.places.register(self.poll.registry(), &mut self.parts.log);
                self.ready.places = true;
                // Children that ended while SIGCHLD was not blocked raised no signal here.
                self.ready.children = true;
                self.perform(failed);
                continue;
            }
            let wait = if is_due { Some(Duration::ZERO) } else { self.time_to_wait() };
            self.note_lost_time(Some(Duration::ZERO));
            match self.poll.poll(&mut self.events, wait) {
                Ok(()) => {
                    self.note_lost_time(wait);
                    self.turn();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot wait for events"),
            }
        }
    }

    /// How long to wait for events; `None` for ever.
    fn time_to_wait(&mut self) -> Option<Duration> {
        if self.ready.is_any_left() || !self.actions.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.parts.deadline(),
            self.children.deadline(),
            self.sampling.deadline(),
            self.unacked.deadline(),
            self.boots.deadline(),
            self.places.deadline(),
            self.rest.deadline(self.acted),
            self.ready.deadline(),
        ];
        let earliest = deadlines.into_iter().flatten().min()?;
        let wait = earliest.saturating_duration_since(Instant::now());
        Some(if self.is_timed() { wait.min(WAIT_MAX) } else { wait })
    }

    /// Whether a process must do something by some time.
    fn is_timed(&self) -> bool {
        self.parts.core.is_timed() || self.parts.jobs.are_any_running()
    }

    /// Called between the parts of a round, of which the one before should have lasted so long at most: if it lasted much
    /// longer, nobody ran, or nobody was heard. The core hears of that before it hears of deadlines.
    fn note_lost_time(&mut self, expected: Option<Duration>) {
        let lasted = self.seen_at.elapsed();
        self.seen_at = Instant::now();
        if self.is_timed() && expected.is_some_and(|expected| lasted > expected + LATE) {
            self.parts.jobs.on_time_lost(lasted);
            self.feed(Event::TimeLost(lasted));
        }
    }

    /// One round: what has happened, in an order in which a worker's last words come before its death.
    ///
    /// Children are reaped first and buried last. In between everything is read that was sent before they died. Apart from
    /// that, each source of events gets a bounded part of the round: none keeps the loop from signals, deaths and deadlines.
    fn turn(&mut self) {
        let now = Instant::now();
        self.ready.begin_round();
        (self.acted, self.act_until) = (0, now + ACTIONS_TIME);
        self.events.iter().for_each(|event| self.ready.add(event));
        let signals = signals::turn(&mut self.signals, &mut self.ready, &mut self.parts.log);
        let Parts { groups, jobs, core, log, .. } = &mut self.parts;
        let before_reap = |pid| {
            if !jobs.before_reap(pid) && core.stops_group_of(core_pid(pid)) {
                groups.before_reap(pid);
            }
        };
        let changes = self.children.turn(now, core.live(), &mut self.ready, before_reap, log);
        if !changes.is_empty() {
            self.look();
        }
        if std::mem::take(&mut self.ready.log) {
            self.parts.log.flush();
        }
        self.places.turn(&mut self.ready, self.poll.registry(), &self.children, &mut self.parts);
        let ended = || changes.iter().filter(|(_, change)| matches!(change, Change::Ended(_)));
        let has_deaths = ended().next().is_some();
        self.has_unburied = has_deaths;
        let has_unacked_deaths = ended().any(|(pid, _)| self.parts.core.is_unacked(core_pid(*pid)));
        self.hear_clients(Budget::new(has_unacked_deaths));
        let Parts { notify, core, log, .. } = &mut self.parts;
        let census = Census { core, children: &self.children };
        for event in notify.turn(has_deaths, &mut self.ready, census, log) {
            self.feed(event);
        }
        let Parts { captures, handover, log, .. } = &mut self.parts;
        captures.turn(&mut self.ready, self.poll.registry(), log);
        handover.turn(&mut self.ready);
        for ended in self.parts.jobs.turn(forms::now(), &mut self.ready, &mut self.parts.log) {
            self.on_job_ended(ended);
        }
        for (received, why) in signals {
            let signal = received.signal;
            let Parts { dialect, core, log, service, .. } = &mut self.parts;
            let Some(command) = dialect.manners().meaning(signal, &why, core.policy()) else { continue };
            log.debug(&why);
            if signal == Signal::SIGUSR1 && dialect.manners().spares_workers_from_usr1() {
                self.pass_on_usr1();
                continue;
            }
            let mut requester = Requester::default();
            if matches!(command, PoolCommand::Upgrade(_) | PoolCommand::Hangup) {
                service.on_hangup();
                requester = received.requester();
            } else if matches!(command, PoolCommand::Stop { .. }) {
                requester = received.requester();
            }
            self.feed(Event::Command { request: None, requester, command });
        }
        for (pid, change) in changes {
            match change {
                Change::Ended(termination) => self.bury(pid, termination),
                Change::Suspended => self.feed(heard(pid, Report::Suspended(true))),
                Change::Resumed => self.feed(heard(pid, Report::Suspended(false))),
            }
        }
        self.has_unburied = false;
        self.parts.groups.are_buried();
        for event in self.sampling.turn(&self.parts.core, now) {
            self.feed(event);
        }
        if let Some(load) = self.boots.turn(now, self.parts.core.policy()) {
            self.feed(load);
        }
        self.unacked.turn(now, &mut self.parts.log);
        self.rest.turn(now);
        self.note_lost_time(Some(Duration::ZERO));
        if self.parts.core.next_deadline().is_some_and(|at| at <= forms::now()) {
            self.parts.captures.news().into_iter().for_each(|event| self.feed(event));
            self.feed(Event::DeadlineReached);
        }
        self.heard_for = now.elapsed();
    }

    /// Takes up what has happened by now, without a wait.
    fn look(&mut self) {
        if self.poll.poll(&mut self.events, Some(Duration::ZERO)).is_ok() {
            self.events.iter().for_each(|event| self.ready.add(event));
        }
    }

    /// Sends clients the next part of their replies, if it is time to.
    fn send_on(&mut self) {
        if self.parts.control.has_unsent() && self.sent_at.elapsed() >= SEND_EVERY {
            self.look();
            self.parts.log.flush();
            self.parts.control.send_on(self.events.iter().filter_map(ready::writable_client));
            self.sent_at = Instant::now();
        }
    }

    /// Passes USR1 on to the workers that expect it. It would kill the others, although it is meant as a request to open
    /// log files again.
    fn pass_on_usr1(&mut self) {
        let expects = |pid: &Pid| {
            Stat::of(*pid).is_ok_and(|stat| {
                [stat.caught, stat.ignored, stat.blocked].iter().any(|mask| mask.contains(Signal::SIGUSR1))
            })
        };
        let (expecting, spared): (Vec<_>, Vec<_>) = self.parts.core.pids().map(system_pid).partition(expects);
        for pid in expecting {
            if let Some(failed) = self.children.signal(pid, core_signal(Signal::SIGUSR1)) {
                self.feed(failed);
            }
        }
        if !spared.is_empty() {
            self.parts.log.warn(format_args!(
                "SIGUSR1 was not passed on to {}, which it would kill; \"einhyrningsinsctl reopen\" opens the master's \
                 log file again",
                Workers(u32::try_from(spared.len()).unwrap_or(u32::MAX))
            ));
        }
    }

    /// Takes up what clients have sent, one request after the other.
    fn hear_clients(&mut self, mut budget: Budget) {
        loop {
            let (view, control, log) = self.parts.view(&self.children);
            match control.turn(&mut budget, &mut self.ready, self.poll.registry(), &view, log) {
                None => return,
                Some(request) => self.on_request(request),
            }
        }
    }

    /// Takes up what a child that is gone has sent as a client.
    fn hear_last_words(&mut self, child: Pid) {
        self.parts.control.on_reaped(child);
        loop {
            let (view, control, log) = self.parts.view(&self.children);
            match control.last_words(&mut self.ready, &view, log) {
                None => return,
                Some(request) => self.on_request(request),
            }
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Event(event) => self.feed(*event),
            Request::Reload(request) => self.hand_over(Then::Reload { request }),
        }
        // A client that reads that a slot is gone can rely on it.
        self.steer();
    }

    /// An upgrade is about to begin, perhaps with a handover.
    fn prepare_upgrade(&mut self, request: Option<RequestKey>, plan: UpgradePlan) -> Option<Event> {
        self.places.look(&mut self.ready, self.poll.registry(), &self.children, &mut self.parts);
        let Parts { control, handover, dialect, core, options, .. } = &mut self.parts;
        // The core refuses a fleet that is too large. If no file can change the bound, the client hears of nothing else.
        if !options.has_file() && core.fleet_refusal(&plan).is_some() {
            return Some(Event::UpgradePrepared { request, plan });
        }
        let is_refused = |pid: &Pid| self.children.may_signal(*pid).is_err();
        let pids: Vec<_> = core.serving_pids().map(system_pid).filter(is_refused).map(core_pid).collect();
        if !pids.is_empty() {
            return Some(Event::WorkersUnsignallable { request, pids });
        }
        let request = request.and_then(|request| control.open_upgrade(request, &plan));
        if handover.precedes_upgrades(dialect.manners()) {
            self.hand_over(Then::Upgrade { request, plan: Box::new(plan) });
            return None;
        }
        Some(Event::UpgradePrepared { request, plan })
    }

    fn hand_over(&mut self, then: Then) {
        let (registry, is_settled) = (self.poll.registry(), self.actions.is_empty());
        let actions = Handover::begin(&mut self.parts, &mut self.spawner, registry, then, is_settled);
        self.perform(actions);
    }

    /// A child has ended. What it said last, the core hears before its death.
    fn bury(&mut self, pid: Pid, termination: Termination) {
        if let Some(actions) = self.parts.handover.on_reaped(pid, &termination, &mut self.parts.log) {
            return self.perform(actions);
        }
        self.hear_last_words(pid);
        if self.parts.jobs.has(pid) {
            if let Some(ended) = self.parts.jobs.on_reaped(pid, termination) {
                self.on_job_ended(ended);
            }
            return;
        }
        let Parts { captures, log, .. } = &mut self.parts;
        if let Some(last_words) = captures.on_reaped(pid, self.poll.registry(), log) {
            self.feed(last_words);
        }
        if self.parts.core.is_worker(core_pid(pid)) {
            let Parts { groups, listeners, log, .. } = &mut self.parts;
            if let Some(left_behind) = groups.bury(pid, listeners, log) {
                self.feed(left_behind);
            }
        }
        self.feed(Event::Exited { pid: core_pid(pid), termination });
    }

    /// Sends what is queued, and brings the followers of the pool up to date: listeners, service manager, log.
    fn settle(&mut self) {
        // Before any reply or message goes out. Whoever reads it finds in the log what it tells.
        self.steer();
        self.parts.log.flush();
        while let Some(event) =
            self.parts.control.settle(&mut self.ready, self.poll.registry(), &mut self.parts.log)
        {
            self.feed(event);
        }
        self.steer();
        let Parts { core, handover, listeners, trial, service, log, .. } = &mut self.parts;
        trial.follow(core);
        self.sampling.follow(core.policy());
        service.follow(core, handover.is_under_way(), listeners.to_keep(), log);
        log.flush();
    }

    fn steer(&mut self) {
        let Parts { core, listeners, service, log, .. } = &mut self.parts;
        if core.is_stopping() && !service.keeps_listeners() {
            listeners.close(self.poll.registry());
        }
        if listeners.follow(&mut self.ready, core, self.poll.registry(), log) {
            service.on_listeners_changed();
        }
    }

    /// Feeds the core an event and carries out what it asks for, as far as the round has time for that.
    fn feed(&mut self, event: Event) {
        self.note(event);
        self.act();
    }

    /// Feeds the core an event, and notes what it asks for.
    fn note(&mut self, event: Event) {
        let event = self.with_options(event);
        self.parts.listeners.on_event();
        self.actions.extend(self.parts.core.handle(forms::now(), event));
    }

    /// An upgrade that is about to begin brings what has changed in the options file. With one that cannot be read, it does
    /// not begin.
    fn with_options(&mut self, event: Event) -> Event {
        let Event::UpgradePrepared { request, plan } = event else { return event };
        let Parts { options, handover, log, .. } = &mut self.parts;
        match options.read_again(handover.argv(), handover.start_path()) {
            Ok(options) => Event::UpgradePrepared { request, plan: UpgradePlan { options, ..plan } },
            Err(error) => {
                let refusal = Refusal::Options(error.to_string());
                log.warn(&refusal);
                let answer = LastReply::Refused(refusal);
                self.perform(request.map(|request| Action::Reply { request, answer }));
                Event::UpgradeNotPrepared
            }
        }
    }

    /// Carries out what the core has asked for, and feeds it what became of that.
    fn act(&mut self) {
        while let Some(action) = self.actions.front() {
            if (self.acted >= ACTIONS_MIN && Instant::now() >= self.act_until)
                || (self.has_unburied && matches!(action, Action::Spawn { .. } | Action::Check { .. }))
            {
                return;
            }
            self.send_on();
            self.acted += 1;
            if let Some(action) = self.actions.pop_front()
                && let Some(outcome) = self.carry_out(action)
            {
                self.note(outcome);
            }
        }
        if !self.has_unburied {
            self.children.are_seen();
        }
        let (view, control, _) = self.parts.view(&self.children);
        control.report_joined(&view);
    }

    /// A new worker has the pid of one that is gone: what was still to be sent to that one is not for it.
    fn forget_actions_for(&mut self, gone: Pid) {
        let gone = core_pid(gone);
        self.actions.retain(|action| match action {
            Action::Stop { pid, .. } | Action::Signal { pid, .. } | Action::Recognise { pid, .. } => {
                *pid != gone
            }
            _ => true,
        });
    }

    /// Carries out actions that have no outcome.
    fn perform(&mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        let parts = &mut self.parts;
        match action {
            Action::Spawn { worker, slot, index, generation } => {
                return Some(self.spawn(worker, slot, index, generation));
            }
            Action::Recognise { pid, generation, convention } => {
                let (signal, reason) = convention.choose(&parts.workers.shown(system_pid(pid), generation));
                let report = match self.children.may_signal(system_pid(pid)) {
                    Ok(()) => Report::Convention(signal, reason),
                    Err(errno) => Report::SignalFailed { signal, reason: io::Error::from(errno).to_string() },
                };
                return Some(Event::Heard { pid, report });
            }
            Action::Stop { pid, generation, ask } => {
                let pid = system_pid(pid);
                parts.groups.before_stop(pid, generation);
                let shown = parts.workers.shown(pid, generation);
                return self.children.stop(pid, ask, &shown, parts.core.terms(generation).stop_group);
            }
            Action::StopGroup { group, signal } => {
                if let Some(signal) = system_signal(signal) {
                    parts.groups.signal(system_pid(group), signal, &mut parts.log);
                }
            }
            Action::Look { group } => {
                return Some(parts.groups.look(system_pid(group), &parts.listeners));
            }
            Action::Signal { pid, signal } => return self.children.signal(system_pid(pid), signal),
            Action::PrepareUpgrade { request, plan } => return self.prepare_upgrade(request, plan),
            Action::ResolveRelease { generation } => return Some(self.resolve(generation)),
            Action::Check { job, subject, generation, check } => {
                return self.check(job, &subject, generation, &check);
            }
            Action::EndJob { job } => parts.jobs.end(JobKey::Check(job.0), &mut parts.log),
            Action::ForgetRelease { generation } => parts.workers.forget(generation),
            Action::Record { rollout } => {
                parts.keep_options_of(&rollout);
                parts.counters.on_ended(&rollout);
                let own_name = parts.workers.release_name(rollout.generation);
                parts.history.add(*rollout, own_name);
                parts.history_file.add(parts.history.last(), &mut parts.log);
            }
            Action::RecordListening { generation, from, listening } => {
                let rollout = parts.history.add_listening(from, generation, listening);
                parts.history_file.add(rollout, &mut parts.log);
            }
            Action::Notice { notice, progress_of, counts } => {
                // What a trial worker writes is of interest as long as it is checked.
                if let Notice::Acked { pid, slot: WorkerSlot(Some(_)), .. } = notice {
                    parts.captures.on_acked(Pid::from_raw(pid));
                }
                parts.log.notice(&notice);
                parts.counters.on_notice(&notice);
                if parts.dialect.manners().names_missing_acks() {
                    let core = &parts.core;
                    self.unacked.on_notice(&notice, |generation| core.terms(Generation(generation)).ack);
                    self.unacked.name_background(&notice, &mut parts.log);
                }
                self.boots.on_notice(&notice);
                parts.service.on_notice(&notice);
                parts.hooks.on_notice(&notice, &parts.core, &mut parts.log);
                parts.control.publish(&notice, &progress_of, counts);
            }
            Action::Reply { request, mut answer } => {
                if let LastReply::Upgrade { report, .. } = &mut answer {
                    parts.workers.explain(report, parts.core.policy().stop_group);
                }
                parts.control.reply(request, answer);
            }
            Action::Exit { code } => self.exit = Some(code),
        }
        None
    }
}

impl Parts {
    /// What answers to clients are made from, and who gives them.
    fn view<'a>(&'a mut self, children: &'a Children) -> (View<'a>, &'a mut Control, &'a mut Log) {
        let Self {
            dialect,
            core,
            workers,
            listeners,
            history,
            options,
            counters,
            notify,
            handover,
            control,
            log,
            ..
        } = self;
        let (dialect, argv) = (*dialect, handover.argv());
        let view =
            View { dialect, core, children, workers, listeners, history, options, counters, notify, argv };
        (view, control, log)
    }
}
