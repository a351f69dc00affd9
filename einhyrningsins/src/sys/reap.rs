//! Children: reaps those that have exited, and sees which are suspended.

use einhorn_proto::Termination;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::signals::SignalNumber;

/// What has become of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has ended and was reaped.
    Ended(Termination),
    /// A signal such as SIGSTOP suspended it.
    Suspended,
    /// SIGCONT resumed it.
    Resumed,
}

/// Takes up the next change of child `of`, or of any, and reaps one that has ended; `None` if there is none. Never blocks.
///
/// For any, the kernel looks at one child after the other, and at each of them before it says that none has changed.
///
/// `before_reap` gets the pid of one that has ended as long as the kernel can give it to no other process.
///
/// Two changes may raise a single SIGCHLD, so call it for any until it returns `None`. Call it once at the start too, for what
/// changed before SIGCHLD was handled. As PID 1 or a subreaper, the master also gets the changes of processes that it did
/// not spawn.
///
/// # Errors
/// None known; passes on what the kernel returns.
///
/// # Source
/// `waitpid(2)` with WNOHANG, WUNTRACED and WCONTINUED. `nix`'s version returns an error for a child that died of a
/// realtime signal, after its pid is gone.
pub fn next_change(
    of: Option<Pid>,
    mut before_reap: impl FnMut(Pid),
) -> Result<Option<(Pid, Change)>, Errno> {
    let flags = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
    loop {
        let Some((pid, has_ended)) = peek(of)? else { return Ok(None) };
        if has_ended {
            before_reap(pid);
        }
        let mut status: c_int = 0;
        // SAFETY: writes the status to a live integer of the right type.
        let pid = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, flags) };
        match Errno::result(pid) {
            Ok(0) | Err(Errno::ECHILD) => return Ok(None),
            Ok(pid) => {
                if let Some(change) = decode(status) {
                    return Ok(Some((Pid::from_raw(pid), change)));
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The next child that has changed, of all or `of` one, which stays as it is, and whether it has ended.
///
/// # Source
/// `waitid(2)` with WNOWAIT: without a child that has changed, `si_pid` is 0.
fn peek(of: Option<Pid>) -> Result<Option<(Pid, bool)>, Errno> {
    let flags = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT;
    let (kind, id) = of.map_or((libc::P_ALL, 0), |pid| (libc::P_PID, pid.as_raw().cast_unsigned()));
    loop {
        // SAFETY: zeros are a valid siginfo_t, which is plain old data.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: writes to a live siginfo_t.
        let waited = unsafe { libc::waitid(kind, id, &raw mut info, flags) };
        match Errno::result(waited) {
            Err(Errno::ECHILD) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => {
                // SAFETY: waitid fills in what SIGCHLD has, of which the pid is part; or it is zero as before.
                let pid = unsafe { info.si_pid() };
                let has_ended =
                    matches!(info.si_code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED);
                return Ok((pid != 0).then_some((Pid::from_raw(pid), has_ended)));
            }
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

/// What a status says; `None` for one that means nothing here.
fn decode(status: c_int) -> Option<Change> {
    if libc::WIFEXITED(status) {
        Some(Change::Ended(Termination::Exited(libc::WEXITSTATUS(status))))
    } else if libc::WIFSIGNALED(status) {
        let signal = SignalNumber(libc::WTERMSIG(status)).to_string();
        Some(Change::Ended(Termination::Killed {
            signal,
            core_dumped: libc::WCOREDUMP(status),
            out_of_memory: false,
        }))
    } else if libc::WIFSTOPPED(status) {
        Some(Change::Suspended)
    } else if libc::WIFCONTINUED(status) {
        Some(Change::Resumed)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::process::Command;

    use nix::sys::signal::{Signal, kill};

    use super::*;
    use crate::sys::testing::{eventually, isolated};

    fn next() -> Result<Option<(Pid, Change)>, Errno> {
        next_change(None, |_| ())
    }

    fn shell(script: &str) -> i32 {
        Command::new("/bin/sh").args(["-c", script]).spawn().unwrap().id() as i32
    }

    fn killed(signal: &str) -> Change {
        Change::Ended(Termination::Killed { signal: signal.into(), core_dumped: false, out_of_memory: false })
    }

    fn exited(code: i32) -> Change {
        Change::Ended(Termination::Exited(code))
    }

    #[test]
    fn every_kind_of_change_is_distinguished() {
        isolated("sys::reap::tests::every_kind_of_change_is_distinguished", || {
            assert_eq!(next(), Ok(None), "without children");
            let realtime = libc::SIGRTMIN() + 3;
            let mut expected = HashMap::from([
                (shell("exit 0"), exited(0)),
                (shell("exit 137"), exited(137)),
                (shell("kill -KILL $$"), killed("SIGKILL")),
                (shell(&format!("kill -{realtime} $$")), killed("SIGRTMIN+3")),
            ]);
            let asleep = shell("exec sleep 60");
            let mut ended = std::collections::BTreeSet::new();
            eventually("four deaths", || {
                while let Some((pid, change)) = next_change(None, |pid| _ = ended.insert(pid)).unwrap() {
                    assert!(ended.remove(&pid), "{pid} was not named before it was reaped");
                    assert_eq!(expected.remove(&pid.as_raw()), Some(change));
                }
                expected.is_empty()
            });
            assert_eq!(next(), Ok(None), "with a child that lives");
            let pid = Pid::from_raw(asleep);
            for (signal, change) in [(Signal::SIGSTOP, Change::Suspended), (Signal::SIGCONT, Change::Resumed)]
            {
                kill(pid, signal).unwrap();
                eventually("a change", || next().unwrap() == Some((pid, change.clone())));
            }
            kill(pid, Signal::SIGTERM).unwrap();
            eventually("the last death", || next().unwrap() == Some((pid, killed("SIGTERM"))));
        });
    }

    #[test]
    fn one_child_is_asked_for_and_the_others_stay() {
        isolated("sys::reap::tests::one_child_is_asked_for_and_the_others_stay", || {
            let of = |pid: i32| next_change(Some(Pid::from_raw(pid)), |_| ());
            assert_eq!(of(1), Ok(None), "no child of ours");
            let [first, asleep, last] = ["exit 1", "exec sleep 60", "exit 3"].map(shell);
            for (pid, code) in [(last, 3), (first, 1)] {
                let expected = Some((Pid::from_raw(pid), exited(code)));
                eventually("its death", || of(pid).unwrap() == expected);
                assert_eq!(of(pid), Ok(None), "it is gone");
            }
            assert_eq!(of(asleep), Ok(None));
            kill(Pid::from_raw(asleep), Signal::SIGTERM).unwrap();
            eventually("the last death", || of(asleep).unwrap().is_some());
        });
    }

    #[test]
    fn statuses_are_decoded_with_the_core_dump() {
        assert_eq!(decode(0x0100), Some(exited(1)));
        let dumped =
            Termination::Killed { signal: "SIGSEGV".into(), core_dumped: true, out_of_memory: false };
        assert_eq!(decode(11 | 0x80), Some(Change::Ended(dumped)));
        assert_eq!(decode(0x137f), Some(Change::Suspended));
        assert_eq!(decode(0xffff), Some(Change::Resumed));
    }
}
