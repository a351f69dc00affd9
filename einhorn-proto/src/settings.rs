//! The options that `config` changes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::WORKERS_MAX;
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
    /// How many unacked workers there may be at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unacked: Option<MaxUnacked>,
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

/// How many unacked workers there may be at a time, as `--max-unacked` and `config` take it: `auto[:MAX]` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxUnacked {
    /// As many as what boots use leaves room for, and at most so many.
    Auto(u32),
    /// So many; at least 1.
    Count(u32),
}

impl FromStr for MaxUnacked {
    type Err = MaxUnackedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = |text: &str| text.parse().ok().filter(|count| (1..=WORKERS_MAX).contains(count));
        let parsed = match text.strip_prefix("auto") {
            Some("") => Some(Self::Auto(WORKERS_MAX)),
            Some(max) => max.strip_prefix(':').and_then(count).map(Self::Auto),
            None => count(text).map(Self::Count),
        };
        parsed.ok_or(MaxUnackedError)
    }
}

impl fmt::Display for MaxUnacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto(WORKERS_MAX) => f.write_str("auto"),
            Self::Auto(max) => write!(f, "auto:{max}"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// A number alone is written as a number, as in protocol version 1.
impl Serialize for MaxUnacked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto(_) => serializer.collect_str(self),
            Self::Count(count) => serializer.serialize_u32(*count),
        }
    }
}

/// The text is neither `auto[:MAX]` nor a number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a whole number from 1 to {WORKERS_MAX}, \"auto\", or \"auto:\" and the most of them")]
pub struct MaxUnackedError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_unacked_workers_is_fixed_or_follows_what_boots_use() {
        for (text, expected) in [
            ("3", MaxUnacked::Count(3)),
            ("auto", MaxUnacked::Auto(WORKERS_MAX)),
            ("auto:12", MaxUnacked::Auto(12)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for text in ["", "0", "auto:", "auto:0", "auto12", "automatic", "-1", "100000"] {
            assert_eq!(text.parse::<MaxUnacked>(), Err(MaxUnackedError), "{text}");
        }
    }
}
