//! `upgrade` and the other commands about rollouts: shows progress and the outcome.

use std::time::{Duration, Instant};

use clap::{ArgGroup, FromArgMatches};
use einhorn_proto::{
    self as proto, CommandInfo, Counts, Notice, Outcome, Progress, Severity, UpgradeReport, UpgradeStage,
    WORKERS_MAX, parse_label, parse_seconds_above_zero, visible_line,
};

use super::bar::{Course, bar, in_words};
use super::{Context, Reader, Typed, plain, typed};
use crate::connection::Reply;
use crate::error::Error;
use crate::output::Output;
use crate::table::Style;
use crate::text::cut;

pub(super) const DETAILS: &str = "\
Shows progress and returns when the upgrade has ended, with exit code 0 only if every worker runs the new release and \
takes traffic. If the new release fails, the master rolls back by itself; the reason is printed, and the exit code is \
1. After Ctrl-C the upgrade continues in the master.";

const ROLLBACK_DETAILS: &str = "\
Aborts a running upgrade, as \"upgrade --abort\" does. After an upgrade, replaces every worker with one \
from the previous release, which is kept until the next upgrade begins. The exit code is 0 only if every worker runs \
that release and takes traffic.";

/// That nobody needs to wait for a rollout.
pub(super) const CONTINUES: &str = "the upgrade continues in the master: \"upgrade --follow\" waits for its end, \"status\" shows \
    its progress";

/// How often the bar is drawn where nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// A pool of more slots has no line for each step in a pipe, but one for so many acks, or for a twentieth of all.
const STEPS_EACH: u32 = 20;
const STEPS_TOGETHER: u32 = 10;
const LINES_MAX: u32 = 20;

/// How to upgrade; or what to do with the running upgrade, which excludes all of that.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("plan").multiple(true), group = ArgGroup::new("running").conflicts_with("plan"))]
pub(super) struct Args {
    /// Start all new workers at once; the old ones stop when all new ones have acked
    #[arg(long, group = "plan")]
    fleet: bool,

    /// Replace this many workers first, and the rest after the soak
    ///
    /// If one of them dies during the soak, the upgrade has failed.
    #[arg(long, value_name = "COUNT", group = "plan", conflicts_with = "fleet")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    canary: Option<u32>,

    /// How long the soak lasts [default: until "upgrade --continue"]
    #[arg(long, value_name = "SECONDS", group = "plan", requires = "canary", value_parser = parse_seconds_above_zero)]
    soak: Option<Duration>,

    /// If other upgrades run or wait, begin after them instead of being refused
    ///
    /// At most 16 upgrades wait, first come, first served. A rollback, an abort or a stop of the master cancels them,
    /// with exit code 1; an upgrade that fails does not.
    #[arg(long, group = "plan")]
    wait: bool,

    /// Upgrade the workers even if the master cannot be replaced
    ///
    /// An upgrade replaces the master first if the program on disk has changed. Without this option, the upgrade fails if
    /// that program cannot take over.
    #[arg(long, group = "plan")]
    keep_master: bool,

    /// Return when the last old worker has exited, however long that takes
    ///
    /// Without this option, the answer waits for old workers at most a second.
    #[arg(long, group = "plan", conflicts_with = "no_wait")]
    drained: bool,

    /// Check the new release with this command, in place of the master's own (--check)
    ///
    /// The master accepts it only from its own user and root: the command runs as the workers' user.
    #[arg(long, value_name = "CMDLINE", group = "plan", allow_hyphen_values = true)]
    check: Option<String>,

    /// Do not check the new release, even if the master has the option --check
    #[arg(long, group = "plan", conflicts_with = "check")]
    no_check: bool,

    /// Check the canaries with this command during the soak, at once and then repeatedly
    ///
    /// If it fails, the upgrade is rolled back. The master accepts it only from its own user and root.
    #[arg(long, value_name = "CMDLINE", group = "plan", requires = "canary", allow_hyphen_values = true)]
    soak_check: Option<String>,

    /// Time from the end of one check of the canaries to the start of the next [default: 10]
    #[arg(long, value_name = "SECONDS", group = "plan", requires = "soak_check", value_parser = parse_seconds_above_zero)]
    every: Option<Duration>,

    /// Fail the upgrade after this many failed checks of the canaries [default: 1]
    #[arg(long, value_name = "COUNT", group = "plan", requires = "soak_check")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    soak_failures: Option<u32>,

    /// Name of the release in "history" [default: RELEASE of --env-file, or the directory's name]
    #[arg(long, value_name = "TEXT", group = "plan", value_parser = parse_label)]
    label: Option<String>,

    /// End the soak of the running upgrade and replace the rest
    #[arg(long = "continue", group = "running")]
    go_on: bool,

    /// Abort the running upgrade and roll it back; exit code 0 once that is done
    #[arg(long, group = "running")]
    abort: bool,

    /// Follow the running upgrade until it ends
    #[arg(long, group = "running", conflicts_with = "no_wait")]
    follow: bool,

    #[command(flatten)]
    leave: Leave,
}

/// Whether to wait for the end.
#[derive(Debug, clap::Args)]
struct Leave {
    /// Return as soon as the upgrade has begun or is in the queue
    #[arg(long)]
    no_wait: bool,

    /// Print no progress, only how it ended
    #[arg(long, conflicts_with = "no_wait")]
    quiet: bool,
}

impl Typed for Args {
    fn request(&self) -> Option<proto::Command> {
        let Self { fleet, canary, soak, wait, keep_master, drained, no_check, every, soak_failures, .. } =
            *self;
        let (check, soak_check) = (self.check.clone(), self.soak_check.clone());
        Some(match (self.go_on, self.abort, self.follow) {
            (true, _, _) => proto::Command::UpgradeContinue,
            (_, true, _) => proto::Command::UpgradeAbort,
            (_, _, true) => proto::Command::UpgradeFollow,
            _ => proto::Command::Upgrade(proto::UpgradeRequest {
                fleet,
                canary,
                soak,
                wait,
                keep_master,
                drained,
                check,
                no_check,
                soak_check,
                every,
                soak_failures,
                label: self.label.clone(),
            }),
        })
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        self.request().map_or(Ok(()), |request| run(context, &request, &self.leave))
    }
}

/// A command about a rollout that has no options but this.
#[derive(Debug)]
struct Rollout {
    request: proto::Command,
    leave: Leave,
}

/// How `rollback`, `upgrade_fleet` and the like are read.
pub(super) fn rollout_reader(info: &CommandInfo) -> Reader {
    Reader {
        define: |_, command| <Leave as clap::Args>::augment_args(command),
        read: |info, matches| {
            let (request, leave) = (plain::request(info, matches)?, Leave::from_arg_matches(matches)?);
            Ok(Box::new(Rollout { request, leave }))
        },
        details: match info.name {
            "rollback" => ROLLBACK_DETAILS,
            "upgrade_fleet" => "The same as \"upgrade --fleet\".",
            "upgrade_continue" => "The same as \"upgrade --continue\".",
            "upgrade_abort" => "The same as \"upgrade --abort\".",
            "upgrade_follow" => "The same as \"upgrade --follow\".",
            _ => "",
        },
    }
}

impl Typed for Rollout {
    fn request(&self) -> Option<proto::Command> {
        Some(self.request.clone())
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        run(context, &self.request, &self.leave)
    }
}

fn run(context: &mut Context<'_>, request: &proto::Command, leave: &Leave) -> Result<(), Error> {
    match leave {
        Leave { no_wait: true, .. } => begin(context, request),
        Leave { quiet: true, .. } => {
            let reply = context.session.request(request, context.answer.timeout, &mut |_| Ok(()))?;
            show_end(context, reply, request)
        }
        _ => follow(context, request),
    }
}

/// Shows a bar and problems on a terminal, every step on a line of its own elsewhere; then the outcome.
fn follow(context: &mut Context<'_>, request: &proto::Command) -> Result<(), Error> {
    if context.answer.json {
        return context.print(request);
    }
    let mut display = Display::new(context.output);
    let every = if context.output.is_terminal() { TICK } else { Duration::MAX };
    let reply =
        context.session.request_with_ticks(
            request,
            context.answer.timeout,
            every,
            &mut |reply| match reply {
                Some(reply) => display.step(reply),
                None => display.tick(),
            },
        );
    let cleared = display.clear();
    let reply = reply?;
    cleared?;
    show_end(context, reply, request)
}

/// Returns at the first reply: progress, once the master has begun, or the last one, if it refused.
fn begin(context: &mut Context<'_>, request: &proto::Command) -> Result<(), Error> {
    let reply = context.session.begin_request(request, context.answer.timeout)?;
    if !reply.wait {
        return show_end(context, reply, request);
    }
    // It has begun, which is what was asked.
    let reply = Reply { ok: Some(true), ..reply };
    let progress = reply.data.as_deref().and_then(typed::<Progress>);
    context.print_last(reply, request)?;
    if context.answer.json {
        return Ok(());
    }
    context.output.text(match progress.map(|progress| progress.notice) {
        Some(Notice::UpgradeQueued { .. }) => "it begins by itself; \"status\" shows how many wait",
        _ => CONTINUES,
    })
}

/// Shows the outcome; after a failure also what was done about it, and the last output of the worker that caused it.
fn show_end(context: &mut Context<'_>, reply: Reply, request: &proto::Command) -> Result<(), Error> {
    let data = reply.data.clone();
    context.print_last(reply, request).map_err(|error| match (error, data) {
        (Error::Refused { message, .. }, Some(data)) if !context.answer.json => {
            let report = typed::<UpgradeReport>(&data);
            let details = report.map(|report| {
                let hint = report.hint.iter().map(|hint| format!("hint: {hint}")).collect();
                let options = report.options.iter().map(ToString::to_string).collect();
                [vec![what_was_done(&report)], options, last_words(&report), hint].concat()
            });
            Error::Refused { message, details: details.unwrap_or_default() }
        }
        (error, _) => error,
    })
}

pub(super) fn what_was_done(report: &UpgradeReport) -> String {
    match report.outcome {
        Outcome::Done => {
            "the new release serves, and the old one is not gone; \"status\" shows what is left".to_owned()
        }
        Outcome::RolledBack if report.is_untouched => "no worker was touched".to_owned(),
        Outcome::RolledBack => {
            format!("rolled back: no worker runs generation {}", report.generation)
        }
        Outcome::Failed => "not rolled back; \"status\" shows which worker runs what".to_owned(),
    }
}

/// The last output of the check that failed, and of the worker that made the upgrade fail, if the master captures that.
fn last_words(report: &UpgradeReport) -> Vec<String> {
    let mut words = Vec::new();
    let mut quote = |heading: &str, lines: &[String]| {
        if !lines.is_empty() {
            words.push(heading.to_owned());
            words.extend(lines.iter().map(|line| format!("| {line}")));
        }
    };
    if let Some(death) = &report.death {
        quote("last lines of its standard error:", &death.stderr_tail);
    }
    if let Some(check) = &report.check {
        quote("last lines of the check:", &check.output);
        quote("last lines of the trial worker's standard error:", &check.stderr_tail);
    }
    words
}

/// The terminal.
struct Display<'a> {
    output: &'a Output,
    /// The live line: the bar, or, with a master that sends no counts, the last message.
    shown: String,
    course: Course,
    /// The last counts, which the bar is drawn from.
    counts: Option<Counts>,
    /// How many slots were done at the last line in a pipe, if that has one for several.
    told: Option<(UpgradeStage, u32)>,
}

impl<'a> Display<'a> {
    fn new(output: &'a Output) -> Self {
        Self { output, shown: String::new(), course: Course::begin(Instant::now()), counts: None, told: None }
    }

    /// Draws the bar again, because time has passed.
    fn tick(&mut self) -> Result<(), Error> {
        match (self.counts, self.output.width()) {
            // Text in the last column would wrap on some terminals.
            (Some(counts), Some(columns)) => {
                self.draw(&bar(&counts, &self.course, Instant::now(), columns.saturating_sub(1)))
            }
            _ => Ok(()),
        }
    }

    /// Writes a line for each step of a small pool. Of a large one, each step that is a problem or a turn has a line, and so have
    /// several acks together.
    fn in_pipe(&mut self, reply: &Reply, progress: Option<&Progress>) -> Result<(), Error> {
        let Some(Progress { notice, counts }) = progress else { return self.output.text(&reply.message) };
        // Old workers may end when no rollout runs any more.
        self.counts = counts.or(self.counts);
        let Some(counts) = self.counts else { return self.output.text(&reply.message) };
        if counts.wanted <= STEPS_EACH || lasting(notice).is_some() {
            return self.output.text(&with_total(&reply.message, progress));
        }
        let group = STEPS_TOGETHER.max(counts.wanted / LINES_MAX);
        let told = (counts.stage, counts.done / group);
        let is_all = counts.done == counts.wanted && matches!(notice, Notice::Acked { .. });
        if self.told == Some(told) && !is_all {
            return Ok(());
        }
        self.told = Some(told);
        self.output.text(&in_words(&counts))
    }

    fn step(&mut self, reply: &Reply) -> Result<(), Error> {
        let progress = reply.data.as_deref().and_then(typed::<Progress>);
        let Some(columns) = self.output.width() else { return self.in_pipe(reply, progress.as_ref()) };
        let Some(Progress { notice, counts }) = progress else {
            return self.line(&reply.message, Style::Plain);
        };
        self.course.note(Instant::now(), &notice);
        self.counts = counts;
        let style = lasting(&notice);
        if let Some(style) = style {
            self.line(&reply.message, style)?;
        }
        // Text in the last column would wrap on some terminals.
        let columns = columns.saturating_sub(1);
        match counts {
            Some(_) => self.tick(),
            None if style.is_none() => self.draw(&cut(&visible_line(&reply.message), columns)),
            None => Ok(()),
        }
    }

    /// Writes a line above the live line.
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

    /// Erases the live line.
    fn clear(&mut self) -> Result<(), Error> {
        if self.shown.is_empty() {
            return Ok(());
        }
        self.shown.clear();
        self.output.raw("\r\x1b[K")
    }
}

/// The message, and behind an ack how many slots are done, if the master sends counts.
fn with_total(message: &str, progress: Option<&Progress>) -> String {
    match progress {
        Some(Progress { notice: Notice::Acked { .. }, counts: Some(counts) }) => {
            format!("{message}, {} of {}", counts.done, counts.wanted)
        }
        _ => message.to_owned(),
    }
}

/// The style of a message that stays above the live line: a problem, or a turn of the upgrade.
fn lasting(notice: &Notice) -> Option<Style> {
    match (notice.severity(), notice) {
        (Severity::Error, _) => Some(Style::Bad),
        (Severity::Warn, _) => Some(Style::Busy),
        (
            _,
            Notice::OptionChanged(_)
            | Notice::CheckStarted { .. }
            | Notice::CheckPassed { .. }
            | Notice::SoakStarted { .. }
            | Notice::SoakOver { .. }
            | Notice::ReleaseUnchanged { .. }
            | Notice::UpgradeJoined(_)
            | Notice::UpgradeQueued { .. },
        ) => Some(Style::Plain),
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
    fn a_failure_shows_whether_it_was_rolled_back() {
        assert_eq!(what_was_done(&report(Outcome::RolledBack)), "rolled back: no worker runs generation 8");
        let untouched = UpgradeReport { is_untouched: true, ..report(Outcome::RolledBack) };
        assert_eq!(what_was_done(&untouched), "no worker was touched");
        assert_eq!(
            what_was_done(&report(Outcome::Failed)),
            "not rolled back; \"status\" shows which worker runs what"
        );
    }

    #[test]
    fn the_last_output_of_a_worker_is_shown_if_there_is_any() {
        let mut report = report(Outcome::Failed);
        assert_eq!(last_words(&report), [""; 0]);
        let mut death = json!({ "pid": 7, "generation": 8, "reason": "", "age_ms": 4, "acked": false });
        report.death = serde_json::from_value(death.clone()).unwrap();
        assert_eq!(last_words(&report), [""; 0]);
        death["stderr_tail"] = json!(["Traceback:", "  no such module"]);
        report.death = serde_json::from_value(death).unwrap();
        assert_eq!(
            last_words(&report),
            ["last lines of its standard error:", "| Traceback:", "|   no such module"]
        );
    }
}
