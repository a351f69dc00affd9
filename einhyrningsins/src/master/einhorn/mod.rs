//! einhorn's words: what its clients and the scripts around them expect to read.
//!
//! They are used where the master was called as einhorn, and where a request came in escaped YAML, which nobody
//! but einhorn's clients sends. Facts beside them, `ok` and `data`, are the same as ever.

mod state;

use einhorn_proto::{Command, Language, Notice, Outcome, RequestErrorKind, Severity, UpgradeReport};
use einhyrningsins_supervisor::ReplyData;
use serde::{Deserialize, Serialize};

use super::answer::{VERSION, help};
use super::{Asker, Master};
use crate::config::Dialect;
use crate::dialect;

/// The most workers that `set_workers` takes in these words. Source: einhorn's own limit.
pub(super) const SET_WORKERS_MAX: u32 = 1000;

/// In whose words somebody is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Words {
    /// Our own.
    Ours,
    /// einhorn's, to this.
    Einhorns(Question),
}

/// What was asked, as far as the last words of the answer depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// `inc`.
    Inc,
    /// `dec`.
    Dec,
    /// `set_workers`.
    SetWorkers,
    /// `upgrade`, `upgrade_fleet`.
    Upgrade,
    /// `reload`.
    Reload,
    /// `die`.
    Die,
    /// Anything to which einhorn has no words of its own.
    Other,
}

impl Question {
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Inc { .. } => Self::Inc,
            Command::Dec { .. } => Self::Dec,
            Command::SetWorkers { .. } => Self::SetWorkers,
            Command::Upgrade { .. } => Self::Upgrade,
            Command::Reload => Self::Reload,
            Command::Die { .. } => Self::Die,
            _ => Self::Other,
        }
    }

    /// The last words, where ours would be `message`.
    fn last_words(self, ok: bool, message: String, data: Option<&ReplyData>) -> String {
        match (self, data) {
            (Self::Upgrade, Some(ReplyData::Upgrade(report))) => upgrade_end(report),
            // It failed before there was anything to report.
            (Self::Upgrade, None) => match message.strip_prefix("upgrade failed") {
                Some(why) => format!("Upgrade failed{why}"),
                None => message,
            },
            (Self::Inc | Self::Dec | Self::SetWorkers, Some(ReplyData::Resized(resized))) => {
                self.resized(resized.from, resized.to)
            }
            (Self::Reload, _) if ok => "Reloading, as commanded".to_owned(),
            (Self::Die, _) if ok => format!("Einhorn is going down! ({message})"),
            _ => message,
        }
    }

    fn resized(self, from: u32, to: u32) -> String {
        match self {
            Self::SetWorkers if from == to => String::new(),
            Self::SetWorkers => {
                let how =
                    if to > from { "spin up additional workers" } else { "gracefully terminate workers" };
                format!("Altering worker count, {from} -> {to}. Will {how}.")
            }
            _ => {
                let how = if to > from { "Incrementing" } else { "Decrementing" };
                format!("{how} number of workers from {from} -> {to}")
            }
        }
    }
}

/// How an upgrade ended. einhorn says nothing of one that failed, and its client waits for ever.
fn upgrade_end(report: &UpgradeReport) -> String {
    let reason = report.reason.as_deref().unwrap_or("for no known reason");
    match report.outcome {
        Outcome::Done => "Upgrade done".to_owned(),
        Outcome::RolledBack => format!("Upgrade failed: {reason}; the release before serves"),
        Outcome::Failed => format!("Upgrade failed: {reason}; so did the way back"),
    }
}

/// What is said at once to an upgrade that is not refused.
pub(super) fn opening(fleet: bool) -> &'static str {
    if fleet { "Upgrading fleet, as commanded" } else { "Upgrading smoothly, as commanded" }
}

/// What is wrong with a request.
pub(super) fn request_error(kind: &RequestErrorKind) -> String {
    match kind {
        RequestErrorKind::NotJson(_) | RequestErrorKind::NotYaml(_) | RequestErrorKind::NotAnObject => {
            "Could not parse command".to_owned()
        }
        RequestErrorKind::NoCommand => {
            "No \"command\" parameter provided; not sure what you want me to do.".to_owned()
        }
        RequestErrorKind::UnknownCommand { command } => {
            format!("Unrecognized command: \"{command}\"\n\n{}", help(true))
        }
        other => other.to_string(),
    }
}

/// Why `dec` takes nothing from one worker.
pub(super) fn last_worker_stays() -> String {
    format!(
        "Can't decrease number of workers (already at 1).  Run kill {} if you really want to kill einhorn.",
        std::process::id()
    )
}

/// einhorn's number for a verbosity. It has none between the last two.
pub(super) fn verbosity_number(verbosity: Severity) -> u8 {
    match verbosity {
        Severity::Debug => 0,
        Severity::Info => 1,
        Severity::Warn | Severity::Error => 2,
    }
}

/// The verbosity that has the number; the quietest for those beyond.
pub(super) fn verbosity_from(number: u8) -> Severity {
    match number {
        0 => Severity::Debug,
        1 => Severity::Info,
        _ => Severity::Error,
    }
}

/// One of einhorn's steps louder, or quieter.
pub(super) fn next_verbosity(verbosity: Severity, louder: bool) -> Severity {
    match (verbosity, louder) {
        (Severity::Error | Severity::Warn, true) | (Severity::Debug, false) => Severity::Info,
        (Severity::Info | Severity::Debug, true) => Severity::Debug,
        (Severity::Info | Severity::Warn | Severity::Error, false) => Severity::Error,
    }
}

impl Asker {
    pub(super) fn is_einhorns(&self) -> bool {
        self.words != Words::Ours
    }

    /// Whether it hears more than the last line. In einhorn's words only who gave an id does, and never of a
    /// reload.
    pub(super) fn waits(&self) -> bool {
        match self.words {
            Words::Ours => true,
            Words::Einhorns(question) => self.id.is_some() && question != Question::Reload,
        }
    }

    /// What is said to it of something that happened: the line of the log, in its words.
    pub(super) fn words_for(&self, notice: &Notice) -> String {
        let einhorns = self.is_einhorns().then(|| dialect::words(notice)).flatten();
        einhorns.unwrap_or_else(|| notice.to_string())
    }

    pub(super) fn last_words(&self, ok: bool, message: String, data: Option<&ReplyData>) -> String {
        match self.words {
            Words::Ours => message,
            Words::Einhorns(question) => question.last_words(ok, message, data),
        }
    }
}

impl Master {
    /// In whose words a request is answered.
    pub(super) fn words(&self, language: Language, question: Question) -> Words {
        match (self.identity.dialect, language) {
            (Dialect::Native, Language::Json) => Words::Ours,
            (Dialect::Einhorn, _) | (_, Language::Yaml) => Words::Einhorns(question),
        }
    }

    pub(super) fn einhorns_welcome(&self, user: &str) -> String {
        let name = self.control.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        let pid = std::process::id();
        format!(
            "Welcome, {user}! You are speaking to Einhorn Master Process {pid}{name}.\nThis is Einhorn {VERSION}."
        )
    }
}

#[cfg(test)]
mod tests;
