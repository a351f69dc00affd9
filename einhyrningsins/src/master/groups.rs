//! The process groups of workers: signals to whole groups, and what workers leave behind in them.
//!
//! A worker leads its own group. With `--stop-group`, this is opened between the worker's end and its reap, so that what is
//! left can be signalled later, and nothing else. What has left the group is only looked at. The core decides what becomes
//! of both.

use std::collections::BTreeMap;
use std::io;

use einhyrningsins_supervisor::{Event, Generation, LEFTOVERS_MAX, Report};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::children::heard;
use super::listeners::Listeners;
use crate::forms::core_pid;
use crate::logging::Log;
use crate::sys::group::{self, Group, Held};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Groups {
    /// Those that have outlived their leaders, by those.
    left: BTreeMap<i32, Group>,
    /// What workers whose groups are empty had started in other groups, and that held a listener, by those workers.
    #[serde(default)]
    strays: BTreeMap<i32, Vec<Held>>,
    /// Those of children that have just ended.
    #[serde(skip)]
    ending: BTreeMap<Pid, io::Result<Group>>,
    /// What workers that were asked to stop had started in other groups.
    #[serde(skip)]
    elsewhere: BTreeMap<Pid, Vec<Held>>,
    /// The last generation whose workers had started nobody elsewhere.
    #[serde(skip)]
    alone: Option<Generation>,
}

impl Groups {
    /// A worker is about to be asked to stop. The workers of a release do alike: if the first one has nobody elsewhere, the
    /// others are not asked.
    pub(super) fn before_stop(&mut self, worker: Pid, generation: Generation) {
        if self.alone == Some(generation) {
            return;
        }
        let elsewhere = group::children_elsewhere(worker);
        if elsewhere.is_empty() {
            self.alone = Some(generation);
        } else {
            self.elsewhere.insert(worker, elsewhere);
        }
    }

    /// A child has ended, and is about to be reaped.
    pub(super) fn before_reap(&mut self, pid: Pid) {
        self.ending.insert(pid, Group::open(pid));
    }

    /// Says what a worker has left behind.
    pub(super) fn bury(&mut self, worker: Pid, listeners: &Listeners, log: &mut Log) -> Option<Event> {
        let (opened, elsewhere) = (self.ending.remove(&worker), self.elsewhere.remove(&worker));
        if group::has_members(worker)
            && let (members, listens) = look(worker, listeners)
            && !members.is_empty()
        {
            self.strays.remove(&worker.as_raw());
            let is_group = match opened.unwrap_or_else(|| Group::open_each(worker)) {
                Ok(group) => {
                    if self.left.len() < LEFTOVERS_MAX {
                        self.left.insert(worker.as_raw(), group);
                    }
                    true
                }
                Err(error) => {
                    log.warn(format_args!("what worker {worker} left behind cannot be stopped: {error}"));
                    false
                }
            };
            return Some(heard(worker, Report::LeftBehind { members, listens, is_group }));
        }
        // What has left the group may live on for good reason, unless it listens.
        let strays: Vec<_> = listening(elsewhere?, listeners).collect();
        let members: Vec<_> = strays.iter().map(|held| core_pid(held.pid)).collect();
        if members.is_empty() {
            return None;
        }
        if self.strays.len() < LEFTOVERS_MAX {
            self.strays.insert(worker.as_raw(), strays);
        }
        Some(heard(worker, Report::LeftBehind { members, listens: true, is_group: false }))
    }

    /// Every child that has ended was buried.
    pub(super) fn are_buried(&mut self) {
        self.ending.clear();
    }

    pub(super) fn signal(&self, group: Pid, signal: Signal, log: &mut Log) {
        let sent = self.left.get(&group.as_raw()).map_or(Ok(()), |left| left.signal(Some(signal)));
        match sent {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => log.warn(format_args!(
                "cannot send {signal} to what worker {group} left behind: {}",
                io::Error::from(errno)
            )),
        }
    }

    /// Says who is left of a group, or of what has left it.
    pub(super) fn look(&mut self, group: Pid, listeners: &Listeners) -> Event {
        let leader = group.as_raw();
        let (members, listens) = if let Some(strays) = self.strays.remove(&leader) {
            let strays: Vec<_> = listening(strays, listeners).collect();
            let members: Vec<_> = strays.iter().map(|held| core_pid(held.pid)).collect();
            let listens = !members.is_empty();
            self.strays.extend(listens.then_some((leader, strays)));
            (members, listens)
        } else if self.left.get(&leader).is_none_or(|left| left.signal(None) != Err(Errno::ESRCH)) {
            // Without descriptors, by the number of the group, which may be another's by now: only to show it.
            look(group, listeners)
        } else {
            (Vec::new(), false)
        };
        if members.is_empty() {
            self.left.remove(&leader);
        }
        Event::GroupSeen { group: core_pid(group), members, listens }
    }
}

/// Those that live and hold a listener.
fn listening(held: Vec<Held>, listeners: &Listeners) -> impl Iterator<Item = Held> {
    let inodes = listeners.inodes();
    held.into_iter().filter(move |held| group::holds_any(held.pid, &inodes) && held.is_alive())
}

fn look(group: Pid, listeners: &Listeners) -> (Vec<einhyrningsins_supervisor::Pid>, bool) {
    let (members, inodes) = (group::members(group), listeners.inodes());
    let listens = members.iter().any(|member| group::holds_any(*member, &inodes));
    (members.into_iter().map(core_pid).collect(), listens)
}
