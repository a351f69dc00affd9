//! `status`: the pool at a glance.

mod listener;
mod rows;
mod workers;

use std::time::Duration;

use einhorn_proto::{
    self as proto, LastUpgrade, Lasting, LeftoverStatus, MasterState, Outcome, Pace, Recycled, ReleaseStatus,
    RolloutKind, Status, UpgradeStage, UpgradeStatus, Workers, parse_seconds_above_zero,
};

use super::{Context, Typed, ready, typed};
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::output::{CLEAR, Size};
use crate::processes::Processes;
use crate::table::{Line, Span, Style};
use crate::text::{age, coarse_age};

use listener::listener_line;
#[cfg(feature = "top")]
pub(super) use listener::{queue_words, trouble};
#[cfg(feature = "top")]
pub(super) use rows::{Row, memory, rows};
use workers::{Rows, worker_table};

pub(super) const DETAILS: &str = "\
Shows the cause and age of a slot's last death, and when an empty slot is filled again. On a narrow terminal, INDEX, CPU, \
RESTARTS, GEN, AGE and RSS are left out before long causes are cut; output to a pipe is complete. If the table fills the screen, \
the summary is repeated below it.";

/// What a narrow terminal does without, in this order, before the last column is cut; and so much of that stays, which is the
/// time and the reason of most deaths.
const DISPENSABLE: [&str; 6] = ["INDEX", "CPU", "RESTARTS", "GEN", "AGE", "RSS"];
const LAST_DEATH_LEAST: usize = 25;

/// From one look to the next, with `--watch`.
const WATCH_SECONDS: &str = "2";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print nothing; for probes: exit with 0 if every slot has a worker up and the master is not stopping, otherwise
    /// with 1 and the reason on standard error
    #[arg(long)]
    ready: bool,

    /// Show only the summary: the master, its workers in numbers, the upgrade, and warnings
    #[arg(long, conflicts_with = "ready")]
    brief: bool,

    /// Show only workers in this state, or only slots without a worker
    #[arg(long, value_name = "STATE", value_enum, conflicts_with_all = ["ready", "brief"])]
    state: Option<Rows>,

    /// Repeat until Ctrl-C, every 2 seconds or as often as given
    #[arg(long, value_name = "SECONDS", conflicts_with = "ready", value_parser = parse_seconds_above_zero)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = WATCH_SECONDS)]
    watch: Option<Duration>,
}

impl Typed for Args {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::Status)
    }

    /// Shows the typed answer as a table, or the message of a master whose answer is of another type.
    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        if self.ready {
            return ready::run(context);
        }
        let Some(every) = self.watch else { return self.show(context, "") };
        // A terminal has the newest alone; elsewhere, an empty line stands between two.
        let clear = if context.output.is_terminal() { CLEAR } else { "" };
        let interrupts = Interrupts::watch().map_err(Error::Watch)?;
        for look in 0_u64.. {
            let between = if context.answer.json || look == 0 { "" } else { "\n" };
            self.show(context, if clear.is_empty() { between } else { clear })?;
            context.pause(&interrupts, every)?;
        }
        Ok(())
    }
}

impl Args {
    /// Shows it once, behind `before`.
    fn show(&self, context: &mut Context<'_>, before: &str) -> Result<(), Error> {
        let request = proto::Command::Status;
        if context.answer.json {
            return context.print(&request);
        }
        let reply = context.ask(&request, &mut |_| Ok(()))?;
        if !before.is_empty() {
            context.output.raw(before)?;
        }
        match reply.data.as_deref().and_then(typed::<Status>) {
            Some(status) => {
                let processes = Processes::in_namespace(&status, context.session.peer()).ok();
                context.output.lines(&self.render(&status, context.output.size(), processes))
            }
            None => context.output.text(&reply.message),
        }
    }

    /// The summary, what runs, and the table; the summary once more below a table that leaves no room for it on the screen.
    fn render(&self, status: &Status, size: Option<Size>, processes: Option<Processes>) -> Vec<Line> {
        let summary = summary(status);
        if self.brief {
            return summary;
        }
        let mut lines = summary.clone();
        lines.extend(details(status));
        lines.push(Line::new());
        let mut table = worker_table(status, self.state, processes);
        if let Some(size) = size {
            table.fit(size.columns, &DISPENSABLE, LAST_DEATH_LEAST);
        }
        lines.extend(table.lines());
        // The prompt takes a line, too.
        if size.is_some_and(|size| lines.len() >= size.rows) && self.watch.is_none() {
            lines.push(Line::new());
            lines.extend(summary);
        }
        lines
    }
}

/// The master, its workers in numbers, the rollout, and warnings.
fn summary(status: &Status) -> Vec<Line> {
    let mut lines = master_lines(status);
    lines.extend(match (&status.upgrade, &status.last_upgrade) {
        (Some(upgrade), _) => Some(upgrade_line(upgrade, status.pace)),
        (None, last) => last.as_ref().map(last_line),
    });
    lines.extend(queue_line(status.queued));
    lines.extend(status.lasting.iter().map(lasting_line));
    lines.extend(status.leftovers.iter().map(leftover_line));
    lines
}

/// What runs, and where.
fn details(status: &Status) -> Vec<Line> {
    let mut lines = Vec::from_iter(recycled_line(status.recycled));
    lines.push(fact("runs", &shell_words::join(&status.master.command)));
    lines.push(fact("in", &status.master.directory));
    lines.extend(status.releases.iter().flat_map(|release| release_lines(status, release, None)));
    lines.push(fact("control", &status.master.socket));
    lines.extend(status.listeners.iter().map(listener_line));
    lines
}

/// A line of the head: a name and its value.
pub(super) fn fact(name: &str, value: &str) -> Line {
    vec![heading(name), Span::plain(value)]
}

pub(super) fn heading(name: &str) -> Span {
    Span::new(&format!("{name:<8}  "), Style::Strong)
}

pub(super) fn master_lines(status: &Status) -> Vec<Line> {
    let master = &status.master;
    let (state, style) = match master.state {
        MasterState::Starting => ("starting", Style::Busy),
        MasterState::Running => ("running", Style::Good),
        MasterState::Upgrading => ("upgrading", Style::Busy),
        MasterState::Stopping => ("stopping", Style::Busy),
    };
    let name = master.name.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
    let first = vec![
        heading("master"),
        Span::plain(&format!("{name}pid {}, version {}, ", master.pid, master.version)),
        Span::new(state, style),
        Span::plain(&format!(", age {}", age(master.age_ms))),
    ];
    let up = format!("{} of {} up", master.up, master.wanted);
    let style = if master.up >= master.wanted { Style::Good } else { Style::Bad };
    let mut rest = String::new();
    for (count, what) in [(master.starting, "starting"), (master.draining, "draining")] {
        if count > 0 {
            rest.push_str(&format!(", {count} {what}"));
        }
    }
    rest.push_str(&format!(", generation {}", master.generation));
    vec![first, vec![heading("workers"), Span::new(&up, style), Span::plain(&rest)]]
}

pub(super) fn upgrade_line(upgrade: &UpgradeStatus, pace: Option<Pace>) -> Line {
    let UpgradeStatus { kind, generation, upgraded, wanted, .. } = upgrade;
    let (up, style) = match upgrade.stage {
        UpgradeStage::RollingBack => ("still up", Style::Bad),
        _ => ("up", Style::Busy),
    };
    let mut progress = format!("to generation {generation}, for {}: ", age(upgrade.age_ms));
    progress.push_str(&format!("{upgraded} of {wanted} {up}"));
    if upgrade.starting > 0 {
        progress.push_str(&format!(", {} starting", upgrade.starting));
        progress.push_str(&pace_words(pace));
    }
    progress.push_str(&match (upgrade.stage, upgrade.soak_left_ms) {
        (UpgradeStage::Resolving, _) => "; looking for what it runs".to_owned(),
        (UpgradeStage::Checking, _) => "; its release is being checked".to_owned(),
        (UpgradeStage::Replacing, _) => String::new(),
        (UpgradeStage::Soaking, Some(left)) => format!("; soaking, {} left", age(left)),
        (UpgradeStage::Soaking, None) => "; soaking until upgrade --continue".to_owned(),
        (UpgradeStage::RollingBack, _) => format!("; going back to generation {}", upgrade.from),
    });
    let kind = match kind {
        RolloutKind::Upgrade => "upgrade",
        RolloutKind::Rollback => "rollback",
    };
    vec![heading(kind), Span::new(&progress, style)]
}

/// The last rollout, and what it has left.
pub(super) fn last_line(last: &LastUpgrade) -> Line {
    let LastUpgrade { report, ended_ms } = last;
    let end = match report.outcome {
        Outcome::Done => "done",
        Outcome::RolledBack if report.is_untouched => "failed before it touched a worker",
        Outcome::RolledBack => "failed and rolled back",
        Outcome::Failed => "failed, and not rolled back",
    };
    let mut text = format!("to generation {}, {end} {} ago", report.generation, coarse_age(*ended_ms));
    text.push_str(&pace_words(report.pace));
    let mut line = vec![heading("last"), Span::plain(&format!("{} {text}", report.kind))];
    if report.left.is_any() {
        let style = if report.left.is_serving() { Style::Bad } else { Style::Busy };
        line.push(Span::new(&format!("; {}", report.left), style));
    }
    line
}

/// How many workers start at a time, where that is no matter of course.
fn pace_words(pace: Option<Pace>) -> String {
    pace.filter(|pace| pace.is_adapted()).map_or_else(String::new, |pace| format!(", {pace}"))
}

pub(super) fn lasting_line(lasting: &Lasting) -> Line {
    let Lasting { generation, workers, after_ms } = lasting;
    let their = if *workers == 1 { "its" } else { "their" };
    let text = format!(
        "generation {generation} still serves: {}, {} after {their} stop signal; \"signal --draining KILL\" ends \
         whatever drains",
        Workers(*workers),
        age(*after_ms)
    );
    vec![heading("warning"), Span::new(&text, Style::Busy)]
}

pub(super) fn leftover_line(leftover: &LeftoverStatus) -> Line {
    let LeftoverStatus { slot, pid, generation, members, listens, age_ms } = leftover;
    let members: Vec<_> = members.iter().map(ToString::to_string).collect();
    let (end, style) = match listens {
        true => ("; they hold a listener and may still serve", Style::Bad),
        false => ("", Style::Busy),
    };
    let text = format!(
        "worker {pid} ({slot}, generation {generation}) left processes behind {} ago: {}{end}",
        age(*age_ms),
        members.join(", ")
    );
    vec![heading("warning"), Span::new(&text, style)]
}

/// How many upgrades wait, if any do.
pub(super) fn queue_line(queued: u32) -> Option<Line> {
    match queued {
        0 => None,
        1 => Some(fact("queue", "1 more upgrade waits")),
        count => Some(fact("queue", &format!("{count} more upgrades wait"))),
    }
}

/// How many serving workers were replaced, if any were.
fn recycled_line(recycled: Recycled) -> Option<Line> {
    let Recycled { max_age, max_rss, ping_timeout, asked, lost_socket } = recycled;
    let counts = [
        (max_age, "for age"),
        (max_rss, "for memory"),
        (ping_timeout, "for silence"),
        (asked, "by request"),
        (lost_socket, "for a lost socket"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let text = counts.map(|(count, why)| format!("{count} {why}")).collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then(|| fact("recycled", &text))
}

/// The release of a generation, what it is to the pool, for how long if that is given, and how its workers are asked to stop. Its
/// directory comes first, because it distinguishes deploys.
pub(super) fn release_lines(status: &Status, release: &ReleaseStatus, since_ms: Option<u64>) -> Vec<Line> {
    let ReleaseStatus { generation, label, real_directory, program, modified, .. } = release;
    let inside = program.strip_prefix(real_directory.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let program = inside.unwrap_or(program);
    let label = label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
    let (role, style) = match &status.upgrade {
        Some(upgrade) if *generation == upgrade.generation => (", next", Style::Busy),
        Some(upgrade) if *generation == upgrade.from => (", current", Style::Good),
        None if *generation == status.master.generation => (", current", Style::Good),
        _ => ("", Style::Plain),
    };
    let since = since_ms.map(|millis| format!(" for {}", coarse_age(millis))).unwrap_or_default();
    let first = vec![
        heading("release"),
        Span::plain(&format!("{generation}{label}")),
        Span::new(role, style),
        Span::plain(&since),
        Span::plain(&format!(": {real_directory}, {program} of {modified}")),
    ];
    let stops = release
        .stop_signals
        .iter()
        .map(|stop| fact("", &format!("{generation}: stops on {}: {}", stop.signal, stop.why)));
    std::iter::once(first).chain(stops).collect()
}

#[cfg(test)]
mod tests {
    use einhorn_proto::{
        Death, ListenerStatus, QueueStatus, SlotStatus, Termination, WorkerState, WorkerStatus,
    };
    use serde_json::json;

    use super::*;
    use crate::table::paint;

    const PLAIN: Args = Args { ready: false, brief: false, state: None, watch: None };

    fn render(status: &Status) -> Vec<Line> {
        PLAIN.render(status, None, None)
    }

    fn worker(slot: u32, index: u32, pid: i32, generation: u64, state: WorkerState) -> WorkerStatus {
        WorkerStatus {
            slot: slot.into(),
            index,
            pid,
            start_ticks: None,
            generation,
            state,
            age_ms: 93_784_000,
            boot_ms: Some(5),
            pinged_ms: None,
            text: None,
            stopped: false,
            unsignallable: false,
        }
    }

    fn slot(slot: u32) -> SlotStatus {
        SlotStatus {
            slot,
            restarts: 0,
            tries: 0,
            given_up: false,
            next_spawn_ms: None,
            last_death: None,
            last_death_age_ms: None,
        }
    }

    fn release(generation: u64, directory: &str, program: &str) -> ReleaseStatus {
        ReleaseStatus {
            generation,
            label: Some(format!("v{generation}")),
            directory: "/srv/web/current".into(),
            real_directory: directory.into(),
            program: program.into(),
            device: 2049,
            inode: 77,
            modified: "2026-11-22T08:35:29Z".into(),
            stop_signals: Vec::new(),
        }
    }

    fn status() -> Status {
        let death = Death {
            pid: Some(4720),
            generation: 8,
            reason: "exited with status 1".into(),
            termination: Some(Termination::Exited(1)),
            age_ms: 440,
            acked: false,
            stderr_tail: Vec::new(),
        };
        let missing = Death {
            pid: None,
            reason: "cannot execute /srv/web/bin/server: No such file or directory (os error 2)".into(),
            termination: None,
            ..death.clone()
        };
        let young = WorkerStatus {
            age_ms: 1_230,
            text: Some("loading\nthe model".into()),
            ..worker(1, 4, 4721, 8, WorkerState::Starting)
        };
        Status {
            master: proto::MasterStatus {
                pid: 4711,
                version: "0.1.0".into(),
                name: Some("web".into()),
                state: MasterState::Upgrading,
                age_ms: 263_000_000,
                generation: 8,
                command: vec!["/srv/web/bin/server".into(), "--title".into(), "my site".into()],
                directory: "/srv/web/current".into(),
                socket: "/run/web/einhorn.sock".into(),
                wanted: 4,
                up: 2,
                starting: 1,
                draining: 1,
                max_rss: None,
                ack_mode: Some("manual".into()),
            },
            listeners: vec![ListenerStatus {
                index: 0,
                fd: 3,
                name: "0.0.0.0:8080".into(),
                address: "0.0.0.0:8080".into(),
                kind: "tcp".into(),
                family: "AF_INET".into(),
                backlog: 4096,
                queue: Some(QueueStatus { length: 3, limit: 4096, drops: Some(0) }),
                slots: Vec::new(),
            }],
            slots: vec![
                slot(0),
                SlotStatus {
                    restarts: 12,
                    tries: 2,
                    last_death: Some(death.clone()),
                    last_death_age_ms: Some(2_600),
                    ..slot(1)
                },
                SlotStatus {
                    restarts: 3,
                    next_spawn_ms: Some(1_250),
                    last_death: Some(missing),
                    last_death_age_ms: Some(184_000),
                    ..slot(2)
                },
                SlotStatus { given_up: true, ..slot(3) },
                slot(4),
            ],
            workers: vec![
                worker(0, 0, 4712, 7, WorkerState::Up),
                worker(1, 1, 4713, 7, WorkerState::Draining),
                young,
                worker(5, 5, 4716, 7, WorkerState::Draining),
            ],
            releases: vec![
                release(7, "/srv/web/releases/41", "/usr/bin/python3.13"),
                release(8, "/srv/web/releases/42", "/srv/web/releases/42/bin/server"),
            ],
            recycled: Recycled { max_age: 3, max_rss: 0, ping_timeout: 1, asked: 0, lost_socket: 0 },
            upgrade: Some(UpgradeStatus {
                kind: RolloutKind::Upgrade,
                stage: UpgradeStage::Replacing,
                generation: 8,
                from: 7,
                soak_left_ms: None,
                upgraded: 1,
                wanted: 4,
                starting: 1,
                ack_within_ms: Some(60_000),
                age_ms: 3_210,
            }),
            last_upgrade: None,
            lasting: Vec::new(),
            pace: None,
            leftovers: Vec::new(),
            queued: 0,
        }
    }

    #[test]
    fn a_pool_in_trouble_is_shown_whole_in_a_pipe() {
        insta::assert_snapshot!(paint(&render(&status()), None, false), @r"
        master    web, pid 4711, version 0.1.0, upgrading, age 3d01h
        workers   2 of 4 up, 1 starting, 1 draining, generation 8
        upgrade   to generation 8, for 3.2s: 1 of 4 up, 1 starting
        recycled  3 for age, 1 for silence
        runs      /srv/web/bin/server --title 'my site'
        in        /srv/web/current
        release   7 (v7), current: /srv/web/releases/41, /usr/bin/python3.13 of 2026-11-22T08:35:29Z
        release   8 (v8), next: /srv/web/releases/42, bin/server of 2026-11-22T08:35:29Z
        control   /run/web/einhorn.sock
        listens   0.0.0.0:8080, fd 3, name 0.0.0.0:8080, queue 3 of 4096

        SLOT  INDEX   PID  GEN  STATE           AGE  RSS  CPU  RESTARTS  LAST DEATH
           0      0  4712    7  up            1d02h    -    -         0
           1      1  4713    7  draining      1d02h    -    -
           1      4  4721    8  starting       1.2s    -    -        12  2s ago: exit 1 after 0.4s, unacked (pid 4720, generation 8)
              says: loading the model
           2                    waiting 1.2s                          3  3m ago: cannot execute /srv/web/bin/server: No such file or directory (os error 2)
           3                    given up                              0
           4                    empty                                 0
           5      5  4716    7  draining      1d02h    -    -
        ");
    }

    #[test]
    fn a_running_upgrade_shows_its_stage() {
        let upgrade = UpgradeStatus { starting: 0, ..status().upgrade.unwrap() };
        let soaking = UpgradeStatus { stage: UpgradeStage::Soaking, ..upgrade.clone() };
        for (upgrade, line) in [
            (
                UpgradeStatus { stage: UpgradeStage::Resolving, ..upgrade.clone() },
                "upgrade   to generation 8, for 3.2s: 1 of 4 up; looking for what it runs\n",
            ),
            (
                UpgradeStatus { soak_left_ms: Some(90_000), ..soaking.clone() },
                "upgrade   to generation 8, for 3.2s: 1 of 4 up; soaking, 1m30s left\n",
            ),
            (soaking, "upgrade   to generation 8, for 3.2s: 1 of 4 up; soaking until upgrade --continue\n"),
            (
                UpgradeStatus { stage: UpgradeStage::RollingBack, ..upgrade.clone() },
                "upgrade   to generation 8, for 3.2s: 1 of 4 still up; going back to generation 7\n",
            ),
            (
                UpgradeStatus { kind: RolloutKind::Rollback, generation: 7, from: 8, ..upgrade },
                "rollback  to generation 7, for 3.2s: 1 of 4 up\n",
            ),
        ] {
            let text = paint(&[upgrade_line(&upgrade, None)], Some(80), false);
            assert_eq!(text, line);
        }
    }

    #[test]
    fn nothing_wraps_at_eighty_columns() {
        let lines = PLAIN.render(&status(), Some(Size { columns: 80, rows: 50 }), None);
        let text = paint(&lines, Some(80), false);
        let longest = text.lines().map(crate::text::width).max();
        assert_eq!(longest, Some(80), "{text}");
        assert!(text.contains("  -        12  2s ago: exit 1 after 0.4s,…\n"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_has_the_last_death_rather_than_other_columns() {
        let table = |columns| {
            let lines = PLAIN.render(&status(), Some(Size { columns, rows: 50 }), None);
            let text = paint(&lines, Some(columns), false);
            let at = text.find("SLOT ").unwrap();
            text[at..].to_owned()
        };
        insta::assert_snapshot!(table(60), @"
        SLOT   PID  STATE         RSS  LAST DEATH
           0  4712  up              -
           1  4713  draining        -
           1  4721  starting        -  2s ago: exit 1 after 0.4s, u…
              says: loading the model
           2        waiting 1.2s       3m ago: cannot execute /srv/…
           3        given up
           4        empty
           5  4716  draining        -
        ");
        insta::assert_snapshot!(table(40), @"
        SLOT   PID  STATE         LAST DEATH
           0  4712  up
           1  4713  draining
           1  4721  starting      2s ago: exit …
              says: loading the model
           2        waiting 1.2s  3m ago: canno…
           3        given up
           4        empty
           5  4716  draining
        ");
    }

    #[test]
    fn a_table_of_more_than_a_screen_ends_with_the_summary() {
        let shown = |args: &Args, rows| {
            paint(&args.render(&status(), Some(Size { columns: 200, rows }), None), None, false)
        };
        let (whole, brief) =
            (paint(&render(&status()), None, false), paint(&summary(&status()), None, false));
        let lines = whole.lines().count();
        assert_eq!(shown(&PLAIN, lines + 1), whole);
        assert_eq!(shown(&PLAIN, lines), format!("{whole}\n{brief}"));
        let watch = Args { watch: Some(Duration::from_secs(2)), ..PLAIN };
        assert_eq!(shown(&watch, lines), whole, "it would scroll");
    }

    #[test]
    fn the_summary_alone_and_workers_of_a_state_are_shown() {
        let brief = Args { brief: true, ..PLAIN };
        insta::assert_snapshot!(paint(&brief.render(&status(), None, None), None, false), @"
        master    web, pid 4711, version 0.1.0, upgrading, age 3d01h
        workers   2 of 4 up, 1 starting, 1 draining, generation 8
        upgrade   to generation 8, for 3.2s: 1 of 4 up, 1 starting
        ");
        let table = |state| {
            let args = Args { state: Some(state), ..PLAIN };
            let text = paint(&args.render(&status(), None, None), None, false);
            let at = text.find("SLOT ").unwrap();
            text[at..].to_owned()
        };
        insta::assert_snapshot!(table(Rows::Draining), @"
        SLOT  INDEX   PID  GEN  STATE       AGE  RSS  CPU  RESTARTS  LAST DEATH
           1      1  4713    7  draining  1d02h    -    -
           5      5  4716    7  draining  1d02h    -    -
        ");
        insta::assert_snapshot!(table(Rows::Starting), @"
        SLOT  INDEX   PID  GEN  STATE      AGE  RSS  CPU  RESTARTS  LAST DEATH
           1      4  4721    8  starting  1.2s    -    -        12  2s ago: exit 1 after 0.4s, unacked (pid 4720, generation 8)
              says: loading the model
        ");
        insta::assert_snapshot!(table(Rows::Empty), @"
        SLOT  INDEX  PID  GEN  STATE         AGE  RSS  CPU  RESTARTS  LAST DEATH
           2                   waiting 1.2s                        3  3m ago: cannot execute /srv/web/bin/server: No such file or directory (os error 2)
           3                   given up                            0
           4                   empty                               0
        ");
    }

    #[test]
    fn a_worker_whose_ack_is_missing_says_what_it_waits_for() {
        let mut status = status();
        status.workers =
            vec![WorkerStatus { age_ms: 12_000, ..worker(1, 4, 4721, 8, WorkerState::Starting) }];
        let shown = |status: &Status| paint(&render(status), None, false);
        let note = "      no ack for 12s: it is up once it sends worker:ack or READY=1\n";
        assert!(shown(&status).contains(note), "{}", shown(&status));
        status.master.ack_mode = Some("timer".into());
        assert!(!shown(&status).contains("no ack"));
    }

    #[test]
    fn a_healthy_pool_without_a_name_has_no_line_too_many() {
        let mut status = status();
        status.master = proto::MasterStatus {
            name: None,
            state: MasterState::Running,
            up: 4,
            starting: 0,
            draining: 0,
            ..status.master
        };
        (status.upgrade, status.slots, status.workers) = (None, Vec::new(), Vec::new());
        (status.releases, status.recycled) = (Vec::new(), Recycled::default());
        let text = paint(&render(&status), None, false);
        assert!(text.starts_with(
            "master    pid 4711, version 0.1.0, running, age 3d01h\n\
             workers   4 of 4 up, generation 8\n\
             runs      "
        ));
        assert!(text.ends_with("\nSLOT  INDEX  PID  GEN  STATE  AGE  RSS  CPU  RESTARTS  LAST DEATH\n"));
    }

    #[test]
    fn what_an_upgrade_has_left_is_shown() {
        let mut status = status();
        status.upgrade = None;
        let left = json!({ "undrained": 2, "left_behind": 1, "listening": 1 });
        let last = json!({ "outcome": "done", "generation": 8, "upgraded": 4, "wanted": 4, "draining": 1,
                           "took_ms": 7, "left": left, "ended_ms": 61_000 });
        status.last_upgrade = Some(serde_json::from_value(last).unwrap());
        status.lasting = vec![Lasting { generation: 7, workers: 2, after_ms: 35_000 }];
        let members = vec![81, 82];
        let leftover =
            LeftoverStatus { slot: 1.into(), pid: 80, generation: 7, members, listens: true, age_ms: 3_000 };
        status.leftovers = vec![leftover];
        status.workers[0].unsignallable = true;
        let text = paint(&render(&status), None, false);
        for line in [
            "last      upgrade to generation 8, done 1m ago; 1 old worker left processes that hold a listener and may \
             still serve; 2 old workers did not drain",
            "warning   generation 7 still serves: 2 workers, 35s after their stop signal; \"signal --draining KILL\" ends \
             whatever drains",
            "warning   worker 80 (slot 1, generation 7) left processes behind 3.0s ago: 81, 82; they hold a listener and may \
             still serve",
            "up, cannot be signalled",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
