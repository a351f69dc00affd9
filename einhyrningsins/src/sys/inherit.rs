//! Descriptors that cross an exec: one image of the master leaves them open, the next takes each over once.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};

/// The first descriptor that can be taken; below are standard input, output and error.
const FIRST: RawFd = 3;

/// The number of a descriptor. An exec does not change it, so it can be written into the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fd(pub RawFd);

impl Fd {
    /// The number of an open descriptor.
    pub fn of(fd: &impl AsFd) -> Self {
        Self(fd.as_fd().as_raw_fd())
    }
}

/// The descriptors that the previous image left open for this one. Each can be taken once.
#[derive(Debug, Default)]
pub struct Inherited {
    left: BTreeSet<RawFd>,
}

/// A descriptor that the state names was not left open, or is named twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("descriptor {0} was not inherited")]
pub struct NotInherited(pub RawFd);

impl Inherited {
    /// Collects the descriptors that are open. Call it before anything is opened: whatever is open then was
    /// inherited and has no owner in this process.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn new() -> std::io::Result<Self> {
        let mut left = BTreeSet::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            left.extend(number.filter(|fd| *fd >= FIRST));
        }
        // The list includes the descriptor that the directory was read with, which is closed by now.
        left.retain(|fd| flags(*fd).is_ok());
        Ok(Self { left })
    }

    /// Takes ownership of `fd` and leaves its close-on-exec flag as it is.
    ///
    /// # Errors
    /// [`NotInherited`].
    pub fn take(&mut self, fd: RawFd) -> Result<OwnedFd, NotInherited> {
        if !self.left.remove(&fd) {
            return Err(NotInherited(fd));
        }
        // SAFETY: it was open before anything in this process opened a descriptor, so nothing here owns it, and
        // it has just been removed from the set, so nothing here can take it again.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Sets or clears close-on-exec on descriptors of this process; skips those that are not open.
pub fn set_close_on_exec(fds: &[RawFd], is_set: bool) {
    for &fd in fds {
        let Ok(flags) = flags(fd) else { continue };
        let mut wanted = flags;
        wanted.set(FdFlag::FD_CLOEXEC, is_set);
        if wanted != flags {
            // SAFETY: no memory is involved, and setting a flag needs no ownership of the descriptor.
            unsafe { libc::fcntl(fd, libc::F_SETFD, wanted.bits()) };
        }
    }
}

fn flags(fd: RawFd) -> Result<FdFlag, Errno> {
    // SAFETY: borrowed for a single call, which returns EBADF if the number is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_GETFD).map(FdFlag::from_bits_retain)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;
    use crate::sys::testing::isolated;

    #[test]
    fn each_descriptor_is_taken_once_and_the_standard_ones_never() {
        isolated("sys::inherit::tests::each_descriptor_is_taken_once_and_the_standard_ones_never", || {
            let (reader, _writer) = std::io::pipe().unwrap();
            let fd = OwnedFd::from(reader).into_raw_fd();
            let mut inherited = Inherited::new().unwrap();
            assert_eq!(inherited.take(fd).unwrap().as_raw_fd(), fd);
            for fd in [fd, 0, 1, 2, 12_345, -1] {
                assert_eq!(inherited.take(fd).unwrap_err(), NotInherited(fd));
            }
        });
    }

    #[test]
    fn close_on_exec_is_set_and_cleared() {
        let (reader, writer) = std::io::pipe().unwrap();
        let fds = [reader.as_raw_fd(), writer.as_raw_fd(), 12_345];
        for is_set in [false, true] {
            set_close_on_exec(&fds, is_set);
            assert_eq!(flags(fds[0]).unwrap().contains(FdFlag::FD_CLOEXEC), is_set);
            assert_eq!(flags(fds[1]).unwrap().contains(FdFlag::FD_CLOEXEC), is_set);
        }
    }
}
