//! What somebody costs who looks at a master all the time.

use std::thread;
use std::time::Duration;

use tests::terminal::Terminal;
use tests::{Master, Process, Serving, binaries};

use crate::cpu;
use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade::stop;

/// How many workers there are.
const SIZES: [u32; 2] = [4, 500];

/// How long the masters and those who look are left alone, and how long they are watched.
const REST: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(30);

/// The CPU time that a second may take, of the master and whoever looks together.
const AIM: f64 = 0.02;

pub(crate) fn run() {
    report::topic("watch", "the CPU time of a second, of the master and of whoever looks at it");
    for workers in SIZES {
        let mut master = Master::builder().workers(workers).program([binaries::worker("tiny")]).start();
        let show = |what: &str, looking: Option<Process>| {
            let [own, theirs] = costs(master.process(), looking);
            let what = format!("{workers} workers, {what}");
            report::line(&format!("{what}: the master"), &Figure::once(Unit::Time, own), None, Aim::None);
            report::line(
                &format!("{what}: both"),
                &Figure::once(Unit::Time, own + theirs),
                None,
                Aim::AtMost(AIM),
            );
        };
        show("nobody looks", None);
        let command =
            format!("'{}' -d '{}' top", binaries::einhyrningsinsctl().display(), master.socket().display());
        let terminal = Terminal::open(&master, (120, 50), &format!("{command}; exit"));
        terminal.wait("q quit");
        show("top", Some(terminal.foreground()));
        drop(terminal);
        let serving = Serving::start(master.socket());
        let mut events = serving.events();
        // As the page does, until the server ends.
        let reader = thread::spawn(move || while events.hear().is_some() {});
        show("serve, with a reader of its page", Some(serving.process()));
        drop(serving);
        reader.join().expect("who reads the page");
        stop(&mut master);
    }
}

/// The CPU time of a second, of the master and of who looks.
fn costs(master: Process, looking: Option<Process>) -> [f64; 2] {
    thread::sleep(REST);
    let now = || {
        let looking = looking.map_or(Duration::ZERO, |looking| cpu::time_of_threads(looking.pid()));
        [cpu::time_of(master.pid()), looking]
    };
    let before = now();
    thread::sleep(WATCHED);
    let after = now();
    [0, 1].map(|at| (after[at] - before[at]).as_secs_f64() / WATCHED.as_secs_f64())
}
