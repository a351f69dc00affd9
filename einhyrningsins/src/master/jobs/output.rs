//! The output of a job: one pipe, of which the end is kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};

use crate::forms;
use crate::master::captures::text;
use crate::master::ready::JOBS;
use crate::sys::inherit::Kept;

/// How much is kept of a job of which people read the last lines, in bytes.
pub(super) const KEPT_BYTES_MAX: usize = 8 * 1024;

/// Bytes per read.
const READ_BYTES: usize = 16 * 1024;

/// Reads from one job per round, so that one that writes without pause keeps nobody waiting.
const READS_PER_ROUND: usize = 4;

/// Reads of what a job left. Its pipe holds no more, unless it was enlarged or somebody keeps writing.
const READS_AT_END: usize = 64;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Output {
    #[serde(rename = "fd")]
    pipe: Kept<File>,
    #[serde(with = "forms::written")]
    pub(super) kept: Vec<u8>,
    /// How much is kept.
    #[serde(default = "usual", skip_serializing_if = "is_usual")]
    kept_max: usize,
    /// Whether what is kept begins in the middle of a line.
    is_cut: bool,
}

fn usual() -> usize {
    KEPT_BYTES_MAX
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_usual(kept_max: &usize) -> bool {
    *kept_max == KEPT_BYTES_MAX
}

/// The end of what a job has written.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::master) struct Written {
    pub(in crate::master) bytes: Vec<u8>,
    is_cut: bool,
}

impl Output {
    /// Keeps the last `kept_max` bytes that come out of `pipe`, which does not block.
    pub(super) fn new(pipe: OwnedFd, kept_max: usize) -> Self {
        Self { pipe: Kept::Open(pipe.into()), kept: Vec::new(), kept_max, is_cut: false }
    }

    /// Has epoll report what can be read, until the pipe is closed.
    pub(super) fn register(&self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.pipe.as_raw_fd()), JOBS, Interest::READABLE)
    }

    /// Reads a bounded amount; returns whether there may be more.
    pub(super) fn read_some(&mut self) -> bool {
        self.read(READS_PER_ROUND)
    }

    fn read(&mut self, reads: usize) -> bool {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..reads {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.keep(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let surplus = self.kept.len().saturating_sub(self.kept_max);
        if let Some(lost) = self.kept.drain(..surplus).next_back() {
            self.is_cut = lost != b'\n';
        }
    }

    /// Reads what is left.
    pub(super) fn finish(mut self) -> Written {
        self.read(READS_AT_END);
        Written { bytes: self.kept, is_cut: self.is_cut }
    }
}

impl Written {
    /// The last lines, for people.
    pub(in crate::master) fn lines(&self) -> Vec<String> {
        let mut lines = self.bytes.split_inclusive(|byte| *byte == b'\n').peekable();
        // One that is cut says little, unless it is all there is.
        let first = lines.next().filter(|_| !self.is_cut || lines.peek().is_none());
        let mut lines: VecDeque<_> =
            first.into_iter().chain(lines).map(|line| text(line.trim_ascii_end())).collect();
        // Escapes are longer than what they stand for.
        while lines.iter().map(String::len).sum::<usize>() > KEPT_BYTES_MAX {
            lines.pop_front();
        }
        lines.into()
    }
}
