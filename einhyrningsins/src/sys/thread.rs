//! Threads for what may wait, such as a write to a reader who does not read.

use std::io;
use std::ptr;
use std::thread;

use nix::errno::Errno;
use nix::libc;

/// The threads call nothing that needs more. Source: `PTHREAD_STACK_MIN` is 16 KiB, or 128 KiB on some architectures.
const STACK_BYTES: usize = 128 * 1024;

/// Starts a thread.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] if none can ever be started: see [`refusal`]. Else there is no memory now, or too
/// many processes.
pub(super) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run).map(drop)
}

/// Why no thread can be started: a seccomp filter does not know `clone3`, and returns EPERM. If it returned ENOSYS, glibc
/// would use the older call.
#[must_use]
pub fn refusal() -> Option<Errno> {
    // SAFETY: no memory is involved.
    let has_filter = unsafe { libc::prctl(libc::PR_GET_SECCOMP) } != 0;
    if !has_filter {
        return None;
    }
    let nothing: *const libc::c_void = ptr::null();
    // SAFETY: arguments of no bytes are fewer than the call takes: it reads nothing and creates nothing.
    unsafe { libc::syscall(libc::SYS_clone3, nothing, 0) };
    Some(Errno::last()).filter(|errno| cfg!(target_env = "gnu") && *errno == Errno::EPERM)
}
