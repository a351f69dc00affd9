//! An HTTP/1.1 load that counts every request that was lost.
//!
//! Plain threads and blocking sockets: each connection is one client that waits for its answer, so a
//! connection that is refused, reset, cut or left without an answer is one failed request, and there is
//! nothing between the socket and the count that could retry. What it sees is proven in
//! `tests/load_client.rs`.

mod answer;
mod client;
mod report;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use answer::{Answer, Fault, WorkerId};
pub use report::{Answered, Failure, Mode, Report, percentile};

use crate::stream::Target;
use crate::wait;

/// What to send, and how long at most.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to: a loopback address, or a Unix socket.
    pub target: Target,
    /// Clients that make a connection for each request.
    pub fresh: usize,
    /// Clients that keep their connection for as long as the server does.
    pub keep_alive: usize,
    /// The path asked for.
    pub path: String,
    /// A client rests this long between an answer and its next request.
    pub pause: Duration,
    /// An answer that takes longer is late.
    pub deadline: Duration,
    /// All clients together stop after this many requests.
    pub requests_max: u64,
    /// All clients stop after this time.
    pub duration_max: Duration,
}

impl Plan {
    /// 16 clients of each kind, 2 ms between requests, for up to two minutes.
    #[must_use]
    pub fn new(target: impl Into<Target>) -> Self {
        Self {
            target: target.into(),
            fresh: 16,
            keep_alive: 16,
            path: "/".into(),
            pause: Duration::from_millis(2),
            deadline: Duration::from_secs(20),
            requests_max: 2_000_000,
            duration_max: Duration::from_secs(120),
        }
    }

    /// Starts the clients.
    ///
    /// # Panics
    /// If the address is not of this machine's loopback.
    #[must_use]
    pub fn start(self) -> Load {
        assert!(self.target.is_local(), "load goes to loopback addresses only, not {}", self.target);
        let clients = self.fresh + self.keep_alive;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            waiting_since: (0..clients).map(|_| AtomicU64::new(NOT_WAITING)).collect(),
            ports: (0..clients).map(|_| AtomicU16::new(NOT_CONNECTED)).collect(),
            start: Instant::now(),
            plan: self,
        });
        let threads = (0..clients)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("client {number}"))
                    .stack_size(128 * 1024)
                    .spawn(move || client::Client::new(number, &shared).run())
                    .expect("a thread for a client")
            })
            .collect();
        Load { shared, threads }
    }
}

/// In [`Shared::waiting_since`]: this client waits for no answer.
const NOT_WAITING: u64 = u64::MAX;

/// In [`Shared::ports`]: this client has no connection.
const NOT_CONNECTED: u16 = 0;

/// What the clients share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    start: Instant,
    stop: AtomicBool,
    /// Requests begun.
    sent: AtomicU64,
    /// Requests answered as they should be.
    answered: AtomicU64,
    /// Requests lost.
    failed: AtomicU64,
    /// For each client, when it sent the request that it waits for, in microseconds since the start.
    waiting_since: Vec<AtomicU64>,
    /// For each client, the port of its connection.
    ports: Vec<AtomicU16>,
}

impl Shared {
    /// Whether a client may begin another request, which is then counted.
    fn begin_request(&self) -> bool {
        let bounded = self.start.elapsed() < self.plan.duration_max && !self.stop.load(Ordering::Relaxed);
        bounded && self.sent.fetch_add(1, Ordering::Relaxed) < self.plan.requests_max
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Report>>,
}

impl Load {
    /// How many requests were answered as they should be, up to now.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// How many requests were lost, up to now.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// How long ago it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Waits until `count` more requests have been answered.
    ///
    /// # Panics
    /// If they have not within the deadline.
    #[track_caller]
    pub fn wait_for_answers(&self, count: u64) {
        let goal = self.answered() + count;
        wait::wait_for(&format!("{goal} answers"), || (self.answered() >= goal).then_some(()));
    }

    /// The ports of the clients that are connected and wait for an answer for longer than `age`.
    #[must_use]
    pub fn waiting_longer_than(&self, age: Duration) -> BTreeSet<u16> {
        let now = self.shared.start.elapsed();
        let clients = self.shared.waiting_since.iter().zip(&self.shared.ports);
        let waiting = clients.filter(|(since, _)| {
            let since = since.load(Ordering::Acquire);
            since != NOT_WAITING && now.saturating_sub(Duration::from_micros(since)) > age
        });
        let ports = waiting.map(|(_, port)| port.load(Ordering::Acquire));
        ports.filter(|&port| port != NOT_CONNECTED).collect()
    }

    /// Whether every client has reached the plan's bounds.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Lets every client finish its request, and tells how it went.
    ///
    /// # Panics
    /// If a client panicked.
    #[must_use]
    pub fn stop(self) -> Report {
        // Clients that all ended before they were told to no longer prove anything.
        let ended_early = self.has_ended();
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut report = Report { ended_early, ..Report::default() };
        for thread in self.threads {
            report.add(thread.join().expect("a client ran to its end"));
        }
        report.elapsed = self.shared.start.elapsed();
        report
    }

    /// Waits until the plan's own bounds have ended every client, and tells how it went.
    ///
    /// # Panics
    /// As [`Self::stop`].
    #[must_use]
    pub fn run_to_end(self) -> Report {
        let mut report = Report::default();
        for thread in self.threads {
            report.add(thread.join().expect("a client ran to its end"));
        }
        report.elapsed = self.shared.start.elapsed();
        report
    }
}
