//! Commands from standard input: at a prompt for people, line by line for scripts.

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

/// How many lines the history keeps; years of a person's typing, and still read in a moment.
const HISTORY_LINES_MAX: usize = 1000;

/// Carries out the lines that are read here.
pub(crate) trait Shell {
    /// What it was called as.
    fn program(&self) -> Program;

    /// What there is to type, for completion: each subcommand, its options, and none else.
    fn grammar(&self) -> clap::Command;

    /// Connects, and shows what the master says of itself.
    fn greet(&mut self) -> Result<(), Error>;

    /// Carries out the commands of a line, in order.
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

/// Reads commands at a prompt until `quit` or Ctrl-D. What fails is told, and the prompt comes back.
///
/// # Errors
/// [`Error`] if there is no master to begin with, or the terminal is lost.
pub(crate) fn at_prompt(shell: &mut dyn Shell) -> Result<(), Error> {
    // Held for as long as the prompt lives: a Ctrl-C that comes a moment after an answer is not to end us,
    // whatever the line editor makes of it.
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

/// Carries out commands from a file or a pipe, up to the first error, as `-e` does: a script that could not
/// resize must not go on to upgrade. Whether a refusal is an error is for the shell to say.
///
/// # Errors
/// That first one.
pub(crate) fn from_stdin(shell: &mut dyn Shell) -> Result<(), Error> {
    for line in io::stdin().lock().lines() {
        let line = line.map_err(Error::Input)?;
        if let Next::Quit = shell.carry_out(&line)? {
            break;
        }
    }
    Ok(())
}

/// Connects, and shows what the master says of itself.
///
/// # Errors
/// [`Error`] if it does not.
pub(crate) fn greet(session: &mut Session, output: &Output, timeout: Option<Duration>) -> Result<(), Error> {
    let user = User::from_uid(getuid()).ok().flatten().map(|user| user.name);
    let reply = session.request(&proto::Command::Ehlo { user }, timeout, &mut |_| Ok(()))?;
    output.text(&reply.message)?;
    output.text("\"help\" lists the commands, \"quit\" leaves")
}

/// The line editor and its memory.
struct Prompt {
    program: Program,
    editor: Editor<Completion, FileHistory>,
    /// Where lines are kept; `None` if they are not.
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
            // There is none the first time. What cannot be read cannot be appended to either, which is told.
            let _ = editor.load_history(path);
        }
        Ok(Self { program, editor, history })
    }

    /// Reads a line and remembers it at once, so that a kill loses none.
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

/// Where the XDG base directory specification puts it, which has relative paths ignored.
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
