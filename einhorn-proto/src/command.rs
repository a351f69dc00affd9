//! The commands of the control socket, parsed and checked.

mod arguments;
mod table;

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use self::arguments::Arguments;
pub use self::table::{
    Argument, Audience, COMMANDS, CommandClass, CommandInfo, PROTOCOL_VERSION, Place, command_info,
};
use crate::RequestErrorKind;
use crate::settings::Settings;

/// One command, its arguments checked.
///
/// It serialises to its arguments alone, by name; its own name is in [`Command::info`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Command {
    /// Greets and names the master.
    Ehlo {
        /// Who is there, for the greeting.
        #[serde(skip_serializing_if = "Option::is_none")]
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
        #[serde(skip)]
        fleet: bool,
        /// So many first, and the rest after the soak.
        #[serde(skip_serializing_if = "Option::is_none")]
        canary: Option<u32>,
        /// How long the soak lasts; `None` until [`Command::UpgradeContinue`].
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_seconds")]
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
        #[serde(rename = "args", skip_serializing_if = "Vec::is_empty")]
        signals: Vec<SignalName>,
    },
    /// Stops the workers, and then the master.
    Die {
        /// What to stop them with; the master's graceful signal if not given.
        #[serde(skip_serializing_if = "Option::is_none")]
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
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
}

/// The name of a signal, in capitals and without `SIG`; or its number.
///
/// It need not exist: the names are the system's, and the master checks them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignalName(String);

impl SignalName {
    /// Normalises `name`: any case, with or without `SIG`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(short_signal_name(&name.trim().to_ascii_uppercase()).to_owned())
    }

    /// The name without `SIG`, for instance `USR2`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A signal's name without its `SIG`: `USR2` of `SIGUSR2`. A name without it stays as it is.
#[must_use]
pub fn short_signal_name(name: &str) -> &str {
    name.strip_prefix("SIG").unwrap_or(name)
}

impl Command {
    /// The command's name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.info().name
    }

    /// Reads a command from its name and the words that follow it.
    ///
    /// ```
    /// use einhorn_proto::Command;
    ///
    /// assert_eq!(Command::from_words("inc", &["2"]).unwrap(), Command::Inc { by: 2 });
    /// ```
    ///
    /// # Errors
    /// [`RequestErrorKind::UnknownCommand`] or [`RequestErrorKind::BadArgument`].
    pub fn from_words(name: &str, words: &[&str]) -> Result<Self, RequestErrorKind> {
        Self::from_fields(name, &Map::from_iter([("args".to_owned(), Value::from(words))]))
    }

    /// Reads a command from its name and the fields of its request: positional `args` as einhorn sends
    /// them, or fields by name.
    pub(crate) fn from_fields(name: &str, fields: &Map<String, Value>) -> Result<Self, RequestErrorKind> {
        let info = COMMANDS.iter().find(|info| info.name == name);
        let info = info.ok_or_else(|| RequestErrorKind::UnknownCommand { command: name.to_owned() })?;
        let args = Arguments::new(info, fields)?;
        let command = (info.read)(&args)?;
        args.check_surplus()?;
        Ok(command)
    }

    /// The fields of a request for this command: what [`crate::Request::to_json`] writes.
    pub(crate) fn to_fields(&self) -> Map<String, Value> {
        let mut fields = match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        fields.insert("command".into(), self.name().into());
        fields
    }
}

/// Writes a time as decimal seconds.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
pub(crate) fn as_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}
