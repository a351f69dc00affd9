//! Failed spawns: each names the step and the object, and leaves nothing behind.

use nix::fcntl::{OFlag, open};
use nix::unistd::{Uid, geteuid, setgroups, setuid};

use super::*;
use crate::workers::spawn_hint;

/// Spawns `program` in `directory`, both ways, and returns the error.
fn failure(directory: &Path, program: &str) -> SpawnError {
    let fd = open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
    let program = text(program);
    let argv = texts(&["program"]);
    let spec = SpawnSpec { directory: Some(fd.as_fd()), ..SpawnSpec::new(&program, &argv, &[]) };
    let mut spawner = Spawner::new().unwrap();
    let error = spawn(&mut spawner, &spec).unwrap_err();
    assert_eq!(error.stage, Stage::Exec);
    spawner.is_always_apart = true;
    assert_eq!(spawn(&mut spawner, &spec).unwrap_err(), error);
    error
}

#[test]
fn the_error_says_why_a_program_cannot_be_executed() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    write_script(&file("no-interpreter"), "#! /no/such/ruby -w\n");
    write_script(&file("dos"), "#!/bin/sh\r\nexit 0\r\n");
    write_script(&file("plain"), "echo this is no script\n");
    write_script(&file("empty"), "");
    write_script(&file("bad-interpreter"), "#!./plain-data\n");
    fs::write(file("plain-data"), "data").unwrap();
    fs::write(file("no-mode"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(file("no-mode"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(file("directory")).unwrap();

    for (program, errno, message, hint) in [
        ("./gone", Errno::ENOENT, "cannot execute ./gone: No such file or directory (os error 2)", None),
        ("plain/x", Errno::ENOTDIR, "cannot execute plain/x: Not a directory (os error 20)", None),
        (
            "./no-interpreter",
            Errno::ENOENT,
            "cannot execute ./no-interpreter: its #! interpreter /no/such/ruby is missing",
            None,
        ),
        (
            "./dos",
            Errno::ENOENT,
            r"cannot execute ./dos: its #! interpreter /bin/sh\r is missing",
            Some(r"the script has line ends of another system; sed -i 's/\r$//' ./dos"),
        ),
        (
            "./plain",
            Errno::ENOEXEC,
            "cannot execute ./plain: it is neither a binary that this kernel runs nor a script with #!",
            None,
        ),
        (
            "./empty",
            Errno::ENOEXEC,
            "cannot execute ./empty: it is neither a binary that this kernel runs nor a script with #!",
            None,
        ),
        (
            "./bad-interpreter",
            Errno::EACCES,
            "cannot execute ./bad-interpreter: its #! interpreter ./plain-data cannot be executed",
            None,
        ),
        (
            "./no-mode",
            Errno::EACCES,
            "cannot execute ./no-mode: it has no execute permission (mode 0640)",
            Some("chmod +x ./no-mode"),
        ),
        ("./directory", Errno::EACCES, "cannot execute ./directory: it is a directory", None),
    ] {
        let error = failure(directory.path(), program);
        assert_eq!(error.errno, errno, "{program}");
        assert_eq!(error.to_string(), message);
        assert_eq!(spawn_hint(&error).as_deref(), hint, "{program}");
        assert!(!error.is_transient(), "{program}");
    }
}

#[test]
fn a_missing_loader_is_distinguished_from_a_missing_binary() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = fs::read("/bin/true").unwrap();
    let loader = bytes.windows(5).position(|window| window == b"/lib6" || window == b"/lib/").unwrap();
    bytes[loader + 1] = b'X';
    let path = directory.path().join("foreign");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = failure(directory.path(), "./foreign");
    assert_eq!(error.fault, Some(ExecFault::LoaderMissing));
    assert_eq!(
        error.to_string(),
        "cannot execute ./foreign: the dynamic loader that it was linked for is missing"
    );
}

#[test]
fn arguments_longer_than_the_kernel_takes_are_named() {
    let argv = [text(&"x".repeat(200_000))];
    in_each_way(|spawner| {
        let error = spawner.spawn(&SpawnSpec::new(c"/bin/true", &argv, &[])).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::E2BIG));
        assert_eq!(
            error.to_string(),
            "cannot execute /bin/true: its arguments and variables are longer than the kernel takes"
        );
        assert!(!error.is_transient());
    });
}

#[test]
fn a_program_that_is_being_written_is_transient() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("busy");
    fs::copy("/bin/true", &path).unwrap();
    let _open = File::options().write(true).open(&path).unwrap();
    let program = text(path.to_str().unwrap());
    let argv = texts(&["busy"]);
    in_each_way(|spawner| {
        let error = spawner.spawn(&SpawnSpec::new(&program, &argv, &[])).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::ETXTBSY));
        assert!(error.is_transient());
    });
}

#[test]
fn a_working_directory_that_is_not_a_directory_is_the_step_that_failed() {
    let file = File::open("/dev/null").unwrap();
    let argv = texts(&["true"]);
    let spec = SpawnSpec { directory: Some(file.as_fd()), ..SpawnSpec::new(c"/bin/true", &argv, &[]) };
    in_each_way(|spawner| {
        let error = spawner.spawn(&spec).unwrap_err();
        assert_eq!((error.stage, error.errno), (Stage::Directory, Errno::ENOTDIR));
        assert_eq!(
            error.to_string(),
            "cannot enter the working directory for /bin/true: Not a directory (os error 20)"
        );
    });
}

#[test]
fn sockets_beyond_the_limit_on_open_files_are_transient() {
    isolated("sys::spawn::tests::failures::sockets_beyond_the_limit_on_open_files_are_transient", || {
        let sockets = sockets(8);
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let argv = texts(&["true"]);
        let mut spawner = Spawner::new().unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // 8: the targets do not fit. 11: they do, but no number is left to move a descriptor to, nor beside a
        // pipe.
        let highest = sockets.iter().map(AsRawFd::as_raw_fd).max().unwrap();
        let with_pipe = u64::from(highest.unsigned_abs().max(10)) + 3;
        for (soft, is_always_apart) in [(8, false), (11, false), (with_pipe, true)] {
            spawner.is_always_apart = is_always_apart;
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            let spec = SpawnSpec { sockets: &borrowed, ..SpawnSpec::new(c"/bin/true", &argv, &[]) };
            let error = spawner.spawn(&spec).unwrap_err();
            assert_eq!((error.stage, error.errno), (Stage::Descriptors, Errno::EMFILE), "limit {soft}");
            assert!(error.is_transient());
            assert!(spawn_hint(&error).unwrap().contains("open files"));
        }
    });
}

#[test]
fn a_process_too_many_is_transient_and_a_forbidden_nice_value_is_not() {
    isolated(
        "sys::spawn::tests::failures::a_process_too_many_is_transient_and_a_forbidden_nice_value_is_not",
        || {
            if geteuid().is_root() {
                setgroups(&[]).unwrap();
                setuid(Uid::from_raw(65_534)).unwrap();
            }
            let argv = texts(&["true"]);
            let mut spawner = Spawner::new().unwrap();
            setrlimit(Resource::RLIMIT_NICE, 0, 0).unwrap();
            let spec = SpawnSpec { nice: Some(-5), ..SpawnSpec::new(c"/bin/true", &argv, &[]) };
            let error = spawner.spawn(&spec).unwrap_err();
            assert_eq!((error.stage, error.errno), (Stage::Nice, Errno::EACCES));
            assert!(!error.is_transient());

            setrlimit(Resource::RLIMIT_NPROC, 0, 0).unwrap();
            let error = spawner.spawn(&SpawnSpec::new(c"/bin/true", &argv, &[])).unwrap_err();
            assert_eq!((error.stage, error.errno), (Stage::Clone, Errno::EAGAIN));
            assert!(error.is_transient());
            assert_eq!(
                error.to_string(),
                "cannot make a process for /bin/true: Resource temporarily unavailable (os error 11)"
            );
        },
    );
}

#[test]
fn a_failed_spawn_leaves_no_zombie_and_no_descriptor() {
    isolated("sys::spawn::tests::failures::a_failed_spawn_leaves_no_zombie_and_no_descriptor", || {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let argv = texts(&["gone"]);
        let mut spawner = Spawner::new().unwrap();
        for number in 0..40 {
            spawner.is_always_apart = number % 2 == 1;
            spawner.spawn(&SpawnSpec::new(c"/no/such/program", &argv, &[])).unwrap_err();
        }
        assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
        assert_eq!(open(), before);
    });
}
