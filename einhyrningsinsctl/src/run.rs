//! Runs a command line.

use std::io::{self, IsTerminal};

use crate::cli::Cli;
use crate::commands::{Context, Typed};
use crate::error::Error;
use crate::help::prompt_grammar;
use crate::options::{Answer, Input, Mode, Options, read_line};
use crate::output::Output;
use crate::program::Program;
use crate::repl::{self, Next, Shell};
use crate::session::Session;

/// Runs the command line.
///
/// # Errors
/// The [`Error`] of the first command that failed.
pub(crate) fn run(cli: Cli) -> Result<(), Error> {
    let output = Output::of_process(cli.color);
    let options = Options::check(cli)?;
    let mut ctl = Ctl {
        session: Session::new(Program::Ctl, options.socket, options.trust),
        output,
        answer: options.answer,
    };
    match options.mode {
        Mode::Command(command) => ctl.run_one(&*command, options.answer, false),
        Mode::Script(inputs) => ctl.run_all(&inputs).map(drop),
        Mode::Prompt if io::stdin().is_terminal() && ctl.output.is_terminal() => repl::at_prompt(&mut ctl),
        Mode::Prompt => repl::from_stdin(&mut ctl),
    }
}

/// Runs commands against one master.
struct Ctl {
    session: Session,
    output: Output,
    /// How to wait for answers and show them, unless a line has options of its own.
    answer: Answer,
}

impl Ctl {
    fn run_one(&mut self, command: &dyn Typed, answer: Answer, is_line: bool) -> Result<(), Error> {
        let (session, output) = (&mut self.session, &self.output);
        Context { session, output, answer, is_line, is_failure_told: false }.run(command)
    }

    /// Runs commands in order, up to the first that fails, or up to `quit`.
    fn run_all(&mut self, inputs: &[Input]) -> Result<Next, Error> {
        for input in inputs {
            match input {
                Input::Text(text) => self.output.text(text)?,
                Input::Command(command, answer) => self.run_one(&**command, *answer, true)?,
                Input::Quit => return Ok(Next::Quit),
            }
        }
        Ok(Next::Line)
    }
}

impl Shell for Ctl {
    fn program(&self) -> Program {
        Program::Ctl
    }

    fn grammar(&self) -> clap::Command {
        prompt_grammar()
    }

    fn greet(&mut self) -> Result<(), Error> {
        repl::greet(&mut self.session, &self.output, self.answer.timeout)
    }

    fn carry_out(&mut self, line: &str) -> Result<Next, Error> {
        self.run_all(&read_line(line, self.answer)?)
    }
}
