//! What the standard library cannot do: the barest spawn there is, a descriptor that stands for a process, and CPU affinity.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// Room for a child that makes one system call, in units of 16 bytes: 64 KiB.
const STACK_UNITS: usize = 4096;

/// A program with its arguments and environment, laid out for the kernel.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// `path`, called by that name, with these variables (`NAME=value`) and no others.
    ///
    /// # Panics
    /// If something has a NUL inside.
    pub(crate) fn new<S: AsRef<OsStr>>(path: &OsStr, environment: impl IntoIterator<Item = S>) -> Self {
        let text = |text: &OsStr| CString::new(text.as_bytes()).expect("no NUL inside");
        let environment = environment.into_iter().map(|variable| text(variable.as_ref())).collect();
        Self { path: text(path), arguments: vec![text(path)], environment }
    }

    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }

    pub(crate) fn arguments(&self) -> &[CString] {
        &self.arguments
    }

    pub(crate) fn environment(&self) -> &[CString] {
        &self.environment
    }
}

/// Spawns with nothing but `clone` and `execve`: what no spawn can be faster than.
#[derive(Debug)]
pub(crate) struct BareSpawner {
    stack: Box<[MaybeUninit<u128>]>,
}

/// The arguments of `execve`, for the child.
struct Exec {
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
}

impl BareSpawner {
    pub(crate) fn new() -> Self {
        Self { stack: Box::new_uninit_slice(STACK_UNITS) }
    }

    /// Starts `program`, and returns once it has been executed. If it could not be, the child ends with status
    /// 127.
    ///
    /// # Errors
    /// Those of `clone(2)`.
    pub(crate) fn spawn(&mut self, program: &Program) -> io::Result<Pid> {
        let (arguments, environment) = (pointers(&program.arguments), pointers(&program.environment));
        let mut exec = Exec {
            path: program.path.as_ptr(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
        };
        let top = self.stack.as_mut_ptr_range().end.cast::<c_void>();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the child runs `execute` on a stack that nobody else uses (`&mut self`), aligned to 16 bytes as
        // its element type is. It shares our memory, but CLONE_VFORK suspends this thread until it has left it, so
        // `exec`, the arrays it points at and `program` outlive their use.
        let pid = unsafe { libc::clone(execute, top, flags, (&raw mut exec).cast()) };
        Ok(Errno::result(pid).map(Pid::from_raw)?)
    }
}

/// The child.
extern "C" fn execute(exec: *mut c_void) -> c_int {
    // SAFETY: `BareSpawner::spawn` passes a pointer to its own `Exec`, alive and left alone while it is suspended.
    let exec = unsafe { &*exec.cast::<Exec>() };
    // SAFETY: a C string and two arrays of C strings that end with a null pointer, alive as said above.
    unsafe { libc::execve(exec.path, exec.arguments, exec.environment) };
    // SAFETY: ends this process without running anything of the parent's, whose memory it still shares.
    unsafe { libc::_exit(127) }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// A descriptor that becomes readable when the process `pid`, alive now, has ended; reaped or not.
///
/// # Errors
/// ESRCH if there is no such process, EMFILE.
///
/// # Source
/// `pidfd_open(2)`.
pub(crate) fn process_descriptor(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = c_int::try_from(Errno::result(fd)?).expect("a descriptor is an int");
    // SAFETY: the kernel has just made it for this process, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Restricts the main thread of the process `pid` to these processors.
///
/// # Errors
/// ESRCH if there is no such process, EINVAL if it may use none of the processors.
///
/// # Source
/// `sched_setaffinity(2)`.
pub(crate) fn pin(pid: i32, processors: Range<usize>) -> io::Result<()> {
    // SAFETY: an array of integers, for which any bytes are a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for processor in processors {
        // SAFETY: writes to `set` only, and panics if the number is too large for it.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    // SAFETY: the kernel reads `set`, which outlives the call, up to its size.
    let result = unsafe { libc::sched_setaffinity(pid, size_of_val(&set), &raw const set) };
    Errno::result(result)?;
    Ok(())
}
