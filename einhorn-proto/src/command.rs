//! The commands of the control socket, parsed and checked.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::request::RequestErrorKind;
use crate::settings::Settings;
use crate::{VERBOSITY_MAX, WORKERS_MAX};

/// The longest soak, or other time: one that can be added to any clock.
const SECONDS_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// One command, its arguments checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Greets and names the master.
    Ehlo {
        /// Who is there, for the greeting.
        user: Option<String>,
    },
    /// Lists the commands.
    Help,
    /// Tells the versions of master and protocol.
    Version,
    /// Tells how the pool is, as [`crate::Status`].
    Status,
    /// Tells everything that the master knows of itself.
    State,
    /// Raises the number of workers.
    Inc {
        /// By how many; at least 1.
        by: u32,
    },
    /// Lowers the number of workers.
    Dec {
        /// By how many; at least 1.
        by: u32,
    },
    /// Sets the number of workers.
    SetWorkers {
        /// The new number; at least 1.
        count: u32,
    },
    /// Replaces every worker with one from the current code.
    Upgrade {
        /// All at once, rather than one by one.
        fleet: bool,
        /// So many first, and the rest after the soak.
        canary: Option<u32>,
        /// How long the soak lasts; `None` until [`Command::UpgradeContinue`].
        soak: Option<Duration>,
    },
    /// Ends the soak of the upgrade that runs.
    UpgradeContinue,
    /// Ends the upgrade that runs, and goes back.
    UpgradeAbort,
    /// Follows the upgrade that runs to its end.
    ///
    /// A command of its own, as are the two above, and no field of `upgrade`: a master that does not know
    /// it says so, while a field that is not known is passed over, and an abort would begin an upgrade.
    UpgradeFollow,
    /// Goes back to the release before.
    Rollback,
    /// Sends a signal to every worker; with none named, lists what can be sent.
    Signal {
        /// The signals to send, in this order.
        signals: Vec<SignalName>,
    },
    /// Stops the workers, and then the master.
    Die {
        /// What to stop them with; the master's graceful signal if not given.
        signal: Option<SignalName>,
    },
    /// Replaces the master itself and keeps the workers.
    Reload,
    /// Fills empty slots now, whatever their backoff, and those that were given up.
    Respawn,
    /// Changes how the master treats its workers, from now on.
    Config(Settings),
    /// Makes the master's log say more.
    Louder,
    /// Makes the master's log say less.
    Quieter,
    /// Streams what happens, as [`crate::Notice`], until the client leaves.
    Events,
    /// A worker says that it takes traffic.
    WorkerAck {
        /// The worker's pid.
        pid: i32,
    },
    /// A worker says that it is still well.
    WorkerPing {
        /// The worker's pid.
        pid: i32,
        /// A word of the worker's own, as einhorn has it; this master does not keep it.
        request_id: Option<String>,
    },
}

/// The name of a signal, in capitals and without `SIG`; or its number.
///
/// Whether such a signal exists is for the master to say: the names are the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalName(String);

impl SignalName {
    /// Normalises `name`: any case, with or without `SIG`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = name.trim().to_ascii_uppercase();
        Self(name.strip_prefix("SIG").map_or(name.clone(), str::to_owned))
    }

    /// The name without `SIG`, for instance `USR2`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Command {
    /// The command's name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ehlo { .. } => "ehlo",
            Self::Help => "help",
            Self::Version => "version",
            Self::Status => "status",
            Self::State => "state",
            Self::Inc { .. } => "inc",
            Self::Dec { .. } => "dec",
            Self::SetWorkers { .. } => "set_workers",
            Self::Upgrade { fleet: false, .. } => "upgrade",
            Self::Upgrade { fleet: true, .. } => "upgrade_fleet",
            Self::UpgradeContinue => "upgrade_continue",
            Self::UpgradeAbort => "upgrade_abort",
            Self::UpgradeFollow => "upgrade_follow",
            Self::Rollback => "rollback",
            Self::Signal { .. } => "signal",
            Self::Die { .. } => "die",
            Self::Reload => "reload",
            Self::Respawn => "respawn",
            Self::Config(_) => "config",
            Self::Louder => "louder",
            Self::Quieter => "quieter",
            Self::Events => "events",
            Self::WorkerAck { .. } => "worker:ack",
            Self::WorkerPing { .. } => "worker:ping",
        }
    }

    /// Reads a command from its name and the fields of its request: positional `args` as einhorn sends
    /// them, or fields by name.
    pub(crate) fn from_fields(name: &str, fields: &Map<String, Value>) -> Result<Self, RequestErrorKind> {
        let args = Arguments::new(name, fields)?;
        let command = match name {
            "ehlo" => Self::Ehlo { user: args.text(0, "user")? },
            "help" => Self::Help,
            "version" => Self::Version,
            "status" => Self::Status,
            "state" => Self::State,
            "inc" => Self::Inc { by: args.count(0, "by")?.unwrap_or(1) },
            "dec" => Self::Dec { by: args.count(0, "by")?.unwrap_or(1) },
            "set_workers" => Self::SetWorkers { count: args.required(args.count(0, "count")?, "count")? },
            "upgrade" => args.upgrade(args.flag("fleet")?)?,
            "upgrade_fleet" => args.upgrade(true)?,
            "upgrade_continue" => Self::UpgradeContinue,
            "upgrade_abort" => Self::UpgradeAbort,
            "upgrade_follow" => Self::UpgradeFollow,
            "rollback" => Self::Rollback,
            "signal" => Self::Signal { signals: args.signals("signal")? },
            "die" => Self::Die { signal: args.text(0, "signal")?.map(|name| SignalName::new(&name)) },
            "reload" => Self::Reload,
            "respawn" => Self::Respawn,
            "config" => Self::Config(args.settings()?),
            "louder" => Self::Louder,
            "quieter" => Self::Quieter,
            "events" => Self::Events,
            "worker:ack" => Self::WorkerAck { pid: args.required(args.pid()?, "pid")? },
            "worker:ping" => Self::WorkerPing {
                pid: args.required(args.pid()?, "pid")?,
                request_id: args.text(1, "request_id")?,
            },
            _ => return Err(RequestErrorKind::UnknownCommand { command: name.to_owned() }),
        };
        args.check_surplus(&command)?;
        Ok(command)
    }

    /// How many positional arguments the command takes.
    fn positional_max(&self) -> usize {
        match self {
            Self::Ehlo { .. }
            | Self::Inc { .. }
            | Self::Dec { .. }
            | Self::SetWorkers { .. }
            | Self::Die { .. }
            | Self::WorkerAck { .. } => 1,
            Self::WorkerPing { .. } => 2,
            Self::Signal { .. } | Self::Config(_) => usize::MAX,
            _ => 0,
        }
    }

    /// The fields that say this command again: what [`crate::Request::to_json`] writes.
    pub(crate) fn to_fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("command".into(), self.name().into());
        match self {
            Self::Ehlo { user: Some(user) } => {
                fields.insert("user".into(), user.as_str().into());
            }
            Self::Upgrade { canary, soak, .. } => {
                if let Some(canary) = canary {
                    fields.insert("canary".into(), (*canary).into());
                }
                if let Some(soak) = soak {
                    fields.insert("soak".into(), soak.as_secs_f64().into());
                }
            }
            Self::Config(settings) => settings.write_to(&mut fields),
            Self::Inc { by } | Self::Dec { by } => {
                fields.insert("by".into(), (*by).into());
            }
            Self::SetWorkers { count } => {
                fields.insert("count".into(), (*count).into());
            }
            Self::Signal { signals } if !signals.is_empty() => {
                let names = signals.iter().map(|signal| Value::from(signal.as_str())).collect();
                fields.insert("args".into(), Value::Array(names));
            }
            Self::Die { signal: Some(signal) } => {
                fields.insert("signal".into(), signal.as_str().into());
            }
            Self::WorkerAck { pid } => {
                fields.insert("pid".into(), (*pid).into());
            }
            Self::WorkerPing { pid, request_id } => {
                fields.insert("pid".into(), (*pid).into());
                if let Some(request_id) = request_id {
                    fields.insert("request_id".into(), request_id.as_str().into());
                }
            }
            _ => {}
        }
        fields
    }
}

/// The arguments of a request: a field by name wins over the positional one.
struct Arguments<'a> {
    command: &'a str,
    fields: &'a Map<String, Value>,
    positional: Vec<&'a Value>,
}

impl<'a> Arguments<'a> {
    fn new(command: &'a str, fields: &'a Map<String, Value>) -> Result<Self, RequestErrorKind> {
        let positional = match fields.get("args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(args)) => args.iter().collect(),
            Some(_) => return Err(bad(command, "args", "must be a list of strings")),
        };
        Ok(Self { command, fields, positional })
    }

    fn value(&self, position: usize, name: &str) -> Option<&'a Value> {
        let by_name = self.fields.get(name).filter(|value| !value.is_null());
        by_name.or_else(|| self.positional.get(position).copied())
    }

    fn text(&self, position: usize, name: &str) -> Result<Option<String>, RequestErrorKind> {
        match self.value(position, name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(bad(self.command, name, "must be a string")),
        }
    }

    fn count(&self, position: usize, name: &str) -> Result<Option<u32>, RequestErrorKind> {
        let Some(text) = self.text(position, name)? else { return Ok(None) };
        match text.trim().parse::<u32>() {
            Ok(count) if (1..=WORKERS_MAX).contains(&count) => Ok(Some(count)),
            _ => Err(bad(
                self.command,
                name,
                &format!("must be a whole number from 1 to {WORKERS_MAX}, not \"{text}\""),
            )),
        }
    }

    fn upgrade(&self, fleet: bool) -> Result<Command, RequestErrorKind> {
        let (canary, soak) = (self.count(usize::MAX, "canary")?, self.seconds("soak")?);
        if fleet && canary.is_some() {
            return Err(bad(self.command, "canary", "comes before the rest, and a fleet comes all at once"));
        }
        if soak.is_some() && canary.is_none() {
            return Err(bad(
                self.command,
                "soak",
                "says how long the canaries are watched, so it needs \"canary\"",
            ));
        }
        Ok(Command::Upgrade { fleet, canary, soak })
    }

    fn flag(&self, name: &str) -> Result<bool, RequestErrorKind> {
        match self.value(usize::MAX, name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(bad(self.command, name, &format!("must be true or false, not {other}"))),
        }
    }

    /// A decimal number of seconds, to the millisecond: what is written by one side is then what the other
    /// reads, whatever became of the last binary digit on the way.
    fn seconds(&self, name: &str) -> Result<Option<Duration>, RequestErrorKind> {
        let Some(text) = self.text(usize::MAX, name)? else { return Ok(None) };
        let seconds = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match seconds.filter(|seconds| *seconds <= SECONDS_MAX) {
            Some(seconds) => {
                let rounded = seconds + Duration::from_micros(500);
                Ok(Some(Duration::new(rounded.as_secs(), rounded.subsec_millis() * 1_000_000)))
            }
            None => Err(bad(self.command, name, &format!("must be a number of seconds, not \"{text}\""))),
        }
    }

    fn settings(&self) -> Result<Settings, RequestErrorKind> {
        let mut options = match self.positional.as_slice() {
            [] => Map::new(),
            [Value::Object(options)] => options.clone(),
            words => {
                // A shell has split the text at its blanks if nobody has put it in quotes.
                let words: Option<Vec<_>> = words.iter().map(|word| word.as_str()).collect();
                let words =
                    words.ok_or_else(|| bad(self.command, "args", "must be a map of options in YAML"))?;
                self.options(&words.join(" "))?
            }
        };
        for name in Settings::NAMES {
            if let Some(value) = self.fields.get(name) {
                options.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(name) = options.keys().find(|name| !Settings::NAMES.contains(&name.as_str())) {
            let why = format!("is not an option of it; those are {}", Settings::NAMES.join(", "));
            return Err(bad(self.command, &format!("\"{name}\""), &why));
        }
        let options = Arguments { command: self.command, fields: &options, positional: Vec::new() };
        Ok(Settings {
            number: options.count(0, "number")?,
            seconds: options.positive_seconds("seconds")?,
            max_unacked: options.count(0, "max_unacked")?,
            max_upgrade_additional: options.count(0, "max_upgrade_additional")?,
            signal_timeout: options.positive_seconds("signal_timeout")?,
            verbosity: options.verbosity()?,
        })
    }

    /// The options that `text` holds, in JSON or, where that is known here, YAML.
    fn options(&self, text: &str) -> Result<Map<String, Value>, RequestErrorKind> {
        #[cfg(feature = "yaml")]
        let read = crate::yaml::read(text.as_bytes(), crate::yaml::Limits::REQUEST);
        #[cfg(not(feature = "yaml"))]
        let read = serde_json::from_str(text);
        match read {
            Ok(Value::Object(options)) => Ok(options),
            Ok(_) => Err(bad(self.command, "args", "must be a map of options in YAML")),
            Err(error) => Err(bad(self.command, "args", &format!("cannot be parsed: {error}"))),
        }
    }

    fn positive_seconds(&self, name: &str) -> Result<Option<Duration>, RequestErrorKind> {
        match self.seconds(name)? {
            Some(Duration::ZERO) => Err(bad(self.command, name, "must be > 0")),
            seconds => Ok(seconds),
        }
    }

    fn verbosity(&self) -> Result<Option<u8>, RequestErrorKind> {
        let Some(text) = self.text(usize::MAX, "verbosity")? else { return Ok(None) };
        match text.trim().parse() {
            Ok(level) if level <= VERBOSITY_MAX => Ok(Some(level)),
            _ => Err(bad(self.command, "verbosity", "must be 0 (debug), 1 (info) or 2 (error)")),
        }
    }

    fn pid(&self) -> Result<Option<i32>, RequestErrorKind> {
        let Some(text) = self.text(0, "pid")? else { return Ok(None) };
        match text.trim().parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(Some(pid)),
            _ => Err(bad(self.command, "pid", &format!("must be a process id, not \"{text}\""))),
        }
    }

    fn signals(&self, name: &str) -> Result<Vec<SignalName>, RequestErrorKind> {
        let mut signals = Vec::new();
        if self.fields.contains_key(name) {
            signals.extend(self.text(usize::MAX, name)?);
        }
        for position in 0..self.positional.len() {
            signals.extend(self.text(position, "")?);
        }
        Ok(signals.iter().map(|signal| SignalName::new(signal)).collect())
    }

    fn required<T>(&self, value: Option<T>, name: &str) -> Result<T, RequestErrorKind> {
        value.ok_or_else(|| bad(self.command, name, "is missing"))
    }

    fn check_surplus(&self, command: &Command) -> Result<(), RequestErrorKind> {
        match self.positional.get(command.positional_max()) {
            None => Ok(()),
            Some(surplus) => Err(bad(self.command, "args", &format!("has {surplus} too many"))),
        }
    }
}

fn bad(command: &str, argument: &str, why: &str) -> RequestErrorKind {
    RequestErrorKind::BadArgument { command: command.into(), argument: argument.into(), why: why.into() }
}
