//! Peers of Unix sockets: their credentials, and of which worker they are descendants.
//!
//! A pid may have been given to another process since. So a sender is known by a descriptor of its process (pidfd, since
//! Linux 6.5), or by a time at which it had its pid: a process that started later is another one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use einhorn_proto::Requester;
use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, Pid, SysconfVar, Uid, sysconf};
use serde::{Deserialize, Serialize};

use super::group;
use super::open::read_start;
use super::process::is_alive;
use super::stat::Stat;

/// How many ancestors are examined. A worker's helper is a few levels below it (a shell, a wrapper); the bound
/// is for a `/proc` that changes while we read it.
const ANCESTORS_MAX: usize = 64;

/// The room for `/proc/PID/loginuid`: a number of 32 bits.
const LOGIN_UID_BYTES_MAX: usize = 16;

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

/// The user that connected. It is known for a process outside our pid namespace, too; one that our user namespace has no
/// number for has that of [`account::is_ambiguous`].
///
/// # Errors
/// ENOTSOCK and the like for a wrong descriptor.
///
/// [`account::is_ambiguous`]: super::account::is_ambiguous
pub fn user(socket: &impl AsFd) -> Result<Uid, Errno> {
    getsockopt(&socket.as_fd(), PeerCredentials).map(|found| Uid::from_raw(found.uid()))
}

/// Describes for people who made the connection `socket`, which was accepted at `accepted_at`. Of a process that has ended or
/// is outside our pid namespace, only the user is known.
pub fn requester(socket: &impl AsFd, accepted_at: SinceBoot) -> Requester {
    let uid = || user(socket).ok().map(Uid::as_raw);
    Sender::of_connection(socket, accepted_at)
        .map_or_else(|_| Requester { uid: uid(), ..Requester::default() }, |sender| sender.requester())
}

/// The login user and the name of the process that has this pid now, as far as `/proc` shows them. Neither read waits for
/// that process; one of its command line could.
pub(super) fn described(pid: Pid) -> Requester {
    let mut buffer = [0; LOGIN_UID_BYTES_MAX];
    let login_uid = read_start(Path::new(&format!("/proc/{pid}/loginuid")), &mut buffer).ok();
    let process = Stat::of(pid).ok().map(|stat| stat.name);
    Requester { login_uid: login_uid.and_then(parse_login_uid), process, ..Requester::default() }
}

/// # Source
/// `proc_pid_loginuid(5)`: it is -1, as an unsigned number, for a process that has no login user.
fn parse_login_uid(text: &[u8]) -> Option<u32> {
    str::from_utf8(text).ok()?.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// The workers among the children of this process.
pub trait Workers {
    /// Whether `pid` is a worker, dead or alive, that was not reaped.
    fn has(&self, pid: Pid) -> bool;

    /// When the worker `pid` started, if it was reaped, and what it sent before that still counts.
    fn last_heard_of(&self, pid: Pid) -> Option<SinceBoot>;
}

/// A process that sent a message or connected.
#[derive(Debug)]
pub struct Sender {
    pub pid: Pid,
    /// Its user at that time.
    pub uid: Uid,
    process: Process,
    /// A time at which it had its pid.
    seen_at: SinceBoot,
}

/// What the kernel gives as the process of a sender.
#[derive(Debug)]
pub enum Process {
    /// A pidfd.
    Held(OwnedFd),
    /// It has ended and was reaped.
    Gone,
    /// Nothing, before Linux 6.5 or for want of a descriptor.
    Unknown,
}

/// Why a sender does not speak for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    #[error("which is neither a worker nor descends from one")]
    Unrelated,
    /// Nobody can tell any more whose descendant it was.
    #[error(
        "which has ended; hint: a helper must live until it was heard, as \"systemd-notify\" does, or be the worker \
         itself (\"exec\")"
    )]
    Ended,
}

impl Process {
    /// The outcome of asking for a pidfd.
    pub fn of(pidfd: Result<OwnedFd, Errno>) -> Self {
        match pidfd {
            Ok(pidfd) => Self::Held(pidfd),
            // The latter before Linux 6.10.
            Err(Errno::ESRCH | Errno::EINVAL) => Self::Gone,
            Err(_) => Self::Unknown,
        }
    }
}

impl Sender {
    pub fn new(pid: Pid, uid: Uid, process: Process, seen_at: SinceBoot) -> Self {
        Self { pid, uid, process, seen_at }
    }

    /// The process that made the connection `socket`, which was accepted at `accepted_at`.
    ///
    /// # Errors
    /// Those of [`credentials`].
    ///
    /// # Source
    /// `SO_PEERPIDFD`, since Linux 6.5.
    pub fn of_connection(socket: &impl AsFd, accepted_at: SinceBoot) -> Result<Self, Errno> {
        let Credentials { pid, uid, .. } = credentials(socket)?;
        let process = Process::of(getsockopt(&socket.as_fd(), PeerPidfd));
        Ok(Self { pid, uid, process, seen_at: accepted_at })
    }

    /// The worker that it is, or from which it descends. An orphan is nobody's descendant.
    ///
    /// # Errors
    /// [`Stranger`].
    pub fn worker(&self, workers: &impl Workers) -> Result<Pid, Stranger> {
        let worker = ancestor_among(self.pid, |pid| workers.has(pid), |pid| Stat::of(pid).ok());
        // What was found is about this process only if it had the pid all the while.
        if self.has_its_pid() {
            return worker.ok_or(Stranger::Unrelated);
        }
        let started_at = workers.last_heard_of(self.pid).ok_or(Stranger::Ended)?;
        if started_at <= self.seen_at { Ok(self.pid) } else { Err(Stranger::Ended) }
    }

    /// Describes it for people.
    fn requester(&self) -> Requester {
        let found = described(self.pid);
        // What was found is about this process only if it had the pid all the while.
        let found = if self.has_its_pid() { found } else { Requester::default() };
        Requester { uid: Some(self.uid.as_raw()), ..found }
    }

    /// Whether it was not reaped yet. Until then, no other process gets its pid.
    fn has_its_pid(&self) -> bool {
        match &self.process {
            Process::Held(pidfd) => match group::send(pidfd, None, 0) {
                // It may not be signalled, or a seccomp filter does not know the call.
                Err(Errno::EPERM | Errno::ENOSYS) => self.has_its_number(),
                sent => sent != Err(Errno::ESRCH),
            },
            Process::Gone => false,
            Process::Unknown => self.has_its_number(),
        }
    }

    /// Whether the process that has its pid now had it when it was seen.
    fn has_its_number(&self) -> bool {
        // Without /proc, or where it hides other users' processes, the pid is all that there is.
        started(self.pid).map_or_else(|| is_alive(self.pid), |started_at| started_at <= self.seen_at)
    }
}

/// The first process of `pid`, its parent, its grandparent and so on for which `is_wanted` holds. `None` if
/// there is none, or if one of them exited.
fn ancestor_among(
    pid: Pid,
    is_wanted: impl Fn(Pid) -> bool,
    look: impl Fn(Pid) -> Option<Stat>,
) -> Option<Pid> {
    let (mut pid, mut child_started) = (pid, None);
    for _ in 0..ANCESTORS_MAX {
        if is_wanted(pid) {
            return Some(pid);
        }
        let stat = look(pid)?;
        if child_started.is_some_and(|child_started| stat.started_at > child_started) {
            // It is no parent, but has got the pid of one that has just ended.
            return None;
        }
        (pid, child_started) = (stat.parent?, Some(stat.started_at));
    }
    None
}

/// When the process started that has this pid now; `None` if there is none.
pub fn started(pid: Pid) -> Option<SinceBoot> {
    Stat::of(pid).ok().map(|stat| stat.started_at)
}

/// A time since the system was booted, as the kernel gives the start of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SinceBoot(Duration);

impl SinceBoot {
    /// Before every process.
    pub const ZERO: Self = Self(Duration::ZERO);

    pub fn now() -> Self {
        Self(time(ClockId::CLOCK_BOOTTIME))
    }

    /// The time at which the system's clock showed `time`.
    pub fn at_wall_clock(wall: TimeSpec) -> Self {
        let ago = time(ClockId::CLOCK_REALTIME).saturating_sub(Duration::from(wall));
        Self(time(ClockId::CLOCK_BOOTTIME).saturating_sub(ago))
    }

    /// A time in the unit of `/proc/PID/stat`.
    pub(super) fn from_ticks(ticks: u64) -> Self {
        let per_second = ticks_per_second();
        let part = Duration::from_nanos(ticks % per_second * 1_000_000_000 / per_second);
        Self(Duration::from_secs(ticks / per_second) + part)
    }

    /// The whole ticks until then.
    fn ticks(self) -> u64 {
        let per_second = ticks_per_second();
        self.0.as_secs() * per_second + u64::from(self.0.subsec_nanos()) * per_second / 1_000_000_000
    }
}

/// When the child `pid`, which was started since `before`, did so, in the unit of `/proc/PID/stat`.
///
/// Mostly no more than one tick has passed, and `/proc` need not be asked.
#[must_use]
pub fn start_ticks(pid: Pid, before: SinceBoot) -> Option<u64> {
    match (before.ticks(), SinceBoot::now().ticks()) {
        (before, now) if before == now => Some(now),
        _ => started(pid).map(SinceBoot::ticks),
    }
}

/// The kernel fixes it at 100, except on alpha and ia64.
fn ticks_per_second() -> u64 {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    per_second.filter(|ticks| *ticks > 0).unwrap_or(100)
}

fn time(clock: ClockId) -> Duration {
    // Fails only for clocks that a kernel lacks, and every Linux has these.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Child, Command, Stdio};

    use nix::unistd::{getgid, getpid, getppid, getuid};

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
        assert_eq!(user(&server), Ok(getuid()));
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

    fn seen(pid: Pid) -> Option<Stat> {
        Stat::of(pid).ok()
    }

    #[test]
    fn a_grandchild_is_a_descendant_and_a_stranger_is_not() {
        let (mut outer, inner) = shell_in_shell();
        let outer_pid = Pid::from_raw(outer.id() as i32);
        let is_self_or_descendant =
            |pid, ancestor| ancestor_among(pid, |pid| pid == ancestor, seen).is_some();
        assert_ne!(outer_pid, inner);
        for pid in [inner, outer_pid, getpid()] {
            assert!(is_self_or_descendant(pid, getpid()), "{pid}");
        }
        assert!(is_self_or_descendant(inner, outer_pid));
        assert!(!is_self_or_descendant(outer_pid, inner));
        assert!(!is_self_or_descendant(getppid(), getpid()));
        assert!(!is_self_or_descendant(Pid::from_raw(i32::MAX), getpid()));
        let nearest = ancestor_among(inner, |pid| pid == outer_pid || pid == getpid(), seen);
        assert_eq!(nearest, Some(outer_pid));
        assert_eq!(ancestor_among(inner, |_| false, seen), None);
        outer.stdin.take().unwrap().write_all(b"\n").unwrap();
        outer.wait().unwrap();
    }

    fn stat(parent: i32, started: u64) -> Stat {
        Stat { parent: Some(Pid::from_raw(parent)), started_at: SinceBoot::from_ticks(started), ..own() }
    }

    fn own() -> Stat {
        Stat::of(getpid()).unwrap()
    }

    #[test]
    fn what_has_got_the_pid_of_a_dead_parent_is_no_parent() {
        let of = |pid| Some(if pid == Pid::from_raw(3) { stat(2, 100) } else { stat(1, 101) });
        let walk = |of: &dyn Fn(Pid) -> Option<Stat>| {
            ancestor_among(Pid::from_raw(3), |pid| pid == Pid::from_raw(1), of)
        };
        assert_eq!(walk(&of), None, "2 started after its child");
        assert_eq!(
            walk(&|pid| of(pid).map(|found| stat(found.parent.unwrap().as_raw(), 100))),
            Some(Pid::from_raw(1))
        );
    }

    /// These workers, of which some were reaped.
    #[derive(Default)]
    struct Known {
        here: Vec<Pid>,
        gone: Vec<(Pid, SinceBoot)>,
    }

    impl Workers for Known {
        fn has(&self, pid: Pid) -> bool {
            self.here.contains(&pid)
        }

        fn last_heard_of(&self, pid: Pid) -> Option<SinceBoot> {
            self.gone.iter().find(|(gone, _)| *gone == pid).map(|(_, started_at)| *started_at)
        }
    }

    fn sender(pid: Pid, process: Process, seen_at: SinceBoot) -> Sender {
        Sender::new(pid, getuid(), process, seen_at)
    }

    fn pidfd(pid: Pid) -> Process {
        let pid = rustix::process::Pid::from_raw(pid.as_raw()).unwrap();
        let opened = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        Process::of(opened.map_err(|errno| Errno::from_raw(errno.raw_os_error())))
    }

    #[test]
    fn a_pid_that_another_process_has_now_says_nothing() {
        let (mut outer, inner) = shell_in_shell();
        let worker = Pid::from_raw(outer.id() as i32);
        let known = Known { here: vec![worker], ..Known::default() };
        let (now, before) = (SinceBoot::now(), SinceBoot::ZERO);
        for pid in [worker, inner] {
            assert_eq!(
                sender(pid, pidfd(pid), before).worker(&known),
                Ok(worker),
                "held, the time is not asked"
            );
            assert_eq!(sender(pid, Process::Unknown, now).worker(&known), Ok(worker));
            assert_eq!(
                sender(pid, Process::Unknown, before).worker(&known),
                Err(Stranger::Ended),
                "it is younger"
            );
            assert_eq!(sender(pid, Process::Gone, now).worker(&known), Err(Stranger::Ended));
        }
        assert_eq!(sender(getpid(), pidfd(getpid()), now).worker(&known), Err(Stranger::Unrelated));
        let held = pidfd(worker);
        outer.stdin.take().unwrap().write_all(b"\n").unwrap();
        outer.wait().unwrap();
        // Whoever had the pid now: the one that sent is gone.
        let ended = sender(worker, held, now);
        assert_eq!(ended.worker(&known), Err(Stranger::Ended));
        let last_heard_of = |started_at| Known { gone: vec![(worker, started_at)], ..Known::default() };
        assert_eq!(ended.worker(&last_heard_of(before)), Ok(worker), "its last words");
        let later = SinceBoot(now.0 + Duration::from_millis(10));
        assert_eq!(
            ended.worker(&last_heard_of(later)),
            Err(Stranger::Ended),
            "that worker started after it had sent"
        );
    }

    #[test]
    fn a_connection_and_its_process_are_told_apart_from_what_comes_later() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let known = Known { here: vec![getpid()], ..Known::default() };
        let of = |at| Sender::of_connection(&ours, at).unwrap();
        assert_eq!(of(SinceBoot::now()).worker(&known), Ok(getpid()));
        drop(theirs);
        let started_at = started(getpid()).unwrap();
        assert!(started_at > SinceBoot::ZERO && started_at <= SinceBoot::now());
        assert_eq!(started(Pid::from_raw(i32::MAX)), None);
    }

    #[test]
    fn a_client_is_described_by_its_user_login_user_and_name() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let own = requester(&ours, SinceBoot::now());
        let name = Stat::of(getpid()).unwrap().name;
        assert_eq!((own.uid, own.process, own.signal), (Some(getuid().as_raw()), Some(name), None));
        let login_uid = std::fs::read("/proc/self/loginuid").ok();
        assert_eq!(own.login_uid, login_uid.as_deref().and_then(parse_login_uid));
    }

    #[test]
    fn of_a_client_that_has_ended_only_the_user_is_known() {
        let only_user = Requester { uid: Some(getuid().as_raw()), ..Requester::default() };
        for (process, seen_at) in [(Process::Gone, SinceBoot::now()), (Process::Unknown, SinceBoot::ZERO)] {
            assert_eq!(sender(getpid(), process, seen_at).requester(), only_user, "its pid is another's now");
        }
        assert_ne!(sender(getpid(), pidfd(getpid()), SinceBoot::ZERO).requester(), only_user);
    }

    #[test]
    fn a_process_that_nobody_has_logged_in_for_has_no_login_user() {
        for (text, login_uid) in
            [(&b"1001"[..], Some(1001)), (b"0\n", Some(0)), (b"4294967295", None), (b"-1", None), (b"", None)]
        {
            assert_eq!(parse_login_uid(text), login_uid, "{text:?}");
        }
        assert_eq!(described(Pid::from_raw(i32::MAX)), Requester::default());
    }

    #[test]
    fn a_wall_clock_time_is_as_long_ago_as_it_is() {
        let wall = TimeSpec::from(time(ClockId::CLOCK_REALTIME) - Duration::from_secs(2));
        let (now, then) = (SinceBoot::now(), SinceBoot::at_wall_clock(wall));
        let ago = now.0 - then.0;
        assert!(ago > Duration::from_millis(1_900) && ago < Duration::from_secs(3), "{ago:?}");
    }
}
