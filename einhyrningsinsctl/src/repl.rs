//! Reads commands from standard input: at a prompt from people, line by line from scripts.

use std::env;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, BufRead};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use einhorn_proto as proto;
use nix::unistd::{User, getuid};
use rustyline::config::{Builder, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use crate::complete::Completion;
use crate::error::{Error, note, report};
use crate::interrupt::Interrupts;
use crate::output::Output;
use crate::program::Program;
use crate::session::Session;

/// How many lines the history keeps: years of typing, and quick to read.
const HISTORY_LINES_MAX: usize = 1000;

/// Runs the lines that this module reads.
pub(crate) trait Shell {
    /// The name that the program was called by.
    fn program(&self) -> Program;

    /// The commands and their options, for completion.
    fn grammar(&self) -> clap::Command;

    /// Connects and prints the master's greeting.
    fn greet(&mut self) -> Result<(), Error>;

    /// Runs the commands of a line, in order.
    fn carry_out(&mut self, line: &str) -> Result<Next, Error>;
}

/// What comes after a line of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next line.
    Line,
    /// The end.
    Quit,
}

/// Reads commands at a prompt until `quit` or Ctrl-D. Prints errors and continues.
///
/// # Errors
/// [`Error`] if there is no master at the start, or the terminal is lost.
pub(crate) fn at_prompt(shell: &mut dyn Shell) -> Result<(), Error> {
    // Held as long as the prompt lives, so that a Ctrl-C just after an answer does not end this program, whatever
    // the line editor does.
    let _interrupts = Interrupts::watch().map_err(Error::Watch)?;
    shell.greet()?;
    let mut prompt = Prompt::open(shell.program(), shell.grammar())?;
    loop {
        let line = match prompt.read() {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Error::Editor(error)),
        };
        match shell.carry_out(&line) {
            Ok(Next::Quit) => return Ok(()),
            Ok(Next::Line) => {}
            Err(error @ Error::Output(_)) => return Err(error),
            Err(error) => report(shell.program(), &error),
        }
    }
}

/// Runs commands from a file or a pipe, up to the first error, as `-e` does: a script that could not resize must not go
/// on to upgrade. The shell decides whether a refusal is an error.
///
/// # Errors
/// The first error, with the number of its line.
pub(crate) fn from_stdin(shell: &mut dyn Shell) -> Result<(), Error> {
    for (number, line) in (1..).zip(io::stdin().lock().lines()) {
        let line = line.map_err(Error::Input)?;
        match shell.carry_out(&line) {
            Ok(Next::Line) => {}
            Ok(Next::Quit) => break,
            Err(error) => return Err(Error::InScript { line: number, error: Box::new(error) }),
        }
    }
    Ok(())
}

/// Connects and prints the master's greeting.
///
/// # Errors
/// [`Error`] if it does not.
pub(crate) fn greet(session: &mut Session, output: &Output, timeout: Option<Duration>) -> Result<(), Error> {
    let user = User::from_uid(getuid()).ok().flatten().map(|user| user.name);
    let reply = session.request(&proto::Command::Ehlo { user }, timeout, &mut |_| Ok(()))?;
    output.text(&reply.message)?;
    output.text("\"help\" lists the commands, \"quit\" leaves")
}

/// The line editor and its history.
struct Prompt {
    program: Program,
    editor: Editor<Completion, FileHistory>,
    /// The history file; `None` if no history is kept.
    history: Option<PathBuf>,
}

impl Prompt {
    fn open(program: Program, grammar: clap::Command) -> Result<Self, Error> {
        let mut editor = Editor::with_config(config().map_err(Error::Editor)?).map_err(Error::Editor)?;
        editor.set_helper(Some(Completion::of(grammar)));
        let history = history_path(program, env::var_os("XDG_STATE_HOME"), env::var_os("HOME"));
        if let Some(path) = &history {
            if let Some(directory) = path.parent() {
                let _ = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            }
            // There is no file the first time. If it cannot be read, appending fails too, and prints why.
            let _ = editor.load_history(path);
        }
        Ok(Self { program, editor, history })
    }

    /// Reads a line and writes it to the history at once, so that a kill loses none.
    fn read(&mut self) -> Result<String, ReadlineError> {
        let line = self.editor.readline(self.program.prompt())?;
        if !line.trim().is_empty() {
            self.editor.add_history_entry(line.as_str())?;
        }
        if let Some(path) = &self.history
            && let Err(error) = self.editor.append_history(path)
        {
            note(self.program, &format!("no history is kept in {}: {error}", path.display()));
            self.history = None;
        }
        Ok(line)
    }
}

fn config() -> Result<Config, ReadlineError> {
    let builder = Builder::new().max_history_size(HISTORY_LINES_MAX)?.history_ignore_dups(true)?;
    Ok(builder.history_ignore_space(true).completion_type(CompletionType::List).build())
}

/// The place by the XDG base directory specification, which ignores relative paths.
fn history_path(program: Program, state_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let state_home = state_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home.map(PathBuf::from).filter(|path| path.is_absolute());
    let state_home = state_home.or_else(|| home.map(|home| home.join(".local/state")))?;
    Some(state_home.join("einhyrningsins").join(program.history_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_where_state_is_kept() {
        let path = |state: &str, home: &str| {
            let [state, home] = [state, home].map(|path| (!path.is_empty()).then(|| path.into()));
            history_path(Program::Ctl, state, home).map(|path| path.display().to_string())
        };
        assert_eq!(path("/s", "/h").unwrap(), "/s/einhyrningsins/history");
        assert_eq!(path("", "/h").unwrap(), "/h/.local/state/einhyrningsins/history");
        assert_eq!(path("relative", "/h").unwrap(), "/h/.local/state/einhyrningsins/history");
        assert_eq!(path("", ""), None);
    }
}
