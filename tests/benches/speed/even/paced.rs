//! An open-loop load: requests are due at random times, whether or not earlier ones were answered, and latency counts from
//! the time at which a request was due.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::balance;

/// The shape of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    /// Requests per second of all clients together.
    pub(crate) rate: f64,
    pub(crate) clients: usize,
    /// Requests per connection. If it is 1, the next free client sends a request that is due; otherwise each client has
    /// a schedule of its own.
    pub(crate) each: usize,
}

/// How the requests went that were due after [`WARM_UP`].
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Ascending.
    latencies: Vec<Duration>,
    /// The number of answers of each worker, by pid.
    pub(crate) by_worker: BTreeMap<u32, usize>,
}

/// The time before requests count, and the time for which they do.
const WARM_UP: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(5);

/// The times at which requests are due, from the start, and the number of those that were taken.
struct Schedule {
    times: Vec<Duration>,
    taken: AtomicUsize,
}

impl Schedule {
    fn new(rate: f64, random: &mut fastrand::Rng) -> Self {
        let mut times = Vec::new();
        let mut at = 0.0;
        loop {
            // Arrivals are independent, so the time between two has an exponential distribution.
            at -= (1.0 - random.f64()).ln() / rate;
            let time = Duration::from_secs_f64(at);
            if time > WARM_UP + COUNTED {
                return Self { times, taken: AtomicUsize::new(0) };
            }
            times.push(time);
        }
    }

    fn take(&self) -> Option<Duration> {
        self.times.get(self.taken.fetch_add(1, Ordering::Relaxed)).copied()
    }
}

impl Pattern {
    /// Loads `address` and waits for every answer. Equal seeds give equal schedules.
    pub(crate) fn run(self, address: SocketAddr, seed: u64) -> Outcome {
        let mut random = fastrand::Rng::with_seed(seed);
        let schedules = if self.each == 1 { 1 } else { self.clients };
        let schedules: Vec<_> =
            (0..schedules).map(|_| Schedule::new(self.rate / schedules as f64, &mut random)).collect();
        let start = Instant::now();
        let mut outcome = Outcome::default();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients)
                .map(|number| {
                    let schedule = &schedules[number % schedules.len()];
                    let client = thread::Builder::new().stack_size(128 * 1024);
                    client.spawn_scoped(scope, move || client_of(schedule, address, start, self.each))
                })
                .collect();
            for client in clients {
                let client = client.expect("a thread for a client").join().expect("a client ran to its end");
                outcome.latencies.extend(client.latencies);
                for (worker, count) in client.by_worker {
                    *outcome.by_worker.entry(worker).or_default() += count;
                }
            }
        });
        outcome.latencies.sort_unstable();
        outcome
    }
}

fn client_of(schedule: &Schedule, address: SocketAddr, start: Instant, each: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut kept = None;
    while let Some(time) = schedule.take() {
        let due = start + time;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let (stream, before) =
            kept.take().unwrap_or_else(|| (TcpStream::connect(address).expect("a connection"), 0));
        let (stream, worker) = balance::ask(stream);
        if time >= WARM_UP {
            outcome.latencies.push(due.elapsed());
            *outcome.by_worker.entry(worker).or_default() += 1;
        }
        kept = (before + 1 < each).then_some((stream, before + 1));
    }
    outcome
}

impl Outcome {
    /// The latency that `percent` of the requests did not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        let rank = (self.latencies.len() as f64 * percent / 100.0).ceil() as usize;
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}
