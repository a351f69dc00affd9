//! The figures of a run as a file of JSON, for `--json`: what `tests/plot` reads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tests::binaries;

use crate::report::{Aim, Unit};

/// The format of the file. A change that its readers would misread raises it.
const FORMAT: u32 = 1;

/// The program that the others are compared with.
pub(crate) const OURS: &str = "einhyrningsins";

/// What has been measured up to now.
static RESULTS: Mutex<Results> = Mutex::new(Results { programs: BTreeMap::new(), topics: Vec::new() });

#[derive(Debug, Serialize)]
struct Results {
    /// The version of each program.
    programs: BTreeMap<String, String>,
    topics: Vec<Topic>,
}

#[derive(Debug, Serialize)]
struct Topic {
    topic: String,
    /// What the floor of its rows is.
    floor: String,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    series: Vec<Series>,
}

/// A line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) program: String,
    pub(crate) row: String,
    /// The unit of `measured`, `floor` and an absolute `aim`; `None` if they are texts.
    pub(crate) unit: Option<Unit>,
    pub(crate) measured: Measured,
    pub(crate) floor: Option<Measured>,
    /// How many times worse than the floor the median is.
    pub(crate) ratio: Option<f64>,
    /// The same of the best rounds.
    pub(crate) best_ratio: Option<f64>,
    pub(crate) aim: Aim,
    pub(crate) met: Option<bool>,
}

/// Latencies of requests around an upgrade, which begins at 0. All times are in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) program: String,
    pub(crate) series: String,
    /// When the first step begins, and how long each is.
    pub(crate) begins: f64,
    pub(crate) step: f64,
    /// When the upgrade ended; the median of the rounds.
    pub(crate) upgraded: f64,
    /// What half, 90 % and all of the requests did not exceed that were begun within a step, in all rounds; `None` if none was.
    pub(crate) half: Vec<Option<f64>>,
    pub(crate) most: Vec<Option<f64>>,
    pub(crate) all: Vec<Option<f64>>,
    pub(crate) lost: u64,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Measured {
    Figure { median: f64, best: f64, rounds: Vec<f64> },
    Text(String),
}

/// The sources that a run measures: the commit, with a `+` if there were changes that are not in it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| output(Command::new("git").args(arguments));
    let changed = if git(&["status", "--porcelain"]).is_empty() { "" } else { "+" };
    git(&["rev-parse", "--short", "HEAD"]) + changed
}

/// What a run is measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// The load average of the last minute, before anything was measured.
    pub(crate) load: f64,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'));
            value.unwrap_or_default().trim().to_owned()
        };
        let first = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: first(&field(&read("/proc/meminfo"), "MemTotal"))
                .parse()
                .map_or(0, |kb: u64| kb * 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: first(&read("/proc/loadavg")).parse().unwrap_or(0.0),
        }
    }
}

fn results() -> MutexGuard<'static, Results> {
    RESULTS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn topic(name: &str, floor: &str) {
    let (topic, floor) = (name.to_owned(), floor.to_owned());
    results().topics.push(Topic { topic, floor, rows: Vec::new(), series: Vec::new() });
}

pub(crate) fn row(row: Row) {
    results().topics.last_mut().expect("a topic has begun").rows.push(row);
}

pub(crate) fn series(series: Series) {
    results().topics.last_mut().expect("a topic has begun").series.push(series);
}

pub(crate) fn program(name: &str, version: String) {
    results().programs.insert(name.to_owned(), version);
}

/// Writes all of it to `path`.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(path: &Path, commit: &str, machine: &Machine, command: &str) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        format: u32,
        /// Seconds since 1970.
        time: u64,
        command: &'a str,
        commit: &'a str,
        machine: &'a Machine,
        #[serde(flatten)]
        results: &'a Results,
    }
    let version = output(Command::new(binaries::einhyrningsins()).arg("--version"));
    program(OURS, version.split(' ').next_back().unwrap_or_default().to_owned());
    let document = Document {
        format: FORMAT,
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        command,
        commit,
        machine,
        results: &results(),
    };
    fs::write(path, serde_json::to_string(&document)? + "\n")
}

/// What `command` writes to its standard output or, if that is nothing, to its standard error; empty if it cannot be run.
pub(crate) fn output(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).trim().to_owned()
}
