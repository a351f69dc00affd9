//! The master written down, for its next image: what one master knows and the other goes on from.
//!
//! [`super::format`] has the form that this is written in, and what to mind where a field is added. The parts are
//! written down by whoever owns them.

use std::os::fd::RawFd;
use std::time::Instant;

use einhyrningsins_supervisor::{Moment, RequestKey, SupervisorRecord};
use serde::{Deserialize, Serialize};

use super::exec::Then;
use super::format::HandoverError;
use crate::config::{Control, Identity, Reexec};
use crate::forms::Clock;
use crate::logging::LogRecord;
use crate::master::captures::CaptureRecord;
use crate::master::control::ClientsRecord;
use crate::master::control::ControlSocketRecord;
use crate::master::notify::NotifyRecord;
use crate::master::service::ServiceRecord;
use crate::master::{Asker, Master};
use crate::sys::inherit::Fd;
use crate::sys::lock_file::{LockFile, LockRecord};
use crate::workers::WorkersRecord;

/// All that a master knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MasterRecord {
    /// The version of the program that wrote it.
    pub version: String,
    /// The process that it is the state of.
    pub pid: i32,
    /// When it was written.
    pub written_at: Moment,
    /// Since when there is this master.
    pub(in crate::master) started_at: Moment,
    /// How often it has been replaced.
    pub(in crate::master) reloads: u32,
    /// How it was called.
    pub identity: Identity,
    /// How it replaces itself.
    pub reexec: Reexec,
    /// How it is controlled.
    pub control: Control,
    /// The core.
    pub supervisor: SupervisorRecord,
    /// How workers are made.
    pub workers: WorkersRecord,
    /// The control socket.
    pub control_socket: ControlSocketRecord,
    /// The lock of `--lockfile`.
    pub lockfile: Option<LockRecord>,
    /// Where workers notify.
    pub notify: NotifyRecord,
    /// The control clients.
    pub(in crate::master) clients: ClientsRecord,
    /// What they wait for.
    pub(in crate::master) requests: Vec<RequestRecord>,
    /// The number of the next request.
    pub(in crate::master) next_request: u64,
    /// Workers' standard errors.
    pub(in crate::master) captures: Vec<CaptureRecord>,
    /// How it logs, and what was not yet written.
    pub log: LogRecord,
    /// What the service manager was told.
    #[serde(default)]
    pub service: ServiceRecord,
    /// What the replacement was for.
    pub(in crate::master) then: Vec<Then>,
}

/// A request that was written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::master) struct RequestRecord {
    pub(in crate::master) request: RequestKey,
    #[serde(flatten)]
    pub(in crate::master) asker: Asker,
}

impl MasterRecord {
    /// Reads what follows the first line of a state.
    ///
    /// # Errors
    /// [`HandoverError::Json`].
    pub fn parse(body: &[u8]) -> Result<Self, HandoverError> {
        Ok(serde_json::from_slice(body)?)
    }

    /// Every descriptor that it names, which an exec must leave open.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut fds: Vec<Fd> = self.workers.descriptors().collect();
        fds.extend(self.control_socket.descriptors());
        fds.extend(self.lockfile.iter().map(|lock| lock.fd));
        fds.push(self.notify.fd);
        fds.extend(self.clients.descriptors());
        fds.extend(self.captures.iter().map(CaptureRecord::descriptor));
        fds.into_iter().map(|fd| fd.0).collect()
    }
}

impl Master {
    /// Everything, written down.
    pub(in crate::master) fn record(&self, clock: &Clock) -> anyhow::Result<MasterRecord> {
        let requests = self.requests.iter();
        Ok(MasterRecord {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id().cast_signed(),
            written_at: clock.moment(Instant::now()),
            started_at: clock.moment(self.started),
            reloads: self.replacement.reloads + 1,
            identity: self.identity.clone(),
            reexec: self.replacement.settings.clone(),
            control: self.control.clone(),
            supervisor: self.supervisor.record()?,
            workers: self.workers.record(),
            control_socket: self.control_socket.record(),
            lockfile: self.lockfile.as_ref().map(LockFile::record),
            notify: self.notify.record(),
            clients: self.clients.record(),
            requests: requests
                .map(|(request, asker)| RequestRecord { request: *request, asker: asker.clone() })
                .collect(),
            next_request: self.next_request,
            captures: self.captures.record(),
            log: self.log.record(),
            service: self.service.record(),
            then: self.replacement.then.clone(),
        })
    }
}
