//! The check of what is to take the master's place: a child, with the state as it is at that moment, that says whether
//! it can go on from it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use anyhow::Context;
use einhorn_proto::Termination;
use mio::Interest;
use mio::unix::SourceFd;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::exec::{Candidate, c_strings};
use super::format;
use crate::config::Reexec;
use crate::forms::Clock;
use crate::master::{CHECK, Master};
use crate::sys::inherit::Fd;
use crate::sys::memory_file::{content, memory_file};
use crate::sys::spawn::{FIRST_SOCKET, SpawnSpec};
use crate::workers::pipe_for_reading;

/// How much is kept of what the check says, in bytes: the end of it, where the reason is.
const SAID_BYTES_MAX: usize = 4096;

/// What the check's child adds to the state when it could go on from it; its version follows.
pub const PROOF: &str = "\naccepted by ";

/// A check that runs.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) candidate: Candidate,
    pub(super) pid: Pid,
    /// The state, to which the child adds its proof.
    state: OwnedFd,
    state_bytes: usize,
    stderr: File,
    /// What it said last on standard error.
    said: Vec<u8>,
    pub(super) deadline: Instant,
    pub(super) is_late: bool,
}

impl Check {
    /// The version of what has passed, or why it has not.
    pub(super) fn verdict(&self, termination: &Termination, settings: &Reexec) -> Result<String, String> {
        let program = self.candidate.program.file().path.display();
        if self.is_late {
            let limit = settings.check_timeout.as_secs_f64();
            return Err(format!("{program} --upgrade-check did not end within {limit}s (--reexec-timeout)"));
        }
        let said = String::from_utf8_lossy(&self.said);
        let said = said.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        if *termination != Termination::Exited(0) {
            return Err(format!("{program} --upgrade-check {termination}{said}"));
        }
        let state = content(&self.state).unwrap_or_default();
        let added = state.get(self.state_bytes..).map(String::from_utf8_lossy).unwrap_or_default();
        match added.strip_prefix(PROOF) {
            Some(version) => Ok(version.trim().to_owned()),
            None => Err(format!(
                "{program} --upgrade-check exited with status 0 and has not read the state, so it is no \
                 einhyrningsins, or does not pass its arguments and descriptors on to one{said}"
            )),
        }
    }
}

impl Master {
    /// Starts the child.
    ///
    /// # Errors
    /// If there is no candidate, or the child cannot be started; the master stays as it is.
    pub(in crate::master) fn begin_check(&mut self) -> anyhow::Result<()> {
        let candidate = self.candidate()?;
        let state = format::to_bytes(Fd(-1), &self.record(&Clock::read())?)?;
        let file = memory_file("state", &state).context("cannot make a file in memory for the state")?;
        let (stderr, theirs) =
            pipe_for_reading().map_err(io::Error::from).context("cannot make a pipe for the check")?;
        let check = ["--upgrade-check".into(), "--with-state-fd".into(), FIRST_SOCKET.to_string().into()];
        let argv = c_strings(self.arguments(&candidate, &check))?;
        let env = self.environment(&self.identity.start_directory)?;
        let directory = self.start_directory();
        let spec = SpawnSpec {
            executable: candidate.program.executable(),
            directory: directory.as_ref().map(AsFd::as_fd),
            sockets: &[file.as_fd()],
            stderr: Some(theirs.as_fd()),
            ..SpawnSpec::new(candidate.program.path(), &argv, &env)
        };
        let pid = self.workers.spawner().spawn(&spec)?;
        drop(theirs);
        let registry = self.poll.registry();
        registry
            .register(&mut SourceFd(&stderr.as_raw_fd()), CHECK, Interest::READABLE)
            .context("cannot wait for the check")?;
        let notice = candidate.notice();
        self.replacement.check = Some(Check {
            candidate,
            pid,
            state: file,
            state_bytes: state.len(),
            stderr: stderr.into(),
            said: Vec::new(),
            deadline: Instant::now() + self.replacement.settings.check_timeout,
            is_late: false,
        });
        self.tell_waiting(&notice);
        Ok(())
    }

    /// Takes up what the check's child says on standard error.
    pub(in crate::master) fn read_check(&mut self) {
        let Some(check) = &mut self.replacement.check else { return };
        let mut buffer = [0; SAID_BYTES_MAX];
        loop {
            match check.stderr.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    check.said.extend_from_slice(&buffer[..count]);
                    let surplus = check.said.len().saturating_sub(SAID_BYTES_MAX);
                    check.said.drain(..surplus);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    pub(in crate::master) fn enforce_check_deadline(&mut self, now: Instant) {
        if self.replacement.deadline().is_some_and(|deadline| deadline <= now) {
            self.end_check();
        }
    }

    /// Kills the check's child, with what it has started: it is the leader of a process group of its own.
    pub(in crate::master) fn end_check(&mut self) {
        if let Some(check) = &mut self.replacement.check {
            check.is_late = true;
            let _ = kill(Pid::from_raw(-check.pid.as_raw()), Signal::SIGKILL);
        }
    }
}
