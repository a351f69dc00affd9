//! How connections that are kept spread over workers that share a listener, and over workers with one each; and what it
//! costs to be shared out by the kernel.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tests::Master;
use tests::load::Plan;

use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade;

const WORKERS: u32 = 4;
const CONNECTIONS: usize = 64;

/// How often the connections are made anew.
const ROUNDS: usize = 25;

/// Clients that make a connection for each request, and how many requests they make together in one round.
const CLIENTS: usize = 16;
const FRESH: u64 = 4000;
const FRESH_ROUNDS: usize = 9;

pub(crate) fn run() {
    report::topic(
        "balance",
        &format!(
            "the listener shared; {WORKERS} workers that accept all that wait; {CONNECTIONS} connections that are kept"
        ),
    );
    let masters = [",reuseport", ""].map(|option| {
        let builder = Master::builder().workers(WORKERS).without_bind();
        builder.options(["-b", &format!("127.0.0.1:0{option}")]).serve(["greedy"]).start()
    });
    let addresses = [&masters[0], &masters[1]].map(Master::address);
    for (how, at_once) in [("at once", true), ("one by one", false)] {
        let mut spreads = [Spread::new(), Spread::new()];
        for _ in 0..ROUNDS {
            for (spread, address) in spreads.iter_mut().zip(addresses) {
                spread.add(connections_by_worker(address, at_once));
            }
        }
        show(how, &spreads);
    }
    let mut rates = [(); 2].map(|()| Figure::new(Unit::Rate));
    for _ in 0..FRESH_ROUNDS {
        for (rate, address) in rates.iter_mut().zip(addresses) {
            rate.add(connections_per_second(address));
        }
    }
    report::line("connections made, one for each request", &rates[0], Some(&rates[1]), Aim::Ratio(1.1));
    for mut master in masters {
        upgrade::stop(&mut master);
    }
}

/// Connections of each worker, from the one that has most to the one that has least.
struct Spread([Figure; WORKERS as usize]);

impl Spread {
    fn new() -> Self {
        Self([(); WORKERS as usize].map(|()| Figure::new(Unit::Count)))
    }

    fn add(&mut self, connections: [usize; WORKERS as usize]) {
        for (figure, connections) in self.0.iter_mut().zip(connections) {
            figure.add(connections as f64);
        }
    }

    /// As it usually is.
    fn medians(&self) -> String {
        self.0.each_ref().map(|figure| format!("{:.0}", figure.median())).join("/")
    }

    /// How many times its fair share the busiest has.
    fn busiest(&self) -> Figure {
        let fair = CONNECTIONS as f64 / f64::from(WORKERS);
        self.0[0].divided_by(fair, Unit::Times)
    }
}

fn show(how: &str, [per_slot, shared]: &[Spread; 2]) {
    report::texts(&format!("made {how}: connections of each worker"), &per_slot.medians(), &shared.medians());
    let what = format!("made {how}: the busiest has, of its fair share");
    report::line(&what, &per_slot.busiest(), Some(&shared.busiest()), Aim::AtMost(1.5));
}

/// Makes the connections, keeps them until each was answered on, and gives how many each worker has, most first.
fn connections_by_worker(address: SocketAddr, at_once: bool) -> [usize; WORKERS as usize] {
    let connect = || TcpStream::connect(address).expect("a connection");
    let mut connections: Vec<(TcpStream, u32)> = Vec::with_capacity(CONNECTIONS);
    if at_once {
        let made: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
        connections.extend(made.into_iter().map(ask));
    } else {
        connections.extend((0..CONNECTIONS).map(|_| ask(connect())));
    }
    let mut by_worker = BTreeMap::<u32, usize>::new();
    for (_, pid) in &connections {
        *by_worker.entry(*pid).or_default() += 1;
    }
    let mut counts: Vec<_> = by_worker.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts.resize(WORKERS as usize, 0);
    counts.try_into().expect("as many as there are workers")
}

/// The connection, and the pid of who answers on it.
pub(crate) fn ask(mut stream: TcpStream) -> (TcpStream, u32) {
    stream.set_read_timeout(Some(tests::wait::patience())).expect("a time limit on the socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n").expect("the worker reads");
    let mut reader = BufReader::new(&stream);
    let (mut pid, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line == "\r\n" || line.is_empty() {
                break;
            }
            continue;
        };
        match name {
            "X-Worker" => pid = value.split(' ').next().and_then(|pid| pid.parse().ok()),
            "Content-Length" => length = value.parse().expect("a length"),
            _ => {}
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).expect("a whole answer");
    (stream, pid.expect("an answer that names its worker"))
}

fn connections_per_second(address: SocketAddr) -> f64 {
    let plan = Plan {
        fresh: CLIENTS,
        keep_alive: 0,
        pause: Duration::ZERO,
        requests_max: FRESH,
        ..Plan::new(address)
    };
    let report = plan.start().run_to_end();
    assert_eq!(report.failed(), 0, "{report}");
    report.requests as f64 / report.elapsed.as_secs_f64()
}
