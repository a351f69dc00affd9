//! Children that share no memory with the master, and that it does not wait for without end.
//!
//! Such a child may belong to somebody who would halt it: see "As another user" in the parent module.

use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, read};

use super::Stage;
use super::failure::Failure;

/// How long a child may take from its clone to its exec. It takes a third of a millisecond; one whose program comes
/// from a disk that is asleep, or over a network, takes tenths of a second, and so does one on a system that swaps.
/// All that waits for the master waits longer than this: a service manager's watchdog (30 s in our units), boot
/// deadlines (60 s).
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// For how long nothing is tried after a child that did not get to its exec: as long as that may have taken, so that
/// the loop has time for everybody else, and does not lose [`LIMIT`] to each of those that are due in the same round.
const PAUSE: Duration = LIMIT;

/// After how long it is looked whether a child has been stopped, again and again: what a stop can cost. More than a
/// hundred times what a spawn takes, so that as a rule nobody looks at all.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// After how long a child that is to be gone is looked for again. Death takes about as long.
const NAP: Duration = Duration::from_micros(100);

/// How much time children may take, and what they have had of it.
#[derive(Debug)]
pub(super) struct Patience {
    pub(super) limit: Duration,
    pub(super) pause: Duration,
    paused_until: Option<Instant>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { limit: LIMIT, pause: PAUSE, paused_until: None }
    }

    /// Whether nothing is to be tried now.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| Instant::now() < until)
    }

    fn lose(&mut self) {
        self.paused_until = Some(Instant::now() + self.pause);
    }

    /// Waits until `child` has closed its end of `pipe`, which it does by its exec or its end, and returns the failure
    /// that it told before.
    pub(super) fn hear(&mut self, child: Pid, pipe: BorrowedFd<'_>) -> Option<Failure> {
        let deadline = Instant::now() + self.limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let look_in = left.min(LOOK_INTERVAL);
            if is_readable(pipe, look_in) {
                return read_failure(pipe);
            }
            let stage = if was_stopped(child) {
                Stage::Stopped
            } else if left.is_zero() {
                Stage::Hung
            } else {
                continue;
            };
            self.lose();
            return Some(Failure { stage, errno: Errno::ETIMEDOUT as i32 });
        }
    }

    /// Ends a child that is not to run, whatever it does, and reaps it. One that the kernel cannot end in time, since
    /// it waits for a device, is left to whoever reaps strangers.
    ///
    /// # Errors
    /// EPERM if this process may not signal it. It is waited for all the same: it may be about to end by itself.
    pub(super) fn end(&mut self, child: Pid) -> Result<(), Errno> {
        // Not only in case that it hangs: its user can stop it on the last steps to its end, too.
        let killed = kill(child, Signal::SIGKILL);
        let deadline = Instant::now() + self.limit;
        // No wait takes a time limit but that for a descriptor of the process, which kernels before 5.3 do not have.
        while matches!(
            waitpid(child, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
        ) {
            if Instant::now() >= deadline {
                self.lose();
                break;
            }
            thread::sleep(NAP);
        }
        killed
    }
}

/// Whether there is something to read from `pipe`, or will never be again, within this time.
fn is_readable(pipe: BorrowedFd<'_>, within: Duration) -> bool {
    // Rounded up: a wait of less than a millisecond would be one of none, again and again.
    let milliseconds = PollTimeout::try_from(within.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::ZERO);
    // A signal that interrupts it shortens one look.
    poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], milliseconds).is_ok_and(|ready| ready > 0)
}

/// What was told, if anything was. It comes at once or not at all: the kernel does not divide what is as short.
fn read_failure(pipe: BorrowedFd<'_>) -> Option<Failure> {
    let mut bytes = [0; Failure::BYTES];
    match read(pipe, &mut bytes) {
        Ok(0) => None,
        Ok(Failure::BYTES) => Some(Failure::from_bytes(bytes)),
        _ => Some(Failure::UNINTELLIGIBLE),
    }
}

/// Whether `child` is stopped, or was and has been continued.
fn was_stopped(child: Pid) -> bool {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::Stopped(..) | WaitStatus::Continued(_)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_was_stopped_is_told_from_one_that_never_was_also_once_it_goes_on() {
        // It ends with its input.
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(!was_stopped(pid));
        kill(pid, Signal::SIGSTOP).unwrap();
        waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT).unwrap();
        assert!(was_stopped(pid));
        kill(pid, Signal::SIGCONT).unwrap();
        assert!(was_stopped(pid), "it has been continued");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
