//! The check of a handover: a child runs the new program with the present state, and reports whether it can take
//! over.

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

use super::{Candidate, environment, format};
use crate::config::HandoverSettings;
use crate::master::parts::Parts;
use crate::master::ready::CHECK;
use crate::sys::memory_file::{content, memory_file};
use crate::sys::spawn::{FIRST_SOCKET, SpawnSpec, Spawner};
use crate::workers::pipe_for_reading;

/// How many bytes of its standard error are kept: the end, where the reason is.
const SAID_BYTES_MAX: usize = 4096;

/// Reads in one round: as much as a pipe holds. A program that writes without pause must not keep the loop.
const READS_PER_ROUND: usize = 16;

/// What the child appends to the state if it can take over; its version follows.
pub(super) const PROOF: &str = "\naccepted by ";

#[derive(Debug)]
pub(super) struct Check {
    pub(super) candidate: Candidate,
    pub(super) pid: Pid,
    /// The child appends its proof to this file.
    state: OwnedFd,
    state_bytes: usize,
    stderr: File,
    /// The end of its standard error.
    said: Vec<u8>,
    pub(super) deadline: Instant,
    pub(super) is_late: bool,
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
        let state = format::to_bytes(-1, parts)?;
        let file = memory_file("state", &state).context("cannot make a file in memory for the state")?;
        let (stderr, theirs) =
            pipe_for_reading().map_err(io::Error::from).context("cannot make a pipe for the check")?;
        let options = ["--upgrade-check".into(), "--with-state-fd".into(), FIRST_SOCKET.to_string().into()];
        let argv = candidate.arguments(&options, parts)?;
        let env = environment(&parts.workers.recipe, &parts.handover.identity.start_directory)?;
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

    /// The version of the new program, or why it cannot take over.
    pub(super) fn verdict(
        &self,
        termination: &Termination,
        settings: &HandoverSettings,
    ) -> Result<String, String> {
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
