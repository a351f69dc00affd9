//! Warnings that would be many: at most one of a kind in a minute is logged.

use std::fmt::Display;
use std::mem::take;
use std::time::Duration;

use einhyrningsins_supervisor::Moment;

use super::Log;
use crate::forms;

/// Between two warnings of the same kind. Source: this program; einhyrningsins(1), EVENTS and `--log-workers`.
pub(crate) const WARN_EVERY: Duration = Duration::from_secs(60);

/// Warnings of one kind.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    pub(crate) last: Option<Moment>,
    /// Without a warning of their own, since the last.
    pub(crate) left_out: u64,
}

impl Warnings {
    pub(crate) fn warn(&mut self, log: &mut Log, what: impl Display) {
        let now = forms::now();
        if self.last.is_some_and(|last| now - last < WARN_EVERY) {
            self.left_out += 1;
            return;
        }
        self.last = Some(now);
        match take(&mut self.left_out) {
            0 => log.warn(what),
            others => log.warn(format_args!("{what} ({others} more since the last such warning)")),
        }
    }
}
