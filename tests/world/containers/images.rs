//! The images: built by podman from the Dockerfiles that people copy, once for all tests of this program.
//!
//! No registry is asked. The base images are made of what this machine has, under the names that the Dockerfiles use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tests::process::run_within;

use super::Container;
use super::engine::Engine;
use crate::{made, roots};

tests::trials! {
    both_dockerfiles_build_and_the_example_answers needs "root" "podman" "machine" "musl target",
    the_image_from_scratch_holds_two_programs_and_the_server needs "root" "podman" "machine" "musl target",
}

/// How long a build of an image may take, on a slow day.
const BUILD_MAX: Duration = Duration::from_secs(300);

/// Imports the directory `$2` as the image `$1`. Manuals and caches would only take memory.
const IMPORT: &str = "
tar -C \"$2\" --one-file-system --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale \
    --exclude=./var/cache --exclude=./var/lib/apt -c . | podman import --quiet - \"$1\"
";

/// An image of `einhyrningsins/contrib/container`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    /// Debian, with a shell.
    Slim,
    /// Nothing but static programs.
    Scratch,
}

pub(crate) const IMAGES: [Image; 2] = [Image::Slim, Image::Scratch];

impl Image {
    /// Its name, of an image that is built.
    #[track_caller]
    pub(crate) fn name(self) -> &'static str {
        static BUILT: [OnceLock<()>; 2] = [OnceLock::new(), OnceLock::new()];
        let (name, dockerfile, built) = match self {
            Self::Slim => ("localhost/web:slim", "Dockerfile", &BUILT[0]),
            Self::Scratch => ("localhost/web:scratch", "Dockerfile.scratch", &BUILT[1]),
        };
        built.get_or_init(|| {
            debian();
            let context = context();
            let dockerfile = contrib(dockerfile).display().to_string();
            build(name, &["--file", &dockerfile], context.path());
        });
        name
    }
}

/// A file of `einhyrningsins/contrib/container`.
pub(crate) fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../einhyrningsins/contrib/container").join(name)
}

/// Makes the base image of both Dockerfiles, if it is not there: a root of Debian.
#[track_caller]
pub(crate) fn debian() {
    static IMPORTED: OnceLock<()> = OnceLock::new();
    IMPORTED.get_or_init(|| import("docker.io/library/debian:bookworm-slim", &roots::root("bookworm")));
}

/// Makes the image `name` of the root directory `root`.
#[track_caller]
pub(crate) fn import(name: &str, root: &Path) {
    let import = Engine::get().command(["sh", "-ec", IMPORT, "sh", name, &root.display().to_string()]);
    run_within(BUILD_MAX, import, "").assert_code(0);
}

/// The archive of the static programs, as it is released.
#[track_caller]
pub(crate) fn release() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        // So that two builds do not wait for one another under this one's time limit.
        made::musl();
        let mut command = made::script("tarball");
        command.arg("--output").arg(made::directory().join("release")).arg(made::MUSL);
        let made = run_within(BUILD_MAX, command, "");
        made.assert_code(0);
        made.stdout.trim().into()
    })
}

/// What the Dockerfiles ask for beside themselves: the archive of a release, and a server.
#[track_caller]
pub(crate) fn context() -> tempfile::TempDir {
    let context = tempfile::tempdir().expect("a directory");
    let archive = release();
    fs::copy(archive, context.path().join(archive.file_name().expect("a name"))).expect("the archive");
    fs::copy(made::musl().join("hello"), context.path().join("server")).expect("the server");
    context
}

/// Runs `podman build OPTIONS... CONTEXT`.
#[track_caller]
pub(crate) fn build(name: &str, options: &[&str], context: &Path) {
    let context = context.display().to_string();
    // Of Docker's format, which has health checks.
    let line = ["podman", "build", "--format", "docker", "--network", "none", "--pull=never", "--tag", name];
    let line = line.into_iter().chain(options.iter().copied()).chain([context.as_str()]);
    run_within(BUILD_MAX, Engine::get().command(line), "").assert_code(0);
}

fn both_dockerfiles_build_and_the_example_answers() {
    for image in IMAGES {
        let web = Container::serving(image, &[], &[]);
        assert_eq!(web.status().master.pid, 1);
        let load = web.load();
        load.wait_for_answers(100);
        load.stop().assert_nothing_lost();
        let user = web.init().status("Uid").expect("its user");
        assert!(user.split_whitespace().all(|id| id == "10001"), "it runs as {user}");
    }
}

fn the_image_from_scratch_holds_two_programs_and_the_server() {
    let web = Container::run(Image::Scratch, &[], &[]);
    let shell = web.exec(&["/bin/sh", "-c", "true"]);
    shell.assert_code(127);
    let mut export = Engine::get().command(["podman", "export", web.name()]);
    let mut export = export.stdout(Stdio::piped()).spawn().expect("podman export");
    let mut list = Command::new("tar");
    list.arg("-tv").stdin(export.stdout.take().expect("its output"));
    let list = list.output().expect("a list of files");
    assert!(export.wait().expect("its end").success() && list.status.success());
    let list = String::from_utf8_lossy(&list.stdout);
    // The engine adds empty files to bind others to, and names for the user in /etc.
    let files = list.lines().filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        (line.starts_with('-') && columns[2] != "0").then(|| columns[5])
    });
    let mut files: Vec<_> =
        files.filter(|file| !file.starts_with("run/") && !file.starts_with("etc/")).collect();
    files.sort_unstable();
    assert_eq!(
        files,
        ["srv/server", "usr/local/bin/einhyrningsins", "usr/local/bin/einhyrningsinsctl"],
        "{list}"
    );
}
