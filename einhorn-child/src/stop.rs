//! The request to stop, in the forms in which a server can use it.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::sys;

/// A signal number.
///
/// ```
/// use einhorn_child::Signal;
///
/// assert_eq!(Signal::USR2.to_string(), "SIGUSR2");
/// assert_eq!(Signal::from_number(15), Signal::TERM);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

impl Signal {
    /// `SIGHUP`.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// `SIGINT`, a terminal's Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// `SIGQUIT`: the master sends it when it exits without waiting.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// `SIGTERM`.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// `SIGUSR1`.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// `SIGUSR2`, the stop signal of einhorn, and of einhyrningsins for workers that ack over the control
    /// socket.
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// `SIGWINCH`, the stop signal of some servers.
    pub const WINCH: Self = Self(libc::SIGWINCH);

    /// The signal with this number. Whether it exists is checked when it is used.
    ///
    /// ```
    /// assert_eq!(einhorn_child::Signal::from_number(12).number(), 12);
    /// ```
    #[must_use]
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// The number of the signal.
    ///
    /// ```
    /// assert_eq!(einhorn_child::Signal::TERM.number(), 15);
    /// ```
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::HUP => "SIGHUP",
            Self::INT => "SIGINT",
            Self::QUIT => "SIGQUIT",
            Self::TERM => "SIGTERM",
            Self::USR1 => "SIGUSR1",
            Self::USR2 => "SIGUSR2",
            Self::WINCH => "SIGWINCH",
            Self(number) => return write!(f, "signal {number}"),
        })
    }
}

/// The request to stop: as a flag, a wait, a descriptor or a future.
///
/// There is one such state per process, and every `Stop` is a view of it: copy it to wherever it is needed. The
/// state begins with the first request and never ends; further requests only increase a count. A request
/// triggers nothing by itself, because only the server knows what stopping means. For most servers it means:
/// stop accepting, answer what has been accepted, exit with status 0.
///
/// A request is one of the signals that the `Stop` was installed for. Other handlers of the same signals, such
/// as tokio's, keep working.
///
/// ```
/// use einhorn_child::Stop;
///
/// let stop = Stop::install()?;
/// assert!(!stop.is_requested());
/// # stop.request();
/// stop.wait(); // until a SIGUSR2, SIGTERM or SIGINT
/// assert!(stop.is_requested());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Stop {
    requests: &'static Requests,
}

impl Stop {
    /// Watches for SIGUSR2, SIGTERM and SIGINT, which covers the masters' default stop signals.
    ///
    /// SIGQUIT keeps its default action, immediate death: the master sends it when it exits without waiting.
    ///
    /// Call it first in `main`: an earlier request kills the process, and after [`ack`] one may arrive at any
    /// time. A second call only returns another view.
    ///
    /// ```
    /// let stop = einhorn_child::Stop::install()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Stop::on`].
    ///
    /// [`ack`]: crate::ack
    pub fn install() -> io::Result<Self> {
        Self::on([Signal::USR2, Signal::TERM, Signal::INT])
    }

    /// Watches for `signals`, in addition to those of earlier calls.
    ///
    /// ```
    /// use einhorn_child::{Signal, Stop};
    ///
    /// // For a master that was started with --graceful-signal WINCH:
    /// let stop = Stop::on([Signal::WINCH, Signal::TERM])?;
    /// assert!(Stop::on([Signal::from_number(9)]).is_err(), "SIGKILL cannot be heard");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a signal that cannot be caught, and for a number that is not a signal; otherwise the
    /// socket pair could not be created. Signals before the bad one stay registered.
    pub fn on(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        static INSTALLED: Mutex<BTreeSet<Signal>> = Mutex::new(BTreeSet::new());
        static REQUESTS: OnceLock<Requests> = OnceLock::new();
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = match REQUESTS.get() {
            Some(requests) => requests,
            None => {
                let requests = Requests::new()?;
                REQUESTS.get_or_init(|| requests)
            }
        };
        for signal in signals {
            if !installed.contains(&signal) {
                sys::count_signal(signal.0, requests).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot listen for {signal}: {error}"))
                })?;
                installed.insert(signal);
            }
        }
        Ok(Self { requests })
    }

    /// Whether the worker was asked to stop: one atomic load.
    ///
    /// ```
    /// # let stop = einhorn_child::Stop::install()?;
    /// # let mut jobs = vec![1, 2, 3].into_iter();
    /// while !stop.is_requested() {
    ///     let Some(job) = jobs.next() else { break };
    ///     println!("job {job}");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_requested(self) -> bool {
        self.requests() > 0
    }

    /// How many requests there were.
    ///
    /// A second request during a drain means that somebody is losing patience: a master's second Ctrl-C sends
    /// another signal, and the third SIGKILL.
    ///
    /// ```
    /// # let stop = einhorn_child::Stop::install()?;
    /// # stop.request();
    /// # stop.request();
    /// if stop.requests() > 1 {
    ///     eprintln!("asked twice: leaving at once");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn requests(self) -> u32 {
        self.requests.count.load(Ordering::Acquire)
    }

    /// The signal of the first request. `None` before any, and if [`request`](Self::request) came first.
    ///
    /// ```
    /// # let stop = einhorn_child::Stop::install()?;
    /// if let Some(signal) = stop.signal() {
    ///     eprintln!("stopping on {signal}");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        let number = self.requests.first_signal.load(Ordering::Acquire);
        (number > 0).then_some(Signal(number))
    }

    /// Requests a stop, as a signal does: for a server that has its own reason to stop.
    ///
    /// ```
    /// let stop = einhorn_child::Stop::install()?;
    /// stop.request();
    /// assert!(stop.is_requested());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn request(self) {
        self.requests.note(NO_SIGNAL);
    }

    /// Waits until the worker is asked to stop; returns at once if it already was.
    ///
    /// ```
    /// # let stop = einhorn_child::Stop::install()?;
    /// // Threads serve; main waits.
    /// # stop.request();
    /// stop.wait();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(self) {
        while !self.wait_until(None) {}
    }

    /// Waits until the worker is asked to stop, for at most `timeout`; returns whether it was.
    ///
    /// In place of a sleep, it makes a pause that a stop interrupts.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let stop = einhorn_child::Stop::install()?;
    /// # let sweep = || stop.request();
    /// while !stop.wait_timeout(Duration::from_millis(10)) {
    ///     sweep();
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "it may return because of the timeout or because of a request"]
    pub fn wait_timeout(self, timeout: Duration) -> bool {
        // A timeout beyond the clock's range is as good as none.
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.wait_until(Some(deadline)),
            None => {
                self.wait();
                true
            }
        }
    }

    fn wait_until(self, deadline: Option<Instant>) -> bool {
        // poll(2) can fail only for lack of kernel memory, and callers can do no more than retry.
        self.is_requested()
            || sys::wait_readable([self.as_fd()], deadline).unwrap_or(false)
            || self.is_requested()
    }
}

/// A descriptor that becomes readable when the worker is asked to stop, and stays readable.
///
/// Poll it for input next to the sockets of any event loop. Never read from it or close it: every view shares
/// it, and it stays readable only because nobody reads.
///
/// ```
/// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
/// use std::os::fd::AsFd;
///
/// # let stop = einhorn_child::Stop::install()?;
/// # stop.request();
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let mut fds = [&stop.as_fd(), &listener.as_fd()].map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
/// poll(&mut fds, PollTimeout::NONE)?;
/// assert_eq!(fds[0].any(), Some(true));
/// # Ok::<(), std::io::Error>(())
/// ```
impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.requests.woken.as_fd()
    }
}

/// The descriptor of [`AsFd`] as a number, for APIs such as mio's `SourceFd`.
impl AsRawFd for Stop {
    fn as_raw_fd(&self) -> RawFd {
        self.requests.woken.as_raw_fd()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("requests", &self.requests()).field("signal", &self.signal()).finish()
    }
}

/// Stands for "no signal".
const NO_SIGNAL: i32 = 0;

/// The state behind every [`Stop`].
pub(crate) struct Requests {
    count: AtomicU32,
    first_signal: AtomicI32,
    /// The process that `wake` wakes.
    pid: u32,
    /// Gets one byte at the first request.
    wake: UnixStream,
    /// Readable from then on, because nobody reads the byte.
    woken: UnixStream,
}

impl Requests {
    fn new() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        // Some event loops refuse a descriptor that could block.
        woken.set_nonblocking(true)?;
        let (count, first_signal) = (AtomicU32::new(0), AtomicI32::new(NO_SIGNAL));
        Ok(Self { count, first_signal, pid: std::process::id(), wake, woken })
    }

    /// Counts a request. It runs inside signal handlers: see [`sys::count_signal`] for what is allowed here.
    pub(crate) fn note(&self, signal: i32) {
        let _ = self.first_signal.compare_exchange(NO_SIGNAL, signal, Ordering::AcqRel, Ordering::Relaxed);
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        // Only one byte is ever written, so the write never blocks. A forked process that has not yet run its
        // program still has our handlers; its signals are its own and must not wake us.
        if before == 0 && std::process::id() == self.pid {
            let _ = (&self.wake).write(&[1]);
        }
    }
}
