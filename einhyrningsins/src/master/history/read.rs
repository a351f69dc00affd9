//! The program of the job that reads the history: `einhyrningsins --read-history FILE`, which writes the last lines of the file to
//! standard output.
//!
//! It is a process of its own because a disk may not answer, and the start of the master does not wait for one.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use einhorn_proto::PastRollout;
use nix::libc;

use super::ROLLOUTS_MAX;

/// The option that asks for it.
pub(super) const OPTION: &str = "--read-history";

/// How much of the end of the file is read: 200 lines of the greatest length are longer, but no master writes many of those.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// The longest line that is read. The longest that a master writes has some 3 KiB.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// How much it writes at most.
pub(crate) const WRITTEN_BYTES_MAX: usize = ROLLOUTS_MAX * (LINE_BYTES_MAX + 1);

/// Writes the last rollouts in the file at `path` to standard output, and returns the exit code.
///
/// # Errors
/// If the file cannot be read. One that is not there has no rollout.
pub(super) fn read(path: &Path) -> anyhow::Result<u8> {
    let text = end_of(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<_> = lines(&text).filter(|line| rollout(line).is_some()).collect();
    let last = &lines[lines.len().saturating_sub(ROLLOUTS_MAX)..];
    io::stdout().write_all(&last.concat()).context("cannot pass it on")?;
    Ok(0)
}

fn end_of(path: &Path) -> anyhow::Result<Vec<u8>> {
    // As the writer opens it, which may not be able to; but it must be there, and keeps nobody waiting.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = match OpenOptions::new().read(true).append(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        bail!("it is not a file");
    }
    // Another master may be writing to it.
    let _ = file.lock_shared();
    let length = file.metadata()?.len();
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_BYTES_MAX)))?;
    file.take(READ_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The last rollouts in `text`, oldest first. A line that a crash has cut is none, nor is one in whose middle `text` begins.
pub(crate) fn parse(text: &[u8]) -> VecDeque<PastRollout> {
    let mut rollouts: VecDeque<_> = lines(text).filter_map(rollout).collect();
    rollouts.drain(..rollouts.len().saturating_sub(ROLLOUTS_MAX));
    rollouts
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

fn rollout(line: &[u8]) -> Option<PastRollout> {
    (line.len() <= LINE_BYTES_MAX).then(|| serde_json::from_slice(line).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "{\"ended_at\":\"2026-11-28T14:00:00Z\",\"kind\":\"upgrade\",\"order\":\"smooth\",\"generation\":2,\"from\":1,\
                        \"took_ms\":3,\"outcome\":\"done\"}\n";

    #[test]
    fn lines_that_are_cut_or_too_long_are_no_rollouts() {
        let long = LINE.replace("done\"", &format!("done\",\"reason\":\"{}\"", "x".repeat(LINE_BYTES_MAX)));
        let text = [&LINE[7..], LINE, &LINE[..50], "\n", &long, LINE, &LINE[..9]].concat();
        assert_eq!(parse(text.as_bytes()).len(), 2);
        assert_eq!(parse(LINE.repeat(ROLLOUTS_MAX + 5).as_bytes()).len(), ROLLOUTS_MAX);
    }

    proptest! {
        /// What is not understood does not hide what is.
        #[test]
        fn any_bytes_are_read(before in prop::collection::vec(any::<u8>(), 0..300), after in "[^\n]*") {
            let text = [&before[..], b"\n", LINE.as_bytes(), after.as_bytes()].concat();
            let rollouts = parse(&text);
            prop_assert!(rollouts.iter().any(|rollout| rollout.generation == 2));
            let written: Vec<_> =
                rollouts.iter().map(|rollout| serde_json::to_string(rollout).unwrap() + "\n").collect();
            prop_assert_eq!(parse(written.concat().as_bytes()), rollouts);
        }
    }
}
