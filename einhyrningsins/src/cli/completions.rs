//! The completions of shells, in `completions/`, made by clap from the definition of the command line.
//!
//! A test compares the files with the definition; with `EINHYRNINGSINS_COMPLETIONS=write` it writes them.

use std::path::Path;
use std::{env, fs};

use clap::CommandFactory;
use clap_complete::Shell;

use super::Args;

const PROGRAM: &str = env!("CARGO_PKG_NAME");

#[test]
fn the_files_are_those_of_the_command_line() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, name) in [
        (Shell::Bash, "einhyrningsins.bash"),
        (Shell::Zsh, "_einhyrningsins"),
        (Shell::Fish, "einhyrningsins.fish"),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), PROGRAM, &mut script);
        let path = directory.join(name);
        if env::var("EINHYRNINGSINS_COMPLETIONS").is_ok_and(|value| value == "write") {
            fs::write(&path, &script).unwrap();
        }
        let hint = "EINHYRNINGSINS_COMPLETIONS=write cargo test -p einhyrningsins completions";
        let is_that = fs::read(&path).is_ok_and(|found| found == script);
        assert!(is_that, "{name} is not that of the command line; {hint} writes it");
    }
}
