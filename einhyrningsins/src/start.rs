//! From the command line to the loop: everything that can be wrong is found before the first spawn.

use std::env;
use std::fmt::Display;

use anyhow::{Context, anyhow};

use crate::config::Config;
use crate::control_socket::ControlSocket;
use crate::listen;
use crate::logging::Log;
use crate::reactor::{HANDLED_SIGNALS, Parts, Reactor, Service, ServiceSettings, WorkerOptions, Workers};
use crate::supervisor::{Generation, Supervisor};
use crate::sys::lock_file::LockFile;
use crate::sys::notify::NotifySocket;
use crate::sys::pid_file::PidFile;
use crate::sys::process;
use crate::sys::signals::Signals;
use crate::sys::spawn::Spawner;

/// Why the master did not start, or ended: what failed, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// What failed, with its causes.
    pub error: anyhow::Error,
    /// What to do about it.
    pub hint: Option<String>,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None }
    }
}

/// Runs the master to its end and returns its exit code.
///
/// Call it from the main thread, before there is another: signals are blocked for the process as a whole, and
/// what a worker is sent when the master dies goes by the thread that spawned it.
///
/// # Errors
/// [`Failure`] if it cannot start; no worker was spawned then, and no file of another master was touched.
pub fn run(config: Config) -> Result<u8, Failure> {
    let signals = Signals::new(&HANDLED_SIGNALS).context("cannot receive signals")?;
    let mut log = Log::open(config.log);
    if let Some(nice) = config.nice.master {
        process::set_nice(nice).with_context(|| format!("cannot set the nice value to {nice} (--nice)"))?;
    }
    if let Some(name) = &config.control.name {
        process::set_name(name);
    }
    let open_files = process::raise_open_files().unwrap_or_default();

    let lockfile = config.control.lockfile.as_deref().map(LockFile::acquire).transpose()?;
    let control_socket = ControlSocket::open(&config.control.socket)
        .map_err(|error| Failure { hint: error.hint().map(str::to_owned), error: error.into() })?;
    let mut listeners = Vec::new();
    for spec in &config.sockets.binds {
        let listener = listen::bind(spec, config.sockets.family, config.sockets.backlog)
            .map_err(|error| Failure { hint: error.hint(), error: error.into() })?;
        log.info(format_args!("listening on {}", listener.address));
        listeners.push(listener);
    }
    let notify = NotifySocket::bind().context("cannot make the notify socket")?;
    let options = WorkerOptions {
        nice: config.nice.worker,
        parent_death_signal: config.parent_death_signal,
        open_files,
        control_as_fd: config.control.socket_as_fd,
        capture_startup: config.capture_startup,
    };
    let spawner = Spawner::new().context("cannot get memory for the stack of new processes")?;
    let socket = &config.control.socket;
    let mut workers = Workers::new(config.recipe, listeners, socket, notify.address(), spawner, options);
    workers.resolve(Generation(1)).map_err(|error| Failure {
        hint: error.hint().map(str::to_owned),
        error: anyhow!("{}", error.in_words()),
    })?;
    let pidfile = config.control.pidfile.as_deref().map(PidFile::write).transpose()?;
    if let Some(other) = pidfile.as_ref().and_then(PidFile::replaced) {
        log.warn(format_args!(
            "the pid file named process {other}, which is alive; it names this master now"
        ));
    }

    let service = Service::new(ServiceSettings::new(|name| env::var_os(name), std::process::id()), &mut log);

    let supervisor = Supervisor::new(config.policy);
    log.info(starting(&config.control.socket.display()));
    let reactor = Reactor::new(Parts {
        identity: config.identity,
        reexec: config.reexec,
        supervisor,
        workers,
        control: config.control,
        control_socket,
        lockfile,
        pidfile,
        signals,
        notify,
        service,
        log,
    })?;
    Ok(reactor.run()?)
}

fn starting(socket: &dyn Display) -> String {
    format!("einhyrningsins {} started, control socket {socket}", env!("CARGO_PKG_VERSION"))
}
