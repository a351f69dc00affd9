//! The sockets that processes listen on, as `/proc` shows them, and workers that have stopped to accept from them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use nix::sys::signal::Signal;

use crate::{Master, Process};

/// The states of a TCP socket that listens, and of a UDP socket that is not connected, in `/proc/net`.
const TCP_LISTENS: &str = "0A";
const UDP_OPEN: &str = "07";

/// What the worker program `serve` says when it is parked.
const PARKED: &str = "parked";

/// A socket that a process has open and others connect or send to, over IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Which socket it is: two descriptors of the same one share it.
    pub inode: u64,
    /// The port.
    pub port: u16,
    /// What waits in its queue: of TCP, connections that nobody has accepted; of UDP, bytes that nobody has read.
    pub queued: u32,
}

impl Process {
    /// The sockets that it listens on, by descriptor.
    #[must_use]
    pub fn listening(&self) -> BTreeMap<i32, Listening> {
        let lines = |table: &str| {
            let table = File::open(format!("/proc/{}/net/{table}", self.pid())).map(BufReader::new);
            table.into_iter().flat_map(|table| table.lines().skip(1)).map_while(Result::ok)
        };
        // Those that listen come first, and behind them may be thousands that are of no interest.
        let tcp = lines("tcp").map_while(|line| listening(&line, TCP_LISTENS));
        let found: Vec<_> = tcp.chain(lines("udp").filter_map(|line| listening(&line, UDP_OPEN))).collect();
        let descriptors = self.descriptors().into_iter();
        let ours = descriptors.filter_map(|(fd, descriptor)| {
            let inode = descriptor.target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()?;
            Some((fd, *found.iter().find(|listening| listening.inode == inode)?))
        });
        ours.collect()
    }

    /// What waits in the queues of the sockets that it listens on.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.listening().values().map(|listening| listening.queued).sum()
    }
}

/// A line of `/proc/net/tcp` or `udp`, if it is in `state`.
fn listening(line: &str, state: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (_, port) = fields.get(1)?.split_once(':')?;
    let (_, queued) = fields.get(4)?.split_once(':')?;
    (*fields.get(3)? == state).then_some(())?;
    Some(Listening { inode: fields.get(9)?.parse().ok()?, port: hex(port)? as u16, queued: hex(queued)? })
}

impl Master {
    /// Parks a worker (`serve park`): it accepts no more, and has ended what it had accepted. Killed now, it takes
    /// nothing along but what waits in a queue of its own. Tells whether it is parked; if not, it has left.
    #[track_caller]
    pub fn try_park(&mut self, worker: Process) -> bool {
        worker.signal(Signal::SIGUSR1);
        self.wait(&format!("worker {} to be parked", worker.pid()), |master| {
            let workers = master.status().workers;
            let told = workers.iter().find(|listed| listed.pid == worker.pid());
            match told {
                Some(told) => (told.text.as_deref() == Some(PARKED)).then_some(true),
                None => Some(false),
            }
        })
    }

    /// [`Self::try_park`], of a worker that nobody asks to leave.
    ///
    /// # Panics
    /// If it has left.
    #[track_caller]
    pub fn park(&mut self, worker: Process) {
        assert!(self.try_park(worker), "worker {} has left\n{self}", worker.pid());
    }

    /// Waits until so much, or more, waits in the queues of what `worker` listens on.
    #[track_caller]
    pub fn wait_queued(&mut self, worker: Process, least: u32) {
        let what = format!("{least} in the queue of worker {}", worker.pid());
        self.wait(&what, |_| (worker.queued() >= least).then_some(()));
    }
}
