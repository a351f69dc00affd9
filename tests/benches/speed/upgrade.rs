//! A rolling upgrade of workers that boot at once.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tests::{Master, MasterBuilder, binaries};

use crate::client::Client;
use crate::floor::Floor;
use crate::peers::{self, Peers};
use crate::report::{self, Aim, Figure, Unit};
use crate::{cpu, memory, sys};

/// Workers, and rounds.
const SIZES: [(u32, usize); 4] = [(4, 21), (32, 15), (128, 9), (500, 7)];

pub(crate) fn run() {
    report::topic("upgrade", "a bare loop spawns N, waits for their word, signals the old N, reaps them");
    let mut candidates = peers::candidates();
    for (workers, rounds) in SIZES {
        let all = workers.to_string();
        let mut floor = (Floor::start(workers as usize, &[]), Figure::new(Unit::Time));
        let mut paced = Subject::start(workers, &[], &[]);
        let mut at_once = Subject::start(workers, &["--max-unacked", &all], &[]);
        let mut peers = Peers::start(&candidates, workers, 0);
        for _ in 0..rounds {
            floor.1.add_time(timed(|| floor.0.upgrade()));
            paced.round();
            at_once.round();
            peers.round();
        }
        paced.show(&format!("{workers} workers"), &floor.1, Aim::Ratio(1.15));
        at_once.show(&format!("{workers} workers, --max-unacked {all}"), &floor.1, Aim::Ratio(1.15));
        [paced, at_once].into_iter().for_each(Subject::stop);
        candidates = peers.show(report::workers, &floor.1);
    }
}

pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// A master that is upgraded again and again.
pub(crate) struct Subject {
    master: Master,
    client: Client,
    workers: u32,
    /// From the request to its last reply.
    answered: Figure,
    /// From the request until the last old worker has ended.
    gone: Figure,
    /// The master's own time on a processor, by worker; the control replies of this benchmark are in it.
    cpu: Figure,
}

impl Subject {
    /// Starts it with these options, and these variables of its workers.
    pub(crate) fn start(workers: u32, options: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut builder = Master::builder().options(options);
        for (name, value) in variables {
            builder = builder.env(name, value);
        }
        Self::of(builder, workers)
    }

    /// Starts what `builder` describes with so many workers.
    pub(crate) fn of(builder: MasterBuilder, workers: u32) -> Self {
        let master = builder.workers(workers).program([binaries::worker("tiny")]).start();
        let client = Client::connect(master.socket());
        let [answered, gone, cpu] = [(); 3].map(|()| Figure::new(Unit::Time));
        Self { master, client, workers, answered, gone, cpu }
    }

    /// What master and workers have to themselves, together, at most in one more upgrade.
    pub(crate) fn peak(&mut self) -> Figure {
        let peak = memory::peak_of_pool(self.master.process().pid(), || {
            let reply = self.client.ask("{\"command\":\"upgrade\"}\n");
            assert!(reply.contains("\"ok\":true"), "the upgrade failed: {reply}");
        });
        Figure::once(Unit::Memory, peak)
    }

    /// From the request until the last old worker has ended, by round.
    pub(crate) fn gone(&self) -> &Figure {
        &self.gone
    }

    pub(crate) fn round(&mut self) {
        let old: Vec<OwnedFd> = self
            .master
            .workers_up()
            .iter()
            .filter_map(|worker| sys::process_descriptor(worker.pid()).ok())
            .collect();
        assert_eq!(old.len(), self.workers as usize, "workers before the upgrade");
        let pid = self.master.process().pid();
        let cpu_before = cpu::time_of(pid);
        let begun = Instant::now();
        let reply = self.client.ask("{\"command\":\"upgrade\"}\n");
        self.answered.add_time(begun.elapsed());
        assert!(reply.contains("\"ok\":true"), "the upgrade failed: {reply}");
        for old in &old {
            assert!(has_ended(old, tests::wait::patience()), "an old worker does not end");
        }
        self.gone.add_time(begun.elapsed());
        // Its work is done when it, too, knows that they are gone.
        while !self.client.ask("{\"command\":\"status\"}\n").contains("\"draining\":0") {}
        self.cpu.add_time((cpu::time_of(pid) - cpu_before) / self.workers);
    }

    pub(crate) fn show(&self, what: &str, floor: &Figure, aim: Aim) {
        report::line(&format!("{what}: answered"), &self.answered, Some(floor), aim);
        report::line(&format!("{what}: old ones gone"), &self.gone, Some(floor), aim);
        report::line(&format!("{what}: CPU for each"), &self.cpu, None, Aim::AtMost(60e-6));
    }

    /// Shows its figures, each with the other's as its floor.
    pub(crate) fn show_beside(&self, what: &str, floor: &Self, aim: Aim) {
        for (name, figure, floor) in [
            ("answered", &self.answered, &floor.answered),
            ("old ones gone", &self.gone, &floor.gone),
            ("CPU for each", &self.cpu, &floor.cpu),
        ] {
            report::line(&format!("{what}: {name}"), figure, Some(floor), aim);
        }
    }

    pub(crate) fn stop(mut self) {
        stop(&mut self.master);
    }
}

/// Waits until the process behind `descriptor` has ended, and says whether it has.
pub(crate) fn has_ended(descriptor: &OwnedFd, limit: Duration) -> bool {
    let mut ended = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    poll(&mut ended, limit).expect("poll takes one descriptor") > 0
}

/// Stops a master and its workers in good order; with hundreds of them that is quicker than what `Drop` does.
pub(crate) fn stop(master: &mut Master) {
    master.signal(nix::sys::signal::Signal::SIGTERM);
    master.wait_exit();
}
