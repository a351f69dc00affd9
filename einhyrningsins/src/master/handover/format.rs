//! The format of the state that one image of the master writes and the next reads.
//!
//! The state is a file in memory: a header line with the format's version and the descriptor of the image that
//! wrote it, then three lines of JSON: an [`Origin`], the [`Tables`] of the core, and the other [`Parts`]. Nobody is answered
//! while a state is read, and the core is most of it: it names no descriptors, so it is read once only. Descriptors are named by their numbers, which an exec does not change; times
//! are those of `CLOCK_MONOTONIC`, which it does not affect. Directories, files and sockets are identified by
//! their descriptors and never looked up again.
//!
//! The format has a version. A new field has a default, so that older states can be read. A change
//! that an older master must not miss raises the version, and that master refuses it with a message. A state has the
//! lowest version that fits what is in it ([`format_of`]).

use std::io;
use std::os::fd::RawFd;

use einhyrningsins_supervisor::{Moment, Supervisor, Tables};
use serde::{Deserialize, Serialize};
use serde_json::{Error, Value};

use super::{format_1, format_2};
use crate::forms;
use crate::master::parts::Parts;
use crate::release::ProgramFile;

/// The newest version that this program reads and writes.
pub const FORMAT: u32 = 6;

/// The version of a state without observers.
const FORMAT_WITHOUT_OBSERVERS: u32 = 5;

/// The version of a state without anything in flight that an older master would lose.
const FORMAT_AT_REST: u32 = 4;

/// The oldest format that it reads.
pub const FORMAT_OLDEST: u32 = 1;

/// The first word of the header.
const MARK: &str = "einhyrningsins-state";

/// The longest header, in bytes.
const HEADER_BYTES_MAX: usize = 128;

/// The header. Nothing else of a state is read before a return to the old image is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub format: u32,
    /// The executable that wrote the state.
    pub image: RawFd,
}

/// Who wrote the state, and when.
#[derive(Debug, Serialize, Deserialize)]
pub struct Origin {
    pub version: String,
    pub pid: i32,
    pub written_at: Moment,
    /// Device and inode of the file that was executed, for a check or for good. A program that is another one was executed by
    /// that. A check reports so, which an older master would take for a part of the version.
    #[serde(default)]
    pub checked: Option<(u64, u64)>,
}

/// A master cannot continue from the state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    #[error("cannot read the state")]
    Read(#[source] io::Error),
    #[error("not the state of a master")]
    NotAState,
    /// The format is newer or older than this program can read.
    #[error(
        "handover refused: format {format} is {} than this program ({}) reads ({FORMAT_OLDEST} to {FORMAT})",
        if *.format > FORMAT { "newer" } else { "older" }, env!("CARGO_PKG_VERSION")
    )]
    Format { format: u32 },
    /// The object does not match the format.
    #[error("cannot read the state of the master")]
    Json(#[from] Error),
    /// The state belongs to another process.
    #[error("the state belongs to process {0}, not to this one")]
    OtherProcess(i32),
}

impl Header {
    /// Reads the header of `state`.
    ///
    /// # Errors
    /// [`HandoverError::NotAState`], or [`HandoverError::Format`] for a version that this program does not
    /// read.
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
        let header = Self { format: words.next()?.parse().ok()?, image: words.next()?.parse().ok()? };
        Some((header, &state[end + 1..]))
    }
}

/// The part of a state after the header.
pub enum Body<'a> {
    Lines {
        origin: &'a str,
        core: &'a str,
        parts: &'a str,
    },
    /// Up to format 3: one object has the fields of the origin and of all parts.
    Object(Value),
}

impl<'a> Body<'a> {
    pub fn of(header: Header, body: &'a [u8]) -> Result<Self, HandoverError> {
        Ok(match header.format {
            1 => Self::Object(format_2::convert(format_1::convert(body)?)),
            2 => Self::Object(format_2::convert(serde_json::from_slice(body)?)),
            3 => Self::Object(serde_json::from_slice(body)?),
            _ => {
                let text = std::str::from_utf8(body).map_err(<Error as serde::de::Error>::custom)?;
                let mut lines = text.splitn(3, '\n');
                let mut next = || lines.next().unwrap_or_default();
                Self::Lines { origin: next(), core: next(), parts: next() }
            }
        })
    }

    /// Reads all of it.
    pub fn read(&self) -> Result<(Origin, Parts), HandoverError> {
        let (origin, tables): (_, Tables) = match self {
            Self::Lines { origin, core, .. } => (serde_json::from_str(origin)?, serde_json::from_str(core)?),
            Self::Object(object) => {
                let core = object.get("core").unwrap_or(&Value::Null);
                (Origin::deserialize(object)?, Tables::deserialize(core)?)
            }
        };
        let core = Supervisor::restore(tables).map_err(<Error as serde::de::Error>::custom)?;
        Ok((origin, self.read_parts(core)?))
    }

    /// Reads the parts, except the core, which was read before.
    pub fn read_parts(&self, core: Supervisor) -> Result<Parts, HandoverError> {
        let parts = Parts::with_core(core, || match self {
            Self::Lines { parts, .. } => serde_json::from_str(parts),
            Self::Object(object) => Parts::deserialize(object),
        });
        Ok(parts?)
    }
}

/// Writes the line of the core.
///
/// # Errors
/// If it waits for an action that is being carried out.
pub fn core_to_bytes(core: &Supervisor) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(core.tables().map_err(<Error as serde::ser::Error>::custom)?)
}

/// The version of a state of `parts`: the oldest that has all of it. Masters that do not know observers would take commands from
/// them; masters before those do not know jobs, nor workers without a slot.
fn format_of(parts: &Parts) -> u32 {
    let has_trial = || parts.core.tables().is_ok_and(Tables::has_trial);
    match () {
        () if parts.control.settings().observe_group.is_some() => FORMAT,
        () if parts.jobs.are_any_running() || has_trial() => FORMAT_WITHOUT_OBSERVERS,
        () => FORMAT_AT_REST,
    }
}

/// Writes a state; `image` is the executable of the writer, `executed` the file that is to read it, and `core` the line of the
/// core.
pub fn to_bytes(
    image: RawFd,
    executed: Option<&ProgramFile>,
    core: &[u8],
    parts: &Parts,
) -> Result<Vec<u8>, Error> {
    let origin = Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id().cast_signed(),
        written_at: forms::now(),
        checked: executed.map(|file| (file.device, file.inode)),
    };
    let mut bytes = format!("{MARK} {} {image}\n", format_of(parts)).into_bytes();
    serde_json::to_writer(&mut bytes, &origin)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(core);
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, parts)?;
    Ok(bytes)
}
