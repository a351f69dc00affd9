//! The programs as people have them: packages, real systemd, containers, several hosts, a browser, tutorials.
//!
//! `tests/run --world` runs the parts that the table `parts` beside this file lists, one after the other; `cargo test -p
//! tests --test world -- systemd::` runs one of them. Each part is a module of its name.

use std::num::NonZero;
use std::process::ExitCode;

mod browser;
mod containers;
mod hosts;
mod machine;
mod made;
mod network;
mod packages;
mod roots;
mod systemd;
mod tutorials;

/// Machines and containers mostly wait for one another, but each of them starts a whole system.
const AT_ONCE: NonZero<usize> = NonZero::new(2).expect("not zero");

fn main() -> ExitCode {
    let parts = [
        packages::trials(),
        browser::trials(),
        systemd::trials(),
        containers::trials(),
        hosts::trials(),
        tutorials::trials(),
    ];
    let trials: Vec<_> = parts.into_iter().flatten().collect();
    for part in include_str!("parts").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let name = part.split('|').next().expect("a first column").trim();
        let prefix = format!("{name}::");
        assert!(
            trials.iter().any(|trial| trial.name().starts_with(&prefix)),
            "tests/world/parts lists {name}, which has no tests"
        );
    }
    let status = tests::needs::run(trials, Some(AT_ONCE));
    containers::end();
    status
}
