//! Servers that people run, installed as they are: rolling upgrades under load lose nothing of theirs.
//!
//! What they need is installed once into `target/tmp`, at pinned versions.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tests::load::Plan;
use tests::process::run_within;
use tests::{Master, MasterBuilder, binaries};

const GUNICORN: &str = "gunicorn==23.0.0";
const FASTIFY: &str = "fastify@4.29.1";

/// One step of an installation: it may have to fetch, on a slow day.
const INSTALL_MAX: Duration = Duration::from_secs(300);

fn servers() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/servers"))
}

/// Makes `target/tmp/NAME` with `install` if it is not there yet. A half-made one is made again: the last
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

/// Gunicorn in a virtual environment; gives its program.
fn gunicorn() -> PathBuf {
    binaries::require("python3", "python3 and python3-venv");
    let directory = installed("gunicorn", GUNICORN, |directory| {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(directory.join("venv"));
        step("python3 and python3-venv", command);
        let mut command = Command::new(directory.join("venv/bin/pip"));
        command.args(["install", "--quiet", GUNICORN]);
        step("python3-venv, and the package index", command);
    });
    directory.join("venv/bin/gunicorn")
}

/// A directory of node modules that has fastify.
fn fastify() -> PathBuf {
    binaries::require("node", "nodejs and npm");
    binaries::require("npm", "nodejs and npm");
    let directory = installed("fastify", FASTIFY, |directory| {
        let mut command = Command::new("npm");
        command
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(directory)
            .arg(FASTIFY);
        step("nodejs and npm", command);
    });
    directory.join("node_modules")
}

/// Three upgrades of three workers under load.
fn three_upgrades(builder: MasterBuilder) {
    let mut master = builder.workers(3).start();
    let load = Plan::new(master.address()).start();
    for _ in 0..3 {
        load.wait_for_answers(300);
        master.upgrade();
    }
    load.wait_for_answers(300);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations(), [1, 2, 3, 4].into(), "{report}");
    master.wait_up(3);
}

/// As a systemd unit would start it: gunicorn takes its socket from `LISTEN_FDS`, says `READY=1`, and stops
/// gracefully on TERM.
#[test]
fn gunicorn_as_it_is_loses_nothing() {
    let gunicorn = gunicorn();
    let builder = Master::builder().options(["--graceful-signal", "TERM"]);
    let words = ["--workers", "1", "--pythonpath"].map(PathBuf::from);
    let program = [gunicorn].into_iter().chain(words).chain([servers().into(), "wsgi_hello".into()]);
    three_upgrades(builder.program(program));
}

#[test]
fn fastify_on_node_loses_nothing() {
    let modules = fastify();
    let server = servers().join("fastify_hello.js");
    three_upgrades(Master::builder().env("NODE_PATH", modules).program([Path::new("node"), &server]));
}
