//! The service manager, if one started the master (`NOTIFY_SOCKET`): readiness, upgrades and reloads, the end, a status
//! line, signs of life, requests for more time, and the listeners to keep for a master that comes after a crash.
//!
//! [`Service::follow`] compares what the manager was last sent with the pool, once a round, so `READY=1` follows each
//! `RELOADING=1` however an upgrade ends. `protocol.rs` sends, `text.rs` writes the status line, `store.rs` keeps
//! listeners. Nothing here blocks.

mod protocol;
mod store;
mod text;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use einhorn_proto::{MasterState, Notice, UpgradeStage};
use einhyrningsins_supervisor::{AckMode, Policy, Summary, Supervisor};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::forms;
use crate::logging::Log;

use super::parts::Part;
use crate::sys::inherit::Inherited;
use protocol::Outbox;
pub use protocol::ServiceSettings;
use store::Store;
use text::text;

/// Between two texts of `STATUS=` that nothing else goes with. People read them.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// How long a phase lasts before more time is asked for. No manager is that impatient, and most are over then.
const EXTEND_AFTER: Duration = Duration::from_secs(2);

/// How often more time is asked for.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// How much time is asked for: three times [`EXTEND_EVERY`], for a machine that is busy.
const EXTEND_BY: Duration = Duration::from_secs(30);

/// What the service manager was sent, and what it is still to be sent.
#[derive(Debug)]
pub struct Service {
    settings: ServiceSettings,
    outbox: Outbox,
    store: Store,
    told: Told,
    status_not_before: Option<Instant>,
    watchdog_at: Option<Instant>,
    extend_at: Option<Instant>,
    /// Somebody asked for an upgrade by SIGHUP, and that may have been the manager.
    reload_asked: bool,
    /// An upgrade has begun. It may be over already: workers can ack in the round in which they are spawned.
    upgrade_begun: bool,
    /// How the last upgrade failed, or why the master ends.
    remark: Option<String>,
}

/// What the service manager was sent, in the order in which it can be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    ready: bool,
    reloading: bool,
    stopping: bool,
    status: String,
}

/// The state of a [`Service`] in a handover.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServiceRecord {
    settings: ServiceSettings,
    told: Told,
    /// Messages without descriptors.
    unsent: Vec<String>,
    remark: Option<String>,
    is_stored: bool,
    /// The names of what the manager keeps, where they are known.
    #[serde(default)]
    stored: BTreeSet<String>,
}

/// The state of the master, as far as a service manager wants to know.
#[derive(Debug, Clone)]
struct Condition {
    pool: Summary,
    /// Whether the master is being replaced, by itself or before an upgrade.
    is_replacing: bool,
    /// Whether what goes on ends by a limit of the master's own, so that the manager's need not apply.
    is_bounded: bool,
}

impl Service {
    /// Gets ready to send what `settings` asks for.
    #[must_use]
    pub fn new(settings: ServiceSettings) -> Self {
        Self::from(ServiceRecord { settings, ..ServiceRecord::default() })
    }

    /// The manager keeps these listeners already: they were passed to this process.
    pub fn on_kept(&mut self, names: impl IntoIterator<Item = String>) {
        self.store.stored.extend(names);
    }

    /// Has the manager let go of what it keeps under these names, without waiting for the loop.
    pub fn forget_now(&mut self, names: &[String], log: &mut Log) {
        store::remove(names, &mut self.outbox);
        self.outbox.flush(Instant::now(), log);
    }

    /// The listeners are others now, or have other names.
    pub(super) fn on_listeners_changed(&mut self) {
        self.store.is_stale = true;
    }

    /// Somebody asked for an upgrade by SIGHUP: if that was the manager, it waits for `RELOADING=1`, and then for
    /// `READY=1`, whatever comes of the upgrade.
    pub(super) fn on_hangup(&mut self) {
        self.reload_asked = true;
    }

    /// Keeps what is to be read beside the numbers.
    pub(super) fn on_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::UpgradeFailed { kind, generation, .. } => {
                self.remark = Some(format!("the {kind} to generation {generation} failed"));
            }
            Notice::MasterKept { reason } => {
                self.remark = Some(format!("the master was not replaced: {reason}"));
            }
            Notice::UpgradeStarted { .. } => {
                self.upgrade_begun = true;
                self.remark = None;
            }
            Notice::MasterReplaced { .. } => self.remark = None,
            Notice::MasterStopping { why, .. } => self.remark = Some(why.clone()),
            Notice::MasterExiting { code, why } if *code != 0 => self.remark = Some(why.clone()),
            _ => {}
        }
    }

    /// Sends what has changed since the last call, and what is due.
    pub(super) fn follow<'a>(
        &mut self,
        core: &Supervisor,
        is_replacing: bool,
        listeners: impl Iterator<Item = Vec<(String, BorrowedFd<'a>)>>,
        log: &mut Log,
    ) {
        self.outbox.report(&self.settings, log);
        if !self.outbox.is_on() {
            return;
        }
        if self.store.is_behind() {
            self.store.follow(listeners, &mut self.outbox);
        }
        let now = Instant::now();
        let pool = core.summary(forms::now());
        let is_bounded = is_replacing || is_bounded(&pool, core.policy());
        self.tell(now, &Condition { pool, is_replacing, is_bounded }, log);
    }

    /// The master ends: the listeners whose files it removes are of no use to the next one. The manager may keep the
    /// others for a restart, with the connections that wait in them.
    pub(super) fn leave(&mut self, with_files: &[String], log: &mut Log) {
        if self.outbox.is_on() && !self.store.is_stale {
            self.forget_now(with_files, log);
        }
    }

    fn tell(&mut self, now: Instant, condition: &Condition, log: &mut Log) {
        self.tell_changes(now, condition);
        self.ask_for_time(now, condition);
        if let (Some(at), Some(within)) = (self.watchdog_at, self.settings.watchdog)
            && at <= now
        {
            self.watchdog_at = Some(now + within / 2);
            self.outbox.push("WATCHDOG=1".to_owned(), None);
        }
        self.outbox.flush(now, log);
    }

    fn tell_changes(&mut self, now: Instant, condition: &Condition) {
        let pool = &condition.pool;
        let is_stopping = pool.state == MasterState::Stopping;
        let is_busy = pool.upgrade.is_some() || condition.is_replacing;
        let is_hung_up = std::mem::take(&mut self.reload_asked);
        let has_begun = std::mem::take(&mut self.upgrade_begun);
        let status = text(condition, self.remark.as_deref());
        if is_stopping {
            if !std::mem::replace(&mut self.told.stopping, true) {
                self.push_with_status(now, "STOPPING=1", status);
                return;
            }
        } else if pool.was_ready {
            if !std::mem::replace(&mut self.told.ready, true) {
                self.push_with_status(now, "READY=1", status.clone());
            }
            // It may have begun, and ended, in the round in which the pool was ready.
            if is_hung_up || ((is_busy || has_begun) && !self.told.reloading) {
                self.told.reloading = true;
                let since = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
                let text = format!("RELOADING=1\nMONOTONIC_USEC={}", since.as_micros());
                self.push_with_status(now, &text, status.clone());
            }
            if self.told.reloading && !is_busy {
                self.told.reloading = false;
                return self.push_with_status(now, "READY=1", status);
            }
        }
        if status == self.told.status {
            self.status_not_before = self.status_not_before.filter(|at| *at > now);
        } else if self.status_not_before.is_none_or(|at| at <= now) {
            self.push_with_status(now, "", status);
        }
    }

    fn push_with_status(&mut self, now: Instant, text: &str, status: String) {
        let newline = if text.is_empty() { "" } else { "\n" };
        self.outbox.push(format!("{text}{newline}STATUS={status}"), None);
        self.told.status = status;
        self.status_not_before = Some(now + STATUS_EVERY);
    }

    /// Asks for more time, where what goes on ends by itself.
    fn ask_for_time(&mut self, now: Instant, condition: &Condition) {
        let is_under_way = !self.told.ready || self.told.reloading || self.told.stopping;
        if !(is_under_way && condition.is_bounded) {
            self.extend_at = None;
            return;
        }
        let at = *self.extend_at.get_or_insert(now + EXTEND_AFTER);
        if at <= now {
            self.extend_at = Some(now + EXTEND_EVERY);
            self.outbox.push(format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros()), None);
        }
    }
}

impl From<ServiceRecord> for Service {
    fn from(record: ServiceRecord) -> Self {
        let ServiceRecord { settings, told, unsent, remark, is_stored, stored } = record;
        let outbox = Outbox::new(&settings, unsent);
        let watchdog = settings.watchdog.filter(|_| outbox.is_on());
        Self {
            watchdog_at: watchdog.map(|within| Instant::now() + within / 2),
            store: Store::new(settings.kept_fds_max, stored, !is_stored),
            settings,
            outbox,
            told,
            status_not_before: None,
            extend_at: None,
            reload_asked: false,
            upgrade_begun: false,
            remark,
        }
    }
}

impl Part for Service {
    type State = ServiceRecord;

    fn record(&self) -> anyhow::Result<ServiceRecord> {
        let (stored, is_stored) = self.store.record(&self.outbox);
        let unsent = self.outbox.queue.iter().filter(|message| message.fd.is_none());
        Ok(ServiceRecord {
            settings: self.settings.clone(),
            told: self.told.clone(),
            unsent: unsent.map(|message| message.text.clone()).collect(),
            remark: self.remark.clone(),
            is_stored,
            stored,
        })
    }

    fn resume(state: ServiceRecord, _inherited: &mut Inherited) -> anyhow::Result<Self> {
        let service = Self::from(state);
        // The check and the exec have taken their time.
        let watchdog_at = service.watchdog_at.map(|_| Instant::now());
        Ok(Self { watchdog_at, ..service })
    }

    fn deadline(&self) -> Option<Instant> {
        let status = self.status_not_before;
        [self.outbox.retry_at, self.watchdog_at, self.extend_at, status].into_iter().flatten().min()
    }
}

/// Whether what the pool is at ends by a limit that the master was given.
fn is_bounded(pool: &Summary, policy: &Policy) -> bool {
    let is_patient = policy.ack == AckMode::Manual(None);
    match (pool.state, &pool.upgrade) {
        (MasterState::Stopping, _) => policy.grace.is_some(),
        (_, Some(upgrade)) if upgrade.stage == UpgradeStage::Soaking => upgrade.soak_left_ms.is_some(),
        (_, Some(_)) => !is_patient,
        (MasterState::Starting, None) => !is_patient && policy.retries.unproven.is_some(),
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests;
