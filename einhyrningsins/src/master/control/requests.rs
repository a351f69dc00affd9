//! Requests: questions are answered here, commands go to the core.

use einhorn_proto::{
    AckSource, Command, CommandClass, MasterStatus, Metrics, PROTOCOL_VERSION, Reply, Request as Line,
    RequestError, Requester, SOAK_CHECK_EVERY, Settings, UpgradeRequest, shortened,
};
use einhyrningsins_supervisor::{
    CheckPlan, Event, OptionsChange, PoolCommand, Report, Setting, SoakCheck, Stop, UpgradePlan,
};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;

use super::answers::Asker;
use super::clients::{ClientId, Peer};
use super::{Census, Control, Request, View};
use crate::cli::CommandWords;
use crate::config::unacked_bounds;
use crate::einhorn;
use crate::forms::{core_pid, core_signal, severity_name};
use crate::logging::Log;
use crate::manners::{Manners, VERSION};
use crate::sys::peer::Stranger;
use crate::sys::signals::parse_signal;

/// Requests of one client that wait for their last reply. Each gets the progress of what it waits for.
const REQUESTS_MAX: usize = 256;

/// Characters of a person's name that are repeated.
const NAME_MAX: usize = 256;

/// Characters kept of the id of a ping. einhorn's own are 36 long.
const PING_WORD_MAX: usize = 256;

impl Control {
    pub(super) fn on_line(
        &mut self,
        client: ClientId,
        line: &[u8],
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let (language, request) = Line::from_line(line);
        let dialect = view.dialect.of_answer(language);
        let asker = |id, command: &str| Asker { client, id, language, dialect, command: command.to_owned() };
        match request {
            Ok(Line { id, command }) => self.on_request(asker(id, command.name()), command, view, log),
            Err(RequestError { id, kind }) => {
                let message = dialect.manners().bad_request(&kind);
                self.answer(&asker(id, ""), false, message);
                None
            }
        }
    }

    fn on_request(
        &mut self,
        asker: Asker,
        command: Command,
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        let client = asker.client;
        let manners = asker.dialect.manners();
        if let Some(Peer::Worker(_)) = self.clients.peer(client)
            && command.info().class != CommandClass::Worker
        {
            let message = "refused: a worker's own connection takes worker:ack and worker:ping";
            self.answer(&asker, false, message);
            return None;
        }
        if self.is_denied(&asker, command.info(), log) {
            return None;
        }
        if command.info().class != CommandClass::Worker && self.waiting_of(client) >= REQUESTS_MAX {
            let message = format!("refused: {REQUESTS_MAX} requests of this client wait already");
            self.answer(&asker, false, message);
            return None;
        }
        match command {
            Command::Ehlo { user } => {
                let name = self.settings.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
                let user = user.as_deref().unwrap_or("stranger");
                let end = user.char_indices().nth(NAME_MAX).map_or(user.len(), |(end, _)| end);
                let message = manners.welcome(&user[..end], &name);
                self.answer(&asker, true, message);
            }
            Command::Help => self.answer(&asker, true, manners.help()),
            Command::Version => {
                let message = format!("einhyrningsins {VERSION}, protocol {PROTOCOL_VERSION}");
                let data = json!({ "version": VERSION, "protocol": PROTOCOL_VERSION });
                self.answer_with(&asker, true, message, data);
            }
            Command::Status => {
                let status = self.status(view);
                let MasterStatus { pid, up, wanted, generation, .. } = status.master;
                let message = format!("master {pid}: {up} of {wanted} workers up, generation {generation}");
                self.answer_with(&asker, true, message, status);
            }
            Command::State => {
                let (message, data) = self.state(manners, view, log.verbosity());
                self.answer_with(&asker, true, message, data);
            }
            Command::History => {
                let message = format!("{}; they are in \"data\"", view.history);
                self.answer_with(&asker, true, message, view.history.answer());
            }
            Command::Metrics => {
                let metrics = Metrics {
                    counts: view.counters.counts(),
                    recycled: view.core.recycled(),
                    refused: self.refusals.total() + view.notify.refused(),
                    lost_log_lines: log.lost_in_all(),
                };
                let message = "what the master has counted is in \"data\"";
                self.answer_with(&asker, true, message, metrics);
            }
            Command::ConfigShow => self.on_config_show(&asker, view),
            Command::Louder | Command::Quieter => {
                log.set_verbosity(manners.next_verbosity(log.verbosity(), command == Command::Louder));
                let data = json!({ "verbosity": severity_name(log.verbosity()) });
                self.answer_with(&asker, true, manners.verbosity_set(log.verbosity()), data);
            }
            Command::Reopen => match log.reopen() {
                Ok(message) => self.answer(&asker, true, message),
                Err(error) => self.answer(&asker, false, format!("{error:#}")),
            },
            Command::Events => self.on_events(&asker),
            Command::WorkerAck { pid } => {
                let pid = self.speaks_for(client, pid, "worker:ack", view.census(), log)?;
                return Some(heard(pid, Report::Ack(AckSource::Control)));
            }
            Command::WorkerPing { pid, request_id } => {
                let pid = self.speaks_for(client, pid, "worker:ping", view.census(), log)?;
                let word = request_id.map(|word| word.chars().take(PING_WORD_MAX).collect());
                return Some(heard(pid, Report::Ping(word)));
            }
            Command::Reload => return Some(Request::Reload(self.enter(asker))),
            command => return self.on_pool_command(asker, &command, view, log),
        }
        None
    }

    /// How many requests of a client wait for their last reply.
    fn waiting_of(&self, client: ClientId) -> usize {
        self.requests.values().filter(|asker| asker.client == client).count()
    }

    fn on_pool_command(
        &mut self,
        asker: Asker,
        command: &Command,
        view: &View<'_>,
        log: &mut Log,
    ) -> Option<Request> {
        let manners = asker.dialect.manners();
        if let Some(refusal) = manners.refusal(command) {
            self.answer(&asker, false, refusal);
            return None;
        }
        if let Command::Upgrade(request) = command
            && (request.check.is_some() || request.soak_check.is_some())
            && !self.clients.is_owners(asker.client)
        {
            let message =
                "upgrade refused: only root and the user of the master may say what checks a release";
            self.refuse(&asker, message);
            return None;
        }
        let command = match pool_command(command, manners, log) {
            Ok(command) => command,
            Err((ok, message)) => {
                self.answer(&asker, ok, message);
                return None;
            }
        };
        let is_for_history = matches!(
            command,
            PoolCommand::Upgrade(_)
                | PoolCommand::QueueUpgrade(_)
                | PoolCommand::Rollback
                | PoolCommand::Abort
                | PoolCommand::Stop { .. }
        );
        let requester =
            if is_for_history { self.clients.requester(asker.client) } else { Requester::default() };
        let request = self.enter(asker);
        let may_join = matches!(command, PoolCommand::Follow | PoolCommand::Abort | PoolCommand::Rollback);
        if may_join && view.core.counts().is_some() {
            self.joining.push(request);
        }
        Some(Request::Event(Box::new(Event::Command { request: Some(request), requester, command })))
    }

    fn on_config_show(&mut self, asker: &Asker, view: &View<'_>) {
        if let Some(refusal) = view.dialect.manners().refusal(&Command::ConfigShow) {
            return self.answer(asker, false, refusal);
        }
        match view.options.show(view.argv, view.core.policy(), view.core.wanted()) {
            Ok(options) => {
                let message = format!("{} options; they are in \"data\"", options.options.len());
                self.answer_with(asker, true, message, options);
            }
            Err(error) => self.answer(asker, false, format!("config_show: {error}")),
        }
    }

    fn on_events(&mut self, asker: &Asker) {
        if !asker.has_progress() {
            return self.answer(asker, false, "events: needs an \"id\", since more than one line follows");
        }
        let reply = Reply::<()>::progress(asker.id.clone(), "following events", None);
        self.clients.send(asker.client, asker.language, &reply);
        self.clients.follow(asker.client, asker.id.clone(), asker.language);
    }

    /// The worker that an ack or a ping for `pid` comes from, itself or through a descendant. `pid` must be that
    /// worker, or none: in a pid namespace of its own, a worker knows itself by another pid. A connection to the
    /// socket's path is closed without an answer, as einhorn does; one that was made for the worker (`-g`) stays open.
    fn speaks_for(
        &mut self,
        client: ClientId,
        pid: i32,
        what: &str,
        census: Census<'_>,
        log: &mut Log,
    ) -> Option<Pid> {
        let pid = Pid::from_raw(pid);
        let is_worker = |pid: Pid| census.core.is_worker(core_pid(pid));
        let peer = self.clients.peer(client);
        if let Some(Peer::Connected(_)) = peer {
            self.clients.leave(client);
        }
        let sender = self.clients.sender(client);
        let worker = match (peer, &sender) {
            (Some(Peer::Worker(owner)), _) => Some(owner).filter(|owner| is_worker(*owner)).ok_or(None),
            (_, Some(sender)) => sender.worker(&census).map_err(Some),
            (_, None) => Err(None),
        };
        if let Ok(worker) = worker
            && (worker == pid || !is_worker(pid))
        {
            return Some(worker);
        }
        let refusal = match (peer, &sender, worker) {
            (_, Some(sender), Err(Some(ended @ Stranger::Ended))) => {
                format!("it came from process {}, {ended}", sender.pid)
            }
            _ if !is_worker(pid) => format!("{pid} is no worker"),
            (Some(Peer::Worker(owner)), ..) => format!("it came from worker {owner}"),
            (_, Some(sender), _) => format!(
                "it came from process {}, which is neither that worker nor descends from it",
                sender.pid
            ),
            (_, None, _) => "its sender is not visible from here".to_owned(),
        };
        self.refusals.log(None, format_args!("{what} for {pid} refused: {refusal}"), log);
        None
    }
}

/// What was heard of a worker.
fn heard(pid: Pid, report: Report) -> Request {
    Request::Event(Box::new(Event::Heard { pid: core_pid(pid), report }))
}

/// The command for the core; or an answer, and whether it reports success.
fn pool_command(
    command: &Command,
    manners: &dyn Manners,
    log: &mut Log,
) -> Result<PoolCommand, (bool, String)> {
    let signal = |name: &str| match parse_signal(name) {
        Ok(signal) => Ok(core_signal(signal)),
        Err(_) => Err((false, manners.unknown_signal(&shortened(name)))),
    };
    Ok(match command {
        Command::Inc { by } => PoolCommand::Inc(*by),
        Command::Dec { by } => PoolCommand::Dec(*by),
        Command::SetWorkers { count } => PoolCommand::SetWorkers(*count),
        Command::Config(settings) => PoolCommand::Configure(core_settings(settings, log)),
        Command::Upgrade(request) => {
            let plan = upgrade_plan(request)?;
            if request.wait { PoolCommand::QueueUpgrade(plan) } else { PoolCommand::Upgrade(plan) }
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
            PoolCommand::Signal(signals.iter().map(|name| signal(name.as_str())).collect::<Result<_, _>>()?)
        }
        Command::SignalOnly { signals, target } => PoolCommand::SignalOnly(
            signals.iter().map(|name| signal(name.as_str())).collect::<Result<_, _>>()?,
            *target,
        ),
        Command::Replace { target } => PoolCommand::Replace(*target),
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

/// The plan of the core; or an answer.
fn upgrade_plan(request: &UpgradeRequest) -> Result<UpgradePlan, (bool, String)> {
    let soak_check = request.soak_check.as_deref().map(|command| split("soak_check", command)).transpose()?;
    Ok(UpgradePlan {
        is_fleet: request.fleet,
        canary: request.canary,
        soak: request.soak,
        may_keep_master: request.keep_master,
        is_reported_drained: request.drained,
        label: request.label.clone(),
        requester: Requester::default(),
        soak_check: soak_check.map(|command| SoakCheck {
            command,
            every: request.every.unwrap_or(SOAK_CHECK_EVERY),
            failures_max: request.soak_failures.unwrap_or(1),
        }),
        check: match request.check.as_deref() {
            Some(command) => CheckPlan::By(split("check", command)?),
            None if request.no_check => CheckPlan::Never,
            None => CheckPlan::ByPolicy,
        },
        options: OptionsChange::default(),
    })
}

/// A command that can be split into words, as it was given; or an answer.
fn split(name: &str, command: &str) -> Result<String, (bool, String)> {
    match command.parse::<CommandWords>() {
        Ok(_) => Ok(command.to_owned()),
        Err(why) => Err((false, format!("upgrade refused: \"{name}\": {why}"))),
    }
}

/// The settings of the core, the number of workers last. The verbosity goes to the log.
fn core_settings(settings: &Settings, log: &mut Log) -> Vec<Setting> {
    if let Some(number) = settings.verbosity {
        log.set_verbosity(einhorn::verbosity_from(number));
    }
    let unacked = settings.max_unacked.map(unacked_bounds);
    let settings = [
        settings.seconds.map(Setting::Seconds),
        unacked.map(|(max, by_cpus)| Setting::Unacked { max, by_cpus }),
        settings.max_upgrade_additional.map(|max| Setting::UpgradeAdditional(Some(max))),
        settings.signal_timeout.map(|grace| Setting::Grace(Some(grace))),
        settings.number.map(Setting::Workers),
    ];
    settings.into_iter().flatten().collect()
}
