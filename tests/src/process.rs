//! Processes as `/proc` shows them, and programs run to their end.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

#[cfg(target_arch = "x86_64")]
use nix::libc::SYS_epoll_wait;
use nix::libc::{SYS_epoll_pwait, SYS_wait4, c_long};
use nix::sys::signal::{self, Signal};
use nix::time::ClockId;
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use crate::wait;

/// The system calls that `epoll_wait(2)` may be.
const EPOLL_WAIT_CALLS: &[c_long] = &[
    #[cfg(target_arch = "x86_64")]
    SYS_epoll_wait,
    SYS_epoll_pwait,
];

/// One process, told apart from a later one with the same pid by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    pid: i32,
    /// In clock ticks since boot, field 22 of `/proc/PID/stat`.
    start_time: u64,
}

/// A descriptor of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is, as the link in `/proc/PID/fd` says: `socket:[4711]`, `/dev/null`.
    pub target: String,
    /// Whether an exec closes it.
    pub close_on_exec: bool,
    /// Whether it is in non-blocking mode.
    pub nonblocking: bool,
}

impl Process {
    /// The process that has `pid` now; `None` if there is none, or only its zombie.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        (stat.state != 'Z' && stat.state != 'X').then_some(Self { pid, start_time: stat.start_time })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still runs; a zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// A set of signals in `/proc/PID/status`, such as `SigIgn`: signal n is bit n-1.
    ///
    /// # Panics
    /// If the process is gone.
    #[must_use]
    pub fn signal_set(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("its status");
        let set = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
        u64::from_str_radix(set.expect("a set of signals").trim(), 16).expect("a set in hexadecimal")
    }

    /// Whether it is stopped, by SIGSTOP or a tracer.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// Whether it is asleep in a system call: what had happened when it went to sleep has been dealt with, and
    /// something new must happen to wake it.
    ///
    /// # Panics
    /// If the system does not say; `proc_pid_syscall(5)` has the conditions.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        // Not the state in `stat` alone, which is that of sleep already while a process makes sure that it may.
        self.system_call().is_some() && Stat::of(self.pid).is_some_and(|stat| stat.state == 'S')
    }

    /// Whether it sleeps until something happens, and will not wake up just because time has passed: in
    /// `epoll_wait(2)`, without a limit.
    ///
    /// # Panics
    /// As [`Self::is_asleep`].
    #[must_use]
    pub fn sleeps_without_limit(&self) -> bool {
        self.sleep_limit_ms() == Some(-1)
    }

    /// For how long at the most it sleeps in `epoll_wait(2)`, in milliseconds, -1 for ever; `None` if it does something
    /// else.
    ///
    /// # Panics
    /// As [`Self::is_asleep`].
    #[must_use]
    pub fn sleep_limit_ms(&self) -> Option<i32> {
        // The number of the call, its arguments (the fourth is the limit, an `int`), two registers.
        let call = self.system_call()?;
        let field = |number: usize| call.split_ascii_whitespace().nth(number);
        let number = field(0)?.parse().ok()?;
        let limit = u64::from_str_radix(field(4)?.trim_start_matches("0x"), 16).ok()?;
        EPOLL_WAIT_CALLS.contains(&number).then_some(limit as u32 as i32)
    }

    /// Whether it is held in `wait4(2)`, by a tracer for instance.
    ///
    /// # Panics
    /// As [`Self::is_asleep`].
    #[must_use]
    pub fn is_reaping(&self) -> bool {
        let call = self.system_call();
        let number = call.as_deref().and_then(|call| call.split_ascii_whitespace().next()?.parse().ok());
        number == Some(SYS_wait4)
    }

    /// The system call that it is blocked in, as `/proc` shows it.
    fn system_call(&self) -> Option<String> {
        let text = fs::read_to_string(self.path("syscall"));
        let text = text.unwrap_or_else(|error| panic!("cannot tell what process {} does: {error}", self.pid));
        (!text.starts_with("running")).then_some(text)
    }

    /// Sends `signal` if it is still alive; tells whether it was.
    pub fn signal(&self, signal: Signal) -> bool {
        self.is_alive() && signal::kill(Pid::from_raw(self.pid), signal).is_ok()
    }

    /// Waits until it runs its program, or is gone. Only from then on `/proc` shows the environment, arguments and
    /// descriptors that it was started with: whoever starts it goes on a little before.
    #[track_caller]
    pub fn wait_executed(&self) {
        let what = format!("process {} to run its program", self.pid);
        // Set up when the descriptors to be closed have been, and of no worker empty.
        wait::wait_for(&what, || (!self.environment().is_empty() || !self.is_alive()).then_some(()));
    }

    /// Waits until it is gone, or a zombie: its parent may not know yet.
    #[track_caller]
    pub fn wait_gone(&self) {
        wait::wait_for(&format!("process {} to be gone", self.pid), || (!self.is_alive()).then_some(()));
    }

    /// Its parent's pid.
    #[must_use]
    pub fn parent(&self) -> Option<i32> {
        Some(Stat::of(self.pid)?.parent)
    }

    /// Its process group.
    #[must_use]
    pub fn group(&self) -> Option<i32> {
        Some(Stat::of(self.pid)?.group)
    }

    /// Its nice value.
    #[must_use]
    pub fn nice(&self) -> Option<i32> {
        Some(Stat::of(self.pid)?.nice)
    }

    /// Its children, zombies left out, lowest pid first.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let ours = pids.filter(|&pid| Stat::of(pid).is_some_and(|stat| stat.parent == self.pid));
        let mut children: Vec<_> = ours.filter_map(Self::of).collect();
        children.sort_unstable();
        children
    }

    /// How many of its children have ended and were not waited for.
    #[must_use]
    pub fn zombies(&self) -> usize {
        let Ok(entries) = fs::read_dir("/proc") else { return 0 };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let stats = pids.filter_map(Stat::of);
        stats.filter(|stat| stat.parent == self.pid && stat.state == 'Z').count()
    }

    /// Its children, their children, and so on.
    #[must_use]
    pub fn descendants(&self) -> Vec<Self> {
        let mut all = self.children();
        let mut next = 0;
        while next < all.len() {
            all.extend(all[next].children());
            next += 1;
        }
        all
    }

    /// Kills its descendants, and itself.
    pub fn kill_with_descendants(&self) {
        // Stopped, it neither spawns nor reaps: the list of its children is whole and their pids stay theirs.
        self.signal(Signal::SIGSTOP);
        wait::within(wait::patience(), || (!self.is_alive() || self.is_stopped()).then_some(()));
        for process in self.descendants() {
            process.signal(Signal::SIGKILL);
        }
        self.signal(Signal::SIGKILL);
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        fs::read_link(self.path("cwd")).ok()
    }

    /// The file that it executes.
    #[must_use]
    pub fn program(&self) -> Option<PathBuf> {
        fs::read_link(self.path("exe")).ok()
    }

    /// The arguments that it was started with.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.strings("cmdline")
    }

    /// The environment that it was started with.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let pairs = self.strings("environ").into_iter();
        pairs
            .filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.into(), value.into())))
            .collect()
    }

    /// A line of `/proc/PID/status`, for instance `SigBlk`.
    #[must_use]
    pub fn status(&self, field: &str) -> Option<String> {
        let text = fs::read_to_string(self.path("status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// The soft and the hard limit that has this name in `/proc/PID/limits`: `Max open files`.
    ///
    /// # Panics
    /// If it is gone, or the kernel knows no such limit.
    #[track_caller]
    #[must_use]
    pub fn limit(&self, name: &str) -> [String; 2] {
        let limits = fs::read_to_string(self.path("limits")).expect("its limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit of this name");
        let mut words = line.split_whitespace().map(str::to_owned);
        [words.next().expect("a soft limit"), words.next().expect("a hard limit")]
    }

    /// What the kernel adds to its badness when memory runs out.
    #[must_use]
    pub fn oom_score_adj(&self) -> Option<i32> {
        fs::read_to_string(self.path("oom_score_adj")).ok()?.trim().parse().ok()
    }

    /// Its descriptors, by number.
    #[must_use]
    pub fn descriptors(&self) -> BTreeMap<i32, Descriptor> {
        let Ok(entries) = fs::read_dir(self.path("fd")) else { return BTreeMap::new() };
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        numbers.filter_map(|fd| Some((fd, self.descriptor(fd)?))).collect()
    }

    /// The established IPv4 connections that it holds, those whose other end has not closed them, by the port
    /// of that end.
    ///
    /// Each socket is asked, through a copy: the table in `/proc/net/tcp` takes seconds to read after some ten thousand
    /// requests, because closed connections stay in it for a minute.
    #[must_use]
    pub fn connections(&self) -> BTreeSet<u16> {
        let process = rustix::process::Pid::from_raw(self.pid);
        let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let Some(process) = process.filter(|_| self.is_alive()) else { return BTreeSet::new() };
        let descriptors = self.descriptors().into_iter();
        let sockets = descriptors.filter(|(_, descriptor)| descriptor.target.starts_with("socket:"));
        let copies = sockets.filter_map(|(fd, _)| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok());
        copies.filter_map(|socket| peer_port(&socket)).collect()
    }

    fn descriptor(&self, fd: i32) -> Option<Descriptor> {
        let target = fs::read_link(self.path(&format!("fd/{fd}"))).ok()?.to_string_lossy().into_owned();
        let info = fs::read_to_string(self.path(&format!("fdinfo/{fd}"))).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = nix::fcntl::OFlag::from_bits_retain(i32::from_str_radix(flags.trim(), 8).ok()?);
        Some(Descriptor {
            target,
            close_on_exec: flags.contains(nix::fcntl::OFlag::O_CLOEXEC),
            nonblocking: flags.contains(nix::fcntl::OFlag::O_NONBLOCK),
        })
    }

    fn strings(&self, file: &str) -> Vec<String> {
        let bytes = fs::read(self.path(file)).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        let strings = bytes.split(|&byte| byte == 0);
        strings.map(|string| String::from_utf8_lossy(string).into_owned()).collect()
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }
}

/// The port at the other end of an IPv4 connection that the other end has not closed.
fn peer_port(socket: &OwnedFd) -> Option<u16> {
    let port = SockRef::from(socket).peer_addr().ok()?.as_socket_ipv4()?.port();
    let mut ended = [PollFd::new(socket, PollFlags::RDHUP)];
    let has_ended = poll(&mut ended, Some(&Timespec::default())).is_ok_and(|count| count > 0);
    (!has_ended).then_some(port)
}

/// What is used of `/proc/PID/stat`.
struct Stat {
    state: char,
    parent: i32,
    group: i32,
    nice: i32,
    start_time: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything; behind it comes field 3.
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            nice: field(19)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
        })
    }
}

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Its exit code.
    ///
    /// # Panics
    /// If a signal ended it.
    #[track_caller]
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("no exit code\n{self}"))
    }

    /// Asserts its exit code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "exit code\n{self}");
        self
    }

    /// Asserts that standard error holds `text`.
    #[track_caller]
    pub fn assert_says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in standard error\n{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "--- {command}\n--- {status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

/// Runs `command` to its end, with nothing to read and all it writes kept.
///
/// # Panics
/// If it cannot be started, or has not ended when [`wait::patience`] runs out; it is killed then.
#[track_caller]
pub fn run(command: Command) -> Finished {
    run_within(wait::patience(), command, "")
}

/// As [`run`], with `input` to read from a pipe.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_with_input(command: Command, input: &str) -> Finished {
    run_within(wait::patience(), command, input)
}

/// As [`run_with_input`], with another limit than [`wait::patience`].
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_within(limit: Duration, mut command: Command, input: &str) -> Finished {
    let line = format!("{command:?}");
    // Files, not pipes: a worker that outlives its master would hold a pipe open, and nobody need drain them.
    let (stdout, stderr) = (Captured::new(), Captured::new());
    command.stdin(Stdio::piped()).stdout(stdout.writer()).stderr(stderr.writer());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
    let stdin = child.stdin.take();
    let input = input.to_owned();
    // A program that ends without reading its input makes this fail, and is no worse for it.
    let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
    let status = wait::within(limit, || child.try_wait().ok().flatten());
    if status.is_none() {
        if let Some(process) = Process::of(child.id() as i32) {
            process.kill_with_descendants();
        }
        // Ours and not yet waited for, so the pid cannot be somebody else's.
        let _ = child.kill();
    }
    let end = status.or_else(|| child.wait().ok()).unwrap_or_default();
    let _ = writer.join();
    let finished = Finished { command: line, status: end, stdout: stdout.text(), stderr: stderr.text() };
    assert!(status.is_some(), "still running after {limit:?}\n{finished}");
    finished
}

/// Runs `body` in a process of its own: this test program once more, started by `wrapper`, for the test that has this
/// name (`spawn::a_rehearsal_leaves_nothing_behind`). For what a process has only once, such as privileges.
///
/// # Panics
/// If `body` does, in the other process.
#[track_caller]
pub fn isolated(name: &str, mut wrapper: Command, body: impl FnOnce()) {
    const MARKER: &str = "EINHYRNINGSINS_TEST_ISOLATED";
    if env::var_os(MARKER).is_some_and(|marker| marker == name) {
        return body();
    }
    wrapper.arg(env::current_exe().expect("this program"));
    wrapper.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(MARKER, name);
    let finished = run(wrapper);
    finished.assert_code(0);
    assert!(finished.stdout.contains("1 passed"), "it did not run\n{finished}");
}

/// An unnamed file that takes what a program writes.
#[derive(Debug)]
pub struct Captured(File);

impl Captured {
    /// Makes an empty one.
    ///
    /// # Panics
    /// If no file can be made.
    #[must_use]
    pub fn new() -> Self {
        Self(tempfile::tempfile().expect("a temporary file"))
    }

    /// An end for a program to write to.
    ///
    /// # Panics
    /// If this process has no descriptor left.
    #[must_use]
    pub fn writer(&self) -> Stdio {
        self.0.try_clone().expect("a second descriptor of the file").into()
    }

    /// All that was written up to now.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = vec![0; self.0.metadata().map_or(0, |metadata| metadata.len() as usize)];
        // At an offset of its own: the writers share the file's.
        let length = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}

impl Default for Captured {
    fn default() -> Self {
        Self::new()
    }
}

/// Computes until this process has used so much CPU time.
pub fn burn(cpu_time: Duration) {
    while !cpu_time.is_zero() && cpu_time_used() < cpu_time {}
}

/// Computes until this process has used so much more CPU time.
pub fn burn_more(cpu_time: Duration) {
    burn(cpu_time_used() + cpu_time);
}

fn cpu_time_used() -> Duration {
    ClockId::CLOCK_PROCESS_CPUTIME_ID.now().map_or(Duration::MAX / 2, Duration::from)
}
