//! Servers that people run, installed once into `target/tmp`, at pinned versions.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::binaries;
use crate::process::run_within;

/// One step of an installation: it may have to fetch, on a slow day.
const INSTALL_MAX: Duration = Duration::from_secs(300);

/// Where the programs are that the servers run: `tests/servers`.
#[must_use]
pub fn servers() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/servers"))
}

/// Makes `target/tmp/NAME` with `install` if it does not hold `what` yet. A half-made one is made again: the last
/// thing that is written is a file that says what it holds.
fn installed(name: &str, what: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let kept = binaries::kept_directory();
    fs::create_dir_all(&kept).expect("a directory in target");
    // Test processes may run side by side.
    let lock = File::create(kept.join(format!("{name}.lock"))).expect("a lock file");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("a lock");
    let directory = kept.join(name);
    let done = directory.join("installed");
    if fs::read_to_string(&done).is_ok_and(|text| text == what) {
        return directory;
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("what was half installed goes away");
    }
    fs::create_dir_all(&directory).expect("a directory");
    install(&directory);
    fs::write(&done, what).expect("a file");
    directory
}

/// Runs one step of an installation.
#[track_caller]
fn step(needs: &str, command: Command) {
    let finished = run_within(INSTALL_MAX, command, "");
    assert!(finished.status.success(), "an installation failed; it needs {needs}\n{finished}");
}

/// The program `NAME` of the Python package `NAME==VERSION`, in a virtual environment of its own.
///
/// # Panics
/// If it cannot be installed.
#[must_use]
pub fn python_program(package: &str) -> PathBuf {
    binaries::require("python3", "python3 and python3-venv");
    let name = package.split("==").next().unwrap_or(package);
    let directory = installed(name, package, |directory| {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(directory.join("venv"));
        step("python3 and python3-venv", command);
        let mut command = Command::new(directory.join("venv/bin/pip"));
        command.args(["install", "--quiet", package]);
        step("python3-venv, and the package index", command);
    });
    directory.join("venv/bin").join(name)
}

/// A directory of node modules that has `NAME@VERSION`.
///
/// # Panics
/// If it cannot be installed.
#[must_use]
pub fn node_modules(package: &str) -> PathBuf {
    binaries::require("node", "nodejs and npm");
    binaries::require("npm", "nodejs and npm");
    let name = package.split('@').next().unwrap_or(package);
    let directory = installed(name, package, |directory| {
        let mut command = Command::new("npm");
        command
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(directory)
            .arg(package);
        step("nodejs and npm", command);
    });
    directory.join("node_modules")
}

/// What `tests/servers/FILE` is when it is built; it uses Go's own library only.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn go_program(file: &str) -> PathBuf {
    binaries::require("go", "golang-go");
    let source = servers().join(file);
    let text = fs::read_to_string(&source).expect("the source of a server");
    let name = file.trim_end_matches(".go");
    let directory = installed(name, &text, |directory| {
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(directory.join(name)).arg(&source);
        // Nothing is to be fetched, and nothing left in the home of whoever runs the tests.
        command.envs([("GOFLAGS", "-mod=mod"), ("GOPROXY", "off"), ("GO111MODULE", "off")]);
        command.env("GOCACHE", directory.join("cache"));
        step("golang-go", command);
    });
    directory.join(name)
}
