//! einhorn's dialect, which its clients and scripts expect.
//!
//! A master uses it if it was called as einhorn. A client gets it if its request was in escaped YAML, which only
//! einhorn's clients send. Only words differ: `ok` and `data` are the same in both dialects.

mod command_line;
mod state;
mod words;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use einhorn_proto::{
    Command, CommandInfo, Done, Language, LastReply, Notice, Outcome, Refusal, RequestErrorKind, Resized,
    Severity, UpgradeReport,
};
use einhyrningsins_supervisor::{Policy, PoolCommand, Stop, UpgradePlan};
use nix::sys::signal::Signal;

use crate::cli::Answer;
use crate::config::{CommandLine, Dialect};
use crate::forms::core_signal;
use crate::manners::{Facts, Manners, Native, VERSION, list};
use crate::sys::pid_file::PidForm;

pub use words::words;

/// The limit of `set_workers`. Source: einhorn.
const SET_WORKERS_MAX: u32 = 1000;

/// einhorn's manners.
#[derive(Debug)]
pub struct Einhorn;

/// The file name that makes this program einhorn.
const PROGRAM: &str = "einhorn";

impl Dialect {
    /// The dialect of a program that was called by the first word of `argv`.
    pub fn called_as(argv: &[OsString]) -> Self {
        let name = argv.first().and_then(|name| Path::new(name).file_name());
        if name == Some(OsStr::new(PROGRAM)) { Self::Einhorn } else { Self::Native }
    }

    /// The manners that go with it.
    pub fn manners(self) -> &'static dyn Manners {
        match self {
            Self::Native => &Native,
            Self::Einhorn => &Einhorn,
        }
    }

    /// The dialect of the answer to a line in `language`, from a master of this one.
    pub fn of_answer(self, language: Language) -> Self {
        match language {
            Language::Json => self,
            Language::Yaml => Self::Einhorn,
        }
    }
}

impl Manners for Einhorn {
    fn program(&self) -> &'static str {
        PROGRAM
    }

    fn read(&self, argv: &[OsString]) -> Result<CommandLine, Answer> {
        command_line::Args::read(argv).map(CommandLine::from)
    }

    fn notice(&self, notice: &Notice) -> String {
        words(notice).unwrap_or_else(|| Native.notice(notice))
    }

    fn welcome(&self, user: &str, name: &str) -> String {
        let pid = std::process::id();
        format!(
            "Welcome, {user}! You are speaking to Einhorn Master Process {pid}{name}.\nThis is Einhorn {VERSION}."
        )
    }

    fn help(&self) -> String {
        list(CommandInfo::is_typed)
    }

    fn state(&self, facts: &Facts<'_>) -> String {
        state::text(facts)
    }

    fn bad_request(&self, kind: &RequestErrorKind) -> String {
        match kind {
            RequestErrorKind::NotJson(_) | RequestErrorKind::NotYaml(_) | RequestErrorKind::NotAnObject => {
                "Could not parse command".to_owned()
            }
            RequestErrorKind::NoCommand => {
                "No \"command\" parameter provided; not sure what you want me to do.".to_owned()
            }
            RequestErrorKind::UnknownCommand { command } => {
                format!("Unrecognized command: \"{command}\"\n\n{}", self.help())
            }
            other => other.to_string(),
        }
    }

    fn unknown_signal(&self, name: &str) -> String {
        format!("Invalid signal: \"{name}\"")
    }

    fn refusal(&self, command: &Command) -> Option<String> {
        match command {
            Command::SetWorkers { count } if *count > SET_WORKERS_MAX => {
                Some(format!("set_workers: count must be a number from 1 to {SET_WORKERS_MAX}, not {count}"))
            }
            Command::ConfigShow => Some("config_show: not in einhorn's place".to_owned()),
            _ => None,
        }
    }

    fn opening(&self, plan: &UpgradePlan) -> Option<&'static str> {
        Some(if plan.is_fleet { "Upgrading fleet, as commanded" } else { "Upgrading smoothly, as commanded" })
    }

    /// Only a client that gave an id does, and never for a reload.
    fn has_progress(&self, has_id: bool, command: &str) -> bool {
        has_id && command != "reload"
    }

    fn last_words(&self, command: &str, answer: &LastReply) -> String {
        match (command, answer) {
            (_, LastReply::Upgrade { report, .. }) if is_upgrade(command) => upgrade_end(report),
            (_, LastReply::Refused(Refusal::MasterExits)) if is_upgrade(command) => {
                "Upgrade failed: the master exits".to_owned()
            }
            (_, LastReply::Refused(Refusal::LastWorker)) => format!(
                "Can't decrease number of workers (already at 1).  Run kill {} if you really want to kill einhorn.",
                std::process::id()
            ),
            (_, LastReply::Refused(Refusal::NotBegun(reason) | Refusal::MasterKept(reason))) => {
                format!("Upgrade failed before it began, and nothing was changed: {reason}")
            }
            ("inc" | "dec" | "set_workers", LastReply::Done(Done::Resized(resized))) => {
                resize_end(command, resized)
            }
            (_, LastReply::Done(Done::Reloaded(_))) => "Reloading, as commanded".to_owned(),
            ("die", LastReply::Done(_)) => format!("Einhorn is going down! ({answer})"),
            _ => answer.to_string(),
        }
    }

    fn next_verbosity(&self, verbosity: Severity, louder: bool) -> Severity {
        match (verbosity, louder) {
            (Severity::Error | Severity::Warn, true) | (Severity::Debug, false) => Severity::Info,
            (Severity::Info | Severity::Debug, true) => Severity::Debug,
            (Severity::Info | Severity::Warn | Severity::Error, false) => Severity::Error,
        }
    }

    fn verbosity_set(&self, verbosity: Severity) -> String {
        format!("Verbosity set to {}", verbosity_number(verbosity))
    }

    fn meaning(&self, signal: Signal, why: &str, policy: &Policy) -> Option<PoolCommand> {
        let stop = |how| Some(PoolCommand::Stop { how, why: why.to_owned() });
        match signal {
            Signal::SIGINT | Signal::SIGUSR2 => {
                stop(policy.graceful_signal.map_or(Stop::Gracefully, Stop::Repeating))
            }
            Signal::SIGTERM => stop(Stop::Repeating(core_signal(signal))),
            Signal::SIGALRM => Some(PoolCommand::Upgrade(UpgradePlan::default())),
            signal => Native.meaning(signal, why, policy),
        }
    }

    fn names_missing_acks(&self) -> bool {
        false
    }

    fn spares_workers_from_usr1(&self) -> bool {
        false
    }

    fn always_hands_over(&self) -> bool {
        true
    }

    fn rest_of_line(&self, _argv: &[OsString], command: &[OsString]) -> Vec<OsString> {
        ["--".into()].into_iter().chain(command.iter().cloned()).collect()
    }

    /// Masters without a name share the default lock file, even if their sockets differ.
    fn keeps_lock_file(&self) -> bool {
        false
    }

    fn pid_form(&self) -> PidForm {
        PidForm::Bare
    }
}

fn is_upgrade(command: &str) -> bool {
    matches!(command, "upgrade" | "upgrade_fleet")
}

fn resize_end(command: &str, &Resized { from, to }: &Resized) -> String {
    match command {
        "set_workers" if from == to => String::new(),
        "set_workers" => {
            let how = if to > from { "spin up additional workers" } else { "gracefully terminate workers" };
            format!("Altering worker count, {from} -> {to}. Will {how}.")
        }
        _ => {
            let how = if to > from { "Incrementing" } else { "Decrementing" };
            format!("{how} number of workers from {from} -> {to}")
        }
    }
}

/// How an upgrade ended. einhorn itself reports nothing if it failed, and its client waits forever.
fn upgrade_end(report: &UpgradeReport) -> String {
    let reason = report.reason.as_deref().unwrap_or("for no known reason");
    match report.outcome {
        Outcome::Done => "Upgrade done".to_owned(),
        Outcome::RolledBack => format!("Upgrade failed: {reason}; the release before serves"),
        Outcome::Failed => format!("Upgrade failed: {reason}; the rollback failed too"),
    }
}

/// einhorn's number for a verbosity. It has none between the last two.
fn verbosity_number(verbosity: Severity) -> u8 {
    match verbosity {
        Severity::Debug => 0,
        Severity::Info => 1,
        Severity::Warn | Severity::Error => 2,
    }
}

/// The verbosity that has the number; the quietest for those beyond.
pub fn verbosity_from(number: u8) -> Severity {
    match number {
        0 => Severity::Debug,
        1 => Severity::Info,
        _ => Severity::Error,
    }
}

#[cfg(test)]
mod tests;
