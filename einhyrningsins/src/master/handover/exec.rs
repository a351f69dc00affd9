//! The exec of a handover: the master becomes the program that was checked.

use std::borrow::Cow;
use std::convert::Infallible;
use std::env;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use einhyrningsins_supervisor::{Action, Supervisor};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

use super::{Checked, DIRECTORY, Handover, environment, format};
use crate::master::HANDLED_SIGNALS;
use crate::master::parts::Parts;
use crate::release::{ProgramFile, RUNNING};
use crate::sys::closer::CLOSER;
use crate::sys::inherit::{naming, set_close_on_exec};
use crate::sys::memory_file::sealed_file;
use crate::sys::signals::Unhandled;
use crate::sys::surroundings::{ExecFailure, Surroundings};

/// How long an exec waits for the writer of the log, whose last line it would cut.
const LOG_TIME: Duration = Duration::from_millis(100);

/// What is executed, and how.
struct Launch<'a> {
    path: &'a CStr,
    /// The file that was checked.
    file: &'a ProgramFile,
    argv: Vec<CString>,
    /// The directory is entered before.
    surroundings: Surroundings,
}

impl Handover {
    /// Writes the core down before the exec, if nobody has yet. It takes longest of what precedes the exec, so clients are heard
    /// once more after it: unless they change the core, it is not written again.
    pub(in crate::master) fn prepare(&mut self, core: &Supervisor) -> bool {
        let Some(checked) = self.checked.as_mut().filter(|checked| checked.core.is_none()) else {
            return false;
        };
        checked.core = format::core_to_bytes(core).ok().map(|bytes| (core.revision(), bytes));
        checked.core.is_some()
    }

    /// Executes the program that was checked. Returns only if that fails; the master is then unchanged. What is slow to close,
    /// the next image closes beside its loop: an exec would wait for it.
    pub(in crate::master) fn execute(parts: &mut Parts, slow_to_close: Option<OwnedFd>) -> Vec<Action> {
        let Some(checked) = parts.handover.checked.take() else { return Vec::new() };
        CLOSER.hold();
        CLOSER.close(slow_to_close);
        parts.notify.socket().hold_senders(false);
        let Err(error) = execute(parts, &checked);
        parts.notify.socket().hold_senders(true);
        CLOSER.go_on();
        parts.handover.give_up(&format!("{error:#}"), &mut parts.log)
    }
}

fn execute(parts: &mut Parts, checked: &Checked) -> anyhow::Result<Infallible> {
    let image = open(RUNNING, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .context("cannot open /proc/self/exe, the program that runs, to go back to (is /proc mounted?)")?;
    // What is left of it goes over in the state.
    parts.log.finish(LOG_TIME);
    let before = Surroundings::own();
    let environment = environment(&parts.workers.recipe, None)?;
    parts.handover.surroundings = Some(Surroundings { environment, ..before.clone() });
    let prepared = checked.core.as_ref().filter(|(revision, _)| *revision == parts.core.revision());
    let core = prepared.map_or_else(
        || format::core_to_bytes(&parts.core).map(Cow::Owned),
        |(_, bytes)| Ok(Cow::Borrowed(&bytes[..])),
    );
    let write = || format::to_bytes(image.as_raw_fd(), Some(checked.file()), &core?, parts);
    let (bytes, mut kept) = naming(write);
    parts.handover.surroundings = None;
    let state = sealed_file("state", &bytes?).context("cannot make a file in memory for the state")?;
    kept.extend([image.as_raw_fd(), state.as_raw_fd()]);
    let here = open(".", DIRECTORY, Mode::empty()).map_err(io::Error::from);
    let here = here.context("cannot open the current directory")?;
    let launch = prepare(parts, checked, state.as_raw_fd(), &before);
    let error = launch.map_or_else(|error| error, |launch| become_program(&launch, &before, &kept));
    // The same directory as now, which may no longer have a path.
    let _ = fchdir(&here);
    Err(error)
}

/// Enters the directory of the program.
fn prepare<'a>(
    parts: &Parts,
    checked: &'a Checked,
    state: RawFd,
    before: &Surroundings,
) -> anyhow::Result<Launch<'a>> {
    if let Some(proven) = &checked.proven {
        let argv = proven.arguments(state)?;
        fchdir(&proven.directory)
            .map_err(io::Error::from)
            .context("cannot enter the directory of the check")?;
        return Ok(Launch {
            path: &proven.path,
            file: &proven.file,
            argv,
            surroundings: proven.surroundings.clone(),
        });
    }
    let candidate = &checked.candidate;
    let argv = candidate.arguments(&["--with-state-fd".into(), state.to_string().into()], parts)?;
    let directory = match parts.handover.start_directory() {
        Some(directory) if fchdir(&directory).is_ok() => parts.handover.identity.start_directory.clone(),
        _ => env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
    };
    let environment = environment(&parts.workers.recipe, Some(&directory))?;
    let surroundings = Surroundings { environment, ..before.clone() };
    Ok(Launch { path: candidate.program.path(), file: candidate.program.file(), argv, surroundings })
}

/// Executes a program with `kept` left open. Returns only if that fails, after everything has been undone but the
/// directory.
fn become_program(launch: &Launch<'_>, before: &Surroundings, kept: &[RawFd]) -> anyhow::Error {
    let Launch { path, file, argv, surroundings } = launch;
    if !file.is_at(path) {
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        return anyhow!("{} has changed since it was checked; try again", path.display());
    }
    // A program that runs in between and knows nothing of workers, such as a shell, may wait for its own
    // children.
    let children: SigSet = [Signal::SIGCHLD].into_iter().collect();
    let unhandled = Unhandled::beside(&HANDLED_SIGNALS);
    let _ = children.thread_unblock();
    let _ = unhandled.ignore();
    set_close_on_exec(kept, false);
    let failure = surroundings.execute(path, argv, before);
    set_close_on_exec(kept, true);
    let _ = unhandled.block();
    let _ = children.thread_block();
    match failure {
        ExecFailure::Limit(limit, errno) => {
            anyhow!("cannot set the limit {limit}: {}", io::Error::from(errno))
        }
        ExecFailure::Exec(errno) => {
            anyhow!("cannot execute {}: {}", file.path.display(), io::Error::from(errno))
        }
    }
}
