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
    let last: Vec<_> = last_lines(&text).into_iter().map(|(line, _)| line).collect();
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
    last_lines(text).into_iter().map(|(_, rollout)| rollout).collect()
}

/// The lines of the last rollouts. A second line of one replaces the first: what it has left behind was known later.
fn last_lines(text: &[u8]) -> VecDeque<(&[u8], PastRollout)> {
    let mut last = VecDeque::<(&[u8], PastRollout)>::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(rollout) = rollout(line) else { continue };
        let is_it = |(_, other): &&mut (&[u8], PastRollout)| {
            *other == PastRollout { listening: other.listening, ..rollout.clone() }
        };
        match last.iter_mut().rev().find(is_it) {
            Some(known) => *known = (line, rollout),
            None => last.push_back((line, rollout)),
        }
        if last.len() > ROLLOUTS_MAX {
            last.pop_front();
        }
    }
    last
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
        let text = [&LINE[7..], LINE, &LINE[..50], "\n", &long, &of(3), &LINE[..9]].concat();
        assert_eq!(parse(text.as_bytes()).len(), 2);
        let many: String = (2..ROLLOUTS_MAX + 7).map(of).collect();
        assert_eq!(parse(many.as_bytes()).len(), ROLLOUTS_MAX);
    }

    fn of(generation: usize) -> String {
        LINE.replace("\"generation\":2", &format!("\"generation\":{generation}"))
    }

    #[test]
    fn a_second_line_of_a_rollout_replaces_the_first() {
        let again = of(3).replace("\"done\"", "\"done\",\"listening\":1");
        // Of another master, in the same second.
        let other = of(3).replace("\"took_ms\":3", "\"took_ms\":4");
        let rollouts = parse([LINE, &of(3), &of(4), &other, &again].concat().as_bytes());
        let rollouts: Vec<_> =
            rollouts.iter().map(|rollout| (rollout.generation, rollout.listening)).collect();
        assert_eq!(rollouts, [(2, 0), (3, 1), (4, 0), (3, 0)]);
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
