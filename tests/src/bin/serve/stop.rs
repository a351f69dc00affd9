//! Being asked to stop.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// A flag that can be polled as a descriptor too: it is readable, and stays so, once the worker was asked.
#[derive(Debug)]
pub(crate) struct Stop {
    asked: AtomicBool,
    /// Whether it is to end when it has stopped; until then it is parked.
    ends: Mutex<bool>,
    ends_changed: Condvar,
    readable: OwnedFd,
    /// Dropped to make the other end readable.
    writer: Mutex<Option<PipeWriter>>,
}

/// The signals that ask a worker to stop.
const STOP_SIGNALS: [Signal; 3] = [Signal::SIGUSR2, Signal::SIGTERM, Signal::SIGINT];

/// Keeps the stop signals for [`Stop::watch`]; to be called before any other thread is started.
pub(crate) fn block_signals() -> io::Result<()> {
    Ok(signals().thread_block()?)
}

fn signals() -> SigSet {
    STOP_SIGNALS.into_iter().collect()
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self {
            asked: AtomicBool::new(false),
            ends: Mutex::new(false),
            ends_changed: Condvar::new(),
            readable: reader.into(),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Whether the worker was asked to stop, or to park.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Asks the worker to stop.
    pub(crate) fn ask(&self) {
        // First, so that whoever sees that the worker was asked does not take it for parked.
        *self.ends.lock().expect("no thread panics with the lock") = true;
        self.ends_changed.notify_all();
        self.park();
    }

    /// Asks the worker to stop, but to stay.
    pub(crate) fn park(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Ok(mut writer) = self.writer.lock() {
            *writer = None;
        }
    }

    /// Whether the worker that has stopped is to stay.
    pub(crate) fn is_parked(&self) -> bool {
        !*self.ends.lock().expect("no thread panics with the lock")
    }

    /// Waits until the worker is to end.
    pub(crate) fn wait_end(&self) {
        let ends = self.ends.lock().expect("no thread panics with the lock");
        drop(self.ends_changed.wait_while(ends, |ends| !*ends));
    }

    /// Waits for stop signals, on a thread of its own; with `ignore` they change nothing.
    pub(crate) fn watch(&'static self, ignore: bool) {
        thread::spawn(move || {
            while signals().wait().is_ok() {
                if !ignore {
                    self.ask();
                }
            }
        });
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

/// What [`at`] may wait for.
const OTHER_SIGNALS: [Signal; 2] = [Signal::SIGUSR1, Signal::SIGHUP];

/// Does `act` at each `signal`, which is one of [`OTHER_SIGNALS`], on a thread of its own; to be called before any
/// thread is started but by this.
pub(crate) fn at(signal: Signal, act: impl Fn() + Send + 'static) -> io::Result<()> {
    // All of them, of which another thread may wait for the other.
    OTHER_SIGNALS.into_iter().collect::<SigSet>().thread_block()?;
    thread::spawn(move || {
        while SigSet::from(signal).wait().is_ok() {
            act();
        }
    });
    Ok(())
}
