//! Child processes: signals to them, and their exits.

use std::collections::{HashMap, HashSet};
use std::io;

use einhorn_proto::{SignalReason, Termination};
use einhyrningsins_supervisor::{Ask, Event, Report, Signal, Supervisor};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::groups::Groups;
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

/// Stop signals after which a process is not resumed: it is to stay suspended, or cannot stay.
const WITHOUT_CONT: &[Signal] = &[Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGKILL];

#[derive(Debug)]
pub(super) struct Children {
    oom_kills: OomKills,
    /// Those that were sent SIGKILL.
    killed: HashSet<Pid>,
    /// Children that are gone, although the core may have asked for signals to them; and when they started.
    unseen: HashMap<Pid, SinceBoot>,
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
        Self { oom_kills: OomKills::new(), killed: HashSet::new(), unseen: HashMap::new() }
    }

    /// Takes up what has become of children, a bounded number of changes; `groups` hears of each that has ended before it is
    /// reaped. Those that have ended get no signal any more: call [`Self::are_seen`] once the core knows of all, and all that
    /// it had asked for before was carried out.
    pub(super) fn turn(
        &mut self,
        ready: &mut Ready,
        mut groups: Option<&mut Groups>,
        log: &mut Log,
    ) -> Vec<(Pid, Change)> {
        let mut changes = Vec::new();
        let mut before_reap = |pid| {
            self.unseen.insert(pid, peer::started(pid).unwrap_or(SinceBoot::ZERO));
            if let Some(groups) = &mut groups {
                groups.before_reap(pid);
            }
        };
        while ready.children && changes.len() < CHANGES_MAX {
            match next_change(&mut before_reap) {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => ready.children = false,
                Err(errno) => {
                    log.error(format_args!("cannot reap children: {}", io::Error::from(errno)));
                    ready.children = false;
                }
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

    /// A child was spawned. Returns whether one that is gone, and not seen to be, had the same pid.
    pub(super) fn has_reused(&mut self, pid: Pid) -> bool {
        self.unseen.remove(&pid).is_some()
    }
}

/// What was heard of a worker, for the core.
pub(super) fn heard(pid: Pid, report: Report) -> Event {
    Event::Heard { pid: core_pid(pid), report }
}
