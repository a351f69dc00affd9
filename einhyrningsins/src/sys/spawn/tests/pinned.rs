//! Executing a pinned file, whatever has happened to its path.

use super::*;
use crate::workers::spawn_hint;

/// A directory with a program in it, both pinned as a release pins them.
struct Pinned {
    root: tempfile::TempDir,
    directory: OwnedFd,
    executable: OwnedFd,
}

impl Pinned {
    /// Calls `make` to create the program at the given path.
    fn new(make: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let release = root.path().join("release");
        fs::create_dir(&release).unwrap();
        make(&release.join("server"));
        let pin = |path: &Path| open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        Self { directory: pin(&release), executable: pin(&release.join("server")), root }
    }

    fn shell() -> Self {
        Self::new(|path| assert!(fs::copy("/bin/sh", path).is_ok()))
    }

    fn path(&self) -> std::path::PathBuf {
        self.root.path().join("release/server")
    }

    /// Replaces the program at its path, as a deploy does: write it in full, then rename.
    fn replace(&self, by: impl FnOnce(&Path)) {
        let new = self.root.path().join("new");
        by(&new);
        fs::rename(new, self.path()).unwrap();
    }

    fn spec<'a>(&'a self, argv: &'a [CString]) -> SpawnSpec<'a> {
        SpawnSpec {
            executable: Some(self.executable.as_fd()),
            directory: Some(self.directory.as_fd()),
            ..SpawnSpec::new(c"./server", argv, &[])
        }
    }
}

fn copy_true(path: &Path) {
    fs::copy("/bin/true", path).unwrap();
}

fn inode(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Runs `check` for each kind of kernel, which name a process that was executed by descriptor differently or do not execute
/// descriptors, and both ways to spawn.
fn on_each_kernel(check: impl Fn(&mut Spawner)) {
    in_each_way(|spawner| {
        assert!(spawner.execveat);
        let names_by_file = spawner.names_by_file;
        for (names_by_file, execveat) in [(true, true), (false, true), (names_by_file, false)] {
            (spawner.names_by_file, spawner.execveat) = (names_by_file, execveat);
            check(spawner);
        }
        (spawner.names_by_file, spawner.execveat) = (names_by_file, true);
    });
}

#[test]
fn the_pinned_file_runs_after_another_file_replaced_it() {
    on_each_kernel(|spawner| {
        let pinned = Pinned::shell();
        let argv = stopping_shell();
        let before = inode(pinned.path());
        let worker = Worker::stopped(spawner, &pinned.spec(&argv));
        assert_eq!(inode(worker.proc("exe")), before);
        drop(worker);

        pinned.replace(copy_true);
        // The new file would exit rather than stop.
        let worker = Worker::stopped(spawner, &pinned.spec(&argv));
        assert_eq!(inode(worker.proc("exe")), before);
        assert_ne!(inode(pinned.path()), before);
        let argv_found = fs::read_to_string(worker.proc("cmdline")).unwrap();
        assert!(argv_found.starts_with("sh\0"), "its own name is as given: {argv_found}");
    });
}

#[test]
fn a_worker_is_named_after_its_file_and_not_after_a_descriptor() {
    let pinned = Pinned::shell();
    let argv = stopping_shell();
    let mut spawner = Spawner::new().unwrap();
    let name = |worker: &Worker| fs::read_to_string(worker.proc("comm")).unwrap();
    assert_eq!(name(&Worker::stopped(&mut spawner, &pinned.spec(&argv))), "server\n");
    if spawner.names_by_file {
        pinned.replace(copy_true);
        assert_eq!(name(&Worker::stopped(&mut spawner, &pinned.spec(&argv))), "server\n");
    }
    let pinned = Pinned::shell();
    spawner.names_by_file = false;
    assert_eq!(name(&Worker::stopped(&mut spawner, &pinned.spec(&argv))), "server\n");
}

#[test]
fn a_pinned_program_whose_descriptor_lies_among_the_sockets_runs_and_is_closed() {
    isolated(
        "sys::spawn::tests::pinned::a_pinned_program_whose_descriptor_lies_among_the_sockets_runs_and_is_closed",
        || {
            let pinned = Pinned::shell();
            pinned.replace(copy_true);
            let sockets = sockets(3);
            // Moved away from 3 to 5, which others may use; the copies belong to the test.
            let high: Vec<_> = sockets.iter().zip([100, 101, 102]).map(|(fd, to)| place(fd, to)).collect();
            let directory = place(&pinned.directory, 103);
            let executable = place(&pinned.executable, 104).try_clone_to_owned().unwrap();
            let argv = stopping_shell();
            let mut spawner = Spawner::new().unwrap();
            for (number, is_always_apart) in [(3, false), (5, false), (3, true), (5, true)] {
                spawner.is_always_apart = is_always_apart;
                let spec = SpawnSpec {
                    executable: Some(place(&executable, number)),
                    directory: Some(directory),
                    sockets: &high,
                    ..pinned.spec(&argv)
                };
                let worker = Worker::stopped(&mut spawner, &spec);
                let numbers: Vec<_> = worker.descriptors().into_iter().map(|(fd, _)| fd).collect();
                assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
                assert_eq!(worker.descriptors()[3].1, target(high[0]));
            }
            // They stand for descriptors that `place` has closed.
            std::mem::forget((pinned.directory, pinned.executable, sockets));
        },
    );
}

#[test]
fn a_pinned_script_runs_by_path_while_the_path_leads_to_it() {
    on_each_kernel(|spawner| {
        let pinned = Pinned::new(|path| write_script(path, "#!/bin/sh\nkill -STOP $$\n"));
        let argv = texts(&["server"]);
        let worker = Worker::stopped(spawner, &pinned.spec(&argv));
        assert!(fs::read_to_string(worker.proc("cmdline")).unwrap().contains("./server"));
        if !spawner.execveat {
            // The interpreter would find the descriptor closed. A release does not pin a script.
            return;
        }
        pinned.replace(copy_true);
        let error = spawn(spawner, &pinned.spec(&argv)).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::ENOENT));
    });
}

#[test]
fn a_fault_is_not_sought_in_the_file_that_replaced_the_pinned_one() {
    let pinned = Pinned::new(|path| {
        copy_true(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    });
    pinned.replace(copy_true);
    let error = spawn(&mut Spawner::new().unwrap(), &pinned.spec(&texts(&["server"]))).unwrap_err();
    assert_eq!(error.to_string(), "cannot execute ./server: it has no execute permission (mode 0644)");
}

#[test]
fn a_deleted_directory_does_not_stop_a_pinned_program_and_is_named_if_a_path_is_needed() {
    let pinned = Pinned::shell();
    fs::remove_dir_all(pinned.path().parent().unwrap()).unwrap();
    let argv = stopping_shell();
    let mut spawner = Spawner::new().unwrap();
    drop(Worker::stopped(&mut spawner, &pinned.spec(&argv)));

    let spec = SpawnSpec { executable: None, ..pinned.spec(&argv) };
    let error = spawner.spawn(&spec).unwrap_err();
    let directory = pinned.root.path().join("release").display().to_string();
    assert_eq!(error.fault, Some(ExecFault::DirectoryDeleted { directory: directory.clone() }));
    assert_eq!(
        error.to_string(),
        format!("cannot execute ./server: its directory {directory} has been deleted")
    );
    assert!(!error.is_transient(), "a deleted directory does not come back");
    assert!(spawn_hint(&error).unwrap().contains("keep a release's directory"));
}
