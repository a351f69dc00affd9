//! Spawning a worker: clone, the steps that turn the new process into a worker, exec.
//!
//! `std::process::Command` does not fit. It passes things on to a worker (a blocked signal mask, ignored
//! signals, the master's process group), and its errors do not name the step that failed; once descriptors are
//! renumbered, it does not even report that one failed. Here the child shares the master's memory until its
//! exec (`CLONE_VM | CLONE_VFORK`), so a spawn costs the same however large the master is, and the child
//! reports a failure by writing it down.
//!
//! # As another user
//!
//! Between the change of user and the exec, a few system calls apart, any process of the new user may signal
//! the child. A stop would halt the master, which is suspended until the exec, forever. So a child that changes
//! its user shares nothing with the master, which keeps running (a clone without those two flags). It reports
//! failures over a close-on-exec pipe; if the pipe ends without a report, the program was executed. The master
//! waits for [`apart::LIMIT`] at most, checks meanwhile whether the child has been stopped, and kills one that
//! has or that takes longer. After that it pauses spawns for a while, so that only one of those that are due in
//! a round is waited for.
//!
//! The child's copy of our memory costs page tables, and the pages that either writes to meanwhile. For a
//! process as small as the master, such a spawn takes 0.28 ms, 4.5 times as long as the barest one; one in
//! shared memory takes 1.15 times as long (`cargo bench -p tests --bench speed -- spawn`). The kernel keeps
//! other processes of the user from reading the copy, since a process that changed its user is not dumpable.
//! That flag belongs to a memory, and the master's own is unchanged. Still, the change of user comes as late as
//! possible: nobody can disturb the steps before it.
//!
//! # By descriptor or by path
//!
//! A program that was pinned by a descriptor is executed by it (`execveat` with `AT_EMPTY_PATH`), so that the
//! pinned file runs, whatever has been renamed since and whenever. Where a seccomp filter refuses that call, the
//! descriptor is executed as `/proc/self/fd/N`. Two cases go by path:
//! - Kernels before 6.14 name such a process after the descriptor's number, and `ps` shows "4" for a server; so does
//!   every kernel for `/proc/self/fd/4`. There the path is used while it leads to the pinned file. A rename between
//!   that check and the exec, some 100 microseconds, can slip the new file under one spawn: the price of a name, on
//!   those kernels only.
//! - If the kernel passes the file to another program (a script with `#!`, a foreign binary by `binfmt_misc`),
//!   that program would find the descriptor closed, and exec fails with ENOENT. If the path still leads to the
//!   pinned file, it is executed by path; the same window applies.

mod apart;
mod child;
mod error;
mod failure;
mod stack;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::{fs, ptr};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{Pid, getpid, pipe2};

use self::apart::Patience;
use self::child::{PID_BYTES_MAX, Plan};
pub use self::error::{ExecFault, SpawnError, Stage};
use self::failure::Failure;
use self::stack::Stack;
use super::account::Credentials;
use super::cpus::CpuSet;
use super::limits::{KernelLimit, ResourceLimit};
use super::process::OpenFilesLimit;
use super::signals::{SIGNAL_MAX, disposition};

/// The descriptor at which a worker finds its first socket; below are standard input, output and error.
pub const FIRST_SOCKET: RawFd = 3;

/// What to spawn.
///
/// In addition a worker gets its own process group, the default disposition for every signal and an empty signal
/// mask. No other descriptor stays open.
#[derive(Debug, Clone, Copy)]
pub struct SpawnSpec<'a> {
    /// The path to execute. It is not looked up in `PATH`; a relative one starts at `directory`.
    pub program: &'a CStr,
    /// A close-on-exec descriptor (`O_PATH` will do) of the file that `program` led to when it was looked up.
    /// This file runs, whatever the path leads to now. `None` runs what the path leads to now.
    pub executable: Option<BorrowedFd<'a>>,
    /// The arguments, starting with the program's own name.
    pub argv: &'a [CString],
    /// Variables as `NAME=value` that many workers share, such as those of a generation.
    pub env: &'a [CString],
    /// Variables as `NAME=value` for this worker alone. A name must not also be in `env`: languages disagree
    /// about which of two wins.
    pub worker_env: &'a [CString],
    /// Names of variables whose value is the worker's own pid, such as `LISTEN_PID`; in neither `env` nor
    /// `worker_env`.
    pub pid_variables: &'a [&'a str],
    /// The working directory, the master's if `None`; a descriptor opened with `O_PATH` will do.
    pub directory: Option<BorrowedFd<'a>>,
    /// The sockets to place at [`FIRST_SOCKET`] and up, in this order.
    pub sockets: &'a [BorrowedFd<'a>],
    /// A connection to the control socket, placed right after the sockets.
    pub control: Option<BorrowedFd<'a>>,
    /// Open descriptors that it gets at the same numbers, none of which a socket or the connection gets.
    pub passed: &'a [RawFd],
    /// Its standard input; the master's if `None`.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Its standard output; the master's if `None`.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Its standard error; the master's if `None`.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Its nice value, from -20 to 19; the master's if `None`.
    pub nice: Option<i32>,
    /// Its file mode creation mask; the master's if `None`.
    pub umask: Option<Mode>,
    /// Its limit on open files, if the master has raised its own.
    pub open_files: Option<OpenFilesLimit>,
    /// More limits. A later one overrides an earlier one of the same resource; the others are the master's.
    pub limits: &'a [ResourceLimit],
    /// Its out-of-memory score adjustment, from -1000 to 1000; the master's if `None`.
    pub oom_score_adj: Option<i16>,
    /// The CPUs that it may run on; the master's if `None`.
    pub cpus: Option<&'a CpuSet>,
    /// Its user and groups; the master's if `None`. If set, the spawn is one of those "As another user" above.
    pub credentials: Option<&'a Credentials>,
    /// Whether it is barred from gaining privileges by an exec (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// The absolute path of a file that it will write to later. Only a rehearsal checks it.
    pub writes_to: Option<&'a CStr>,
    /// The signal that it gets when the master dies. The kernel watches the *thread* that called
    /// [`Spawner::spawn`], so with this set that must be the main thread.
    pub parent_death_signal: Option<Signal>,
}

impl<'a> SpawnSpec<'a> {
    /// A worker that runs `program` with these arguments and variables; everything else is the master's.
    #[must_use]
    pub fn new(program: &'a CStr, argv: &'a [CString], env: &'a [CString]) -> Self {
        Self {
            program,
            executable: None,
            argv,
            env,
            worker_env: &[],
            pid_variables: &[],
            directory: None,
            sockets: &[],
            control: None,
            passed: &[],
            stdin: None,
            stdout: None,
            stderr: None,
            nice: None,
            umask: None,
            open_files: None,
            limits: &[],
            oom_score_adj: None,
            cpus: None,
            credentials: None,
            no_new_privileges: false,
            writes_to: None,
            parent_death_signal: None,
        }
    }
}

/// Spawns workers, and keeps buffers between spawns.
///
/// It belongs to one thread. That thread is suspended for some 100 microseconds per spawn, or waits for the
/// child: see "As another user" in the [module](self).
#[derive(Debug)]
pub struct Spawner {
    stack: Stack,
    /// Signals whose disposition is not the default: signal n is bit n-1.
    reset: u64,
    /// Whether the kernel can mark a range of descriptors close-on-exec (Linux 5.11).
    close_range: bool,
    /// Whether the kernel executes a descriptor (Linux 3.19), and no filter refuses it.
    execveat: bool,
    /// Whether the kernel names a process that was executed by descriptor after its file (Linux 6.14).
    names_by_file: bool,
    patience: Patience,
    scratch: Scratch,
    /// Makes every child separate from our memory, so that each test can run both ways.
    #[cfg(test)]
    is_always_apart: bool,
    #[cfg(test)]
    sabotage: Option<child::Sabotage>,
}

/// Buffers that are refilled for each spawn.
#[derive(Debug, Default)]
struct Scratch {
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// `NAME=` and room for a pid, one after the other.
    pid_variables: Vec<u8>,
    /// Where in `pid_variables` each variable starts, and where its digits go.
    pid_offsets: Vec<(usize, usize)>,
    pid_places: Vec<*mut c_char>,
    descriptors: Vec<RawFd>,
    limits: Vec<KernelLimit>,
    oom_score_adj: String,
    cpus: Vec<libc::c_ulong>,
}

impl Spawner {
    /// Prepares for spawning. It looks up once which signals have a disposition that a worker must not inherit,
    /// so call it after the last change to a disposition.
    ///
    /// # Errors
    /// ENOMEM if there is no room for the child's stack.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            stack: Stack::new()?,
            reset: signals_not_at_default(),
            close_range: has_close_range(),
            execveat: has_execveat(),
            names_by_file: names_by_file(),
            patience: Patience::new(),
            scratch: Scratch::default(),
            #[cfg(test)]
            is_always_apart: false,
            #[cfg(test)]
            sabotage: None,
        })
    }

    /// Spawns a worker. If this returns `Ok`, the worker has been executed, or was killed shortly before.
    ///
    /// # Errors
    /// [`SpawnError`] names the step that failed; the child is gone and reaped. A child that the kernel cannot
    /// end in time is left to the reaper of unknown children (`sys::reap`).
    ///
    /// # Source
    /// `clone(2)`, `vfork(2)`: the calling thread is suspended until the child executes or exits.
    pub fn spawn(&mut self, spec: &SpawnSpec<'_>) -> Result<Pid, SpawnError> {
        debug_assert!(no_variable_twice(spec), "a variable is given twice");
        let by_path = SpawnSpec { executable: None, ..*spec };
        let Some(executable) = spec.executable else { return self.spawn_as_specified(spec) };
        if !(self.names_by_file && self.execveat) && leads_to(spec, executable) {
            return self.spawn_as_specified(&by_path);
        }
        match self.spawn_as_specified(spec) {
            Err(SpawnError { stage: Stage::Exec, errno: Errno::ENOENT, .. })
                if leads_to(spec, executable) =>
            {
                self.spawn_as_specified(&by_path)
            }
            result => result,
        }
    }

    /// Does everything that a spawn does except the exec, in a process that is gone when this returns. It finds
    /// failures before anything depends on the spawn. As the worker's user, it checks whether the program can
    /// be executed and whether the file of `writes_to` can be reached; other errors of an exec stay undetected.
    ///
    /// # Errors
    /// [`SpawnError`] as from [`Self::spawn`]; also if this process may not signal the child.
    pub fn rehearse(&mut self, spec: &SpawnSpec<'_>) -> Result<(), SpawnError> {
        let (pid, failure) = self.run_child(spec, true)?;
        self.clear_away(pid, failure, spec)
    }

    fn spawn_as_specified(&mut self, spec: &SpawnSpec<'_>) -> Result<Pid, SpawnError> {
        let (pid, failure) = self.run_child(spec, false)?;
        if failure.is_some() {
            self.clear_away(pid, failure, spec)?;
        }
        Ok(pid)
    }

    /// Makes sure that a child that does not become a worker is gone, and returns the failure to report.
    fn clear_away(
        &mut self,
        pid: Pid,
        failure: Option<Failure>,
        spec: &SpawnSpec<'_>,
    ) -> Result<(), SpawnError> {
        // It is not reaped yet, so its pid is not reused.
        let ended = self.patience.end(pid);
        match (failure, ended) {
            // It could not be killed and may continue as soon as somebody lets it.
            (Some(Failure { stage: Stage::Stopped | Stage::Hung, .. }) | None, Err(errno)) => {
                Err(SpawnError::new(Stage::Signal, errno, spec))
            }
            (Some(Failure { stage, errno }), _) => Err(SpawnError::new(stage, Errno::from_raw(errno), spec)),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Whether a child of `spec` shares our memory until its exec.
    fn shares_memory(&self, spec: &SpawnSpec<'_>) -> bool {
        #[cfg(test)]
        if self.is_always_apart {
            return false;
        }
        spec.credentials.is_none()
    }

    /// Runs a child that does what `spec` says, and returns its report.
    fn run_child(
        &mut self,
        spec: &SpawnSpec<'_>,
        is_rehearsal: bool,
    ) -> Result<(Pid, Option<Failure>), SpawnError> {
        let shares_memory = self.shares_memory(spec);
        if !shares_memory && self.patience.is_paused() {
            return Err(SpawnError::new(Stage::Paused, Errno::EAGAIN, spec));
        }
        let pipe = (!shares_memory).then(|| pipe2(OFlag::O_CLOEXEC)).transpose();
        let pipe = pipe.map_err(|errno| SpawnError::new(Stage::Hear, errno, spec))?;
        if !self.close_range {
            mark_close_on_exec().map_err(|errno| SpawnError::new(Stage::Descriptors, errno, spec))?;
        }
        self.scratch.fill(spec);
        let groups = spec.credentials.and_then(|credentials| credentials.groups.as_deref());
        let mut plan = Plan {
            program: spec.program.as_ptr(),
            executable: spec.executable.map(|executable| executable.as_raw_fd()),
            execveat: self.execveat,
            argv: self.scratch.argv.as_ptr(),
            envp: self.scratch.envp.as_ptr(),
            pid_places: self.scratch.pid_places.as_ptr(),
            pid_place_count: self.scratch.pid_places.len(),
            descriptors: self.scratch.descriptors.as_mut_ptr(),
            descriptor_count: self.scratch.descriptors.len() as c_int,
            passed: spec.passed.as_ptr(),
            passed_count: spec.passed.len(),
            streams: [spec.stdin, spec.stdout, spec.stderr].map(|stream| stream.map(|fd| fd.as_raw_fd())),
            close_range: self.close_range,
            nice: spec.nice,
            umask: spec.umask.map(|umask| umask.bits()),
            oom_score_adj: self.scratch.oom_score_adj.as_ptr(),
            oom_score_adj_bytes: self.scratch.oom_score_adj.len(),
            cpus: self.scratch.cpus.as_ptr(),
            cpus_bytes: size_of_val(self.scratch.cpus.as_slice()),
            limits: self.scratch.limits.as_ptr(),
            limit_count: self.scratch.limits.len(),
            uid: spec.credentials.and_then(|credentials| credentials.uid),
            gid: spec.credentials.and_then(|credentials| credentials.gid),
            groups: groups.map_or(ptr::null(), <[u32]>::as_ptr),
            group_count: groups.map_or(0, <[u32]>::len),
            no_new_privileges: spec.no_new_privileges,
            directory: spec.directory.map(|directory| directory.as_raw_fd()),
            parent_death_signal: spec.parent_death_signal.map(|signal| signal as c_int),
            parent: getpid().as_raw(),
            writes_to: spec.writes_to.map_or(ptr::null(), CStr::as_ptr),
            reset: self.reset,
            is_rehearsal,
            failure: None,
            pipe: pipe.as_ref().map(|(_, writer)| writer.as_raw_fd()),
            #[cfg(test)]
            sabotage: self.sabotage,
        };
        let cloned = self.clone_child(&mut plan, shares_memory);
        self.scratch.clear();
        let pid = cloned.map_err(|errno| SpawnError::new(Stage::Clone, errno, spec))?;
        let Some((reader, writer)) = pipe else { return Ok((pid, plan.failure)) };
        // The child then has the only copy, and its end closes the pipe.
        drop(writer);
        Ok((pid, self.patience.hear(pid, reader.as_fd())))
    }

    /// Starts the child. If it shares our memory, waits until it has left it.
    fn clone_child(&mut self, plan: &mut Plan, shares_memory: bool) -> Result<Pid, Errno> {
        // A handler must not run in the child, where it would change our memory unnoticed.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let sharing = if shares_memory { libc::CLONE_VM | libc::CLONE_VFORK } else { 0 };
        let flags = sharing | libc::SIGCHLD;
        // SAFETY: the child runs `child::main` on a stack that nothing else uses (`&mut self`), in our memory
        // or in a copy of it. In ours, CLONE_VFORK suspends this thread until the child has left it, so `plan`,
        // and what it points at in `self.scratch` and in the caller's spec, outlives its use and is not touched
        // meanwhile. In a copy, all of that is the child's own. The child upholds the rules of its module,
        // which suit both: no allocation, no locks, no unwinding.
        let pid = unsafe { libc::clone(child::main, self.stack.top(), flags, ptr::from_mut(plan).cast()) };
        let pid = Errno::result(pid);
        mask.thread_set_mask()?;
        pid.map(Pid::from_raw)
    }
}

impl Scratch {
    /// Converts `spec` for the kernel. The pointers are valid until the spec or this changes.
    fn fill(&mut self, spec: &SpawnSpec<'_>) {
        self.clear();
        self.argv.extend(spec.argv.iter().map(|argument| argument.as_ptr()));
        self.argv.push(ptr::null());

        for name in spec.pid_variables {
            let start = self.pid_variables.len();
            self.pid_variables.extend_from_slice(name.as_bytes());
            self.pid_variables.push(b'=');
            self.pid_offsets.push((start, self.pid_variables.len()));
            self.pid_variables.extend_from_slice(&[0; PID_BYTES_MAX]);
        }
        let pid_variables = self.pid_variables.as_mut_ptr().cast::<c_char>();
        for (start, digits) in &self.pid_offsets {
            self.envp.push(pid_variables.wrapping_add(*start));
            self.pid_places.push(pid_variables.wrapping_add(*digits));
        }
        let variables = spec.worker_env.iter().chain(spec.env);
        self.envp.extend(variables.map(|variable| variable.as_ptr()));
        self.envp.push(ptr::null());

        let descriptors = spec.sockets.iter().chain(&spec.control);
        self.descriptors.extend(descriptors.map(AsRawFd::as_raw_fd));

        self.limits.extend(spec.open_files.map(OpenFilesLimit::for_kernel));
        self.limits.extend(spec.limits.iter().map(|limit| limit.for_kernel()));
        if let Some(value) = spec.oom_score_adj {
            self.oom_score_adj = value.to_string();
        }
        if let Some(cpus) = spec.cpus {
            cpus.write_mask(&mut self.cpus);
        }
    }

    /// Clears the last spec, so that nothing points at it after its spawn.
    fn clear(&mut self) {
        self.argv.clear();
        self.envp.clear();
        self.pid_variables.clear();
        self.pid_offsets.clear();
        self.pid_places.clear();
        self.descriptors.clear();
        self.limits.clear();
        self.oom_score_adj.clear();
        self.cpus.clear();
    }
}

/// The signals that this process ignores or handles: signal n is bit n-1.
///
/// One of the two that the C library uses itself is ignored in anything that `posix_spawn` started, and would be so
/// in every worker.
fn signals_not_at_default() -> u64 {
    (1..=SIGNAL_MAX)
        .filter(|signal| disposition(*signal) != libc::SIG_DFL)
        .fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Whether the path of `spec` leads to `executable` now.
fn leads_to(spec: &SpawnSpec<'_>, executable: BorrowedFd<'_>) -> bool {
    let there = fstatat(spec.directory.unwrap_or(AT_FDCWD), spec.program, AtFlags::empty());
    match (there, fstat(executable)) {
        (Ok(there), Ok(pinned)) => (there.st_dev, there.st_ino) == (pinned.st_dev, pinned.st_ino),
        _ => false,
    }
}

/// Since 6.14 the kernel takes the name from the directory entry, before that from the path, which is
/// `/dev/fd/N`. A kernel whose version cannot be read counts as an old one.
fn names_by_file() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

fn has_close_range() -> bool {
    let none = libc::c_uint::MAX;
    // SAFETY: no memory is involved, and no descriptor has this number.
    unsafe { libc::syscall(libc::SYS_close_range, none, none, libc::CLOSE_RANGE_CLOEXEC) == 0 }
}

fn has_execveat() -> bool {
    let (no_path, nothing) = (c"".as_ptr(), ptr::null::<*const c_char>());
    // SAFETY: no descriptor has this number, so the call executes nothing; null pointers are empty lists.
    unsafe { libc::syscall(libc::SYS_execveat, -1, no_path, nothing, nothing, libc::AT_EMPTY_PATH) };
    Errno::last() == Errno::EBADF
}

/// For kernels without `close_range`: marks our open descriptors before each spawn. We open everything
/// close-on-exec, but our parent may have left something open, and a library may be careless.
fn mark_close_on_exec() -> Result<(), Errno> {
    let io_errno = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    for entry in fs::read_dir("/proc/self/fd").map_err(io_errno)? {
        let name = entry.map_err(io_errno)?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if fd >= FIRST_SOCKET {
            // SAFETY: borrowed for one call, which fails on a descriptor that is gone and closes nothing.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            match fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
                Ok(_) | Err(Errno::EBADF) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

fn no_variable_twice(spec: &SpawnSpec<'_>) -> bool {
    let name = |variable: &CString| {
        let bytes = variable.to_bytes();
        bytes[..bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len())].to_vec()
    };
    let mut names: Vec<_> = spec.env.iter().chain(spec.worker_env).map(name).collect();
    names.extend(spec.pid_variables.iter().map(|name| name.as_bytes().to_vec()));
    let count = names.len();
    names.sort();
    names.dedup();
    names.len() == count
}
