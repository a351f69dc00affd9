//! The history: the last rollouts that have ended, for `history`.
//!
//! The core reports how a rollout ended and who asked for it; this part adds the time of day and the name of the release. The
//! history is kept in memory, and handed over. With `--history`, it is also in a file (`file.rs`), which jobs read (`read.rs`) and
//! append to (`append.rs`).

mod append;
mod file;
mod read;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use einhorn_proto::{History as Answer, LABEL_CHARS_MAX, PastRollout, visible_line};
use einhyrningsins_supervisor::{Generation, RolloutRecord};
use serde::{Deserialize, Serialize};

use crate::forms::milliseconds;

pub(crate) use file::HistoryFile;
pub(super) use read::WRITTEN_BYTES_MAX;
#[cfg(fuzzing)]
pub(crate) use read::parse;

/// Rollouts that are remembered. Source: this program; einhorn-control(7), "LIMITS".
const ROLLOUTS_MAX: usize = 100;

/// Characters of a reason that are remembered. Source: as above; the log has all of it.
const REASON_CHARS_MAX: usize = 500;

/// What this program does as a job of a master's history, with the file at a path.
#[derive(Debug)]
pub(crate) enum Task<'a> {
    Append(&'a Path),
    Read(&'a Path),
}

impl<'a> Task<'a> {
    /// The task for which this program was started, if it was for one.
    pub(crate) fn of(argv: &'a [OsString]) -> Option<Self> {
        let [_, option, file] = argv else { return None };
        match option.to_str()? {
            append::OPTION => Some(Self::Append(Path::new(file))),
            read::OPTION => Some(Self::Read(Path::new(file))),
            _ => None,
        }
    }

    /// Carries it out, and returns the exit code.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        match self {
            Self::Append(file) => append::append(file),
            Self::Read(file) => read::read(file),
        }
    }
}

/// Finds out whether a history can be kept in the file at `path`, without making it.
///
/// # Errors
/// If it cannot.
pub(crate) fn try_history(path: &Path) -> anyhow::Result<()> {
    append::try_append(path)
}

/// The last rollouts that have ended, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct History(VecDeque<PastRollout>);

impl History {
    /// Adds a rollout that has ended. `own_name` is the name of its release where no client gave a label.
    pub(super) fn add(&mut self, rollout: RolloutRecord, own_name: Option<String>) {
        let RolloutRecord { kind, order, generation, from, label, requester, .. } = rollout;
        let RolloutRecord { took, outcome, is_untouched, ended_by, listening, reason, .. } = rollout;
        if self.0.len() == ROLLOUTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(PastRollout {
            ended_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            kind,
            order,
            generation: generation.0,
            from: from.0,
            release: label.or(own_name).map(|name| bounded(&name, LABEL_CHARS_MAX)),
            requester,
            took_ms: milliseconds(took),
            outcome,
            is_untouched,
            ended_by,
            listening,
            reason: reason.map(|reason| bounded(&reason, REASON_CHARS_MAX)),
        });
    }

    /// Of the last rollout from one generation to another: workers that it has replaced left processes that may still serve.
    /// Returns it, if that is news.
    pub(super) fn add_listening(
        &mut self,
        from: Generation,
        to: Generation,
        listening: u32,
    ) -> Option<&PastRollout> {
        let is_it = |rollout: &&mut PastRollout| (rollout.from, rollout.generation) == (from.0, to.0);
        let rollout = self.0.iter_mut().rev().find(is_it)?;
        (std::mem::replace(&mut rollout.listening, listening) != listening).then_some(rollout)
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<&PastRollout> {
        self.0.back()
    }

    /// Adds rollouts that have ended before all of these, oldest first, as far as there is room.
    fn add_before(&mut self, earlier: VecDeque<PastRollout>) {
        let room = ROLLOUTS_MAX.saturating_sub(self.0.len());
        earlier.into_iter().rev().take(room).for_each(|rollout| self.0.push_front(rollout));
    }

    /// The data of the answer to `history`.
    pub(super) fn answer(&self) -> Answer {
        Answer { rollouts: self.0.iter().cloned().collect() }
    }
}

/// How many there are.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 rollout has ended"),
            ended => write!(f, "{ended} rollouts have ended"),
        }
    }
}

/// The beginning of `text`, on one line.
fn bounded(text: &str, chars_max: usize) -> String {
    visible_line(text).chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use einhorn_proto::{PastOutcome, Requester, RolloutKind, RolloutOrder};

    use super::*;

    fn record(generation: u64) -> RolloutRecord {
        RolloutRecord {
            kind: RolloutKind::Upgrade,
            order: RolloutOrder::Smooth,
            generation: Generation(generation),
            from: Generation(generation - 1),
            label: None,
            requester: Requester::default(),
            took: Duration::from_millis(1_500),
            outcome: PastOutcome::Done,
            is_untouched: false,
            ended_by: None,
            listening: 0,
            reason: None,
        }
    }

    #[test]
    fn the_last_hundred_rollouts_are_kept_and_outlive_a_handover() {
        let mut history = History::default();
        (2..=106).for_each(|generation| history.add(record(generation), None));
        let answer = history.answer();
        let generations: Vec<_> = answer.rollouts.iter().map(|rollout| rollout.generation).collect();
        assert_eq!(generations, (7..=106).collect::<Vec<_>>());
        assert_eq!(answer.rollouts[0].took_ms, 1_500);
        let written = serde_json::to_string(&history).unwrap();
        let read: History = serde_json::from_str(&written).unwrap();
        assert_eq!(read.answer(), answer);
        assert_eq!(read.to_string(), "100 rollouts have ended");
    }

    #[test]
    fn what_a_file_had_comes_before_what_has_ended_since() {
        let mut earlier = History::default();
        (2..=101).for_each(|generation| earlier.add(record(generation), None));
        let mut history = History::default();
        (102..=104).for_each(|generation| history.add(record(generation), None));
        history.add_before(earlier.0);
        let rollouts = history.answer().rollouts;
        let generations: Vec<_> = rollouts.iter().map(|rollout| rollout.generation).collect();
        assert_eq!(generations, (5..=104).collect::<Vec<_>>());
    }

    #[test]
    fn what_still_serves_is_added_once_to_the_last_rollout_between_two_generations() {
        let mut history = History::default();
        (2..=4).for_each(|generation| history.add(record(generation), None));
        let mut add = |from, to| history.add_listening(Generation(from), Generation(to), 2).cloned();
        assert_eq!(add(2, 3).map(|rollout| (rollout.generation, rollout.listening)), Some((3, 2)));
        assert_eq!((add(2, 3), add(3, 2)), (None, None));
        let listening: Vec<_> = history.0.iter().map(|rollout| rollout.listening).collect();
        assert_eq!(listening, [0, 2, 0]);
    }

    #[test]
    fn a_label_comes_before_the_own_name_of_a_release() {
        let mut history = History::default();
        history.add(RolloutRecord { label: Some("v2".to_owned()), ..record(2) }, Some("20261128".to_owned()));
        history.add(record(3), Some("20261129".to_owned()));
        history.add(record(4), None);
        let answer = history.answer();
        let names: Vec<_> = answer.rollouts.iter().map(|rollout| rollout.release.as_deref()).collect();
        assert_eq!(names, [Some("v2"), Some("20261129"), None]);
    }

    #[test]
    fn texts_are_bounded_and_on_one_line() {
        let mut history = History::default();
        let reason = Some(format!("\u{1b}[2Jno\nsuch {}", "ż".repeat(10_000)));
        history.add(RolloutRecord { reason, ..record(2) }, Some("x\n".repeat(1_000)));
        let [rollout] = &history.answer().rollouts[..] else { panic!() };
        let reason = rollout.reason.as_deref().unwrap();
        assert!(reason.starts_with("\\u{1b}[2Jno such żż"), "{reason}");
        assert_eq!(reason.chars().count(), REASON_CHARS_MAX);
        assert_eq!(rollout.release.as_deref(), Some(&*"x ".repeat(LABEL_CHARS_MAX / 2)));
    }
}
