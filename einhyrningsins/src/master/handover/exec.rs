//! The exec of a handover: the master becomes the program that was checked.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use einhyrningsins_supervisor::Action;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{execve, fchdir};

use super::{Candidate, DIRECTORY, Handover, SELF, environment, format};
use crate::master::parts::Parts;
use crate::sys::closer::CLOSER;
use crate::sys::inherit::{naming, set_close_on_exec};
use crate::sys::memory_file::sealed_file;

/// How long an exec waits for the writer of the log, whose last line it would cut.
const LOG_TIME: Duration = Duration::from_millis(100);

impl Handover {
    /// Executes the program that was checked. Returns only if that fails; the master is then unchanged.
    pub(in crate::master) fn execute(parts: &mut Parts) -> Vec<Action> {
        let Some(candidate) = parts.handover.checked.take() else { return Vec::new() };
        CLOSER.hold();
        parts.notify.socket().hold_senders(false);
        let Err(error) = execute(parts, &candidate);
        parts.notify.socket().hold_senders(true);
        CLOSER.go_on();
        parts.handover.give_up(&format!("{error:#}"), &mut parts.log)
    }
}

fn execute(parts: &mut Parts, candidate: &Candidate) -> anyhow::Result<Infallible> {
    let image = open(SELF, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .context("cannot open /proc/self/exe, the program that runs, to go back to (is /proc mounted?)")?;
    // What is left of it goes over in the state.
    parts.log.finish(LOG_TIME);
    let (bytes, mut kept) = naming(|| format::to_bytes(image.as_raw_fd(), parts));
    let state = sealed_file("state", &bytes?).context("cannot make a file in memory for the state")?;
    let options = ["--with-state-fd".into(), state.as_raw_fd().to_string().into()];
    let argv = candidate.arguments(&options, parts)?;
    let here = open(".", DIRECTORY, Mode::empty()).map_err(io::Error::from);
    let here = here.context("cannot open the current directory")?;
    let directory = match parts.handover.start_directory() {
        Some(directory) if fchdir(&directory).is_ok() => parts.handover.identity.start_directory.clone(),
        _ => env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
    };
    let env = environment(&parts.workers.recipe, &directory)?;
    kept.extend([image.as_raw_fd(), state.as_raw_fd()]);
    let error = become_program(candidate, &argv, &env, &kept);
    // The same directory as now, which may no longer have a path.
    let _ = fchdir(&here);
    Err(error)
}

/// Executes `candidate` with `kept` left open. Returns only if that fails, after everything has been undone.
fn become_program(candidate: &Candidate, argv: &[CString], env: &[CString], kept: &[RawFd]) -> anyhow::Error {
    let program = &candidate.program;
    let path = program.path();
    // The file that runs must be the file that was checked.
    let found = fstatat(nix::fcntl::AT_FDCWD, path, nix::fcntl::AtFlags::empty());
    let is_same = found
        .is_ok_and(|found| (found.st_dev, found.st_ino) == (program.file().device, program.file().inode));
    if !is_same {
        return anyhow!(
            "{} has changed since it was checked; try again",
            Path::new(OsStr::from_bytes(path.to_bytes())).display()
        );
    }
    // A program that runs in between and knows nothing of workers, such as a shell, may wait for its own
    // children.
    let children: SigSet = [Signal::SIGCHLD].into_iter().collect();
    let _ = children.thread_unblock();
    set_close_on_exec(kept, false);
    let Err(errno) = execve(path, argv, env);
    set_close_on_exec(kept, true);
    let _ = children.thread_block();
    anyhow!("cannot execute {}: {}", candidate.program.file().path.display(), io::Error::from(errno))
}
