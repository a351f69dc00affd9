//! What clients notice of an upgrade.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::Master;
use tests::load::{Plan, Report};

use crate::client::Client;
use crate::peers::{self, Peer, Work};
use crate::report::{self, Aim, Figure, Unit};
use crate::results::OURS;

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
        let peers = peers::running(measured, workers, Work::Serve);
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
}

#[derive(Debug)]
enum Server {
    Ours(Master),
    Peer(Peer),
}

impl Server {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(master) => master.address(),
            Self::Peer(peer) => peer.address(),
        }
    }

    /// `None` if it did not work, which was printed.
    fn upgrade(&mut self) -> Option<()> {
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

    fn name(&self) -> &'static str {
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
        self.left_alone.add(&idle);
        let (upgraded, result) = under_load(self.server.address(), || self.server.upgrade());
        self.upgraded.add(&upgraded);
        result
    }

    fn show(&self) {
        let workers = report::workers(self.workers);
        let (measured, floor) = (&self.upgraded, &self.left_alone);
        for (what, measured, floor) in [
            ("half within", &measured.half, &floor.half),
            ("99 % within", &measured.nearly_all, &floor.nearly_all),
            ("all within", &measured.all, &floor.all),
        ] {
            let what = format!("{workers}: {what}");
            report::line_of(self.server.name(), &what, measured, Some(floor), Aim::None);
        }
        let aim = if self.server.name() == OURS { Aim::AtMost(0.0) } else { Aim::None };
        let what = format!("{workers}: lost, of all rounds");
        report::line_of(self.server.name(), &what, &measured.lost.sum(), Some(&floor.lost.sum()), aim);
    }
}

/// Does `work` under a load.
fn under_load<T>(address: SocketAddr, work: impl FnOnce() -> T) -> (Report, T) {
    let load = Plan { fresh: CLIENTS, keep_alive: 0, pause: PAUSE, ..Plan::new(address) }.start();
    let end = Instant::now() + SPAN;
    load.wait_for_answers(20);
    let result = work();
    thread::sleep(end.saturating_duration_since(Instant::now()));
    (load.stop(), result)
}

/// How long requests took, by round.
#[derive(Debug)]
struct Latencies {
    half: Figure,
    nearly_all: Figure,
    all: Figure,
    /// Requests that were not answered.
    lost: Figure,
}

impl Latencies {
    fn new() -> Self {
        let [half, nearly_all, all] = [(); 3].map(|()| Figure::new(Unit::Time));
        Self { half, nearly_all, all, lost: Figure::new(Unit::Count) }
    }

    fn add(&mut self, report: &Report) {
        self.half.add_time(report.percentile(50.0));
        self.nearly_all.add_time(report.percentile(99.0));
        self.all.add_time(report.percentile(100.0));
        self.lost.add(report.failed() as f64);
    }
}
