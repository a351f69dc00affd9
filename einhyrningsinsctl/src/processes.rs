//! What `/proc` says of the workers of a master.
//!
//! A pid means something only in its own namespace, and only until its process is reaped: the process that has it now may be
//! another one. Nothing is said of a worker whose process is not certainly that of which the master speaks.

use std::fs::File;
use std::io::Read;

use einhorn_proto::{Status, WorkerStatus};
use procfs::FromRead;
use procfs::process::{Process, Stat};

/// The longest `/proc/PID/stat`, in bytes: a name of 64 bytes at most, and some fifty numbers of 20 digits at most.
const STAT_BYTES_MAX: usize = 2048;

/// Reads what `/proc` says of the workers of one master.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processes {
    ticks_per_second: u64,
    page_bytes: u64,
}

/// Why nothing can be said of the workers of a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unseen {
    #[error("it runs in another pid namespace: its pid is {said} there and {seen} here")]
    Namespace { said: i32, seen: i32 },
    #[error("its own pid is not known here, so its workers may be in another pid namespace")]
    Unknown,
    #[error("its version does not say when its workers started")]
    Older,
    #[error("/proc does not show them")]
    Hidden,
}

/// A worker's process at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// The CPU time that it has used, without that of its children.
    pub(crate) cpu_seconds: f64,
    /// The memory that it has in RAM. A page that others have too is counted whole.
    pub(crate) resident_bytes: u64,
    /// The same, with a page that N processes have counted as an Nth; if that was asked for, and may be.
    pub(crate) proportional_bytes: Option<u64>,
}

impl Processes {
    /// Those of the master that has given `status` through a socket at whose other end is the process `peer`.
    ///
    /// # Errors
    /// Why `/proc` says nothing of them.
    pub(crate) fn of(status: &Status, peer: Option<i32>) -> Result<Self, Unseen> {
        let own = Self::in_namespace(status, peer)?;
        let workers = || status.workers.iter();
        if workers().next().is_none() || workers().any(|worker| stat(worker).is_some()) {
            return Ok(own);
        }
        let is_older = workers().all(|worker| worker.start_ticks.is_none());
        Err(if is_older { Unseen::Older } else { Unseen::Hidden })
    }

    /// [`Self::of`] without a look at a worker; there may be nothing to see of any.
    ///
    /// # Errors
    /// [`Unseen::Namespace`] and [`Unseen::Unknown`].
    pub(crate) fn in_namespace(status: &Status, peer: Option<i32>) -> Result<Self, Unseen> {
        let said = status.master.pid;
        match peer {
            // Zero is what the kernel says of a process that the pid namespace does not have.
            None | Some(0) => return Err(Unseen::Unknown),
            Some(seen) if seen != said => return Err(Unseen::Namespace { said, seen }),
            Some(_) => {}
        }
        Ok(Self { ticks_per_second: procfs::ticks_per_second(), page_bytes: procfs::page_size() })
    }

    /// How a worker is now; `None` if it has ended, or `/proc` hides it. With `is_shared`, the kernel looks at each of its
    /// pages, which takes a millisecond or more.
    pub(crate) fn sample(self, worker: &WorkerStatus, is_shared: bool) -> Option<Sample> {
        let proportional_bytes = || {
            let maps = Process::new(worker.pid).ok()?.smaps_rollup().ok()?.memory_map_rollup;
            maps.iter().find_map(|map| map.extension.map.get("Pss").copied())
        };
        let proportional_bytes = if is_shared { proportional_bytes() } else { None };
        // Last, since the pid was the worker's until then.
        let stat = stat(worker)?;
        Some(Sample {
            cpu_seconds: self.seconds(stat.utime + stat.stime),
            resident_bytes: stat.rss * self.page_bytes,
            proportional_bytes,
        })
    }

    /// When a worker started, in seconds after the system did.
    pub(crate) fn started_after(self, worker: &WorkerStatus) -> Option<f64> {
        worker.start_ticks.map(|ticks| self.seconds(ticks))
    }

    fn seconds(self, ticks: u64) -> f64 {
        // A system that runs for a million years has fewer ticks than a float can tell apart.
        #[expect(clippy::cast_precision_loss)]
        let (ticks, per_second) = (ticks as f64, self.ticks_per_second as f64);
        ticks / per_second
    }
}

/// How the process of a worker is; `None` if it has ended, or `/proc` hides it. Read by one call, and not by the five of
/// [`Process::stat`]: `status` reads those of all workers.
fn stat(worker: &WorkerStatus) -> Option<Stat> {
    let mut text = [0; STAT_BYTES_MAX];
    let mut file = File::open(format!("/proc/{}/stat", worker.pid)).ok()?;
    let length = file.read(&mut text).ok()?;
    let stat = Stat::from_read(&text[..length]).ok()?;
    let is_it = worker.start_ticks == Some(stat.starttime) && !matches!(stat.state, 'Z' | 'X');
    is_it.then_some(stat)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use serde_json::json;

    use super::*;

    fn worker(pid: u32, start_ticks: Option<u64>) -> WorkerStatus {
        let status =
            json!({ "slot": 0, "index": 0, "pid": pid, "generation": 1, "state": "up", "age_ms": 5 });
        WorkerStatus { start_ticks, ..serde_json::from_value(status).unwrap() }
    }

    fn status(pid: i32, workers: Vec<WorkerStatus>) -> Status {
        let status = json!({
            "master": {
                "pid": pid, "version": "0.1.0", "state": "running", "age_ms": 5, "generation": 1, "command": ["app"],
                "directory": "/", "socket": "/run/sock", "wanted": 1, "up": 1, "starting": 0, "draining": 0,
            },
            "listeners": [], "slots": [], "workers": [], "releases": [],
        });
        Status { workers, ..serde_json::from_value(status).unwrap() }
    }

    /// A process that runs until it is dropped, as a worker.
    struct Child(std::process::Child);

    impl Child {
        fn new() -> Self {
            let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // While it starts, it has no memory at first, and then more from one look to the next.
            child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            Self(child)
        }

        fn worker(&self) -> WorkerStatus {
            let pid = self.0.id();
            let stat = Process::new(pid.cast_signed()).unwrap().stat().unwrap();
            worker(pid, Some(stat.starttime))
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_is_sampled_only_if_it_is_certainly_the_worker() {
        let child = Child::new();
        let known = child.worker();
        let seen = |worker: &WorkerStatus| {
            let status = status(7, vec![worker.clone()]);
            Processes::of(&status, Some(7)).map(|processes| processes.sample(worker, true))
        };
        let sample = seen(&known).unwrap().unwrap();
        assert!(sample.resident_bytes > 0 && sample.cpu_seconds < 60.0);
        assert!(sample.proportional_bytes.is_some_and(|shared| shared <= sample.resident_bytes));
        let later = WorkerStatus { start_ticks: known.start_ticks.map(|ticks| ticks + 1), ..known.clone() };
        assert_eq!(seen(&later), Err(Unseen::Hidden));
        assert_eq!(seen(&WorkerStatus { start_ticks: None, ..known.clone() }), Err(Unseen::Older));
        drop(child);
        assert_eq!(seen(&known), Err(Unseen::Hidden));
    }

    #[test]
    fn nothing_is_said_of_a_master_that_may_be_in_another_namespace() {
        let child = Child::new();
        let seen = |peer| Processes::of(&status(7, vec![child.worker()]), peer).map(drop);
        assert_eq!(seen(Some(7)), Ok(()));
        assert_eq!(seen(Some(8)), Err(Unseen::Namespace { said: 7, seen: 8 }));
        assert_eq!(seen(Some(0)), Err(Unseen::Unknown));
        assert_eq!(seen(None), Err(Unseen::Unknown));
    }

    #[test]
    fn a_master_without_workers_hides_none() {
        assert!(Processes::of(&status(7, Vec::new()), Some(7)).is_ok());
    }
}
