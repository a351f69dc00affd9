//! `/proc/PID/stat`: what everybody may ask about a process, with one short read.

use std::io;
use std::path::Path;

use einhorn_proto::visible_line;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::open::read_start;
use super::peer::SinceBoot;

/// The room for it: 52 numbers of at most 20 digits, and a name.
const BYTES_MAX: usize = 2048;

/// What the kernel says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The name that it has given itself or, for a script, the script's; at most 15 bytes, which may be any. Control
    /// characters are written as escapes.
    pub name: String,
    /// Whether it has ended; nobody has reaped it yet.
    pub has_ended: bool,
    /// `None` for init.
    pub parent: Option<Pid>,
    /// Its process group.
    pub group: Pid,
    /// In whole clock ticks, so not after its true start.
    pub started_at: SinceBoot,
    /// The main thread's.
    pub blocked: SignalMask,
    pub ignored: SignalMask,
    /// Those for which it has a handler.
    pub caught: SignalMask,
}

/// Standard signals, as a bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalMask(u64);

impl SignalMask {
    #[must_use]
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << (signal as i32 - 1)) != 0
    }
}

impl Stat {
    /// That of the process that has this pid now, which may be a zombie.
    ///
    /// # Errors
    /// ENOENT or ESRCH if there is none, or `/proc` hides it (`hidepid`).
    pub fn of(pid: Pid) -> io::Result<Self> {
        let mut buffer = [0; BYTES_MAX];
        let stat = read_start(Path::new(&format!("/proc/{pid}/stat")), &mut buffer)?;
        Self::parse(stat).ok_or_else(|| io::Error::other("/proc/PID/stat is not as expected"))
    }

    /// # Source
    /// `proc_pid_stat(5)`. The second field is the name in parentheses, which may contain blanks, parentheses and any other
    /// bytes; those after it are a letter and numbers. The masks of signals, fields 32 to 34, have the standard ones.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name_start = stat.iter().position(|byte| *byte == b'(')? + 1;
        let name_end = stat.iter().rposition(|byte| *byte == b')').filter(|end| *end >= name_start)?;
        let mut fields = str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
        let state = fields.next()?;
        let mut number = |field: usize, before: usize| fields.nth(field - before - 1)?.parse::<u64>().ok();
        let parent = i32::try_from(number(4, 3)?).ok()?;
        let group = i32::try_from(number(5, 4)?).ok()?;
        let started_at = SinceBoot::from_ticks(number(22, 5)?);
        let (blocked, ignored, caught) = (number(32, 22)?, number(33, 32)?, number(34, 33)?);
        Some(Self {
            name: visible_line(&String::from_utf8_lossy(&stat[name_start..name_end])).into_owned(),
            has_ended: matches!(state, "Z" | "X"),
            parent: (parent > 0).then(|| Pid::from_raw(parent)),
            group: Pid::from_raw(group),
            started_at,
            blocked: SignalMask(blocked),
            ignored: SignalMask(ignored),
            caught: SignalMask(caught),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use nix::unistd::{getpgrp, getpid, getppid};
    use proptest::prelude::*;

    use super::*;

    /// A line with this name in the second field.
    fn line(name: &[u8], parent: i32, started: u64) -> Vec<u8> {
        let rest = format!(
            ") S {parent} 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {started} 9 10 11 12 13 14 15 16 17 2 4 16385 0 0"
        );
        [b"42 (", name, rest.as_bytes()].concat()
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_is_read_correctly() {
        for (name, shown) in [(&b"cat"[..], "cat"), (b"a) R 1 (b", "a) R 1 (b"), (b"\xff) \n", "\u{fffd})  ")]
        {
            let stat = Stat::parse(&line(name, 7, 123)).unwrap();
            assert_eq!((&*stat.name, stat.parent), (shown, Some(Pid::from_raw(7))));
            assert_eq!((stat.group, stat.started_at), (Pid::from_raw(42), SinceBoot::from_ticks(123)));
            let caught = [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1];
            assert_eq!(caught.map(|signal| stat.caught.contains(signal)), [true, true, false]);
            assert!(stat.blocked.contains(Signal::SIGINT) && stat.ignored.contains(Signal::SIGQUIT));
        }
        assert_eq!(Stat::parse(&line(b"init", 0, 1)).unwrap().parent, None);
        for broken in
            [&b""[..], b"42", b"42 (cat)", b"42 (cat) S", b"42 (cat) S x", b")", b")(", b"42 (cat) S 7 42"]
        {
            assert_eq!(Stat::parse(broken), None);
        }
    }

    #[test]
    fn a_process_shows_its_family_its_name_and_its_signals() {
        let own = Stat::of(getpid()).unwrap();
        assert_eq!((own.parent, own.group, own.has_ended), (Some(getppid()), getpgrp(), false));
        let script = "trap : USR2; trap '' HUP; echo ready; read line";
        let mut child = Command::new("/bin/sh");
        child.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let stat = Stat::of(pid).unwrap();
        assert_eq!((&*stat.name, stat.parent), ("sh", Some(getpid())));
        let shown = |mask: SignalMask| {
            [Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGTERM].map(|signal| mask.contains(signal))
        };
        assert_eq!(shown(stat.caught), [true, false, false]);
        assert_eq!(shown(stat.ignored), [false, true, false]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(Stat::of(pid).is_err());
    }

    proptest! {
        #[test]
        fn any_name_is_skipped(name in proptest::collection::vec(any::<u8>(), 0..16), parent in 1..i32::MAX) {
            let stat = Stat::parse(&line(&name, parent, 5)).unwrap();
            prop_assert_eq!(stat.parent, Some(Pid::from_raw(parent)));
            prop_assert_eq!(stat.started_at, SinceBoot::from_ticks(5));
        }

        #[test]
        fn any_bytes_are_read_or_refused(stat in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Stat::parse(&stat);
        }
    }
}
