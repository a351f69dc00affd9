//! Collecting children that have ended.

use einhorn_proto::Termination;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::signals::SignalNumber;

/// Collects one child that has ended; `None` if none is left, or there is none. It never blocks.
///
/// Two deaths can give one SIGCHLD: call it until it says `None`, and once at the start, for those that ended
/// before anybody listened. As PID 1, or as a subreaper, it meets processes that nobody here has spawned.
///
/// # Errors
/// None is known; whatever the kernel says.
///
/// # Source
/// `waitpid(2)` with WNOHANG. Not `nix`'s, which has an error for a child that died of a realtime signal, when
/// its pid is gone already.
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

/// Whether `pid` is a child of this process, dead or alive, that has not been reaped.
///
/// # Source
/// `waitid(2)`: ECHILD for one that is none; WNOWAIT leaves it to be reaped.
#[must_use]
pub fn is_child(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(pid), flags) != Err(Errno::ECHILD)
}

/// How a child ended; `None` for one that has only stopped, which is told to a tracer.
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
    fn every_way_to_end_is_told_apart() {
        isolated("sys::reap::tests::every_way_to_end_is_told_apart", || {
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
