//! Where the programs under test are, built from the sources as they are now.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The daemon.
#[must_use]
pub fn einhyrningsins() -> PathBuf {
    programs().join("einhyrningsins")
}

/// The control client.
#[must_use]
pub fn einhyrningsinsctl() -> PathBuf {
    programs().join("einhyrningsinsctl")
}

/// A worker program of this crate: a name from `src/bin`.
#[must_use]
pub fn worker(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built(&["-p", "tests", "--bins"])).join(name)
}

/// The example `hello` of `einhorn-child`, the worker of the README.
#[must_use]
pub fn hello() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built(&["-p", "einhorn-child", "--example", "hello"])).join("examples/hello")
}

fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built(&["-p", "einhyrningsins", "-p", "einhyrningsinsctl"]))
}

/// Asserts that a program of the system is there: `strace`, of the package `strace`.
///
/// # Panics
/// With what to install, if it is not.
#[track_caller]
pub fn require(program: &str, package: &str) {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|directory| directory.join(program).exists());
    assert!(is_there, "{program} is missing, which this test needs: install {package}");
}

/// A directory for what tests install, kept from run to run: `target/tmp`.
#[must_use]
pub fn kept_directory() -> PathBuf {
    let (target, _) = target_directory(&profile_directory());
    target.join("tmp")
}

/// Builds what `selection` says into the directory and profile that this process comes from, and gives that
/// directory. Called once in a process for each selection.
///
/// A test runner may have built only the crate under test; a stale daemon would then be tested.
fn built(selection: &[&str]) -> PathBuf {
    let profile = profile_directory();
    let (target, triple) = target_directory(&profile);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).args(selection);
    command.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    command.arg("--target-dir").arg(target);
    if let Some(triple) = triple {
        command.arg("--target").arg(triple);
    }
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => {}
        // `cargo bench` puts what it builds here as well.
        Some("release") => drop(command.arg("--release")),
        Some(name) => drop(command.args(["--profile", name])),
        None => panic!("{} is no build directory", profile.display()),
    }
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the programs under test do not build\n{command:?}\n{stderr}");
    profile
}

/// `target/PROFILE`, which this process runs from as `target/PROFILE/deps/NAME-HASH`.
fn profile_directory() -> PathBuf {
    let exe = env::current_exe().unwrap_or_else(|error| panic!("cannot tell what this process is: {error}"));
    let mut directory = exe.parent().map(Path::to_path_buf).unwrap_or_default();
    if directory.ends_with("deps") {
        directory.pop();
    }
    directory
}

/// The target directory that `profile` lies in, and the triple between the two if a `--target` was given.
fn target_directory(profile: &Path) -> (PathBuf, Option<String>) {
    let parent = profile.parent().unwrap_or(profile);
    // Cargo marks the top of a target directory for backup programs.
    if parent.join("CACHEDIR.TAG").exists() {
        return (parent.to_path_buf(), None);
    }
    let triple = parent.file_name().map(|name| name.to_string_lossy().into_owned());
    (parent.parent().unwrap_or(parent).to_path_buf(), triple)
}
