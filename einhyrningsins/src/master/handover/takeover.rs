//! The other side of the master's exec: this program goes on from the state that the one before it left.
//!
//! Until everything is taken over nothing is changed: no worker is touched, and descriptors stay as they came. So
//! whatever fails until then ends in going back to the image before (`sys/go_back.rs`), whose state is still true.
//! Only then are descriptors close-on-exec again, the way back is closed, and the loop begins.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic;

use anyhow::{Context, anyhow};
use einhyrningsins_supervisor::{Moment, Supervisor};

use super::check::PROOF;
use super::format::{HandoverError, Header};
use super::record::MasterRecord;
use crate::cli::Takeover;
use crate::config::{self, Identity};
use crate::failure::Failure;
use crate::forms::Clock;
use crate::logging::Log;
use crate::master::control::ControlSocket;
use crate::master::notify::NotifySocket;
use crate::master::{HANDLED_SIGNALS, Master, Parts, Service};
use crate::release::Recipe;
use crate::sys::go_back::{self, GoBack};
use crate::sys::inherit::{Inherited, set_close_on_exec};
use crate::sys::lock_file::LockFile;
use crate::sys::memory_file::content;
use crate::sys::pid_file::PidFile;
use crate::sys::process;
use crate::sys::signals::Signals;
use crate::sys::spawn::Spawner;
use crate::workers::Workers;

/// Takes another master's place, or says whether this program could; returns the exit code.
///
/// Call it from the main thread, first thing: what is open then is what was handed over.
///
/// # Errors
/// [`Failure`] if this program cannot go on from the state, and there is no image before to go back to.
pub fn take_over(takeover: &Takeover) -> Result<u8, Failure> {
    let mut inherited = Inherited::new().context("cannot look at the descriptors of this process")?;
    let state = takeover.state_fd.map(|fd| inherited.take(fd)).transpose().map_err(|error| {
        let hint =
            "--with-state-fd is what a master tells the program that takes its place; nobody else needs it";
        Failure {
            error: anyhow!("cannot read the state of the master: {error}"),
            hint: Some(hint.to_owned()),
        }
    })?;
    match state {
        // Nothing to prove: that this program runs is what einhorn asks.
        None => Ok(0),
        Some(state) if takeover.is_check => Ok(check(state)?),
        Some(state) => Ok(go_on(state, inherited, takeover.returned.as_deref())?),
    }
}

/// Proves that this program can go on from `state`, and leaves the proof behind it.
fn check(state: OwnedFd) -> anyhow::Result<u8> {
    let bytes = content(&state).map_err(HandoverError::Read)?;
    let (_, body) = Header::parse(&bytes)?;
    let record = MasterRecord::parse(body)?;
    Supervisor::restore(record.supervisor).map_err(HandoverError::from)?;
    let proof = format!("{PROOF}{}\n", env!("CARGO_PKG_VERSION"));
    // The position is where whoever wrote the state stopped.
    File::from(state).write_all(proof.as_bytes()).context("cannot leave a proof behind the state")?;
    Ok(0)
}

/// What is still to be undone if something fails.
struct Guard {
    /// `None` if this is the image that was gone back to: two that fail must not take turns.
    way_back: Option<GoBack>,
}

impl Guard {
    fn arm(image: RawFd, state: RawFd, returned: Option<&str>) -> anyhow::Result<Self> {
        if returned.is_some() {
            return Ok(Self { way_back: None });
        }
        let way_back = GoBack::arm(image, state).context("cannot arm the way back to the master before")?;
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            before(info);
            go_back::go_now(&format!("panic: {info}"));
        }));
        Ok(Self { way_back: Some(way_back) })
    }

    /// The value; or the end of this image. What was taken over so far is not dropped: the image before needs it.
    fn must<T, E: Display>(&self, result: Result<T, E>, what: &str) -> T {
        match result {
            Ok(value) => value,
            Err(error) => {
                let why = format!("{what}: {error:#}");
                let Some(way_back) = &self.way_back else {
                    eprintln!("einhyrningsins: {why}; the workers are left on their own");
                    std::process::exit(1);
                };
                eprintln!("einhyrningsins: {why}; going back to the master before");
                let errno = way_back.go(&why);
                eprintln!(
                    "einhyrningsins: cannot go back either: {errno}; the workers are left on their own"
                );
                std::process::exit(1);
            }
        }
    }

    fn disarm(self) {
        if self.way_back.is_some() {
            drop(panic::take_hook());
        }
    }
}

fn go_on(state: OwnedFd, mut inherited: Inherited, returned: Option<&str>) -> anyhow::Result<u8> {
    // Read before there is a way back: the header tells where that is.
    let bytes = content(&state).map_err(HandoverError::Read)?;
    let (header, body) = Header::parse(&bytes)?;
    let guard = Guard::arm(header.image.0, state.as_raw_fd(), returned)?;
    let clock = Clock::read();
    let record = guard.must(MasterRecord::parse(body), "cannot go on from the state");
    if record.pid != std::process::id().cast_signed() {
        guard.must::<(), _>(Err(HandoverError::OtherProcess(record.pid)), "cannot go on from the state");
    }
    let mut taken = record.descriptors();
    let (version, written_at) = (record.version.clone(), record.written_at);
    let image = guard.must(inherited.take(header.image.0), "cannot hold the master before");
    taken.extend([image.as_raw_fd(), state.as_raw_fd()]);
    let mut master = assemble(&guard, &record, &mut inherited);
    guard.must(master.resume(record, &mut inherited, &clock), "cannot take over the control clients");
    // From here on this image is the master, and what follows may change the world.
    set_close_on_exec(&taken, true);
    guard.disarm();
    drop((image, state));
    finish(master, &clock, written_at, version, returned)
}

fn finish(
    mut master: Master,
    clock: &Clock,
    written_at: Moment,
    version: String,
    returned: Option<&str>,
) -> anyhow::Result<u8> {
    match returned {
        Some(why) => master.on_returned(why),
        None => master.on_replaced(clock, written_at, version),
    }
    master.go_on()
}

/// The parts of the master, as they were written down.
fn assemble(guard: &Guard, record: &MasterRecord, inherited: &mut Inherited) -> Master {
    let MasterRecord { identity, control, .. } = record.clone();
    let signals = guard.must(Signals::new(&HANDLED_SIGNALS), "cannot receive signals");
    if let Some(name) = &control.name {
        process::set_name(name);
    }
    let supervisor = Supervisor::restore(record.supervisor.clone());
    let supervisor = guard.must(supervisor, "cannot go on from the state");
    let control_socket = ControlSocket::adopt(record.control_socket.clone(), inherited);
    let lockfile = record.lockfile.clone().map(|lock| LockFile::adopt(lock, inherited)).transpose();
    let notify = NotifySocket::adopt(record.notify.clone(), inherited);
    let notify = guard.must(notify, "cannot take over the notify socket");
    let spawner = guard.must(Spawner::new(), "cannot get memory for the stack of new processes");
    let (identity, recipe) = where_it_runs(identity, record.workers.recipe.clone());
    let mut workers = record.workers.clone();
    workers.recipe = recipe;
    let workers = Workers::adopt(workers, inherited, &control.socket, notify.address(), spawner);
    let mut log = Log::adopt(record.log.clone());
    let parts = Parts {
        identity,
        reexec: record.reexec.clone(),
        supervisor,
        workers: guard.must(workers, "cannot take over what workers need"),
        control_socket: guard.must(control_socket, "cannot take over the control socket"),
        lockfile: guard.must(lockfile, "cannot take over the lock file"),
        pidfile: control.pidfile.clone().map(PidFile::adopt),
        control,
        signals,
        notify,
        service: Service::resume(record.service.clone(), &mut log),
        log,
    };
    guard.must(Master::new(parts), "cannot start the loop")
}

/// A program that ran in between may have changed the directory: that is then where workers run, but for `--chdir`.
fn where_it_runs(identity: Identity, recipe: Recipe) -> (Identity, Recipe) {
    let start_directory = config::start_directory().unwrap_or_else(|_| identity.start_directory.clone());
    let directory = if identity.directory_given { recipe.directory } else { start_directory.clone() };
    (Identity { start_directory, ..identity }, Recipe { directory, ..recipe })
}
