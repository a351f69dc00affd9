//! Waits for the master: until a deadline, Ctrl-C, or the reader of standard output is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::interrupt::Interrupts;

/// Bounds every wait for one answer.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    /// When the whole answer must have come; `None` to wait without a limit.
    pub(crate) deadline: Option<Instant>,
    /// Whether Ctrl-C was pressed.
    pub(crate) interrupts: &'a Interrupts,
    /// Whether the answer is for the reader of standard output, and nobody needs it once that is gone.
    pub(crate) is_for_reader: bool,
}

/// Why a wait ended too early.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The deadline has passed.
    Deadline,
    /// Ctrl-C was pressed.
    Interrupt,
    /// The reader of standard output is gone, so nobody needs the answer.
    ReaderGone,
    /// The wait itself failed.
    Failed(io::Error),
}

impl Wait<'_> {
    /// Waits until `fd` is ready for `events`, or has an error.
    pub(crate) fn until(&self, fd: BorrowedFd<'_>, events: PollFlags) -> Result<(), Ended> {
        let stdout = io::stdout();
        // POLLERR, which needs no request, reports a pipe whose reader is gone.
        let mut fds = vec![PollFd::new(fd, events)];
        fds.extend(self.is_for_reader.then(|| PollFd::new(stdout.as_fd(), PollFlags::empty())));
        fds.extend(self.interrupts.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        loop {
            let timeout = poll_timeout(self.check()?);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Ended::Failed(errno.into())),
            }
            // Data that arrived just at the deadline counts.
            if fds[0].any() == Some(true) {
                return Ok(());
            }
            if self.is_for_reader && is_reader_gone(&fds[1]) {
                return Err(Ended::ReaderGone);
            }
        }
    }

    /// Waits until the deadline, or until something else ends the wait.
    pub(crate) fn pause(&self) -> Ended {
        let stdout = io::stdout();
        let mut fds = Vec::new();
        fds.extend(self.is_for_reader.then(|| PollFd::new(stdout.as_fd(), PollFlags::empty())));
        fds.extend(self.interrupts.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        loop {
            let timeout = match self.check() {
                Ok(rest) => poll_timeout(rest),
                Err(ended) => return ended,
            };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Ended::Failed(errno.into()),
            }
            if self.is_for_reader && is_reader_gone(&fds[0]) {
                return Ended::ReaderGone;
            }
        }
    }

    /// The time left, or `None` without a limit.
    pub(crate) fn check(&self) -> Result<Option<Duration>, Ended> {
        if self.interrupts.take() {
            return Err(Ended::Interrupt);
        }
        let Some(deadline) = self.deadline else { return Ok(None) };
        match deadline.checked_duration_since(Instant::now()) {
            Some(rest) if !rest.is_zero() => Ok(Some(rest)),
            _ => Err(Ended::Deadline),
        }
    }
}

fn is_reader_gone(stdout: &PollFd<'_>) -> bool {
    stdout.revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// The time in whole milliseconds, rounded up: rounding down would spin for the last fraction.
fn poll_timeout(rest: Option<Duration>) -> PollTimeout {
    let Some(rest) = rest else { return PollTimeout::NONE };
    let millis = rest.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_millisecond_is_waited_for_and_not_spun_through() {
        assert_eq!(poll_timeout(Some(Duration::from_micros(1))), PollTimeout::from(1_u8));
        assert_eq!(poll_timeout(Some(Duration::from_secs(u64::MAX))), PollTimeout::MAX);
        assert_eq!(poll_timeout(None), PollTimeout::NONE);
    }
}
