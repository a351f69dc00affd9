//! The form of a line: text with what a reader of this kind needs beside the message, einhorn's form, or JSON.

use std::env;
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::time::SystemTime;

use einhorn_proto::{Notice, Severity, visible_json};
use nix::sys::stat::fstat;
use serde::Serialize;

use super::PROGRAM;
use super::syslog::priority;
use crate::cli::LogFormat;
use crate::forms::severity_name;
use crate::sys::local_time::time_of_day;

/// What a line of text has beside its message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Dress {
    /// Time, name, pid and level.
    #[default]
    Full,
    /// A priority, as in `sd-daemon(3)`.
    Journal,
    /// The time of day, and the level.
    Terminal { has_colours: bool },
}

/// A log line in JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    level: &'a str,
    pid: u32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Notice>,
}

/// A line of the log, before it has its form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) severity: Severity,
    /// Without control characters.
    pub(super) message: &'a str,
    pub(super) notice: Option<&'a Notice>,
    pub(super) pid: u32,
}

impl Line<'_> {
    /// Appends the line, with its newline, to `text`.
    pub(super) fn write(self, text: &mut String, format: LogFormat, dress: Dress) -> fmt::Result {
        let Self { severity, message, notice, pid } = self;
        let time = || humantime::format_rfc3339_millis(SystemTime::now());
        let level = match severity {
            Severity::Error => "ERROR",
            Severity::Warn => "WARN",
            Severity::Info => "INFO",
            Severity::Debug => "DEBUG",
        };
        match format {
            LogFormat::Text => match dress {
                Dress::Journal => writeln!(text, "<{}>{message}", priority(severity) as u8),
                Dress::Terminal { has_colours } => {
                    let colour = if has_colours { colour_of(severity) } else { "" };
                    let end = if colour.is_empty() { "" } else { "\x1b[0m" };
                    writeln!(text, "{} {colour}{level}{end}: {message}", time_of_day())
                }
                Dress::Full => writeln!(text, "{} {PROGRAM}[{pid}] {level}: {message}", time()),
            },
            LogFormat::Einhorn => writeln!(text, "[MASTER {pid}] {level}: {message}"),
            LogFormat::Json => {
                let (time, message) = (time().to_string(), message.to_owned());
                let json = JsonLine { time, level: severity_name(severity), pid, message, data: notice };
                // It contains nothing that JSON cannot express.
                let json = serde_json::to_string(&json).unwrap_or_default();
                writeln!(text, "{}", visible_json(&json))
            }
        }
    }
}

impl Dress {
    pub(super) fn of_stderr(has_colours: Option<bool>) -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        if is_journal(env::var("JOURNAL_STREAM").ok().as_deref()) {
            Self::Journal
        } else if io::stderr().is_terminal() {
            let may_have = || !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb");
            Self::Terminal { has_colours: has_colours.unwrap_or_else(may_have) }
        } else {
            Self::Full
        }
    }
}

/// Whether standard error is the stream that `JOURNAL_STREAM` names, by device and inode. A process that has only
/// inherited the variable may have another. Source: `systemd.exec(5)`.
fn is_journal(stream: Option<&str>) -> bool {
    let named = stream.and_then(|stream| stream.split_once(':'));
    let named = named.and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    fstat(io::stderr()).is_ok_and(|found| named == Some((found.st_dev, found.st_ino)))
}

fn colour_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "\x1b[31m",
        Severity::Warn => "\x1b[33m",
        Severity::Info => "",
        Severity::Debug => "\x1b[2m",
    }
}
