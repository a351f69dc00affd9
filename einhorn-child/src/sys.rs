//! The crate's only `unsafe`: descriptors known by number, `poll(2)`, and the code that runs inside a signal
//! handler.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::stop::Requests;

/// Inherited descriptors that have or had an owner. A number stays here after its owner closes it, because it
/// may come back as any other file of this process.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// The number of a descriptor that a variable of the environment contract names.
///
/// The variable promises that the descriptor was opened before this program started, so that no part of the
/// program owns it. Only the environment may be the source of such a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InheritedFd(RawFd);

/// Why an [`InheritedFd`] cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It has an owner, or had one.
    Taken,
    /// It is not open.
    Closed,
}

impl InheritedFd {
    /// Trusts a variable to name an inherited descriptor.
    pub(crate) fn named_by_variable(fd: RawFd) -> Self {
        Self(fd)
    }

    /// The number of the descriptor.
    pub(crate) fn number(self) -> RawFd {
        self.0
    }

    /// Makes the descriptor this process's own if `check` agrees. Succeeds only once per number.
    pub(crate) fn claim<E: From<Absent>>(
        self,
        check: impl FnOnce(BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<OwnedFd, E> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        check(self.borrow_untaken(&taken)?)?;
        taken.insert(self.0);
        // SAFETY: the descriptor is open, as was just seen. This is its only owner: `TAKEN`, which is locked,
        // gives each number out once, and before that nothing owned it, as the type promises.
        Ok(unsafe { OwnedFd::from_raw_fd(self.0) })
    }

    /// Examines the descriptor and leaves it in place.
    pub(crate) fn inspect<T>(self, look: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T, Absent> {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        self.borrow_untaken(&taken).map(look)
    }

    /// Borrows the descriptor for as long as the registry stays locked.
    fn borrow_untaken<'lock>(
        self,
        taken: &'lock MutexGuard<'_, BTreeSet<RawFd>>,
    ) -> Result<BorrowedFd<'lock>, Absent> {
        if taken.contains(&self.0) {
            return Err(Absent::Taken);
        }
        // SAFETY: F_GETFD takes no pointer and changes nothing; a number that is not open is an error.
        let flags = unsafe { libc::fcntl(self.0, libc::F_GETFD) };
        if flags == -1 {
            return Err(Absent::Closed);
        }
        // SAFETY: it is open and not -1, and it stays open for 'lock: nothing closes a descriptor without
        // owner, and an owner comes only from `claim`, which waits for the lock.
        Ok(unsafe { BorrowedFd::borrow_raw(self.0) })
    }
}

/// Waits until one of `fds` is readable, can be accepted from or has an error; false if `deadline` passes
/// first. Signals do not interrupt it.
pub(crate) fn wait_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let count = libc::nfds_t::try_from(N).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // SAFETY: `polled` is an array of exactly `count` entries that outlives the call, and the descriptors
        // in it are open as long as they are borrowed.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds(remaining)) };
        match ready {
            0 if remaining.is_none_or(|remaining| !remaining.is_zero()) => {}
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Converts `timeout` for `poll(2)`: rounded up, since rounding down would spin, and clamped.
fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    let Some(timeout) = timeout else { return -1 };
    libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

/// Registers `signal` as a request to stop, in addition to its other handlers.
///
/// # Errors
/// `InvalidInput` for signals that cannot be caught, or not soundly; the system's error for a number that is
/// not a signal.
pub(crate) fn count_signal(signal: libc::c_int, requests: &'static Requests) -> io::Result<()> {
    if signal_hook_registry::FORBIDDEN.contains(&signal) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this signal cannot be caught"));
    }
    // SAFETY: the action runs inside a signal handler. `Requests::note` does only what is allowed there:
    // lock-free atomics, getpid(2) and write(2) on a descriptor that is never closed; no allocation, no lock,
    // no panic. The registry preserves errno.
    let registered = unsafe { signal_hook_registry::register(signal, move || requests.note(signal)) };
    registered.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    #[derive(Debug, PartialEq)]
    enum Refusal {
        Absent(Absent),
        Checked,
    }

    impl From<Absent> for Refusal {
        fn from(absent: Absent) -> Self {
            Self::Absent(absent)
        }
    }

    fn claim(fd: InheritedFd, answer: Result<(), Refusal>) -> Result<OwnedFd, Refusal> {
        fd.claim(|_| answer)
    }

    #[test]
    fn a_descriptor_is_given_out_once_even_if_its_number_is_reused() {
        let fd = InheritedFd::named_by_variable(UnixStream::pair().unwrap().0.into_raw_fd());
        assert_eq!(claim(fd, Err(Refusal::Checked)).unwrap_err(), Refusal::Checked);
        assert_eq!(fd.inspect(|fd| fd.as_raw_fd()), Ok(fd.number()));
        let owned = claim(fd, Ok(())).unwrap();
        assert_eq!(owned.as_raw_fd(), fd.number());
        assert_eq!(claim(fd, Ok(())).unwrap_err(), Refusal::Absent(Absent::Taken));
        drop(owned);
        assert_eq!(claim(fd, Ok(())).unwrap_err(), Refusal::Absent(Absent::Taken));
        assert_eq!(fd.inspect(|_| ()), Err(Absent::Taken));
    }

    #[test]
    fn a_closed_descriptor_is_not_given_out() {
        for fd in [-1, RawFd::MAX].map(InheritedFd::named_by_variable) {
            assert_eq!(claim(fd, Ok(())).unwrap_err(), Refusal::Absent(Absent::Closed));
        }
    }

    #[test]
    fn a_wait_ends_at_the_deadline_or_when_there_is_something_to_read() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let soon = Instant::now() + Duration::from_millis(2);
        assert!(!wait_readable([ours.as_fd()], Some(soon)).unwrap());
        assert!(Instant::now() >= soon);
        drop(theirs);
        assert!(wait_readable([ours.as_fd()], None).unwrap());
    }

    #[test]
    fn timeouts_are_rounded_up_and_clamped() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::MAX)), libc::c_int::MAX);
    }
}
