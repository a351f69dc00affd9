//! What a worker's process is given, read from `/proc`; and what it cannot be given.

use std::os::unix::fs::chown;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::*;
use crate::sys::account::Credentials;

/// A user and groups of whom the system knows nothing.
fn stranger() -> Credentials {
    Credentials { uid: Some(54_321), gid: Some(54_322), groups: Some(vec![54_322, 54_323]) }
}

/// Whether the test may become somebody else; says why not.
fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("skipped: to change the user takes root");
    }
    is_root
}

/// Gives up root in this process, which is that of an isolated test, for good.
fn become_nobody() {
    if geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
        // As it is after an exec: else what this process has in /proc would be root's.
        prctl::set_dumpable(true).unwrap();
    }
}

fn limits(texts: &[&str]) -> Vec<ResourceLimit> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_worker_is_another_user_with_its_groups_and_nothing_of_ours() {
    if !is_root() {
        return;
    }
    let argv = stopping_shell();
    let credentials = stranger();
    let spec = SpawnSpec {
        credentials: Some(&credentials),
        nice: Some(-3),
        limits: &limits(&["nofile=77:88"]),
        oom_score_adj: Some(777),
        parent_death_signal: Some(Signal::SIGUSR2),
        no_new_privileges: true,
        ..SpawnSpec::new(SHELL, &argv, &[])
    };
    let mut spawner = Spawner::new().unwrap();
    spawner.rehearse(&spec).unwrap();
    let worker = Worker::stopped(&mut spawner, &spec);
    for (field, expected) in [
        ("Uid", "54321\t54321\t54321\t54321"),
        ("Gid", "54322\t54322\t54322\t54322"),
        ("Groups", "54322 54323"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(worker.status(field).trim_end(), expected, "{field}");
    }
    // This took a privilege that the worker does not have any more.
    assert_eq!(worker.stat(19), "-3", "nice");
    assert_eq!(fs::read_to_string(worker.proc("oom_score_adj")).unwrap(), "777\n");
    assert_eq!(worker.limit("Max open files"), ["77", "88"]);
    assert_eq!((geteuid().as_raw(), prctl::get_dumpable()), (0, Ok(true)), "the master is as it was");
    assert_ne!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), "777\n");
}

#[test]
fn a_group_alone_leaves_the_user_and_its_other_groups() {
    if !is_root() {
        return;
    }
    let argv = stopping_shell();
    let credentials = Credentials { gid: Some(54_322), ..Credentials::default() };
    let spec = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(SHELL, &argv, &[]) };
    let worker = Worker::stopped(&mut Spawner::new().unwrap(), &spec);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("Groups:\t")).unwrap().trim_end();
    assert_eq!(worker.status("Gid"), "54322\t54322\t54322\t54322");
    assert_eq!(worker.status("Groups"), own);
    assert_eq!(worker.status("Uid"), "0\t0\t0\t0");
}

#[test]
fn a_worker_of_another_user_dies_with_its_master() {
    if !is_root() {
        return;
    }
    isolated("sys::spawn::tests::attributes::a_worker_of_another_user_dies_with_its_master", || {
        // The change of user clears the wish: it must have come behind. Nobody can read it from outside, so the
        // worker tells: by the one program that everybody has who may run these tests.
        let argv = texts(&["setpriv", "--dump"]);
        let credentials = stranger();
        let (reader, writer) = pipe().unwrap();
        let spec = SpawnSpec {
            credentials: Some(&credentials),
            parent_death_signal: Some(Signal::SIGUSR2),
            stderr: Some(writer.as_fd()),
            ..SpawnSpec::new(c"/usr/bin/setpriv", &argv, &[])
        };
        // Standard output is the one stream that it tells on.
        let script = texts(&["sh", "-c", "exec setpriv --dump >&2"]);
        let spec = SpawnSpec { argv: &script, program: SHELL, ..spec };
        let pid = spawn(&mut Spawner::new().unwrap(), &spec).unwrap();
        drop(writer);
        let mut told = String::new();
        File::from(reader).read_to_string(&mut told).unwrap();
        waitpid(pid, None).unwrap();
        assert!(told.contains("Parent death signal: USR2"), "{told}");
        assert!(told.contains("uid: 54321"), "{told}");
    });
}

#[test]
fn limits_are_set_one_after_the_other_and_the_last_word_counts() {
    let argv = stopping_shell();
    let spec = SpawnSpec {
        open_files: Some(OpenFilesLimit { soft: 100, hard: 1000 }),
        limits: &limits(&["nofile=90:900", "core=0:0", "nofile=80:800", "cpu=3600", "stack=4M:8M"]),
        ..SpawnSpec::new(SHELL, &argv, &[])
    };
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &spec);
        assert_eq!(worker.limit("Max open files"), ["80", "800"]);
        assert_eq!(worker.limit("Max core file size"), ["0", "0"]);
        assert_eq!(worker.limit("Max cpu time"), ["3600", "3600"]);
        assert_eq!(worker.limit("Max stack size"), ["4194304", "8388608"]);
    });
}

#[test]
fn a_low_limit_on_open_files_is_not_in_the_way_of_the_sockets() {
    let sockets = sockets(8);
    let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let argv = stopping_shell();
    // Room for the loader of programs, but not for moving the sockets about.
    let limits = limits(&["nofile=12"]);
    let spec = SpawnSpec { sockets: &borrowed, limits: &limits, ..SpawnSpec::new(SHELL, &argv, &[]) };
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &spec);
        assert_eq!(worker.descriptors().len(), 3 + 8);
    });
}

#[test]
fn a_worker_runs_on_the_cpus_that_it_was_given() {
    let available = CpuSet::available().unwrap();
    let last = available.one_by_one().pop().unwrap();
    let argv = stopping_shell();
    let spec = SpawnSpec { cpus: Some(&last), ..SpawnSpec::new(SHELL, &argv, &[]) };
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &spec);
        assert_eq!(worker.status("Cpus_allowed_list"), last.to_string());
        assert_eq!(CpuSet::available().as_ref(), Ok(&available), "the master runs where it did");

        let cpus = "8100".parse().unwrap();
        let error = spawner.spawn(&SpawnSpec { cpus: Some(&cpus), ..spec }).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Affinity, Errno::EINVAL));
        assert!(error.hint().unwrap().contains("cpuset"));
    });
}

#[test]
fn the_directory_is_found_though_its_number_is_wanted_for_a_socket() {
    isolated(
        "sys::spawn::tests::attributes::the_directory_is_found_though_its_number_is_wanted_for_a_socket",
        || {
            let there = tempfile::tempdir().unwrap();
            let fd = open(there.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            let sockets = sockets(3);
            let high: Vec<_> = sockets.iter().zip([100, 101, 102]).map(|(fd, to)| place(fd, to)).collect();
            let argv = stopping_shell();
            let fd = place(&fd, 103).try_clone_to_owned().unwrap();
            let mut spawner = Spawner::new().unwrap();
            for (number, is_always_apart) in [(3, false), (5, false), (3, true), (5, true)] {
                spawner.is_always_apart = is_always_apart;
                let directory = Some(place(&fd, number));
                let spec = SpawnSpec { directory, sockets: &high, ..SpawnSpec::new(SHELL, &argv, &[]) };
                let worker = Worker::stopped(&mut spawner, &spec);
                assert_eq!(fs::read_link(worker.proc("cwd")).unwrap(), there.path());
                assert_eq!(worker.descriptors()[3].1, target(high[0]));
            }
            // They stand for descriptors that `place` has closed.
            std::mem::forget((fd, sockets));
        },
    );
}

#[test]
fn what_takes_privileges_is_refused_without_them_and_says_which() {
    isolated(
        "sys::spawn::tests::attributes::what_takes_privileges_is_refused_without_them_and_says_which",
        || {
            become_nobody();
            let argv = texts(&["true"]);
            let plain = SpawnSpec::new(c"/bin/true", &argv, &[]);
            let user = stranger();
            let group = Credentials { gid: Some(54_322), ..Credentials::default() };
            let alone = Credentials { groups: None, gid: None, ..stranger() };
            let limit = limits(&["nofile=infinity"]);
            let number = limit[0].for_kernel().resource;
            for (spec, stage, errno, message, hint) in [
                (
                    SpawnSpec { credentials: Some(&user), ..plain },
                    Stage::Groups,
                    Errno::EPERM,
                    "cannot set the supplementary groups for /bin/true: Operation not permitted (os error 1)",
                    "CAP_SETGID",
                ),
                (
                    SpawnSpec { credentials: Some(&group), ..plain },
                    Stage::Group,
                    Errno::EPERM,
                    "cannot change the group for /bin/true: Operation not permitted (os error 1)",
                    "CAP_SETGID",
                ),
                (
                    SpawnSpec { credentials: Some(&alone), ..plain },
                    Stage::User,
                    Errno::EPERM,
                    "cannot change the user for /bin/true: Operation not permitted (os error 1)",
                    "CAP_SETUID",
                ),
                (
                    SpawnSpec { limits: &limit, ..plain },
                    Stage::Limit(number),
                    Errno::EPERM,
                    "cannot set the limit nofile for /bin/true: Operation not permitted (os error 1)",
                    "hard limit is 20000",
                ),
                (
                    SpawnSpec { oom_score_adj: Some(-1000), ..plain },
                    Stage::OomScoreAdj,
                    Errno::EACCES,
                    "cannot set oom_score_adj for /bin/true: Permission denied (os error 13)",
                    "CAP_SYS_RESOURCE",
                ),
            ] {
                let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
                let hint = hint.replace("20000", &hard.to_string());
                in_each_way(|spawner| {
                    for error in [spawner.rehearse(&spec).unwrap_err(), spawner.spawn(&spec).unwrap_err()] {
                        assert_eq!((error.stage, error.errno), (stage, errno));
                        assert_eq!(error.to_string(), message);
                        assert!(error.hint().unwrap().contains(&hint), "{:?}", error.hint());
                        assert!(!error.is_transient());
                    }
                });
            }
            // What takes none is given to anybody.
            let spec =
                SpawnSpec { no_new_privileges: true, oom_score_adj: Some(1000), nice: Some(19), ..plain };
            in_each_way(|spawner| assert_eq!(spawner.rehearse(&spec), Ok(())));
        },
    );
}

#[test]
fn a_place_that_the_user_may_not_enter_or_execute_is_named() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let closed = root.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::copy("/bin/true", closed.join("true")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let pin = |path: &Path| open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let (directory, executable) = (pin(&closed), pin(&closed.join("true")));
    let credentials = stranger();
    let argv = texts(&["true"]);
    let path = text(closed.join("true").to_str().unwrap());
    let by_path = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(&path, &argv, &[]) };
    let check = |spec: &SpawnSpec<'_>, stage: Stage, message: &str| {
        let mut spawner = Spawner::new().unwrap();
        for error in [spawner.rehearse(spec).unwrap_err(), spawn(&mut spawner, spec).unwrap_err()] {
            assert_eq!((error.stage, error.errno), (stage, Errno::EACCES));
            assert_eq!(error.to_string(), message);
            assert!(error.hint().unwrap().starts_with("chmod a+x "), "{error}");
        }
    };
    let name = closed.display();
    check(
        &by_path,
        Stage::Exec,
        &format!("cannot execute {name}/true: user 54321 may not search {name} (mode 0700)"),
    );
    check(
        &SpawnSpec { directory: Some(directory.as_fd()), ..by_path },
        Stage::Directory,
        &format!(
            "cannot enter the working directory for {name}/true: user 54321 may not search {name} (mode 0700)"
        ),
    );
    // Held by its descriptor, the program needs no path.
    let pinned = SpawnSpec { executable: Some(executable.as_fd()), ..by_path };
    let mut spawner = Spawner::new().unwrap();
    spawner.names_by_file = true;
    spawner.rehearse(&pinned).unwrap();
    waitpid(spawn(&mut spawner, &pinned).unwrap(), None).unwrap();
    fs::set_permissions(closed.join("true"), fs::Permissions::from_mode(0o750)).unwrap();
    let message = format!("cannot execute {name}/true: user 54321 may not execute it (mode 0750)");
    check(&pinned, Stage::Exec, &message);
    chown(closed.join("true"), None, Some(54_323)).unwrap();
    spawner.rehearse(&pinned).unwrap();
}

#[test]
fn a_rehearsal_tells_whether_the_user_may_write_to_a_file() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let argv = texts(&["true"]);
    let path = text(file.to_str().unwrap());
    let credentials = stranger();
    let own = SpawnSpec { writes_to: Some(&path), ..SpawnSpec::new(c"/bin/true", &argv, &[]) };
    let strangers = SpawnSpec { credentials: Some(&credentials), ..own };
    let mut spawner = Spawner::new().unwrap();
    for (directory_mode, file_mode, stranger_may) in
        [(0o700, 0o666, false), (0o711, 0o644, false), (0o711, 0o666, true)]
    {
        fs::set_permissions(root.path(), fs::Permissions::from_mode(directory_mode)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(file_mode)).unwrap();
        spawner.rehearse(&own).unwrap();
        let found = spawner.rehearse(&strangers).map_err(|error| (error.stage, error.errno));
        let expected = if stranger_may { Ok(()) } else { Err((Stage::WritesTo, Errno::EACCES)) };
        assert_eq!(found, expected, "{directory_mode:o} {file_mode:o}");
    }
    // A spawn does not look.
    fs::remove_file(&file).unwrap();
    waitpid(spawn(&mut spawner, &strangers).unwrap(), None).unwrap();
}

#[test]
fn a_user_with_too_many_processes_is_transient() {
    if !is_root() {
        return;
    }
    isolated("sys::spawn::tests::attributes::a_user_with_too_many_processes_is_transient", || {
        let argv = stopping_shell();
        let credentials = Credentials { uid: Some(54_399), ..stranger() };
        let one = limits(&["nproc=1"]);
        let spec =
            SpawnSpec { credentials: Some(&credentials), limits: &one, ..SpawnSpec::new(SHELL, &argv, &[]) };
        let mut spawner = Spawner::new().unwrap();
        // The kernel looks at the number before it counts the new one.
        let _first = Worker::stopped(&mut spawner, &spec);
        let _second = Worker::stopped(&mut spawner, &spec);
        let error = spawner.spawn(&spec).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::EAGAIN));
        assert!(error.is_transient());
        assert_eq!(error.to_string(), "cannot execute /bin/sh: its user has too many processes");
    });
}

#[test]
fn a_rehearsal_leaves_nothing_behind() {
    isolated("sys::spawn::tests::attributes::a_rehearsal_leaves_nothing_behind", || {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let command = text(&format!("touch {}", mark.display()));
        let argv = [text("sh"), text("-c"), command];
        in_each_way(|spawner| {
            spawner.rehearse(&SpawnSpec::new(SHELL, &argv, &[])).unwrap();
            spawner.rehearse(&SpawnSpec::new(c"/no/such/program", &argv, &[])).unwrap_err();
        });
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
        assert_eq!(open(), before);
        assert!(!mark.exists(), "it was executed");
    });
}
