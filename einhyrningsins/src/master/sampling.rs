//! Memory sampling of workers, for `--max-rss`.
//!
//! It reads one small file of `/proc` per worker and period. A large pool is sampled in parts, so that no round
//! of the loop reads many files. Without a limit there is no timer at all.

use std::time::{Duration, Instant};

use einhyrningsins_supervisor::{Event, Policy, Report, Supervisor};
use nix::unistd::Pid;

use crate::forms::{core_pid, system_pid};
use crate::sys::load::memory;

/// Each worker is sampled once per period.
const PERIOD: Duration = Duration::from_secs(5);

/// Workers sampled in one round of the loop, some 10 microseconds each.
const WORKERS_PER_ROUND: usize = 64;

/// The samples that are still due.
#[derive(Debug)]
pub(super) struct Sampling {
    /// When to continue; `None` without a limit.
    next: Option<Instant>,
    /// Workers still to be sampled in this period.
    left: Vec<Pid>,
    /// When the next period starts.
    period_ends: Instant,
}

impl Sampling {
    pub(super) fn new() -> Self {
        Self { next: None, left: Vec::new(), period_ends: Instant::now() }
    }

    /// Samples from now on, or not, as the policy wants it.
    pub(super) fn follow(&mut self, policy: &Policy) {
        if policy.recycling.max_rss_bytes.is_none() {
            self.next = None;
        } else if self.next.is_none() {
            self.next = Some(Instant::now() + PERIOD);
            self.left.clear();
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Samples the next few workers, if it is time.
    pub(super) fn turn(&mut self, core: &Supervisor, now: Instant) -> Vec<Event> {
        if self.next.is_none_or(|at| at > now) {
            return Vec::new();
        }
        if self.left.is_empty() {
            self.left = core.pids().map(system_pid).collect();
            self.period_ends = now + PERIOD;
        }
        let looked_at = self.left.split_off(self.left.len().saturating_sub(WORKERS_PER_ROUND));
        let rounds = self.left.len().div_ceil(WORKERS_PER_ROUND);
        let left = self.period_ends.saturating_duration_since(now);
        // The remaining workers are spread over the rest of the period.
        let pause = left / u32::try_from(rounds + 1).unwrap_or(u32::MAX);
        self.next = Some(now + if rounds == 0 { left } else { pause });
        let measured = looked_at.into_iter().filter_map(|pid| {
            Some(Event::Heard { pid: core_pid(pid), report: Report::Rss(memory(pid)?.resident) })
        });
        measured.collect()
    }
}
