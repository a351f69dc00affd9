//! Process groups: who is left in one whose leader has gone, and which sockets it holds.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// Members that are listed. More of them change nothing for the reader.
const MEMBERS_MAX: usize = 16;

/// Whether a process is left in `group`, whose leader was reaped just now.
///
/// # Source
/// `kill(2)` with signal 0: ESRCH for a group without members. While a group has members, the kernel gives its number to
/// no new process.
#[must_use]
pub fn has_members(group: Pid) -> bool {
    killpg(group, None) != Err(Errno::ESRCH)
}

/// The processes in `group` that have not exited, at most 16.
///
/// # Source
/// `proc_pid_stat(5)`: the third and fifth fields are state and group. The second, in parentheses, may contain anything.
#[must_use]
pub fn members(group: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_member = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
        let (state, group_of) = (fields.next(), fields.nth(1));
        !matches!(state, Some("Z" | "X") | None) && group_of == Some(&*group.to_string())
    };
    pids.filter(is_member).take(MEMBERS_MAX).map(Pid::from_raw).collect()
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

    use nix::sys::signal::{Signal, kill};
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
        leader.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
        let mut leader = leader.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (group, left) = (Pid::from_raw(leader.id() as i32), Pid::from_raw(line.trim().parse().unwrap()));
        leader.wait().unwrap();
        assert!(has_members(group));
        assert_eq!(members(group), [left]);
        // A shell gives its background processes no standard input.
        assert!(!holds_any(left, &[inode(&listener), inode(&other)]));
        kill(left, Signal::SIGKILL).unwrap();
        eventually("an empty group", || members(group).is_empty());
        assert!(holds_any(nix::unistd::getpid(), &[inode(&other)]));
    }
}
