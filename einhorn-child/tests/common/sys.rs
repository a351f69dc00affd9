//! The only `unsafe` of the tests: passes descriptors to a process that is about to start.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Above every number that the descriptors will get.
const OUT_OF_THE_WAY: RawFd = 200;

/// Makes `command` start its program with `fds` at descriptors 3, 4...
pub(crate) fn inherit(command: &mut Command, fds: Vec<OwnedFd>) {
    let mut lifted = vec![-1; fds.len()];
    let place = move || {
        // Move all of them up first, so that none is overwritten before it has been copied.
        for (fd, lifted) in fds.iter().zip(&mut lifted) {
            // SAFETY: takes integers only, and `fd` is open as long as the closure owns it.
            *lifted = result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) })?;
        }
        for (number, &lifted) in (3..).zip(&lifted) {
            // SAFETY: takes integers only. It may close a descriptor of the child that the standard library has
            // there, its pipe that reports a failed exec; then no such report comes.
            result(unsafe { libc::dup2(lifted, number) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only fcntl(2) and dup2(2) are called, and the memory that is written was
    // allocated before; errors carry a number and allocate nothing.
    unsafe { command.pre_exec(place) };
}

fn result(fd: RawFd) -> io::Result<RawFd> {
    if fd == -1 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}
