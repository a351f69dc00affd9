//! What clients ask for: questions are answered here, commands go to the supervisor.

use std::time::Instant;

use einhorn_proto::{
    Command, CommandClass, Language, MasterStatus, Notice, PROTOCOL_VERSION, Progress, Reply, Request,
    RequestError, Settings, Status,
};
use einhyrningsins_supervisor::{
    Event, Generation, PolicyChange, PoolCommand, ReplyData, RequestKey, UpgradePlan,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{VERSION, help, pool_command};
use super::control::{CLIENTS_MAX, ClientId, Input, Peer};
use super::einhorn::{self, Question};
use super::handover::Then;
use super::{Asker, Master};
use crate::forms::{self, core_pid, milliseconds};
use crate::logging::severity_name;
use crate::sys::peer;

/// Requests taken up from one client in one round, so that one that never pauses does not keep the rest waiting.
const REQUESTS_PER_ROUND: usize = 64;

/// Bytes of requests taken up from one client in one round, or one line if that is longer: what a request costs to
/// read grows with its length.
const BYTES_PER_ROUND: usize = 64 * 1024;

impl Master {
    pub(super) fn accept_clients(&mut self) {
        let is_retry = self.clients.accept_again_at().is_some();
        loop {
            if self.clients.connected() >= CLIENTS_MAX {
                self.make_room();
            }
            match self.clients.accept(self.poll.registry(), &self.control_socket.listener) {
                Ok(Some(id)) => self.welcome(id),
                Ok(None) => return,
                Err(_) if is_retry => return,
                Err(error) => {
                    return self
                        .log
                        .warn(format_args!("cannot accept a control client, will try again: {error}"));
                }
            }
        }
    }

    /// Takes leave of those who have hung up: their events may come only after that of who comes now.
    fn make_room(&mut self) {
        for id in self.clients.hung_up() {
            self.clients.mark_deaf(id);
            self.serve_client(id);
        }
        self.settle();
    }

    /// Turns a client away that is one too many, unless it is a worker, whose ack may be what all wait for.
    fn welcome(&mut self, id: ClientId) {
        if self.clients.connected() > CLIENTS_MAX && !self.is_from_worker(id) {
            let message = format!("refused: {CLIENTS_MAX} clients are connected already");
            self.clients.send(id, Language::Json, &Reply::<()>::last(None, false, message, None));
            self.clients.flush(id);
            self.clients.leave(id);
            return;
        }
        // What it sent before we accepted is there already, and there may be no event for it.
        self.serve_client(id);
    }

    fn is_from_worker(&self, id: ClientId) -> bool {
        match self.clients.peer(id) {
            Some(Peer::Connected(Some(pid))) => {
                peer::ancestor_among(pid, |pid| self.supervisor.is_worker(core_pid(pid))).is_some()
            }
            Some(Peer::Worker(_)) => true,
            Some(Peer::Connected(None)) | None => false,
        }
    }

    /// Takes up what `id` has sent, and sends it what it has not got.
    pub(super) fn serve_client(&mut self, id: ClientId) {
        let mut bytes = 0;
        for _ in 0..REQUESTS_PER_ROUND {
            if self.clients.is_dirty(id) {
                // Who is told that there is a slot less can rely on it.
                self.steer();
            }
            self.clients.flush(id);
            match self.clients.next_input(id) {
                Input::Line(line) => {
                    self.on_line(id, &line);
                    bytes += line.len();
                }
                Input::Nothing => return,
                Input::TooLong(error) => {
                    // Nobody knows its language; a line of JSON is YAML too.
                    let reply = Reply::<()>::last(None, false, error.to_string(), None);
                    self.clients.send(id, Language::Json, &reply);
                    self.clients.leave(id);
                    return;
                }
            }
            if bytes >= BYTES_PER_ROUND {
                break;
            }
        }
        self.backlog.clients.push_back(id);
    }

    fn on_line(&mut self, client: ClientId, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let (language, request) = Request::from_line(line);
        let asker = |id, question| Asker { client, id, language, words: self.words(language, question) };
        match request {
            Ok(Request { id, command }) => {
                let asker = asker(id, Question::of(&command));
                self.on_request(asker, command);
            }
            Err(RequestError { id, kind }) => {
                let asker = asker(id, Question::Other);
                let message =
                    if asker.is_einhorns() { einhorn::request_error(&kind) } else { kind.to_string() };
                self.answer(&asker, false, message);
            }
        }
    }

    fn on_request(&mut self, asker: Asker, command: Command) {
        let client = asker.client;
        if let Some(Peer::Worker(_)) = self.clients.peer(client)
            && command.info().class != CommandClass::Worker
        {
            let message = "refused: a worker's own connection takes worker:ack and worker:ping";
            return self.answer(&asker, false, message);
        }
        match command {
            Command::Ehlo { user } => self.on_ehlo(&asker, user.as_deref()),
            Command::Help => self.answer(&asker, true, help(asker.is_einhorns())),
            Command::Version => {
                let message = format!("einhyrningsins {VERSION}, protocol {PROTOCOL_VERSION}");
                let data = json!({ "version": VERSION, "protocol": PROTOCOL_VERSION });
                self.answer_with(&asker, true, message, data);
            }
            Command::Status => {
                let status = self.status();
                let MasterStatus { pid, up, wanted, generation, .. } = status.master;
                let message = format!("master {pid}: {up} of {wanted} workers up, generation {generation}");
                self.answer_with(&asker, true, message, status);
            }
            Command::State => {
                let message = match asker.is_einhorns() {
                    true => self.einhorns_state(),
                    false => "everything is in \"data\"".to_owned(),
                };
                let state = self.state();
                self.answer_with(&asker, true, message, state);
            }
            Command::Louder | Command::Quieter => self.on_verbosity(&asker, command == Command::Louder),
            Command::Config(settings) => self.on_config(asker, settings),
            Command::Events => self.on_events(&asker),
            Command::WorkerAck { pid } => {
                self.on_worker_ack(client, pid);
                self.part_from_worker(client);
            }
            Command::WorkerPing { pid, request_id } => {
                self.on_worker_ping(client, pid, request_id);
                self.part_from_worker(client);
            }
            Command::Reload => self.on_reload(asker),
            Command::Dec { .. } if asker.is_einhorns() && self.supervisor.wanted() == 1 => {
                self.answer(&asker, false, einhorn::last_worker_stays());
            }
            Command::SetWorkers { count } if asker.is_einhorns() && count > einhorn::SET_WORKERS_MAX => {
                let most = einhorn::SET_WORKERS_MAX;
                let message = format!("set_workers: count must be a number from 1 to {most}, not {count}");
                self.answer(&asker, false, message);
            }
            command => match pool_command(&command) {
                Ok(command) => self.on_pool_command(asker, command),
                Err(answer) => {
                    let is_good = answer.is_good();
                    self.answer(&asker, is_good, answer.in_words(asker.is_einhorns()));
                }
            },
        }
    }

    fn on_verbosity(&mut self, asker: &Asker, louder: bool) {
        if asker.is_einhorns() {
            let next = einhorn::next_verbosity(self.log.verbosity(), louder);
            self.log.set_verbosity(next);
        } else {
            self.log.change_verbosity(louder);
        }
        let verbosity = self.log.verbosity();
        let name = severity_name(verbosity);
        let message = match asker.is_einhorns() {
            true => format!("Verbosity set to {}", einhorn::verbosity_number(verbosity)),
            false => format!("verbosity set to {name}"),
        };
        self.answer_with(asker, true, message, json!({ "verbosity": name }));
    }

    fn on_config(&mut self, asker: Asker, settings: Settings) {
        if let Some(number) = settings.verbosity {
            self.log.set_verbosity(einhorn::verbosity_from(number));
        }
        let change = PolicyChange {
            workers: settings.number,
            seconds: settings.seconds,
            unacked_max: settings.max_unacked,
            upgrade_additional_max: settings.max_upgrade_additional,
            grace: settings.signal_timeout,
        };
        self.on_pool_command(asker, PoolCommand::Configure(change));
    }

    fn on_events(&mut self, asker: &Asker) {
        if !asker.waits() {
            return self.answer(asker, false, "events: needs an \"id\", since more than one line follows");
        }
        let reply = Reply::<()>::progress(asker.id.clone(), "following events", None);
        self.clients.send(asker.client, asker.language, &reply);
        self.clients.follow(asker.client, asker.id.clone(), asker.language);
    }

    /// After an ack or a ping a connection to the path is closed without an answer, as einhorn does; one that was
    /// made for the worker stays for the next ping.
    fn part_from_worker(&mut self, client: ClientId) {
        if let Some(Peer::Connected(_)) = self.clients.peer(client) {
            self.clients.leave(client);
        }
    }

    fn on_ehlo(&mut self, asker: &Asker, user: Option<&str>) {
        let user = user.unwrap_or("stranger");
        let name = self.control.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let pid = std::process::id();
        let message = match asker.is_einhorns() {
            true => self.einhorns_welcome(user),
            false => format!(
                "Welcome, {user}! You are speaking to the einhyrningsins master, process {pid}{name}.\n\
                 This is einhyrningsins {VERSION}."
            ),
        };
        self.answer(asker, true, message);
    }

    fn on_pool_command(&mut self, asker: Asker, command: PoolCommand) {
        if let PoolCommand::Upgrade(plan) = command {
            return self.on_upgrade(asker, plan);
        }
        let request = self.enter(asker);
        let joins = matches!(command, PoolCommand::Follow | PoolCommand::Abort | PoolCommand::Rollback)
            && self.supervisor.counts().is_some();
        self.feed(Event::Command { request: Some(request), command });
        if joins {
            self.tell_who_joined(request);
        }
    }

    fn on_reload(&mut self, asker: Asker) {
        let request = self.enter(asker);
        self.ask_for_replacement(Then::Reload { request });
    }

    fn on_upgrade(&mut self, asker: Asker, plan: UpgradePlan) {
        if asker.is_einhorns() && self.supervisor.upgrade_refusal(plan).is_none() {
            let opening = einhorn::opening(plan.is_fleet);
            if !asker.waits() {
                self.answer(&asker, true, opening);
                return self.upgrade(None, plan);
            }
            let line = Reply::<()>::progress(asker.id.clone(), opening, None);
            self.clients.send(asker.client, asker.language, &line);
        }
        let request = self.enter(asker);
        self.upgrade(Some(request), plan);
    }

    /// Notes that somebody waits for a last reply.
    fn enter(&mut self, asker: Asker) -> RequestKey {
        let request = RequestKey(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, asker);
        request
    }

    /// Says how the upgrade stands that `request` waits for: nothing may happen in it for a long time.
    fn tell_who_joined(&mut self, request: RequestKey) {
        // One that was refused, or that ended the upgrade at once, has had its last reply.
        let Some(asker) = self.requests.get(&request).filter(|asker| asker.waits()) else { return };
        if let Some(upgrade) = self.supervisor.summary(forms::now()).upgrade {
            let notice = Notice::UpgradeJoined(upgrade);
            let message = notice.to_string();
            let progress = Progress { notice, counts: self.supervisor.counts() };
            let reply = Reply::progress(asker.id.clone(), message, Some(progress));
            self.clients.send(asker.client, asker.language, &reply);
        }
    }

    fn answer(&mut self, asker: &Asker, ok: bool, message: impl Into<String>) {
        let reply = Reply::<()>::last(asker.id.clone(), ok, message, None);
        self.clients.send(asker.client, asker.language, &reply);
    }

    fn answer_with<D: Serialize>(&mut self, asker: &Asker, ok: bool, message: impl Into<String>, data: D) {
        let reply = Reply::last(asker.id.clone(), ok, message, Some(data));
        self.clients.send(asker.client, asker.language, &reply);
    }

    /// Gives the supervisor's answer.
    pub(super) fn answer_last(&mut self, asker: &Asker, ok: bool, message: String, data: Option<ReplyData>) {
        let message = asker.last_words(ok, message, data.as_ref());
        match data {
            None => self.answer(asker, ok, message),
            Some(ReplyData::Resized(data)) => self.answer_with(asker, ok, message, data),
            Some(ReplyData::Upgrade(data)) => self.answer_with(asker, ok, message, data),
        }
    }

    pub(super) fn status(&self) -> Status {
        let now = Instant::now();
        let pool = self.supervisor.snapshot(forms::now());
        let release = self.workers.release(pool.generation);
        let directory = release.map_or(&self.workers.recipe().directory, |release| &release.directory_path);
        let command = self.workers.recipe().command.iter();
        Status {
            master: MasterStatus {
                pid: std::process::id().cast_signed(),
                version: VERSION.to_owned(),
                name: self.control.name.clone(),
                state: pool.state,
                age_ms: milliseconds(now - self.started),
                generation: pool.generation.0,
                command: command.map(|word| word.to_string_lossy().into_owned()).collect(),
                directory: directory.display().to_string(),
                socket: self.control.socket.display().to_string(),
                wanted: pool.wanted,
                up: pool.up,
                starting: pool.starting,
                draining: pool.draining,
            },
            listeners: self.workers.listener_statuses(),
            slots: pool.slots,
            workers: pool.workers,
            releases: self.workers.release_statuses(),
            recycled: pool.recycled,
            upgrade: pool.upgrade,
        }
    }

    fn state(&self) -> Value {
        let status = self.status();
        let generation = Generation(status.master.generation);
        let policy = self.supervisor.policy();
        let (ack_mode, ack_seconds) = policy.ack.in_words();
        json!({
            "status": status,
            "policy": {
                "seconds": policy.seconds.as_secs_f64(),
                "ack_mode": ack_mode,
                "ack_seconds": ack_seconds,
                "retries": {
                    "unproven": policy.retries.unproven,
                    "upgrade": policy.retries.upgrade,
                    "proven": policy.retries.proven,
                },
                "max_unacked": policy.unacked_max,
                "max_upgrade_additional": policy.upgrade_additional_max,
                "graceful_signal": policy.graceful_signal.as_str(),
                "signal_timeout": policy.grace.map(|grace| grace.as_secs_f64()),
                "max_age": policy.care.max_age.map(|max_age| max_age.age.as_secs_f64()),
                "max_age_jitter": policy.care.max_age.map(|max_age| max_age.jitter.as_secs_f64()),
                "max_rss": policy.care.max_rss_bytes,
                "ping_timeout": policy.care.ping_timeout.map(|timeout| timeout.as_secs_f64()),
            },
            "process": self.workers.process_state(generation),
            "control": {
                "clients": self.clients.connected(),
                "requests": self.requests.len(),
                "pidfile": self.control.pidfile,
                "lockfile": self.control.lockfile,
                "socket_as_fd": self.control.socket_as_fd,
            },
            "verbosity": severity_name(self.log.verbosity()),
            "next_deadline_ms": self.supervisor.next_deadline().map(|at| {
                milliseconds(at - forms::now())
            }),
        })
    }
}
