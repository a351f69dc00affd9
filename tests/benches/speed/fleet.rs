//! How long a master of thousands of workers answers nobody.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::{Master, binaries, wait};

use crate::client::Client;
use crate::report::{self, Aim, Figure, Unit};

const WORKERS: u32 = 5_000;

/// The longest that a client may wait, in seconds.
const AIM: f64 = 0.1;

/// From an answer to the next question.
const PAUSE: Duration = Duration::from_millis(1);

/// Between two looks whether a phase is over: each costs as much as a question.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the floor is measured.
const IDLE: Duration = Duration::from_secs(3);

const STATUS: &str = "{\"command\":\"status\"}\n";

pub(crate) fn run() {
    report::topic(
        "fleet",
        "the same while nothing goes on; each status on a new connection, from connect to the last byte of the answer",
    );
    let builder = Master::builder().workers(WORKERS).program([binaries::worker("tiny")]);
    let mut master = builder.start_unready();
    let socket = master.socket().to_owned();
    let started = waits(&socket, || wait_up(&socket));
    let idle = waits(&socket, || thread::sleep(IDLE));
    let [smooth, fleet] = ["upgrade", "upgrade_fleet"].map(|command| {
        waits(&socket, || {
            let reply = Client::connect(&socket).ask(&format!("{{\"command\":\"{command}\"}}\n")).to_owned();
            assert!(reply.contains("\"ok\":true"), "{command} failed: {reply}");
            wait_up(&socket);
        })
    });
    let stopped = waits(&socket, || {
        master.signal(Signal::SIGTERM);
        master.wait_exit();
    });
    for (what, waits) in
        [("start", started), ("upgrade", smooth), ("upgrade_fleet", fleet), ("stop", stopped)]
    {
        let longest = |waits: &Figure| Figure::once(Unit::Time, waits.most());
        let median = |waits: &Figure| Figure::once(Unit::Time, waits.median());
        let what = format!("{WORKERS} workers, {what}");
        report::line(&format!("{what}: longest"), &longest(&waits), Some(&longest(&idle)), Aim::AtMost(AIM));
        report::line(&format!("{what}: median"), &median(&waits), Some(&median(&idle)), Aim::None);
    }
}

/// Waits until all workers are up, and no others are left.
fn wait_up(socket: &Path) {
    let all = format!("\"wanted\":{WORKERS},\"up\":{WORKERS},\"starting\":0,\"draining\":0");
    let mut client = Client::connect(socket);
    wait::wait_for("all workers", || {
        thread::sleep(LOOK_EVERY);
        client.ask(STATUS).contains(&all).then_some(())
    });
}

/// How long one client waits for each answer while `act` acts.
fn waits(socket: &Path, act: impl FnOnce()) -> Figure {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut waits = Figure::new(Unit::Time);
            while !is_over.load(Ordering::Relaxed) {
                // One that stops hangs up at last.
                if let Some(wait) = wait_for_status(socket) {
                    waits.add_time(wait);
                }
                thread::sleep(PAUSE);
            }
            waits
        });
        act();
        is_over.store(true, Ordering::Relaxed);
        asking.join().expect("the client asks to the end")
    })
}

/// `None` if the master ends before it has answered.
fn wait_for_status(socket: &Path) -> Option<Duration> {
    let asked = Instant::now();
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(STATUS.as_bytes()).ok()?;
    let mut part = vec![0; 1 << 18];
    loop {
        let count = stream.read(&mut part).ok().filter(|count| *count > 0)?;
        if part[..count].ends_with(b"\n") {
            return Some(asked.elapsed());
        }
    }
}
