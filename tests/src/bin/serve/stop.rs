//! Being asked to stop.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// A flag that can be polled as a descriptor too: it is readable, and stays so, once the worker was asked.
#[derive(Debug)]
pub(crate) struct Stop {
    asked: AtomicBool,
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
        Ok(Self { asked: AtomicBool::new(false), readable: reader.into(), writer: Mutex::new(Some(writer)) })
    }

    /// Whether the worker was asked to stop.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Asks the worker to stop.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        if let Ok(mut writer) = self.writer.lock() {
            *writer = None;
        }
    }

    /// Waits for stop signals; with `ignore` they change nothing.
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
