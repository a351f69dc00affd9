//! The control client of einhyrningsins: a shell for people, and a one-shot command for deploy scripts.

mod ask;
mod cli;
mod commands;
mod complete;
#[cfg(all(test, feature = "http", feature = "top"))]
mod completions;
mod connection;
mod einhornsh;
mod error;
mod help;
#[cfg(feature = "http")]
mod http;
mod interrupt;
#[cfg(any(feature = "top", feature = "http"))]
mod live;
mod metrics;
mod mistakes;
mod options;
mod output;
mod processes;
mod program;
mod remote;
mod repl;
mod run;
mod script;
#[cfg(feature = "http")]
mod serve;
mod session;
mod socket;
mod table;
mod text;
mod trust;
mod wait;

use std::env;
use std::process::ExitCode;

use clap::Parser;

use crate::error::Error;
use crate::program::Program;

fn main() -> ExitCode {
    let program = Program::of(env::args_os().next().as_deref());
    let result = match program {
        Program::Ctl => ctl(),
        Program::Einhornsh => einhornsh(),
    };
    result.unwrap_or_else(|error| error::exit(program, &error))
}

fn ctl() -> Result<ExitCode, Error> {
    match cli::Cli::read() {
        Ok(cli) => match &cli.host {
            Some(host) => remote::run(host, cli.has_view()).map(ExitCode::from),
            None => run::run(cli).map(|()| ExitCode::SUCCESS),
        },
        Err(answer) => error::exit_with_clap(&answer),
    }
}

fn einhornsh() -> Result<ExitCode, Error> {
    match einhornsh::Cli::try_parse() {
        Ok(cli) => einhornsh::run(&cli),
        Err(answer) => error::exit_with_clap(&answer),
    }
}
