//! What clients ask for: questions are answered here, commands go to the supervisor.

use std::time::{Duration, Instant};

use einhorn_proto::{
    COMMANDS, Command, MasterStatus, Notice, PROTOCOL_VERSION, Reply, Request, RequestId, Status, Support,
    command_info,
};
use nix::sys::signal::Signal;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{CLIENTS_MAX, ClientId, Input, Peer};
use super::{Asker, Reactor};
use crate::logging::severity_name;
use crate::supervisor::{Event, PoolCommand, RequestKey, Stop, UpgradePlan};
use crate::sys::peer;
use crate::sys::signals::parse_signal;

/// Requests taken up from one client in one round, so that one that never pauses does not keep the rest waiting.
const REQUESTS_PER_ROUND: usize = 64;

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Reactor {
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
            self.clients.send(id, &Reply::<()>::last(None, false, message, None));
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
                peer::ancestor_among(pid, |pid| self.supervisor.is_worker(pid)).is_some()
            }
            Some(Peer::Worker(_)) => true,
            Some(Peer::Connected(None)) | None => false,
        }
    }

    /// Takes up what `id` has sent, and sends it what it has not got.
    pub(super) fn serve_client(&mut self, id: ClientId) {
        for _ in 0..REQUESTS_PER_ROUND {
            self.clients.flush(id);
            match self.clients.next_input(id) {
                Input::Line(line) => self.on_line(id, &line),
                Input::Nothing => return,
                Input::TooLong(error) => {
                    self.clients.send(id, &Reply::<()>::last(None, false, error.to_string(), None));
                    self.clients.leave(id);
                    return;
                }
            }
        }
        self.backlog.clients.push_back(id);
    }

    fn on_line(&mut self, client: ClientId, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match Request::from_json(line) {
            Ok(Request { id, command }) => self.on_request(client, id, command),
            Err(error) => {
                let reply = Reply::<()>::last(error.id.clone(), false, error.to_string(), None);
                self.clients.send(client, &reply);
            }
        }
    }

    fn on_request(&mut self, client: ClientId, id: Option<RequestId>, command: Command) {
        if let Some(Peer::Worker(_)) = self.clients.peer(client)
            && !matches!(command, Command::WorkerAck { .. } | Command::WorkerPing { .. })
        {
            let message = "refused: a worker's own connection takes worker:ack and worker:ping";
            return self.answer(client, id, false, message);
        }
        if command_info(command.name()).is_some_and(|info| info.support == Support::Reserved) {
            let message = format!("{}: not in this version ({VERSION})", command.name());
            return self.answer(client, id, false, message);
        }
        match command {
            Command::Ehlo { user } => self.on_ehlo(client, id, user.as_deref()),
            Command::Help => self.answer(client, id, true, help()),
            Command::Version => {
                let message = format!("einhyrningsins {VERSION}, protocol {PROTOCOL_VERSION}");
                let data = json!({ "version": VERSION, "protocol": PROTOCOL_VERSION });
                self.answer_with(client, id, true, message, data);
            }
            Command::Status => {
                let status = self.status();
                let MasterStatus { pid, up, wanted, generation, .. } = status.master;
                let message = format!("master {pid}: {up} of {wanted} workers up, generation {generation}");
                self.answer_with(client, id, true, message, status);
            }
            Command::State => {
                let state = self.state();
                self.answer_with(client, id, true, "everything is in \"data\"", state);
            }
            Command::Louder | Command::Quieter => {
                let verbosity = self.log.change_verbosity(command == Command::Louder);
                let name = severity_name(verbosity);
                let data = json!({ "verbosity": name });
                self.answer_with(client, id, true, format!("verbosity set to {name}"), data);
            }
            Command::Events => {
                let message = "following events";
                self.clients.send(client, &Reply::<()>::progress(id.clone(), message, None));
                self.clients.follow(client, id);
            }
            Command::WorkerAck { pid } => {
                self.on_worker_ack(client, pid);
                self.part_from_worker(client);
            }
            Command::WorkerPing { pid, request_id } => {
                self.on_worker_ping(client, pid, request_id);
                self.part_from_worker(client);
            }
            command => self.on_pool_command(client, id, &command),
        }
    }

    /// After an ack or a ping a connection to the path is closed without an answer, as einhorn does; one that was
    /// made for the worker stays for the next ping.
    fn part_from_worker(&mut self, client: ClientId) {
        if let Some(Peer::Connected(_)) = self.clients.peer(client) {
            self.clients.leave(client);
        }
    }

    fn on_ehlo(&mut self, client: ClientId, id: Option<RequestId>, user: Option<&str>) {
        let user = user.unwrap_or("stranger");
        let name = self.control.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let pid = std::process::id();
        let message = format!(
            "Welcome, {user}! You are speaking to the einhyrningsins master, process {pid}{name}.\n\
             This is einhyrningsins {VERSION}."
        );
        self.answer(client, id, true, message);
    }

    fn on_pool_command(&mut self, client: ClientId, id: Option<RequestId>, command: &Command) {
        let command = match pool_command(command) {
            Ok(command) => command,
            Err((ok, message)) => return self.answer(client, id, ok, message),
        };
        let request = RequestKey(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, Asker { client, id });
        let joins = matches!(command, PoolCommand::Follow | PoolCommand::Abort | PoolCommand::Rollback)
            && self.supervisor.snapshot(Instant::now()).upgrade.is_some();
        self.feed(Event::Command { request: Some(request), command });
        if joins {
            self.tell_who_joined(request);
        }
    }

    /// Says how the upgrade stands that `request` waits for: nothing may happen in it for a long time.
    fn tell_who_joined(&mut self, request: RequestKey) {
        // One that was refused, or that ended the upgrade at once, has had its last reply.
        let Some(Asker { client, id }) = self.requests.get(&request) else { return };
        if let Some(upgrade) = self.supervisor.snapshot(Instant::now()).upgrade {
            let notice = Notice::UpgradeJoined(upgrade);
            self.clients.send(*client, &Reply::progress(id.clone(), notice.to_string(), Some(notice)));
        }
    }

    fn answer(&mut self, client: ClientId, id: Option<RequestId>, ok: bool, message: impl Into<String>) {
        self.clients.send(client, &Reply::<()>::last(id, ok, message, None));
    }

    fn answer_with<D: Serialize>(
        &mut self,
        client: ClientId,
        id: Option<RequestId>,
        ok: bool,
        message: impl Into<String>,
        data: D,
    ) {
        self.clients.send(client, &Reply::last(id, ok, message, Some(data)));
    }

    fn status(&self) -> Status {
        let now = Instant::now();
        let pool = self.supervisor.snapshot(now);
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
            upgrade: pool.upgrade,
        }
    }

    fn state(&self) -> Value {
        let policy = self.supervisor.policy();
        let (ack_mode, ack_seconds) = policy.ack.in_words();
        json!({
            "status": self.status(),
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
            },
            "control": {
                "clients": self.clients.connected(),
                "requests": self.requests.len(),
                "pidfile": self.control.pidfile,
                "lockfile": self.control.lockfile,
                "socket_as_fd": self.control.socket_as_fd,
            },
            "verbosity": severity_name(self.log.verbosity()),
            "next_deadline_ms": self.supervisor.next_deadline().map(|at| {
                milliseconds(at.saturating_duration_since(Instant::now()))
            }),
        })
    }
}

/// What the supervisor is to do; or the answer, and whether it is a good one.
fn pool_command(command: &Command) -> Result<PoolCommand, (bool, String)> {
    Ok(match command {
        Command::Inc { by } => PoolCommand::Inc(*by),
        Command::Dec { by } => PoolCommand::Dec(*by),
        Command::SetWorkers { count } => PoolCommand::SetWorkers(*count),
        Command::Upgrade { fleet, canary, soak } => {
            PoolCommand::Upgrade(UpgradePlan { is_fleet: *fleet, canary: *canary, soak: *soak })
        }
        Command::UpgradeContinue => PoolCommand::Continue,
        Command::UpgradeAbort => PoolCommand::Abort,
        Command::UpgradeFollow => PoolCommand::Follow,
        Command::Rollback => PoolCommand::Rollback,
        Command::Respawn => PoolCommand::Respawn,
        Command::Signal { signals } if signals.is_empty() => {
            let names: Vec<_> = Signal::iterator().map(Signal::as_str).collect();
            return Err((true, format!("signals: {}", names.join(" "))));
        }
        Command::Signal { signals } => {
            let parsed: Result<Vec<_>, _> = signals.iter().map(|name| signal(name.as_str())).collect();
            PoolCommand::Signal(parsed?)
        }
        Command::Die { signal: name } => {
            let how = match name {
                Some(name) => Stop::With(signal(name.as_str())?),
                None => Stop::Gracefully,
            };
            PoolCommand::Stop { how, why: "a control client asked for it".to_owned() }
        }
        command => return Err((false, format!("{}: not in this version ({VERSION})", command.name()))),
    })
}

fn signal(name: &str) -> Result<Signal, (bool, String)> {
    parse_signal(name).map_err(|_| (false, format!("invalid signal: \"{name}\"")))
}

fn help() -> String {
    let commands = COMMANDS.iter().filter(|info| info.interactive && info.support == Support::Yes);
    let lines = commands.map(|info| {
        let usage = format!("{} {}", info.name, info.arguments);
        format!("{usage:<22} {}", info.summary)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
