//! Peers of Unix sockets: their credentials, and whose descendants they are.

use std::fs;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Pid, Uid};

/// How many ancestors are examined. A worker's helper is a few levels below it (a shell, a wrapper); the bound
/// is for a `/proc` that changes while we read it.
const ANCESTORS_MAX: usize = 64;

/// The identity of a process, vouched for by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The process. It may have exited since.
    pub pid: Pid,
    /// Its effective user.
    pub uid: Uid,
    /// Its effective group.
    pub gid: Gid,
}

/// The process that connected or, for a client, the one that listens. It may have exited since, or have passed
/// the socket on.
///
/// # Errors
/// ESRCH if it is outside our pid namespace, so that it has no pid here; ENOTSOCK and the like for a wrong
/// descriptor.
///
/// # Source
/// `SO_PEERCRED` in `unix(7)`.
pub fn credentials(socket: &impl AsFd) -> Result<Credentials, Errno> {
    let found = getsockopt(&socket.as_fd(), PeerCredentials)?;
    if found.pid() <= 0 {
        return Err(Errno::ESRCH);
    }
    Ok(Credentials {
        pid: Pid::from_raw(found.pid()),
        uid: Uid::from_raw(found.uid()),
        gid: Gid::from_raw(found.gid()),
    })
}

/// The first process of `pid`, its parent, its grandparent and so on for which `is_wanted` holds. `None` if
/// there is none, or if one of them exited: an orphan is nobody's descendant.
pub fn ancestor_among(pid: Pid, is_wanted: impl Fn(Pid) -> bool) -> Option<Pid> {
    let mut pid = pid;
    for _ in 0..ANCESTORS_MAX {
        if is_wanted(pid) {
            return Some(pid);
        }
        pid = parent(pid)?;
    }
    None
}

/// The parent of `pid`; `None` for init, and for a process that has exited.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let parent = parent_in_stat(&stat)?;
    (parent > 0).then(|| Pid::from_raw(parent))
}

/// The fourth field of `/proc/PID/stat`. The second is the program's name in parentheses, which may contain
/// blanks, parentheses and any other bytes; the fields after it do not.
fn parent_in_stat(stat: &[u8]) -> Option<i32> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat[name_end + 1..].split(|byte| *byte == b' ').skip(1);
    let _state = fields.next()?;
    std::str::from_utf8(fields.next()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};

    use nix::unistd::{getgid, getpid, getppid, getuid};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_has_a_pid_a_user_and_a_group() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let ours = Credentials { pid: getpid(), uid: getuid(), gid: getgid() };
        assert_eq!(credentials(&server), Ok(ours));
        assert_eq!(credentials(&client), Ok(ours));
        assert!(credentials(&std::io::stdin()).is_err());
    }

    /// A shell that started a shell, and the inner shell's pid.
    fn shell_in_shell() -> (Child, Pid) {
        let script = "sh -c 'echo $$; read line'; exit 0";
        let mut outer = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (outer, Pid::from_raw(line.trim().parse().unwrap()))
    }

    #[test]
    fn a_grandchild_is_a_descendant_and_a_stranger_is_not() {
        let (mut outer, inner) = shell_in_shell();
        let outer_pid = Pid::from_raw(outer.id() as i32);
        let is_self_or_descendant = |pid, ancestor| ancestor_among(pid, |pid| pid == ancestor).is_some();
        assert_ne!(outer_pid, inner);
        for pid in [inner, outer_pid, getpid()] {
            assert!(is_self_or_descendant(pid, getpid()), "{pid}");
        }
        assert!(is_self_or_descendant(inner, outer_pid));
        assert!(!is_self_or_descendant(outer_pid, inner));
        assert!(!is_self_or_descendant(getppid(), getpid()));
        assert!(!is_self_or_descendant(Pid::from_raw(i32::MAX), getpid()));
        let nearest = ancestor_among(inner, |pid| pid == outer_pid || pid == getpid());
        assert_eq!(nearest, Some(outer_pid));
        assert_eq!(ancestor_among(inner, |_| false), None);
        outer.stdin.take().unwrap().write_all(b"\n").unwrap();
        outer.wait().unwrap();
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_is_read_correctly() {
        assert_eq!(parent_in_stat(b"42 (cat) S 7 42 42 0 -1"), Some(7));
        assert_eq!(parent_in_stat(b"42 (a) R 1 (b) S 7 42 42 0 -1"), Some(7));
        assert_eq!(parent_in_stat(b"42 (\xff) \n) Z 7 42"), Some(7));
        assert_eq!(parent_in_stat(b"1 (init) S 0 1"), Some(0));
        for broken in [&b""[..], b"42", b"42 (cat)", b"42 (cat) S", b"42 (cat) S x", b")"] {
            assert_eq!(parent_in_stat(broken), None);
        }
    }

    proptest! {
        #[test]
        fn any_name_is_skipped(name in proptest::collection::vec(any::<u8>(), 0..16), parent in any::<i32>()) {
            let mut stat = b"42 (".to_vec();
            stat.extend(name);
            stat.extend(format!(") S {parent} 42 42").bytes());
            prop_assert_eq!(parent_in_stat(&stat), Some(parent));
        }

        #[test]
        fn any_bytes_are_read_or_refused(stat in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parent_in_stat(&stat);
        }
    }
}
