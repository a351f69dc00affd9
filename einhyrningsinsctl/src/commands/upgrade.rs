//! `upgrade` and its kin: progress while it runs, and how it ended.

use einhorn_proto::{self as proto, Notice, Outcome, Severity, UpgradeReport};

use crate::connection::Reply;
use crate::error::Error;
use crate::options::Answer;
use crate::output::Output;
use crate::session::Session;
use crate::table::Style;

use super::progress::Progress;
use super::{show_last, typed};

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
    show_end(output, reply, request, answer)
}

/// Returns when the master has begun, which its first line of progress tells; or refused, in its last.
pub(super) fn begin(
    session: &mut Session,
    output: &Output,
    request: &proto::Command,
    answer: Answer,
) -> Result<(), Error> {
    let reply = session.begin_request(request, answer.timeout)?;
    let is_over = !reply.wait;
    show_end(output, reply, request, answer)?;
    if is_over || answer.json {
        return Ok(());
    }
    output.text("it goes on in the master: \"upgrade --follow\" waits for its end, and \"status\" shows it")
}

/// Shows how it ended; a failure with what was done about it, and with what the worker said that caused it.
fn show_end(output: &Output, reply: Reply, request: &proto::Command, answer: Answer) -> Result<(), Error> {
    let data = reply.data.clone();
    show_last(output, reply, request, answer).map_err(|error| match (error, data) {
        (Error::Refused { message, .. }, Some(data)) if !answer.json => {
            let report = typed::<UpgradeReport>(&data);
            let details = report.map(|report| [vec![what_was_done(&report)], last_words(&report)].concat());
            Error::Refused { message, details: details.unwrap_or_default() }
        }
        (error, _) => error,
    })
}

fn what_was_done(report: &UpgradeReport) -> String {
    match report.outcome {
        Outcome::Done | Outcome::RolledBack => {
            format!("rolled back: no worker runs generation {}", report.generation)
        }
        Outcome::Failed => "not rolled back; \"status\" shows which worker runs what".to_owned(),
    }
}

/// What the worker that decided it wrote last, where the master has listened.
fn last_words(report: &UpgradeReport) -> Vec<String> {
    let lines = report.death.as_ref().map_or(&[][..], |death| &death.stderr_tail);
    if lines.is_empty() {
        return Vec::new();
    }
    let heading = "the last that it wrote to its standard error:".to_owned();
    std::iter::once(heading).chain(lines.iter().map(|line| format!("| {line}"))).collect()
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
                if let Some(style) = lasting(&notice) {
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

/// The style of what stays above the bar: what goes wrong, and the turns that the upgrade takes.
fn lasting(notice: &Notice) -> Option<Style> {
    match (notice.severity(), notice) {
        (Severity::Error, _) => Some(Style::Bad),
        (Severity::Warn, _) => Some(Style::Busy),
        (_, Notice::SoakStarted { .. } | Notice::SoakOver { .. } | Notice::UpgradeJoined(_)) => {
            Some(Style::Plain)
        }
        (Severity::Info | Severity::Debug, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(outcome: Outcome) -> UpgradeReport {
        let report = json!({ "outcome": outcome, "generation": 8, "upgraded": 1, "wanted": 4, "draining": 0,
                             "took_ms": 7 });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn a_failure_says_whether_it_was_rolled_back() {
        assert_eq!(what_was_done(&report(Outcome::RolledBack)), "rolled back: no worker runs generation 8");
        assert_eq!(
            what_was_done(&report(Outcome::Failed)),
            "not rolled back; \"status\" shows which worker runs what"
        );
    }

    #[test]
    fn the_last_words_of_a_worker_are_told_if_there_are_any() {
        let mut report = report(Outcome::Failed);
        assert_eq!(last_words(&report), [""; 0]);
        let mut death = json!({ "pid": 7, "generation": 8, "reason": "", "age_ms": 4, "acked": false });
        report.death = serde_json::from_value(death.clone()).unwrap();
        assert_eq!(last_words(&report), [""; 0]);
        death["stderr_tail"] = json!(["Traceback:", "  no such module"]);
        report.death = serde_json::from_value(death).unwrap();
        assert_eq!(
            last_words(&report),
            ["the last that it wrote to its standard error:", "| Traceback:", "|   no such module"]
        );
    }
}
