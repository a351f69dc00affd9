//! Reaping: collects children that have exited.

use einhorn_proto::Termination;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::signals::SignalNumber;

/// Reaps one child; `None` if none has exited. Never blocks.
///
/// Two deaths may raise a single SIGCHLD, so call it until it returns `None`. Call it once at the start too,
/// for children that exited before SIGCHLD was handled. As PID 1 or a subreaper, the master also reaps
/// processes that it did not spawn.
///
/// # Errors
/// None known; passes on what the kernel returns.
///
/// # Source
/// `waitpid(2)` with WNOHANG. `nix`'s version returns an error for a child that died of a realtime signal,
/// after its pid is gone.
pub fn reap_one() -> Result<Option<(Pid, Termination)>, Errno> {
    loop {
        let mut status: c_int = 0;
        // SAFETY: writes the status to a live integer of the right type.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match Errno::result(pid) {
            Ok(0) | Err(Errno::ECHILD) => return Ok(None),
            Ok(pid) => {
                if let Some(termination) = decode(status) {
                    return Ok(Some((Pid::from_raw(pid), termination)));
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether `pid` is an unreaped child of this process, dead or alive.
///
/// # Source
/// `waitid(2)`: ECHILD if it is not; WNOWAIT leaves it to be reaped.
#[must_use]
pub fn is_child(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(pid), flags) != Err(Errno::ECHILD)
}

/// How a child ended; `None` for one that only stopped, which is reported to a tracer.
fn decode(status: c_int) -> Option<Termination> {
    if libc::WIFEXITED(status) {
        Some(Termination::Exited(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        let signal = SignalNumber(libc::WTERMSIG(status)).to_string();
        Some(Termination::Killed { signal, core_dumped: libc::WCOREDUMP(status) })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::process::Command;

    use super::*;
    use crate::sys::testing::{eventually, isolated};

    fn shell(script: &str) -> i32 {
        Command::new("/bin/sh").args(["-c", script]).spawn().unwrap().id() as i32
    }

    fn killed(signal: &str) -> Termination {
        Termination::Killed { signal: signal.into(), core_dumped: false }
    }

    #[test]
    fn every_kind_of_exit_is_distinguished() {
        isolated("sys::reap::tests::every_kind_of_exit_is_distinguished", || {
            assert_eq!(reap_one(), Ok(None), "without children");
            let realtime = libc::SIGRTMIN() + 3;
            let mut expected = HashMap::from([
                (shell("exit 0"), Termination::Exited(0)),
                (shell("exit 137"), Termination::Exited(137)),
                (shell("kill -KILL $$"), killed("SIGKILL")),
                (shell(&format!("kill -{realtime} $$")), killed("SIGRTMIN+3")),
            ]);
            let asleep = shell("exec sleep 60");
            eventually("four deaths", || {
                while let Some((pid, termination)) = reap_one().unwrap() {
                    assert_eq!(expected.remove(&pid.as_raw()), Some(termination));
                }
                expected.is_empty()
            });
            assert_eq!(reap_one(), Ok(None), "with a child that lives");
            nix::sys::signal::kill(Pid::from_raw(asleep), nix::sys::signal::Signal::SIGTERM).unwrap();
            eventually("the last death", || {
                reap_one().unwrap() == Some((Pid::from_raw(asleep), killed("SIGTERM")))
            });
        });
    }

    #[test]
    fn statuses_are_decoded_with_the_core_dump_and_stops_are_none() {
        assert_eq!(decode(0x0100), Some(Termination::Exited(1)));
        assert_eq!(
            decode(11 | 0x80),
            Some(Termination::Killed { signal: "SIGSEGV".into(), core_dumped: true })
        );
        assert_eq!(decode(0x137f), None);
        assert_eq!(decode(0xffff), None);
    }
}
