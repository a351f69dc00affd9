//! The program `einhyrningsins`: a result becomes an exit code, and nothing else.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use einhyrningsins::{CommandLine, Config, Failure, run, take_over};

fn main() -> ExitCode {
    let argv: Vec<OsString> = env::args_os().collect();
    let line = match CommandLine::read(&argv) {
        Ok(line) => line,
        Err(answer) => return answer.give(),
    };
    let program = line.program();
    let result = match line.takeover() {
        Some(takeover) => take_over(&takeover),
        None => Config::new(line, argv).map_err(Failure::from).and_then(run),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure { error, hint }) => {
            eprintln!("{program}: {error:#}");
            if let Some(hint) = hint {
                eprintln!("  hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
