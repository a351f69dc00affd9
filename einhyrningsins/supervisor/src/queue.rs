//! Upgrades that were asked for and have not begun: those that the shell prepares, and those that wait for the one
//! that runs.
//!
//! They wait first come, first served. SIGHUP has no client that could try again, so it always waits: any number of
//! them merge into one, which comes last. When the next one begins is decided in `rules/queue.rs`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use einhorn_proto::{LastReply, NotStarted, Notice, Refusal, Requester};
use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::event::{Action, RequestKey, UpgradePlan};
use super::signal::Pid;

/// How many upgrades may wait, SIGHUP not counted. Source: this program; einhyrningsinsctl(1), `upgrade --wait`.
const WAITING_MAX: usize = 16;

/// Upgrades that have not begun.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// How many the shell prepares: it may replace the master first.
    preparing: u32,
    waiting: VecDeque<(Option<RequestKey>, UpgradePlan)>,
    /// Whether SIGHUP asked for one.
    is_hung_up: bool,
    /// Who sent the first of those SIGHUPs.
    #[serde(default)]
    hung_up_by: Requester,
}

impl Queue {
    pub(crate) fn is_preparing(&self) -> bool {
        self.preparing > 0
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.is_hung_up)
    }

    #[cfg(test)]
    pub(crate) fn is_hung_up(&self) -> bool {
        self.is_hung_up
    }

    /// The requests of those that wait.
    #[cfg(test)]
    pub(crate) fn requests(&self) -> impl Iterator<Item = RequestKey> {
        self.waiting.iter().filter_map(|(request, _)| *request)
    }

    /// Nobody waits for the answer to `request` any more. What it asked for still counts.
    pub(crate) fn abandon(&mut self, request: RequestKey) {
        for (waiting, _) in &mut self.waiting {
            waiting.take_if(|waiting| *waiting == request);
        }
    }

    /// The shell has prepared an upgrade, or cannot.
    pub(crate) fn prepared(&mut self) {
        self.preparing = self.preparing.saturating_sub(1);
    }

    fn take_next(&mut self) -> Option<(Option<RequestKey>, UpgradePlan)> {
        self.waiting.pop_front().or_else(|| self.take_hangup())
    }

    fn take_hangup(&mut self) -> Option<(Option<RequestKey>, UpgradePlan)> {
        let requester = core::mem::take(&mut self.hung_up_by);
        core::mem::take(&mut self.is_hung_up)
            .then_some((None, UpgradePlan { requester, ..UpgradePlan::default() }))
    }

    fn hang_up(&mut self, requester: Requester) {
        if !core::mem::replace(&mut self.is_hung_up, true) {
            self.hung_up_by = requester;
        }
    }
}

impl Supervisor {
    /// Begins an upgrade, or says why not.
    pub(crate) fn on_upgrade(&mut self, request: Option<RequestKey>, plan: UpgradePlan) {
        match self.upgrade_refusal() {
            Some(refusal) => self.reply(request, LastReply::Refused(refusal)),
            None => self.prepare(request, plan),
        }
    }

    /// The same, once the upgrades that run and wait have ended.
    pub(crate) fn on_queue_upgrade(&mut self, request: Option<RequestKey>, plan: UpgradePlan) {
        match (self.upgrade_refusal(), self.ahead()) {
            (None | Some(Refusal::UpgradeRuns(_) | Refusal::FirstCheckRuns), Some(_))
                if self.tables.queue.waiting.len() >= WAITING_MAX =>
            {
                self.reply(request, LastReply::Refused(Refusal::QueueFull { waiting_max: WAITING_MAX }));
            }
            // Also where an upgrade would take the place of the one that runs.
            (None | Some(Refusal::UpgradeRuns(_) | Refusal::FirstCheckRuns), Some(generation)) => {
                self.tables.queue.waiting.push_back((request, plan));
                self.tell_queued(generation, request);
            }
            _ => self.on_upgrade(request, plan),
        }
    }

    /// SIGHUP: an upgrade that is remembered if it cannot begin yet.
    pub(crate) fn on_hangup(&mut self, requester: Requester) {
        match (self.upgrade_refusal(), self.ahead()) {
            (Some(Refusal::UpgradeRuns(_) | Refusal::FirstCheckRuns), Some(generation)) => {
                self.tables.queue.hang_up(requester);
                self.tell_queued(generation, None);
            }
            _ => self.on_upgrade(None, UpgradePlan { requester, ..UpgradePlan::default() }),
        }
    }

    /// The generation for whose end an upgrade has to wait: that of the one that runs, or of the first start while it is
    /// checked.
    fn ahead(&self) -> Option<u64> {
        let first = || self.tables.is_first_tried().then(|| self.tables.releases.serving().0);
        self.running_upgrade().map(|upgrade| upgrade.generation).or_else(first)
    }

    fn tell_queued(&mut self, generation: u64, request: Option<RequestKey>) {
        let waiting = super::tables::count(self.tables.queue.len());
        let notice = Notice::UpgradeQueued { generation, waiting };
        let progress_of = request.into_iter().collect();
        self.actions.push(Action::Notice { notice, progress_of, counts: self.counts() });
    }

    fn prepare(&mut self, request: Option<RequestKey>, plan: UpgradePlan) {
        self.tables.queue.preparing += 1;
        self.actions.push(Action::PrepareUpgrade { request, plan });
    }

    /// The next one that waits begins.
    pub(crate) fn begin_queued(&mut self) {
        if let Some((request, plan)) = self.tables.queue.take_next() {
            self.on_upgrade(request, plan);
        }
    }

    pub(crate) fn on_upgrade_prepared(&mut self, request: Option<RequestKey>, plan: UpgradePlan) {
        self.tables.queue.prepared();
        match self.upgrade_refusal().or_else(|| self.fleet_refusal(&plan)) {
            Some(refusal) => {
                self.is_held_for_upgrade = false;
                self.reply(request, LastReply::Refused(refusal));
            }
            None => self.begin_upgrade(plan, request),
        }
    }

    pub(crate) fn on_upgrade_not_prepared(&mut self) {
        self.tables.queue.prepared();
        self.is_held_for_upgrade = false;
    }

    /// An upgrade could not replace these.
    pub(crate) fn on_workers_unsignallable(&mut self, request: Option<RequestKey>, pids: &[Pid]) {
        self.on_upgrade_not_prepared();
        for pid in pids {
            let id = self.tables.pool.by_pid(*pid).map(|worker| worker.id);
            id.into_iter().for_each(|id| self.tables.pool.unsignallable(id));
        }
        let pids = pids.iter().map(|pid| pid.as_raw()).collect();
        self.reply(request, LastReply::Refused(Refusal::CannotSignal(pids)));
    }

    /// Nothing that waits begins any more.
    pub(crate) fn empty_queue(&mut self, why: NotStarted) {
        let waiting: Vec<_> = core::iter::from_fn(|| self.tables.queue.take_next()).collect();
        for (request, _) in waiting {
            self.reply(request, LastReply::Refused(Refusal::NotStarted(why)));
        }
    }
}
