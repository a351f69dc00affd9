//! The control socket and its clients: reads requests, answers questions, passes commands on, and sends the replies.
//!
//! `socket.rs` has the socket's file, `clients.rs` the connections, `observers.rs` who may ask questions only, `requests.rs`
//! what each request asks for, `answers.rs` who waits for which answer, `status.rs` what `status` and `state` show. A command becomes an event for
//! the core, with a [`RequestKey`] if somebody waits; the core's answer comes back through [`Control::reply`].

mod answers;
mod clients;
mod dropped;
mod observers;
mod requests;
mod socket;
mod status;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use einhorn_proto::{Counts, Done, Language, LastReply, Notice, Progress, Reply};
use einhyrningsins_supervisor::{Event, Moment, RequestKey, Supervisor, UpgradePlan};
use mio::{Interest, Registry};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::children::{Census, Children};
use super::counters::Counters;
use super::history::History;
use super::listeners::Listeners;
use super::notify::Notify;
use super::options::Options;
use super::parts::Part;
use super::ready::{self, Ready};
use super::refusals::Refusals;
use crate::config::{Control as Settings, Dialect};
use crate::forms;
use crate::logging::Log;
use crate::socket_place::Lost;
use crate::sys::ancillary::refuse_rights;
use crate::sys::peer::Workers as _;
use crate::workers::Workers;

use answers::Asker;
pub(super) use clients::ClientId;
use clients::{Business, Clients, Input, Peer, Quota};
use dropped::Why;
pub use socket::{ControlSocket, group_of};

/// Requests read from one client in one round, so that a busy one does not starve the rest.
const REQUESTS_PER_ROUND: usize = 64;

/// Bytes read from one client in one round, or one line if that is longer.
const BYTES_PER_ROUND: usize = 64 * 1024;

/// How long one round takes up requests of all clients together. `status` of a large pool takes milliseconds.
const REQUESTS_TIME: Duration = Duration::from_millis(20);

/// Clients accepted in one round: some 10 microseconds each.
const ACCEPTS_PER_ROUND: usize = 64;

/// Clients accepted in a round in which unacked workers have ended: at least as many as may have been in the queue before
/// that, so that an ack that was sent before the death is read. Source: `net.core.somaxconn`, 4096, and the one more that
/// the kernel lets in.
const ACCEPTS_AFTER_DEATHS: usize = 4096 + 1;

/// The parts that answers are made from.
pub(super) struct View<'a> {
    pub(super) dialect: Dialect,
    pub(super) core: &'a Supervisor,
    pub(super) children: &'a Children,
    pub(super) workers: &'a Workers,
    pub(super) listeners: &'a Listeners,
    pub(super) history: &'a History,
    pub(super) options: &'a Options,
    pub(super) counters: &'a Counters,
    pub(super) notify: &'a Notify,
    /// The command line of the master.
    pub(super) argv: &'a [OsString],
}

impl View<'_> {
    fn census(&self) -> Census<'_> {
        Census { core: self.core, children: self.children }
    }
}

/// What the loop must do about a request.
#[derive(Debug)]
pub(super) enum Request {
    Event(Box<Event>),
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
    /// Requests to join an upgrade that were fed to the core, and perhaps not answered yet.
    #[serde(skip)]
    joining: Vec<RequestKey>,
    #[serde(default)]
    refusals: Refusals,
    /// Clients that were dropped.
    #[serde(skip)]
    drops: Refusals,
    /// Commands of observers that were refused.
    #[serde(skip)]
    denials: Refusals,
    /// Connections of workers that have just ended, whose last requests are to be read.
    #[serde(skip)]
    ended: Vec<Serving>,
    started_at: Moment,
}

/// What clients may still take of a round.
#[derive(Debug)]
pub(super) struct Budget {
    accepts: usize,
    requests_until: Instant,
    /// The same for observers, who come after the others: set when that begins.
    observers_until: Option<Instant>,
    /// There was no room for another client when it was last looked for.
    is_full: bool,
}

impl Budget {
    /// The budget of a round, in which unacked workers may have ended.
    pub(super) fn new(has_unacked_deaths: bool) -> Self {
        let accepts = if has_unacked_deaths { ACCEPTS_AFTER_DEATHS } else { ACCEPTS_PER_ROUND };
        Self {
            accepts,
            requests_until: Instant::now() + REQUESTS_TIME,
            observers_until: None,
            is_full: false,
        }
    }
}

#[derive(Debug)]
struct Serving {
    id: ClientId,
    requests: usize,
    bytes: usize,
    /// This process of it is gone: afterwards it is not its any more.
    last_of: Option<Pid>,
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
            joining: Vec::new(),
            refusals: Refusals::default(),
            drops: Refusals::default(),
            denials: Refusals::default(),
            ended: Vec::new(),
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

    /// Reads requests until one needs the loop; `None` at the end of the round, or of its budget.
    pub(super) fn turn(
        &mut self,
        budget: &mut Budget,
        ready: &mut Ready,
        registry: &Registry,
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        self.refusals.settle("acks and pings were refused", log);
        self.drops.settle("control clients were dropped", log);
        self.denials.settle("commands of observers were refused", log);
        ready.closed.drain(..).for_each(|id| self.clients.mark_deaf(id));
        ready.control |= self.clients.accept_again_at().is_some_and(|at| at <= Instant::now());
        loop {
            let accepts = ready.control && budget.accepts > 0;
            let serving = self.serving.take().or_else(|| self.next_ready(budget, ready));
            if let Some(serving) = serving.or_else(|| self.next_observer(budget, ready, accepts)) {
                let until = self.until(serving.id, budget);
                if let Some(request) = self.serve(serving, until, ready, view, log) {
                    return Some(request);
                }
            } else if !accepts {
                return None;
            } else if self.is_full() && !budget.is_full {
                // Clients that hung up make room, even if their events come after that of the new one.
                budget.is_full = true;
                for id in self.clients.hung_up() {
                    self.clients.mark_deaf(id);
                    ready.clients.push(id);
                }
            } else {
                if budget.is_full {
                    if let Some(abandoned) = self.settle(ready, registry, log) {
                        return Some(Request::Event(Box::new(abandoned)));
                    }
                    budget.is_full = self.is_full();
                }
                budget.accepts -= 1;
                ready.control = self.accept(ready, registry, view, log);
            }
        }
    }

    /// What the path of its socket no longer leads to.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.socket.lost()
    }

    /// Makes what was lost again. Clients that have connected to the socket before are clients still.
    pub(super) fn bind_again(
        &mut self,
        lost: &Lost,
        ready: &mut Ready,
        registry: &Registry,
        census: Census<'_>,
        log: &mut Log,
    ) -> anyhow::Result<()> {
        let Some(mut before) = self.socket.bind_again(lost)? else { return Ok(()) };
        while let Ok(Some(id)) = self.clients.accept(registry, &before, self.has_observers()) {
            self.welcome(id, ready, census);
        }
        let _ = registry.deregister(&mut before);
        self.wait_for_clients(registry)?;
        if let Err(error) = self.socket.share(&self.settings) {
            log.warn(format_args!("{error:#}"));
        }
        Ok(())
    }

    /// The paths to watch.
    pub(super) fn paths(&self) -> [&Path; 2] {
        self.socket.paths()
    }

    fn wait_for_clients(&mut self, registry: &Registry) -> anyhow::Result<()> {
        registry
            .register(&mut *self.socket.listener, ready::CONTROL, Interest::READABLE)
            .context("cannot wait for control clients")
    }

    /// Accepts one client. Returns whether more may be waiting.
    fn accept(&mut self, ready: &mut Ready, registry: &Registry, view: &View<'_>, log: &mut Log) -> bool {
        let is_retry = self.clients.accept_again_at().is_some();
        match self.clients.accept(registry, &self.socket.listener, self.has_observers()) {
            Ok(Some(id)) => self.welcome(id, ready, view.census()),
            Ok(None) => return false,
            Err(error) => {
                if !is_retry {
                    log.warn(format_args!("cannot accept a control client, will try again: {error}"));
                }
                self.give_way(&error);
                return false;
            }
        }
        true
    }

    /// Takes a client in. One of a worker is always let in: the pool may be waiting for its ack. Another one beyond the limit
    /// takes the place of one that is idle. For the owner of the master, a busy one gives way, too.
    fn welcome(&mut self, id: ClientId, ready: &mut Ready, census: Census<'_>) {
        let quota = self.clients.quota(id);
        let is_full = self.clients.connected(quota) > quota.max();
        // Observers may come in floods, and it costs more to look for descendants than to turn them away.
        let may_descend = is_full && quota == Quota::Clients;
        if let Some(worker) = self.worker_of(id, may_descend, census) {
            self.clients.belongs_to(id, worker);
        } else if is_full && !self.make_room(id, quota, census) {
            return self.dismiss(id, "refused");
        }
        // It may have sent a request already, for which there is no event.
        ready.clients.push(id);
    }

    /// Makes room for a client; `false` if only busy ones could give way, and it is not the owner's. Those of workers'
    /// descendants do not count, but are looked for only here, and each once.
    fn make_room(&mut self, id: ClientId, quota: Quota, census: Census<'_>) -> bool {
        if quota == Quota::Observers {
            return self.make_room_for_observer(id);
        }
        for other in self.clients.take_unplaced() {
            if let Some(worker) = self.worker_of(other, true, census) {
                self.clients.belongs_to(other, worker);
            }
        }
        let is_owners = self.clients.is_owners(id);
        while self.clients.connected(quota) > quota.max() {
            let idlest =
                self.idlest(quota, Some(id)).filter(|(business, _)| is_owners || *business <= Business::Idle);
            let Some((business, idlest)) = idlest else { return false };
            self.take_place(business, idlest);
        }
        true
    }

    fn idlest(&self, quota: Quota, except: Option<ClientId>) -> Option<(Business, ClientId)> {
        self.clients.idlest(quota, except, |id| self.requests.values().any(|asker| asker.client == id))
    }

    fn take_place(&mut self, business: Business, idlest: ClientId) {
        self.clients.note_dropped(idlest, Why::Idlest(self.clients.quota(idlest)));
        self.dismiss(idlest, "closed: another one came, and this one was idle for longest");
        if business != Business::Idle {
            self.clients.close(idlest);
        }
    }

    fn dismiss(&mut self, id: ClientId, what: &str) {
        let message = format!("{what}: {} are connected already", self.clients.quota(id));
        self.clients.send(id, Language::Json, &Reply::<()>::last(None, false, message, None));
        self.clients.flush(id);
        self.clients.leave(id);
    }

    /// The worker that made a connection, or whose descendant did. To look for descendants costs more, so that is done only
    /// if it matters.
    fn worker_of(&self, id: ClientId, may_descend: bool, census: Census<'_>) -> Option<Pid> {
        let Some(Peer::Connected(Some(pid))) = self.clients.peer(id) else { return None };
        if census.has(pid) {
            return Some(pid);
        }
        self.clients.sender(id).filter(|_| may_descend)?.worker(&census).ok()
    }

    /// Serves one client until a request needs the loop, or the time is over.
    fn serve(
        &mut self,
        mut serving: Serving,
        until: Instant,
        ready: &mut Ready,
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        let id = serving.id;
        while serving.requests < REQUESTS_PER_ROUND && serving.bytes < BYTES_PER_ROUND {
            if serving.requests > 0 && Instant::now() >= until {
                break;
            }
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
                Input::NoRoom => {
                    self.finish(&serving);
                    ready.blocked.push(id);
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
        ready.clients_later.push(id);
        None
    }

    fn finish(&mut self, serving: &Serving) {
        let Some(gone) = serving.last_of else { return };
        self.clients.disown(serving.id, gone);
        for quota in [Quota::Clients, Quota::Observers] {
            while self.clients.connected(quota) > quota.max()
                && let Some((business @ Business::Left, idlest)) = self.idlest(quota, None)
            {
                self.take_place(business, idlest);
            }
        }
    }

    /// Whether anything is queued.
    pub(super) fn has_unsent(&self) -> bool {
        self.clients.has_unsent()
    }

    /// Sends these clients what they take of what is queued.
    pub(super) fn send_on(&mut self, ids: impl IntoIterator<Item = ClientId>) {
        for id in ids {
            self.clients.flush(id);
        }
    }

    /// Sends what is queued and removes clients that are gone. Returns a request that was abandoned; call it until
    /// there is none.
    pub(super) fn settle(&mut self, ready: &mut Ready, registry: &Registry, log: &mut Log) -> Option<Event> {
        for dropped in self.clients.take_dropped() {
            self.drops.log(None, dropped, log);
        }
        loop {
            if let Some(request) = self.requests.iter().find(|(_, asker)| !self.clients.has(asker.client)) {
                let request = *request.0;
                self.requests.remove(&request);
                return Some(Event::RequestAbandoned { request });
            }
            let id = self.clients.next_dirty()?;
            if self.clients.flush(id) {
                // Its requests waited for this, and epoll reports no event for them.
                ready.clients_later.push(id);
            }
            self.clients.await_room(registry, id);
            if self.clients.is_finished(id, self.requests.values().any(|asker| asker.client == id)) {
                self.clients.remove(id);
            }
        }
    }

    /// Adds our end of the connection that was made for a worker (`-g`).
    pub(super) fn adopt(&mut self, registry: &Registry, stream: UnixStream, worker: Pid) {
        self.clients.adopt(registry, stream, worker);
    }

    /// A child is gone: [`Self::last_words`] reads its last requests.
    pub(super) fn on_reaped(&mut self, child: Pid) {
        let connections = self.clients.of_process(child).into_iter();
        self.ended = connections.map(|id| Serving { last_of: Some(child), ..Serving::new(id) }).collect();
    }

    /// Reads what the child that is gone has sent, until a request needs the loop; `None` at its end. Its connections are
    /// nobody's from then on, since its pid may be reused.
    pub(super) fn last_words(
        &mut self,
        ready: &mut Ready,
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        let until = Instant::now() + REQUESTS_TIME;
        while let Some(serving) = self.serving.take().or_else(|| self.ended.pop()) {
            if let Some(request) = self.serve(serving, until, ready, view, log) {
                return Some(request);
            }
        }
        None
    }

    /// Sends a notice to subscribers of events, and as progress to these requests. A request to join an upgrade gets none before
    /// [`Self::report_joined`] has said what it joined.
    pub(super) fn publish(&mut self, notice: &Notice, progress_of: &[RequestKey], counts: Option<Counts>) {
        for request in
            progress_of.iter().filter(|request| !self.joining.contains(request)).collect::<Vec<_>>()
        {
            self.send_progress(*request, notice, counts);
        }
        self.clients.send_to_followers(notice);
    }

    /// Sends a notice as progress of a request, if its client gets progress and keeps up with it: one that does not misses
    /// lines, and gets its last reply all the same.
    pub(super) fn send_progress(&mut self, request: RequestKey, notice: &Notice, counts: Option<Counts>) {
        let Some(asker) = self.requests.get(&request).filter(|asker| asker.has_progress()) else { return };
        if !self.clients.keeps_up(asker.client) {
            return;
        }
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
    pub(super) fn open_upgrade(&mut self, request: RequestKey, plan: &UpgradePlan) -> Option<RequestKey> {
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
        Self { id, requests: 0, bytes: 0, last_of: None }
    }
}

impl Part for Control {
    fn register(&mut self, registry: &Registry) -> anyhow::Result<()> {
        // That of an earlier image may lack it.
        let _ = refuse_rights(&self.socket.listener);
        self.wait_for_clients(registry)?;
        self.clients.register(registry).context("cannot take over the control clients")
    }

    fn deadline(&self) -> Option<Instant> {
        let refusals = [&self.refusals, &self.drops, &self.denials].map(Refusals::deadline);
        let deadlines = refusals.into_iter().chain([self.clients.accept_again_at()]);
        deadlines.flatten().min()
    }
}
