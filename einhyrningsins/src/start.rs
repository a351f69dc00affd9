//! From the command line to the loop: everything that can be wrong is found before the first spawn.

use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use einhyrningsins_supervisor::{AckMode, Generation, Supervisor};

use crate::config::{Config, Dialect, Sockets};
use crate::failure::Failure;
use crate::listen::{self, BindError, Listeners, Passed};
use crate::logging::Log;
use crate::master::ControlSocket;
use crate::master::NotifySocket;
use crate::master::{HANDLED_SIGNALS, Master, Parts, Service, ServiceSettings};
use crate::sys::lock_file::{LockError, LockFile};
use crate::sys::pid_file::{PidFile, PidFileError, PidForm};
use crate::sys::process;
use crate::sys::signals::Signals;
use crate::sys::spawn::Spawner;
use crate::workers::{WorkerOptions, Workers};

/// Runs the master to its end and returns its exit code.
///
/// Call it from the main thread, before there is another: signals are blocked for the process as a whole, and
/// what a worker is sent when the master dies goes by the thread that spawned it.
///
/// # Errors
/// [`Failure`] if it cannot start; no worker was spawned then, and no file of another master was touched.
pub fn run(config: Config) -> Result<u8, Failure> {
    // First: what is open now was passed to this process, and belongs to nobody in it.
    let passed = Passed::of_process(&config.sockets.binds);
    let passed = passed.context("cannot look at the descriptors of this process")?;
    let signals = Signals::new(&HANDLED_SIGNALS).context("cannot receive signals")?;
    let mut log = Log::open(config.log);
    for warning in &config.warnings {
        log.warn(warning);
    }
    if let Some(nice) = config.nice.master {
        process::set_nice(nice).with_context(|| format!("cannot set the nice value to {nice} (--nice)"))?;
    }
    if let Some(name) = &config.control.name {
        process::set_name(name);
    }
    let open_files = process::raise_open_files().unwrap_or_default();

    let lockfile =
        config.control.lockfile.as_deref().map(LockFile::acquire).transpose().map_err(lock_failure)?;
    let control_socket = ControlSocket::open(&config.control.socket)
        .map_err(|error| Failure { hint: error.hint().map(str::to_owned), error: error.into() })?;
    // einhorn's is for the control socket alone: masters with sockets of their own share the default one.
    let lockfile = lockfile.filter(|_| config.identity.dialect == Dialect::Native);
    let mut service =
        Service::new(ServiceSettings::new(|name| env::var_os(name), std::process::id()), &mut log);
    let listeners = listen_on(&config.sockets, config.policy.workers, passed, &mut service, &mut log)?;
    // After the listeners, one of which may be asked for at its path.
    let mut notify = match NotifySocket::beside(&control_socket) {
        Ok(notify) => notify,
        Err(error) => notify_without_file(&format!("{:#}", anyhow::Error::from(error)), &mut log)?,
    };
    let options = WorkerOptions {
        nice: config.nice.worker,
        parent_death_signal: config.parent_death_signal,
        open_files,
        control_as_fd: config.control.socket_as_fd,
        capture_startup: config.capture_startup,
        ping_timeout: config.policy.care.ping_timeout,
        process: config.process,
    };
    let spawner = Spawner::new().context("cannot get memory for the stack of new processes")?;
    let socket = &config.control.socket;
    let mut workers = Workers::new(config.recipe, listeners, socket, notify.address(), spawner, options);
    resolve_first(&mut workers)?;
    if let Some(path) = notify.path()
        && let Err(error) = workers.may_write(Generation(1), path)
    {
        let why = format!("workers (--user, --group) may not reach {}: {error}", path.display());
        notify = notify_without_file(&why, &mut log)?;
        workers.set_notify(notify.address());
        resolve_first(&mut workers)?;
    }
    if let Some(credentials) = workers.credentials(Generation(1)) {
        let is_deaf = credentials.is_other_user() && credentials.uid != Some(0);
        if is_deaf && !config.control.socket_as_fd && matches!(config.policy.ack, AckMode::Manual(_)) {
            log.warn(
                "workers of another user (--user) cannot open the control socket: they must ack by NOTIFY_SOCKET, or \
                 with -g by the descriptor in EINHORN_SOCK_FD",
            );
        }
    }
    let form = match config.identity.dialect {
        Dialect::Native => PidForm::Line,
        Dialect::Einhorn => PidForm::Bare,
    };
    let pidfile = config.control.pidfile.as_deref().map(|path| PidFile::write(path, form));
    let pidfile = pidfile.transpose().map_err(pidfile_failure)?;
    if let Some(other) = pidfile.as_ref().and_then(PidFile::replaced) {
        log.warn(format_args!(
            "the pid file named process {other}, which is alive; it names this master now"
        ));
    }

    let supervisor = Supervisor::new(config.policy);
    log.info(starting(&config.control.socket.display()));
    let master = Master::new(Parts {
        identity: config.identity,
        reexec: config.reexec,
        supervisor,
        workers,
        control: config.control,
        notify,
        control_socket,
        lockfile,
        pidfile,
        signals,
        service,
        log,
    })
    .map_err(|failure| failure.error)?;
    Ok(master.run()?)
}

/// How long a service manager may take to let go of a socket.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// Between two looks whether it has.
const LET_GO_EVERY: Duration = Duration::from_millis(5);

/// Has all sockets, those that were kept for this master where they fit, and logs where they are.
fn listen_on(
    sockets: &Sockets,
    slots: u32,
    mut passed: Passed,
    service: &mut Service,
    log: &mut Log,
) -> Result<Vec<Listeners>, Failure> {
    let Sockets { binds, family, backlog } = sockets;
    let failure = |error: BindError| Failure { hint: error.hint(), error: error.into() };
    let mut kept = passed.take_kept();
    let mut names = kept.names();
    let taken: Vec<_> = binds.iter().map(|spec| kept.take(spec, *family, *backlog, slots)).collect();
    // Before others are bound, whose addresses they may have.
    let unwanted = kept.give_up();
    names.retain(|name| !unwanted.contains(name));
    service.on_kept(names);
    service.forget_now(&unwanted, log);
    let let_go_until = (!unwanted.is_empty()).then(|| Instant::now() + LET_GO_WITHIN);
    let mut listeners = Vec::new();
    for (spec, taken) in binds.iter().zip(taken) {
        let (found, how) = match taken {
            Some(taken) => (vec![taken], ", on a socket that the service manager has kept"),
            None => {
                let open = || listen::open(spec, binds, *family, *backlog, &mut passed);
                let opened = open_in_time(open, let_go_until).map_err(failure)?;
                let opened = opened.into_iter().map(|listener| Listeners::new(listener, slots));
                (opened.collect::<Result<_, _>>().map_err(failure)?, "")
            }
        };
        for found in found {
            let any = found.any();
            log.info(format_args!("listening on {}{how}", any.address));
            for shortfall in any.shortfalls() {
                log.warn(shortfall);
            }
            listeners.push(found);
        }
    }
    for leftover in passed.leftovers() {
        log.warn(leftover);
    }
    Ok(listeners)
}

/// Has the service manager the time to let go of a UDP socket: its address is taken as long as anybody has it, and what
/// frees that of a TCP socket at once does not free it.
fn open_in_time<T>(
    mut open: impl FnMut() -> Result<T, BindError>,
    until: Option<Instant>,
) -> Result<T, BindError> {
    loop {
        match open() {
            Err(BindError::Bind { source, .. })
                if source.kind() == ErrorKind::AddrInUse && until.is_some_and(|at| Instant::now() < at) =>
            {
                thread::sleep(LET_GO_EVERY);
            }
            result => return result,
        }
    }
}

/// The notify socket where it can have no file.
fn notify_without_file(why: &str, log: &mut Log) -> anyhow::Result<NotifySocket> {
    log.warn(format_args!(
        "NOTIFY_SOCKET is an abstract name, which some servers do not know, and no path: {why}"
    ));
    NotifySocket::without_file().context("cannot make the notify socket")
}

/// Looks up what the first workers run.
fn resolve_first(workers: &mut Workers) -> Result<(), Failure> {
    let resolved = workers.resolve(Generation(1));
    resolved.map_err(|error| Failure { hint: error.hint(), error: anyhow!("{}", error.in_words()) })
}

fn lock_failure(error: LockError) -> Failure {
    let hint = match &error {
        LockError::Held { .. } => {
            Some("does it run already? else give this master another one (-f FILE)".into())
        }
        LockError::NotALockFile { .. } => Some("move it away, or give another path (-f FILE)".into()),
        LockError::Io { source, .. } => file_hint(source, "-f"),
    };
    Failure { error: error.into(), hint }
}

fn pidfile_failure(error: PidFileError) -> Failure {
    let hint = match &error {
        PidFileError::NotAFile { .. } => Some("move it away, or give another path (-e FILE)".into()),
        PidFileError::Io { source, .. } => file_hint(source, "-e"),
    };
    Failure { error: error.into(), hint }
}

fn file_hint(error: &io::Error, option: &str) -> Option<String> {
    match error.kind() {
        ErrorKind::NotFound => Some(format!("make the directory, or give another path ({option} FILE)")),
        ErrorKind::PermissionDenied => {
            Some(format!("is it another user's? give a path of your own ({option} FILE)"))
        }
        _ => None,
    }
}

fn starting(socket: &dyn Display) -> String {
    format!("einhyrningsins {} started, control socket {socket}", env!("CARGO_PKG_VERSION"))
}
