//! Handles Ctrl-C while a command waits for its answer.
//!
//! SIGINT is blocked and read from a descriptor, so one `poll(2)` waits for the master and the user, without a handler.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Holds SIGINT back as long as it lives, and reports whether one came.
///
/// Watches nest: a dropped inner one leaves SIGINT to the outer one. If SIGINT was ignored when this program started
/// (`sh -c 'einhyrningsinsctl upgrade &'`), it stays ignored.
#[derive(Debug)]
pub(crate) struct Interrupts {
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    signals: SignalFd,
    mask_before: SigSet,
}

impl Interrupts {
    /// Begins to hold SIGINT back. Forgets one that an outer watch held back before: it was meant for something else.
    pub(crate) fn watch() -> Result<Self, Errno> {
        if is_ignored() {
            return Ok(Self { watched: None });
        }
        let signals = SignalFd::with_flags(&sigint(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let mask_before = sigint().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let interrupts = Self { watched: Some(Watched { signals, mask_before }) };
        while interrupts.take() {}
        Ok(interrupts)
    }

    /// Holds nothing back: a SIGINT ends this program, unless something else holds it back.
    pub(crate) fn none() -> Self {
        Self { watched: None }
    }

    /// Whether a SIGINT came since the last call.
    pub(crate) fn take(&self) -> bool {
        match &self.watched {
            None => false,
            Some(watched) => matches!(watched.signals.read_signal(), Ok(Some(_))),
        }
    }

    /// A descriptor that becomes readable when a SIGINT comes.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watched.as_ref().map(|watched| watched.signals.as_fd())
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(watched) = &self.watched {
            // It fails only for a bad argument.
            let _ = watched.mask_before.thread_set_mask();
        }
    }
}

fn sigint() -> SigSet {
    SigSet::from_iter([Signal::SIGINT])
}

/// Whether SIGINT is ignored. Then it must not be watched, because a descriptor gets even ignored signals. Only `/proc`
/// shows the disposition without a call that could change it.
fn is_ignored() -> bool {
    is_signal_ignored(Signal::SIGINT)
}

/// Whether this process ignores `signal`.
pub(crate) fn is_signal_ignored(signal: Signal) -> bool {
    let ignored = File::open("/proc/self/status").map(|file| ignored_signals(BufReader::new(file)));
    ignored.unwrap_or(0) & (1 << (signal as u32 - 1)) != 0
}

fn ignored_signals(status: impl BufRead) -> u64 {
    let mask = status.lines().map_while(Result::ok).find_map(|line| {
        let mask = line.strip_prefix("SigIgn:")?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    mask.unwrap_or(0)
}

/// Ends this process by SIGINT. Returns only if SIGINT is ignored.
pub(crate) fn die() {
    let _ = sigint().thread_unblock();
    let _ = raise(Signal::SIGINT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sigint_is_held_back_and_told_once() {
        let outer = Interrupts::watch().unwrap();
        raise(Signal::SIGINT).unwrap();
        assert!(outer.take());
        assert!(!outer.take());
    }

    #[test]
    fn an_inner_watch_forgets_what_came_before_and_leaves_the_signal_held_back() {
        let outer = Interrupts::watch().unwrap();
        raise(Signal::SIGINT).unwrap();
        drop(Interrupts::watch().unwrap());
        assert!(!outer.take());
        raise(Signal::SIGINT).unwrap();
        assert!(outer.take());
    }

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(
            ignored_signals("SigBlk:\t0000000000000002\nSigIgn:\t0000000000001002\n".as_bytes()),
            0x1002
        );
        assert_eq!(ignored_signals("".as_bytes()), 0);
    }
}
