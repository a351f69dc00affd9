//! What the service manager is told, where there is one that wants to know (`NOTIFY_SOCKET`): when the pool is
//! ready, that an upgrade or a reload runs and when it is over, that the master stops; how it is, in words; that it
//! is alive; that it needs more time; and which listeners to keep for a master that comes after a crash.
//!
//! It is told from the loop, by comparing what it was told with how things are, so that `READY=1` follows each
//! `RELOADING=1` however an upgrade ends. Nothing waits for it: what it does not take yet is sent later, in order.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use einhorn_proto::{MasterState, Notice, RolloutKind, UpgradeStage, UpgradeStatus};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::Master;
use crate::forms;
use crate::logging::Log;
use crate::supervisor::{AckMode, Policy, Summary};
use crate::sys::manager::ManagerSocket;

/// Between two texts of `STATUS=` that nothing else goes with. People read them.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// How long a phase lasts before more time is asked for. No manager is that impatient, and most are over then.
const EXTEND_AFTER: Duration = Duration::from_secs(2);

/// How often more time is asked for.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// How much time is asked for: three times [`EXTEND_EVERY`], for a machine that is busy.
const EXTEND_BY: Duration = Duration::from_secs(30);

/// Between two tries to send to a manager that has too much unread.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Messages that wait to be sent, those about descriptors not counted. Beyond that, the manager has read nothing for
/// dozens of upgrades, and the oldest go.
const QUEUE_MAX: usize = 64;

/// What a message begins with that has the manager keep a descriptor, or let go of one; a name follows.
const STORE: &str = "FDSTORE=1\nFDNAME=";
const REMOVE: &str = "FDSTOREREMOVE=1\nFDNAME=";

/// A text for the manager has at most this many bytes; it goes into one line of a table.
const STATUS_BYTES_MAX: usize = 300;

/// What the service manager asks for, by variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// Where it listens (`NOTIFY_SOCKET`).
    #[serde(with = "forms::os_string_option")]
    pub notify: Option<OsString>,
    /// Within which time it wants a sign of life, again and again (`WATCHDOG_USEC`).
    pub watchdog: Option<Duration>,
    /// How many descriptors it keeps (`FDSTORE`).
    pub kept_fds_max: u32,
}

impl ServiceSettings {
    /// Reads them from the variables of a process, which `variable` looks up; `pid` is that process.
    #[must_use]
    pub fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        // A process that inherits the variables of the one that is watched must not speak for it.
        let is_watched = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && is_watched);
        Self {
            notify: variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
            kept_fds_max: number("FDSTORE").map_or(0, |max| u32::try_from(max).unwrap_or(u32::MAX)),
        }
    }
}

/// A message that was not sent yet.
#[derive(Debug)]
struct Message {
    text: String,
    fd: Option<OwnedFd>,
}

impl Message {
    /// The name of what it has the manager keep, if it does.
    fn stores(&self) -> Option<&str> {
        self.text.strip_prefix(STORE)?.lines().next()
    }
}

/// What the service manager was told, and what it is still to be told.
#[derive(Debug, Default)]
pub struct Service {
    settings: ServiceSettings,
    /// `None`: nobody wants to know.
    socket: Option<ManagerSocket>,
    told: Told,
    queue: VecDeque<Message>,
    retry_at: Option<Instant>,
    /// Whether the last message found nobody, which was logged.
    is_lost: bool,
    status_not_before: Option<Instant>,
    watchdog_at: Option<Instant>,
    extend_at: Option<Instant>,
    /// Somebody asked for an upgrade by SIGHUP, and the manager may be that.
    reload_asked: bool,
    /// An upgrade has begun. It may be over already: workers can ack in the round in which they are spawned.
    upgrade_begun: bool,
    /// How the last upgrade failed, or why the master ends.
    remark: Option<String>,
    /// What the manager keeps, by name.
    stored: BTreeSet<String>,
    /// Whether it is to be told of the listeners, which it was not, or which are others now.
    are_listeners_new: bool,
}

/// What the service manager was told, in the order in which it can be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    ready: bool,
    reloading: bool,
    stopping: bool,
    status: String,
}

/// A [`Service`] written down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServiceRecord {
    settings: ServiceSettings,
    told: Told,
    /// Messages without descriptors.
    unsent: Vec<String>,
    remark: Option<String>,
    is_stored: bool,
    /// What it keeps, by name, where that is known.
    #[serde(default)]
    stored: BTreeSet<String>,
}

/// How the master is, as far as a service manager wants to know.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) pool: Summary,
    /// Whether the master is being replaced, by itself or before an upgrade.
    pub(super) is_replacing: bool,
    /// Whether what it is at comes to an end by a limit of its own, so that the manager's need not be kept.
    pub(super) is_bounded: bool,
}

impl Service {
    /// Gets ready to tell what `settings` asks for. An address that cannot be used is a warning, and not the end of
    /// a master that could serve.
    #[must_use]
    pub fn new(settings: ServiceSettings, log: &mut Log) -> Self {
        let socket = settings.notify.as_deref().and_then(|address| match ManagerSocket::new(address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                let address = OsStr::to_string_lossy(address);
                log.warn(format_args!(
                    "the service manager is told nothing: NOTIFY_SOCKET={address}: {error}"
                ));
                None
            }
        });
        let watchdog_at = socket.as_ref().and(settings.watchdog).map(|within| Instant::now() + within / 2);
        Self { settings, socket, watchdog_at, are_listeners_new: true, ..Self::default() }
    }

    /// Goes on as was written down.
    #[must_use]
    pub fn adopt(record: ServiceRecord, log: &mut Log) -> Self {
        let ServiceRecord { settings, told, unsent, remark, is_stored, stored } = record;
        let queue = unsent.into_iter().map(|text| Message { text, fd: None }).collect();
        let are_listeners_new = !is_stored;
        let mut service = Self { told, queue, remark, stored, are_listeners_new, ..Self::new(settings, log) };
        // The check of this image, and the exec, have taken their time.
        service.watchdog_at = service.watchdog_at.map(|_| Instant::now());
        service
    }

    pub(super) fn record(&self) -> ServiceRecord {
        let unsent = self.queue.iter().filter(|message| message.fd.is_none());
        // Those with a descriptor are made anew.
        let unsent_fds = self.queue.iter().filter(|message| message.fd.is_some());
        let not_stored: Vec<_> = unsent_fds.filter_map(Message::stores).collect();
        let stored = self.stored.iter().filter(|name| !not_stored.contains(&name.as_str()));
        ServiceRecord {
            settings: self.settings.clone(),
            told: self.told.clone(),
            unsent: unsent.map(|message| message.text.clone()).collect(),
            remark: self.remark.clone(),
            is_stored: !self.are_listeners_new && not_stored.is_empty(),
            stored: stored.cloned().collect(),
        }
    }

    /// It keeps these already: they were passed to this process.
    pub fn on_kept(&mut self, names: impl IntoIterator<Item = String>) {
        self.stored.extend(names);
    }

    /// As [`Self::forget`], and without waiting for the loop.
    pub fn forget_now(&mut self, names: &[String], log: &mut Log) {
        self.forget(names);
        self.send_all(Instant::now(), log);
    }

    /// Has the manager let go of what it keeps under these names.
    pub fn forget(&mut self, names: &[String]) {
        for name in names {
            self.push(format!("{REMOVE}{name}"), None);
        }
    }

    /// Whether the manager keeps listeners, and does not know which.
    fn wants_listeners(&self) -> bool {
        self.settings.kept_fds_max > 0 && self.are_listeners_new
    }

    /// The listeners are others now, or have other names.
    pub(super) fn on_listeners_changed(&mut self) {
        self.are_listeners_new = true;
    }

    /// Has the manager keep `listeners`, in case this master crashes, and nothing else of ours. What it has already it
    /// passes over, by what it is and not by its name; so a name goes first, and then it comes anew. Those of one `-b` are
    /// kept together or not at all. Where there is no descriptor left for a copy, it is tried again in the next round.
    fn store<'a>(&mut self, listeners: impl Iterator<Item = Vec<(String, BorrowedFd<'a>)>>) {
        let mut room = self.settings.kept_fds_max as usize;
        let mut kept = Vec::new();
        for group in listeners {
            if group.len() <= room {
                room -= group.len();
                kept.extend(group);
            }
        }
        let names: BTreeSet<_> = kept.iter().map(|(name, _)| name.clone()).collect();
        let before = std::mem::replace(&mut self.stored, names.clone());
        self.are_listeners_new = false;
        self.forget(&before.difference(&names).cloned().collect::<Vec<_>>());
        for (name, fd) in kept.into_iter().filter(|(name, _)| !before.contains(name)) {
            let Ok(copy) = fd.try_clone_to_owned() else {
                self.stored.remove(&name);
                self.are_listeners_new = true;
                continue;
            };
            // Not polled: one that a worker has shut down would be dropped, and can be revived.
            self.push(format!("{STORE}{name}\nFDPOLL=0"), Some(copy));
        }
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

    /// When to call [`Self::tell`] again though nothing has happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let status = self.status_not_before;
        [self.retry_at, self.watchdog_at, self.extend_at, status].into_iter().flatten().min()
    }

    /// Whether anybody wants to know.
    pub(super) fn is_on(&self) -> bool {
        self.socket.is_some()
    }

    /// Tells what has changed since it was called last, and what is due.
    pub(super) fn tell(&mut self, now: Instant, condition: &Condition, log: &mut Log) {
        self.tell_changes(now, condition);
        self.ask_for_time(now, condition);
        if let (Some(at), Some(within)) = (self.watchdog_at, self.settings.watchdog)
            && at <= now
        {
            self.watchdog_at = Some(now + within / 2);
            self.push("WATCHDOG=1".to_owned(), None);
        }
        self.send_all(now, log);
    }

    fn tell_changes(&mut self, now: Instant, condition: &Condition) {
        let pool = &condition.pool;
        let is_stopping = pool.state == MasterState::Stopping;
        let is_busy = pool.upgrade.is_some() || condition.is_replacing;
        let is_hung_up = std::mem::take(&mut self.reload_asked);
        let has_begun = std::mem::take(&mut self.upgrade_begun);
        let status = in_words(condition, self.remark.as_deref());
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
        self.push(format!("{text}{newline}STATUS={status}"), None);
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
            self.push(format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros()), None);
        }
    }

    fn push(&mut self, text: String, fd: Option<OwnedFd>) {
        if self.socket.is_none() {
            return;
        }
        // Of what only tells how it is now, the last one counts.
        let is_of_now = |text: &str| text.starts_with("STATUS=") || text.starts_with("WATCHDOG=");
        if is_of_now(&text) {
            let same = text.split('=').next().unwrap_or_default();
            self.queue.retain(|waiting| !(is_of_now(&waiting.text) && waiting.text.starts_with(same)));
        }
        self.queue.push_back(Message { text, fd });
        let is_text = |message: &Message| message.fd.is_none() && !message.text.starts_with(REMOVE);
        if self.queue.iter().filter(|message| is_text(message)).count() > QUEUE_MAX {
            let oldest = self.queue.iter().position(is_text);
            oldest.map(|at| self.queue.remove(at));
        }
    }

    fn send_all(&mut self, now: Instant, log: &mut Log) {
        self.retry_at = None;
        let Some(socket) = &self.socket else { return };
        while let Some(message) = self.queue.front() {
            let fds: Vec<_> = message.fd.iter().map(AsFd::as_fd).collect();
            match socket.send(&message.text, &fds) {
                Ok(()) => self.is_lost = false,
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS) => {
                    self.retry_at = Some(now + RETRY_EVERY);
                    return;
                }
                Err(errno) => {
                    if !std::mem::replace(&mut self.is_lost, true) {
                        let why = std::io::Error::from(errno);
                        log.warn(format_args!("cannot tell the service manager how the master is: {why}"));
                    }
                }
            }
            self.queue.pop_front();
        }
    }
}

impl Master {
    /// Tells the service manager what it does not know, if there is one.
    pub(super) fn tell_service_manager(&mut self) {
        if !self.service.is_on() {
            return;
        }
        if self.service.wants_listeners() {
            self.service.store(self.workers.to_keep());
        }
        let now = Instant::now();
        let pool = self.supervisor.summary(now);
        let is_replacing = self.replacement.is_under_way();
        let is_bounded = is_replacing || is_bounded(&pool, self.supervisor.policy());
        self.service.tell(now, &Condition { pool, is_replacing, is_bounded }, &mut self.log);
    }

    /// Has the service manager let go of the listeners whose files go with this master. The others it may keep for a
    /// restart, in which those who come meanwhile wait.
    pub(super) fn leave_service_manager(&mut self) {
        if !self.service.are_listeners_new {
            self.service.forget(&self.workers.kept_with_files());
            self.service.send_all(Instant::now(), &mut self.log);
        }
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

/// How the master is, for one line of `systemctl status`.
fn in_words(condition: &Condition, remark: Option<&str>) -> String {
    let Summary { state, generation, wanted, up, live, given_up, .. } = &condition.pool;
    let mut text = match (&condition.pool.upgrade, state) {
        (_, MasterState::Stopping) => match live {
            0 => "stopping".to_owned(),
            1 => "stopping, 1 worker left".to_owned(),
            live => format!("stopping, {live} workers left"),
        },
        (Some(upgrade), _) => upgrade_in_words(upgrade),
        (None, MasterState::Starting) => format!("starting: {up} of {wanted} workers up"),
        (None, _) => format!("{up} of {wanted} workers up, generation {generation}"),
    };
    if condition.is_replacing && condition.pool.upgrade.is_none() && *state != MasterState::Stopping {
        text.push_str("; replacing the master");
    }
    if *given_up > 0 && *state != MasterState::Stopping {
        let slots = if *given_up == 1 { "slot" } else { "slots" };
        text.push_str(&format!("; {given_up} {slots} given up"));
    }
    if let Some(remark) = remark {
        let separator = if *state == MasterState::Stopping { ":" } else { ";" };
        text.push_str(&format!("{separator} {remark}"));
    }
    tidy(&text)
}

fn upgrade_in_words(upgrade: &UpgradeStatus) -> String {
    let UpgradeStatus { kind, stage, generation, from, upgraded, wanted, .. } = upgrade;
    match (stage, kind) {
        (UpgradeStage::RollingBack, _) => {
            format!(
                "going back to generation {from}: {upgraded} of {wanted} still have generation {generation}"
            )
        }
        (UpgradeStage::Soaking, _) => {
            format!("upgrading to generation {generation}: {upgraded} of {wanted}, soaking")
        }
        (_, RolloutKind::Upgrade) => format!("upgrading to generation {generation}: {upgraded} of {wanted}"),
        (_, RolloutKind::Rollback) => {
            format!("going back to generation {generation}: {upgraded} of {wanted}")
        }
    }
}

/// One line: a newline in it would begin another assignment.
fn tidy(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > STATUS_BYTES_MAX {
        let end = (0..=STATUS_BYTES_MAX - '\u{2026}'.len_utf8()).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push('\u{2026}');
    }
    text
}

#[cfg(test)]
mod tests;
