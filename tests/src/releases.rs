//! An application as deploy tools lay it out: a directory for each release, and a link to the current one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::builder::MasterBuilder;
use crate::{Master, Process, binaries};

/// The program of a release, in its directory.
const PROGRAM: &str = "serve";

/// What a release is, as knobs of the worker program, in its directory.
const KNOBS: &str = "knobs";

/// `releases/1`, `releases/2` and so on, each with a worker program and its knobs; `current` leads to one.
#[derive(Debug)]
pub struct Releases {
    root: PathBuf,
}

impl Releases {
    /// Makes a release 1 that serves as it should, and makes it the current one.
    ///
    /// # Panics
    /// If `root` exists or cannot be made.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        fs::create_dir(&root).expect("a directory for the releases");
        fs::create_dir(root.join("releases")).expect("a directory for the releases");
        let releases = Self { root };
        releases.add(1, "");
        releases.link(1);
        releases
    }

    /// A master whose workers run what `current` leads to.
    #[must_use]
    pub fn run_by(&self, builder: MasterBuilder) -> MasterBuilder {
        let program = [format!("./{PROGRAM}"), format!("@{KNOBS}")];
        builder.option("--chdir").option(self.current()).program(program)
    }

    /// Makes release `number`, which has these knobs.
    ///
    /// # Panics
    /// If there is one.
    pub fn add(&self, number: u32, knobs: &str) {
        let directory = self.directory(number);
        fs::create_dir(&directory).expect("a directory for the release");
        fs::write(directory.join(KNOBS), knobs).expect("a file of knobs");
        place_worker(&self.program(number));
    }

    /// Makes release `number`, whose program holds `text` and has `mode`.
    ///
    /// # Panics
    /// As [`Self::add`].
    pub fn add_script(&self, number: u32, text: &str, mode: u32) {
        self.add(number, "");
        self.remove_program(number);
        fs::write(self.program(number), text).expect("a script");
        fs::set_permissions(self.program(number), Permissions::from_mode(mode)).expect("its mode");
    }

    /// Takes the program out of release `number`.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove_program(&self, number: u32) {
        fs::remove_file(self.program(number)).expect("the program of the release");
    }

    /// Deletes release `number`.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&self, number: u32) {
        fs::remove_dir_all(self.directory(number)).expect("the directory of the release");
    }

    /// Makes release `number` the current one, in one step, as deploy tools do.
    ///
    /// # Panics
    /// If the link cannot be made.
    pub fn link(&self, number: u32) {
        let next = self.root.join("next");
        symlink(self.directory(number), &next).expect("a link");
        fs::rename(&next, self.current()).expect("the link in its place");
    }

    /// The directory of release `number`.
    #[must_use]
    pub fn directory(&self, number: u32) -> PathBuf {
        self.root.join("releases").join(number.to_string())
    }

    /// The program of release `number`.
    #[must_use]
    pub fn program(&self, number: u32) -> PathBuf {
        self.directory(number).join(PROGRAM)
    }

    fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    /// Asserts that `worker` runs release `number`: its program, in its directory.
    #[track_caller]
    pub fn assert_runs(&self, worker: Process, number: u32) {
        let runs = (worker.directory(), worker.program());
        assert_eq!(runs, (Some(self.directory(number)), Some(self.program(number))), "{worker:?}");
    }

    /// Asserts that `master` has `count` workers up, all of them of release `number`, and is well.
    #[track_caller]
    pub fn assert_all_run(&self, master: &mut Master, count: u32, number: u32) {
        master.wait_up(count);
        master.workers_up().iter().for_each(|worker| self.assert_runs(*worker, number));
        master.assert_well(count);
    }
}

/// Puts the worker program `serve` at `path`, as a file of its own name.
///
/// It is linked and not copied where that can be: a file that was just written is busy for as long as another
/// thread's child has inherited the descriptor, and cannot be executed then.
///
/// # Panics
/// If there is something at `path`.
pub fn place_worker(path: &Path) {
    assert!(!path.exists(), "there is something at {}", path.display());
    let worker = binaries::worker("serve");
    if fs::hard_link(&worker, path).is_err() {
        fs::copy(&worker, path).expect("a copy of the worker program");
    }
}
