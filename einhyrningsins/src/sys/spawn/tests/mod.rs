//! Spawns of real processes. A worker stops itself as soon as it runs; its attributes are then read from
//! `/proc`.

mod apart;
mod attributes;
mod failures;
mod pinned;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, kill, killpg, raise, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{getpgid, pipe, setpgid};

use super::*;
use crate::sys::testing::{PATIENCE, eventually, isolated};

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn texts(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| text(word)).collect()
}

/// A worker that has stopped itself; killed and reaped when dropped.
struct Worker(Pid);

impl Worker {
    /// Spawns `spec`, which must be a shell that stops itself, and waits until it has.
    fn stopped(spawner: &mut Spawner, spec: &SpawnSpec<'_>) -> Self {
        let worker = Self(spawn(spawner, spec).unwrap());
        let status = waitpid(worker.0, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(status, WaitStatus::Stopped(worker.0, Signal::SIGSTOP));
        worker
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0)
    }

    /// Its open descriptors as (number, target), without those of our own standard streams.
    fn descriptors(&self) -> Vec<(RawFd, String)> {
        let mut open: Vec<_> = fs::read_dir(self.proc("fd"))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let target = fs::read_link(entry.path()).unwrap();
                (entry.file_name().to_str().unwrap().parse().unwrap(), target.display().to_string())
            })
            .collect();
        open.sort();
        open
    }

    /// A field of /proc/PID/status that is a set of signals.
    fn signals(&self, field: &str) -> u64 {
        u64::from_str_radix(&self.status(field), 16).unwrap()
    }

    /// A field of /proc/PID/status.
    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
        value.unwrap_or_else(|| panic!("no {field} in {status}")).trim_end().to_owned()
    }

    /// A field of /proc/PID/stat, by its number in `proc_pid_stat(5)`, from 3 up.
    fn stat(&self, number: usize) -> String {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        let after_name: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        after_name[number - 3].to_owned()
    }

    /// The soft and the hard limit in a line of /proc/PID/limits.
    fn limit(&self, name: &str) -> [String; 2] {
        let limits = fs::read_to_string(self.proc("limits")).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        [words.next().unwrap(), words.next().unwrap()]
    }

    fn environment(&self) -> Vec<String> {
        let bytes = fs::read(self.proc("environ")).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Runs `check` for children that share our memory until their exec, and for those that do not.
fn in_each_way(check: impl Fn(&mut Spawner)) {
    let mut spawner = Spawner::new().unwrap();
    check(&mut spawner);
    spawner.is_always_apart = true;
    check(&mut spawner);
}

/// Spawns; retries while a script that a test has just written is still open in the child of another test.
fn spawn(spawner: &mut Spawner, spec: &SpawnSpec<'_>) -> Result<Pid, SpawnError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match spawner.spawn(spec) {
            Err(error) if error.errno == Errno::ETXTBSY && Instant::now() < deadline => {}
            result => return result,
        }
    }
}

const SHELL: &CStr = c"/bin/sh";

/// The arguments of a shell that stops itself as soon as it runs.
fn stopping_shell() -> Vec<CString> {
    texts(&["sh", "-c", "kill -STOP $$"])
}

fn target(fd: impl AsFd) -> String {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    fs::read_link(link).unwrap().display().to_string()
}

/// Puts the descriptor of `socket` at `number`, which must be free or owned by the test.
fn place(socket: &OwnedFd, number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: no memory is involved; the isolated test that calls this owns the number.
    let placed = unsafe { libc::dup3(socket.as_raw_fd(), number, libc::O_CLOEXEC) };
    assert_eq!(placed, number);
    // SAFETY: open until the process of the isolated test ends.
    unsafe { BorrowedFd::borrow_raw(number) }
}

fn sockets(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| UnixStream::pair().unwrap().0.into()).collect()
}

/// Spawns with sockets at every kind of awkward number, and checks the worker's descriptors.
fn check_descriptors(spawner: &mut Spawner) {
    let sockets = sockets(4);
    // The targets are 3 to 7: one is at its target, two are swapped, one is elsewhere, the last is a duplicate.
    // A file that was left open across exec lies in between.
    let high: Vec<_> = sockets.iter().zip([100, 101, 102, 103]).map(|(fd, to)| place(fd, to)).collect();
    let owned: Vec<OwnedFd> = high.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
    drop(sockets);
    let given =
        [place(&owned[0], 3), place(&owned[1], 5), place(&owned[2], 4), place(&owned[3], 50), high[0]];
    let leaked = File::open("/dev/null").unwrap();
    // SAFETY: no memory is involved; the number is free.
    assert_eq!(unsafe { libc::dup2(leaked.as_raw_fd(), 90) }, 90);
    let expected: Vec<_> = given.iter().map(target).collect();

    let argv = stopping_shell();
    let spec =
        SpawnSpec { sockets: &given[..4], control: Some(given[4]), ..SpawnSpec::new(SHELL, &argv, &[]) };
    for _ in 0..3 {
        let worker = Worker::stopped(spawner, &spec);
        let found = worker.descriptors();
        assert_eq!(found.iter().map(|(fd, _)| *fd).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        let found: Vec<_> = found.into_iter().skip(3).map(|(_, target)| target).collect();
        assert_eq!(found, expected);
    }
    for (fd, expected) in given.iter().zip(&expected) {
        assert_eq!(&target(fd), expected, "the master's own descriptors must be unchanged");
    }
}

#[test]
fn a_worker_has_its_sockets_in_order_and_nothing_else() {
    isolated("sys::spawn::tests::a_worker_has_its_sockets_in_order_and_nothing_else", || {
        in_each_way(|spawner| {
            assert!(spawner.close_range, "this kernel is expected to have close_range");
            check_descriptors(spawner);
        });
    });
}

#[test]
fn a_worker_has_nothing_else_on_a_kernel_without_close_range_either() {
    isolated("sys::spawn::tests::a_worker_has_nothing_else_on_a_kernel_without_close_range_either", || {
        in_each_way(|spawner| {
            spawner.close_range = false;
            check_descriptors(spawner);
        });
    });
}

#[test]
fn a_worker_without_sockets_has_the_standard_streams_only() {
    in_each_way(|spawner| {
        let argv = stopping_shell();
        let worker = Worker::stopped(spawner, &SpawnSpec::new(SHELL, &argv, &[]));
        assert_eq!(worker.descriptors().iter().map(|(fd, _)| *fd).collect::<Vec<_>>(), [0, 1, 2]);
    });
}

extern "C" fn handler(_: c_int) {}

#[test]
fn signals_ignored_handled_or_blocked_by_the_master_are_as_new_in_a_worker() {
    isolated(
        "sys::spawn::tests::signals_ignored_handled_or_blocked_by_the_master_are_as_new_in_a_worker",
        || {
            let ignored = [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGCHLD];
            for signal in ignored {
                let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
                // SAFETY: ignoring runs no code.
                unsafe { sigaction(signal, &action) }.unwrap();
            }
            let realtime = libc::SIGRTMIN() + 1;
            // SAFETY: ignoring runs no code.
            unsafe { libc::signal(realtime, libc::SIG_IGN) };
            let handled = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
            // SAFETY: the handler does nothing.
            unsafe { sigaction(Signal::SIGUSR1, &handled) }.unwrap();
            let blocked: SigSet = [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGHUP].into_iter().collect();
            blocked.thread_block().unwrap();
            raise(Signal::SIGUSR1).unwrap();

            let mut spawner = Spawner::new().unwrap();
            for signal in ignored.map(|signal| signal as c_int).into_iter().chain([realtime, 10]) {
                assert!(spawner.reset & 1 << (signal - 1) != 0, "signal {signal} needs a reset");
            }
            // While SIGCHLD is ignored, a death could not be waited for.
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            // SAFETY: the default disposition runs no code of ours.
            unsafe { sigaction(Signal::SIGCHLD, &default) }.unwrap();
            let argv = stopping_shell();
            for is_always_apart in [false, true] {
                spawner.is_always_apart = is_always_apart;
                let worker = Worker::stopped(&mut spawner, &SpawnSpec::new(SHELL, &argv, &[]));
                assert_eq!(worker.signals("SigBlk"), 0);
                assert_eq!(worker.signals("SigIgn"), 0);
                // A shell may handle some signals itself, but not one that we handled.
                assert_eq!(worker.signals("SigCgt") & 1 << (Signal::SIGUSR1 as c_int - 1), 0);
            }
            assert_eq!(SigSet::thread_get_mask().unwrap(), blocked, "the master's mask must be unchanged");
        },
    );
}

#[test]
fn a_worker_leads_its_own_process_group() {
    in_each_way(|spawner| {
        let argv = stopping_shell();
        let worker = Worker::stopped(spawner, &SpawnSpec::new(SHELL, &argv, &[]));
        assert_eq!(getpgid(Some(worker.0)), Ok(worker.0));
    });
}

#[test]
fn a_signal_to_the_masters_group_during_a_spawn_does_not_reach_the_worker() {
    isolated(
        "sys::spawn::tests::a_signal_to_the_masters_group_during_a_spawn_does_not_reach_the_worker",
        || {
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
            // For the harness's own thread; the worker gets the default back, which is to die.
            let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
            // SAFETY: the handler does nothing.
            unsafe { sigaction(Signal::SIGINT, &action) }.unwrap();
            let group = getpid();
            let done = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        killpg(group, Signal::SIGINT).unwrap();
                    }
                });
                let argv = texts(&["true"]);
                let mut spawner = Spawner::new().unwrap();
                let ends: Vec<_> = (0..300)
                    .map(|number| {
                        spawner.is_always_apart = number % 2 == 1;
                        let pid = spawner.spawn(&SpawnSpec::new(c"/bin/true", &argv, &[])).unwrap();
                        waitpid(pid, None).unwrap()
                    })
                    .collect();
                done.store(true, std::sync::atomic::Ordering::Relaxed);
                let killed = ends.iter().filter(|end| !matches!(end, WaitStatus::Exited(_, 0))).count();
                assert_eq!(killed, 0, "of {}", ends.len());
            });
        },
    );
}

#[test]
fn variables_arrive_and_the_pid_is_digits_and_nothing_more() {
    let argv = stopping_shell();
    let env = texts(&["SHARED=1", "EMPTY=", "UTF8=\u{e9}"]);
    let worker_env = texts(&["EINHORN_CHILD_INDEX=4"]);
    let spec = SpawnSpec {
        worker_env: &worker_env,
        pid_variables: &["LISTEN_PID", "WATCHDOG_PID"],
        ..SpawnSpec::new(SHELL, &argv, &env)
    };
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &spec);
        let expected = [
            format!("LISTEN_PID={}", worker.0),
            format!("WATCHDOG_PID={}", worker.0),
            "EINHORN_CHILD_INDEX=4".to_owned(),
            "SHARED=1".to_owned(),
            "EMPTY=".to_owned(),
            "UTF8=\u{e9}".to_owned(),
        ];
        assert_eq!(worker.environment(), expected);
    });
}

#[test]
fn arguments_arrive_as_they_are() {
    let argv = texts(&["my own name", "-c", "kill -STOP $$", "", "two words", "\u{e9}\n"]);
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &SpawnSpec::new(SHELL, &argv, &[]));
        let found = fs::read_to_string(worker.proc("cmdline")).unwrap();
        assert_eq!(found, "my own name\0-c\0kill -STOP $$\0\0two words\0\u{e9}\n\0");
    });
}

#[test]
fn a_worker_gets_its_directory_nice_value_umask_and_limit() {
    isolated("sys::spawn::tests::a_worker_gets_its_directory_nice_value_umask_and_limit", || {
        let directory = tempfile::tempdir().unwrap();
        write_script(&directory.path().join("here"), "#!/bin/sh\nkill -STOP $$\n");
        let fd = open(directory.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let argv = texts(&["here"]);
        let spec = SpawnSpec {
            directory: Some(fd.as_fd()),
            nice: Some(7),
            umask: Some(Mode::from_bits_truncate(0o027)),
            open_files: Some(OpenFilesLimit { soft: soft - 1, hard }),
            ..SpawnSpec::new(c"./here", &argv, &[])
        };
        let here = std::env::current_dir().unwrap();
        in_each_way(|spawner| {
            let worker = Worker::stopped(spawner, &spec);
            assert_eq!(fs::read_link(worker.proc("cwd")).unwrap(), directory.path());
            assert_eq!(worker.stat(19), "7", "nice");
            assert_eq!(worker.status("Umask"), "0027");
            assert_eq!(worker.limit("Max open files"), [(soft - 1).to_string(), hard.to_string()]);
        });

        assert_eq!(std::env::current_dir().unwrap(), here, "the master's own directory must be unchanged");
        assert_eq!(
            getrlimit(Resource::RLIMIT_NOFILE),
            Ok((soft, hard)),
            "the master's limits must be unchanged"
        );
    });
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_worker_dies_with_its_master_if_asked_to() {
    // A separate process plays the master. It and its worker hold the pipe, which ends when both have exited.
    const NAME: &str = "sys::spawn::tests::a_worker_dies_with_its_master_if_asked_to";
    const PIPE: &str = "EINHYRNINGSINS_TEST_PIPE";
    const APART: &str = "EINHYRNINGSINS_TEST_APART";
    if let Ok(number) = std::env::var(PIPE) {
        // SAFETY: inherited from the test below, and not owned by anything else.
        let pipe = unsafe { BorrowedFd::borrow_raw(number.parse().unwrap()) };
        let argv = texts(&["sleep", "60"]);
        let spec = SpawnSpec {
            sockets: &[pipe],
            parent_death_signal: Some(Signal::SIGUSR2),
            ..SpawnSpec::new(c"/bin/sleep", &argv, &[])
        };
        let mut spawner = Spawner::new().unwrap();
        spawner.is_always_apart = std::env::var_os(APART).is_some();
        let pid = spawner.spawn(&spec).unwrap();
        nix::unistd::write(pipe, &pid.as_raw().to_ne_bytes()).unwrap();
        raise(Signal::SIGKILL).unwrap();
    }
    for apart in [None, Some("1")] {
        let (reader, writer) = pipe().unwrap();
        let inherited = nix::unistd::dup(&writer).unwrap();
        let mut master = std::process::Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
            .env(PIPE, inherited.as_raw_fd().to_string())
            .envs(apart.map(|value| (APART, value)))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        drop((writer, inherited));
        let mut pid = [0; 4];
        let mut reader = File::from(reader);
        reader.read_exact(&mut pid).unwrap();
        let worker = Pid::from_raw(i32::from_ne_bytes(pid));
        master.wait().unwrap();
        let mut end = [0; 1];
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        eventually("the worker's death", || reader.read(&mut end).is_ok());
        // Its descriptors are closed before it is a zombie.
        eventually("the worker's end", || kill(worker, None).is_err() || is_zombie(worker));
    }
}

fn is_zombie(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn the_program_is_not_looked_up_in_path_and_a_script_runs_by_its_interpreter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("script");
    write_script(&path, "#!/bin/sh\nkill -STOP $$\n");
    let argv = texts(&["other name"]);
    let program = text(path.to_str().unwrap());
    in_each_way(|spawner| {
        let worker = Worker::stopped(spawner, &SpawnSpec::new(&program, &argv, &[]));
        let shell = fs::metadata(worker.proc("exe")).unwrap();
        assert_eq!(shell.ino(), fs::metadata("/bin/sh").unwrap().ino());
        let error = spawner.spawn(&SpawnSpec::new(c"true", &argv, &[])).unwrap_err();
        assert_eq!(error.errno, Errno::ENOENT);
    });
}

#[test]
fn a_worker_gets_the_given_standard_error_and_our_standard_output() {
    in_each_way(|spawner| {
        let (reader, writer) = pipe().unwrap();
        let argv = texts(&["sh", "-c", "echo lost >&2; kill -STOP $$"]);
        let spec = SpawnSpec { stderr: Some(writer.as_fd()), ..SpawnSpec::new(SHELL, &argv, &[]) };
        let worker = Worker::stopped(spawner, &spec);
        let stream = |number: usize| worker.descriptors()[number].1.clone();
        assert_eq!(
            (stream(0), stream(1), stream(2)),
            (target(std::io::stdin()), target(std::io::stdout()), target(&writer))
        );
        assert_eq!(worker.descriptors().len(), 3, "the pipe's own number must be closed");
        drop((worker, writer));
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "lost\n");
    });
}

#[test]
fn a_worker_gets_the_given_standard_streams() {
    in_each_way(|spawner| {
        let (reader, writer) = pipe().unwrap();
        let input = File::open("/dev/zero").unwrap();
        let argv = texts(&["sh", "-c", "echo out; echo err >&2; kill -STOP $$"]);
        let (stdin, output) = (Some(input.as_fd()), Some(writer.as_fd()));
        let spec = SpawnSpec { stdin, stdout: output, stderr: output, ..SpawnSpec::new(SHELL, &argv, &[]) };
        let worker = Worker::stopped(spawner, &spec);
        let descriptors: Vec<_> = worker.descriptors().into_iter().map(|(_, target)| target).collect();
        assert_eq!(descriptors, [target(&input), target(&writer), target(&writer)]);
        drop((worker, writer));
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "out\nerr\n");
    });
}
