//! What `config` changes.

use std::time::Duration;

use serde_json::{Map, Value};

/// The quietest verbosity, in einhorn's numbers: 0 debug, 1 info, 2 error.
pub const VERBOSITY_MAX: u8 = 2;

/// Options of the master, as they are to be from now on; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// The number of workers; at least 1.
    pub number: Option<u32>,
    /// How often a slot is respawned: once in this time, which is not zero.
    pub seconds: Option<Duration>,
    /// How many new workers may start at a time; at least 1.
    pub max_unacked: Option<u32>,
    /// How many workers there may be beyond the number while an upgrade runs; at least 1.
    pub max_upgrade_additional: Option<u32>,
    /// How long a worker may take to stop before it is killed; not zero.
    pub signal_timeout: Option<Duration>,
    /// How much the log says, in einhorn's numbers, up to [`VERBOSITY_MAX`].
    pub verbosity: Option<u8>,
}

impl Settings {
    /// The names of the options, on the wire.
    pub const NAMES: [&'static str; 6] =
        ["number", "seconds", "max_unacked", "max_upgrade_additional", "signal_timeout", "verbosity"];

    pub(crate) fn write_to(&self, fields: &mut Map<String, Value>) {
        let seconds = |time: Option<Duration>| time.map(|time| Value::from(time.as_secs_f64()));
        let values = [
            self.number.map(Value::from),
            seconds(self.seconds),
            self.max_unacked.map(Value::from),
            self.max_upgrade_additional.map(Value::from),
            seconds(self.signal_timeout),
            self.verbosity.map(Value::from),
        ];
        for (name, value) in Self::NAMES.into_iter().zip(values) {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
}
