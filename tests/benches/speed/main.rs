//! How fast and how small the daemon is: `cargo bench -p tests --bench speed [-- TOPIC...]`.
//!
//! Each line shows the daemon's figure, the figure of a floor (the same work with no master around it)
//! measured in the same run by turns with it, the ratio of the two and what the project aims at. Nothing is
//! asserted: a busy machine makes everything slow, and the figures are for reading. The median is what a
//! round usually takes; the best is what it takes when nobody else wants the processors.

mod backlog;
mod balance;
mod bound;
mod client;
mod control;
mod cpu;
mod fleet;
mod floor;
mod memory;
mod pace;
mod reexec;
mod report;
mod spawn;
mod start;
mod sys;
mod upgrade;

use std::process::ExitCode;

/// What can be measured, in the order in which it is.
const TOPICS: [(&str, fn()); 11] = [
    ("upgrade", upgrade::run),
    ("pace", pace::run),
    ("bound", bound::run),
    ("fleet", fleet::run),
    ("spawn", spawn::run),
    ("start", start::run),
    ("memory", memory::run),
    ("control", control::run),
    ("reexec", reexec::run),
    ("backlog", backlog::run),
    ("balance", balance::run),
];

fn main() -> ExitCode {
    let (options, words): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    if let [role, path, bytes] = &words[..]
        && role == control::ECHO
    {
        return control::echo(path, bytes);
    }
    // Cargo says `--bench` when it means it; `cargo test --all-targets` runs this too, and must not wait for it.
    if !options.iter().any(|option| option == "--bench") {
        println!("nothing measured: run it as cargo bench -p tests --bench speed [-- TOPIC...]");
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = words.iter().find(|word| TOPICS.iter().all(|(topic, _)| topic != word)) {
        eprintln!("speed: no topic \"{unknown}\"; there are {}", TOPICS.map(|(topic, _)| topic).join(", "));
        return ExitCode::FAILURE;
    }
    report::head();
    for (topic, run) in TOPICS {
        if words.is_empty() || words.iter().any(|word| word == topic) {
            run();
        }
    }
    ExitCode::SUCCESS
}
