//! Other masters, which `--peers` measures by turns with ours.
//!
//! Some run any program as their worker, and get the one that ours gets. Others have workers of their own; what is compared
//! then is how long people wait, from their request until the new workers serve and the old ones are gone.

mod kinds;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Child;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tests::wait::{self, patience};
use tests::{Process, process::Captured};

use kinds::{KINDS, Kind, Place, Request, Workers};

use crate::report::{self, Aim, Figure, Unit};
use crate::start::free_address;
use crate::{results, sys, upgrade};

/// A master whose upgrades have taken longer than this in all gets no further turn with as many workers.
pub(crate) const TURNS_MAX: Duration = Duration::from_secs(8);

/// A master whose upgrade would take longer than this, going by one with fewer workers, is not measured with more.
const UPGRADE_MAX: Duration = Duration::from_secs(15);

/// Lines of its output that are shown when it does not.
const LINES_SHOWN: usize = 5;

static FOUND: OnceLock<Vec<&Kind>> = OnceLock::new();

/// Looks which of them are installed, and says so.
pub(crate) fn find() {
    let (mut found, mut names, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for kind in &KINDS {
        let Some(version) = kind.version() else {
            missing.push(kind.name);
            continue;
        };
        names.push(format!("{} {version}", kind.name));
        results::program(kind.name, version);
        found.push(kind);
    }
    println!("peers: {}", names.join(", "));
    if !missing.is_empty() {
        println!("not installed: {}", missing.join(", "));
    }
    FOUND.get_or_init(|| found);
}

/// A kind of master that may be measured with more workers than up to now.
#[derive(Debug)]
pub(crate) struct Candidate {
    kind: &'static Kind,
    /// The most workers that it was measured with.
    workers: u32,
    /// What an upgrade took then for each of them, in seconds.
    worker_time: f64,
}

/// Those that are to be measured: none, unless they were asked for.
fn found() -> impl Iterator<Item = &'static Kind> {
    FOUND.get().into_iter().flatten().copied()
}

/// Whether other programs are measured in this run.
pub(crate) fn are_wanted() -> bool {
    found().next().is_some()
}

/// All that are to be measured.
pub(crate) fn candidates() -> Vec<Candidate> {
    found().map(|kind| Candidate { kind, workers: 0, worker_time: 0.0 }).collect()
}

/// Those whose workers can take time to boot.
pub(crate) fn candidates_that_boot() -> Vec<Candidate> {
    candidates().into_iter().filter(|candidate| candidate.kind.boots()).collect()
}

/// One of each, which answers requests or does nothing, with so many workers or as many as it can have; those are left out
/// that cannot have more than `measured`. Workers need `boot_ms` to boot, if they can.
pub(crate) fn running(measured: u32, workers: u32, boot_ms: u64, work: Work) -> impl Iterator<Item = Peer> {
    let kinds = found().filter(move |kind| kind.most > measured);
    kinds.filter_map(move |kind| Peer::start(kind, workers, boot_ms, work))
}

/// What the workers of a peer do that runs any program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Wait for their end.
    Nothing,
    /// Answer requests.
    Serve,
}

/// Masters of one size, by turns.
#[derive(Debug)]
pub(crate) struct Peers {
    workers: u32,
    running: Vec<Peer>,
}

impl Peers {
    /// Starts `candidates` with so many workers, which need `boot_ms` to boot, or with as many as each can have if that is more
    /// than before.
    pub(crate) fn start(candidates: &[Candidate], workers: u32, boot_ms: u64) -> Self {
        let more = candidates.iter().filter(|candidate| candidate.kind.most > candidate.workers);
        let running = more.filter_map(|Candidate { kind, worker_time, .. }| {
            let time = worker_time * f64::from(workers);
            if time > UPGRADE_MAX.as_secs_f64() {
                println!("  ({} would take {time:.0} s for {workers} workers)", kind.name);
                return None;
            }
            Peer::start(kind, workers, boot_ms, Work::Nothing)
        });
        Self { workers, running: running.collect() }
    }

    /// An upgrade of each.
    pub(crate) fn round(&mut self) {
        self.running.retain_mut(|peer| peer.spent > TURNS_MAX || peer.upgrade().is_some());
    }

    /// Shows how long they took, and gives them as candidates for more workers.
    pub(crate) fn show(self, what: impl Fn(u32) -> String, floor: &Figure) -> Vec<Candidate> {
        for peer in &self.running {
            let floor = (peer.place.workers == self.workers).then_some(floor);
            let what = format!("{}: old ones gone", what(peer.place.workers));
            report::line_of(peer.kind.name, &what, &peer.took, floor, Aim::None);
        }
        let candidates = self.running.iter().map(|peer| Candidate {
            kind: peer.kind,
            workers: peer.place.workers,
            worker_time: peer.took.median() / f64::from(peer.place.workers),
        });
        candidates.collect()
    }
}

/// A master that runs.
#[derive(Debug)]
pub(crate) struct Peer {
    kind: &'static Kind,
    place: Place,
    child: Child,
    output: Captured,
    ready: UnixDatagram,
    work: Work,
    /// From the request until the new workers serve and the old ones are gone.
    took: Figure,
    /// The sum of these.
    spent: Duration,
    /// Removed when the program has ended.
    _directory: TempDir,
}

impl Peer {
    /// Starts one with so many workers, or as many as it can have, and waits until they serve. If they do not, that is
    /// printed, and there is `None`.
    fn start(kind: &'static Kind, workers: u32, boot_ms: u64, work: Work) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let program = match work {
            Work::Nothing => kinds::worker("tiny", &[]),
            Work::Serve => kinds::worker("serve", &["ack=control", &format!("boot_ms={boot_ms}")]),
        };
        let place = Place {
            directory: directory.path().to_owned(),
            address: free_address(),
            workers: workers.min(kind.most),
            boot_ms,
            program,
        };
        let ready = UnixDatagram::bind(place.ready()).expect("a datagram socket");
        ready.set_read_timeout(Some(patience())).expect("a time limit on the socket");
        let output = Captured::new();
        let mut command = kind.command(&place);
        command.stdin(std::process::Stdio::null()).stdout(output.writer()).stderr(output.writer());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("  ({} does not start: {error})", kind.name);
                return None;
            }
        };
        let (took, spent, _directory) = (Figure::new(Unit::Time), Duration::ZERO, directory);
        let peer = Self { kind, place, child, output, ready, work, took, spent, _directory };
        peer.shown(peer.wait_serving(&[]))?;
        Some(peer)
    }

    /// Asks it to replace its workers, and waits until it has. If it does not, that is printed, and there is `None`.
    pub(crate) fn upgrade(&mut self) -> Option<()> {
        let old =
            self.children().into_iter().filter_map(|pid| Some((pid, sys::process_descriptor(pid).ok()?)));
        let old: Vec<_> = old.collect();
        let begun = Instant::now();
        let answer = self.ask();
        self.shown(answer.map_err(|error| format!("cannot be asked to upgrade: {error}")))?;
        self.shown(self.wait_serving(&old))?;
        let time = begun.elapsed();
        self.spent += time;
        self.took.add_time(time);
        Some(())
    }

    /// The pid of the master.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind.name
    }

    pub(crate) fn workers(&self) -> u32 {
        self.place.workers
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.place.address
    }

    fn ask(&self) -> io::Result<()> {
        match self.kind.request {
            Request::Signal(signal) => Ok(kill(Pid::from_raw(self.pid()), signal)?),
            Request::Line(line) => UnixStream::connect(self.place.socket())?.write_all(line.as_bytes()),
        }
    }

    /// Waits until all workers that it is to have serve, and these that it had are gone.
    fn wait_serving(&self, old: &[(i32, OwnedFd)]) -> Result<(), String> {
        // First of all, or a worker may wait until there is room for its datagram.
        if self.kind.workers == Workers::Unready {
            for number in 1..=self.place.workers {
                let received = self.ready.recv(&mut [0; 16]);
                received.map_err(|error| format!("worker {number} is not ready: {error}"))?;
            }
        }
        if !old.iter().all(|(_, descriptor)| upgrade::has_ended(descriptor, patience())) {
            return Err("does not get rid of its old workers".into());
        }
        let processes = if self.kind.workers == Workers::Threads { 1 } else { self.place.workers as usize };
        let is_new = |pid: &i32| old.iter().all(|(old, _)| old != pid);
        let has_all = || self.children().iter().filter(|pid| is_new(pid)).count() >= processes;
        wait::within(patience(), || has_all().then_some(()))
            .ok_or_else(|| format!("has fewer than {processes} new workers"))?;
        if self.kind.workers == Workers::Any && self.work == Work::Nothing {
            return Ok(());
        }
        let answered = wait::within(patience(), || self.answers().ok().filter(|&answers| answers));
        answered.map(|_| ()).ok_or_else(|| "does not answer".into())
    }

    fn answers(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(self.place.address)?;
        stream.set_read_timeout(Some(patience()))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.") && answer[b"HTTP/1.x".len()..].starts_with(b" 200"))
    }

    /// The children of the master, which are its workers.
    fn children(&self) -> Vec<i32> {
        // One file for each thread, as each can have children.
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    /// Prints what went wrong.
    fn shown(&self, result: Result<(), String>) -> Option<()> {
        let error = result.err();
        if let Some(error) = &error {
            println!("  ({} {error}; the last lines of its output:", self.kind.name);
            let output = self.output.text();
            let lines: Vec<_> = output.lines().collect();
            for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
                println!("   {line}");
            }
            println!("  )");
        }
        error.is_none().then_some(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ours and not yet waited for, so the pid cannot be somebody else's.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        let ended = wait::within(patience(), || self.child.try_wait().ok().flatten());
        if ended.is_none()
            && let Some(process) = Process::of(self.pid())
        {
            process.kill_with_descendants();
            let _ = self.child.wait();
        }
    }
}
