//! Process groups: signals to one, also after its leader has gone, who is left in it, and which sockets they hold.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_uint};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid};
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::inherit::Kept;
use super::stat::Stat;
use crate::forms;

/// Members that are listed. More of them change nothing for the reader.
const MEMBERS_MAX: usize = 16;

/// Members that are signalled one by one, where the kernel cannot signal a group.
const SIGNALLED_MAX: usize = 1024;

/// `PIDFD_SIGNAL_PROCESS_GROUP` of `linux/pidfd.h`, since Linux 6.9.
const PROCESS_GROUP: c_uint = 1 << 2;

/// A process group, held by a descriptor of its leader, so that no other group of the same number is ever signalled. It
/// outlives the leader.
#[derive(Debug, Serialize, Deserialize)]
pub struct Group {
    /// `None` if it was opened after the leader was reaped, or before Linux 6.9.
    leader: Option<Kept<OwnedFd>>,
    /// Without the leader: the members at the time when it was opened.
    members: Vec<Kept<OwnedFd>>,
}

impl Group {
    /// Opens the group of `leader`, which is an unreaped child of this process, dead or alive.
    ///
    /// # Errors
    /// If there is no such process, no descriptor is left, or the kernel or a seccomp filter has no descriptors of
    /// processes.
    ///
    /// # Source
    /// `pidfd_open(2)`: the number of an unreaped child is not given out again. It is refused for a process that was reaped.
    pub fn open(leader: Pid) -> io::Result<Self> {
        if !can_signal_groups()? {
            return Self::open_each(leader);
        }
        Ok(Self { leader: Some(Kept::Open(open(leader)?)), members: Vec::new() })
    }

    /// Opens each member of the group of `leader`, which was reaped just now. As long as one of them lives, the kernel
    /// gives the group's number to no other.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_each(leader: Pid) -> io::Result<Self> {
        can_signal_groups()?;
        let members = members_of(leader, SIGNALLED_MAX).into_iter().filter_map(|member| {
            let descriptor = open(member).ok()?;
            // The number may have been given out again in between.
            is_member(member, leader).then_some(Kept::Open(descriptor))
        });
        Ok(Self { leader: None, members: members.collect() })
    }

    /// Sends `signal` to its members; `None` only asks whether there are any.
    ///
    /// # Errors
    /// ESRCH if nobody is left, EPERM if none of them may be signalled.
    ///
    /// # Source
    /// `pidfd_send_signal(2)`.
    pub fn signal(&self, signal: Option<Signal>) -> Result<(), Errno> {
        if let Some(leader) = &self.leader {
            return send(leader, signal, PROCESS_GROUP);
        }
        let sent = self.members.iter().map(|member| send(member, signal, 0));
        sent.reduce(Result::or).unwrap_or(Err(Errno::ESRCH))
    }
}

fn open(pid: Pid) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::EINVAL)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

pub(super) fn send(pidfd: &OwnedFd, signal: Option<Signal>, flags: c_uint) -> Result<(), Errno> {
    let number = signal.map_or(0, |signal| signal as c_int);
    let info: *const libc::siginfo_t = ptr::null();
    // SAFETY: the descriptor is open, and without an info the kernel reads no memory of ours.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, info, flags) };
    Errno::result(sent).map(drop)
}

/// Sends `signal` to the group that `leader` leads, an unreaped child of this process: its number is nobody else's.
///
/// # Errors
/// ESRCH if nobody is in it, EPERM if none of them may be signalled.
///
/// # Source
/// `kill(2)`.
pub fn signal_led_by(leader: Pid, signal: Option<Signal>) -> Result<(), Errno> {
    killpg(leader, signal)
}

/// Whether a process is left in `group`, whose leader was reaped just now.
///
/// # Source
/// `kill(2)` with signal 0: ESRCH for a group without members.
#[must_use]
pub fn has_members(group: Pid) -> bool {
    killpg(group, None) != Err(Errno::ESRCH)
}

/// Whether the kernel signals groups by a descriptor of their leader, and not only single processes.
///
/// # Errors
/// It does neither, or no descriptor is left. A seccomp filter that does not know a call returns EPERM.
fn can_signal_groups() -> io::Result<bool> {
    static CAN: OnceLock<bool> = OnceLock::new();
    if let Some(can) = CAN.get() {
        return Ok(*can);
    }
    let named = |call: &str, error: io::Error| io::Error::new(error.kind(), format!("{call}: {error}"));
    let own = open(getpid()).map_err(|error| named("pidfd_open", error))?;
    let can = send(&own, None, PROCESS_GROUP).is_ok();
    if !can {
        send(&own, None, 0).map_err(|errno| named("pidfd_send_signal", errno.into()))?;
    }
    Ok(*CAN.get_or_init(|| can))
}

/// The processes in `group` that have not exited, at most 16.
#[must_use]
pub fn members(group: Pid) -> Vec<Pid> {
    members_of(group, MEMBERS_MAX)
}

fn members_of(group: Pid, max: usize) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| is_member(*pid, group)).take(max).collect()
}

fn is_member(pid: Pid, group: Pid) -> bool {
    Stat::of(pid).is_ok_and(|stat| !stat.has_ended && stat.group == group)
}

/// A process that is held by a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub struct Held {
    #[serde(with = "forms::written")]
    pub pid: Pid,
    descriptor: Kept<OwnedFd>,
}

impl Held {
    #[must_use]
    pub fn is_alive(&self) -> bool {
        send(&self.descriptor, None, 0) != Err(Errno::ESRCH)
    }
}

/// The children of `leader` and of those, at most 16, that are in other groups than its own: they hear nothing of a signal
/// to its group. Of a process with threads, the children of its first thread.
///
/// # Source
/// `proc_pid_task(5)`, `children`.
#[must_use]
pub fn children_elsewhere(leader: Pid) -> Vec<Held> {
    let (mut found, mut parents) = (Vec::new(), vec![leader]);
    while let Some(parent) = parents.pop() {
        let children =
            fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw) {
            if found.len() + parents.len() >= MEMBERS_MAX {
                return found;
            }
            parents.push(child);
            if !is_member(child, leader)
                && let Ok(descriptor) = open(child)
            {
                found.push(Held { pid: child, descriptor: Kept::Open(descriptor) });
            }
        }
    }
    found
}

/// Whether `pid` has one of these sockets open, named by their inodes. `false` if its descriptors cannot be read.
///
/// # Source
/// `proc_pid_fd(5)`.
#[must_use]
pub fn holds_any(pid: Pid, inodes: &[u64]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    // Through the link, which leads to the socket itself.
    descriptors
        .flatten()
        .any(|entry| fs::metadata(entry.path()).is_ok_and(|file| inodes.contains(&file.ino())))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use nix::sys::stat::fstat;

    use super::*;
    use crate::sys::testing::eventually;

    #[test]
    fn who_is_left_in_a_group_is_found_with_the_sockets_that_it_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = |listener: &TcpListener| fstat(listener).unwrap().st_ino;
        let mut leader = Command::new("/bin/sh");
        leader.args(["-c", "sleep 1000 & echo $!; exec true"]).process_group(0);
        leader.stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
        let mut leader = leader.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (group, left) = (Pid::from_raw(leader.id() as i32), Pid::from_raw(line.trim().parse().unwrap()));
        let whole = Group::open(group).unwrap();
        leader.wait().unwrap();
        assert!(Group::open(group).is_err() || !can_signal_groups().unwrap(), "it was reaped");
        let each = Group::open_each(group).unwrap();
        assert!(has_members(group));
        assert_eq!(members(group), [left]);
        // A shell gives its background processes no standard input.
        assert!(!holds_any(left, &[inode(&listener), inode(&other)]));
        for group in [&whole, &each] {
            assert_eq!(group.signal(None), Ok(()));
            assert_eq!(group.signal(Some(Signal::SIGCONT)), Ok(()));
        }
        whole.signal(Some(Signal::SIGKILL)).unwrap();
        eventually("an empty group", || {
            members(group).is_empty()
                && [&whole, &each].map(|group| group.signal(None)) == [Err(Errno::ESRCH); 2]
        });
        assert!(holds_any(getpid(), &[inode(&other)]));
    }
}
