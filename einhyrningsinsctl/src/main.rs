//! The control client of einhyrningsins: a shell for people, and a one-shot command for deploy scripts.

mod cli;
mod commands;
mod complete;
mod connection;
mod error;
mod help;
mod interrupt;
mod options;
mod output;
mod repl;
mod run;
mod script;
mod session;
mod socket;
mod table;
mod text;
mod wait;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return error::exit_with_clap(&answer),
    };
    match run::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::exit(&error),
    }
}
