//! What several parts use, made once by the scripts of `einhyrningsins/package`: the packages and the static programs.
//!
//! Cargo's build directories make a second making short. Those who make the same at one time wait for the first.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tests::process::run_within;
use tests::{binaries, install};

/// How long a making from nothing may take, on a slow day.
const MAKING_MAX: Duration = Duration::from_secs(40 * 60);

/// Rust's name of the target of the static programs.
pub(crate) const MUSL: &str = "x86_64-unknown-linux-musl";

/// Paths of the Debian packages.
#[derive(Debug)]
pub(crate) struct Debs {
    /// Of `einhyrningsins`: programs, pages, completions and units.
    pub(crate) einhyrningsins: PathBuf,
    /// Of `einhyrningsins-einhorn`: the links by which they are einhorn.
    pub(crate) einhorn: PathBuf,
}

/// The Debian packages. A test with them needs "cargo-deb", "dpkg-dev" and "Debian 12".
pub(crate) fn deb() -> &'static Debs {
    static MADE: OnceLock<Debs> = OnceLock::new();
    MADE.get_or_init(|| {
        let paths = make("deb", &[]);
        let [einhyrningsins, einhorn] = paths.as_slice() else { panic!("not two packages: {paths:?}") };
        Debs { einhyrningsins: einhyrningsins.clone(), einhorn: einhorn.clone() }
    })
}

/// The RPM package. A test with it needs "cargo-generate-rpm" and "Debian 12".
pub(crate) fn rpm() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make("rpm", &[]).remove(0))
}

/// The archive of the static programs, with all that belongs to them. A test with it needs "musl target".
pub(crate) fn tarball() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| make("tarball", &[MUSL]).remove(0))
}

/// A directory with `einhyrningsins`, `einhyrningsinsctl` and the example `hello` of `einhorn-child`, which need no
/// library. A test with them needs "musl target".
pub(crate) fn musl() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let programs = make("build", &[MUSL]).remove(0);
        let examples = make("build", &[MUSL, "-p", "einhorn-child", "--example", "hello"]).remove(0);
        let directory = directory().join("musl");
        fs::create_dir_all(&directory).expect("a directory for the static programs");
        for program in [
            programs.join("einhyrningsins"),
            programs.join("einhyrningsinsctl"),
            examples.join("examples/hello"),
        ] {
            let copy = directory.join(program.file_name().expect("a name"));
            // Whoever runs the one before keeps it.
            let new = copy.with_extension("new");
            fs::copy(&program, &new)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", program.display()));
            fs::rename(&new, &copy).expect("a static program in its place");
        }
        directory
    })
}

/// A directory for what the world makes, kept from run to run.
pub(crate) fn directory() -> PathBuf {
    let directory = binaries::installed_directory().join("world");
    fs::create_dir_all(&directory).expect("a directory for what the world makes");
    directory
}

/// A script of `einhyrningsins/package`, to run on the sources with the build directory of the tests.
pub(crate) fn script(name: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../einhyrningsins/package");
    let mut command = Command::new(scripts.join(name));
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = ["cargo-deb", "cargo-generate-rpm"].map(install::cargo_programs);
    let path: OsString = env::join_paths(tools.into_iter().chain(env::split_paths(&path))).expect("a path");
    let target = binaries::installed_directory();
    command.env("PATH", path).env("CARGO_TARGET_DIR", target.parent().expect("the target directory"));
    // Cargo's variables for this test program are none of the build's.
    for (name, _) in env::vars_os() {
        let is_cargos = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if name.to_str().is_some_and(|name| is_cargos.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a script that prints the paths of what it has made, alone of its kind.
fn make(name: &str, arguments: &[&str]) -> Vec<PathBuf> {
    let lock = File::create(directory().join("lock")).expect("a lock");
    let _held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).expect("the lock");
    eprintln!("einhyrningsins/package/{name} {}", arguments.join(" "));
    let mut command = script(name);
    command.args(arguments);
    let made = run_within(MAKING_MAX, command, "");
    made.assert_code(0);
    made.stdout.lines().map(PathBuf::from).collect()
}
