//! How much memory a master needs, and whether it sleeps.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::{Master, Process, binaries};

use crate::client::Client;
use crate::peers::{self, Work};
use crate::report::{self, Aim, Figure, Unit};
use crate::results::OURS;
use crate::upgrade::stop;

/// Workers, and how many bytes the master may have resident with them.
const SIZES: [(u32, f64); 2] = [(4, 3.2e6), (500, 4e6)];

/// Workers that others are measured with.
const PEER_SIZES: [u32; 4] = [4, 32, 128, 500];

const UPGRADES: usize = 20;

/// By then a master has given back what only its start or an upgrade needed.
const REST: Duration = Duration::from_secs(3);

/// From one look at the memory of a pool to the next.
const LOOK: Duration = Duration::from_millis(5);

/// How long the masters are watched while there is nothing to do.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) fn run() {
    report::topic("memory", "the program tiny, a Rust program that only waits for a signal");
    let mut masters = SIZES.map(|(workers, aim)| {
        let builder = Master::builder().workers(workers).program([binaries::worker("tiny")]);
        (workers, aim, builder.start())
    });
    let tiny = masters[0].2.workers_up()[0].pid();
    let floor = |field| Figure::once(Unit::Memory, resident(tiny, field));
    let (floor_all, floor_own) = (floor("VmRSS"), floor("RssAnon"));
    let show = |what: &str, master: &Master, aim: f64| {
        let pid = master.process().pid();
        let measured = |field| Figure::once(Unit::Memory, resident(pid, field));
        report::line(&format!("{what}: resident"), &measured("VmRSS"), Some(&floor_all), Aim::AtMost(aim));
        report::line(&format!("{what}: of it, its own"), &measured("RssAnon"), Some(&floor_own), Aim::None);
        report::line(&format!("{what}: resident at its peak"), &measured("VmHWM"), None, Aim::None);
    };
    thread::sleep(REST);
    for (workers, aim, master) in &masters {
        show(&format!("{workers} workers"), master, *aim);
    }
    let before = masters.each_ref().map(|(_, _, master)| switches(master));
    thread::sleep(IDLE);
    for ((workers, _, master), before) in masters.iter().zip(before) {
        let woken = Figure::once(Unit::Count, switches(master) - before);
        report::line(&format!("{workers} workers: wake-ups in {IDLE:?}"), &woken, None, Aim::AtMost(0.0));
    }
    for (workers, aim, master) in &mut masters {
        let mut client = Client::connect(master.socket());
        for _ in 0..UPGRADES {
            let reply = client.ask("{\"command\":\"upgrade\"}\n");
            assert!(reply.contains("\"ok\":true"), "the upgrade failed: {reply}");
        }
        master.wait_up(*workers);
        thread::sleep(REST);
        show(&format!("{workers} workers, {UPGRADES} upgrades later"), master, *aim);
        stop(master);
    }
    if peers::are_wanted() {
        beside_peers(&floor_all, &floor_own);
    }
}

/// Other masters with as many workers, which do nothing, and ours with the numbers that were not shown yet.
fn beside_peers(floor_all: &Figure, floor_own: &Figure) {
    let show = |program: &str, workers: u32, pid: i32| {
        // Others, too, have work left when their workers serve: HAProxy's master executes itself once more.
        thread::sleep(REST);
        for (what, field, floor) in
            [("resident", "VmRSS", floor_all), ("of it, its own", "RssAnon", floor_own)]
        {
            let measured = Figure::once(Unit::Memory, resident(pid, field));
            let what = format!("{}: {what}", report::workers(workers));
            report::line_of(program, &what, &measured, Some(floor), Aim::None);
        }
    };
    let mut measured = 0;
    for workers in PEER_SIZES {
        if SIZES.iter().all(|(shown, _)| *shown != workers) {
            let mut master = Master::builder().workers(workers).program([binaries::worker("tiny")]).start();
            show(OURS, workers, master.process().pid());
            stop(&mut master);
        }
        for peer in peers::running(measured, workers, 0, Work::Nothing) {
            show(peer.name(), peer.workers(), peer.pid());
        }
        measured = workers;
    }
}

/// What `pids` have to themselves, together, in bytes; those that have ended have nothing.
pub(crate) fn own(pids: impl IntoIterator<Item = i32>) -> f64 {
    pids.into_iter().filter_map(|pid| field(pid, "RssAnon")).sum()
}

/// The most that a master and its workers have to themselves, together, while `work` is done: somebody looks all the time, which
/// takes a processor.
pub(crate) fn peak_of_pool(master: i32, work: impl FnOnce()) -> f64 {
    let is_done = Arc::new(AtomicBool::new(false));
    let seen_done = Arc::clone(&is_done);
    let looks = thread::spawn(move || {
        let mut most = 0.0;
        while !seen_done.load(Ordering::Relaxed) {
            let workers =
                fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
            let workers = workers.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            most = f64::max(most, own(workers.chain([master])));
            thread::sleep(LOOK);
        }
        most
    });
    work();
    is_done.store(true, Ordering::Relaxed);
    looks.join().expect("who looks does not panic")
}

/// A field of `/proc/PID/status` that counts kilobytes, in bytes.
pub(crate) fn resident(pid: i32, name: &str) -> f64 {
    field(pid, name).unwrap_or_else(|| panic!("process {pid} has no {name}"))
}

fn field(pid: i32, name: &str) -> Option<f64> {
    let text = Process::of(pid)?.status(name)?;
    Some(text.strip_suffix(" kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// How often the master has gone to sleep.
fn switches(master: &Master) -> f64 {
    let text = master.process().status("voluntary_ctxt_switches").unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("voluntary_ctxt_switches is \"{text}\""))
}
