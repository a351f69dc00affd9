//! Where the programs under test are, built from the sources as they are now.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The daemon.
#[must_use]
pub fn einhyrningsins() -> PathBuf {
    built().join("einhyrningsins")
}

/// The control client.
#[must_use]
pub fn einhyrningsinsctl() -> PathBuf {
    built().join("einhyrningsinsctl")
}

/// A worker program of this crate: a name from `src/bin`.
#[must_use]
pub fn worker(name: &str) -> PathBuf {
    built().join(name)
}

/// An example of `einhorn-child`.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    built().join("examples").join(name)
}

/// The example `hello` of `einhorn-child`, with which the README begins.
#[must_use]
pub fn hello() -> PathBuf {
    example("hello")
}

/// A directory for what tests install and build, kept from run to run: `target/tmp`.
#[must_use]
pub fn installed_directory() -> PathBuf {
    let (target, _) = target_directory(&profile_directory());
    target.join("tmp")
}

/// Builds all programs, once in a process, into the directory and profile that this process comes from, and gives that
/// directory.
///
/// A test runner may have built only the crate under test; a stale daemon would then be tested. The selection is that of
/// `cargo test --workspace`: with another one, Cargo would choose other features for dependencies, and build most of
/// them again.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = profile_directory();
        let (target, triple) = target_directory(&profile);
        let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--workspace", "--bins", "--examples"]);
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
    })
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
