//! Parsers of option values.

use std::time::Duration;

use clap::ValueEnum;
use einhorn_proto::parse_seconds;
use serde::{Deserialize, Serialize};

/// What `--ack-mode` takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AckModeArg {
    /// After this long alive.
    Seconds(Duration),
    /// When the worker acks.
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

/// A number of bytes above 0, with K, M or G behind it for powers of 1024.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong =
        || "must be a number of bytes above 0, or one with K, M or G behind it, such as 512M".to_owned();
    let (digits, shift) = match text.char_indices().next_back() {
        Some((end, unit)) if unit.is_ascii_alphabetic() => match unit.to_ascii_uppercase() {
            'K' => (&text[..end], 10),
            'M' => (&text[..end], 20),
            'G' => (&text[..end], 30),
            _ => return Err(wrong()),
        },
        _ => (text, 0),
    };
    let number =
        digits.parse::<u64>().ok().filter(|number| *number > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
    number.and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)
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

pub fn parse_nice(text: &str) -> Result<NiceArg, String> {
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
