//! How fast and how small the daemon is: `cargo bench -p tests --bench speed [-- OPTION... TOPIC...]`.
//!
//! Each line shows the daemon's figure, the figure of a floor (the same work with no master around it)
//! measured in the same run by turns with it, the ratio of the two and what the project aims at. Nothing is
//! asserted: a busy machine makes everything slow, and the figures are for reading. The median is what a
//! round usually takes; the best is what it takes when nobody else wants the processors. Other masters can be
//! measured by turns with it (`peers.rs`), and all figures can be written to a file (`results.rs`).

mod backlog;
mod balance;
mod bound;
mod check;
mod client;
mod control;
mod cpu;
mod even;
mod fleet;
mod floor;
mod latency;
mod memory;
mod musl;
mod pace;
mod peers;
mod reexec;
mod report;
mod results;
mod scale;
mod spawn;
mod start;
mod sys;
mod timeline;
mod upgrade;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use results::Machine;

/// What can be measured, in the order in which it is.
const TOPICS: [(&str, fn()); 17] = [
    ("upgrade", upgrade::run),
    ("pace", pace::run),
    ("check", check::run),
    ("latency", latency::run),
    ("bound", bound::run),
    ("fleet", fleet::run),
    ("scale", scale::run),
    ("spawn", spawn::run),
    ("start", start::run),
    ("memory", memory::run),
    ("control", control::run),
    ("watch", watch::run),
    ("reexec", reexec::run),
    ("backlog", backlog::run),
    ("balance", balance::run),
    ("even", even::run),
    ("musl", musl::run),
];

/// Measure how fast and how small the daemon is
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench -p tests --bench speed --")]
struct Options {
    /// What to measure [default: everything]
    #[arg(value_name = "TOPIC", value_parser = PossibleValuesParser::new(TOPICS.map(|(topic, _)| topic)))]
    topics: Vec<String>,
    /// Measure other masters too
    ///
    /// Those that are installed of einhorn, Server::Starter, nginx, HAProxy, gunicorn (by `tests/run --install`) and puma take
    /// turns with ours, in the topics upgrade, pace, latency and memory.
    #[arg(long)]
    peers: bool,
    /// Write all figures to FILE as JSON
    ///
    /// `tests/plot FILE` makes the results and plots of BENCHMARKS.md from it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo says so when it means it
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let [role, path, bytes] = &words[..]
        && role == control::ECHO
    {
        return control::echo(path, bytes);
    }
    // `cargo test --all-targets` runs this too, and must not wait for it.
    if !words.iter().any(|word| word == "--bench") {
        println!("nothing measured: run it as cargo bench -p tests --bench speed [-- OPTION... TOPIC...]");
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    // Before somebody changes the sources, while they are measured.
    let (commit, machine) = (results::commit(), Machine::read());
    report::head(&machine);
    if options.peers {
        peers::find();
    }
    for (topic, run) in TOPICS {
        if options.topics.is_empty() || options.topics.iter().any(|wanted| wanted == topic) {
            run();
        }
    }
    let Some(path) = options.json else { return ExitCode::SUCCESS };
    // Cargo runs this in the directory of the crate, but the file's name was typed elsewhere.
    let path = std::env::var_os("PWD").map_or_else(PathBuf::new, PathBuf::from).join(path);
    if let Err(error) = results::write(&path, &commit, &machine, &command(&words)) {
        eprintln!("speed: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// As it was typed, without what Cargo adds.
fn command(words: &[String]) -> String {
    let words = words.iter().map(String::as_str).filter(|word| *word != "--bench");
    ["cargo bench -p tests --bench speed --"].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}
