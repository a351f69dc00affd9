//! Child processes: signals to them, and their exits.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};

use einhorn_proto::{SignalReason, Termination};
use einhyrningsins_supervisor::{Ask, Event, Report, Signal, Supervisor};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::ready::Ready;
use crate::forms::{core_pid, system_pid, system_signal};
use crate::logging::Log;
use crate::sys::group::signal_led_by;
use crate::sys::oom::OomKills;
use crate::sys::peer::{self, SinceBoot};
use crate::sys::reap::{Change, is_child, next_change};
use crate::workers::Shown;

/// Changes of children taken up in one round of the loop: a death takes some 50 microseconds. A child that is suspended and
/// resumed all the time has no end of them.
const CHANGES_MAX: usize = 128;

/// From one look at all children to the next it takes so long for each of them. The look costs the kernel a thirtieth of that.
const LOOK_EVERY: Duration = Duration::from_micros(3);

/// A shorter time than this is not worth a wait.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(2);

/// Stop signals after which a process is not resumed: it is to stay suspended, or cannot stay.
const WITHOUT_CONT: &[Signal] = &[Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGKILL];

#[derive(Debug)]
pub(super) struct Children {
    oom_kills: OomKills,
    /// Those that this image has spawned, and a time just before that.
    spawned: HashMap<Pid, SinceBoot>,
    /// Those that were sent SIGKILL.
    killed: HashSet<Pid>,
    /// Children that are gone, although the core may have asked for signals to them; and when they started.
    unseen: HashMap<Pid, SinceBoot>,
    /// When all were last looked at.
    looked_at: Instant,
    /// When to look at all of them.
    look_at: Option<Instant>,
}

/// The workers, as the kernel has them: the core may take a child for one that has just been reaped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Census<'a> {
    pub(super) core: &'a Supervisor,
    pub(super) children: &'a Children,
}

impl peer::Workers for Census<'_> {
    fn has(&self, pid: Pid) -> bool {
        self.core.is_worker(core_pid(pid)) && !self.children.unseen.contains_key(&pid)
    }

    fn last_heard_of(&self, pid: Pid) -> Option<SinceBoot> {
        self.children.unseen.get(&pid).copied().filter(|_| self.core.is_worker(core_pid(pid)))
    }
}

impl Children {
    pub(super) fn new() -> Self {
        Self {
            oom_kills: OomKills::new(),
            spawned: HashMap::new(),
            killed: HashSet::new(),
            unseen: HashMap::new(),
            looked_at: Instant::now(),
            look_at: None,
        }
    }

    /// When to look at all children.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Takes up what has become of children, a bounded number of changes; `before_reap` gets each that has ended before it is
    /// reaped. Those that have ended get no signal any more: call [`Self::are_seen`] once the core knows of all, and all that
    /// it had asked for before was carried out.
    ///
    /// Of children that change at the same time, a single SIGCHLD names only one. That one is asked for at once; all are looked
    /// at in addition, a few milliseconds later if there are thousands.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        live: usize,
        ready: &mut Ready,
        mut before_reap: impl FnMut(Pid),
        log: &mut Log,
    ) -> Vec<(Pid, Change)> {
        if !ready.named_children.is_empty() {
            let every = LOOK_EVERY * u32::try_from(live).unwrap_or(u32::MAX);
            let next = if every < LOOK_EVERY_MIN { now } else { self.looked_at + every };
            self.look_at.get_or_insert(next);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            ready.children = true;
        }
        let mut changes = Vec::new();
        let mut next_change = |of| {
            let change = next_change(of, |pid| {
                let spawned_at = self.spawned.remove(&pid).or_else(|| peer::started(pid));
                self.unseen.insert(pid, spawned_at.unwrap_or(SinceBoot::ZERO));
                before_reap(pid);
            });
            change.unwrap_or_else(|errno| {
                log.error(format_args!("cannot reap children: {}", io::Error::from(errno)));
                None
            })
        };
        for pid in ready.named_children.drain(..) {
            changes.extend(next_change(Some(pid)));
        }
        if ready.children {
            self.look_at = None;
            while ready.children && changes.len() < CHANGES_MAX {
                let change = next_change(None);
                ready.children = change.is_some();
                changes.extend(change);
            }
            if !ready.children {
                self.looked_at = now;
            }
        }
        changes.iter_mut().for_each(|(pid, change)| self.account_for(*pid, change));
        changes
    }

    /// Notes whether the kernel killed a child for want of memory.
    fn account_for(&mut self, pid: Pid, change: &mut Change) {
        let Change::Ended(termination) = change else { return };
        let was_killed = self.killed.remove(&pid);
        if let Termination::Killed { signal, out_of_memory, .. } = termination
            && signal == Signal::SIGKILL.as_str()
            && !was_killed
        {
            *out_of_memory = self.oom_kills.take_one();
        }
    }

    /// Asks a worker to stop, or its whole group, unless its pid may have been reused, and says what came of it.
    pub(super) fn stop(
        &mut self,
        pid: Pid,
        ask: Ask,
        process: &Shown<'_>,
        is_for_group: bool,
    ) -> Option<Event> {
        let (signal, reason) = match ask {
            Ask::With(signal) => (signal, SignalReason::Set),
            Ask::ByConvention(convention) => convention.choose(process),
        };
        if self.unseen.contains_key(&pid) {
            return None;
        }
        let ending = process.ending_by(signal);
        let failed = self.send(pid, signal, is_for_group);
        if failed.is_none() && !WITHOUT_CONT.contains(&signal) {
            // One that is suspended would hear of it only when somebody else resumes it.
            let _ = self.send(pid, Signal::SIGCONT, is_for_group);
        }
        failed.or_else(|| Some(heard(pid, Report::StopSent { signal, reason, ending })))
    }

    /// Sends a signal to a worker, unless its pid may have been reused, and says so if that fails.
    pub(super) fn signal(&mut self, pid: Pid, signal: Signal) -> Option<Event> {
        if self.unseen.contains_key(&pid) { None } else { self.send(pid, signal, false) }
    }

    /// Whether the master may signal a worker.
    ///
    /// # Errors
    /// Why not: EPERM, or EACCES from a security module.
    pub(super) fn may_signal(&self, pid: Pid) -> Result<(), Errno> {
        match kill(pid, None) {
            Err(errno @ (Errno::EPERM | Errno::EACCES)) => Err(errno),
            _ => Ok(()),
        }
    }

    fn send(&mut self, pid: Pid, signal: Signal, is_for_group: bool) -> Option<Event> {
        if signal == Signal::SIGKILL {
            self.killed.insert(pid);
        }
        let system_signal = system_signal(signal);
        let sent = if is_for_group { signal_led_by(pid, system_signal) } else { kill(pid, system_signal) };
        let reason = io::Error::from(sent.err()?).to_string();
        Some(heard(pid, Report::SignalFailed { signal, reason }))
    }

    /// Workers that another program reaped while it ran between two images. The consequences of the first death
    /// must not signal the second worker: call [`Self::are_seen`] once the core knows of all.
    pub(super) fn find_unseen(&mut self, core: &Supervisor) -> Vec<Pid> {
        let gone: Vec<_> = core.pids().map(system_pid).filter(|pid| !is_child(*pid)).collect();
        self.unseen.extend(gone.iter().map(|pid| (*pid, SinceBoot::ZERO)));
        gone
    }

    pub(super) fn are_seen(&mut self) {
        self.unseen.clear();
    }

    /// A worker was spawned after this time. Returns whether a child that is gone, and not seen to be, had the same pid.
    pub(super) fn on_spawned(&mut self, pid: Pid, after: SinceBoot) -> bool {
        self.spawned.insert(pid, after);
        self.unseen.remove(&pid).is_some()
    }
}

/// What was heard of a worker, for the core.
pub(super) fn heard(pid: Pid, report: Report) -> Event {
    Event::Heard { pid: core_pid(pid), report }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use einhorn_proto::Severity;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    use super::*;
    use crate::cli::LogFormat;
    use crate::config::LogConfig;
    use crate::sys::testing::isolated;

    fn log() -> Log {
        let (verbosity, format) = (Severity::Error, LogFormat::Text);
        Log::open(LogConfig { verbosity, format, syslog: false, file: None, has_colours: None })
    }

    /// Children that have exited and that nobody has reaped.
    fn exited<const N: usize>() -> [Pid; N] {
        [(); N].map(|()| {
            let pid = Pid::from_raw(Command::new("/bin/true").spawn().unwrap().id() as i32);
            waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
            pid
        })
    }

    #[test]
    fn the_child_that_is_named_is_reaped_at_once_and_of_thousands_the_others_soon() {
        const NAME: &str = "the_child_that_is_named_is_reaped_at_once_and_of_thousands_the_others_soon";
        isolated(&format!("master::children::tests::{NAME}"), || {
            let (mut log, mut ready, mut children) = (log(), Ready::default(), Children::new());
            let mut reaped = |now, live, named: &[Pid]| {
                ready.named_children.extend(named);
                let changes = children.turn(now, live, &mut ready, |_| (), &mut log);
                let pids: Vec<_> = changes.into_iter().map(|(pid, _)| pid).collect();
                (pids, children.deadline())
            };
            let now = Instant::now();
            let [first, second] = exited();
            assert_eq!(reaped(now, 4, &[second]), (vec![second, first], None));
            let [first, second, third] = exited();
            let (pids, next) = reaped(now, 10_000, &[second]);
            assert_eq!(pids, [second]);
            let next = next.unwrap();
            assert!(next > now && next < now + Duration::from_millis(100));
            assert_eq!(reaped(next, 10_000, &[]), (vec![first, third], None));
        });
    }
}
