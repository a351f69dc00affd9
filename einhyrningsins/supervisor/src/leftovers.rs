//! What workers have left behind: processes of their groups that have outlived them.
//!
//! A worker leads its own process group, and a server that it starts as another process belongs to that group. The shell
//! checks now and then which members are left. A group has `SETTLE` to go by itself, or less if a report or the end of the
//! master cannot wait; what is there at the last check of that time counts as left behind. With `Policy::stop_group`, the
//! group gets the stop signal together with the worker, has the same grace period, and a stop of the master waits for it.
//! Without, it is only shown. So is what has left the group and holds a listener, which no signal to the group reaches.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use einhorn_proto::{Ignored, LeftoverStatus, Notice};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{Action, Generation, SlotNumber, WorkerId, shown};
use super::moment::{Moment, milliseconds};
use super::rules::Step;
use super::signal::{Pid, Signal};
use super::worker::{Process, Stops, Worker};

/// How often somebody looks who is left. Source: this program; einhyrningsins(1), `--stop-group`.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// When the first look is, after the worker has exited. Until it is settled what is left behind, the next one comes after
/// twice the time. Source: this program.
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// How long a group may outlive its leader before it counts as left behind: a script that is asked to stop leaves the
/// `sleep` behind that it waits for. Source: this program; as long as a report waits.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// How many groups are followed. A program that leaves one behind each time has no end of them.
pub const LEFTOVERS_MAX: usize = 64;

/// The groups that have outlived their leaders, by those.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leftovers {
    groups: BTreeMap<Pid, Leftover>,
    #[serde(skip)]
    deadlines: BTreeSet<(Moment, Step)>,
}

/// A group that has outlived its leader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leftover {
    worker: WorkerId,
    slot: Option<SlotNumber>,
    generation: Generation,
    /// Whether it was said that there is something left.
    is_told: bool,
    /// From then on, what a look finds counts as left behind.
    #[serde(default)]
    settle_at: Moment,
    members: Vec<Pid>,
    listens: bool,
    /// Whether it is a group. If not, no signal reaches it, and nothing waits for it.
    #[serde(default = "yes")]
    is_group: bool,
    since: Moment,
    look_at: Moment,
    kill_at: Option<Moment>,
    /// The stop signals that it got.
    pub(crate) stops: Stops,
}

/// Before format 3, only groups were followed.
fn yes() -> bool {
    true
}

impl Leftover {
    #[cfg(test)]
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    #[cfg(test)]
    pub(crate) fn worker(&self) -> WorkerId {
        self.worker
    }

    #[cfg(test)]
    pub(crate) fn settle_at(&self) -> Moment {
        self.settle_at
    }

    /// When to look again, after a look `now`.
    fn next_look(&self, now: Moment) -> Moment {
        if now < self.settle_at {
            (now + (now - self.since).max(FIRST_LOOK)).min(self.settle_at)
        } else {
            now + LOOK_EVERY
        }
    }

    pub(crate) fn deadlines(&self, leader: Pid) -> impl Iterator<Item = (Moment, Step)> {
        let kill = self.kill_at.map(|at| (at, Step::KillGroup(leader)));
        kill.into_iter().chain([(self.look_at, Step::Look(leader))])
    }
}

impl Leftovers {
    /// Takes up what was written down.
    pub(crate) fn restore(mut self) -> Self {
        self.deadlines = self.all_deadlines();
        self
    }

    fn all_deadlines(&self) -> BTreeSet<(Moment, Step)> {
        self.groups.iter().flat_map(|(leader, leftover)| leftover.deadlines(*leader)).collect()
    }

    pub(crate) fn is_indexed(&self) -> bool {
        self.deadlines == self.all_deadlines()
    }

    /// Whether a trial worker has left something behind.
    pub(crate) fn has_trial(&self) -> bool {
        self.groups.values().any(|leftover| leftover.slot.is_none())
    }

    /// Whether a group of one of these generations is left that stop signals reach.
    pub(crate) fn has_groups(&self, is_stopped: impl Fn(Generation) -> bool) -> bool {
        self.groups.values().any(|leftover| leftover.is_group && is_stopped(leftover.generation))
    }

    /// The generations whose workers have left something behind.
    pub(crate) fn generations(&self) -> impl Iterator<Item = Generation> {
        self.groups.values().map(|leftover| leftover.generation)
    }

    /// The workers, and their generations, of which it is not known yet whether they leave anything.
    pub(crate) fn untold(&self) -> impl Iterator<Item = (WorkerId, Generation)> {
        let untold = self.groups.values().filter(|leftover| !leftover.is_told);
        untold.map(|leftover| (leftover.worker, leftover.generation))
    }

    /// The first group that cannot wait for the end of its time if no more than `reached` of that is over, and that one of
    /// these workers has left.
    pub(crate) fn unsettled(&self, reached: Moment, is_of: impl Fn(WorkerId) -> bool) -> Option<Pid> {
        let mut groups = self.groups.iter();
        let found = groups.find(|(_, left)| !left.is_told && left.settle_at > reached && is_of(left.worker));
        found.map(|(leader, _)| *leader)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pid, &Leftover)> {
        self.groups.iter().map(|(leader, leftover)| (*leader, leftover))
    }

    /// The first thing that is to happen to one, and when.
    pub(crate) fn next(&self) -> Option<(Moment, Step)> {
        self.deadlines.first().copied()
    }

    /// The one way to change what is followed, which keeps the deadlines.
    fn put(&mut self, leader: Pid, leftover: Option<Leftover>) {
        let old = self.groups.remove(&leader);
        let gone = old.iter().flat_map(|old| old.deadlines(leader));
        gone.for_each(|deadline| _ = self.deadlines.remove(&deadline));
        if let Some(leftover) = leftover {
            self.deadlines.extend(leftover.deadlines(leader));
            self.groups.insert(leader, leftover);
        }
    }

    fn change(&mut self, leader: Pid, change: impl FnOnce(&mut Leftover)) {
        if let Some(mut leftover) = self.groups.get(&leader).cloned() {
            change(&mut leftover);
            self.put(leader, Some(leftover));
        }
    }

    /// Counts the grace period of the groups of these generations anew, from when the leader exited.
    pub(crate) fn restart_grace(&mut self, grace: Duration, is_stopped: impl Fn(Generation) -> bool) {
        let stopped = self.groups.iter().filter(|(_, leftover)| is_stopped(leftover.generation));
        let leaders: Vec<_> = stopped.map(|(leader, _)| *leader).collect();
        for leader in leaders {
            self.change(leader, |leftover| {
                let is_to_kill = leftover.is_group && !leftover.stops.has(Signal::SIGKILL);
                leftover.kill_at = is_to_kill.then_some(leftover.since + grace);
            });
        }
    }

    /// For so long nobody ran.
    pub(crate) fn postpone(&mut self, by: Duration) {
        let leaders: Vec<_> = self.groups.keys().copied().collect();
        for leader in leaders {
            self.change(leader, |leftover| {
                leftover.since += by;
                leftover.settle_at += by;
                leftover.kill_at = leftover.kill_at.map(|at| at + by);
            });
        }
    }

    /// Whether something must be gone by some time.
    pub(crate) fn is_timed(&self) -> bool {
        self.groups.values().any(|leftover| leftover.kill_at.is_some())
    }

    pub(crate) fn statuses(&self, now: Moment) -> Vec<LeftoverStatus> {
        let status = |(leader, leftover): (&Pid, &Leftover)| LeftoverStatus {
            slot: shown(leftover.slot),
            pid: leader.as_raw(),
            generation: leftover.generation.0,
            members: leftover.members.iter().map(|pid| pid.as_raw()).collect(),
            listens: leftover.listens,
            age_ms: milliseconds(now - leftover.since),
        };
        self.groups.iter().filter(|(_, leftover)| leftover.is_told).map(status).collect()
    }
}

impl Supervisor {
    /// A worker has exited, and these are left of its group, or elsewhere.
    pub(crate) fn follow_group(
        &mut self,
        process: Process,
        members: Vec<Pid>,
        listens: bool,
        is_group: bool,
    ) {
        let Process { id, slot, pid: leader, generation } = process;
        // What is no group does not keep the number of its worker from being given out again.
        if let Some(known) = self.tables.leftovers.groups.get(&leader) {
            self.tell_leftovers(known.worker);
        }
        if self.tables.leftovers.groups.len() >= LEFTOVERS_MAX {
            return self.tell_left_behind(process, &members, listens);
        }
        let drain = self.tables.pool.worker(id).and_then(Worker::drain);
        let (since, look_at) = (self.now, self.now + FIRST_LOOK);
        let terms = self.tables.terms(generation);
        let is_stopped = terms.stop_group && is_group;
        let stops = drain.map(|drain| drain.sent).unwrap_or_default();
        let is_to_kill = is_stopped && !stops.has(Signal::SIGKILL);
        let kill_at = self.tables.policy.grace.filter(|_| is_to_kill).map(|grace| since + grace);
        let leftover = Leftover {
            worker: id,
            slot,
            generation,
            is_told: false,
            settle_at: since + SETTLE,
            members,
            listens,
            is_group,
            since,
            look_at,
            kill_at,
            stops,
        };
        self.tables.leftovers.put(leader, Some(leftover));
        if is_stopped && stops == Stops::default() {
            self.stop_group(leader, terms.graceful_signal.unwrap_or(Signal::SIGTERM));
        }
    }

    /// A worker has left these behind.
    pub(crate) fn tell_left_behind(&mut self, process: Process, members: &[Pid], listens: bool) {
        let Process { id, slot, pid, generation } = process;
        let (slot, pid, members) =
            (shown(slot), pid.as_raw(), members.iter().map(|pid| pid.as_raw()).collect());
        let notice = Notice::LeftBehind { slot, pid, generation: generation.0, members, listens };
        self.tell_of(id, generation, notice);
    }

    /// Somebody has looked who is left of a group.
    pub(crate) fn on_group_seen(&mut self, leader: Pid, members: Vec<Pid>, listens: bool) {
        let Some(known) = self.tables.leftovers.groups.get(&leader) else {
            return self.ignore(&Ignored::NoWorker { pid: leader.as_raw(), what: "leftovers" });
        };
        let (worker, slot, generation, was_told) =
            (known.worker, known.slot, known.generation, known.is_told);
        if members.is_empty() {
            self.tables.leftovers.put(leader, None);
            if was_told {
                let (slot, pid, generation) = (shown(slot), leader.as_raw(), generation.0);
                self.tell(Notice::LeftoversGone { slot, pid, generation });
            }
            self.tables.aftermath.gone(worker);
        } else {
            self.tables.leftovers.change(leader, |leftover| {
                leftover.members = members;
                leftover.listens = listens;
            });
            let left = self.tables.leftovers.groups.get(&leader);
            if left.is_some_and(|left| left.settle_at <= self.now) {
                self.tell_leftovers(worker);
            }
        }
    }

    /// Says what each worker has left behind, by the last look.
    pub(crate) fn tell_all_leftovers(&mut self) {
        let untold: Vec<_> = self.tables.leftovers.untold().map(|(worker, _)| worker).collect();
        untold.into_iter().for_each(|worker| self.tell_leftovers(worker));
    }

    fn tell_leftovers(&mut self, worker: WorkerId) {
        let mut untold = self.tables.leftovers.groups.iter().filter(|(_, leftover)| !leftover.is_told);
        let Some((leader, leftover)) = untold.find(|(_, leftover)| leftover.worker == worker) else { return };
        let (pid, Leftover { slot, generation, members, listens, .. }) = (*leader, leftover.clone());
        self.tables.leftovers.change(pid, |leftover| leftover.is_told = true);
        self.tell_left_behind(Process { id: worker, slot, pid, generation }, &members, listens);
        self.tables.aftermath.gone(worker);
    }

    pub(crate) fn look_at_group(&mut self, group: Pid) {
        let now = self.now;
        self.tables.leftovers.change(group, |leftover| leftover.look_at = leftover.next_look(now));
        self.actions.push(Action::Look { group });
    }

    /// What is there now of a group counts as left behind.
    pub(crate) fn settle_group(&mut self, group: Pid) {
        let reached = self.reached;
        self.tables.leftovers.change(group, |leftover| leftover.settle_at = leftover.settle_at.min(reached));
        self.look_at_group(group);
    }

    /// Has a stop signal sent to what is left of a group, once. What has to be killed does not go by itself.
    pub(crate) fn stop_group(&mut self, group: Pid, signal: Signal) {
        let is_told = self.tables.leftovers.groups.get(&group).is_none_or(|leftover| leftover.is_told);
        if signal == Signal::SIGKILL && !is_told {
            self.settle_group(group);
        }
        self.tables.leftovers.change(group, |leftover| {
            leftover.stops = leftover.stops.with(signal);
            if signal == Signal::SIGKILL {
                leftover.kill_at = None;
            }
        });
        self.actions.push(Action::StopGroup { group, signal });
    }

    /// Takes the stop of each group one step further.
    pub(crate) fn press_groups(&mut self) {
        let is_stopped =
            |leftover: &Leftover| leftover.is_group && self.tables.terms(leftover.generation).stop_group;
        let groups = self.tables.leftovers.groups.iter().filter(|(_, leftover)| is_stopped(leftover));
        let next: Vec<_> =
            groups.filter_map(|(group, leftover)| Some((*group, leftover.stops.next()?))).collect();
        next.into_iter().for_each(|(group, signal)| self.stop_group(group, signal));
    }
}
