//! Many clients at once, each with a connection for each request: is the queue of the listener long enough?

use std::fs;
use std::time::Duration;

use tests::Master;
use tests::load::{Plan, Report};

use crate::report::{self, Aim, Figure, Unit};

const CLIENTS: usize = 256;
const WORKERS: u32 = 4;

/// Bounds of one run: well below the ports that this machine has for connections.
const REQUESTS_MAX: u64 = 20_000;
const DURATION_MAX: Duration = Duration::from_secs(5);

/// The kernel asks again for a connection that was not answered after this time.
///
/// # Source
/// RFC 6298, section 2: the initial retransmission time-out.
const SYN_AGAIN: Duration = Duration::from_secs(1);

/// What the kernel counts, of the whole network namespace: whoever else uses it counts too. Run under
/// `unshare --net` (and `ip link set lo up`) nobody else does.
const COUNTERS: [(&str, &str, &str); 4] = [
    ("netstat", "TcpExt:", "ListenOverflows"),
    ("netstat", "TcpExt:", "TCPSynRetrans"),
    ("netstat", "TcpExt:", "TCPTimeouts"),
    ("snmp", "Tcp:", "RetransSegs"),
];

pub(crate) fn run() {
    report::topic("backlog", "no retransmit; 256 clients at a time make a connection per request");
    show("system's maximum", &[], Aim::AtMost(0.0));
    show("-l 100", &["-l", "100"], Aim::None);
}

fn show(what: &str, options: &[&str], aim: Aim) {
    let master = Master::builder().workers(WORKERS).options(options).start();
    let before = COUNTERS.map(counter);
    let report = load(&master);
    for (name, before) in COUNTERS.iter().zip(before) {
        let count = Figure::once(Unit::Count, (counter(*name) - before) as f64);
        report::line(&format!("{what}: {}", name.2), &count, None, aim);
    }
    let slow = report.answers.iter().filter(|answered| answered.latency >= SYN_AGAIN).count() as u64;
    let slow = Figure::once(Unit::Count, (slow + report.late) as f64);
    report::line(&format!("{what}: waited {SYN_AGAIN:?} or longer"), &slow, None, aim);
    let lost = Figure::once(Unit::Count, report.failed() as f64);
    report::line(&format!("{what}: lost"), &lost, None, Aim::AtMost(0.0));
    for (name, percent) in [("half within", 50.0), ("99 % within", 99.0), ("all within", 100.0)] {
        let latency = Figure::once(Unit::Time, report.percentile(percent).as_secs_f64());
        report::line(&format!("{what}: {name}"), &latency, None, Aim::None);
    }
    let rate = report.requests as f64 / report.elapsed.as_secs_f64();
    report::line(&format!("{what}: requests"), &Figure::once(Unit::Rate, rate), None, Aim::None);
}

fn load(master: &Master) -> Report {
    let plan = Plan {
        fresh: CLIENTS,
        keep_alive: 0,
        pause: Duration::ZERO,
        requests_max: REQUESTS_MAX,
        duration_max: DURATION_MAX,
        ..Plan::new(master.address())
    };
    plan.start().run_to_end()
}

/// A counter: the file in `/proc/net`, the word that its lines begin with, its name in the first of them.
fn counter((file, group, name): (&str, &str, &str)) -> u64 {
    let path = format!("/proc/net/{file}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let value = pairs.find_map(|(found, value)| (found == name).then(|| value.parse().ok()).flatten());
    value.unwrap_or_else(|| panic!("no {name} in {path}"))
}
