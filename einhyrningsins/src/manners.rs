//! What depends on the name that the master was called by: words, limits, the meaning of signals.
//!
//! The defaults are ours; `einhorn/` has einhorn's. Callers ask a `Manners` object, and never which one it is.

use std::ffi::OsString;
use std::fmt::Debug;

use einhorn_proto::{COMMANDS, Command, CommandInfo, LastReply, Notice, RequestErrorKind, Severity, Status};
use einhyrningsins_supervisor::{Policy, PoolCommand, Stop, UpgradePlan, WorkerDetail};
use nix::sys::signal::Signal;

use crate::cli::{Answer, Args};
use crate::config::{CommandLine, Control};
use crate::forms::{core_signal, severity_name};
use crate::sys::pid_file::PidForm;

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the answer to `state` is made from.
#[derive(Debug)]
pub struct Facts<'a> {
    pub status: &'a Status,
    pub details: &'a [WorkerDetail],
    pub policy: &'a Policy,
    pub control: &'a Control,
    pub verbosity: Severity,
}

pub trait Manners: Debug {
    /// The program's name in messages.
    fn program(&self) -> &'static str {
        "einhyrningsins"
    }

    /// Reads a command line, the name of the program first.
    ///
    /// # Errors
    /// The [`Answer`] to one that asks for words alone, such as `--help`, or that is wrong.
    fn read(&self, argv: &[OsString]) -> Result<CommandLine, Answer> {
        Args::read(argv).map(CommandLine::from)
    }

    /// An event, as a line of progress.
    fn notice(&self, notice: &Notice) -> String {
        notice.to_string()
    }

    /// The answer to `ehlo`; `name` is in parentheses, or empty.
    fn welcome(&self, user: &str, name: &str) -> String {
        let pid = std::process::id();
        format!(
            "Welcome, {user}! You are speaking to the einhyrningsins master, process {pid}{name}.\nThis is \
             einhyrningsins {VERSION}."
        )
    }

    /// The answer to `help`.
    fn help(&self) -> String {
        list(CommandInfo::is_typed)
    }

    /// The message beside the data of `state`.
    fn state(&self, _facts: &Facts<'_>) -> String {
        "everything is in \"data\"".to_owned()
    }

    /// The answer to a line that is not a request.
    fn bad_request(&self, kind: &RequestErrorKind) -> String {
        kind.to_string()
    }

    /// The answer to a signal name that does not exist.
    fn unknown_signal(&self, name: &str) -> String {
        format!("invalid signal: \"{name}\"; give names such as USR1, or \"signal\" alone to list them")
    }

    /// Why these manners refuse a command that the core would accept.
    fn refusal(&self, _command: &Command) -> Option<String> {
        None
    }

    /// The first line of an answer to an upgrade that begins.
    fn opening(&self, _plan: &UpgradePlan) -> Option<&'static str> {
        None
    }

    /// Whether a client gets progress, not only the last line.
    fn has_progress(&self, _has_id: bool, _command: &str) -> bool {
        true
    }

    /// The last line of an answer to `command`.
    fn last_words(&self, _command: &str, answer: &LastReply) -> String {
        answer.to_string()
    }

    /// One step louder, or quieter.
    fn next_verbosity(&self, verbosity: Severity, louder: bool) -> Severity {
        match (verbosity, louder) {
            (Severity::Error, true) | (Severity::Info, false) => Severity::Warn,
            (Severity::Warn, true) | (Severity::Debug, false) => Severity::Info,
            (Severity::Info | Severity::Debug, true) => Severity::Debug,
            (Severity::Warn | Severity::Error, false) => Severity::Error,
        }
    }

    /// The answer to a change of the verbosity.
    fn verbosity_set(&self, verbosity: Severity) -> String {
        format!("verbosity set to {}", severity_name(verbosity))
    }

    /// The command that a signal to the master stands for; `why` describes it for the log.
    fn meaning(&self, signal: Signal, why: &str, _policy: &Policy) -> Option<PoolCommand> {
        let stop = |how| PoolCommand::Stop { how, why: why.to_owned() };
        Some(match signal {
            Signal::SIGINT => stop(Stop::Escalating),
            // In other masters it upgrades.
            Signal::SIGUSR2 => {
                PoolCommand::Stop { how: Stop::Gracefully, why: format!("{why}; SIGHUP would upgrade") }
            }
            Signal::SIGTERM => stop(Stop::Gracefully),
            Signal::SIGQUIT => stop(Stop::AtOnce(core_signal(signal))),
            Signal::SIGHUP => PoolCommand::Hangup,
            Signal::SIGTTIN => PoolCommand::Inc(1),
            Signal::SIGTTOU => PoolCommand::Dec(1),
            Signal::SIGUSR1 => PoolCommand::Signal(vec![core_signal(signal)]),
            _ => return None,
        })
    }

    /// Whether the log names workers that have run for a while without an ack.
    fn names_missing_acks(&self) -> bool {
        true
    }

    /// Whether USR1 to the master goes only to workers that expect it, and not to those that it would kill.
    fn spares_workers_from_usr1(&self) -> bool {
        true
    }

    /// Whether every upgrade begins with a handover.
    fn always_hands_over(&self) -> bool {
        false
    }

    /// The arguments that follow the options of a handover.
    fn rest_of_line(&self, argv: &[OsString], _command: &[OsString]) -> Vec<OsString> {
        argv.iter().skip(1).cloned().collect()
    }

    /// Whether the lock file is held for the life of the master, and not only while it makes the control socket.
    fn keeps_lock_file(&self) -> bool {
        true
    }

    fn pid_form(&self) -> PidForm {
        PidForm::Line
    }
}

/// Our own manners.
#[derive(Debug)]
pub struct Native;

impl Manners for Native {}

/// A list of commands, one per line.
pub fn list(is_listed: impl Fn(&CommandInfo) -> bool) -> String {
    let lines = COMMANDS.iter().filter(|info| is_listed(info)).map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn louder_and_quieter_stop_at_the_ends() {
        let step = |verbosity, louder| Native.next_verbosity(verbosity, louder);
        assert_eq!(step(Severity::Info, true), Severity::Debug);
        assert_eq!(step(Severity::Debug, true), Severity::Debug);
        let mut verbosity = Severity::Debug;
        for expected in [Severity::Info, Severity::Warn, Severity::Error, Severity::Error] {
            verbosity = step(verbosity, false);
            assert_eq!(verbosity, expected);
        }
    }
}
