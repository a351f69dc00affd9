//! The master replaces itself: the check of what is to take its place, and the exec.
//!
//! What is to take the master's place is started first as a child, with the state as it is at that moment, and says
//! whether it can go on from it. The master goes on with its work meanwhile. When the child has said yes, the state
//! is written down once more, as it is then, and the master executes the program that was checked. Whatever fails up
//! to the exec leaves the master as it was, and whoever asked is told why.
//!
//! What happens on the other side of the exec stands in `takeover.rs`, and what the loop does there in `resume.rs`.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, anyhow};
use einhorn_proto::{Notice, Termination};
use einhyrningsins_supervisor::{Event, PoolCommand, RequestKey, UpgradePlan};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{Pid, execve, fchdir};
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::format;
use crate::config::{Dialect, Reexec};
use crate::forms::Clock;
use crate::master::Master;
use crate::release::{Program, variable};
use crate::sys::inherit::{Fd, set_close_on_exec};
use crate::sys::memory_file::sealed_file;

/// This program, as it runs.
const SELF: &str = "/proc/self/exe";

/// What a replacement is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::master) enum Then {
    /// Itself.
    Reload {
        /// Who asked.
        request: RequestKey,
    },
    /// An upgrade, which begins when it is done.
    Upgrade {
        /// Who asked, if somebody waits.
        request: Option<RequestKey>,
        /// How.
        plan: UpgradePlan,
    },
}

/// How far a replacement is.
#[derive(Debug)]
pub(in crate::master) struct Replacement {
    pub(in crate::master) settings: Reexec,
    pub(super) check: Option<Check>,
    /// The check has passed; the exec is next.
    checked: Option<Candidate>,
    pub(in crate::master) then: Vec<Then>,
    /// How often this master has been replaced.
    pub(in crate::master) reloads: u32,
}

/// What is to take the master's place.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) program: Program,
    /// The command, the program's name first.
    words: Vec<OsString>,
}

impl Replacement {
    pub(in crate::master) fn new(settings: Reexec) -> Self {
        Self { settings, check: None, checked: None, then: Vec::new(), reloads: 0 }
    }

    pub(in crate::master) fn is_due(&self) -> bool {
        self.checked.is_some()
    }

    /// Whether the master is to be replaced, and was not yet.
    pub(in crate::master) fn is_under_way(&self) -> bool {
        !self.then.is_empty()
    }

    pub(in crate::master) fn is_check(&self, pid: Pid) -> bool {
        self.check.as_ref().is_some_and(|check| check.pid == pid)
    }

    /// When to lose patience with the check.
    pub(in crate::master) fn deadline(&self) -> Option<Instant> {
        self.check.as_ref().filter(|check| !check.is_late).map(|check| check.deadline)
    }
}

impl Master {
    /// Upgrades the pool, and the master before it where that is called for.
    pub(in crate::master) fn upgrade(&mut self, request: Option<RequestKey>, plan: UpgradePlan) {
        if self.supervisor.upgrade_refusal(plan).is_none() && self.is_to_be_replaced() {
            return self.ask_for_replacement(Then::Upgrade { request, plan });
        }
        self.feed(Event::Command { request, command: PoolCommand::Upgrade(plan) });
    }

    /// Whether an upgrade begins with the master itself: always in einhorn's dialect and where it was said what to
    /// become; else if its program's path leads to another file than it runs. A path that leads nowhere is no
    /// reason not to upgrade the workers.
    fn is_to_be_replaced(&self) -> bool {
        if self.identity.dialect == Dialect::Einhorn || self.replacement.settings.as_command.is_some() {
            return true;
        }
        let Ok(running) = fs::metadata(SELF) else { return false };
        self.candidate().is_ok_and(|candidate| !candidate.program.file().is(&running))
    }

    /// Begins the check, or joins the one that runs.
    pub(in crate::master) fn ask_for_replacement(&mut self, then: Then) {
        if let Some(refusal) = self.supervisor.stopping() {
            return self.answer_then(&then, &refusal);
        }
        if let Some(check) = &self.replacement.check {
            // It has begun for another, and nothing more may happen in it for a long time.
            let notice = check.candidate.notice();
            self.tell_progress(&notice, then.request().as_slice(), self.supervisor.counts());
        }
        self.replacement.then.push(then);
        if self.replacement.check.is_none()
            && self.replacement.checked.is_none()
            && let Err(error) = self.begin_check()
        {
            self.keep_master(&format!("{error:#}"));
        }
    }

    /// A master that stops is not replaced: whoever waits for that is told now, and the check is ended.
    pub(in crate::master) fn give_way_to_stop(&mut self) {
        if self.replacement.then.is_empty() {
            return;
        }
        let Some(refusal) = self.supervisor.stopping() else { return };
        self.end_check();
        self.replacement.checked = None;
        for then in std::mem::take(&mut self.replacement.then) {
            self.answer_then(&then, &refusal);
        }
    }

    /// What is to take the master's place, as it is on disk now.
    pub(super) fn candidate(&self) -> anyhow::Result<Candidate> {
        let words = match &self.replacement.settings.as_command {
            Some(words) => words.clone(),
            None => self.identity.argv.iter().take(1).cloned().collect(),
        };
        let name = words.first().map_or(OsStr::new(""), OsString::as_os_str);
        let path = &self.identity.start_directory;
        let here = self.start_directory().map_or_else(|| open(".", DIRECTORY, Mode::empty()), Ok);
        let here =
            here.map_err(io::Error::from).context("cannot open the directory that it was started in")?;
        let program = Program::find(name, here.as_fd(), path).map_err(|error| anyhow!(error.in_words()))?;
        Ok(Candidate { program, words })
    }

    /// The directory that the master was started in, as its path leads there now.
    pub(super) fn start_directory(&self) -> Option<OwnedFd> {
        open(&self.identity.start_directory, DIRECTORY, Mode::empty()).ok()
    }

    /// The command line: the words of the command, what this exec is for, and what there was before.
    pub(super) fn arguments(&self, candidate: &Candidate, options: &[OsString]) -> Vec<OsString> {
        let rest = match self.identity.dialect {
            Dialect::Native => self.identity.argv.iter().skip(1).cloned().collect(),
            Dialect::Einhorn => {
                let command = self.workers.recipe().command.iter().cloned();
                ["--".into()].into_iter().chain(command).collect::<Vec<_>>()
            }
        };
        candidate.words.iter().chain(options).cloned().chain(rest).collect()
    }

    /// What this master was started with, less what is to be dropped.
    pub(super) fn environment(&self, directory: &Path) -> anyhow::Result<Vec<CString>> {
        let dropped = &self.workers.recipe().dropped;
        let kept = env::vars_os()
            .filter(|(name, _)| name != "PWD" && !dropped.iter().any(|drop| name == drop.as_str()));
        let pwd = (OsString::from("PWD"), directory.as_os_str().to_owned());
        Ok(kept.chain([pwd]).map(|(name, value)| variable(name, &value)).collect::<Result<_, _>>()?)
    }

    pub(in crate::master) fn on_check_ended(&mut self, termination: &Termination) {
        self.read_check();
        let Some(check) = self.replacement.check.take() else { return };
        if self.replacement.then.is_empty() {
            // Nobody waits for it any more: the master stops.
            return;
        }
        match check.verdict(termination, &self.replacement.settings) {
            Ok(version) => {
                self.log.debug(format_args!("the check has passed: {version} can go on from here"));
                self.replacement.checked = Some(check.candidate);
            }
            Err(reason) => self.keep_master(&reason),
        }
    }

    /// Becomes the program that was checked. Returns only if that fails.
    pub(in crate::master) fn replace(&mut self) {
        let Some(candidate) = self.replacement.checked.take() else { return };
        let Err(error) = self.execute(&candidate);
        // No signal tells of children that ended while SIGCHLD was not blocked.
        self.backlog.children = true;
        self.keep_master(&format!("{error:#}"));
    }

    fn execute(&mut self, candidate: &Candidate) -> anyhow::Result<std::convert::Infallible> {
        let image = open(SELF, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(io::Error::from)
            .context("cannot open the program that runs, to go back to")?;
        let record = self.record(&Clock::read())?;
        let state = sealed_file("state", &format::to_bytes(Fd::of(&image), &record)?)
            .context("cannot make a file in memory for the state")?;
        let options = ["--with-state-fd".into(), state.as_raw_fd().to_string().into()];
        let argv = c_strings(self.arguments(candidate, &options))?;
        let here = open(".", DIRECTORY, Mode::empty()).map_err(io::Error::from);
        let here = here.context("cannot open the current directory")?;
        let directory = match self.start_directory() {
            Some(directory) if fchdir(&directory).is_ok() => self.identity.start_directory.clone(),
            _ => env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        };
        let env = self.environment(&directory)?;
        let mut kept = record.descriptors();
        kept.extend([image.as_raw_fd(), state.as_raw_fd()]);
        self.log.flush();
        let error = become_program(candidate, &argv, &env, &kept);
        // As it was: it may be a directory that has no path any more.
        let _ = fchdir(&here);
        Err(error)
    }

    /// The master stays as it is. Whoever wanted it replaced is told why.
    pub(in crate::master) fn keep_master(&mut self, reason: &str) {
        let notice = Notice::MasterKept { reason: reason.to_owned() };
        self.log.notice(&notice);
        self.service.on_notice(&notice);
        self.clients.send_to_followers(&notice);
        for then in std::mem::take(&mut self.replacement.then) {
            self.answer_then(&then, reason);
        }
    }

    fn answer_then(&mut self, then: &Then, reason: &str) {
        let (request, message) = match then {
            Then::Reload { request } => (Some(*request), format!("not reloaded: {reason}")),
            Then::Upgrade { request, .. } => {
                (*request, format!("upgrade failed before it began, and nothing was changed: {reason}"))
            }
        };
        match request {
            Some(request) => self.give_last_reply(request, false, message),
            None => self.log.warn(message),
        }
    }

    /// Tells the log, those who follow events, and those who wait for the replacement.
    pub(super) fn tell_waiting(&mut self, notice: &Notice) {
        let requests = self.replacement.then.iter().filter_map(Then::request).collect::<Vec<_>>();
        self.publish(notice, &requests, self.supervisor.counts());
    }
}

impl Candidate {
    pub(super) fn notice(&self) -> Notice {
        Notice::MasterChecking { program: self.program.file().path.display().to_string() }
    }
}

impl Then {
    pub(super) fn request(&self) -> Option<RequestKey> {
        match self {
            Self::Reload { request } => Some(*request),
            Self::Upgrade { request, .. } => *request,
        }
    }
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Executes `candidate`, with `kept` left open. Returns why that failed, and everything is as it was.
fn become_program(candidate: &Candidate, argv: &[CString], env: &[CString], kept: &[RawFd]) -> anyhow::Error {
    let program = &candidate.program;
    let path = program.path();
    // What runs must be what was checked.
    let found = fstatat(nix::fcntl::AT_FDCWD, path, nix::fcntl::AtFlags::empty());
    let is_same = found
        .is_ok_and(|found| (found.st_dev, found.st_ino) == (program.file().device, program.file().inode));
    if !is_same {
        return anyhow!(
            "{} has changed since it was checked; try again",
            Path::new(OsStr::from_bytes(path.to_bytes())).display()
        );
    }
    // A program that runs in our place and knows nothing of workers, such as a shell, may wait for children of its own.
    let children: SigSet = [Signal::SIGCHLD].into_iter().collect();
    let _ = children.thread_unblock();
    set_close_on_exec(kept, false);
    let Err(errno) = execve(path, argv, env);
    set_close_on_exec(kept, true);
    let _ = children.thread_block();
    anyhow!("cannot execute {}: {}", candidate.program.file().path.display(), io::Error::from(errno))
}

pub(super) fn c_strings(words: Vec<OsString>) -> anyhow::Result<Vec<CString>> {
    use std::os::unix::ffi::OsStringExt;
    words
        .into_iter()
        .map(|word| CString::new(word.into_vec()).context("an argument has a NUL byte in it"))
        .collect()
}
