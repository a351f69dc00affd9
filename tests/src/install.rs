//! Servers that people run, as `tests/run --install` has installed them, and one that is built here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::run_within;
use crate::{binaries, needs};

/// How long a build may take, on a slow day.
const BUILD_MAX: Duration = Duration::from_secs(300);

/// Where the programs are that the servers run: `tests/servers`.
#[must_use]
pub fn servers() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/servers"))
}

/// The program of the Python package that meets `need`; it has the need's name.
#[must_use]
pub fn python_program(need: &str) -> PathBuf {
    package_directory(need).join("bin").join(need)
}

/// The directory of node modules that has the package that meets `need`.
#[must_use]
pub fn node_modules(need: &str) -> PathBuf {
    package_directory(need).join("node_modules")
}

/// The directory of programs of the package of cargo that meets `need`.
#[must_use]
pub fn cargo_programs(need: &str) -> PathBuf {
    package_directory(need).join("bin")
}

fn package_directory(need: &str) -> PathBuf {
    binaries::installed_directory().join(needs::package(need))
}

/// What `tests/servers/NAME.go` is when it is built; it uses Go's own library only.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn go_program(name: &str) -> PathBuf {
    go_build(&servers().join(name).with_extension("go"))
}

/// Builds a program of one file, which uses Go's own library only.
///
/// # Panics
/// If it does not build, or the file has no name.
#[must_use]
pub fn go_build(source: &Path) -> PathBuf {
    let directory = binaries::installed_directory();
    let program = directory.join(source.file_stem().expect("a file with a name"));
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(&program).arg(source);
    // Nothing is fetched, and nothing is left in the home of whoever runs the tests.
    command.envs([("GOFLAGS", "-mod=mod"), ("GOPROXY", "off"), ("GO111MODULE", "off")]);
    command.env("GOCACHE", directory.join("go-cache"));
    run_within(BUILD_MAX, command, "").assert_code(0);
    program
}
