//! `upgrade`: progress while it runs, and how it ended.

use std::collections::BTreeSet;

use einhorn_proto::{self as proto, Notice, Severity};

use crate::connection::Reply;
use crate::error::Error;
use crate::options::Answer;
use crate::output::Output;
use crate::session::Session;
use crate::table::Style;
use crate::text::cut;

use super::{show_last, typed};

/// The columns of the bar itself, brackets not counted.
const BAR_COLUMNS: usize = 20;

/// Shows a bar and what goes wrong on a terminal, each step on a line of its own elsewhere; then the end.
pub(super) fn run(
    session: &mut Session,
    output: &Output,
    request: &proto::Command,
    answer: Answer,
) -> Result<(), Error> {
    let mut display = Display { output, progress: Progress::default(), shown: String::new() };
    let reply = session.request(request, answer.timeout, &mut |reply| display.step(reply));
    let cleared = display.clear();
    let reply = reply?;
    cleared?;
    show_last(output, reply, request, answer)
}

/// What is on the terminal.
struct Display<'a> {
    output: &'a Output,
    progress: Progress,
    /// The bar as it stands, on the line of the cursor.
    shown: String,
}

impl Display<'_> {
    fn step(&mut self, reply: &Reply) -> Result<(), Error> {
        let Some(columns) = self.output.width() else { return self.output.text(&reply.message) };
        match reply.data.as_deref().and_then(typed::<Notice>) {
            Some(notice) => {
                self.progress.observe(&notice);
                let style = match notice.severity() {
                    Severity::Error => Some(Style::Bad),
                    Severity::Warn => Some(Style::Busy),
                    Severity::Info | Severity::Debug => None,
                };
                if let Some(style) = style {
                    self.line(&reply.message, style)?;
                }
            }
            None => self.line(&reply.message, Style::Plain)?,
        }
        // Text in the last column would wrap on some terminals.
        self.draw(&self.progress.bar(columns.saturating_sub(1)))
    }

    /// Writes a line that stays, above the bar.
    fn line(&mut self, text: &str, style: Style) -> Result<(), Error> {
        self.clear()?;
        self.output.styled(text, style)
    }

    fn draw(&mut self, bar: &str) -> Result<(), Error> {
        if bar == self.shown {
            return Ok(());
        }
        self.shown = bar.to_owned();
        self.output.raw(&format!("\r{bar}\x1b[K"))
    }

    /// Takes the bar away.
    fn clear(&mut self) -> Result<(), Error> {
        if self.shown.is_empty() {
            return Ok(());
        }
        self.shown.clear();
        self.output.raw("\r\x1b[K")
    }
}

/// How far the upgrade is, counted from what the master tells of it.
#[derive(Debug, Default)]
struct Progress {
    generation: Option<u64>,
    wanted: u32,
    /// Pids of the new generation that have not acked.
    starting: BTreeSet<i32>,
    /// Slots whose worker is of the new generation and has acked.
    acked: BTreeSet<u32>,
    /// Pids that were asked to stop.
    draining: BTreeSet<i32>,
}

impl Progress {
    fn observe(&mut self, notice: &Notice) {
        let is_new = |generation: u64| Some(generation) == self.generation;
        match notice {
            Notice::UpgradeStarted { generation, workers } => {
                *self = Self { generation: Some(*generation), wanted: *workers, ..Self::default() };
            }
            Notice::Spawned { pid, generation, .. } if is_new(*generation) => {
                self.starting.insert(*pid);
            }
            Notice::Acked { slot, pid, generation, .. } if is_new(*generation) => {
                self.starting.remove(pid);
                self.acked.insert(*slot);
            }
            Notice::Draining { slot, pid, generation, .. } => {
                if is_new(*generation) {
                    self.acked.remove(slot);
                }
                self.starting.remove(pid);
                self.draining.insert(*pid);
            }
            Notice::Drained { pid, .. } => {
                self.draining.remove(pid);
            }
            Notice::Died { slot, death, .. } => {
                if is_new(death.generation) && death.acked {
                    self.acked.remove(slot);
                }
                if let Some(pid) = death.pid {
                    self.starting.remove(&pid);
                    self.draining.remove(&pid);
                }
            }
            Notice::Resized { to, .. } => self.wanted = *to,
            _ => {}
        }
    }

    /// The bar, in at most `columns`; empty before anything is known.
    fn bar(&self, columns: usize) -> String {
        let Some(generation) = self.generation else { return String::new() };
        let wanted = self.wanted.max(1) as usize;
        let acked = self.acked.len().min(wanted);
        let filled = BAR_COLUMNS * acked / wanted;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR_COLUMNS - filled));
        let mut text = format!("generation {generation} [{bar}] {acked}/{} acked", self.wanted);
        for (count, what) in [(self.starting.len(), "starting"), (self.draining.len(), "draining")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        cut(&text, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use einhorn_proto::{AckSource, Death, Termination};

    fn spawned(slot: u32, pid: i32) -> Notice {
        Notice::Spawned { slot, index: slot, pid, generation: 8 }
    }

    fn acked(slot: u32, pid: i32) -> Notice {
        Notice::Acked { slot, pid, generation: 8, source: AckSource::Control, age_ms: 5 }
    }

    fn draining(slot: u32, pid: i32, generation: u64) -> Notice {
        Notice::Draining { slot, pid, generation, signal: "SIGUSR2".into(), why: "replaced".into() }
    }

    fn drained(slot: u32, pid: i32) -> Notice {
        Notice::Drained { slot, pid, generation: 7, termination: Termination::Exited(0), took_ms: 3 }
    }

    fn died(slot: u32, pid: i32, generation: u64, acked: bool) -> Notice {
        let death = Death {
            pid: Some(pid),
            generation,
            reason: "exited with status 1".into(),
            termination: Some(Termination::Exited(1)),
            age_ms: 4,
            acked,
        };
        Notice::Died { slot, death, next_spawn_ms: Some(2200), next: "next spawn in 2.2s".into() }
    }

    fn bar_after(notices: &[Notice]) -> String {
        let mut progress = Progress::default();
        progress.observe(&Notice::UpgradeStarted { generation: 8, workers: 4 });
        notices.iter().for_each(|notice| progress.observe(notice));
        progress.bar(79)
    }

    #[test]
    fn an_upgrade_fills_the_bar() {
        assert_eq!(Progress::default().bar(79), "");
        assert_eq!(bar_after(&[]), "generation 8 [....................] 0/4 acked");
        let mut notices = vec![spawned(0, 10), spawned(1, 11)];
        assert_eq!(bar_after(&notices), "generation 8 [....................] 0/4 acked, 2 starting");
        notices.extend([acked(0, 10), draining(0, 1, 7)]);
        assert_eq!(
            bar_after(&notices),
            "generation 8 [#####...............] 1/4 acked, 1 starting, 1 draining"
        );
        notices.extend([drained(0, 1), acked(1, 11), acked(2, 12), acked(3, 13)]);
        assert_eq!(bar_after(&notices), "generation 8 [####################] 4/4 acked");
    }

    #[test]
    fn a_new_worker_that_dies_or_is_taken_back_does_not_count() {
        let up = [spawned(0, 10), acked(0, 10)];
        assert_eq!(bar_after(&[&up[..], &[died(0, 10, 8, true)]].concat()), bar_after(&[]));
        assert_eq!(bar_after(&[spawned(0, 10), died(0, 10, 8, false)]), bar_after(&[]));
        let taken_back = bar_after(&[&up[..], &[draining(0, 10, 8)]].concat());
        assert_eq!(taken_back, "generation 8 [....................] 0/4 acked, 1 draining");
    }

    #[test]
    fn an_old_worker_that_dies_changes_no_count_of_new_ones() {
        assert_eq!(
            bar_after(&[spawned(0, 10), acked(0, 10), died(0, 1, 7, true)]),
            bar_after(&[acked(0, 10)])
        );
    }

    #[test]
    fn the_bar_follows_a_resize_and_a_narrow_terminal() {
        let mut progress = Progress::default();
        progress.observe(&Notice::UpgradeStarted { generation: 8, workers: 4 });
        progress.observe(&acked(0, 10));
        progress.observe(&Notice::Resized { from: 4, to: 1 });
        assert_eq!(progress.bar(79), "generation 8 [####################] 1/1 acked");
        assert_eq!(progress.bar(20), "generation 8 [#####…");
    }
}
