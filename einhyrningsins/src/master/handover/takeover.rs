//! The takeover: the new image continues from the state that the old one left.
//!
//! It changes nothing until it has taken everything over: no worker is touched, and descriptors stay as they
//! are. Any failure until then executes the old program again (`sys/rollback.rs`), whose state is still true. Only
//! then do descriptors become close-on-exec again, the rollback is disarmed, and the loop starts.
//!
//! What names descriptors is read twice: without them, to see whether it can be read, and with them.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::{Context, anyhow};

use super::check::PROOF;
use super::format::{Body, HandoverError, Header};
use super::report::Report;
use crate::cli::Takeover;
use crate::config;
use crate::failure::Failure;
use crate::logging::say;
use crate::master::parts::Parts;
use crate::master::{HANDLED_SIGNALS, Master};
use crate::sys::closer::CLOSER;
use crate::sys::inherit::{self, Inherited, naming, set_close_on_exec};
use crate::sys::limits::ResourceLimit;
use crate::sys::memory_file::content;
use crate::sys::process;
use crate::sys::rollback::Rollback;
use crate::sys::signals::Signals;
use crate::sys::spawn::Spawner;
use crate::sys::surroundings::Surroundings;

/// Takes over from another master, or checks whether this program could; returns the exit code.
///
/// Call it first in the main thread: the descriptors that are open then belong to the state.
///
/// # Errors
/// [`Failure`] if this program cannot continue from the state, and there is no old image to return to.
pub fn take_over(takeover: &Takeover) -> Result<u8, Failure> {
    // Nothing to prove without a state: einhorn only checks that the program runs.
    let Some(fd) = takeover.state_fd else { return Ok(0) };
    let state = inherit::only(fd).map_err(|error| {
        let hint =
            "--with-state-fd is what a master tells the program that takes its place; nobody else needs it";
        Failure {
            error: anyhow!("cannot read the state of the master: {error}"),
            hint: Some(hint.to_owned()),
        }
    })?;
    if takeover.is_check { Ok(check(state)?) } else { Ok(go_on(state, takeover.returned.as_deref())?) }
}

/// Proves that this program can take over from the state in `file`, by appending to it.
fn check(file: OwnedFd) -> anyhow::Result<u8> {
    let inherited = Inherited::besides(&file);
    let bytes = content(&file).map_err(HandoverError::Read)?;
    let (header, body) = Header::parse(&bytes)?;
    let (state, named) = naming(|| Body::of(header, body)?.read());
    let (origin, _) = state?;
    inherit::check_named(&named).context("cannot take over what the state names")?;
    let mut proof = format!("{PROOF}{}\n", env!("CARGO_PKG_VERSION"));
    if let Some(given) = origin.checked
        && let Ok(report) = inherited.and_then(|inherited| Report::unless(given, inherited))
    {
        proof += &serde_json::to_string(&report).unwrap_or_default();
    }
    // The position is at the end, where the writer stopped.
    File::from(file).write_all(proof.as_bytes()).context("cannot leave a proof behind the state")?;
    Ok(0)
}

/// What must be undone if something fails.
struct Guard {
    /// `None` in an image that was returned to: two images that fail must not alternate.
    rollback: Option<Rollback>,
}

impl Guard {
    fn arm(image: RawFd, state: RawFd, returned: Option<&str>) -> anyhow::Result<Self> {
        if returned.is_some() {
            return Ok(Self { rollback: None });
        }
        let rollback = Rollback::arm(image, state).context("cannot arm the rollback to the old program")?;
        Ok(Self { rollback: Some(rollback) })
    }

    /// The value, or the end of this image. What has been taken over is not dropped, because the old image
    /// needs it.
    fn must<T, E: Display>(&self, result: Result<T, E>, what: &str) -> T {
        match result {
            Ok(value) => value,
            Err(error) => {
                let why = format!("{what}: {error:#}");
                let Some(rollback) = &self.rollback else {
                    say(format_args!("einhyrningsins: {why}; the workers are left on their own"));
                    std::process::exit(1);
                };
                say(format_args!("einhyrningsins: {why}; returning to the old program"));
                let errno = rollback.run(&why);
                say(format_args!(
                    "einhyrningsins: cannot return to it either: {errno}; the workers are left on their own"
                ));
                std::process::exit(1);
            }
        }
    }
}

fn go_on(file: OwnedFd, returned: Option<&str>) -> anyhow::Result<u8> {
    // First, because the header says where the old image is: until the rollback is armed there is no way back.
    let bytes = content(&file).map_err(HandoverError::Read)?;
    let (header, body) = Header::parse(&bytes)?;
    let guard = Guard::arm(header.image, file.as_raw_fd(), returned)?;
    let inherited = Inherited::besides(&file);
    let mut inherited = guard
        .must(inherited, "cannot read the descriptors of this process in /proc/self/fd (is /proc mounted?)");
    let body = guard.must(Body::of(header, body), "cannot continue from the state");
    let (state, mut taken) = naming(|| body.read());
    let (origin, Parts { core, .. }) = guard.must(state, "cannot continue from the state");
    if origin.pid != std::process::id().cast_signed() {
        guard.must::<(), _>(Err(HandoverError::OtherProcess(origin.pid)), "cannot continue from the state");
    }
    let image = guard.must(inherited.take(header.image), "cannot hold the old program");
    guard.must(inherited.check(&taken), "cannot continue from the state");
    let signals = guard.must(Signals::new(&HANDLED_SIGNALS), "cannot receive signals");
    let poll = guard.must(Master::poll(), "cannot start the loop");
    let spawner = guard.must(Spawner::new(), "cannot get memory for the stack of new processes");
    let (parts, left) = inherited.lend(|| body.read_parts(core));
    let mut parts = guard.must(parts, "cannot continue from the state");
    let surroundings = parts.handover.surroundings.take();
    let mut lost = Vec::new();
    if returned.is_some() {
        // Nothing has changed, so everything is as this image left it.
        lost.extend(surroundings.iter().flat_map(Surroundings::restore));
    } else {
        follow_directory(&mut parts);
    }
    follow_open_files(&mut parts, surroundings.as_ref());
    parts.log.connect();
    for what in lost {
        parts.log.warn(format_args!("cannot restore {what}"));
    }
    let mut master = Master::new(poll, parts, spawner, signals);
    guard.must(master.register(), "cannot start the loop");
    // From here on this program is the master, and may change the world.
    taken.extend([image.as_raw_fd(), file.as_raw_fd()]);
    set_close_on_exec(&taken, true);
    drop((guard, image, file));
    inherit::settle();
    // What a program between the two images has left open. The old image, which may have needed it, will not come back.
    master.parts.close_unused(left.unclaimed());
    CLOSER.go_on();
    if let Some(name) = master.name() {
        process::set_name(name);
    }
    match returned {
        Some(why) => master.on_returned(why),
        None => master.on_replaced(origin),
    }
    master.go_on()
}

/// The limit on open files may have been changed for good. The workers then have it too; the master raises its own.
fn follow_open_files(parts: &mut Parts, before: Option<&Surroundings>) {
    let own = ResourceLimit::own_open_files();
    if before.is_some_and(|before| own.is_some_and(|own| !before.limits.contains(&own))) {
        parts.workers.options.open_files = process::raise_open_files().unwrap_or_default();
    }
}

/// A program that ran in between may have changed the directory; workers then run there, unless `--chdir` is
/// given.
fn follow_directory(parts: &mut Parts) {
    if let Ok(directory) = config::start_directory() {
        if !parts.handover.identity.directory_given {
            parts.workers.recipe.directory.clone_from(&directory);
        }
        parts.handover.identity.start_directory = directory;
    }
}
