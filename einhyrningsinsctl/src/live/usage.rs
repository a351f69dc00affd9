//! What workers use of the machine, now and since the picture before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use einhorn_proto::{Status, WorkerStatus};
use serde::Serialize;

use crate::processes::Processes;

/// Over how long CPU time is compared, at least. The kernel counts it in ticks of 10 ms: over less, one tick would be much.
const SPAN: Duration = Duration::from_secs(1);

/// What a worker uses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// The memory that it has in RAM, in bytes.
    pub(crate) resident_bytes: u64,
    /// The CPU time that it has used since it started.
    pub(crate) cpu_seconds: f64,
    /// The same in percent of one CPU, in the last while; `None` for a worker that is new.
    pub(crate) cpu_percent: Option<f64>,
}

/// What all workers use together. Memory that several share is counted for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Total {
    /// The workers that are in this.
    pub(crate) workers: u32,
    /// The memory that they have in RAM, in bytes.
    pub(crate) resident_bytes: u64,
    /// The CPU time that they use, in percent of one CPU; `None` if it is known of none.
    pub(crate) cpu_percent: Option<f64>,
}

impl Total {
    /// The sum of those that are known.
    pub(super) fn of(usages: &[Option<Usage>]) -> Self {
        let mut total = Self::default();
        for usage in usages.iter().flatten() {
            total.workers += 1;
            total.resident_bytes += usage.resident_bytes;
            if let Some(percent) = usage.cpu_percent {
                total.cpu_percent = Some(total.cpu_percent.unwrap_or(0.0) + percent);
            }
        }
        total
    }
}

/// A process: its pid, and when it started, because pids come back.
type Key = (i32, Option<u64>);

/// What the next usages are compared with.
#[derive(Debug, Default)]
pub(super) struct Usages {
    /// When CPU times were noted last, and those.
    noted: Option<(Instant, HashMap<Key, f64>)>,
    /// What the last comparison said.
    percents: HashMap<Key, f64>,
}

impl Usages {
    /// What each worker of `status` uses `now`, in its order.
    pub(super) fn take(&mut self, status: &Status, processes: Processes, now: Instant) -> Vec<Option<Usage>> {
        let samples: Vec<_> =
            status.workers.iter().map(|worker| (key(worker), processes.sample(worker, false))).collect();
        let seconds = samples.iter().filter_map(|(key, sample)| Some((*key, sample.as_ref()?.cpu_seconds)));
        self.compare(now, seconds.collect());
        let usages = samples.iter().map(|(key, sample)| {
            sample.as_ref().map(|sample| Usage {
                resident_bytes: sample.resident_bytes,
                cpu_seconds: sample.cpu_seconds,
                cpu_percent: self.percents.get(key).copied(),
            })
        });
        usages.collect()
    }

    /// Compares CPU times with those noted before, if they are old enough, and notes these.
    fn compare(&mut self, now: Instant, seconds: HashMap<Key, f64>) {
        if let Some((at, before)) = &self.noted {
            let span = now.saturating_duration_since(*at);
            if span < SPAN {
                return;
            }
            let percent = |(key, seconds): (&Key, &f64)| {
                let used = (seconds - before.get(key)?).max(0.0);
                Some((*key, 100.0 * used / span.as_secs_f64()))
            };
            self.percents = seconds.iter().filter_map(percent).collect();
        }
        self.noted = Some((now, seconds));
    }
}

fn key(worker: &WorkerStatus) -> Key {
    (worker.pid, worker.start_ticks)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seconds(of: &[(i32, f64)]) -> HashMap<Key, f64> {
        of.iter().map(|(pid, seconds)| ((*pid, Some(1)), *seconds)).collect()
    }

    fn percent(usages: &Usages, pid: i32) -> Option<f64> {
        usages.percents.get(&(pid, Some(1))).copied()
    }

    #[test]
    fn cpu_is_the_share_of_the_time_since_the_last_note() {
        let (mut usages, begun) = (Usages::default(), Instant::now());
        let at = |millis| begun + Duration::from_millis(millis);
        usages.compare(at(0), seconds(&[(1, 10.0), (2, 0.0)]));
        assert_eq!(percent(&usages, 1), None, "nothing to compare with");
        usages.compare(at(2000), seconds(&[(1, 11.0), (2, 0.5), (3, 4.0)]));
        assert_eq!((percent(&usages, 1), percent(&usages, 2)), (Some(50.0), Some(25.0)));
        assert_eq!(percent(&usages, 3), None, "it is new");
        // A look soon afterwards: a tick of the kernel would be a tenth of it.
        usages.compare(at(2100), seconds(&[(1, 11.01), (2, 0.5), (3, 4.0)]));
        assert_eq!(percent(&usages, 1), Some(50.0));
        usages.compare(at(4000), seconds(&[(1, 13.0)]));
        assert_eq!((percent(&usages, 1), percent(&usages, 2)), (Some(100.0), None));
    }

    #[test]
    fn a_pid_that_came_back_is_another_worker() {
        let (mut usages, begun) = (Usages::default(), Instant::now());
        let worker = |start_ticks: u64| {
            let worker = json!({ "slot": 0, "index": 0, "pid": 7, "start_ticks": start_ticks, "generation": 1,
                                 "state": "up", "age_ms": 5 });
            key(&serde_json::from_value(worker).unwrap())
        };
        usages.compare(begun, HashMap::from([(worker(1), 100.0)]));
        usages.compare(begun + SPAN, HashMap::from([(worker(2), 100.1)]));
        assert!(usages.percents.is_empty());
    }

    #[test]
    fn the_total_is_of_those_that_are_known() {
        let usage = |bytes, cpu_percent| Some(Usage { resident_bytes: bytes, cpu_seconds: 1.0, cpu_percent });
        let total = Total::of(&[usage(5, None), None, usage(7, Some(1.5)), usage(1, Some(2.0))]);
        assert_eq!(total, Total { workers: 3, resident_bytes: 13, cpu_percent: Some(3.5) });
        assert_eq!(Total::of(&[usage(5, None)]).cpu_percent, None);
    }
}
