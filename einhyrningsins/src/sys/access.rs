//! Checks what this process may do with a file.

use std::os::fd::{AsFd, AsRawFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::unistd::{AccessFlags, faccessat};

/// Checks whether the effective user of this process has `access` to `path`, which starts at `directory`.
///
/// libc does that with `faccessat2`, which came with Linux 5.8. Where the kernel has none, libc does it by itself. A seccomp
/// filter that does not know the call, as of an old container runtime, returns EPERM instead: then the older call answers,
/// for the real user, which differs from the effective one only in a set-user-ID program.
///
/// # Errors
/// EACCES, or what else the path leads to.
pub fn check_access<P: ?Sized + NixPath>(
    directory: impl AsFd,
    path: &P,
    access: AccessFlags,
) -> Result<(), Errno> {
    let directory = directory.as_fd();
    match faccessat(directory, path, access, AtFlags::AT_EACCESS) {
        // Not by libc, which would ask with the new call again.
        Err(Errno::EPERM) => path.with_nix_path(|path| {
            let (directory, path) = (directory.as_raw_fd(), path.as_ptr());
            // SAFETY: `path` is a C string, which the call only reads.
            let result = unsafe { libc::syscall(libc::SYS_faccessat, directory, path, access.bits()) };
            Errno::result(result).map(drop)
        })?,
        result => result,
    }
}
