//! The hook: the command of `--on-event`, which hears of the main events.
//!
//! Notices of the core wait here, a bounded number of them, until the hook has ended that ran for the one before. `mod.rs` runs
//! it, as a job. Nobody waits for a hook, and nothing depends on how it ends.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::mem::take;
use std::time::{Duration, SystemTime};

use einhorn_proto::Notice;
use einhyrningsins_supervisor::Supervisor;
use serde::{Deserialize, Serialize};

use super::jobs::{JobKey, Outcome, OwnJob};
use crate::forms;
use crate::logging::{Log, Warnings};

/// Events that wait. Source: this program; einhyrningsins(1), EVENTS.
const WAITING_MAX: usize = 64;

/// How long a hook may take. Source: as above.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The hook, and what it has not heard of yet.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hooks {
    waiting: VecDeque<Event>,
    /// The event that the hook runs for, or ran for last.
    heard: Option<Name>,
    #[serde(skip)]
    failures: Warnings,
    #[serde(skip)]
    losses: Warnings,
}

/// What the hook hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Ready,
    UpgradeDone,
    RolledBack,
    WorkerDied,
    GaveUp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Event {
    name: Name,
    notice: Notice,
    /// The command that was set then.
    command: String,
    /// UTC, as in RFC 3339.
    at: String,
    /// The generation that served then.
    serving: u64,
    /// How many deaths it stands for; the notice is that of the last.
    count: u32,
}

/// What the hook reads from its standard input, on one line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    notice: &'a Notice,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    at: &'a str,
    master: MasterOfLine<'a>,
}

#[derive(Serialize)]
struct MasterOfLine<'a> {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    generation: u64,
}

impl Hooks {
    /// An event of the pool, which the hook hears of in its turn if it is one of those that it hears of.
    pub(super) fn on_notice(&mut self, notice: &Notice, core: &Supervisor, log: &mut Log) {
        if let Some(command) = &core.policy().on_event
            && let Some(name) = Name::of(notice)
        {
            let serving = core.summary(forms::now()).generation.0;
            self.add(
                Event {
                    name,
                    notice: notice.clone(),
                    command: command.clone(),
                    at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
                    serving,
                    count: 1,
                },
                log,
            );
        }
    }

    fn add(&mut self, event: Event, log: &mut Log) {
        if self.waiting.len() >= WAITING_MAX {
            self.merge_deaths();
        }
        if self.waiting.len() >= WAITING_MAX {
            let name = event.name;
            self.losses.warn(
                log,
                format_args!("{WAITING_MAX} events wait for the hook, which is not told of {name}"),
            );
        } else {
            self.waiting.push_back(event);
        }
    }

    /// Of the deaths that wait, the last one stands for all.
    fn merge_deaths(&mut self) {
        let is_death = |event: &Event| event.name == Name::WorkerDied;
        let deaths = self.waiting.iter().filter(|event| is_death(event)).map(|event| event.count).sum();
        let Some(last) = self.waiting.iter().rposition(is_death) else { return };
        self.waiting[last].count = deaths;
        let mut place = 0..;
        self.waiting.retain(|event| place.next() == Some(last) || !is_death(event));
    }

    /// The next run, if an event waits.
    pub(super) fn next(&mut self, master: Option<&str>) -> Option<OwnJob> {
        let event = self.waiting.pop_front()?;
        Some(self.run(&event, master))
    }

    /// The last run of a master that ends. The hook does not hear of the other events that wait.
    pub(super) fn last(&mut self, master: Option<&str>, log: &mut Log) -> Option<OwnJob> {
        let event = self.waiting.pop_back()?;
        let others = take(&mut self.waiting).len();
        if others > 0 {
            log.warn(format_args!("the master ends, and {others} events before the last still wait for the hook, which is not told of them"));
        }
        Some(self.run(&event, master))
    }

    fn run(&mut self, event: &Event, master: Option<&str>) -> OwnJob {
        self.heard = Some(event.name);
        let mut stdin = serde_json::to_vec(&event.line(master)).unwrap_or_default();
        stdin.push(b'\n');
        let env = vec![("EINHORN_EVENT".to_owned(), event.name.to_string())];
        OwnJob { key: JobKey::Hook, command: event.command.clone(), stdin, timeout: TIMEOUT, env }
    }

    /// The hook has ended.
    pub(super) fn on_ended(&mut self, outcome: &Outcome, output: &[String], log: &mut Log) {
        if *outcome != Outcome::Succeeded {
            self.on_failed(outcome, output, log);
        }
    }

    /// The hook has failed, or cannot run.
    pub(super) fn on_failed(&mut self, why: impl Display, output: &[String], log: &mut Log) {
        let event = self.heard.map_or_else(String::new, |name| format!(" for {name}"));
        let said = output.last().map(|line| format!("; its last line: {line}")).unwrap_or_default();
        self.failures.warn(log, format_args!("the hook{event} failed: {why}{said}"));
    }
}

impl Name {
    fn of(notice: &Notice) -> Option<Self> {
        match notice {
            Notice::Ready { .. } => Some(Self::Ready),
            Notice::UpgradeDone { .. } => Some(Self::UpgradeDone),
            Notice::UpgradeFailed { .. } => Some(Self::RolledBack),
            // A worker that was up and exits with 0 has done so on purpose, as for its number of requests.
            Notice::Died { death, .. } => (!death.is_on_purpose()).then_some(Self::WorkerDied),
            Notice::GivenUp { .. } => Some(Self::GaveUp),
            _ => None,
        }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::UpgradeDone => "upgrade-done",
            Self::RolledBack => "rolled-back",
            Self::WorkerDied => "worker-died",
            Self::GaveUp => "gave-up",
        })
    }
}

impl Event {
    fn line<'a>(&'a self, master: Option<&'a str>) -> Line<'a> {
        Line {
            notice: &self.notice,
            count: (self.name == Name::WorkerDied).then_some(self.count),
            at: &self.at,
            master: MasterOfLine { pid: std::process::id(), name: master, generation: self.serving },
        }
    }
}

#[cfg(test)]
mod tests {
    use einhorn_proto::{Death, RolloutKind, Severity, Termination};

    use super::*;
    use crate::cli::LogFormat;
    use crate::config::LogConfig;
    use crate::logging::WARN_EVERY;

    struct Play {
        hooks: Hooks,
        log: Log,
    }

    impl Play {
        fn new() -> Self {
            let config = LogConfig {
                verbosity: Severity::Error,
                format: LogFormat::Text,
                syslog: false,
                file: None,
                has_colours: None,
            };
            Self { hooks: Hooks::default(), log: Log::open(config) }
        }

        fn add(&mut self, notice: Notice) {
            let (name, at, command) = (Name::of(&notice).unwrap(), String::new(), "hook".to_owned());
            self.hooks.add(Event { name, notice, command, at, serving: 1, count: 1 }, &mut self.log);
        }

        fn waiting(&self) -> Vec<(Name, u32)> {
            self.hooks.waiting.iter().map(|event| (event.name, event.count)).collect()
        }
    }

    fn death(pid: i32, acked: bool, status: i32) -> Notice {
        let death = Death {
            pid: Some(pid),
            generation: 1,
            reason: format!("exited with status {status}"),
            termination: Some(Termination::Exited(status)),
            age_ms: 5,
            acked,
            stderr_tail: Vec::new(),
        };
        Notice::Died { slot: 0.into(), death, next_spawn_ms: None, next: "no more".to_owned() }
    }

    fn done(generation: u64) -> Notice {
        Notice::UpgradeDone { kind: RolloutKind::Upgrade, generation, took_ms: 1, draining: 0 }
    }

    #[test]
    fn deaths_beyond_the_limit_merge_into_the_last_and_make_room_for_others() {
        let mut play = Play::new();
        play.add(done(2));
        (1..=40).for_each(|pid| play.add(death(pid, true, 1)));
        play.add(done(3));
        (41..=62).for_each(|pid| play.add(death(pid, true, 1)));
        assert_eq!(play.waiting().len(), WAITING_MAX);
        play.add(done(4));
        let (done_once, died) = ((Name::UpgradeDone, 1), Name::WorkerDied);
        assert_eq!(play.waiting(), [done_once, done_once, (died, 62), done_once]);
        (63..=200).for_each(|pid| play.add(death(pid, true, 1)));
        let waiting = play.waiting();
        assert!(waiting.len() <= WAITING_MAX, "{waiting:?}");
        assert_eq!(
            waiting.iter().filter(|(name, _)| *name == died).map(|(_, count)| count).sum::<u32>(),
            200
        );
        let merged = play.hooks.waiting.iter().find(|event| event.count > 1).unwrap();
        let line = serde_json::to_value(merged.line(Some("web"))).unwrap();
        assert_eq!((&line["event"], &line["count"]), (&"died".into(), &merged.count.into()));
        assert!(line["death"]["pid"].as_u64() > Some(62), "that of the last: {line}");
        assert_eq!(play.hooks.losses.last, None);
    }

    #[test]
    fn what_cannot_merge_is_dropped_and_counted() {
        let mut play = Play::new();
        (0..WAITING_MAX as u64).for_each(|generation| play.add(done(generation)));
        play.add(done(100));
        play.add(death(1, true, 1));
        play.add(death(2, true, 1));
        assert_eq!(play.waiting(), [(Name::UpgradeDone, 1); WAITING_MAX]);
        assert_eq!((play.hooks.losses.last.is_some(), play.hooks.losses.left_out), (true, 2));
        // One a minute.
        play.hooks.losses.last = Some(forms::now() - WARN_EVERY);
        play.add(done(101));
        assert_eq!(play.hooks.losses.left_out, 0);
        let run = play.hooks.next(None).unwrap();
        assert_eq!(run.env, [("EINHORN_EVENT".to_owned(), "upgrade-done".to_owned())]);
        assert!(run.stdin.starts_with(br#"{"event":"upgrade_done","kind":"upgrade","generation":0,"#));
        assert_eq!(run.stdin.iter().filter(|byte| **byte == b'\n').count(), 1);
        play.add(death(3, true, 1));
        assert_eq!(play.waiting().last(), Some(&(Name::WorkerDied, 1)));
    }

    #[test]
    fn the_end_of_a_master_leaves_the_last_event() {
        let mut play = Play::new();
        (2..=4).for_each(|generation| play.add(done(generation)));
        let run = play.hooks.last(None, &mut play.log).unwrap();
        assert!(String::from_utf8(run.stdin).unwrap().contains(r#""generation":4"#));
        assert!(play.hooks.last(None, &mut play.log).is_none());
    }

    #[test]
    fn a_worker_that_is_done_has_not_died() {
        assert_eq!(Name::of(&death(1, true, 0)), None);
        for notice in [death(1, false, 0), death(1, true, 1)] {
            assert_eq!(Name::of(&notice), Some(Name::WorkerDied));
        }
    }

    #[test]
    fn what_waits_outlives_a_handover() {
        let mut play = Play::new();
        play.add(done(2));
        play.add(death(7, false, 1));
        let state = serde_json::to_string(&play.hooks).unwrap();
        let hooks: Hooks = serde_json::from_str(&state).unwrap();
        assert_eq!((hooks.waiting.len(), hooks.waiting[0].command.as_str()), (2, "hook"));
        assert_eq!(hooks.waiting[1].notice, death(7, false, 1));
    }
}
