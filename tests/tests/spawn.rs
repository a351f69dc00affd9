//! What root can make of a child process, and what the kernel then refuses: the [`Spawner`], on real processes. A child stops itself when it runs; what it was given is then read from `/proc`.

use std::ffi::{CStr, CString};
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use einhyrningsins::{Credentials, ResourceLimit, SpawnError, SpawnSpec, Spawner, Stage};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, pipe2, setresuid};
use tests::Process;
use tests::faults::Strace;
use tests::process::isolated;
use tests::wait::{patience, within};

tests::trials! {
    a_child_is_another_user_with_its_groups_and_nothing_of_ours needs "root",
    a_group_alone_leaves_the_user_and_its_other_groups needs "root",
    a_child_of_another_user_dies_with_its_parent needs "root" "util-linux",
    a_place_that_the_user_may_not_enter_or_execute_is_named needs "root",
    a_rehearsal_finds_out_whether_the_user_may_write_to_a_file needs "root",
    a_user_with_too_many_processes_is_transient needs "root",
    a_child_that_cannot_be_killed_is_reported_and_not_waited_for needs "root" "strace" "util-linux",
}

const SHELL: &CStr = c"/bin/sh";

/// A user and groups of whom the system knows nothing.
fn stranger() -> Credentials {
    Credentials { uid: Some(54_321), gid: Some(54_322), groups: Some(vec![54_322, 54_323]) }
}

fn text(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

/// The words of a shell that runs `script`.
fn shell(script: &str) -> [CString; 3] {
    ["sh", "-c", script].map(text)
}

fn limits(text: &str) -> [ResourceLimit; 1] {
    [text.parse().expect("a limit")]
}

/// Spawns, again while the program is still open for writing in a child of another test.
fn spawn(spawner: &mut Spawner, spec: &SpawnSpec<'_>) -> Result<Pid, SpawnError> {
    let spawned = within(patience(), || match spawner.spawn(spec) {
        Err(error) if error.errno == Errno::ETXTBSY => None,
        result => Some(result),
    });
    spawned.expect("a program that nobody writes to")
}

/// A child that has stopped itself; killed and reaped when dropped.
struct Stopped(Process);

impl Stopped {
    fn spawn(spawner: &mut Spawner, spec: &SpawnSpec<'_>) -> Self {
        let pid = spawn(spawner, spec).expect("a child");
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED));
        assert_eq!(status, Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));
        Self(Process::of(pid.as_raw()).expect("a stopped child"))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGKILL);
        let _ = waitpid(Pid::from_raw(self.0.pid()), None);
    }
}

fn stopping() -> [CString; 3] {
    shell("kill -STOP $$")
}

fn a_child_is_another_user_with_its_groups_and_nothing_of_ours() {
    let (argv, credentials, limits) = (stopping(), stranger(), limits("nofile=77:88"));
    let spec = SpawnSpec {
        credentials: Some(&credentials),
        nice: Some(-3),
        limits: &limits,
        oom_score_adj: Some(777),
        parent_death_signal: Some(Signal::SIGUSR2),
        no_new_privileges: true,
        ..SpawnSpec::new(SHELL, &argv, &[])
    };
    let mut spawner = Spawner::new().expect("a spawner");
    assert_eq!(spawner.rehearse(&spec), Ok(()));
    let Stopped(child) = &Stopped::spawn(&mut spawner, &spec);
    for (field, expected) in [
        ("Uid", "54321\t54321\t54321\t54321"),
        ("Gid", "54322\t54322\t54322\t54322"),
        ("Groups", "54322 54323"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(child.status(field).as_deref(), Some(expected), "{field}");
    }
    // A nice value below zero took a privilege that the child has no more.
    assert_eq!(child.nice(), Some(-3));
    assert_eq!(child.oom_score_adj(), Some(777));
    assert_eq!(child.limit("Max open files"), ["77", "88"]);
    let own = Process::of(std::process::id().cast_signed()).expect("this process");
    assert_eq!(own.status("Uid").as_deref(), Some("0\t0\t0\t0"), "the parent is as it was");
    assert_ne!(own.oom_score_adj(), Some(777));
}

fn a_group_alone_leaves_the_user_and_its_other_groups() {
    let argv = stopping();
    let credentials = Credentials { gid: Some(54_322), ..Credentials::default() };
    let spec = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(SHELL, &argv, &[]) };
    let Stopped(child) = &Stopped::spawn(&mut Spawner::new().expect("a spawner"), &spec);
    let own = Process::of(std::process::id().cast_signed()).expect("this process");
    assert_eq!(child.status("Gid").as_deref(), Some("54322\t54322\t54322\t54322"));
    assert_eq!(child.status("Groups"), own.status("Groups"));
    assert_eq!(child.status("Uid").as_deref(), Some("0\t0\t0\t0"));
}

/// A change of user clears the parent-death signal, so it must be set after that. Only the child can say what it has.
fn a_child_of_another_user_dies_with_its_parent() {
    let (argv, credentials) = (shell("exec setpriv --dump >&2"), stranger());
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let spec = SpawnSpec {
        credentials: Some(&credentials),
        parent_death_signal: Some(Signal::SIGUSR2),
        stderr: Some(writer.as_fd()),
        ..SpawnSpec::new(SHELL, &argv, &[])
    };
    let pid = spawn(&mut Spawner::new().expect("a spawner"), &spec).expect("a child");
    drop(writer);
    let mut dump = String::new();
    File::from(reader).read_to_string(&mut dump).expect("what setpriv prints");
    waitpid(pid, None).expect("the end of the child");
    assert!(dump.contains("Parent death signal: USR2"), "{dump}");
    assert!(dump.contains("uid: 54321"), "{dump}");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
}

fn a_place_that_the_user_may_not_enter_or_execute_is_named() {
    let root = tempfile::tempdir().expect("a directory");
    set_mode(root.path(), 0o755);
    let closed = root.path().join("closed");
    let program = closed.join("true");
    fs::create_dir(&closed).expect("a directory");
    fs::copy("/bin/true", &program).expect("a program");
    set_mode(&closed, 0o700);
    let pin =
        |path: &Path| open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).expect("a descriptor");
    let (directory, executable) = (pin(&closed), pin(&program));
    let (credentials, argv) = (stranger(), [text("true")]);
    let path = text(program.to_str().expect("UTF-8"));
    let by_path = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(&path, &argv, &[]) };
    let mut spawner = Spawner::new().expect("a spawner");
    let mut assert_refused = |spec: &SpawnSpec<'_>, stage: Stage, message: &str| {
        for result in [spawner.rehearse(spec), spawn(&mut spawner, spec).map(drop)] {
            let error = result.expect_err(message);
            assert_eq!((error.stage, error.errno), (stage, Errno::EACCES));
            assert_eq!(error.to_string(), message);
        }
    };
    let name = closed.display();
    let why = format!("user 54321 may not search {name} (mode 0700)");
    assert_refused(&by_path, Stage::Exec, &format!("cannot execute {name}/true: {why}"));
    let inside = SpawnSpec { directory: Some(directory.as_fd()), ..by_path };
    let message = format!("cannot enter the working directory for {name}/true: {why}");
    assert_refused(&inside, Stage::Directory, &message);

    let pinned = SpawnSpec { executable: Some(executable.as_fd()), ..by_path };
    set_mode(&closed, 0o755);
    set_mode(&program, 0o750);
    let message = format!("cannot execute {name}/true: user 54321 may not execute it (mode 0750)");
    assert_refused(&pinned, Stage::Exec, &message);
    chown(&program, None, Some(54_323)).expect("its group");
    assert_eq!(spawner.rehearse(&pinned), Ok(()));

    // Held by its descriptor, the program needs no path.
    set_mode(&closed, 0o700);
    fs::rename(&closed, root.path().join("elsewhere")).expect("another name");
    assert_eq!(spawner.rehearse(&pinned), Ok(()));
    let pid = spawn(&mut spawner, &pinned).expect("a child");
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
}

fn a_rehearsal_finds_out_whether_the_user_may_write_to_a_file() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("file");
    fs::write(&file, "").expect("a file");
    let (credentials, argv) = (stranger(), [text("true")]);
    let path = text(file.to_str().expect("UTF-8"));
    let own = SpawnSpec { writes_to: Some(&path), ..SpawnSpec::new(c"/bin/true", &argv, &[]) };
    let strangers = SpawnSpec { credentials: Some(&credentials), ..own };
    let mut spawner = Spawner::new().expect("a spawner");
    for (directory_mode, file_mode, stranger_may) in
        [(0o700, 0o666, false), (0o711, 0o644, false), (0o711, 0o666, true)]
    {
        set_mode(root.path(), directory_mode);
        set_mode(&file, file_mode);
        assert_eq!(spawner.rehearse(&own), Ok(()));
        let found = spawner.rehearse(&strangers).map_err(|error| (error.stage, error.errno));
        let expected = if stranger_may { Ok(()) } else { Err((Stage::WritesTo, Errno::EACCES)) };
        assert_eq!(found, expected, "{directory_mode:o} {file_mode:o}");
    }
    // A spawn does not look.
    fs::remove_file(&file).expect("no file");
    let pid = spawn(&mut spawner, &strangers).expect("a child");
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
}

fn a_user_with_too_many_processes_is_transient() {
    let (argv, limits) = (stopping(), limits("nproc=1"));
    let credentials = Credentials { uid: Some(54_399), ..stranger() };
    let spec =
        SpawnSpec { credentials: Some(&credentials), limits: &limits, ..SpawnSpec::new(SHELL, &argv, &[]) };
    let mut spawner = Spawner::new().expect("a spawner");
    // The kernel looks at the number before it counts the new process.
    let _first = Stopped::spawn(&mut spawner, &spec);
    let _second = Stopped::spawn(&mut spawner, &spec);
    let error = spawner.spawn(&spec).expect_err("one too many");
    assert_eq!((error.stage, error.errno), (Stage::Exec, Errno::EAGAIN));
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "cannot execute /bin/sh: its user has too many processes");
}

/// Root without `CAP_KILL` may not signal another user's process. strace stops the child right after it has become
/// that user.
fn a_child_that_cannot_be_killed_is_reported_and_not_waited_for() {
    let name = "spawn::a_child_that_cannot_be_killed_is_reported_and_not_waited_for";
    let mut wrapper = Command::new("setpriv");
    wrapper.args(["--bounding-set", "-kill"]);
    isolated(name, wrapper, || {
        let own = Process::of(std::process::id().cast_signed()).expect("this process");
        let log = tempfile::NamedTempFile::new().expect("a file");
        let (argv, credentials) = (shell(":"), stranger());
        let spec = SpawnSpec { credentials: Some(&credentials), ..SpawnSpec::new(SHELL, &argv, &[]) };
        let mut spawner = Spawner::new().expect("a spawner");
        let strace = Strace::attach_to_family(own, "setresuid:signal=SIGSTOP", log.path());
        let before = own.children();
        let error = spawner.spawn(&spec).expect_err("a child that was stopped");
        assert_eq!((error.stage, error.errno), (Stage::Signal, Errno::EPERM), "{error}");
        assert!(!error.is_transient());
        assert_eq!(spawner.spawn(&spec).expect_err("too early").stage, Stage::Paused);
        strace.detach();
        // Its own user may end it.
        let stranger = Uid::from_raw(54_321);
        setresuid(stranger, stranger, stranger).expect("another user");
        let left: Vec<_> = own.children().into_iter().filter(|child| !before.contains(child)).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].signal(Signal::SIGKILL));
        let pid = Pid::from_raw(left[0].pid());
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Signaled(pid, Signal::SIGKILL, false)));
    });
}
