//! The program `einhyrningsins`: a result becomes an exit code, and nothing else.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use einhyrningsins::cli::Args;
use einhyrningsins::config::Config;
use einhyrningsins::{Failure, run, take_over};

fn main() -> ExitCode {
    let argv: Vec<OsString> = env::args_os().collect();
    let args = Args::parse_from(&argv);
    let result = match args.reexec.takeover() {
        Some(takeover) => take_over(&takeover),
        None => Config::new(args, argv).map_err(Failure::from).and_then(run),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure { error, hint }) => {
            eprintln!("einhyrningsins: {error:#}");
            if let Some(hint) = hint {
                eprintln!("  hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
