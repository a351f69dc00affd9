//! How long a master that replaces itself answers nobody, and how much it hands its successor.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tests::{Master, Successor, binaries, wait};

use crate::client::Client;
use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade::stop;

/// Workers, and how long the control socket may be silent with them.
const CASES: [(u32, f64); 2] = [(4, 0.002), (500, 0.002)];

const ROUNDS: usize = 15;

/// Gaps that long are looked at in a round without a replacement.
const ROUND: Duration = Duration::from_millis(300);

const VERSION: &str = "{\"command\":\"version\"}\n";
const RELOAD: &str = "{\"command\":\"reload\"}\n";

pub(crate) fn run() {
    report::topic("reexec", "the program run with --version; or the same client, while nothing is replaced");
    for (workers, aim) in CASES {
        let builder = Master::builder().workers(workers).program([binaries::worker("tiny")]);
        let successor = Successor::new(builder.file("successor"));
        let mut master = successor.of(builder).start();
        gaps(&mut master, workers, aim);
        state(&mut master, &successor, workers);
        stop(&mut master);
    }
}

/// Measures what a client notices that never stops asking, and what the master says itself.
fn gaps(master: &mut Master, workers: u32, aim: f64) {
    let (mut silent, mut quiet) = (Figure::new(Unit::Time), Figure::new(Unit::Time));
    let (mut exec, mut round) = (Figure::new(Unit::Time), Figure::new(Unit::Time));
    for _ in 0..ROUNDS {
        exec.add_time(bare_exec());
        quiet.add_time(longest_gap(master.socket(), || thread::sleep(ROUND)));
        let mut reload = Client::connect(master.socket());
        let begun = Instant::now();
        silent.add_time(longest_gap(master.socket(), || {
            let reply = reload.ask(RELOAD);
            assert!(reply.contains("\"ok\":true"), "the reload failed: {reply}");
        }));
        round.add_time(begun.elapsed());
    }
    let what = format!("{workers} workers: nobody is answered for");
    report::line(&what, &silent, Some(&exec), Aim::AtMost(aim));
    report::line(&format!("{workers} workers: the same, nothing replaced"), &quiet, None, Aim::None);
    report::line(&format!("{workers} workers: the whole reload, its check too"), &round, None, Aim::None);
}

/// The longest that one client waits for an answer that asks one question after the other, while `act` acts.
fn longest_gap(socket: &Path, act: impl FnOnce()) -> Duration {
    let done = AtomicBool::new(false);
    let mut client = Client::connect(socket);
    client.ask(VERSION);
    let (begun, begins) = mpsc::channel();
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let _ = begun.send(());
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let asked = Instant::now();
                client.ask(VERSION);
                longest = longest.max(asked.elapsed());
            }
            longest
        });
        begins.recv().expect("the client begins");
        act();
        done.store(true, Ordering::Relaxed);
        asking.join().expect("the client asks to the end")
    })
}

/// The program, from its start to its end, with nothing to do.
fn bare_exec() -> Duration {
    let mut command = Command::new(binaries::einhyrningsins());
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    assert!(command.status().expect("the daemon runs").success());
    begun.elapsed()
}

/// Measures the state that is handed over, by a successor that looks at it.
fn state(master: &mut Master, successor: &Successor, workers: u32) {
    let copy = master.file("state");
    successor.is_script(&format!(
        "export SCRIPT=$$; [ \"$1\" = --upgrade-check ] || cat \"/dev/fd/$2\" >'{}'\nexec \"$DAEMON\" \"$@\"",
        copy.display()
    ));
    let reply = Client::connect(master.socket()).ask(RELOAD).to_owned();
    assert!(reply.contains("\"ok\":true"), "the reload failed: {reply}");
    let bytes = wait::wait_for("the copy", || fs::metadata(&copy).ok()).len() as f64;
    let all = Figure::once(Unit::Memory, bytes);
    let each = Figure::once(Unit::Memory, bytes / f64::from(workers));
    report::line(&format!("{workers} workers: state"), &all, None, Aim::None);
    report::line(&format!("{workers} workers: state for each"), &each, None, Aim::None);
}
