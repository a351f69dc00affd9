//! What clients notice of an upgrade.

use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::thread;
use std::time::{Duration, Instant};

use tests::Master;
use tests::load::{Load, Plan, Report, percentile};

use crate::client::Client;
use crate::peers::{self, Peer, Work};
use crate::report::{self, Aim, Figure, Unit};
use crate::results::OURS;
use crate::timeline;

const SIZES: [u32; 2] = [4, 32];

const ROUNDS: usize = 5;

/// Each makes a connection for each request.
const CLIENTS: usize = 4;

/// From an answer to a client's next request.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a load lasts, or until the end of the upgrade, if that comes later.
const SPAN: Duration = Duration::from_secs(1);

pub(crate) fn run() {
    let clients = format!("{CLIENTS} clients that make a connection per request and rest {PAUSE:?}");
    report::topic("latency", &format!("the same server while nothing is replaced; {clients}"));
    let mut measured = 0;
    for workers in SIZES {
        let mut subjects =
            vec![Subject::new(Server::Ours(Master::builder().workers(workers).start()), workers)];
        let peers = peers::running(measured, workers, 0, Work::Serve);
        subjects.extend(peers.map(|peer| {
            let workers = peer.workers();
            Subject::new(Server::Peer(peer), workers)
        }));
        measured = workers;
        for _ in 0..ROUNDS {
            subjects.retain_mut(|subject| subject.round().is_some());
        }
        subjects.iter().for_each(Subject::show);
    }
    timeline::run();
}

#[derive(Debug)]
pub(crate) enum Server {
    Ours(Master),
    Peer(Peer),
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(master) => master.address(),
            Self::Peer(peer) => peer.address(),
        }
    }

    /// `None` if it did not work, which was printed.
    pub(crate) fn upgrade(&mut self) -> Option<()> {
        match self {
            Self::Ours(master) => {
                let mut client = Client::connect(master.socket());
                let reply = client.ask("{\"command\":\"upgrade\"}\n");
                assert!(reply.contains("\"ok\":true"), "the upgrade failed: {reply}");
                Some(())
            }
            Self::Peer(peer) => peer.upgrade(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => OURS,
            Self::Peer(peer) => peer.name(),
        }
    }
}

/// A server that is upgraded under a load.
#[derive(Debug)]
struct Subject {
    server: Server,
    workers: u32,
    left_alone: Latencies,
    upgraded: Latencies,
}

impl Subject {
    fn new(server: Server, workers: u32) -> Self {
        Self { server, workers, left_alone: Latencies::new(), upgraded: Latencies::new() }
    }

    fn round(&mut self) -> Option<()> {
        let (idle, ()) = under_load(self.server.address(), || ());
        self.left_alone.add(&idle, &..);
        let (upgraded, result) = under_load(self.server.address(), || self.server.upgrade());
        self.upgraded.add(&upgraded, &..);
        result
    }

    fn show(&self) {
        self.upgraded.show(self.server.name(), &report::workers(self.workers), &self.left_alone);
    }
}

/// Starts a load.
pub(crate) fn load(address: SocketAddr) -> Load {
    Plan { fresh: CLIENTS, keep_alive: 0, pause: PAUSE, ..Plan::new(address) }.start()
}

/// Does `work` under a load.
pub(crate) fn under_load<T>(address: SocketAddr, work: impl FnOnce() -> T) -> (Report, T) {
    let load = load(address);
    let end = Instant::now() + SPAN;
    load.wait_for_answers(20);
    let result = work();
    thread::sleep(end.saturating_duration_since(Instant::now()));
    (load.stop(), result)
}

/// How long requests took, by round.
#[derive(Debug)]
pub(crate) struct Latencies {
    half: Figure,
    /// 99 %.
    pub(crate) nearly_all: Figure,
    all: Figure,
    /// Requests that were not answered.
    lost: Figure,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let [half, nearly_all, all] = [(); 3].map(|()| Figure::new(Unit::Time));
        Self { half, nearly_all, all, lost: Figure::new(Unit::Count) }
    }

    /// Adds how long those requests of a load took that were begun in this time since its start, and how many of all were lost.
    pub(crate) fn add(&mut self, report: &Report, begun: &impl RangeBounds<Duration>) {
        let answers = report.answers.iter().filter(|answered| begun.contains(&answered.at));
        let latencies = answers.map(|answered| answered.latency);
        for (figure, percent) in
            [(&mut self.half, 50.0), (&mut self.nearly_all, 99.0), (&mut self.all, 100.0)]
        {
            figure.add_time(percentile(latencies.clone(), percent).unwrap_or_default());
        }
        self.lost.add(report.failed() as f64);
    }

    pub(crate) fn show(&self, program: &str, what: &str, floor: &Self) {
        for (name, measured, floor) in [
            ("half within", &self.half, &floor.half),
            ("99 % within", &self.nearly_all, &floor.nearly_all),
            ("all within", &self.all, &floor.all),
        ] {
            report::line_of(program, &format!("{what}: {name}"), measured, Some(floor), Aim::None);
        }
        let aim = if program == OURS { Aim::AtMost(0.0) } else { Aim::None };
        let what = format!("{what}: lost, of all rounds");
        report::line_of(program, &what, &self.lost.sum(), Some(&floor.lost.sum()), aim);
    }
}
