//! From what was typed to what is done.

use std::io::{self, IsTerminal};

use crate::cli::Cli;
use crate::commands;
use crate::error::Error;
use crate::options::{Input, Mode, Options};
use crate::output::Output;
use crate::repl;
use crate::session::Session;

/// Carries the command line out.
///
/// # Errors
/// The [`Error`] of the first command that failed.
pub(crate) fn run(cli: Cli) -> Result<(), Error> {
    let options = Options::check(cli)?;
    let output = Output::of_process();
    let mut session = Session::new(options.socket);
    match options.mode {
        Mode::Once(inputs) => run_all(&mut session, &output, &inputs).map(drop),
        Mode::Prompt if io::stdin().is_terminal() && output.is_terminal() => {
            repl::at_prompt(&mut session, &output, options.answer)
        }
        Mode::Prompt => repl::from_stdin(&mut session, &output, options.answer),
    }
}

/// What comes after a line of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next line.
    Line,
    /// The end.
    Quit,
}

/// Carries commands out in order, up to the first that fails, or up to `quit`.
pub(crate) fn run_all(session: &mut Session, output: &Output, inputs: &[Input]) -> Result<Next, Error> {
    for input in inputs {
        match input {
            Input::Text(text) => output.text(text)?,
            Input::Command(command, answer) => commands::run(session, output, command, *answer)?,
            Input::Quit => return Ok(Next::Quit),
        }
    }
    Ok(Next::Line)
}
