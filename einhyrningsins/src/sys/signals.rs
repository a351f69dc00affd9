//! Signals to the master: read from a signalfd, so no handler runs.

use std::ffi::c_long;
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use einhorn_proto::{Requester, SignalName};
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{Pid, Uid};

use super::peer::described;
use super::rollback::CRASHES;

/// The size of the kernel's signal set, in bytes, on every architecture except MIPS; the C library's is longer.
pub(super) const KERNEL_SIGSET_BYTES: usize = 8;

/// The highest signal number, on every architecture except MIPS.
pub(super) const SIGNAL_MAX: c_int = 64;

/// Longer than any `struct sigaction` of the kernel, whose first field is the handler.
type KernelAction = [usize; 8];

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Several signals of one kind that arrive before they are read count as one.
    pub signal: Signal,
    /// The sending process or, for SIGCHLD, the child. `None` if the kernel sent it, as for Ctrl-C, or a
    /// process outside our pid namespace.
    pub sender: Option<Pid>,
    /// The real user of the sender, if there is one.
    pub uid: Option<Uid>,
}

/// The signals that the master handles, as a descriptor to poll and read.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    handled: SigSet,
    has_more: bool,
}

impl Signals {
    /// Takes over all signals. They are blocked, in this thread and in threads that it creates from now on, and those in
    /// `handled` arrive on a descriptor. The others no longer end the process, except those of a fault ([`CRASHES`])
    /// and SIGKILL. Call it before the first thread is created: a thread that does not block a signal loses it, or dies of
    /// it.
    ///
    /// The handled ones, except SIGCHLD, are ignored. A signal that is blocked arrives on the descriptor even if it is
    /// ignored, and a program that this process executes inherits both: if it is a shell, which empties the mask, a
    /// signal is lost instead of ending the process. With SIGCHLD ignored the kernel would reap our children itself, so it
    /// gets its default disposition; our parent may have ignored it. About the others see [`Unhandled`].
    ///
    /// # Errors
    /// EMFILE, ENFILE or ENOMEM.
    ///
    /// # Source
    /// `signalfd(2)`; `sigaction(2)`; POSIX, "Signal Actions": ignoring a signal discards a pending one.
    pub fn new(handled: &[Signal]) -> Result<Self, Errno> {
        let unhandled = Unhandled::beside(handled);
        let handled: SigSet = handled.iter().copied().collect();
        // Block first: with its default disposition, a signal that arrives now would end the master.
        handled.thread_block()?;
        unhandled.block()?;
        let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default disposition runs no code of ours.
        unsafe { sigaction(Signal::SIGCHLD, &action) }?;
        let mut read = unhandled.0;
        read.extend(&handled);
        let fd = SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut signals = Self { fd, handled, has_more: true };
        let is_other = |signal: &c_int| !is_spared(*signal) && !unhandled.contains(*signal);
        let unignored: Vec<_> = (1..=SIGNAL_MAX)
            .filter(|signal| is_other(signal) && disposition(*signal) != libc::SIG_IGN)
            .collect();
        if !unignored.is_empty() {
            let pending = signals.drain(usize::MAX)?;
            unignored.into_iter().for_each(|signal| set_disposition(signal, libc::SIG_IGN));
            for Received { signal, .. } in pending {
                raise(signal)?;
            }
        }
        Ok(signals)
    }

    /// Takes the signals that have arrived, at most `max`, and returns those that are handled. Never blocks.
    ///
    /// # Errors
    /// None known; passes on what the kernel returns.
    pub fn drain(&mut self, max: usize) -> Result<Vec<Received>, Errno> {
        let mut received = Vec::new();
        self.has_more = false;
        for _ in 0..max {
            match self.fd.read_signal() {
                Ok(Some(info)) => received.extend(Received::new(&info)),
                Ok(None) => return Ok(self.handled(received)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.has_more = true;
        Ok(self.handled(received))
    }

    fn handled(&self, mut received: Vec<Received>) -> Vec<Received> {
        received.retain(|received| self.handled.contains(received.signal));
        received
    }

    /// Whether the last [`Self::drain`] may have left some.
    pub fn has_more(&self) -> bool {
        self.has_more
    }
}

/// The signals that may be blocked, and that nobody handles or causes.
///
/// While this process runs, they are blocked and have their default dispositions; [`Signals`] reads them from its descriptor
/// and drops them. If they were ignored instead, as the handled ones are, the child of each spawn would have to reset
/// each of them, with a system call each. A program that this process executes must not find them so: if it empties its
/// mask, it would die of one that was pending.
#[derive(Debug, Clone, Copy)]
pub struct Unhandled(SigSet);

impl Unhandled {
    pub fn beside(handled: &[Signal]) -> Self {
        let mut set = SigSet::all();
        // A write to a pipe that nobody reads makes a SIGPIPE for the thread that writes, which would have to be read.
        let others = [Signal::SIGPIPE].iter().chain(handled).chain(&CRASHES).chain(&SPARED);
        others.for_each(|signal| set.remove(*signal));
        Self(set)
    }

    fn contains(self, signal: c_int) -> bool {
        // SAFETY: reads a set that is initialised.
        unsafe { libc::sigismember(self.0.as_ref(), signal) == 1 }
    }

    fn set_dispositions(self, disposition: libc::sighandler_t) {
        let signals = (1..=SIGNAL_MAX).filter(|signal| self.contains(*signal));
        signals.for_each(|signal| set_disposition(signal, disposition));
    }

    /// Blocks them, and gives them their default dispositions.
    ///
    /// # Errors
    /// None known; passes on what the kernel returns.
    pub fn block(self) -> Result<(), Errno> {
        self.0.thread_block()?;
        self.set_dispositions(libc::SIG_DFL);
        Ok(())
    }

    /// Ignores them and unblocks them, for a program that this process is about to execute. What was pending is gone.
    ///
    /// # Errors
    /// None known; passes on what the kernel returns.
    pub fn ignore(self) -> Result<(), Errno> {
        self.set_dispositions(libc::SIG_IGN);
        self.0.thread_unblock()
    }
}

/// Signals that suspend or resume as a shell expects, or cannot be ignored.
const SPARED: [Signal; 5] =
    [Signal::SIGCHLD, Signal::SIGCONT, Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGTSTP];

/// Whether a signal keeps its disposition: it is one of those, or reports a fault.
fn is_spared(signal: c_int) -> bool {
    CRASHES.iter().chain(&SPARED).any(|spared| *spared as c_int == signal)
}

/// The handler of a signal in this process, `SIG_DFL` or `SIG_IGN`. Asks the kernel, because the C library hides two
/// signals that it uses itself.
pub(super) fn disposition(signal: c_int) -> libc::sighandler_t {
    let mut action = KernelAction::default();
    // SAFETY: reads only (the new action is null), and the kernel writes no more than `action` has room for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            c_long::from(signal),
            ptr::null::<KernelAction>(),
            action.as_mut_ptr(),
            KERNEL_SIGSET_BYTES,
        )
    };
    action[0]
}

/// Ignores a signal or gives it its default disposition, including those two that the C library hides. It installs its
/// handlers for them when it needs them.
fn set_disposition(signal: c_int, disposition: libc::sighandler_t) {
    let mut action = KernelAction::default();
    action[0] = disposition;
    // SAFETY: neither disposition runs code of ours, and the kernel reads no more than `action` has.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            c_long::from(signal),
            action.as_ptr(),
            ptr::null_mut::<KernelAction>(),
            KERNEL_SIGSET_BYTES,
        )
    };
}

impl Received {
    fn new(info: &siginfo) -> Option<Self> {
        let signal = Signal::try_from(info.ssi_signo.cast_signed()).ok()?;
        let sender = info.ssi_pid.cast_signed();
        let sender = (sender > 0).then(|| Pid::from_raw(sender));
        Some(Self { signal, sender, uid: sender.map(|_| Uid::from_raw(info.ssi_uid)) })
    }

    /// Describes the sender for people. It may have ended.
    #[must_use]
    pub fn requester(&self) -> Requester {
        let found = self.sender.map_or_else(Requester::default, described);
        let uid = self.uid.map(Uid::as_raw);
        Requester { signal: Some(self.signal.to_string()), uid, ..found }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A text that does not name a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal \"{}\"; give a name or number as in kill -l, such as USR2, SIGTERM or 15", .name.escape_debug())]
pub struct UnknownSignal {
    pub name: String,
}

/// Reads the name of a signal, in any case, with or without `SIG`, or its number.
///
/// # Errors
/// [`UnknownSignal`], also for realtime signals, which no command sends.
pub fn parse_signal(name: &str) -> Result<Signal, UnknownSignal> {
    let unknown = || UnknownSignal { name: name.to_owned() };
    let text = name.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse::<c_int>().map_err(|_| unknown())?;
        return Signal::try_from(number).map_err(|_| unknown());
    }
    format!("SIG{}", SignalName::new(text).as_str()).parse().map_err(|_| unknown())
}

/// A signal number that formats as a name: `SIGTERM`, `SIGRTMIN+3`.
///
/// `nix` has no realtime signals, but a worker can die of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalNumber(pub c_int);

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(signal) = Signal::try_from(self.0) {
            return f.write_str(signal.as_str());
        }
        match self.0 - libc::SIGRTMIN() {
            0 => f.write_str("SIGRTMIN"),
            offset if offset > 0 && self.0 <= libc::SIGRTMAX() => write!(f, "SIGRTMIN+{offset}"),
            _ => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use nix::sys::signal::{kill, raise};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::{getpid, getuid};
    use proptest::prelude::*;

    use super::*;
    use crate::sys::testing::{isolated, single_threaded};

    #[test]
    fn signals_arrive_on_the_descriptor_with_their_sender() {
        isolated("sys::signals::tests::signals_arrive_on_the_descriptor_with_their_sender", || {
            let mut signals = Signals::new(&[Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGTERM]).unwrap();
            assert_eq!(signals.drain(100), Ok(vec![]));
            let mut poll = Poll::new().unwrap();
            let source = &mut SourceFd(&signals.as_raw_fd());
            poll.registry().register(source, Token(7), Interest::READABLE).unwrap();
            for signal in [Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGUSR1] {
                raise(signal).unwrap();
            }
            let mut events = Events::with_capacity(4);
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [Token(7)]);
            let (sender, uid) = (Some(getpid()), Some(getuid()));
            let mut received = signals.drain(100).unwrap();
            received.sort_by_key(|received| received.signal as c_int);
            assert_eq!(
                received,
                [Signal::SIGHUP, Signal::SIGUSR1].map(|signal| Received { signal, sender, uid })
            );
            assert_eq!(signals.drain(100), Ok(vec![]));
        });
    }

    #[test]
    fn at_most_so_many_signals_are_taken_at_a_time() {
        isolated("sys::signals::tests::at_most_so_many_signals_are_taken_at_a_time", || {
            let mut signals = Signals::new(&[Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGTERM]).unwrap();
            for signal in [Signal::SIGUSR1, Signal::SIGHUP, Signal::SIGTERM] {
                raise(signal).unwrap();
            }
            assert_eq!([signals.drain(2), signals.drain(2)].map(|taken| taken.unwrap().len()), [2, 1]);
        });
    }

    #[test]
    fn every_kind_of_signal_arrives_at_the_same_time() {
        isolated("sys::signals::tests::every_kind_of_signal_arrives_at_the_same_time", || {
            let fatal = [Signal::SIGKILL, Signal::SIGSTOP];
            let handled: Vec<_> = Signal::iterator().filter(|signal| !fatal.contains(signal)).collect();
            let mut signals = Signals::new(&handled).unwrap();
            for signal in &handled {
                raise(*signal).unwrap();
            }
            // Pending stop signals and SIGCONT cancel each other.
            let received: Vec<_> =
                signals.drain(100).unwrap().iter().map(|received| received.signal).collect();
            assert!(received.len() >= handled.len() - 4, "{received:?}");
        });
    }

    #[test]
    fn a_pending_signal_survives_becoming_ignored() {
        isolated("sys::signals::tests::a_pending_signal_survives_becoming_ignored", || {
            let handled = [Signal::SIGHUP, Signal::SIGTERM];
            let set: SigSet = handled.into_iter().collect();
            set.thread_block().unwrap();
            // A first image that does not ignore them, and a second that finds them ignored.
            for _ in 0..2 {
                raise(Signal::SIGHUP).unwrap();
                let mut signals = Signals::new(&handled).unwrap();
                let received = signals.drain(100).unwrap();
                assert_eq!(
                    received.iter().map(|received| received.signal).collect::<Vec<_>>(),
                    [Signal::SIGHUP]
                );
                assert_eq!(disposition(Signal::SIGHUP as c_int), libc::SIG_IGN);
            }
        });
    }

    /// One of those that only a number names, too.
    const UNHANDLED: [c_int; 3] = [libc::SIGPROF, libc::SIGVTALRM, 40];

    fn send_to_itself(signals: &[c_int]) {
        // SAFETY: no memory is involved.
        signals.iter().for_each(|signal| assert_eq!(unsafe { libc::raise(*signal) }, 0));
    }

    #[test]
    fn signals_that_nobody_handles_are_dropped_and_need_no_reset() {
        isolated("sys::signals::tests::signals_that_nobody_handles_are_dropped_and_need_no_reset", || {
            let mut signals = Signals::new(&[Signal::SIGTERM]).unwrap();
            for signal in UNHANDLED {
                assert_eq!(disposition(signal), libc::SIG_DFL);
            }
            send_to_itself(&UNHANDLED);
            send_to_itself(&[libc::SIGTERM]);
            assert_eq!(signals.drain(2).unwrap().len() + signals.drain(2).unwrap().len(), 1);
            assert!(signals.has_more(), "two and two is all that was looked for");
            assert_eq!(signals.drain(2), Ok(vec![]));
            assert!(!signals.has_more());
        });
    }

    #[test]
    fn a_program_that_is_executed_finds_ignored_what_nobody_handles() {
        isolated("sys::signals::tests::a_program_that_is_executed_finds_ignored_what_nobody_handles", || {
            let mut signals = Signals::new(&[Signal::SIGTERM]).unwrap();
            let unhandled = Unhandled::beside(&[Signal::SIGTERM]);
            send_to_itself(&UNHANDLED);
            send_to_itself(&[libc::SIGTERM]);
            unhandled.ignore().unwrap();
            send_to_itself(&UNHANDLED);
            let mask = SigSet::thread_get_mask().unwrap();
            assert_eq!(mask, [Signal::SIGTERM].into_iter().collect(), "as they were before");
            assert!(UNHANDLED.iter().all(|signal| disposition(*signal) == libc::SIG_IGN));
            // The exec has failed.
            unhandled.block().unwrap();
            assert_eq!(signals.drain(100).unwrap().len(), 1, "SIGTERM is not lost");
            send_to_itself(&UNHANDLED);
            assert_eq!(signals.drain(100), Ok(vec![]));
        });
    }

    #[test]
    fn a_signal_arrives_even_if_our_parent_ignored_it() {
        isolated("sys::signals::tests::a_signal_arrives_even_if_our_parent_ignored_it", || {
            let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
            // SAFETY: ignoring runs no code of ours.
            unsafe { sigaction(Signal::SIGINT, &ignore) }.unwrap();
            let mut signals = Signals::new(&[Signal::SIGINT]).unwrap();
            raise(Signal::SIGINT).unwrap();
            let received: Vec<_> =
                signals.drain(100).unwrap().iter().map(|received| received.signal).collect();
            assert_eq!(received, [Signal::SIGINT]);
        });
    }

    #[test]
    fn a_childs_death_is_reported_even_if_our_parent_ignored_sigchld() {
        isolated(
            "sys::signals::tests::a_childs_death_is_reported_even_if_our_parent_ignored_sigchld",
            || single_threaded(check_childs_death),
        );
    }

    fn check_childs_death() {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: ignoring runs no code.
        unsafe { sigaction(Signal::SIGCHLD, &ignore) }.unwrap();
        let mut signals = Signals::new(&[Signal::SIGCHLD]).unwrap();
        let child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let killed_in_any_case = KillOnDrop(child);
        kill(pid, Signal::SIGSTOP).unwrap();
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED));
        assert_eq!(stopped, Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));
        let expected = Received { signal: Signal::SIGCHLD, sender: Some(pid), uid: Some(getuid()) };
        let mut poll = Poll::new().unwrap();
        let source = &mut SourceFd(&signals.as_raw_fd());
        poll.registry().register(source, Token(0), Interest::READABLE).unwrap();
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert_eq!(signals.drain(100).unwrap(), [expected], "a stop is reported");
        kill(pid, Signal::SIGKILL).unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        assert_eq!(signals.drain(100).unwrap(), [expected]);
        drop(killed_in_any_case);
    }

    struct KillOnDrop(std::process::Child);

    impl Drop for KillOnDrop {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn names_are_read_in_every_usual_form() {
        for name in ["USR2", "usr2", "SIGUSR2", "sigUsr2", "12", " USR2 "] {
            assert_eq!(parse_signal(name), Ok(Signal::SIGUSR2), "for {name}");
        }
        for name in ["", "0", "FOO", "SIG", "SIGSIGTERM", "64", "-9", "99999999999", "RTMIN", "+9"] {
            assert!(parse_signal(name).is_err(), "for {name}");
        }
        assert_eq!(
            parse_signal("F\"OO\n").unwrap_err().to_string(),
            r#"unknown signal "F\"OO\n"; give a name or number as in kill -l, such as USR2, SIGTERM or 15"#
        );
    }

    #[test]
    fn every_number_has_a_name() {
        assert_eq!(SignalNumber(9).to_string(), "SIGKILL");
        assert_eq!(SignalNumber(libc::SIGRTMIN()).to_string(), "SIGRTMIN");
        assert_eq!(SignalNumber(libc::SIGRTMIN() + 3).to_string(), "SIGRTMIN+3");
        assert_eq!(SignalNumber(33).to_string(), "signal 33");
        assert_eq!(SignalNumber(200).to_string(), "signal 200");
    }

    proptest! {
        #[test]
        fn any_text_names_a_signal_or_is_refused(text in ".{0,12}") {
            if let Ok(signal) = parse_signal(&text) {
                prop_assert_eq!(parse_signal(signal.as_str()), Ok(signal));
            }
        }
    }
}
