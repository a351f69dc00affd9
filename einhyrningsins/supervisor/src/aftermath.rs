//! Rollouts that have ended: whoever waits for their reports, and what became of the workers that they replaced.
//!
//! A rollout ends with its last ack, and the next one may begin at once. Its report is given when the workers that it
//! replaced have gone and it is settled what they have left behind, or `Policy::report_wait` later: by then it is mostly
//! known whether they drained. Where that is zero, it is given at once, without what is not known yet. The last rollout stays
//! here, for `status`.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use einhorn_proto::{LastReply, LastUpgrade, Notice, UpgradeReport};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{Action, Generation, RequestKey, WorkerId};
use super::leftovers::Leftovers;
use super::moment::{Moment, milliseconds};
use super::plan::Waiter;
use super::pool::Pool;
use super::tables::{Tables, count};

/// The rollouts that have ended, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Aftermath(VecDeque<Ended>);

/// A rollout that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) report: UpgradeReport,
    /// The generation that served before.
    #[serde(default)]
    pub(crate) from: Generation,
    /// Its end as it was logged.
    pub(crate) notice: Notice,
    /// Who waits for the report.
    pub(crate) waiters: Vec<Waiter>,
    /// The workers that it replaced and that have not gone.
    pub(crate) old: BTreeSet<WorkerId>,
    pub(crate) ended_at: Moment,
    /// When the report can wait no longer although some of those are there; `None` for never.
    pub(crate) report_at: Option<Moment>,
    pub(crate) is_reported: bool,
}

impl Ended {
    /// Whether its report waits for nothing: not for the workers, and not until it is settled what they have left behind.
    pub(crate) fn is_at_once(&self) -> bool {
        self.report_at == Some(Moment::default())
    }

    fn has_waited(&self, reached: Moment) -> bool {
        !self.is_reported && self.report_at.is_some_and(|at| at <= reached)
    }

    /// Nobody waits for a worker that is out of reach: it may never go. One that has gone is here until it is settled what it
    /// has left behind, and a look at that is always answered.
    fn is_due(&self, reached: Moment, pool: &Pool, leftovers: &Leftovers) -> bool {
        let is_settled = || leftovers.untold().all(|(worker, _)| !self.old.contains(&worker));
        let is_alone = || self.old.is_subset(&pool.out_of_reach);
        let is_in_time = self.has_waited(reached) && (self.is_at_once() || is_settled());
        !self.is_reported && (is_in_time || is_alone())
    }
}

impl Aftermath {
    pub(crate) fn add(&mut self, ended: Ended) {
        self.0.push_back(ended);
        self.drop_reported();
    }

    /// Nobody asks any more for a rollout whose report was given, except for the last one.
    fn drop_reported(&mut self) {
        let last = self.0.pop_back();
        self.0.retain(|ended| !ended.is_reported);
        self.0.extend(last);
    }

    /// The rollouts whose report was not given yet.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Ended> {
        self.0.iter().filter(|ended| !ended.is_reported)
    }

    /// Whether a report cannot wait any longer until it is settled what this worker has left behind.
    pub(crate) fn is_overdue(&self, reached: Moment, worker: WorkerId) -> bool {
        let mut hurried = self.0.iter().filter(|ended| ended.has_waited(reached) && !ended.is_at_once());
        hurried.any(|ended| ended.old.contains(&worker))
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.pending().filter_map(|ended| ended.report_at).min()
    }

    /// A worker has gone.
    pub(crate) fn gone(&mut self, id: WorkerId) {
        for ended in &mut self.0 {
            ended.old.remove(&id);
        }
    }

    /// No report waits any more: the master stops.
    pub(crate) fn hurry(&mut self) {
        for ended in &mut self.0 {
            ended.report_at = Some(Moment::default());
        }
    }

    /// Nobody waits for the answer to `request` any more. A report that nobody waits for comes at `now` at the latest.
    pub(crate) fn abandon(&mut self, request: RequestKey, now: Moment) {
        for ended in &mut self.0 {
            ended.waiters.retain(|waiter| waiter.request != request);
            if ended.waiters.is_empty() {
                ended.report_at.get_or_insert(now);
            }
        }
    }

    /// The rollout that replaced this worker, while that has not gone.
    fn of_worker(&mut self, id: WorkerId) -> Option<&mut Ended> {
        self.0.iter_mut().rev().find(|ended| ended.old.contains(&id))
    }

    /// The last rollout that has ended.
    pub(crate) fn last(&self, now: Moment) -> Option<LastUpgrade> {
        let ended = self.0.back()?;
        let report = UpgradeReport { draining: count(ended.old.len()), ..ended.report.clone() };
        Some(LastUpgrade { report, ended_ms: milliseconds(now - ended.ended_at) })
    }
}

impl Tables {
    /// The place of the first report that is due.
    pub(crate) fn due_report(&self, reached: Moment) -> Option<usize> {
        let Self { aftermath, pool, leftovers, .. } = self;
        aftermath.0.iter().position(|ended| ended.is_due(reached, pool, leftovers))
    }
}

impl Supervisor {
    /// Tells something of a worker. If that was replaced, it is part of the report of the rollout that did so.
    pub(crate) fn tell_of(&mut self, id: WorkerId, generation: Generation, notice: Notice) {
        let mut requests = Vec::new();
        if let Some(ended) = self.tables.aftermath.of_worker(id) {
            ended.report.left.note(&notice);
            requests.extend(ended.waiters.iter().map(|waiter| waiter.request));
        } else if let Some(rollout) = self.tables.plan.rollout_mut()
            && generation != rollout.target()
        {
            rollout.note(&notice);
        }
        self.tell_to(requests, notice);
    }

    /// Gives the first report that is due.
    pub(crate) fn give_report(&mut self) {
        let Some(at) = self.tables.due_report(self.reached) else { return };
        let Some(ended) = self.tables.aftermath.0.get_mut(at) else { return };
        ended.is_reported = true;
        ended.report.draining = count(ended.old.len());
        let (report, mut notice, from) = (Box::new(ended.report.clone()), ended.notice.clone(), ended.from);
        if let Notice::UpgradeDone { draining, .. } = &mut notice {
            *draining = report.draining;
        }
        let waiters = core::mem::take(&mut ended.waiters);
        // `status` would be as long as what the worker wrote.
        if let Some(death) = &mut ended.report.death {
            death.stderr_tail = Vec::new();
        }
        self.tables.aftermath.drop_reported();
        self.tell(Notice::UpgradeReported(report.clone()));
        if report.left.is_serving() {
            let (generation, listening) = (Generation(report.generation), report.left.listening);
            self.actions.push(Action::RecordListening { generation, from, listening });
        }
        for waiter in waiters {
            let ok = report.outcome == waiter.wants && !report.left.is_serving();
            let (report, notice) = (report.clone(), notice.clone());
            self.reply(Some(waiter.request), LastReply::Upgrade { ok, report, notice });
        }
    }
}
