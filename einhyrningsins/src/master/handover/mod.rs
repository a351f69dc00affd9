//! The handover: another program takes the master's place, in the same process.
//!
//! `reload` starts one; an upgrade starts with one if the program on disk is not the one that runs. The new program runs
//! first as a child with a copy of the state, and reports whether it can read it (`check.rs`), and what a script in between
//! has set for it (`report.rs`); the master keeps running.
//! Then the state is written again and the program is executed (`exec.rs`). In the new image, `takeover.rs` takes over
//! what the state names, and `resume.rs` continues what was in progress. A failure before the exec leaves the master
//! unchanged; a failure after it, until the takeover is complete, executes the old program again (`sys/rollback.rs`).
//! `format.rs` has the form of the state, `format_1/` and `format_2.rs` read the first ones.
//!
//! This is the only part that sees all others, because it hands them over.

mod check;
mod exec;
mod format;
mod format_1;
mod format_2;
mod report;
mod resume;
mod takeover;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, anyhow};
use einhorn_proto::{LastReply, Notice, Refusal, Termination};
use einhyrningsins_supervisor::{Action, Event, RequestKey, Supervisor, UpgradePlan};
use mio::Registry;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::parts::{Part, Parts};
use super::ready::Ready;
use crate::config::{HandoverSettings, Identity};
use crate::logging::Log;
use crate::manners::Manners;
use crate::release::{Program, ProgramFile, RUNNING, Recipe, variable};
use crate::sys::spawn::Spawner;
use crate::sys::surroundings::Surroundings;

use check::Check;
use report::Proven;
pub use takeover::take_over;

/// Reads a state, without descriptors.
#[cfg(fuzzing)]
pub fn parse_state(bytes: &[u8]) -> Result<(), format::HandoverError> {
    let (header, body) = format::Header::parse(bytes)?;
    format::Body::of(header, body)?.read().map(drop)
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// What follows a handover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    /// `reload`.
    Reload { request: RequestKey },
    /// An upgrade begins.
    Upgrade { request: Option<RequestKey>, plan: Box<UpgradePlan> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    identity: Identity,
    settings: HandoverSettings,
    #[serde(skip)]
    check: Option<Check>,
    /// The check has passed; the exec is next.
    #[serde(skip)]
    checked: Option<Checked>,
    then: Vec<Then>,
    /// Of the image that wrote the state: if it comes back, it has them again.
    #[serde(default)]
    surroundings: Option<Surroundings>,
    /// What becomes of upgrades that were to begin with a handover which has failed; the core has yet to hear it.
    #[serde(skip)]
    outcomes: Vec<Event>,
}

/// The program that is to take the master's place.
#[derive(Debug)]
struct Candidate {
    program: Program,
    /// The command, the program's name first.
    words: Vec<OsString>,
}

/// What has passed its check.
#[derive(Debug)]
struct Checked {
    candidate: Candidate,
    /// The program to execute instead, which the candidate executes.
    proven: Option<Proven>,
    /// The core's line of the state, and at which of its revisions.
    core: Option<(u64, Vec<u8>)>,
}

impl Checked {
    /// The file to execute.
    fn file(&self) -> &ProgramFile {
        self.proven.as_ref().map_or(self.candidate.program.file(), |proven| &proven.file)
    }
}

impl Handover {
    /// The command line that the master was started with, the name of the program first.
    pub(crate) fn argv(&self) -> &[OsString] {
        &self.identity.argv
    }

    /// The directory that relative paths of the command line start at.
    pub(super) fn start_path(&self) -> &Path {
        &self.identity.start_directory
    }

    /// What later handovers go by. Returns what it was.
    pub(super) fn set_settings(&mut self, settings: HandoverSettings) -> HandoverSettings {
        std::mem::replace(&mut self.settings, settings)
    }

    /// Notes whether the workers have a directory of their own (`--chdir`). Returns whether they had.
    pub(super) fn set_directory_given(&mut self, is_given: bool) -> bool {
        std::mem::replace(&mut self.identity.directory_given, is_given)
    }

    pub(crate) fn new(identity: Identity, settings: HandoverSettings) -> Self {
        Self {
            identity,
            settings,
            check: None,
            checked: None,
            then: Vec::new(),
            surroundings: None,
            outcomes: Vec::new(),
        }
    }

    /// Whether an upgrade begins with one: if the manners or an option ask for it, or if the path of the program leads
    /// to another file than runs. A path that leads nowhere is no reason not to upgrade the workers.
    pub(super) fn precedes_upgrades(&self, manners: &dyn Manners) -> bool {
        if manners.always_hands_over() || self.settings.as_command.is_some() {
            return true;
        }
        let Ok(running) = fs::metadata(RUNNING) else { return false };
        self.candidate().is_ok_and(|candidate| !candidate.program.file().is(&running))
    }

    /// Whether the exec is next.
    pub(super) fn is_due(&self) -> bool {
        self.checked.is_some()
    }

    /// Whether a handover was asked for and has not happened yet.
    pub(super) fn is_under_way(&self) -> bool {
        !self.then.is_empty()
    }

    /// Begins with the check, or joins the one that runs. While the core waits for the outcome of an action, of which a
    /// state cannot tell, it is not `is_settled`, and the check waits.
    pub(super) fn begin(
        parts: &mut Parts,
        spawner: &mut Spawner,
        registry: &Registry,
        then: Then,
        is_settled: bool,
    ) -> Vec<Action> {
        let request = then.request();
        let is_stopping = parts.core.is_stopping();
        parts.handover.then.push(then);
        if is_stopping {
            return parts.handover.refuse_at_stop(&mut parts.log);
        }
        if let Some(check) = &parts.handover.check {
            // The next progress may be far off.
            if let Some(request) = request {
                let notice = check.candidate.notice();
                parts.control.send_progress(request, &notice, parts.core.counts());
            }
            return Vec::new();
        }
        if parts.handover.checked.is_some() || !is_settled {
            return Vec::new();
        }
        Self::check(parts, spawner, registry)
    }

    /// Whether one was asked for and its check has yet to begin.
    pub(super) fn awaits_check(&self) -> bool {
        self.is_under_way() && self.check.is_none() && self.checked.is_none()
    }

    /// Begins the check.
    pub(super) fn check(parts: &mut Parts, spawner: &mut Spawner, registry: &Registry) -> Vec<Action> {
        match Check::begin(parts, spawner, registry) {
            Ok(check) => {
                let notice = check.candidate.notice();
                parts.handover.check = Some(check);
                let progress_of = parts.handover.then.iter().filter_map(Then::request).collect();
                vec![Action::Notice { notice, progress_of, counts: parts.core.counts() }]
            }
            Err(error) => parts.handover.give_up(&format!("{error:#}"), &mut parts.log),
        }
    }

    /// Reads what the check reports, and ends one that takes too long.
    pub(super) fn turn(&mut self, ready: &mut Ready) {
        let is_late = self.deadline().is_some_and(|deadline| deadline <= Instant::now());
        let is_ready = std::mem::take(&mut ready.check);
        let Some(check) = &mut self.check else { return };
        if is_ready {
            ready.check = check.read();
        }
        if is_late {
            check.end();
        }
    }

    /// A stopping master is not replaced: ends the check and answers the requests.
    pub(super) fn yield_to_stop(&mut self, core: &Supervisor, log: &mut Log) -> Vec<Action> {
        if !self.is_under_way() || !core.is_stopping() {
            return Vec::new();
        }
        if let Some(check) = &mut self.check {
            check.end();
        }
        self.checked = None;
        self.refuse_at_stop(log)
    }

    /// A child has ended. `None` if it was not the check.
    pub(super) fn on_reaped(
        &mut self,
        pid: Pid,
        termination: &Termination,
        log: &mut Log,
    ) -> Option<Vec<Action>> {
        let mut check = self.check.take_if(|check| check.pid == pid)?;
        check.read();
        if !self.is_under_way() {
            // The master is stopping, and the requests were answered.
            return Some(Vec::new());
        }
        Some(match check.verdict(termination, &self.settings) {
            Ok(passed) => {
                log.debug(format_args!("the check has passed: {} can take over", passed.version));
                let command = check.candidate.program.file().path.display();
                let proven = passed.proven.unwrap_or_else(|why| {
                    log.info(format_args!("the master executes {command} itself: {why}"));
                    None
                });
                if let Some(Proven { file, .. }) = &proven {
                    log.debug(format_args!("the master executes {} as {command} does", file.path.display()));
                }
                self.checked = Some(Checked { candidate: check.candidate, proven, core: None });
                Vec::new()
            }
            Err(reason) => self.give_up(&reason, log),
        })
    }

    /// The master stays as it is. Upgrades that may do without a new one begin; every other request is answered with
    /// the reason.
    fn give_up(&mut self, reason: &str, log: &mut Log) -> Vec<Action> {
        let mut progress_of = Vec::new();
        for then in self.then.extract_if(.., |then| then.may_keep_master()) {
            if let Then::Upgrade { request, plan } = then {
                progress_of.extend(request);
                self.outcomes.push(Event::UpgradePrepared { request, plan: *plan });
            }
        }
        let notice = Notice::MasterKept { reason: reason.to_owned() };
        let mut actions = vec![Action::Notice { notice, progress_of, counts: None }];
        actions.extend(self.refuse(reason, Refusal::MasterKept, log));
        actions
    }

    /// A master that stops is not replaced. Answers every request.
    fn refuse_at_stop(&mut self, log: &mut Log) -> Vec<Action> {
        self.refuse(&Refusal::Stopping.to_string(), Refusal::NotBegun, log)
    }

    /// Answers every request with the reason, those for an upgrade in the form of `upgrade`.
    fn refuse(&mut self, reason: &str, upgrade: fn(String) -> Refusal, log: &mut Log) -> Vec<Action> {
        let upgrades = self.then.iter().filter(|then| matches!(then, Then::Upgrade { .. }));
        self.outcomes.extend(upgrades.map(|_| Event::UpgradeNotPrepared));
        self.then.drain(..).filter_map(|then| then.refuse(reason, upgrade, log)).collect()
    }

    /// What the core has yet to hear.
    pub(super) fn take_outcomes(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.outcomes)
    }

    /// The program to execute, as it is on disk now.
    fn candidate(&self) -> anyhow::Result<Candidate> {
        let words = match &self.settings.as_command {
            Some(words) => words.clone(),
            None => self.identity.argv.iter().take(1).cloned().collect(),
        };
        let name = words.first().map_or(OsStr::new(""), OsString::as_os_str);
        let here = self.start_directory().map_or_else(|| open(".", DIRECTORY, Mode::empty()), Ok);
        let here =
            here.map_err(io::Error::from).context("cannot open the directory that it was started in")?;
        let program = Program::find(name, here.as_fd(), &self.identity.start_directory);
        Ok(Candidate { program: program.map_err(|error| anyhow!(error.in_words()))?, words })
    }

    /// The directory that the master was started in, as its path leads there now.
    fn start_directory(&self) -> Option<OwnedFd> {
        open(&self.identity.start_directory, DIRECTORY, Mode::empty()).ok()
    }
}

impl Candidate {
    fn notice(&self) -> Notice {
        Notice::MasterChecking { program: self.program.file().path.display().to_string() }
    }

    /// The command line: the words of the command, the options of this exec, and what there was before.
    fn arguments(&self, options: &[OsString], parts: &Parts) -> anyhow::Result<Vec<CString>> {
        let command = &parts.workers.recipe.command;
        let rest = parts.dialect.manners().rest_of_line(&parts.handover.identity.argv, command);
        c_strings(self.words.iter().chain(options).cloned().chain(rest))
    }
}

/// The variables that this master was started with, less those that are to be dropped; `PWD` is `directory`, if there is one.
fn environment(recipe: &Recipe, directory: Option<&Path>) -> anyhow::Result<Vec<CString>> {
    let is_dropped = |name: &OsString| recipe.dropped.iter().any(|drop| name == drop.as_str());
    let is_kept = |name: &OsString| !is_dropped(name) && (directory.is_none() || name != "PWD");
    let kept = env::vars_os().filter(|(name, _)| is_kept(name));
    let pwd = directory.map(|directory| (OsString::from("PWD"), directory.as_os_str().to_owned()));
    Ok(kept.chain(pwd).map(|(name, value)| variable(name, &value)).collect::<Result<_, _>>()?)
}

fn c_strings(words: impl Iterator<Item = OsString>) -> anyhow::Result<Vec<CString>> {
    use std::os::unix::ffi::OsStringExt;
    words.map(|word| CString::new(word.into_vec()).context("an argument has a NUL byte in it")).collect()
}

impl Then {
    fn request(&self) -> Option<RequestKey> {
        match self {
            Self::Reload { request } => Some(*request),
            Self::Upgrade { request, .. } => *request,
        }
    }

    /// Whether it does not need a new master.
    fn may_keep_master(&self) -> bool {
        matches!(self, Self::Upgrade { plan, .. } if plan.may_keep_master)
    }

    /// The last reply to the request; without one, a line of the log.
    fn refuse(&self, reason: &str, upgrade: fn(String) -> Refusal, log: &mut Log) -> Option<Action> {
        let refusal = match self {
            Self::Reload { .. } => Refusal::NotReloaded(reason.to_owned()),
            Self::Upgrade { .. } => upgrade(reason.to_owned()),
        };
        match self.request() {
            Some(request) => Some(Action::Reply { request, answer: LastReply::Refused(refusal) }),
            None => {
                log.warn(refusal);
                None
            }
        }
    }
}

impl Part for Handover {
    /// The deadline of the check.
    fn deadline(&self) -> Option<Instant> {
        self.check.as_ref().filter(|check| !check.is_late).map(|check| check.deadline)
    }
}

#[cfg(test)]
mod tests;
