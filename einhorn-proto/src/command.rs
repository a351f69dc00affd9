//! The commands of the control socket, parsed and checked.

mod arguments;

use std::time::Duration;

use serde_json::{Map, Value};

use self::arguments::Arguments;
use crate::request::RequestErrorKind;
use crate::settings::Settings;

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
