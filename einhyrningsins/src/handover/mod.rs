//! The master's own replacement: what one image of it writes down and the next reads.
//!
//! The state is a file in memory: a line that tells the format and where the image is that wrote it, and then one
//! JSON object. Descriptors are named by their numbers, which an exec does not change; times are those of
//! `CLOCK_MONOTONIC`, which it does not touch. What is a directory, a file or a socket is told by its descriptor, and
//! never looked up again.
//!
//! The format has a version, [`FORMAT`]. A field that is added has a default, so that an older state is read; what
//! an older master must not pass over raises the version, and it refuses that in words.

use std::io;
use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use crate::config::{Control, Identity, Reexec};
use crate::control_socket::ControlSocketRecord;
use crate::forms::Moment;
use crate::logging::LogRecord;
use crate::notify_socket::NotifyRecord;
use crate::reactor::{CaptureRecord, ClientsRecord, RequestRecord, ServiceRecord, Then};
use crate::supervisor::{Contradiction, SupervisorRecord};
use crate::sys::inherit::{Fd, NotInherited};
use crate::sys::lock_file::LockRecord;
use crate::workers::WorkersRecord;

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The oldest version that this program reads.
pub const FORMAT_OLDEST: u32 = 1;

/// What the first line of a state begins with.
const MARK: &str = "einhyrningsins-state";

/// The first line has no more bytes than this.
const HEADER_BYTES_MAX: usize = 128;

/// The first line of a state: all that is read of it before there is a way back to who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The version of the format.
    pub format: u32,
    /// The executable that wrote it.
    pub image: Fd,
}

/// All that a master knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handover {
    /// The version of the program that wrote it.
    pub version: String,
    /// The process that it is the state of.
    pub pid: i32,
    /// When it was written.
    pub written_at: Moment,
    /// Since when there is this master.
    pub started_at: Moment,
    /// How often it has been replaced.
    pub reloads: u32,
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
    pub clients: ClientsRecord,
    /// What they wait for.
    pub requests: Vec<RequestRecord>,
    /// The number of the next request.
    pub next_request: u64,
    /// Workers' standard errors.
    pub captures: Vec<CaptureRecord>,
    /// How it logs, and what was not yet written.
    pub log: LogRecord,
    /// What the service manager was told.
    #[serde(default)]
    pub service: ServiceRecord,
    /// What the replacement was for.
    pub then: Vec<Then>,
}

/// A state cannot be gone on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// It cannot be read.
    #[error("cannot read the state")]
    Read(#[source] io::Error),
    /// It is no state of a master.
    #[error("what was handed over is no state of a master")]
    NotAState,
    /// It is of a version that this program does not know.
    #[error(
        "handover refused: format {format} is {} than this program ({}) reads ({FORMAT_OLDEST} to {FORMAT})",
        if *.format > FORMAT { "newer" } else { "older" }, env!("CARGO_PKG_VERSION")
    )]
    Format {
        /// The version.
        format: u32,
    },
    /// It is not what this program writes in that format.
    #[error("cannot read the state of the master")]
    Json(#[from] serde_json::Error),
    /// It is of another process.
    #[error("the state is that of process {0}, and not of this one")]
    OtherProcess(i32),
    /// The tables of the pool do not fit together.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// A descriptor is missing.
    #[error(transparent)]
    NotInherited(#[from] NotInherited),
}

impl Header {
    /// Reads the first line of `state`.
    ///
    /// # Errors
    /// [`HandoverError::NotAState`], or [`HandoverError::Format`] with a version that this program does not read.
    pub fn parse(state: &[u8]) -> Result<(Self, &[u8]), HandoverError> {
        let (header, rest) = Self::split(state).ok_or(HandoverError::NotAState)?;
        match header.format {
            FORMAT_OLDEST..=FORMAT => Ok((header, rest)),
            format => Err(HandoverError::Format { format }),
        }
    }

    fn split(state: &[u8]) -> Option<(Self, &[u8])> {
        let end = state.iter().take(HEADER_BYTES_MAX).position(|byte| *byte == b'\n')?;
        let mut words = std::str::from_utf8(&state[..end]).ok()?.split(' ');
        if words.next()? != MARK {
            return None;
        }
        let header = Self { format: words.next()?.parse().ok()?, image: Fd(words.next()?.parse().ok()?) };
        Some((header, &state[end + 1..]))
    }
}

impl Handover {
    /// Writes it down, with `image` for the executable that does.
    ///
    /// # Errors
    /// None is known: there is nothing in it that JSON cannot say.
    pub fn to_bytes(&self, image: Fd) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = format!("{MARK} {FORMAT} {}\n", image.0).into_bytes();
        serde_json::to_writer(&mut bytes, self)?;
        Ok(bytes)
    }

    /// Reads what follows the first line.
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

#[cfg(test)]
mod tests;
