//! Errors, their exit codes, and hints.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use einhorn_proto::{CommandClass, command_info, visible};
use nix::errno::Errno;

use crate::interrupt;
use crate::program::Program;
use crate::trust::{Doubt, VARIABLE};

/// What decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The master refused or failed, or the answer could not be printed.
    Failed,
    /// The master refused, because another rollout runs.
    Busy,
    /// The command line or a typed line is invalid.
    Usage,
    /// No master listens there.
    NoMaster,
    /// The connection broke or the time limit passed before the answer.
    Unanswered,
    /// The reader of our output is gone.
    OutputClosed,
    /// ssh did not reach the host.
    NoHost,
    /// The user pressed Ctrl-C.
    Interrupted,
}

impl Kind {
    /// The exit code, as the manual lists it.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoMaster => 3,
            Self::Unanswered => 4,
            Self::Busy => 5,
            Self::NoHost => 6,
            // As a shell reports death by SIGPIPE and SIGINT.
            Self::OutputClosed => 141,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The message of the master, or of a check that did not pass; and more lines to print below it.
    #[error("{message}")]
    Refused { message: String, details: Vec<String> },
    /// The master's message: another rollout runs. Whether `--wait` would wait for its end.
    #[error("{message}")]
    Busy { message: String, may_wait: bool },
    /// The master's message: only its user and root may do this.
    #[error("{message}")]
    OwnerOnly { message: String },
    #[error("{}", clap_text(.0))]
    Clap(clap::Error),
    #[error("{0}")]
    Usage(String),
    #[error("cannot read \"{text}\": a quote is not closed")]
    Quote { text: String },
    #[error("the socket path {} has {length} bytes, and the system takes at most {max}", path.display())]
    PathTooLong { path: PathBuf, length: usize, max: usize },
    #[error("cannot connect to {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the master at {} {doubt}; nothing was sent to it", path.display())]
    Doubted { path: PathBuf, doubt: Doubt },
    #[error("no answer to \"{command}\" from {} within {}s", path.display(), timeout.as_secs_f64())]
    TimedOut { command: String, path: PathBuf, timeout: Duration },
    #[error("the master at {} closed the connection before it answered \"{command}\"", path.display())]
    Closed { command: String, path: PathBuf },
    #[error("the connection to {} broke before \"{command}\" was answered", path.display())]
    Broken { command: String, path: PathBuf, source: io::Error },
    #[error("cannot read the answer to \"{command}\" from {}: {why}", path.display())]
    Garbage { command: String, path: PathBuf, why: String },
    #[error("interrupted while the master works on \"{command}\"")]
    Interrupted { command: String },
    #[error("interrupted before the master was asked")]
    InterruptedBefore,
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    #[error("cannot read the commands from standard input")]
    Input(#[source] io::Error),
    /// In a line of a script on standard input. The error prints its own cause.
    #[error("line {line}")]
    InScript { line: usize, error: Box<Error> },
    #[error("cannot edit lines on this terminal")]
    Editor(#[source] rustyline::error::ReadlineError),
    #[error("cannot run ssh")]
    Ssh(#[source] io::Error),
    #[error("ssh did not reach {host}, for the reason that it gives above")]
    Unreached { host: String },
    #[error("cannot watch for Ctrl-C")]
    Watch(#[source] Errno),
}

impl Error {
    /// That the answer is not of a type that this client knows.
    pub(crate) fn unknown_answer() -> Self {
        let message = "the master's answer is not one that this client knows; they are of different versions";
        Self::Refused { message: message.to_owned(), details: Vec::new() }
    }

    /// What decides the exit code.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Refused { .. }
            | Self::OwnerOnly { .. }
            | Self::Doubted { .. }
            | Self::File { .. }
            | Self::Input(_)
            | Self::Editor(_)
            | Self::Watch(_) => Kind::Failed,
            Self::Busy { .. } => Kind::Busy,
            Self::Clap(_) | Self::Usage(_) | Self::Quote { .. } | Self::PathTooLong { .. } => Kind::Usage,
            Self::Connect { .. } => Kind::NoMaster,
            Self::Ssh(_) | Self::Unreached { .. } => Kind::NoHost,
            Self::InScript { error, .. } => error.kind(),
            Self::TimedOut { .. } | Self::Closed { .. } | Self::Broken { .. } | Self::Garbage { .. } => {
                Kind::Unanswered
            }
            Self::Interrupted { .. } | Self::InterruptedBefore => Kind::Interrupted,
            Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe => Kind::OutputClosed,
            Self::Output(_) => Kind::Failed,
        }
    }

    /// What the user can do about it, for users of `program`.
    pub(crate) fn hint(&self, program: Program) -> Option<Cow<'static, str>> {
        match self {
            Self::Doubted { doubt, .. } => {
                let owner = doubt.owner.name();
                Some(Cow::Owned(format!(
                    "if you trust {owner}, give --trust-owner {owner} or set {VARIABLE}={owner}; a control socket is \
                     safe in a directory of the master's own, such as one in /run"
                )))
            }
            _ => self.fixed_hint(program).map(Cow::Borrowed),
        }
    }

    fn fixed_hint(&self, program: Program) -> Option<&'static str> {
        match self {
            Self::PathTooLong { .. } => Some("give the master and this client a shorter -d PATH"),
            Self::Connect { path, source } => connect_hint(path, source),
            Self::Closed { command, .. } | Self::Broken { command, .. } if is_rollout(command) => {
                Some(match program {
                    Program::Ctl => {
                        "if the master lives, what has begun continues: \"upgrade --follow\" waits for its end, \
                         \"status\" shows its progress"
                    }
                    Program::Einhornsh => {
                        "if the master lives, what has begun continues; \"status\", or \"state\" in einhorn itself, shows its progress"
                    }
                })
            }
            Self::TimedOut { command, .. }
            | Self::Closed { command, .. }
            | Self::Broken { command, .. }
            | Self::Interrupted { command } => unanswered_hint(program, command),
            Self::Garbage { .. } => Some("is this the control socket of a master?"),
            Self::OwnerOnly { .. } => Some("run this as the user of the master or as root"),
            Self::Busy { may_wait: true, .. } => {
                Some("\"upgrade --wait\" begins when that has ended; \"upgrade --follow\" only waits for it")
            }
            Self::Busy { may_wait: false, .. } => {
                Some("\"upgrade --follow\" waits for its end, \"status\" shows its progress")
            }
            _ => None,
        }
    }

    /// Whether to print nothing: the user knows already, or nobody reads.
    fn is_silent(&self) -> bool {
        match self {
            Self::InScript { error, .. } => error.is_silent(),
            Self::Interrupted { command } => !is_change(command),
            Self::InterruptedBefore => true,
            _ => self.kind() == Kind::OutputClosed,
        }
    }
}

fn connect_hint(path: &Path, source: &io::Error) -> Option<&'static str> {
    match source.kind() {
        io::ErrorKind::ConnectionRefused if path.is_dir() => {
            Some("that is a directory; the control socket is a file in one")
        }
        io::ErrorKind::ConnectionRefused if path.is_file() => {
            Some("that is a file and no socket; give the -d PATH or -c NAME that the master was started with")
        }
        io::ErrorKind::NotFound => {
            Some("is the master running? give -d PATH or -c NAME as it was started with")
        }
        io::ErrorKind::PermissionDenied => Some(
            "the control socket is open to the master's own user, and to a group if it was started so; run this as \
                 that user or as root",
        ),
        io::ErrorKind::ConnectionRefused => {
            Some("the socket was left behind and no master listens on it; start the master again")
        }
        _ => None,
    }
}

/// Whether the command is answered when a rollout has ended.
fn is_rollout(command: &str) -> bool {
    command_info(command).is_some_and(|info| info.class == CommandClass::Rollout)
}

/// Whether the command changes something, as far as this client knows.
fn is_change(command: &str) -> bool {
    let class = command_info(command).map(|info| info.class);
    matches!(class, Some(CommandClass::Change | CommandClass::Rollout))
}

/// What happens to a command whose answer did not arrive.
fn unanswered_hint(program: Program, command: &str) -> Option<&'static str> {
    if !is_change(command) {
        return None;
    }
    Some(match (program, is_rollout(command)) {
        (Program::Ctl, true) => {
            "what has begun continues in the master: \"upgrade --follow\" waits for its end, \"status\" shows its \
             progress"
        }
        (Program::Ctl, false) => "the master may have done it anyway; see \"status\"",
        (Program::Einhornsh, true) => {
            "what has begun continues in the master; \"status\", or \"state\" in einhorn itself, shows its progress"
        }
        (Program::Einhornsh, false) => {
            "the master may have done it anyway; see \"status\", or \"state\" in einhorn itself"
        }
    })
}

fn clap_text(error: &clap::Error) -> String {
    error.render().to_string().trim_end().to_owned()
}

/// Prints the error with its causes and its hint to standard error. Ignores a failure to do so.
pub(crate) fn report(program: Program, error: &Error) {
    if error.is_silent() {
        return;
    }
    if let Error::InScript { line, error } = error {
        report(program, error);
        // einhornsh says what it said in Ruby.
        if program == Program::Ctl && !error.is_silent() {
            note(program, &format!("stopped at line {line} of standard input"));
        }
        return;
    }
    if let Error::Clap(error) = error {
        let _ = print_clap(error);
        // A message of ours has no newline of its own, and the prompt would overwrite its last line.
        if !error.render().to_string().ends_with('\n') {
            let _ = writeln!(io::stderr());
        }
        return;
    }
    let mut text = with_causes(error);
    if let Error::Refused { details, .. } = error {
        details.iter().for_each(|line| text.push_str(&format!("\n  {line}")));
    }
    if let Some(hint) = error.hint(program) {
        text.push_str(&format!("\n  hint: {hint}"));
    }
    note(program, &text);
}

/// The error's message, and behind it those of its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Prints clap's message, which may quote what was typed, or the requested help.
fn print_clap(error: &clap::Error) -> io::Result<()> {
    match visible(&error.render().to_string()) {
        Cow::Owned(text) if error.use_stderr() => write!(io::stderr(), "{text}"),
        _ => error.print(),
    }
}

/// Prints a line to standard error as `program`. Ignores a failure to do so.
pub(crate) fn note(program: Program, text: &str) {
    let _ = writeln!(io::stderr(), "{}: {}", program.name(), visible(text));
}

/// Prints the error and returns its exit code.
///
/// After Ctrl-C it does not return: the calling shell must see a death by SIGINT, or it would continue the script that
/// the user wants to stop.
pub(crate) fn exit(program: Program, error: &Error) -> ExitCode {
    report(program, error);
    if error.kind() == Kind::Interrupted {
        interrupt::die();
    }
    ExitCode::from(error.kind().exit_code())
}

/// Prints clap's message, which may be the requested help, and returns the exit code.
///
/// # Errors
/// [`Error::Output`] if the help cannot be written.
pub(crate) fn exit_with_clap(error: &clap::Error) -> Result<ExitCode, Error> {
    match print_clap(error) {
        Err(source) if !error.use_stderr() => Err(Error::Output(source)),
        _ if error.use_stderr() => Ok(ExitCode::from(Kind::Usage.exit_code())),
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_socket_is_not_taken_for_one_that_was_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (path, hint) in
            [(directory.path(), "that is a directory; "), (&file, "that is a file and no socket; ")]
        {
            let error = Error::Connect { path: path.to_owned(), source: Errno::ECONNREFUSED.into() };
            assert!(error.hint(Program::Ctl).unwrap().starts_with(hint), "{}", path.display());
        }
    }

    #[test]
    fn a_connection_error_has_the_hint_for_its_cause() {
        let error = |errno: Errno| Error::Connect { path: "/s".into(), source: errno.into() };
        for (errno, hint) in [
            (Errno::EACCES, Some("the master's own user")),
            (Errno::ENOENT, Some("is the master running?")),
            (Errno::ECONNREFUSED, Some("no master listens")),
            (Errno::EPROTOTYPE, None),
        ] {
            let error = error(errno);
            assert_eq!(error.kind().exit_code(), 3);
            assert_eq!(error.hint(Program::Ctl).is_some(), hint.is_some(), "for {errno}");
            assert!(
                error.hint(Program::Ctl).unwrap_or_default().contains(hint.unwrap_or_default()),
                "for {errno}"
            );
        }
    }
}
