//! Descriptors that cross an exec: one image of the master leaves them open, the next takes each over once.
//!
//! A part of the master holds such a descriptor in a [`Kept`], which is written into the state as its number: an exec
//! does not change it. A state is read twice: first without descriptors, which changes nothing and shows whether it can
//! be read, then within [`Inherited::lend`], which opens them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::unistd::{Pid, getpid};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first descriptor that can be taken; below are standard input, output and error.
const FIRST: RawFd = 3;

thread_local! {
    /// What a [`Kept`] that is being read takes its descriptor from.
    static LENT: RefCell<Option<Inherited>> = const { RefCell::new(None) };
    /// The descriptors of each [`Kept`] that was read or written since [`naming`] began.
    static NAMED: RefCell<Vec<RawFd>> = const { RefCell::new(Vec::new()) };
    /// Whether [`settle`] was called.
    static IS_SETTLED: Cell<bool> = const { Cell::new(false) };
}

/// The owner of a descriptor that the next image inherits.
#[derive(Debug)]
pub enum Kept<T> {
    Open(T),
    /// From a state that was read without descriptors.
    Named(RawFd),
}

impl<T> Deref for Kept<T> {
    type Target = T;

    /// # Panics
    /// If the state was read without descriptors: such a state is only looked at.
    fn deref(&self) -> &T {
        match self {
            Self::Open(owner) => owner,
            Self::Named(fd) => panic!("descriptor {fd} was not taken over"),
        }
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        match self {
            Self::Open(owner) => owner,
            Self::Named(fd) => panic!("descriptor {fd} was not taken over"),
        }
    }
}

impl<T: AsFd> AsFd for Kept<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

impl<T: AsFd> Serialize for Kept<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fd = match self {
            Self::Open(owner) => owner.as_fd().as_raw_fd(),
            Self::Named(fd) => *fd,
        };
        NAMED.with_borrow_mut(|named| named.push(fd));
        serializer.serialize_i32(fd)
    }
}

impl<'de, T: From<OwnedFd>> Deserialize<'de> for Kept<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fd = RawFd::deserialize(deserializer)?;
        NAMED.with_borrow_mut(|named| named.push(fd));
        LENT.with_borrow_mut(|lent| match lent {
            Some(inherited) => inherited.take(fd).map(|fd| Self::Open(fd.into())).map_err(D::Error::custom),
            None => Ok(Self::Named(fd)),
        })
    }
}

/// The descriptors that are read or written by `action`, beside its result.
pub fn naming<R>(action: impl FnOnce() -> R) -> (R, Vec<RawFd>) {
    NAMED.take();
    let result = action();
    (result, NAMED.take())
}

/// Which process removes a file at its end: the one that made it. One that takes it over from another image or an earlier
/// master does so only after [`settle`], because until then that one, or the next, may need the file.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pid: Pid,
    is_maker: bool,
}

impl Owner {
    /// This process, which makes the file.
    pub fn maker() -> Self {
        Self { pid: getpid(), is_maker: true }
    }

    /// This process, which takes the file over.
    pub fn heir() -> Self {
        Self { pid: getpid(), is_maker: false }
    }

    /// Whether this process removes the file. A forked child never does.
    pub fn removes(self) -> bool {
        self.pid == getpid() && (self.is_maker || IS_SETTLED.get())
    }
}

#[cfg(test)]
impl Owner {
    /// Of a file in the memory of a forked child.
    pub(crate) fn parent() -> Self {
        Self { pid: nix::unistd::getppid(), is_maker: true }
    }
}

impl Default for Owner {
    /// The owner of a file that is read from a state: this process, or nobody if the state is only looked at.
    fn default() -> Self {
        let is_lent = LENT.with_borrow(Option::is_some);
        if is_lent { Self::heir() } else { Self { pid: Pid::from_raw(0), is_maker: false } }
    }
}

/// What was taken over is this process's from now on: nobody else will go on with it.
pub fn settle() {
    IS_SETTLED.set(true);
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
    pub fn new() -> io::Result<Self> {
        let mut left = BTreeSet::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            left.extend(number.filter(|fd| *fd >= FIRST));
        }
        // The list includes the descriptor that the directory was read with, which is closed by now.
        left.retain(|fd| flags(*fd).is_ok());
        Ok(Self { left })
    }

    /// As [`Self::new`], after `owned` was taken by [`only`].
    pub fn besides(owned: &OwnedFd) -> io::Result<Self> {
        let mut inherited = Self::new()?;
        inherited.left.remove(&owned.as_raw_fd());
        Ok(inherited)
    }

    /// Takes ownership of `fd` and leaves its close-on-exec flag as it is.
    pub fn take(&mut self, fd: RawFd) -> Result<OwnedFd, NotInherited> {
        if !self.left.remove(&fd) {
            return Err(NotInherited(fd));
        }
        // SAFETY: it was open before anything in this process opened a descriptor, so nothing here owns it, and
        // it has just been removed from the set, so nothing here can take it again.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Takes those that nobody has claimed. Whoever claims one makes it close-on-exec, and none is so when it is
    /// inherited.
    #[must_use]
    pub fn unclaimed(self) -> Vec<OwnedFd> {
        let is_unclaimed = |fd: &RawFd| flags(*fd).is_ok_and(|flags| !flags.contains(FdFlag::FD_CLOEXEC));
        // SAFETY: as in `take`; what this process opens or claims is close-on-exec, so nothing here owns these.
        self.left.into_iter().filter(is_unclaimed).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
    }

    /// Checks that each of `fds` can be taken.
    ///
    /// # Errors
    /// [`NotInherited`], for the first that cannot.
    pub fn check(&self, fds: &[RawFd]) -> Result<(), NotInherited> {
        let mut left = self.left.clone();
        fds.iter().find(|fd| !left.remove(fd)).map_or(Ok(()), |fd| Err(NotInherited(*fd)))
    }

    /// Each [`Kept`] that `read` reads takes its descriptor. Returns what is left beside the result.
    pub fn lend<R>(self, read: impl FnOnce() -> R) -> (R, Self) {
        LENT.set(Some(self));
        let result = read();
        (result, LENT.take().unwrap_or_default())
    }
}

/// Takes ownership of `fd` before [`Inherited::new`] can take the others. Call it before anything is opened.
///
/// # Errors
/// [`NotInherited`] if it is not open.
pub fn only(fd: RawFd) -> Result<OwnedFd, NotInherited> {
    let left = Some(fd).filter(|fd| *fd >= FIRST && flags(*fd).is_ok());
    Inherited { left: left.into_iter().collect() }.take(fd)
}

/// Checks that each of `fds` could be taken if all of them were inherited: none is a standard one, none is named twice.
///
/// # Errors
/// [`NotInherited`], for the first that could not.
pub fn check_named(fds: &[RawFd]) -> Result<(), NotInherited> {
    Inherited { left: fds.iter().copied().filter(|fd| *fd >= FIRST).collect() }.check(fds)
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
    use crate::sys::lock_file::LockFile;
    use crate::sys::pid_file::{PidFile, PidForm};
    use crate::sys::testing::isolated;

    #[test]
    fn each_descriptor_is_taken_once_and_the_standard_ones_never() {
        isolated("sys::inherit::tests::each_descriptor_is_taken_once_and_the_standard_ones_never", || {
            let (reader, _writer) = io::pipe().unwrap();
            let fd = OwnedFd::from(reader).into_raw_fd();
            let mut inherited = Inherited::new().unwrap();
            assert_eq!(inherited.take(fd).unwrap().as_raw_fd(), fd);
            for fd in [fd, 0, 1, 2, 12_345, -1] {
                assert_eq!(inherited.take(fd).unwrap_err(), NotInherited(fd));
            }
        });
    }

    /// As a new image does: reads a state of a lock file and a pid file, and drops them.
    #[test]
    fn files_that_are_taken_over_stay_until_that_is_settled() {
        isolated("sys::inherit::tests::files_that_are_taken_over_stay_until_that_is_settled", || {
            let directory = tempfile::tempdir().unwrap();
            let (lock, pid) = (directory.path().join("lock"), directory.path().join("pid"));
            let before = (LockFile::acquire(&lock).unwrap(), PidFile::write(&pid, PidForm::Line).unwrap());
            let state = serde_json::to_string(&before).unwrap();
            let number = serde_json::to_value(&before.0).unwrap()["fd"].as_i64().unwrap() as RawFd;
            // An exec drops nothing.
            std::mem::forget(before);
            let read = || serde_json::from_str::<(LockFile, PidFile)>(&state);
            drop(read().unwrap());
            assert!(lock.exists() && pid.exists(), "it was only looked at");

            // SAFETY: the test's own number.
            let copy = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap();
            drop(Inherited::new().unwrap().lend(read).0.unwrap());
            assert!(lock.exists() && pid.exists(), "the old image needs them");
            // In the middle of it.
            // SAFETY: nothing else has the number, which was closed.
            assert_eq!(unsafe { libc::dup2(copy.as_raw_fd(), number) }, number);
            let half = || serde_json::from_str::<(LockFile, PidFile, u32)>(&state);
            assert!(Inherited::new().unwrap().lend(half).0.is_err());
            assert!(lock.exists() && pid.exists(), "the old image needs them");

            // SAFETY: as above.
            assert_eq!(unsafe { libc::dup2(copy.as_raw_fd(), number) }, number);
            let after = Inherited::new().unwrap().lend(read).0.unwrap();
            settle();
            drop(read().unwrap());
            assert!(lock.exists() && pid.exists(), "it was only looked at");
            drop(after);
            assert!(!lock.exists() && !pid.exists());
        });
    }

    #[test]
    fn close_on_exec_is_set_and_cleared() {
        let (reader, writer) = io::pipe().unwrap();
        let fds = [reader.as_raw_fd(), writer.as_raw_fd(), 12_345];
        for is_set in [false, true] {
            set_close_on_exec(&fds, is_set);
            assert_eq!(flags(fds[0]).unwrap().contains(FdFlag::FD_CLOEXEC), is_set);
            assert_eq!(flags(fds[1]).unwrap().contains(FdFlag::FD_CLOEXEC), is_set);
        }
    }
}
