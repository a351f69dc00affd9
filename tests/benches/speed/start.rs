//! From nothing to the first answer, and from a killed worker to the next one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::{Master, binaries, wait};

use crate::client::Client;
use crate::floor::Floor;
use crate::report::{self, Aim, Figure, Unit};
use crate::upgrade::stop;

const START_ROUNDS: usize = 21;
const KILL_ROUNDS: usize = 21;

/// Between two attempts to connect to what is not there yet: short beside the milliseconds that are measured,
/// and long enough to leave the processor to those who start.
const KNOCK_EVERY: Duration = Duration::from_micros(50);

/// The master's `--seconds`: workers older than this are replaced at once.
const SECONDS: Duration = Duration::from_millis(50);

pub(crate) fn run() {
    first_answer();
    killed_workers();
}

fn first_answer() {
    report::topic("start", "the worker alone; from its exec to its first HTTP answer");
    let mut floor = Figure::new(Unit::Time);
    let mut by_workers = [1, 4].map(|workers| (workers, Figure::new(Unit::Time)));
    for _ in 0..START_ROUNDS {
        let address = free_address();
        let mut alone = Command::new(binaries::worker("serve"));
        alone.arg(format!("bind={address}"));
        floor.add_time(time_to_answer(alone, address));
        for (workers, measured) in &mut by_workers {
            let address = free_address();
            let builder = Master::builder().workers(*workers).without_bind();
            let builder = builder.option("-b").option(address.to_string());
            measured.add_time(time_to_answer(builder.command(), address));
        }
    }
    for (workers, measured) in by_workers {
        let what = format!("--number {workers}: exec to first answer");
        report::line(&what, &measured, Some(&floor), Aim::Ratio(3.0));
    }
}

/// Runs `command`, which is to serve at `address`, until it has answered once.
fn time_to_answer(mut command: Command, address: SocketAddr) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let child = Stopped(command.spawn().expect("a program to start"));
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(begun.elapsed() < wait::patience(), "nobody serves {address}: {error}"),
        }
        thread::sleep(KNOCK_EVERY);
    };
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = [0; 1024];
    let bytes = stream.read(&mut answer).expect("an answer");
    let time = begun.elapsed();
    assert!(answer[..bytes].starts_with(b"HTTP/1.1 200"), "the answer is no good");
    drop(child);
    time
}

/// An address that nobody has, a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// A program that is stopped, and waited for, when it is dropped.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // Ours and not yet waited for, so the pid cannot be somebody else's.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn killed_workers() {
    report::topic("respawn", "a bare loop kills, reaps, spawns and waits for the word of the new one");
    for workers in [1, 4] {
        let (mut measured, mut floor) = (Figure::new(Unit::Time), Figure::new(Unit::Time));
        let mut bare = Floor::start(workers, &[]);
        let count = u32::try_from(workers).expect("a handful");
        let seconds = SECONDS.as_secs_f64().to_string();
        let builder = Master::builder().workers(count).program([binaries::worker("tiny")]);
        let mut master = builder.options(["--seconds", &seconds]).start();
        let mut events = Client::connect(master.socket());
        events.send("{\"command\":\"events\"}\n");
        events.next_line();
        for _ in 0..KILL_ROUNDS {
            // No wait for something to happen: a healthy worker is one of this age.
            thread::sleep(SECONDS * 2);
            let begun = Instant::now();
            bare.replace_killed();
            floor.add_time(begun.elapsed());
            let doomed = master.workers_up();
            let begun = Instant::now();
            assert!(doomed.iter().filter(|worker| worker.signal(Signal::SIGKILL)).count() == workers);
            let mut acked = 0;
            while acked < workers {
                acked += usize::from(events.next_line().contains("\"event\":\"acked\""));
            }
            measured.add_time(begun.elapsed());
        }
        let what =
            if workers == 1 { "1 worker killed".into() } else { format!("all {workers} killed at once") };
        report::line(&format!("{what}: until acked again"), &measured, Some(&floor), Aim::Ratio(1.5));
        stop(&mut master);
    }
}
