//! Executing a file that was pinned, whatever has become of its path.

use super::*;

/// A directory with a program in it, both pinned as a release pins them.
struct Pinned {
    root: tempfile::TempDir,
    directory: OwnedFd,
    executable: OwnedFd,
}

impl Pinned {
    /// Has `make` put the program at the path that it is given.
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

    /// Puts another program at its path, as a deploy does: in full, then by rename.
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

/// For kernels of either kind, which differ in how they name a process that was executed by descriptor; in each way.
fn on_each_kernel(check: impl Fn(&mut Spawner)) {
    in_each_way(|spawner| {
        for _ in 0..2 {
            check(spawner);
            spawner.names_by_file = !spawner.names_by_file;
        }
    });
}

#[test]
fn what_was_pinned_runs_though_another_file_has_taken_its_place() {
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
fn a_pinned_program_whose_descriptor_is_in_the_way_of_the_sockets_runs_and_is_not_left_open() {
    isolated(
        "sys::spawn::tests::pinned::a_pinned_program_whose_descriptor_is_in_the_way_of_the_sockets_runs_and_is_not_left_open",
        || {
            let pinned = Pinned::shell();
            pinned.replace(copy_true);
            let sockets = sockets(3);
            // Out of the way of 3 to 5, whoever has those now; they are the test's own from here on.
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
fn a_script_that_was_pinned_runs_by_path_for_as_long_as_that_leads_to_it() {
    on_each_kernel(|spawner| {
        let pinned = Pinned::new(|path| write_script(path, "#!/bin/sh\nkill -STOP $$\n"));
        let argv = texts(&["server"]);
        let worker = Worker::stopped(spawner, &pinned.spec(&argv));
        assert!(fs::read_to_string(worker.proc("cmdline")).unwrap().contains("./server"));
        pinned.replace(copy_true);
        let error = spawn(spawner, &pinned.spec(&argv)).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::ENOENT));
    });
}

#[test]
fn a_fault_of_what_was_pinned_is_not_looked_for_in_what_took_its_place() {
    let pinned = Pinned::new(|path| {
        copy_true(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    });
    pinned.replace(copy_true);
    let error = spawn(&mut Spawner::new().unwrap(), &pinned.spec(&texts(&["server"]))).unwrap_err();
    assert_eq!(error.to_string(), "cannot execute ./server: it has no execute permission (mode 0644)");
}

#[test]
fn a_deleted_directory_does_not_stop_what_was_pinned_and_is_named_where_a_path_is_needed() {
    let pinned = Pinned::shell();
    fs::remove_dir_all(pinned.path().parent().unwrap()).unwrap();
    let argv = stopping_shell();
    let mut spawner = Spawner::new().unwrap();
    drop(Worker::stopped(&mut spawner, &pinned.spec(&argv)));

    let spec = SpawnSpec { executable: None, ..pinned.spec(&argv) };
    let error = spawner.spawn(&spec).unwrap_err();
    let directory = pinned.root.path().join("release").display().to_string();
    assert_eq!(error.fault, Some(error::ExecFault::DirectoryDeleted { directory: directory.clone() }));
    assert_eq!(
        error.to_string(),
        format!("cannot execute ./server: its directory {directory} has been deleted")
    );
    assert!(!error.is_transient(), "it does not come back");
    assert!(error.hint().unwrap().contains("keep a release's directory"));
}
