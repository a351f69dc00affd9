//! What a child does between clone and exec.
//!
//! The child runs in the *master's* memory while the master's thread is suspended, so nothing here may allocate,
//! take a lock, panic or call what might: only system calls, and plain reads and writes of the [`Plan`] that
//! the parent laid out. The C library's own wrappers of some calls (`setuid`, `sigaction`) do more than the call;
//! therefore all go through `syscall(2)`, which does nothing but set `errno`.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

use super::{FIRST_SOCKET, Stage};

/// The size of the kernel's signal set on every machine but MIPS, in bytes; the C library's is longer.
pub(super) const KERNEL_SIGSET_BYTES: usize = 8;

/// Zeros that the kernel may read as its `struct sigaction`, whatever the order of the fields is on this
/// machine: all zero means the default disposition, no flags, an empty mask. It has at most 32 bytes.
static DEFAULT_DISPOSITION: [u64; 8] = [0; 8];
static EMPTY_SIGSET: u64 = 0;
static FULL_SIGSET: u64 = u64::MAX;

/// Digits of the largest pid, and the NUL behind them.
pub(super) const PID_BYTES_MAX: usize = 11;

/// What the child is to do, in plain values and in pointers into memory of the suspended parent.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: *const c_char,
    /// What to execute instead of the file that `program` leads to; the child overwrites it if it has to move.
    pub(super) executable: Option<RawFd>,
    /// Ends with a null pointer.
    pub(super) argv: *const *const c_char,
    /// Ends with a null pointer.
    pub(super) envp: *const *const c_char,
    /// Places of [`PID_BYTES_MAX`] bytes that get the child's pid in digits.
    pub(super) pid_places: *const *mut c_char,
    pub(super) pid_place_count: usize,
    /// What ends up at 3, 4, ...; the child overwrites those that it has to move.
    pub(super) descriptors: *mut RawFd,
    pub(super) descriptor_count: c_int,
    /// What ends up at 2, if not the master's.
    pub(super) stderr: Option<RawFd>,
    /// Whether the kernel has `close_range` with `CLOSE_RANGE_CLOEXEC`.
    pub(super) close_range: bool,
    pub(super) nice: Option<c_int>,
    pub(super) umask: Option<libc::mode_t>,
    pub(super) open_files: Option<libc::rlimit64>,
    pub(super) directory: Option<RawFd>,
    pub(super) parent_death_signal: Option<c_int>,
    pub(super) parent: libc::pid_t,
    /// Signal n is bit n-1: those whose disposition is not the default.
    pub(super) reset: u64,
    /// The child's answer, if it does not get as far as exec.
    pub(super) failure: Option<Failure>,
}

/// The step that failed, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) errno: c_int,
}

/// The child's entry point, for `clone(2)`; `plan` points at a [`Plan`].
pub(super) extern "C" fn main(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan>();
    // SAFETY: `Spawner::spawn` passes a pointer to a plan of its own frame, whose thread is suspended until this
    // process execs or exits: nobody else reads or writes the plan meanwhile.
    let plan = unsafe { &mut *plan };
    plan.failure = run(plan).err();
    // SAFETY: ends this process, which has no other thread, without running anything of the master's.
    unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    127
}

/// Carries out the plan; returns only if a step failed.
fn run(plan: &mut Plan) -> Result<(), Failure> {
    start_process_group()?;
    apply_attributes(plan)?;
    bind_to_parent(plan)?;
    enter_directory(plan)?;
    place_descriptors(plan)?;
    if let Some(limit) = &plan.open_files {
        // Only here, because the descriptors may need numbers above a limit that is now lowered.
        // SAFETY: reads the limit, which lives in the plan; writes nothing (the last pointer is null).
        unsafe {
            call(
                Stage::Limits,
                libc::SYS_prlimit64,
                [0, libc::RLIMIT_NOFILE as c_long, &raw const *limit as c_long, 0],
            )
        }?;
    }
    write_pid(plan);
    reset_signals(plan)?;
    execute(plan)
}

/// Executes the descriptor if there is one, which is close-on-exec and thereby closed, and else the path.
fn execute(plan: &Plan) -> Result<(), Failure> {
    let (argv, envp) = (plan.argv as c_long, plan.envp as c_long);
    let Some(executable) = plan.executable else {
        // SAFETY: the parent made `program` a C string, `argv` and `envp` arrays of C strings that end with a
        // null pointer, and keeps them unchanged while it is suspended.
        unsafe { call(Stage::Exec, libc::SYS_execve, [plan.program as c_long, argv, envp]) }?;
        return Ok(());
    };
    let no_path = c"".as_ptr() as c_long;
    let flags = c_long::from(libc::AT_EMPTY_PATH);
    // SAFETY: `argv` and `envp` as above; the path is a static C string.
    unsafe { call(Stage::Exec, libc::SYS_execveat, [c_long::from(executable), no_path, argv, envp, flags]) }?;
    Ok(())
}

/// Leaves the master's process group, and with it the terminal's signals.
fn start_process_group() -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    unsafe { call(Stage::ProcessGroup, libc::SYS_setpgid, [0, 0, 0, 0]) }?;
    // What the group was sent since clone (Ctrl-C, Ctrl-Z) waits behind the mask. It was meant for the master,
    // and a stop would halt the master with this child, for ever: nobody knows yet whom to continue.
    let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let arguments =
        [&raw const FULL_SIGSET as c_long, 0, &raw const no_wait as c_long, KERNEL_SIGSET_BYTES as c_long];
    // SAFETY: reads a set of the size that is passed and a time, both alive; a null pointer asks for no details.
    while unsafe { call(Stage::SignalMask, libc::SYS_rt_sigtimedwait, arguments) }.is_ok() {}
    Ok(())
}

fn apply_attributes(plan: &Plan) -> Result<(), Failure> {
    if let Some(nice) = plan.nice {
        // SAFETY: no memory is involved.
        unsafe {
            call(Stage::Nice, libc::SYS_setpriority, [libc::PRIO_PROCESS as c_long, 0, c_long::from(nice), 0])
        }?;
    }
    if let Some(umask) = plan.umask {
        // SAFETY: no memory is involved; `umask` cannot fail.
        unsafe { libc::syscall(libc::SYS_umask, umask) };
    }
    Ok(())
}

fn enter_directory(plan: &Plan) -> Result<(), Failure> {
    if let Some(directory) = plan.directory {
        // SAFETY: no memory is involved.
        unsafe { call(Stage::Directory, libc::SYS_fchdir, [c_long::from(directory), 0, 0, 0]) }?;
    }
    Ok(())
}

/// Asks for a signal at the master's death, and notices if that was before it could ask. A change of user or
/// group clears the wish, so that has to come before.
fn bind_to_parent(plan: &Plan) -> Result<(), Failure> {
    let Some(signal) = plan.parent_death_signal else { return Ok(()) };
    // SAFETY: no memory is involved.
    unsafe {
        call(
            Stage::ParentDeathSignal,
            libc::SYS_prctl,
            [c_long::from(libc::PR_SET_PDEATHSIG), c_long::from(signal), 0, 0],
        )
    }?;
    // SAFETY: no memory is involved.
    let parent = unsafe { call(Stage::ParentDeathSignal, libc::SYS_getppid, [0; 4]) }?;
    if parent == c_long::from(plan.parent) {
        Ok(())
    } else {
        Err(Failure { stage: Stage::ParentDeathSignal, errno: libc::ESRCH })
    }
}

/// Puts the descriptors at 3 and up, open across exec, and nothing else above 2 but what is close-on-exec.
fn place_descriptors(plan: &mut Plan) -> Result<(), Failure> {
    if let Some(stderr) = plan.stderr {
        // Before its number is another's. It is no standard stream itself: those were open first.
        let arguments = [c_long::from(stderr), c_long::from(libc::STDERR_FILENO), 0];
        // SAFETY: no memory is involved; the descriptor table is this process's own copy.
        unsafe { call(Stage::Descriptors, libc::SYS_dup3, arguments) }?;
    }
    let end = FIRST_SOCKET + plan.descriptor_count;
    // SAFETY: the parent's array has `descriptor_count` elements, which nobody else uses now.
    let sources = unsafe { std::slice::from_raw_parts_mut(plan.descriptors, plan.descriptor_count as usize) };
    // A source within the range of the targets would be overwritten, or be its own target and keep its
    // close-on-exec flag: dup to itself changes nothing.
    let numbers = sources.iter_mut().chain(&mut plan.executable);
    for source in numbers.filter(|source| **source < end) {
        let arguments = [c_long::from(*source), c_long::from(libc::F_DUPFD_CLOEXEC), c_long::from(end), 0];
        // SAFETY: no memory is involved; the copy is this process's own.
        let lifted = unsafe { call(Stage::Descriptors, libc::SYS_fcntl, arguments) };
        *source = lifted.map_err(out_of_numbers)? as RawFd;
    }
    for (source, target) in sources.iter().zip(FIRST_SOCKET..) {
        let arguments = [c_long::from(*source), c_long::from(target), 0, 0];
        // SAFETY: no memory is involved; the descriptor table is this process's own copy.
        unsafe { call(Stage::Descriptors, libc::SYS_dup3, arguments) }.map_err(out_of_numbers)?;
    }
    if plan.close_range {
        let arguments = [c_long::from(end), c_long::from(c_int::MAX), libc::CLOSE_RANGE_CLOEXEC as c_long, 0];
        // SAFETY: no memory is involved; the descriptor table is this process's own copy.
        unsafe { call(Stage::Descriptors, libc::SYS_close_range, arguments) }?;
    }
    Ok(())
}

/// The sources are open, so EBADF and EINVAL can only mean a number beyond RLIMIT_NOFILE.
fn out_of_numbers(failure: Failure) -> Failure {
    match failure.errno {
        libc::EBADF | libc::EINVAL => Failure { errno: libc::EMFILE, ..failure },
        _ => failure,
    }
}

/// Writes this process's pid where the environment wants it: digits without padding, then NUL. Zero padding
/// makes `sd_listen_fds` see another process's pid, trailing blanks are an error to it.
fn write_pid(plan: &Plan) {
    if plan.pid_place_count == 0 {
        return;
    }
    // SAFETY: no memory is involved. The C library is not asked because it may remember the parent's pid.
    let mut rest = unsafe { libc::syscall(libc::SYS_getpid) };
    let mut digits = [0_u8; PID_BYTES_MAX];
    let mut start = PID_BYTES_MAX - 1;
    while rest > 0 && start > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let text = &digits[start..];
    for index in 0..plan.pid_place_count {
        // SAFETY: the parent's array has `pid_place_count` elements.
        let place = unsafe { plan.pid_places.add(index) };
        // SAFETY: an element of that array, aligned as the parent's vector is.
        let place = unsafe { place.read() };
        // SAFETY: a place has room for PID_BYTES_MAX bytes and overlaps neither this frame nor another place.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), place.cast::<u8>(), text.len()) };
    }
}

/// Gives every signal its default disposition and unblocks all: an ignored or blocked signal would stay so in
/// the worker, and a handler of the master's must not run once the mask is empty.
fn reset_signals(plan: &Plan) -> Result<(), Failure> {
    let mut rest = plan.reset;
    while rest != 0 {
        let signal = c_long::from(rest.trailing_zeros() + 1);
        let action = &raw const DEFAULT_DISPOSITION as c_long;
        // SAFETY: reads an action from zeros that are longer than any; writes nothing (null). Handlers are not
        // shared with the parent, since clone was called without CLONE_SIGHAND.
        unsafe {
            call(
                Stage::Dispositions,
                libc::SYS_rt_sigaction,
                [signal, action, 0, KERNEL_SIGSET_BYTES as c_long],
            )
        }?;
        rest &= rest - 1;
    }
    let empty = &raw const EMPTY_SIGSET as c_long;
    // SAFETY: reads a set of the size that is passed; writes nothing (null).
    unsafe {
        call(
            Stage::SignalMask,
            libc::SYS_rt_sigprocmask,
            [c_long::from(libc::SIG_SETMASK), empty, 0, KERNEL_SIGSET_BYTES as c_long],
        )
    }?;
    Ok(())
}

/// One system call.
///
/// # Safety
/// As the system call: pointers among the arguments must point at what it reads or writes.
unsafe fn call<const N: usize>(
    stage: Stage,
    number: c_long,
    arguments: [c_long; N],
) -> Result<c_long, Failure> {
    const { assert!(N <= 5, "the argument would not be passed on") };
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: the caller vouches for the arguments; surplus ones are ignored.
    let result =
        unsafe { libc::syscall(number, argument(0), argument(1), argument(2), argument(3), argument(4)) };
    // `errno` is the suspended parent thread's own; the parent reads it only if clone itself failed.
    if result == -1 { Err(Failure { stage, errno: Errno::last_raw() }) } else { Ok(result) }
}
