//! Parsers of option values.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use einhorn_proto::{SecondsError, WORKERS_MAX, parse_seconds, parse_size};
use serde::{Deserialize, Serialize};

use crate::listen::BindSpec;

/// What `-n` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberArg {
    /// As many as there are CPUs for them.
    Auto,
    /// So many.
    Count(u32),
}

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

/// What `--log-workers` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogWorkersArg {
    /// The standard output and error of the master.
    Inherit,
    /// journald, under this name, if one is given.
    Journal(Option<String>),
}

/// The longest name of workers in the journal, in bytes. journald takes 254 with the slot. Source: this program;
/// einhyrningsins(1), `--log-workers`.
const JOURNAL_NAME_BYTES_MAX: usize = 64;

impl FromStr for LogWorkersArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = |name: &str| {
            let is_visible = name.chars().all(|c| !c.is_whitespace() && !c.is_control());
            is_visible && (1..=JOURNAL_NAME_BYTES_MAX).contains(&name.len())
        };
        match (text, text.strip_prefix("journal=")) {
            ("inherit", _) => Ok(Self::Inherit),
            ("journal", _) => Ok(Self::Journal(None)),
            (_, Some(name)) if is_good(name) => Ok(Self::Journal(Some(name.to_owned()))),
            (_, Some(_)) => Err(format!("a name has 1 to {JOURNAL_NAME_BYTES_MAX} bytes, and no blank")),
            (_, None) => Err("must be \"inherit\", \"journal\" or \"journal=NAME\"".to_owned()),
        }
    }
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

/// A command line in words, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandWords(pub Vec<OsString>);

impl FromStr for CommandWords {
    type Err = String;

    /// Splits by the quoting rules of a shell; nothing is expanded.
    fn from_str(text: &str) -> Result<Self, String> {
        let words = shell_words::split(text).map_err(|_| "a quote is not closed".to_owned())?;
        match words.first().map(String::as_str) {
            None | Some("") => Err("must name a program".to_owned()),
            Some(_) => Ok(Self(words.into_iter().map(OsString::from).collect())),
        }
    }
}

/// A size above 0, as [`parse_size`] reads it.
pub(super) fn parse_size_above_zero(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(0) => Err("must be above 0".to_owned()),
        result => result.map_err(|error| error.to_string()),
    }
}

pub(super) fn parse_number(text: &str) -> Result<NumberArg, String> {
    match text.parse() {
        _ if text == "auto" => Ok(NumberArg::Auto),
        Ok(count) if (1..=WORKERS_MAX).contains(&count) => Ok(NumberArg::Count(count)),
        _ => Err(format!("must be a whole number from 1 to {WORKERS_MAX}, or \"auto\"")),
    }
}

/// Reads a `-b`, which is text although other arguments need not be.
pub(super) fn parse_bind(text: &OsStr) -> Result<BindSpec, Box<dyn Error + Send + Sync>> {
    match text.to_str() {
        Some(text) => Ok(text.parse::<BindSpec>()?),
        None => Err("an address must be UTF-8".into()),
    }
}

/// Refuses an abstract name, which would have no owner: any user could connect and control the master.
pub(super) fn parse_socket_path(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str().as_bytes().starts_with(b"@") {
        let path = path.display();
        return Err(format!(
            "must be a path, since everybody may connect to an abstract name; for a file, give ./{path}"
        ));
    }
    Ok(path)
}

/// A mode that lets owner and group connect, and nobody else: whoever may connect controls the master.
pub(super) fn parse_control_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & 0o600 == 0o600 && mode & !0o770 == 0 && !text.starts_with('+') => Ok(mode),
        _ => Err("must be octal, such as 660; the owner needs 6, and others get 0".to_owned()),
    }
}

/// A mode that lets the owner send, at least.
pub(super) fn parse_notify_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & 0o600 == 0o600 && mode & !0o777 == 0 && !text.starts_with('+') => Ok(mode),
        _ => Err("must be octal, such as 660 or 666; the owner needs 6".to_owned()),
    }
}

pub(super) fn parse_ack_mode(text: &str) -> Result<AckModeArg, String> {
    match text {
        "manual" => Ok(AckModeArg::Manual),
        _ => parse_seconds(text).map(AckModeArg::Seconds).map_err(|error| match error {
            SecondsError::NotSeconds => {
                "must be a number of seconds, a time such as 500ms or 1m30s, or \"manual\"".to_owned()
            }
            error => error.to_string(),
        }),
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
    fn a_control_mode_is_for_owner_and_group() {
        for (text, mode) in [("600", 0o600), ("0660", 0o660), ("770", 0o770)] {
            assert_eq!(parse_control_mode(text), Ok(mode));
        }
        for text in ["", "666", "060", "1660", "rw", "+660", "680"] {
            assert!(parse_control_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_notify_mode_is_for_the_owner_at_least() {
        for (text, mode) in [("600", 0o600), ("0660", 0o660), ("666", 0o666), ("622", 0o622)] {
            assert_eq!(parse_notify_mode(text), Ok(mode));
        }
        for text in ["", "066", "1666", "rw", "+660", "680"] {
            assert!(parse_notify_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn either_nice_value_may_be_left_out() {
        assert_eq!(parse_nice("-5:10"), Ok(NiceArg { master: Some(-5), worker: Some(10) }));
        assert_eq!(parse_nice(":3"), Ok(NiceArg { master: None, worker: Some(3) }));
        assert!(parse_nice("20").is_err());
    }
}
