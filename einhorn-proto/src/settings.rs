//! The options that `config` changes.

use std::time::Duration;

use serde::Serialize;

use crate::command::as_seconds;

/// The quietest verbosity, in einhorn's numbers: 0 debug, 1 info, 2 error.
pub const VERBOSITY_MAX: u8 = 2;

/// New values for options of a running master. `None` leaves an option as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// The number of workers; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// The shortest time between two spawns of one slot; above 0.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_seconds")]
    pub seconds: Option<Duration>,
    /// How many unacked workers there may be at a time; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unacked: Option<u32>,
    /// How many workers beyond `number` may live during an upgrade; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_upgrade_additional: Option<u32>,
    /// How long a worker may take to stop before it is killed; above 0.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_seconds")]
    pub signal_timeout: Option<Duration>,
    /// The verbosity of the log, in einhorn's numbers, up to [`VERBOSITY_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verbosity: Option<u8>,
}

impl Settings {
    /// The names of the options, on the wire.
    pub const NAMES: [&'static str; 6] =
        ["number", "seconds", "max_unacked", "max_upgrade_additional", "signal_timeout", "verbosity"];
}
