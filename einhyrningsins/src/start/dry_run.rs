//! `--dry-run`: finds what would be wrong at a start. It spawns no worker, and nothing listens.
//!
//! A live master at the same control socket is what a dry run is for: its socket, its files and its addresses count as
//! free, since they will be when this command line takes its place.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use einhorn_proto::{Command, Reply, Request, Status, Workers as Count};
use einhyrningsins_supervisor::Generation;

use super::{claim, lock_failure, observers, pidfile_failure, share_failure, unresolved, worker_options};
use crate::config::Config;
use crate::failure::Failure;
use crate::listen::{BindAddress, BindError, BindSpec, Family, Passed, PassedError, try_bind};
use crate::master::{ControlSocket, group_of, try_history};
use crate::release::WorkerLog;
use crate::sys::inherit::Inherited;
use crate::sys::journal;
use crate::sys::lock_file::LockFile;
use crate::sys::pid_file::PidFile;
use crate::sys::process;
use crate::sys::spawn::Spawner;
use crate::workers::Workers;

/// How long the live master may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks what [`run`](super::run) would do, prints the result and returns the exit code.
pub(super) fn dry_run(config: Config, mut passed: Passed, inherited: Inherited) -> Result<u8, Failure> {
    if let Some(nice) = config.nice {
        process::set_nice(nice).with_context(|| format!("cannot set the nice value to {nice} (--nice)"))?;
    }
    let live = addresses_of_master_at(&config.control.socket);
    if live.is_some() {
        group_of(&config.control).map_err(share_failure)?;
    } else {
        let lock = config.control.lockfile.as_deref().map(LockFile::acquire);
        lock.transpose().map_err(lock_failure)?;
        let mut socket = ControlSocket::open(&config.control.socket)
            .map_err(|error| Failure { hint: error.hint().map(str::to_owned), error: error.into() })?;
        socket.share(&config.control).map_err(share_failure)?;
    }
    if let Some(path) = &config.control.pidfile {
        PidFile::check(path).map_err(pidfile_failure)?;
    }
    let mut unchecked = Vec::new();
    for spec in &config.sockets.binds {
        match try_one(spec, &config.sockets.binds, config.sockets.family, &mut passed) {
            Ok(()) => {}
            Err(BindError::Passed {
                address: BindAddress::Systemd(_),
                source: PassedError::NotActivated,
            }) => {
                unchecked.push(spec.to_string());
            }
            Err(error) if error.address_in_use().is_some_and(|address| is_of(live.as_deref(), &address)) => {}
            Err(error) => return Err(Failure { hint: error.hint(), error: error.into() }),
        }
    }
    let mut spawner = Spawner::new().context("cannot get memory for the stack of new processes")?;
    let program = config.policy.program.clone();
    let options = worker_options(&config, process::raise_open_files().unwrap_or_default());
    let held_fds = [config.keep_fds.as_slice(), &config.pass_fds].concat();
    let mut workers = Workers::new(config.release.recipe, options);
    workers.resolve(&mut spawner, Generation(1), Vec::new()).map_err(|error| unresolved(&error))?;
    // A -b may have taken one of them.
    claim(inherited, &held_fds)?;
    let mut warnings = observers::doubts(&config.control, workers.credentials(Generation(1)));
    if config.release.attributes.log != WorkerLog::Inherit
        && let Err(error) = journal::check()
    {
        warnings.push(format!("cannot connect to journald (--log-workers): {error}"));
    }
    if let Some(path) = &config.history
        && let Err(error) = try_history(Path::new(path))
    {
        warnings.push(format!("cannot keep the history: {path} (--history): {error:#}"));
    }
    let pool = format!("run {} of {program}", Count(config.policy.workers));
    let found = if warnings.is_empty() { "nothing wrong" } else { "what a start would warn of" };
    println!("found {found}; a start would {pool}");
    for warning in warnings {
        println!("warning: {warning}");
    }
    for spec in unchecked {
        println!("not checked: -b {spec}, since no socket was passed");
    }
    Ok(0)
}

fn try_one(
    spec: &BindSpec,
    binds: &[BindSpec],
    family: Family,
    passed: &mut Passed,
) -> Result<(), BindError> {
    match spec.address {
        BindAddress::Fd(_) | BindAddress::Systemd(_) => passed.take(spec, binds).map(drop),
        _ => try_bind(spec, family),
    }
}

fn is_of(live: Option<&[String]>, address: &str) -> bool {
    live.is_some_and(|addresses| addresses.iter().any(|other| other == address))
}

/// The addresses that the master at `socket` has; `None` if there is no master, or it is not ours to ask.
fn addresses_of_master_at(socket: &Path) -> Option<Vec<String>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(Request { id: None, command: Command::Status }.to_json().as_bytes()).ok()?;
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Vec::new()),
        read => drop(read.ok()?),
    }
    let reply: Reply<Status> = serde_json::from_str(&line).ok()?;
    Some(reply.data?.listeners.into_iter().map(|listener| listener.address).collect())
}
