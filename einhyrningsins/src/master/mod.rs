//! The shell around the core: one thread, one loop, that waits for the world, tells the supervisor what
//! happened and does what it then asks for.
//!
//! Nothing here decides anything about the pool, and nothing here blocks: not on a client, not on a reader of
//! the log, not on a child. Descriptors belong to the part that reads them: clients to [`Clients`], listeners
//! to [`Workers`], the control socket's files to [`ControlSocket`].

mod answer;
mod commands;
mod control;
mod einhorn;
mod parts;

mod captures;
mod handover;
mod notify;
mod sampling;
mod service;
mod signals;
mod steering;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use einhorn_proto::{Counts, Language, Notice, Progress, Reply, RequestId};
use einhyrningsins_supervisor::{Action, Event, RequestKey, Supervisor};
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::config::{Control, Identity};
use crate::forms::{self, Clock, core_pid, system_pid, system_signal};
use crate::logging::Log;
use crate::sys::lock_file::LockFile;
use crate::sys::pid_file::PidFile;
use crate::sys::signals::Signals;
use crate::workers::Workers;
pub use control::ControlSocket;
pub use notify::NotifySocket;

use control::{ClientId, Clients};
use einhorn::Words;
use notify::Strangers;
pub use parts::{NotAssembled, Parts};

use captures::{Capture, Captures};
use handover::Replacement;
pub use handover::take_over;
use sampling::Sampling;
pub use service::{Service, ServiceSettings};
pub use signals::HANDLED_SIGNALS;
use steering::Steering;

const CONTROL: Token = Token(0);
const SIGNALS: Token = Token(1);
const NOTIFY: Token = Token(2);
const LOG: Token = Token(3);
const CHECK: Token = Token(4);
/// Tokens from here on are clients.
const CLIENTS: usize = 16;
/// Tokens from here on are listeners of workers.
const LISTENERS: usize = 1 << (usize::BITS - 2);
/// Tokens from here on are workers' standard errors.
const CAPTURES: usize = 1 << (usize::BITS - 1);

/// Events taken up by one wait.
const EVENTS_MAX: usize = 256;

/// Everything that the master holds while it runs.
#[derive(Debug)]
pub struct Master {
    poll: Poll,
    supervisor: Supervisor,
    workers: Workers,
    control: Control,
    notify: NotifySocket,
    /// Behind the notify socket, whose file goes by its lock.
    control_socket: ControlSocket,
    signals: Signals,
    clients: Clients,
    strangers: Strangers,
    captures: Captures,
    /// Who waits for a last reply.
    requests: HashMap<RequestKey, Asker>,
    next_request: u64,
    service: Service,
    log: Log,
    identity: Identity,
    replacement: Replacement,
    sampling: Sampling,
    steering: Steering,
    /// Workers that are gone and of which the supervisor has not heard yet.
    unseen: HashSet<Pid>,
    lockfile: Option<LockFile>,
    /// Removed when the master ends.
    _pidfile: Option<PidFile>,
    started: Instant,
    /// Work that is left of this round: children to reap, notifications and clients to go on with.
    backlog: Backlog,
    exit: Option<u8>,
}

/// What a round left to the next.
#[derive(Debug, Default)]
struct Backlog {
    children: bool,
    notifications: bool,
    clients: VecDeque<ClientId>,
    captures: Vec<Capture>,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        !self.children && !self.notifications && self.clients.is_empty() && self.captures.is_empty()
    }
}

/// Whom a reply goes to, and in which form.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Asker {
    client: ClientId,
    id: Option<RequestId>,
    language: Language,
    words: Words,
}

impl Master {
    /// Puts the parts together; nothing is spawned yet.
    ///
    /// # Errors
    /// If the kernel gives no descriptor to wait on.
    pub fn new(mut parts: Parts) -> Result<Self, NotAssembled> {
        let poll = match parts.poll() {
            Ok(poll) => poll,
            Err(error) => return Err(NotAssembled { error, parts: Box::new(parts) }),
        };
        let sampling = Sampling::new(parts.supervisor.policy().care.max_rss_bytes.is_some());
        Ok(Self {
            poll,
            supervisor: parts.supervisor,
            workers: parts.workers,
            control: parts.control,
            notify: parts.notify,
            control_socket: parts.control_socket,
            signals: parts.signals,
            clients: Clients::default(),
            strangers: Strangers::default(),
            captures: Captures::default(),
            requests: HashMap::new(),
            next_request: 0,
            service: parts.service,
            log: parts.log,
            identity: parts.identity,
            replacement: Replacement::new(parts.reexec),
            sampling,
            steering: Steering::new(),
            unseen: HashSet::new(),
            lockfile: parts.lockfile,
            _pidfile: parts.pidfile,
            started: Instant::now(),
            backlog: Backlog { children: true, ..Backlog::default() },
            exit: None,
        })
    }

    /// Runs the pool to its end and returns the master's exit code.
    ///
    /// # Errors
    /// If the kernel refuses to wait for events, which it does only for reasons inside this program.
    pub fn run(mut self) -> anyhow::Result<u8> {
        self.workers.settle();
        self.feed(Event::Started);
        self.go_on()
    }

    /// Runs a pool that runs already.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn go_on(mut self) -> anyhow::Result<u8> {
        self.watch_log();
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.give_way_to_stop();
            self.settle();
            if let Some(code) = self.exit {
                self.service.leave(&self.workers.kept_with_files(), &mut self.log);
                self.log.flush();
                return Ok(code);
            }
            if self.replacement.is_due() {
                self.replace();
                continue;
            }
            match self.poll.poll(&mut events, self.time_to_wait()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot wait for events"),
            }
            self.turn(&events);
        }
    }

    /// How long to wait for events; `None` for ever.
    fn time_to_wait(&self) -> Option<Duration> {
        if !self.backlog.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.supervisor.next_deadline().map(|at| Clock::read().instant(at)),
            self.clients.accept_again_at(),
            self.replacement.deadline(),
            self.sampling.next(),
            self.service.deadline(),
        ];
        let earliest = deadlines.into_iter().flatten().min()?;
        Some(earliest.saturating_duration_since(Instant::now()))
    }

    /// One round: what has happened, in an order in which a worker's last words come before its death.
    fn turn(&mut self, events: &Events) {
        let now = Instant::now();
        let mut signalled = false;
        let mut connected = self.clients.accept_again_at().is_some_and(|at| at <= now);
        for event in events {
            match event.token() {
                CONTROL => connected = true,
                SIGNALS => signalled = true,
                NOTIFY => self.backlog.notifications = true,
                LOG => self.log.flush(),
                CHECK => self.read_check(),
                Token(token) if token >= CAPTURES => self.backlog.captures.push(Capture(token - CAPTURES)),
                Token(token) if token >= LISTENERS => self.steering.on_token(token - LISTENERS),
                Token(token) => {
                    let id = ClientId(token - CLIENTS);
                    if event.is_write_closed() {
                        self.clients.mark_deaf(id);
                    }
                    self.backlog.clients.push_back(id);
                }
            }
        }
        for id in std::mem::take(&mut self.backlog.clients) {
            self.serve_client(id);
        }
        if connected {
            self.accept_clients();
        }
        if std::mem::take(&mut self.backlog.notifications) {
            self.read_notifications();
        }
        for capture in std::mem::take(&mut self.backlog.captures) {
            let mut sink = |lines: &[u8]| self.log.pass_on(lines);
            if !self.captures.read(capture, self.poll.registry(), &mut sink) {
                self.backlog.captures.push(capture);
            }
        }
        if signalled {
            self.read_signals();
        }
        if std::mem::take(&mut self.backlog.children) {
            self.reap();
        }
        self.enforce_check_deadline(now);
        self.sample(now);
        if self.supervisor.next_deadline().is_some_and(|at| at <= forms::now()) {
            for (pid, lines) in self.captures.news() {
                self.feed(Event::LastWords { pid: core_pid(pid), lines });
            }
            self.feed(Event::DeadlineReached);
        }
    }

    /// Sends what was queued for clients, and forgets those that are gone, until there is nothing to do.
    fn settle(&mut self) {
        // Before anybody is told what has happened.
        self.steer();
        while let Some(id) = self.clients.next_dirty() {
            if self.clients.flush(id) {
                // Its requests waited for this, and no event will tell of them again.
                self.backlog.clients.push_back(id);
            }
            if !self.clients.is_finished(id, self.requests.values().any(|asker| asker.client == id)) {
                continue;
            }
            self.clients.remove(id);
            let abandoned: Vec<_> =
                self.requests.iter().filter(|(_, asker)| asker.client == id).map(|(key, _)| *key).collect();
            for request in abandoned {
                self.requests.remove(&request);
                self.feed(Event::RequestAbandoned { request });
            }
        }
        self.steer();
        self.service.follow(
            &self.supervisor,
            self.replacement.is_under_way(),
            self.workers.to_keep(),
            &mut self.log,
        );
        self.log.flush();
    }

    /// Tells the supervisor of an event, carries out what it asks for, and tells it what became of that.
    fn feed(&mut self, event: Event) {
        self.steering.on_event();
        let mut queue = VecDeque::from(self.supervisor.handle(forms::now(), event));
        while let Some(action) = queue.pop_front() {
            if let Some(outcome) = self.carry_out(action) {
                queue.extend(self.supervisor.handle(forms::now(), outcome));
            }
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn { worker, slot, index, generation } => {
                Some(match self.workers.spawn(slot, index, generation) {
                    Ok(spawned) => {
                        if let Some(stream) = spawned.control {
                            self.clients.adopt(self.poll.registry(), stream, spawned.pid);
                        }
                        if let Some(stderr) = spawned.stderr {
                            self.capture(stderr, spawned.pid);
                        }
                        Event::Spawned { worker, pid: core_pid(spawned.pid) }
                    }
                    Err(failure) => {
                        let (reason, transient) = (failure.reason, failure.transient);
                        Event::SpawnFailed { worker, reason, transient }
                    }
                })
            }
            Action::Signal { pid, .. } if self.unseen.contains(&system_pid(pid)) => None,
            Action::Signal { pid, signal } => {
                if let Err(errno) = kill(system_pid(pid), system_signal(signal)) {
                    let why = io::Error::from(errno);
                    self.log.warn(format_args!("cannot send {signal} to worker {pid}: {why}"));
                }
                None
            }
            Action::ResolveRelease { generation } => Some(match self.workers.resolve(generation) {
                Ok(()) => Event::ReleaseResolved { generation },
                Err(error) => Event::ReleaseFailed { generation, reason: error.in_words() },
            }),
            Action::ForgetRelease { generation } => {
                self.workers.forget(generation);
                None
            }
            Action::Notice { notice, progress_of, counts } => {
                self.publish(&notice, &progress_of, counts);
                None
            }
            Action::Reply { request, ok, message, data } => {
                if let Some(asker) = self.requests.remove(&request) {
                    self.answer_last(&asker, ok, message, data);
                }
                None
            }
            Action::Exit { code } => {
                self.exit = Some(code);
                None
            }
        }
    }

    /// Answers a request that has nothing to say to programs.
    fn give_last_reply(&mut self, request: RequestKey, ok: bool, message: String) {
        self.carry_out(Action::Reply { request, ok, message, data: None });
    }

    /// Logs a notice and sends it to those who follow events or wait for the upgrade that it is part of.
    fn publish(&mut self, notice: &Notice, progress_of: &[RequestKey], counts: Option<Counts>) {
        if let Notice::Acked { pid, .. } = notice {
            self.captures.on_acked(Pid::from_raw(*pid));
        }
        self.log.notice(notice);
        self.service.on_notice(notice);
        self.tell_progress(notice, progress_of, counts);
        self.clients.send_to_followers(notice);
    }

    fn tell_progress(&mut self, notice: &Notice, progress_of: &[RequestKey], counts: Option<Counts>) {
        let askers = progress_of.iter().filter_map(|request| self.requests.get(request));
        for asker in askers.filter(|asker| asker.waits()) {
            let reply =
                Reply::progress(asker.id.clone(), asker.words_for(notice), Some(Progress { notice, counts }));
            self.clients.send(asker.client, asker.language, &reply);
        }
    }

    fn capture(&mut self, stderr: OwnedFd, pid: Pid) {
        if let Err(error) = self.captures.add(self.poll.registry(), stderr, pid) {
            self.log
                .warn(format_args!("cannot wait for what worker {pid} writes to standard error: {error}"));
        }
    }

    fn watch_log(&mut self) {
        let Some(fd) = self.log.descriptor() else { return };
        let registered =
            self.poll.registry().register(&mut mio::unix::SourceFd(&fd), LOG, Interest::WRITABLE);
        if let Err(error) = registered {
            self.log.debug(format_args!("cannot wait for the reader of standard error: {error}"));
        }
    }
}
