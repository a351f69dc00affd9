//! What each worker costs a master of thousands: no more than in a pool of hundreds, or something goes through all of them
//! again and again.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tests::{Master, binaries, wait};

use crate::client::Client;
use crate::cpu;
use crate::report::{self, Aim, Figure, Unit};

/// Workers. The first is the floor of the others. A fleet upgrade runs twice as many processes.
const SIZES: [u32; 3] = [500, 5_000, 10_000];

const ROUNDS: usize = 3;

/// Questions for `status` in a round.
const QUESTIONS: u32 = 5;

const AIM: f64 = 1.3;

/// A master that takes no CPU time for so long has nothing left to do.
const SETTLED_AFTER: Duration = Duration::from_millis(300);

const PHASES: [&str; 5] = ["start", "status", "upgrade", "upgrade_fleet", "stop"];

pub(crate) fn run() {
    report::topic("scale", "the same with 500 workers; the master's CPU time in all, divided by its workers");
    let mut figures = SIZES.map(|_| PHASES.map(|_| Figure::new(Unit::Time)));
    for _ in 0..ROUNDS {
        for (workers, figures) in SIZES.into_iter().zip(&mut figures) {
            for (time, figure) in round(workers).into_iter().zip(figures) {
                figure.add_time(time / workers);
            }
        }
    }
    for (at, phase) in PHASES.into_iter().enumerate() {
        for (workers, figures_of_size) in SIZES.into_iter().zip(&figures) {
            let is_floor = workers == SIZES[0];
            let (floor, aim) =
                if is_floor { (None, Aim::None) } else { (Some(&figures[0][at]), Aim::Ratio(AIM)) };
            report::line(
                &format!("{workers} workers, {phase}: CPU for each"),
                &figures_of_size[at],
                floor,
                aim,
            );
        }
    }
}

/// The CPU time of a master in each phase of its life.
fn round(workers: u32) -> [Duration; PHASES.len()] {
    let mut master = Master::builder().workers(workers).program([binaries::worker("tiny")]).start_unready();
    let pid = master.process().pid();
    let started = settled(pid, workers);
    let mut client = Client::connect(master.socket());
    for _ in 0..QUESTIONS {
        client.ask("{\"command\":\"status\"}\n");
    }
    let asked = settled(pid, workers);
    let [upgraded, fleet] = ["upgrade", "upgrade_fleet"].map(|command| {
        let reply = client.ask(&format!("{{\"command\":\"{command}\"}}\n"));
        assert!(reply.contains("\"ok\":true"), "{command} failed: {reply}");
        settled(pid, workers)
    });
    master.signal(Signal::SIGTERM);
    waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).expect("its end");
    let stopped = cpu::time_of(pid);
    master.wait_exit();
    [started, (asked - started) / QUESTIONS, upgraded - asked, fleet - upgraded, stopped - fleet]
}

/// Waits until a master has so many children and nothing to do, and gives the CPU time that it has used by then. It is not
/// asked: with thousands of workers, each answer would cost it more than some of them.
fn settled(pid: i32, workers: u32) -> Duration {
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    wait::wait_for("the master to settle", || {
        let before = cpu::time_of(pid);
        thread::sleep(SETTLED_AFTER);
        let is_settled =
            before == cpu::time_of(pid) && children().split_ascii_whitespace().count() == workers as usize;
        is_settled.then_some(before)
    })
}
