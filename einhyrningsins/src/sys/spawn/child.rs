//! The child's side of a spawn: what it does between clone and exec.
//!
//! The child runs in the *master's* memory while the master's thread is suspended, or in a copy of that memory,
//! in which a lock that another thread held at that moment stays held forever. So nothing here may allocate,
//! take a lock, panic or call anything that might. It makes system calls, and plain reads and writes of the
//! [`Plan`] that the parent laid out. The C library's wrappers of some calls (`setuid`, `sigaction`) do more
//! than the call; therefore all calls go through `syscall(2)`, which only sets `errno` in addition.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;
#[cfg(test)]
use nix::sys::signal::Signal;
// Where user ids once had 16 bits, the calls that take 32 bits have names of their own.
#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
use nix::libc::{SYS_setgroups, SYS_setresgid, SYS_setresuid};
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
use nix::libc::{
    SYS_setgroups32 as SYS_setgroups, SYS_setresgid32 as SYS_setresgid, SYS_setresuid32 as SYS_setresuid,
};

use super::failure::Failure;
use super::{FIRST_SOCKET, Stage};
use crate::sys::limits::KernelLimit;
use crate::sys::signals::KERNEL_SIGSET_BYTES;

/// Zeros that the kernel reads as its `struct sigaction`, whatever the order of its fields on this
/// architecture: all zero means the default disposition, no flags, an empty mask. The structure has at most 32
/// bytes.
static DEFAULT_DISPOSITION: [u64; 8] = [0; 8];
static EMPTY_SIGSET: u64 = 0;
static FULL_SIGSET: u64 = u64::MAX;

/// The digits of the largest pid or descriptor, and a NUL.
pub(super) const PID_BYTES_MAX: usize = 11;

/// Leads to the descriptors of a process that opens it.
const DESCRIPTORS: &[u8] = b"/proc/self/fd/";

/// What the child has to do: plain values, and pointers into memory of the suspended parent or into the child's
/// own copy of it. Comments below that say "the parent keeps it" hold for the first case; a copy belongs to the
/// child alone.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: *const c_char,
    /// Executed instead of the file that `program` leads to. The child overwrites the number if it has to move
    /// the descriptor.
    pub(super) executable: Option<RawFd>,
    /// Whether the kernel executes a descriptor.
    pub(super) execveat: bool,
    /// Ends with a null pointer.
    pub(super) argv: *const *const c_char,
    /// Ends with a null pointer.
    pub(super) envp: *const *const c_char,
    /// Places of [`PID_BYTES_MAX`] bytes that get the child's pid in digits.
    pub(super) pid_places: *const *mut c_char,
    pub(super) pid_place_count: usize,
    /// Descriptors to place at 3, 4, ... The child overwrites the numbers of those that it has to move.
    pub(super) descriptors: *mut RawFd,
    pub(super) descriptor_count: c_int,
    /// Descriptors that stay open at their numbers.
    pub(super) passed: *const RawFd,
    pub(super) passed_count: usize,
    /// The descriptors to place at 0, 1 and 2; `None` for the master's.
    pub(super) streams: [Option<RawFd>; 3],
    /// Whether the kernel has `close_range` with `CLOSE_RANGE_CLOEXEC`.
    pub(super) close_range: bool,
    pub(super) nice: Option<c_int>,
    pub(super) umask: Option<libc::mode_t>,
    /// Digits, possibly after a sign; empty to leave the value unchanged.
    pub(super) oom_score_adj: *const u8,
    pub(super) oom_score_adj_bytes: usize,
    /// A mask with CPU n as bit n; empty to leave the affinity unchanged.
    pub(super) cpus: *const libc::c_ulong,
    pub(super) cpus_bytes: usize,
    pub(super) limits: *const KernelLimit,
    pub(super) limit_count: usize,
    pub(super) uid: Option<libc::uid_t>,
    pub(super) gid: Option<libc::gid_t>,
    /// Null to leave the groups unchanged.
    pub(super) groups: *const libc::gid_t,
    pub(super) group_count: usize,
    pub(super) no_new_privileges: bool,
    /// The working directory. The child overwrites the number if it has to move the descriptor.
    pub(super) directory: Option<RawFd>,
    pub(super) parent_death_signal: Option<c_int>,
    pub(super) parent: libc::pid_t,
    /// The file that a rehearsal checks for writability; null for none.
    pub(super) writes_to: *const c_char,
    /// Signals whose disposition is not the default: signal n is bit n-1.
    pub(super) reset: u64,
    /// Whether to stop before the exec, after checking that it is permitted.
    pub(super) is_rehearsal: bool,
    /// The child's failure, if it does not reach its exec and shares the parent's memory.
    pub(super) failure: Option<Failure>,
    /// The pipe that the child writes its failure to if it has a copy of the memory. It overwrites the number
    /// if it has to move the descriptor.
    pub(super) pipe: Option<RawFd>,
    #[cfg(test)]
    pub(super) sabotage: Option<Sabotage>,
}

/// What a test does to the child on its way to the exec.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// Sends it this signal right after its change of user.
    Signal(Signal),
    /// Makes it hang there.
    Hang,
    /// Stops it after it has reported its failure, or at the end of its rehearsal.
    StopAtEnd,
}

/// The child's entry point for `clone(2)`; `plan` points at a [`Plan`].
pub(super) extern "C" fn main(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan>();
    // SAFETY: `Spawner::run_child` passes a pointer to a plan of its own frame. Either its thread is suspended
    // until this process execs or exits, or this process has a copy of all memory: nothing else reads or writes
    // the plan meanwhile.
    let plan = unsafe { &mut *plan };
    plan.failure = run(plan).err();
    tell(plan);
    #[cfg(test)]
    if plan.sabotage == Some(Sabotage::StopAtEnd) {
        signal_itself(Signal::SIGSTOP);
    }
    // SAFETY: ends this process, which has no other thread, without running any code of the master.
    unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    127
}

/// Carries out the plan. Returns only if a step failed, or at the end of a rehearsal.
///
/// The order matters. Steps that need the master's privileges come before the change of user. Steps that the
/// change would undo, or that must be permitted to the user, come after it.
fn run(plan: &mut Plan) -> Result<(), Failure> {
    start_process_group()?;
    apply_attributes(plan)?;
    place_descriptors(plan)?;
    apply_limits(plan)?;
    write_pid(plan);
    reset_dispositions(plan)?;
    change_credentials(plan)?;
    #[cfg(test)]
    match plan.sabotage {
        Some(Sabotage::Signal(signal)) => signal_itself(signal),
        Some(Sabotage::Hang) => hang(),
        Some(Sabotage::StopAtEnd) | None => {}
    }
    bind_to_parent(plan)?;
    enter_directory(plan)?;
    if plan.is_rehearsal {
        check_executable(plan)?;
        return check_writable(plan);
    }
    empty_signal_mask()?;
    execute(plan)
}

/// Writes the failure to the pipe, if the parent reads one.
fn tell(plan: &Plan) {
    let (Some(pipe), Some(failure)) = (plan.pipe, plan.failure) else { return };
    let bytes = failure.to_bytes();
    // SAFETY: reads bytes of this frame, as many as there are. They fit into the pipe, to which nothing was
    // written before; if nobody reads it, the parent is gone and needs no report.
    unsafe { libc::syscall(libc::SYS_write, pipe, bytes.as_ptr(), Failure::BYTES) };
}

/// When this returns, a signal that stops or kills has done so.
#[cfg(test)]
fn signal_itself(signal: Signal) {
    // SAFETY: no memory is involved.
    let own = unsafe { libc::syscall(libc::SYS_getpid) };
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_kill, own, signal as c_int) };
}

#[cfg(test)]
fn hang() {
    // SAFETY: nulls instead of descriptors, time and mask. All signals but two are blocked here.
    unsafe { libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0) };
}

/// Checks whether this process may execute the program. A descriptor is checked by its path, because kernels before 5.8
/// have no other way; without `/proc`, nothing is reported.
fn check_executable(plan: &Plan) -> Result<(), Failure> {
    let path = plan.executable.map(path_of);
    let program = path.as_ref().map_or(plan.program, |path| path.as_ptr().cast());
    let arguments = [c_long::from(libc::AT_FDCWD), program as c_long, c_long::from(libc::X_OK)];
    // SAFETY: a C string of the parent or of this frame; it is read and nothing is written.
    match unsafe { call(Stage::Exec, libc::SYS_faccessat, arguments) } {
        Err(failure) if path.is_none() || failure.errno == libc::EACCES => Err(failure),
        _ => Ok(()),
    }
}

/// A path, with a NUL, that leads to the file of a descriptor of this process.
fn path_of(descriptor: RawFd) -> [u8; DESCRIPTORS.len() + PID_BYTES_MAX] {
    let mut path = [0; DESCRIPTORS.len() + PID_BYTES_MAX];
    let (directory, name) = path.split_at_mut(DESCRIPTORS.len());
    directory.copy_from_slice(DESCRIPTORS);
    let mut digits = [0; PID_BYTES_MAX];
    let digits = write_digits(c_long::from(descriptor), &mut digits);
    name[..digits.len()].copy_from_slice(digits);
    path
}

/// Checks whether this process may write to the file of the plan.
fn check_writable(plan: &Plan) -> Result<(), Failure> {
    if plan.writes_to.is_null() {
        return Ok(());
    }
    let arguments = [c_long::from(libc::AT_FDCWD), plan.writes_to as c_long, c_long::from(libc::W_OK)];
    // SAFETY: the parent made `writes_to` a C string; it is read and nothing is written.
    unsafe { call(Stage::WritesTo, libc::SYS_faccessat, arguments) }.map(drop)
}

/// Executes the descriptor, if there is one, otherwise the path. The descriptor is close-on-exec and therefore
/// closed.
fn execute(plan: &Plan) -> Result<(), Failure> {
    let (argv, envp) = (plan.argv as c_long, plan.envp as c_long);
    if let Some(executable) = plan.executable.filter(|_| plan.execveat) {
        let no_path = c"".as_ptr() as c_long;
        let arguments = [c_long::from(executable), no_path, argv, envp, c_long::from(libc::AT_EMPTY_PATH)];
        // SAFETY: the parent made `argv` and `envp` arrays of C strings that end with a null pointer, and keeps
        // them unchanged while it is suspended; the path is a static C string.
        return unsafe { call(Stage::Exec, libc::SYS_execveat, arguments) }.map(drop);
    }
    let path = plan.executable.map(path_of);
    let program = path.as_ref().map_or(plan.program, |path| path.as_ptr().cast());
    // SAFETY: `argv` and `envp` as above; the path is a C string of the parent or of this frame.
    unsafe { call(Stage::Exec, libc::SYS_execve, [program as c_long, argv, envp]) }.map(drop)
}

/// Leaves the master's process group, and with it the terminal's signals.
fn start_process_group() -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    unsafe { call(Stage::ProcessGroup, libc::SYS_setpgid, [0, 0, 0, 0]) }?;
    // Signals to the group since the clone (Ctrl-C, Ctrl-Z) are pending behind the mask. They were meant for
    // the master, and a stop could halt the master together with this child forever: nobody knows yet which
    // process to continue.
    let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let arguments =
        [&raw const FULL_SIGSET as c_long, 0, &raw const no_wait as c_long, KERNEL_SIGSET_BYTES as c_long];
    // SAFETY: reads a set of the size that is passed and a time, both alive; a null pointer asks for no
    // details.
    while unsafe { call(Stage::SignalMask, libc::SYS_rt_sigtimedwait, arguments) }.is_ok() {}
    Ok(())
}

fn apply_attributes(plan: &Plan) -> Result<(), Failure> {
    if plan.cpus_bytes > 0 {
        let arguments = [0, plan.cpus_bytes as c_long, plan.cpus as c_long];
        // SAFETY: reads a mask of the size that is passed, which the parent keeps while it is suspended.
        unsafe { call(Stage::Affinity, libc::SYS_sched_setaffinity, arguments) }?;
    }
    if plan.oom_score_adj_bytes > 0 {
        write_oom_score_adj(plan)?;
    }
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

/// Writes to a file of this process. The kernel applies the value to other processes that share the memory too,
/// except a parent that is suspended by vfork.
fn write_oom_score_adj(plan: &Plan) -> Result<(), Failure> {
    let path = c"/proc/self/oom_score_adj".as_ptr() as c_long;
    let arguments = [c_long::from(libc::AT_FDCWD), path, c_long::from(libc::O_WRONLY | libc::O_CLOEXEC), 0];
    // SAFETY: the path is a static C string.
    let file = unsafe { call(Stage::OomScoreAdj, libc::SYS_openat, arguments) }?;
    let arguments = [file, plan.oom_score_adj as c_long, plan.oom_score_adj_bytes as c_long];
    // SAFETY: reads as many bytes as are passed, which the parent keeps while it is suspended.
    let written = unsafe { call(Stage::OomScoreAdj, libc::SYS_write, arguments) };
    // SAFETY: this process's own descriptor, which nothing uses any more; a failure to close it does not
    // matter.
    unsafe { libc::syscall(libc::SYS_close, file) };
    written.map(drop)
}

/// Runs after the descriptors are in place, because they may need numbers above a limit that is lowered here.
fn apply_limits(plan: &Plan) -> Result<(), Failure> {
    for index in 0..plan.limit_count {
        // SAFETY: the parent's array has `limit_count` elements.
        let limit = unsafe { plan.limits.add(index) };
        // SAFETY: an element of that array, to which nothing writes now.
        let limit = unsafe { &*limit };
        let arguments = [0, c_long::from(limit.resource), &raw const limit.limit as c_long, 0];
        // SAFETY: reads the limit, which lives in that array; writes nothing (the last pointer is null).
        unsafe { call(Stage::Limit(limit.resource), libc::SYS_prlimit64, arguments) }?;
    }
    Ok(())
}

/// Changes the real, effective and saved ids for good. Groups come first, while changing them is permitted.
fn change_credentials(plan: &Plan) -> Result<(), Failure> {
    if !plan.groups.is_null() {
        let arguments = [plan.group_count as c_long, plan.groups as c_long];
        // SAFETY: reads as many groups as are passed, which the parent keeps while it is suspended.
        unsafe { call(Stage::Groups, SYS_setgroups, arguments) }?;
    }
    if let Some(gid) = plan.gid {
        // SAFETY: no memory is involved.
        unsafe { call(Stage::Group, SYS_setresgid, [c_long::from(gid); 3]) }?;
    }
    if let Some(uid) = plan.uid {
        // A master that is not root has ambient capabilities for what it does here. The kernel clears them only
        // when root changes its user.
        let arguments = [libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0].map(c_long::from);
        // SAFETY: no memory is involved. It fails only on kernels without ambient capabilities.
        let _ = unsafe { call(Stage::User, libc::SYS_prctl, arguments) };
        // SAFETY: no memory is involved.
        unsafe { call(Stage::User, SYS_setresuid, [c_long::from(uid); 3]) }?;
    }
    if plan.no_new_privileges {
        let arguments = [c_long::from(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0];
        // SAFETY: no memory is involved.
        unsafe { call(Stage::NoNewPrivileges, libc::SYS_prctl, arguments) }?;
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

/// Requests a signal at the master's death, and checks that the master had not died before the request. A
/// change of user or group clears the request, so those steps come earlier.
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

/// Places the descriptors at 3 and up, open across exec, and leaves those open that are passed. All others above 2 are left
/// close-on-exec.
fn place_descriptors(plan: &mut Plan) -> Result<(), Failure> {
    for (stream, target) in plan.streams.iter().zip(libc::STDIN_FILENO..) {
        // Done before another descriptor takes its number. It is not a standard stream itself: those were open
        // first.
        let Some(stream) = *stream else { continue };
        let arguments = [c_long::from(stream), c_long::from(target), 0];
        // SAFETY: no memory is involved; the descriptor table is this process's own copy.
        unsafe { call(Stage::Descriptors, libc::SYS_dup3, arguments) }?;
    }
    let end = FIRST_SOCKET + plan.descriptor_count;
    // SAFETY: the parent's array has `descriptor_count` elements, which nothing else uses now.
    let sources = unsafe { std::slice::from_raw_parts_mut(plan.descriptors, plan.descriptor_count as usize) };
    // A source within the range of the targets could be overwritten. It could also be its own target and stay
    // close-on-exec, because dup to the same number changes nothing.
    let numbers =
        sources.iter_mut().chain(&mut plan.executable).chain(&mut plan.directory).chain(&mut plan.pipe);
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
    // SAFETY: the parent's array has `passed_count` elements, to which nothing writes now.
    let passed = unsafe { std::slice::from_raw_parts(plan.passed, plan.passed_count) };
    for &descriptor in passed {
        let arguments = [c_long::from(descriptor), c_long::from(libc::F_SETFD), 0, 0];
        // SAFETY: no memory is involved; the descriptor table is this process's own copy.
        unsafe { call(Stage::Descriptors, libc::SYS_fcntl, arguments) }?;
    }
    Ok(())
}

/// The sources are open, so EBADF and EINVAL can only mean a number above RLIMIT_NOFILE.
fn out_of_numbers(failure: Failure) -> Failure {
    match failure.errno {
        libc::EBADF | libc::EINVAL => Failure { errno: libc::EMFILE, ..failure },
        _ => failure,
    }
}

/// Writes this process's pid into the environment: digits without padding, then NUL. With zero padding
/// `sd_listen_fds` sees another process's pid; trailing blanks are an error to it.
fn write_pid(plan: &Plan) {
    if plan.pid_place_count == 0 {
        return;
    }
    // SAFETY: no memory is involved. The C library is not asked because it may have cached the parent's pid.
    let own = unsafe { libc::syscall(libc::SYS_getpid) };
    let mut digits = [0; PID_BYTES_MAX];
    let text = write_digits(own, &mut digits);
    for index in 0..plan.pid_place_count {
        // SAFETY: the parent's array has `pid_place_count` elements.
        let place = unsafe { plan.pid_places.add(index) };
        // SAFETY: an element of that array, aligned as the parent's vector is.
        let place = unsafe { place.read() };
        // SAFETY: a place has room for PID_BYTES_MAX bytes and overlaps neither this frame nor another place.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), place.cast::<u8>(), text.len()) };
    }
}

/// The digits of a number, which is not negative, without padding, and a NUL.
fn write_digits(number: c_long, buffer: &mut [u8; PID_BYTES_MAX]) -> &[u8] {
    let mut rest = number;
    let mut start = PID_BYTES_MAX - 1;
    while (rest > 0 || start == PID_BYTES_MAX - 1) && start > 0 {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    &buffer[start..]
}

/// Gives every signal its default disposition: an ignored signal would stay ignored in the worker, and a
/// handler of the master must not run once the mask is empty.
fn reset_dispositions(plan: &Plan) -> Result<(), Failure> {
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
    Ok(())
}

/// Unblocks all signals: a blocked one would stay blocked in the worker.
fn empty_signal_mask() -> Result<(), Failure> {
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
    // `errno` belongs to the suspended parent thread, or is a copy; the parent reads it only if clone itself
    // failed.
    if result == -1 { Err(Failure { stage, errno: Errno::last_raw() }) } else { Ok(result) }
}
