//! Values of options, and what they may be.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What `--ack-mode` takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AckModeArg {
    /// After this long alive.
    Seconds(Duration),
    /// When the worker says so.
    Manual,
}

/// What `--nice` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NiceArg {
    /// Of the master; `None` to leave it.
    pub master: Option<i32>,
    /// Of the workers; `None` for the master's.
    pub worker: Option<i32>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
    /// A line for people, in einhorn's form and words.
    #[value(skip)]
    Einhorn,
}

/// A decimal number of seconds, 0 or more.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "must be a number of seconds, 0 or more".to_owned())
}

pub(super) fn parse_seconds_above_zero(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("seconds must be > 0".to_owned()),
        seconds => Ok(seconds),
    }
}

pub(super) fn parse_ack_mode(text: &str) -> Result<AckModeArg, String> {
    match text {
        "manual" => Ok(AckModeArg::Manual),
        _ => parse_seconds(text)
            .map(AckModeArg::Seconds)
            .map_err(|_| "must be a number of seconds or \"manual\"".to_owned()),
    }
}

pub(super) fn parse_variable(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must be the name of a variable".to_owned()),
        _ if text.contains(['=', '\0']) => {
            Err("must be the name of a variable, without its value".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        _ if text.contains(['/', '\0']) => {
            Err("becomes part of a file name, so it cannot have a \"/\"".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn parse_nice(text: &str) -> Result<NiceArg, String> {
    let value = |text: &str| match text {
        "" => Ok(None),
        _ => match text.parse::<i32>() {
            Ok(nice) if (-20..=19).contains(&nice) => Ok(Some(nice)),
            _ => Err(format!("\"{text}\" is no nice value: a whole number from -20 to 19")),
        },
    };
    let (master, worker) = text.split_once(':').unwrap_or((text, ""));
    Ok(NiceArg { master: value(master)?, worker: value(worker)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_nice_value_may_be_left_out() {
        assert_eq!(parse_nice("-5:10"), Ok(NiceArg { master: Some(-5), worker: Some(10) }));
        assert_eq!(parse_nice(":3"), Ok(NiceArg { master: None, worker: Some(3) }));
        assert!(parse_nice("20").is_err());
    }
}
