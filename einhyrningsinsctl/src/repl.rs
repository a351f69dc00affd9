//! Commands from standard input: at a prompt for people, line by line for scripts.

use std::env;
use std::fs::DirBuilder;
use std::io::{self, BufRead};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use einhorn_proto as proto;
use nix::unistd::{User, getuid};
use rustyline::config::{Builder, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use crate::complete::Completion;
use crate::error::{Error, note, report};
use crate::interrupt::Interrupts;
use crate::options::{Answer, read_line};
use crate::output::Output;
use crate::run::{Next, run_all};
use crate::session::Session;

const PROMPT: &str = "einhyrningsins> ";

/// How many lines the history keeps; years of a person's typing, and still read in a moment.
const HISTORY_LINES_MAX: usize = 1000;

/// Reads commands at a prompt until `quit` or Ctrl-D. What fails is told, and the prompt comes back.
///
/// # Errors
/// [`Error`] if there is no master to begin with, or the terminal is lost.
pub(crate) fn at_prompt(session: &mut Session, output: &Output, answer: Answer) -> Result<(), Error> {
    // Held for as long as the prompt lives: a Ctrl-C that comes a moment after an answer is not to end us,
    // whatever the line editor makes of it.
    let _interrupts = Interrupts::watch().map_err(Error::Watch)?;
    greet(session, output, answer)?;
    let mut prompt = Prompt::open()?;
    loop {
        let line = match prompt.read() {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Error::Editor(error)),
        };
        match carry_out(session, output, &line, answer) {
            Ok(Next::Quit) => return Ok(()),
            Ok(Next::Line) => {}
            Err(error @ Error::Output(_)) => return Err(error),
            Err(error) => report(&error),
        }
    }
}

/// Carries out commands from a file or a pipe, up to the first that fails, as `-e` does: a script that
/// could not resize must not go on to upgrade.
///
/// # Errors
/// The [`Error`] of that first one.
pub(crate) fn from_stdin(session: &mut Session, output: &Output, answer: Answer) -> Result<(), Error> {
    for line in io::stdin().lock().lines() {
        let line = line.map_err(Error::Input)?;
        if let Next::Quit = carry_out(session, output, &line, answer)? {
            break;
        }
    }
    Ok(())
}

fn carry_out(session: &mut Session, output: &Output, line: &str, answer: Answer) -> Result<Next, Error> {
    run_all(session, output, &read_line(line, answer)?)
}

/// Connects, and shows what the master says of itself.
fn greet(session: &mut Session, output: &Output, answer: Answer) -> Result<(), Error> {
    let user = User::from_uid(getuid()).ok().flatten().map(|user| user.name);
    let reply = session.request(&proto::Command::Ehlo { user }, answer.timeout, &mut |_| Ok(()))?;
    output.text(&reply.message)?;
    output.text("\"help\" lists the commands, \"quit\" leaves")
}

/// The line editor and its memory.
struct Prompt {
    editor: Editor<Completion, FileHistory>,
    /// Where lines are kept; `None` if they are not.
    history: Option<PathBuf>,
}

impl Prompt {
    fn open() -> Result<Self, Error> {
        let mut editor = Editor::with_config(config().map_err(Error::Editor)?).map_err(Error::Editor)?;
        editor.set_helper(Some(Completion::new()));
        let history = history_path(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"));
        if let Some(path) = &history {
            if let Some(directory) = path.parent() {
                let _ = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            }
            // There is none the first time. What cannot be read cannot be appended to either, which is told.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// Reads a line and remembers it at once, so that a kill loses none.
    fn read(&mut self) -> Result<String, ReadlineError> {
        let line = self.editor.readline(PROMPT)?;
        if !line.trim().is_empty() {
            self.editor.add_history_entry(line.as_str())?;
        }
        if let Some(path) = &self.history
            && let Err(error) = self.editor.append_history(path)
        {
            note(&format!("einhyrningsinsctl: no history is kept in {}: {error}", path.display()));
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
fn history_path(state_home: Option<std::ffi::OsString>, home: Option<std::ffi::OsString>) -> Option<PathBuf> {
    let state_home = state_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home.map(PathBuf::from).filter(|path| path.is_absolute());
    let state_home = state_home.or_else(|| home.map(|home| home.join(".local/state")))?;
    Some(state_home.join("einhyrningsins/history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_where_state_is_kept() {
        let path = |state: &str, home: &str| {
            let [state, home] = [state, home].map(|path| (!path.is_empty()).then(|| path.into()));
            history_path(state, home).map(|path| path.display().to_string())
        };
        assert_eq!(path("/s", "/h").unwrap(), "/s/einhyrningsins/history");
        assert_eq!(path("", "/h").unwrap(), "/h/.local/state/einhyrningsins/history");
        assert_eq!(path("relative", "/h").unwrap(), "/h/.local/state/einhyrningsins/history");
        assert_eq!(path("", ""), None);
    }
}
