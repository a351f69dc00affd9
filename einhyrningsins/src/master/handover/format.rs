//! The form of what one image of the master writes down and the next reads.
//!
//! The state is a file in memory: a line that tells the format and where the image is that wrote it, and then one
//! JSON object. Descriptors are named by their numbers, which an exec does not change; times are those of
//! `CLOCK_MONOTONIC`, which it does not touch. What is a directory, a file or a socket is told by its descriptor, and
//! never looked up again.
//!
//! The format has a version, [`FORMAT`]. A field that is added has a default, so that an older state is read; what
//! an older master must not pass over raises the version, and it refuses that in words.
//!
//! The object is a [`MasterState`], of which each part has its own.

use std::io;

use einhyrningsins_supervisor::Contradiction;
use serde::Serialize;

use super::format_1;
use crate::master::parts::MasterState;
use crate::sys::inherit::Fd;

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 2;

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

/// Reads a state.
///
/// # Errors
/// [`HandoverError`].
pub fn read(state: &[u8]) -> Result<(Header, MasterState), HandoverError> {
    let (header, body) = Header::parse(state)?;
    Ok((header, parse(header, body)?))
}

/// Reads what follows the first line of a state.
///
/// # Errors
/// [`HandoverError::Json`].
pub fn parse(header: Header, body: &[u8]) -> Result<MasterState, HandoverError> {
    Ok(match header.format {
        1 => format_1::parse(body)?,
        _ => serde_json::from_slice(body)?,
    })
}

/// Writes a state down, with `image` for the executable that does.
///
/// # Errors
/// None is known: there is nothing in a master's record that JSON cannot say.
pub fn to_bytes(image: Fd, record: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = format!("{MARK} {FORMAT} {}\n", image.0).into_bytes();
    serde_json::to_writer(&mut bytes, record)?;
    Ok(bytes)
}
