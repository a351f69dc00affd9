//! Lines in the log about what was refused, or who was dropped: a bounded number in a while, and then how many more there were.
//!
//! Whoever may send to the notify socket could otherwise fill a disk, or hide what matters.

use std::collections::HashSet;
use std::fmt::Display;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::logging::Log;

/// Lines of each kind in a period.
const LINES_MAX: usize = 10;

const PERIOD: Duration = Duration::from_secs(10);

/// Refusals in a period that are worth a line, though their senders are known already.
const FLOOD: u64 = 1000;

/// Senders that are remembered.
const SENDERS_MAX: usize = 256;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Refusals {
    /// How many there were, since the master started.
    #[serde(default)]
    total: u64,
    /// Those that a line was written about. Each is warned about once: workers of a dead master find its successor at the
    /// same path, and may ping for as long as they live.
    #[serde(skip)]
    known: HashSet<Pid>,
    #[serde(skip)]
    period: Option<Period>,
}

#[derive(Debug)]
struct Period {
    since: Instant,
    /// Warnings, and lines for debugging.
    lines: [usize; 2],
    /// Without a line.
    left_out: u64,
    is_warning_left_out: bool,
}

impl Refusals {
    /// Logs a refusal: a warning if its sender is not known yet.
    pub(super) fn log(&mut self, sender: Option<Pid>, refusal: impl Display, log: &mut Log) {
        self.total += 1;
        let is_known = sender.is_some_and(|sender| self.known.contains(&sender));
        let period = self.period();
        if period.lines[usize::from(is_known)] >= LINES_MAX {
            period.left_out += 1;
            period.is_warning_left_out |= !is_known;
            return;
        }
        period.lines[usize::from(is_known)] += 1;
        if is_known {
            return log.debug(refusal);
        }
        log.warn(refusal);
        if self.known.len() >= SENDERS_MAX {
            self.known.clear();
        }
        self.known.extend(sender);
    }

    /// Counts a refusal that is not worth the work of a line.
    pub(super) fn count(&mut self) {
        self.total += 1;
        self.period().left_out += 1;
    }

    /// How many there were, since the master started.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    fn period(&mut self) -> &mut Period {
        self.period.get_or_insert_with(|| Period {
            since: Instant::now(),
            lines: [0; 2],
            left_out: 0,
            is_warning_left_out: false,
        })
    }

    /// When to call [`Self::settle`]: there is something to say, unless nothing else wakes the master up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let period = self.period.as_ref().filter(|period| period.is_worth_a_line())?;
        Some(period.since + PERIOD)
    }

    /// Ends a period that is over, and says how many had no line: `what` is "messages were refused", or the like.
    pub(super) fn settle(&mut self, what: &str, log: &mut Log) {
        let Some(period) = self.period.take_if(|period| period.since.elapsed() >= PERIOD) else { return };
        let (count, seconds) = (period.left_out, PERIOD.as_secs());
        let rest = format_args!("{count} more {what} within {seconds} s");
        if period.is_worth_a_line() {
            log.warn(rest);
        } else if count > 0 {
            log.debug(rest);
        }
    }
}

impl Period {
    fn is_worth_a_line(&self) -> bool {
        self.is_warning_left_out || self.left_out >= FLOOD
    }
}

#[cfg(test)]
mod tests {
    use einhorn_proto::Severity;

    use super::*;
    use crate::cli::LogFormat;
    use crate::config::LogConfig;

    fn log() -> Log {
        let verbosity = Severity::Error;
        Log::open(LogConfig {
            verbosity,
            format: LogFormat::Text,
            syslog: false,
            file: None,
            has_colours: None,
        })
    }

    #[test]
    fn each_sender_is_new_once_and_lines_and_memory_are_bounded() {
        let mut log = log();
        let mut refusals = Refusals::default();
        let pid = Pid::from_raw(7);
        refusals.log(Some(pid), "one", &mut log);
        assert_eq!((refusals.known.len(), refusals.deadline()), (1, None));
        for _ in 0..LINES_MAX + 2 {
            refusals.log(Some(pid), "more", &mut log);
        }
        let period = refusals.period();
        assert_eq!((period.lines, period.left_out, period.is_worth_a_line()), ([1, LINES_MAX], 2, false));
        for pid in 1..i32::try_from(2 * SENDERS_MAX).unwrap() {
            refusals.log(Some(Pid::from_raw(1000 + pid)), "others", &mut log);
        }
        let period = refusals.period();
        assert_eq!((period.lines[0], period.is_warning_left_out), (LINES_MAX, true));
        assert!(refusals.deadline().is_some() && refusals.known.len() <= LINES_MAX);
        for _ in 0..100 * SENDERS_MAX {
            refusals.period = None;
            refusals.log(Some(Pid::from_raw(refusals.known.len() as i32 + 5000)), "others", &mut log);
        }
        assert!(refusals.known.len() <= SENDERS_MAX);
    }

    #[test]
    fn a_flood_of_known_senders_is_said_once_in_a_period() {
        let mut log = log();
        let mut refusals = Refusals::default();
        (0..FLOOD).for_each(|_| refusals.count());
        let due = refusals.deadline().expect("there is something to say");
        refusals.settle("messages were refused", &mut log);
        assert!(refusals.period.is_some(), "it is not over");
        refusals.period().since = due - 2 * PERIOD;
        refusals.settle("messages were refused", &mut log);
        assert!(refusals.period.is_none() && refusals.deadline().is_none());
    }
}
