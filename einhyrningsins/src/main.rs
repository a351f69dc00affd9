//! The program `einhyrningsins`.

use std::process::ExitCode;

fn main() -> ExitCode {
    einhyrningsins::main()
}
