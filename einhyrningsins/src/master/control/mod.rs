//! The control socket and its clients: reads requests, answers questions, passes commands on, and sends the replies.
//!
//! `socket.rs` has the socket's file, `clients.rs` the connections, `requests.rs` what each request asks for,
//! `answers.rs` who waits for which answer, `status.rs` what `status` and `state` show. A command becomes an event for
//! the core, with a [`RequestKey`] if somebody waits; the core's answer comes back through [`Control::reply`].

mod answers;
mod clients;
mod requests;
mod socket;
mod status;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use anyhow::Context;
use einhorn_proto::{Counts, Done, Language, LastReply, Notice, Progress, Reply};
use einhyrningsins_supervisor::{Event, Moment, RequestKey, Supervisor, UpgradePlan};
use mio::{Interest, Registry};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::listeners::Listeners;
use super::parts::Part;
use super::ready::{self, Ready};
use crate::config::{Control as Settings, Dialect};
use crate::forms::{self, core_pid};
use crate::logging::Log;
use crate::sys::peer;
use crate::workers::Workers;

use answers::Asker;
pub(super) use clients::ClientId;
use clients::{CLIENTS_MAX, Clients, Input, Peer};
pub use socket::ControlSocket;

/// Requests read from one client in one round, so that a busy one does not starve the rest.
const REQUESTS_PER_ROUND: usize = 64;

/// Bytes read from one client in one round, or one line if that is longer.
const BYTES_PER_ROUND: usize = 64 * 1024;

/// The parts that answers are made from.
pub(super) struct View<'a> {
    pub(super) dialect: Dialect,
    pub(super) core: &'a Supervisor,
    pub(super) workers: &'a Workers,
    pub(super) listeners: &'a Listeners,
}

/// What the loop must do about a request.
#[derive(Debug)]
pub(super) enum Request {
    Event(Event),
    Reload(RequestKey),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Control {
    settings: Settings,
    socket: ControlSocket,
    clients: Clients,
    /// Clients that wait for a last reply.
    #[serde(with = "forms::written")]
    requests: BTreeMap<RequestKey, Asker>,
    next_request: u64,
    #[serde(skip)]
    serving: Option<Serving>,
    /// A request to join an upgrade, fed to the core since the last turn.
    #[serde(skip)]
    joining: Option<RequestKey>,
    /// Whether clients that hung up were dropped before the next accept.
    #[serde(skip)]
    has_made_room: bool,
    started_at: Moment,
}

#[derive(Debug)]
struct Serving {
    id: ClientId,
    requests: usize,
    bytes: usize,
    /// Close it afterwards: its worker is gone.
    is_last: bool,
}

impl Control {
    pub(crate) fn new(settings: Settings, socket: ControlSocket) -> Self {
        Self {
            settings,
            socket,
            clients: Clients::default(),
            requests: BTreeMap::new(),
            next_request: 0,
            serving: None,
            joining: None,
            has_made_room: false,
            started_at: forms::now(),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The variables for workers.
    pub(crate) fn exports(&self) -> Vec<(String, String)> {
        vec![
            ("EINHORN_MASTER_PID".to_owned(), std::process::id().to_string()),
            ("EINHORN_SOCK_PATH".to_owned(), self.settings.socket.to_string_lossy().into_owned()),
        ]
    }

    /// After a takeover, every client may have sent data for which epoll reports no event.
    pub(super) fn look_at_all(&self, ready: &mut Ready) {
        ready.clients_later.extend(self.clients.ids());
    }

    /// Reads requests until one needs the loop; `None` at the end of the round.
    pub(super) fn turn(
        &mut self,
        ready: &mut Ready,
        registry: &Registry,
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        self.report_joined(view);
        ready.closed.drain(..).for_each(|id| self.clients.mark_deaf(id));
        ready.control |= self.clients.accept_again_at().is_some_and(|at| at <= Instant::now());
        loop {
            if let Some(serving) = self.serving.take().or_else(|| ready.clients.pop_front().map(Serving::new))
            {
                if let Some(request) = self.serve(serving, ready, view, log) {
                    return Some(request);
                }
            } else if !ready.control {
                self.has_made_room = false;
                return None;
            } else if self.clients.connected() >= CLIENTS_MAX && !self.has_made_room {
                // Clients that hung up make room, even if their events come after that of the new one.
                self.has_made_room = true;
                for id in self.clients.hung_up() {
                    self.clients.mark_deaf(id);
                    ready.clients.push_back(id);
                }
            } else {
                if self.has_made_room
                    && let Some(abandoned) = self.settle(ready)
                {
                    return Some(Request::Event(abandoned));
                }
                self.has_made_room = false;
                ready.control = self.accept(registry, view, log);
            }
        }
    }

    /// Accepts one client. Returns whether more may be waiting.
    fn accept(&mut self, registry: &Registry, view: &View<'_>, log: &mut Log) -> bool {
        let is_retry = self.clients.accept_again_at().is_some();
        match self.clients.accept(registry, &self.socket.listener) {
            Ok(Some(id)) => self.welcome(id, view),
            Ok(None) => return false,
            Err(error) => {
                if !is_retry {
                    log.warn(format_args!("cannot accept a control client, will try again: {error}"));
                }
                return false;
            }
        }
        true
    }

    /// Refuses a client beyond the limit, unless it is a worker: the pool may be waiting for its ack.
    fn welcome(&mut self, id: ClientId, view: &View<'_>) {
        if self.clients.connected() > CLIENTS_MAX && !self.is_from_worker(id, view.core) {
            let message = format!("refused: {CLIENTS_MAX} clients are connected already");
            self.clients.send(id, Language::Json, &Reply::<()>::last(None, false, message, None));
            self.clients.flush(id);
            self.clients.leave(id);
            return;
        }
        // It may have sent a request already, for which there is no event.
        self.serving = Some(Serving::new(id));
    }

    fn is_from_worker(&self, id: ClientId, core: &Supervisor) -> bool {
        match self.clients.peer(id) {
            Some(Peer::Connected(Some(pid))) => {
                peer::ancestor_among(pid, |pid| core.is_worker(core_pid(pid))).is_some()
            }
            Some(Peer::Worker(_)) => true,
            Some(Peer::Connected(None)) | None => false,
        }
    }

    /// Serves one client until a request needs the loop.
    fn serve(
        &mut self,
        mut serving: Serving,
        ready: &mut Ready,
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        let id = serving.id;
        while serving.requests < REQUESTS_PER_ROUND && serving.bytes < BYTES_PER_ROUND {
            self.clients.flush(id);
            match self.clients.next_input(id) {
                Input::Line(line) => {
                    serving.requests += 1;
                    serving.bytes += line.len();
                    if let Some(request) = self.on_line(id, &line, view, log) {
                        self.serving = Some(serving);
                        return Some(request);
                    }
                }
                Input::Nothing => {
                    self.finish(&serving);
                    return None;
                }
                Input::TooLong(error) => {
                    // Its language is unknown; a line of JSON is valid YAML too.
                    let reply = Reply::<()>::last(None, false, error.to_string(), None);
                    self.clients.send(id, Language::Json, &reply);
                    self.clients.leave(id);
                    self.finish(&serving);
                    return None;
                }
            }
        }
        self.finish(&serving);
        ready.clients_later.push_back(id);
        None
    }

    fn finish(&mut self, serving: &Serving) {
        if serving.is_last {
            self.clients.close(serving.id);
        }
    }

    /// Sends what is queued and removes clients that are gone. Returns a request that was abandoned; call it until
    /// there is none.
    pub(super) fn settle(&mut self, ready: &mut Ready) -> Option<Event> {
        loop {
            if let Some(request) = self.requests.iter().find(|(_, asker)| !self.clients.has(asker.client)) {
                let request = *request.0;
                self.requests.remove(&request);
                return Some(Event::RequestAbandoned { request });
            }
            let id = self.clients.next_dirty()?;
            if self.clients.flush(id) {
                // Its requests waited for this, and epoll reports no event for them.
                ready.clients_later.push_back(id);
            }
            if self.clients.is_finished(id, self.requests.values().any(|asker| asker.client == id)) {
                self.clients.remove(id);
            }
        }
    }

    /// Adds our end of the connection that was made for a worker (`-g`).
    pub(super) fn adopt(&mut self, registry: &Registry, stream: UnixStream, worker: Pid) {
        self.clients.adopt(registry, stream, worker);
    }

    /// A worker is gone. The next turns read its last requests and close its connection, since its pid may be reused.
    /// Returns whether it has one.
    pub(super) fn on_reaped(&mut self, worker: Pid) -> bool {
        let connection = self.clients.of_worker(worker);
        self.serving = connection.map(|id| Serving { is_last: true, ..Serving::new(id) });
        self.serving.is_some()
    }

    /// Sends a notice to subscribers of events, and as progress to these requests.
    pub(super) fn publish(&mut self, notice: &Notice, progress_of: &[RequestKey], counts: Option<Counts>) {
        progress_of.iter().for_each(|request| self.send_progress(*request, notice, counts));
        self.clients.send_to_followers(notice);
    }

    /// Sends a notice as progress of a request, if its client gets progress.
    pub(super) fn send_progress(&mut self, request: RequestKey, notice: &Notice, counts: Option<Counts>) {
        let Some(asker) = self.requests.get(&request).filter(|asker| asker.has_progress()) else { return };
        let message = asker.dialect.manners().notice(notice);
        let reply = Reply::progress(asker.id.clone(), message, Some(Progress { notice, counts }));
        self.clients.send(asker.client, asker.language, &reply);
    }

    /// Sends the last reply to a request.
    pub(super) fn reply(&mut self, request: RequestKey, answer: LastReply) {
        let Some(asker) = self.requests.remove(&request) else { return };
        let (ok, message) = (answer.is_ok(), asker.dialect.manners().last_words(&asker.command, &answer));
        match answer {
            LastReply::Done(Done::Resized(data)) => self.answer_with(&asker, ok, message, data),
            LastReply::Upgrade { report, .. } => self.answer_with(&asker, ok, message, report),
            LastReply::Done(_) => self.answer(&asker, ok, message),
            LastReply::Refused(refusal) => {
                let last = Reply::<()>::last(asker.id.clone(), ok, message, None);
                let reply = Reply { refused: refusal.kind(), ..last };
                self.clients.send(asker.client, asker.language, &reply);
            }
        }
    }

    /// Acknowledges an upgrade that will begin. Returns the request, unless that was its last reply.
    pub(super) fn open_upgrade(&mut self, request: RequestKey, plan: UpgradePlan) -> Option<RequestKey> {
        let asker = self.requests.get(&request)?;
        let Some(opening) = asker.dialect.manners().opening(plan) else { return Some(request) };
        if asker.has_progress() {
            let line = Reply::<()>::progress(asker.id.clone(), opening, None);
            self.clients.send(asker.client, asker.language, &line);
            return Some(request);
        }
        let asker = self.requests.remove(&request)?;
        self.answer(&asker, true, opening);
        None
    }

    fn answer(&mut self, asker: &Asker, ok: bool, message: impl Into<String>) {
        let reply = Reply::<()>::last(asker.id.clone(), ok, message, None);
        self.clients.send(asker.client, asker.language, &reply);
    }

    fn answer_with<D: Serialize>(&mut self, asker: &Asker, ok: bool, message: impl Into<String>, data: D) {
        let reply = Reply::last(asker.id.clone(), ok, message, Some(data));
        self.clients.send(asker.client, asker.language, &reply);
    }
}

impl Serving {
    fn new(id: ClientId) -> Self {
        Self { id, requests: 0, bytes: 0, is_last: false }
    }
}

impl Part for Control {
    fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        registry
            .register(&mut *self.socket.listener, ready::CONTROL, Interest::READABLE)
            .context("cannot wait for control clients")?;
        self.clients.register(registry).context("cannot take over the control clients")
    }

    fn deadline(&self) -> Option<Instant> {
        self.clients.accept_again_at()
    }
}
