//! Commands: what a client can ask of a master.

mod arguments;
mod table;

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use self::arguments::Arguments;
pub use self::table::{
    Argument, Audience, COMMANDS, CommandClass, CommandInfo, PROTOCOL_VERSION, Place, command_elsewhere,
    command_info,
};
use crate::settings::Settings;
use crate::{RequestErrorKind, Target};

/// How to upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpgradeRequest {
    /// All workers at once, rather than one by one.
    #[serde(skip)]
    pub fleet: bool,
    /// How many workers to replace before the soak; `None` for an upgrade without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<u32>,
    /// How long the soak lasts, if it ends without [`Command::UpgradeContinue`]. In seconds on the wire.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_seconds")]
    pub soak: Option<Duration>,
    /// Whether to begin once the upgrades that run and wait have ended, rather than to be refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// Whether to upgrade the workers even if the master cannot be replaced first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_master: bool,
    /// Whether the answer waits for the last worker that was replaced, however long that takes to go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
    /// The command that checks the new release, in place of the master's own. The master takes it from its owner and root
    /// alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Whether the new release is not checked, although the master would.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_check: bool,
    /// The command that checks the canaries during the soak. The master takes it from its owner and root alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak_check: Option<String>,
    /// The time from the end of one check of the canaries to the next; `None` for [`SOAK_CHECK_EVERY`]. In seconds on the
    /// wire.
    ///
    /// [`SOAK_CHECK_EVERY`]: crate::SOAK_CHECK_EVERY
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_seconds")]
    pub every: Option<Duration>,
    /// How many checks of the canaries may fail before the upgrade does; `None` for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak_failures: Option<u32>,
    /// What the release is called, in the history; as [`crate::parse_label`] accepts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// One command, its arguments checked.
///
/// It serialises to its arguments alone, by name; its own name is in [`Command::info`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Command {
    /// Greets the master, which answers with its name and pid.
    Ehlo {
        /// The name of the user, for the greeting.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// Lists the commands.
    Help,
    /// Returns the versions of the master and the protocol.
    Version,
    /// Returns the state of the pool, as [`crate::Status`].
    Status,
    /// Returns the master's whole state, for bug reports.
    State,
    /// Returns the last rollouts that have ended, as [`crate::History`].
    History,
    /// Returns what the master has counted, as [`crate::Metrics`].
    Metrics,
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
    Upgrade(UpgradeRequest),
    /// Ends the soak of the running upgrade.
    UpgradeContinue,
    /// Aborts the running upgrade and rolls it back.
    UpgradeAbort,
    /// Follows the running upgrade until it ends.
    ///
    /// This command and the two above are not fields of `upgrade`: a master ignores unknown fields, so an older one
    /// would start an upgrade instead of aborting it.
    UpgradeFollow,
    /// Goes back to the previous release.
    Rollback,
    /// Sends signals to every worker; without any, lists the signals.
    Signal {
        /// In the order in which they are sent.
        #[serde(rename = "args", skip_serializing_if = "Vec::is_empty")]
        signals: Vec<SignalName>,
    },
    /// Sends signals to some workers.
    ///
    /// It is no field of `signal`: a master ignores unknown fields, so an older one would signal every worker.
    SignalOnly {
        /// In the order in which they are sent; at least one.
        #[serde(rename = "args")]
        signals: Vec<SignalName>,
        /// Which workers.
        #[serde(flatten)]
        target: Target,
    },
    /// Replaces a serving worker: a successor first.
    Replace {
        /// Which worker; not [`Target::Draining`].
        #[serde(flatten)]
        target: Target,
    },
    /// Stops the workers, then the master.
    Die {
        /// The signal for the workers; `None` for the master's graceful signal.
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<SignalName>,
    },
    /// Replaces the master itself and keeps the workers.
    Reload,
    /// Fills empty slots now, also those that wait for their backoff or were given up.
    Respawn,
    /// Returns every option with its value and where that came from, as [`crate::Options`].
    ConfigShow,
    /// Changes options of the running master.
    Config(Settings),
    /// Makes the master's log more verbose.
    Louder,
    /// Makes the master's log less verbose.
    Quieter,
    /// Opens the master's log file again, after another program has moved it away.
    Reopen,
    /// Streams events, as [`crate::Notice`], until the client disconnects.
    Events,
    /// Reports that a worker takes traffic.
    WorkerAck {
        /// The worker's pid.
        pid: i32,
    },
    /// Reports that a worker is still healthy.
    WorkerPing {
        /// The worker's pid.
        pid: i32,
        /// The worker's own name for the ping. einhorn's `state` shows the last one.
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
        let info =
            info.ok_or_else(|| RequestErrorKind::UnknownCommand { command: crate::shortened(name).into() })?;
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
