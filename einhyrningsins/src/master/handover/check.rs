//! The check of a handover: a child runs the new program with the present state, and reports whether it can take
//! over.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use anyhow::Context;
use einhorn_proto::Termination;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::report::{CHECK_OPTIONS, Given, Proven, Report};
use super::{Candidate, environment, format};
use crate::config::HandoverSettings;
use crate::master::parts::Parts;
use crate::master::ready::CHECK;
use crate::sys::memory_file::{content_behind, memory_file};
use crate::sys::spawn::{SpawnSpec, Spawner};
use crate::workers::pipe_for_reading;

/// How many bytes of its standard error are kept: the end, where the reason is.
const SAID_BYTES_MAX: usize = 4096;

/// Reads in one round: as much as a pipe holds. A program that writes without pause must not keep the loop.
const READS_PER_ROUND: usize = 16;

/// What the child appends to the state if it can take over; its version follows, and its report in a line of its own.
pub(super) const PROOF: &str = "\naccepted by ";

/// How much of that is read, in bytes: far more than an environment has.
const PROOF_BYTES_MAX: usize = 2 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Check {
    pub(super) candidate: Candidate,
    pub(super) pid: Pid,
    /// The child appends its proof to this file.
    state: OwnedFd,
    state_bytes: usize,
    /// The variables that it was given.
    environment: Vec<CString>,
    stderr: File,
    /// The end of its standard error.
    said: Vec<u8>,
    pub(super) deadline: Instant,
    pub(super) is_late: bool,
}

/// A check that has passed.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) version: String,
    /// The program to execute instead of the candidate, or why the candidate must be executed although it executes another.
    pub(super) proven: Result<Option<Proven>, String>,
}

impl Check {
    /// Starts the child.
    ///
    /// # Errors
    /// If there is no candidate, or the child cannot be started; the master stays as it is.
    pub(super) fn begin(
        parts: &mut Parts,
        spawner: &mut Spawner,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let candidate = parts.handover.candidate()?;
        let core = format::core_to_bytes(&parts.core)?;
        let state = format::to_bytes(-1, Some(candidate.program.file()), &core, parts)?;
        let file = memory_file("state", &state).context("cannot make a file in memory for the state")?;
        let (stderr, theirs) =
            pipe_for_reading().map_err(io::Error::from).context("cannot make a pipe for the check")?;
        let argv = candidate.arguments(&CHECK_OPTIONS.map(Into::into), parts)?;
        let env = environment(&parts.workers.recipe, Some(&parts.handover.identity.start_directory))?;
        let directory = parts.handover.start_directory();
        let spec = SpawnSpec {
            executable: candidate.program.executable(),
            directory: directory.as_ref().map(AsFd::as_fd),
            sockets: &[file.as_fd()],
            stderr: Some(theirs.as_fd()),
            ..SpawnSpec::new(candidate.program.path(), &argv, &env)
        };
        let pid = spawner.spawn(&spec)?;
        drop(theirs);
        registry
            .register(&mut SourceFd(&stderr.as_raw_fd()), CHECK, Interest::READABLE)
            .context("cannot wait for the check")?;
        Ok(Self {
            candidate,
            pid,
            state: file,
            state_bytes: state.len(),
            environment: env,
            stderr: stderr.into(),
            said: Vec::new(),
            deadline: Instant::now() + parts.handover.settings.check_timeout,
            is_late: false,
        })
    }

    /// Reads its standard error, a bounded amount. Returns whether there may be more.
    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0; SAID_BYTES_MAX];
        for _ in 0..READS_PER_ROUND {
            match self.stderr.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.said.extend_from_slice(&buffer[..count]);
                    let surplus = self.said.len().saturating_sub(SAID_BYTES_MAX);
                    self.said.drain(..surplus);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Kills the child and its process group.
    pub(super) fn end(&mut self) {
        self.is_late = true;
        let _ = kill(Pid::from_raw(-self.pid.as_raw()), Signal::SIGKILL);
    }

    /// What the new program has proven, or why it cannot take over.
    pub(super) fn verdict(
        &self,
        termination: &Termination,
        settings: &HandoverSettings,
    ) -> Result<Passed, String> {
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
        let added = content_behind(&self.state, self.state_bytes as u64, PROOF_BYTES_MAX).unwrap_or_default();
        let Some(proof) = added.strip_prefix(PROOF.as_bytes()) else {
            return Err(format!(
                "{program} --upgrade-check exited with status 0 and has not read the state, so it is no \
                 einhyrningsins, or does not pass its arguments and descriptors on to one{said}"
            ));
        };
        let mut lines = proof.splitn(2, |byte| *byte == b'\n');
        let version = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let proven = self.proven(lines.next().unwrap_or_default());
        Ok(Passed { version, proven })
    }

    /// The program that the candidate has become, according to its report.
    fn proven(&self, report: &[u8]) -> Result<Option<Proven>, String> {
        let program = &self.candidate.program;
        let Ok(report) = serde_json::from_slice::<Option<Report>>(report) else {
            // An older program has none.
            let is_script = program.executable().is_none();
            return if is_script {
                Err("the new program does not report what it finds".into())
            } else {
                Ok(None)
            };
        };
        let given = Given { environment: &self.environment, stderr: &self.stderr, pid: self.pid };
        report.map(|report| report.proven(&given)).transpose()
    }
}
