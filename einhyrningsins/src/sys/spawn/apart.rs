//! Children that do not share the master's memory: waits for them for a limited time.
//!
//! Other users could stop such a child and thereby halt the master: see "As another user" in the parent module.

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

/// How long a child may take from its clone to its exec. It normally takes a third of a millisecond; tenths of
/// a second if the program comes from a sleeping disk or over a network, or if the system swaps. Everything
/// that waits for the master has a longer limit: a service manager's watchdog (30 s in our units), boot
/// deadlines (60 s).
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// How long nothing is tried after a child that did not reach its exec. It equals the time that the child may
/// have cost, so that the loop can serve others and does not lose [`LIMIT`] to each spawn that is due in the
/// same round.
const PAUSE: Duration = LIMIT;

/// How often we check whether a child has been stopped: the most that a stop can cost. More than a hundred
/// times the duration of a spawn, so that usually no check happens.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often we check whether a killed child is gone. Death takes about as long.
const NAP: Duration = Duration::from_micros(100);

/// How much time children may take, and how much they have used.
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

    /// Whether nothing may be tried now.
    pub(super) fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| Instant::now() < until)
    }

    fn lose(&mut self) {
        self.paused_until = Some(Instant::now() + self.pause);
    }

    /// Waits until `child` closes its end of `pipe`, by its exec or its exit, and returns the failure that it
    /// reported.
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

    /// Kills a child that must not run, whatever its state, and reaps it. If the kernel cannot end it in time,
    /// because it waits for a device, it is left to the reaper of unknown children.
    ///
    /// # Errors
    /// EPERM if this process may not signal it. The child is waited for nevertheless: it may be about to exit.
    pub(super) fn end(&mut self, child: Pid) -> Result<(), Errno> {
        // Always, not only if it hangs: its user can stop it on the last steps to its exit, too.
        let killed = kill(child, Signal::SIGKILL);
        let deadline = Instant::now() + self.limit;
        // The only wait with a time limit is that for a pidfd, which kernels before 5.3 do not have.
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

/// Whether `pipe` can be read, or its other end is closed, within this time.
fn is_readable(pipe: BorrowedFd<'_>, within: Duration) -> bool {
    // Rounded up: a wait of less than a millisecond would become none, and the loop would spin.
    let milliseconds = PollTimeout::try_from(within.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::ZERO);
    // An interrupting signal only shortens this wait.
    poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], milliseconds).is_ok_and(|ready| ready > 0)
}

/// The failure that was reported, if any. It arrives whole or not at all: the kernel does not split a write
/// this short.
fn read_failure(pipe: BorrowedFd<'_>) -> Option<Failure> {
    let mut bytes = [0; Failure::BYTES];
    match read(pipe, &mut bytes) {
        Ok(0) => None,
        Ok(Failure::BYTES) => Some(Failure::from_bytes(bytes)),
        _ => Some(Failure::UNINTELLIGIBLE),
    }
}

/// Whether `child` is stopped, or was stopped and has been continued.
fn was_stopped(child: Pid) -> bool {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::Stopped(..) | WaitStatus::Continued(_)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_stopped_child_is_recognised_even_after_it_continues() {
        // It exits at the end of its input.
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
