//! Generations of real programs, whose exit status shows which one ran.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::wait::{WaitStatus, waitpid};

use super::*;
use crate::sys::account::AccountSpec;
use crate::sys::testing::PATIENCE;

const FIRST: Generation = Generation(1);
const SECOND: Generation = Generation(2);

/// A directory to deploy to, and the workers that run what is deployed there.
struct Site {
    root: tempfile::TempDir,
    workers: Workers,
    spawner: Spawner,
}

impl Site {
    /// Runs `program` in `directory`, both relative to the root. The directory is still empty.
    fn new(directory: &str, program: &str, env_file: Option<&str>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let recipe = Recipe {
            command: vec![program.into()],
            directory: root.path().join(directory),
            dropped: Vec::new(),
            drops_at_start: true,
            absolute_argv0: false,
            env_file: env_file.map(PathBuf::from),
            account: AccountSpec::default(),
        };
        let options = WorkerOptions {
            attributes: Attributes::default(),
            open_files: None,
            ping_timeout: None,
            pass_fds: Vec::new(),
        };
        let spawner = Spawner::new().unwrap();
        let workers = Workers::new(recipe, options);
        Self { root, workers, spawner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file as a deploy does: in full, then by rename.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let (path, new) = (self.path(name), self.path("new"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&new, content).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn put_binary(&self, name: &str, binary: &str) {
        self.put(name, fs::read(binary).unwrap());
    }

    /// Points the link `name` at `target`, as a deploy does.
    fn link(&self, name: &str, target: &str) {
        symlink(target, self.path("link")).unwrap();
        fs::rename(self.path("link"), self.path(name)).unwrap();
    }

    fn resolve(&mut self, generation: Generation) {
        self.workers.resolve(&mut self.spawner, generation, Vec::new()).unwrap();
    }

    /// Spawns a worker of `generation` and returns its exit status. Retries while a file that was just written
    /// is open in the child of another test.
    fn run(&mut self, generation: Generation) -> Result<i32, SpawnFailure> {
        let deadline = Instant::now() + PATIENCE;
        let spawned = loop {
            match self.workers.spawn(&mut self.spawner, &Place::Slot(SlotNumber(0)), 0, generation, &[], 1) {
                Err(failure) if failure.transient && Instant::now() < deadline => {}
                result => break result?,
            }
        };
        match waitpid(spawned.pid, None) {
            Ok(WaitStatus::Exited(_, status)) => Ok(status),
            end => panic!("the worker did not exit: {end:?}"),
        }
    }

    #[track_caller]
    fn check(&mut self, generation: Generation, status: i32) {
        assert_eq!(self.run(generation).unwrap(), status, "generation {generation}");
    }
}

#[test]
fn a_respawn_runs_its_generations_binary_after_a_rename_over_it() {
    let mut site = Site::new(".", "./server", None);
    site.put_binary("server", "/bin/true");
    site.resolve(FIRST);
    site.check(FIRST, 0);
    site.put_binary("server", "/bin/false");
    site.check(FIRST, 0);
    site.resolve(SECOND);
    site.check(SECOND, 1);
    site.check(FIRST, 0);
    fs::remove_file(site.path("server")).unwrap();
    site.check(FIRST, 0);
    site.check(SECOND, 1);
    assert!(
        site.workers.resolve(&mut site.spawner, Generation(3), Vec::new()).is_err(),
        "there is nothing to upgrade to"
    );
}

#[test]
fn a_current_link_is_followed_at_an_upgrade_and_not_at_a_respawn() {
    let mut site = Site::new("current", "./server", None);
    site.put("releases/1/server", "#!/bin/sh\nexit $((10 + $(cat number)))\n");
    site.put("releases/1/number", "1");
    site.put("releases/2/server", "#!/bin/sh\nexit $((20 + $(cat number)))\n");
    site.put("releases/2/number", "2");
    site.link("current", "releases/1");
    site.resolve(FIRST);
    site.link("current", "releases/2");
    site.check(FIRST, 11);
    site.resolve(SECOND);
    site.check(SECOND, 22);
    site.check(FIRST, 11);

    let statuses = site.workers.release_statuses();
    let real = fs::canonicalize(site.root.path()).unwrap().join("releases");
    let paths: Vec<_> = statuses
        .iter()
        .map(|status| (status.generation, PathBuf::from(&status.real_directory), status.program.clone()))
        .collect();
    let server = |number: &str| real.join(number).join("server").display().to_string();
    assert_eq!(paths, [(1, real.join("1"), server("1")), (2, real.join("2"), server("2"))]);
    assert_eq!(statuses[0].directory, site.path("current").display().to_string());
    site.workers.forget(FIRST);
    assert_eq!(site.workers.release_statuses(), statuses[1..]);
}

#[test]
fn a_replaced_script_is_new_for_every_generation() {
    let mut site = Site::new(".", "./server", None);
    site.put("server", "#!/bin/sh\nexit 1\n");
    site.resolve(FIRST);
    site.check(FIRST, 1);
    site.put("server", "#!/bin/sh\nexit 2\n");
    site.check(FIRST, 2);
}

#[test]
fn a_deleted_release_still_runs_a_binary_and_is_named_for_a_script() {
    let mut site = Site::new("current", "./server", None);
    site.put_binary("releases/1/server", "/bin/true");
    site.put("releases/2/server", "#!/bin/sh\nexit 2\n");
    site.link("current", "releases/1");
    site.resolve(FIRST);
    site.link("current", "releases/2");
    site.resolve(SECOND);
    fs::remove_dir_all(site.path("releases")).unwrap();

    site.check(FIRST, 0);
    let failure = site.run(SECOND).unwrap_err();
    let deleted = fs::canonicalize(site.root.path()).unwrap().join("releases/2");
    assert_eq!(
        failure.reason,
        format!("cannot execute ./server: its directory {} has been deleted", deleted.display())
    );
    assert!(!failure.transient);
    let error = site.workers.resolve(&mut site.spawner, Generation(3), Vec::new()).unwrap_err().in_words();
    assert!(error.starts_with("cannot run in ") && error.contains("No such file"), "{error}");
    site.check(FIRST, 0);
}

#[test]
fn each_generation_has_the_variables_of_its_release() {
    let mut site = Site::new("current", "./server", Some("app.env"));
    for (release, variables) in
        [("1", "CODE=11\n"), ("2", "# as of today\nexport CODE='12'\n"), ("3", "CODE\n")]
    {
        site.put(&format!("releases/{release}/server"), "#!/bin/sh\nexit $CODE\n");
        site.put(&format!("releases/{release}/app.env"), variables);
    }
    site.link("current", "releases/1");
    site.resolve(FIRST);
    site.link("current", "releases/2");
    site.resolve(SECOND);
    site.check(FIRST, 11);
    site.check(SECOND, 12);
    site.link("current", "releases/3");
    let error = site.workers.resolve(&mut site.spawner, Generation(3), Vec::new()).unwrap_err().in_words();
    assert!(error.contains("app.env") && error.contains("line 1: it has no \"=\""), "{error}");
    site.check(SECOND, 12);
}
