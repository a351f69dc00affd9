//! Reports to the service manager that started the master (`NOTIFY_SOCKET`): readiness, reloads and upgrades,
//! stopping, a status line, watchdog messages, requests for more time, and listeners to store for a restart after a
//! crash.
//!
//! [`Service::follow`] runs once a round and compares the pool with what was sent last, so `READY=1` follows each
//! `RELOADING=1` however an upgrade ends. `protocol.rs` sends, `text.rs` writes the status line, `store.rs` stores
//! listeners. Nothing here blocks.

mod protocol;
mod store;
mod text;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use einhorn_proto::{MasterState, Notice, UpgradeStage};
use einhyrningsins_supervisor::{AckMode, Generation, Summary, Supervisor};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::forms::{self, Written};
use crate::logging::Log;

use super::parts::Part;
use protocol::Outbox;
pub use protocol::ServiceSettings;
use store::Store;
use text::text;

/// The shortest time between two messages that only have a `STATUS=`.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// How long a phase lasts before the master asks for more time. Most phases are shorter, and no manager is that
/// impatient.
const EXTEND_AFTER: Duration = Duration::from_secs(2);

/// The time between two requests for more time.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// How much time a request asks for: three times [`EXTEND_EVERY`], for a busy machine.
const EXTEND_BY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Service {
    settings: ServiceSettings,
    outbox: Outbox,
    store: Store,
    told: Told,
    status_not_before: Option<Instant>,
    watchdog_at: Option<Instant>,
    extend_at: Option<Instant>,
    /// SIGHUP asked for an upgrade; the manager may have sent it.
    reload_asked: bool,
    /// An upgrade has begun. It may be over already: workers can ack in the round in which they were spawned.
    upgrade_begun: bool,
    /// How the last upgrade failed, or why the master ends.
    remark: Option<String>,
}

/// What was sent last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    ready: bool,
    reloading: bool,
    stopping: bool,
    status: String,
}

/// The state of a [`Service`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServiceRecord {
    settings: ServiceSettings,
    told: Told,
    /// Messages without descriptors.
    unsent: Vec<String>,
    remark: Option<String>,
    is_stored: bool,
    /// Names of stored listeners, if they are known.
    #[serde(default)]
    stored: BTreeSet<String>,
}

/// What the messages are made from.
#[derive(Debug, Clone)]
struct Condition {
    pool: Summary,
    /// Whether a handover is under way.
    is_replacing: bool,
    /// Whether a limit of the master's own ends the phase, so the manager's timeout need not.
    is_bounded: bool,
}

impl Service {
    pub fn new(settings: ServiceSettings) -> Self {
        Self::from_record(ServiceRecord { settings, ..ServiceRecord::default() })
    }

    fn from_record(record: ServiceRecord) -> Self {
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

    /// These listeners are stored already: they were passed to this process.
    pub fn on_kept(&mut self, names: impl IntoIterator<Item = String>) {
        self.store.stored.extend(names);
    }

    /// Removes stored listeners now, without waiting for the loop.
    pub fn forget_now(&mut self, names: &[String], log: &mut Log) {
        store::remove(names, &mut self.outbox);
        self.outbox.flush(Instant::now(), log);
    }

    /// The listeners or their names have changed.
    pub(super) fn on_listeners_changed(&mut self) {
        self.store.is_stale = true;
    }

    /// The listener of this name has become another socket.
    pub(super) fn on_listener_replaced(&mut self, name: &str) {
        self.store.forget(name, &mut self.outbox);
    }

    /// SIGHUP has asked for an upgrade. If the manager sent it, it waits for `RELOADING=1` and then `READY=1`,
    /// whatever becomes of the upgrade.
    pub(super) fn on_hangup(&mut self) {
        self.reload_asked = true;
    }

    /// Keeps a remark for the status line.
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

    /// Sends what has changed and what is due.
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
        let is_bounded = is_replacing || is_bounded(&pool, core);
        self.tell(now, &Condition { pool, is_replacing, is_bounded }, log);
    }

    /// Whether the service manager keeps listeners for the next master.
    pub(super) fn keeps_listeners(&self) -> bool {
        self.outbox.is_on() && self.settings.kept_fds_max > 0
    }

    /// The master ends. Listeners whose files go with it are removed from the store; the others may stay for a
    /// restart, with the connections that wait in them.
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
        let is_busy = pool.upgrade.is_some() || pool.queued > 0 || condition.is_replacing;
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
            // It may have begun and ended in the round in which the pool became ready.
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

    /// Asks for more time while a bounded phase lasts.
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

impl Written for Service {
    type As = ServiceRecord;

    fn write(&self) -> Result<ServiceRecord, String> {
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

    fn read(state: ServiceRecord) -> Result<Self, String> {
        let service = Self::from_record(state);
        // The check and the exec have taken their time.
        let watchdog_at = service.watchdog_at.map(|_| Instant::now());
        Ok(Self { watchdog_at, ..service })
    }
}

impl Part for Service {
    fn deadline(&self) -> Option<Instant> {
        let status = self.status_not_before;
        [self.outbox.retry_at, self.watchdog_at, self.extend_at, status].into_iter().flatten().min()
    }
}

/// Whether an option limits the present phase.
fn is_bounded(pool: &Summary, core: &Supervisor) -> bool {
    let policy = core.policy();
    let coming = pool.upgrade.as_ref().map_or(pool.generation, |upgrade| Generation(upgrade.generation));
    let is_patient = core.terms(coming).ack == AckMode::Manual(None);
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
