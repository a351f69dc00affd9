//! From the command line to the loop. Every problem is found before the first spawn.

mod dry_run;
mod observers;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use einhyrningsins_supervisor::{AckMode, Generation, Supervisor};
use nix::errno::Errno;

use crate::cli::Takeover;
use crate::config::{CommandLine, Config, Dialect, start_directory};
use crate::failure::Failure;
use crate::listen::Passed;
use crate::logging::{Log, say};
use crate::manners::VERSION;
use crate::master::{
    Access, Captures, Control, ControlSocket, Counters, Groups, HANDLED_SIGNALS, Handover, History,
    HistoryFile, HistoryTask, Hooks, Jobs, Listeners, Master, Notify, NotifySocket, Options, Parts, Service,
    ServiceSettings, Trial, take_over,
};
use crate::sys::account::AccountError;
use crate::sys::closer::Closing;
use crate::sys::inherit::{Inherited, Kept, set_close_on_exec};
use crate::sys::lock_file::{LockError, LockFile};
use crate::sys::pid_file::{PidFile, PidFileError};
use crate::sys::process::{self, OpenFilesLimit};
use crate::sys::rollback;
use crate::sys::signals::Signals;
use crate::sys::spawn::{FIRST_SOCKET, Spawner};
use crate::sys::thread;
use crate::workers::{ResolveError, WorkerOptions, Workers};

/// Programs of Node that start another program, with standard input, output and error only: libuv closes the rest.
const CLOSE_SOCKETS: [&str; 5] = ["npm", "npx", "nodemon", "pnpm", "yarn"];

/// The program: reads the command line, starts a master or takes over from one, and returns the exit code.
///
/// Call it first thing in the main thread, before there is another: what is open then was passed to this process,
/// signals are blocked for the whole process, and the parent-death signal of workers goes by the thread that spawned
/// them.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let backtrace = Backtrace::capture();
        let is_wanted = backtrace.status() == BacktraceStatus::Captured;
        say(format_args!(
            "einhyrningsins: {info}{}",
            if is_wanted { format!("\n{backtrace}") } else { String::new() }
        ));
        rollback::run_armed(&format!("panic: {info}"));
    }));
    let argv: Vec<OsString> = env::args_os().collect();
    let manners = Dialect::called_as(&argv).manners();
    let result = match (Takeover::at_once(&argv), HistoryTask::of(&argv)) {
        (Some(takeover), _) => take_over(&takeover),
        (None, Some(task)) => task.run().map_err(Failure::from),
        (None, None) => match manners.read(&argv) {
            Ok(line) => start(line, argv),
            Err(answer) => return answer.give(),
        },
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(Failure { error, hint }) => {
            let hint = hint.or_else(|| shortage_hint(&error)).map(|hint| format!("\n  hint: {hint}"));
            say(format_args!("{}: {error:#}{}", manners.program(), hint.unwrap_or_default()));
            ExitCode::FAILURE
        }
    }
}

/// Starts a master, or takes over from one.
fn start(line: CommandLine, argv: Vec<OsString>) -> Result<u8, Failure> {
    // In a takeover the rest of the command line is ignored.
    match line.args.handover.takeover() {
        Some(takeover) => take_over(&takeover),
        None => {
            let (line, options) =
                Options::at_start(line, &argv, &start_directory()?).map_err(|error| anyhow!(error))?;
            run(Config::new(line, argv)?, options)
        }
    }
}

/// Runs the master to its end and returns its exit code. If it fails to start, no worker was spawned and no file of
/// another master was touched.
fn run(config: Config, options: Options) -> Result<u8, Failure> {
    // First: what is open now was passed to this process.
    let inherited = Inherited::new().unwrap_or_default();
    let passed = Passed::of_process(&config.sockets.binds);
    let passed = passed.context("cannot look at the descriptors of this process")?;
    check_held(&inherited, &config)?;
    observers::check(&config.control)?;
    if config.dry_run {
        return dry_run::dry_run(config, passed, inherited);
    }
    let signals = Signals::new(&HANDLED_SIGNALS).context("cannot receive signals")?;
    let log_file = config.log.file.is_some();
    let mut log = Log::open(config.log.clone());
    if log_file {
        log.reopen().map_err(log_failure)?;
    }
    for warning in &config.warnings {
        log.warn(warning);
    }
    if let Some(errno) = thread::refusal() {
        log.warn(format_args!(
            "no thread can be started: clone3: {}; the master itself now waits for a stuck reader of its log, and for \
             descriptors that others send it; hint: a seccomp filter that does not know clone3 must return ENOSYS, as \
             that of Docker 20.10.10 or newer does",
            io::Error::from(errno)
        ));
    }
    if config.dialect == Dialect::Native {
        warn_of_lost_sockets(&config, &mut log);
    }
    if let Some(nice) = config.nice {
        process::set_nice(nice).with_context(|| format!("cannot set the nice value to {nice} (--nice)"))?;
    }
    if let Some(name) = &config.control.name {
        process::set_name(name);
    }
    let open_files = process::raise_open_files().unwrap_or_default();

    let lockfile =
        config.control.lockfile.as_deref().map(LockFile::acquire).transpose().map_err(lock_failure)?;
    let mut control_socket = ControlSocket::open(&config.control.socket)
        .map_err(|error| Failure { hint: error.hint().map(str::to_owned), error: error.into() })?;
    control_socket.share(&config.control).map_err(share_failure)?;
    let manners = config.dialect.manners();
    let lockfile = lockfile.filter(|_| manners.keeps_lock_file());
    let mut service = Service::new(ServiceSettings::new(|name| env::var_os(name), std::process::id()));
    let let_go = |kept: Vec<String>, unwanted: &[String], log: &mut Log| {
        service.on_kept(kept);
        service.forget_now(unwanted, log);
    };
    let listeners = Listeners::open(&config.sockets, config.policy.workers, passed, let_go, &mut log)?;
    // After the listeners: a `-b` may ask for its path.
    let access = Access::new(config.notify_mode, &config.release.recipe.account);
    let notify = match NotifySocket::beside(control_socket.path(), access) {
        Ok(notify) => notify,
        Err(error) => notify_without_file(access, &format!("{:#}", anyhow::Error::from(error)), &mut log)?,
    };
    let notify_path = notify.path().map(Path::to_owned);
    let worker_options = worker_options(&config, open_files);
    let held_fds = [config.keep_fds.as_slice(), &config.pass_fds].concat();
    let notify_mode = config.notify_mode;
    let mut spawner = Spawner::new().context("cannot get memory for the stack of new processes")?;
    let mut parts = Parts {
        dialect: config.dialect,
        core: Supervisor::new(config.policy),
        workers: Workers::new(config.release.recipe, worker_options),
        listeners,
        captures: Captures::default(),
        groups: Groups::default(),
        history: History::default(),
        history_file: HistoryFile::new(config.history),
        counters: Counters::default(),
        hooks: Hooks::default(),
        options,
        jobs: Jobs::default(),
        trial: Trial::default(),
        notify: Notify::new(notify),
        control: Control::new(config.control, control_socket),
        handover: Handover::new(config.identity, config.handover),
        service,
        log,
        lockfile,
        held: Vec::new(),
        pidfile: None,
        closing: Closing,
    };
    const FIRST: Generation = Generation(1);
    parts.resolve(&mut spawner, FIRST).map_err(|error| unresolved(&error))?;
    give_notify_socket(notify_mode, &mut parts)?;
    if let Some(path) = notify_path
        && let Err(error) = parts.workers.may_write(&mut spawner, FIRST, &path)
    {
        let why = format!("workers (--user, --group) may not reach {}: {error}", path.display());
        parts.notify = Notify::new(notify_without_file(access, &why, &mut parts.log)?);
        give_notify_socket(notify_mode, &mut parts)?;
        parts.resolve(&mut spawner, FIRST).map_err(|error| unresolved(&error))?;
    }
    warn_of_deaf_workers(&mut parts);
    for warning in observers::doubts(parts.control.settings(), parts.workers.credentials(FIRST)) {
        parts.log.warn(warning);
    }
    Trial::clear(&parts.control, &parts.workers, &mut parts.log);
    let (held, unused) = claim(inherited, &held_fds)?;
    parts.held = held.into_iter().map(Kept::Open).collect();
    parts.close_unused(unused);
    let settings = parts.control.settings();
    let form = manners.pid_form();
    let pidfile = settings.pidfile.as_deref().map(|path| PidFile::write(path, form));
    parts.pidfile = pidfile.transpose().map_err(pidfile_failure)?;
    if let Some(other) = parts.pidfile.as_ref().and_then(PidFile::replaced) {
        parts.log.warn(format_args!(
            "the pid file named process {other}, which is alive; it names this master now"
        ));
    }
    let socket = parts.control.settings().socket.display();
    parts.log.info(format_args!("einhyrningsins {VERSION} started, control socket {socket}"));
    let mut master = Master::new(Master::poll()?, parts, spawner, signals);
    master.register()?;
    Ok(master.run()?)
}

/// Checks that the descriptors of `--keep-fd` and `--pass-fd` are open, and that no socket of the workers has the number of
/// one that they get.
fn check_held(inherited: &Inherited, config: &Config) -> Result<(), Failure> {
    inherited.check(&config.keep_fds).map_err(|error| not_held(error.0, "--keep-fd"))?;
    inherited.check(&config.pass_fds).map_err(|error| not_held(error.0, "--pass-fd"))?;
    let sockets = config.sockets.binds.len() + usize::from(config.control.socket_as_fd);
    let is_taken = |fd: &&RawFd| usize::try_from(**fd - FIRST_SOCKET).is_ok_and(|place| place < sockets);
    match config.pass_fds.iter().find(is_taken) {
        None => Ok(()),
        Some(fd) => {
            let error = anyhow!("cannot pass descriptor {fd} (--pass-fd): the workers have a socket there");
            let first = FIRST_SOCKET.unsigned_abs() as usize + sockets;
            let hint = format!("the program that starts the master must open it at {first} or above");
            Err(Failure { error, hint: Some(hint) })
        }
    }
}

fn not_held(fd: RawFd, option: &str) -> Failure {
    let hint = "the program that starts the master must leave it open; a -b must not take it too";
    let error = anyhow!("cannot keep descriptor {fd} ({option}): it was not inherited");
    Failure { error, hint: Some(hint.to_owned()) }
}

/// Takes the descriptors that are to be held, close-on-exec, and those that nothing has taken. Call it after everything has
/// been opened that the command line names.
fn claim(inherited: Inherited, to_hold: &[RawFd]) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), Failure> {
    let (held, unused): (Vec<_>, Vec<_>) =
        inherited.unclaimed().into_iter().partition(|fd| to_hold.contains(&fd.as_raw_fd()));
    let is_held = |fd: &&RawFd| held.iter().any(|held| held.as_raw_fd() == **fd);
    if let Some(fd) = to_hold.iter().find(|fd| !is_held(fd)) {
        return Err(not_held(*fd, "--keep-fd, --pass-fd"));
    }
    held.iter().for_each(|fd| set_close_on_exec(&[fd.as_raw_fd()], true));
    Ok((held, unused))
}

fn worker_options(config: &Config, open_files: Option<OpenFilesLimit>) -> WorkerOptions {
    WorkerOptions {
        attributes: config.release.attributes.clone(),
        open_files,
        ping_timeout: config.policy.recycling.ping_timeout,
        pass_fds: config.pass_fds.clone(),
    }
}

/// What to do where descriptors ran out, whatever they were needed for.
fn shortage_hint(error: &anyhow::Error) -> Option<String> {
    let errno = |cause: &(dyn std::error::Error + 'static)| {
        let of_io = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        of_io.map(Errno::from_raw).or_else(|| cause.downcast_ref::<Errno>().copied())
    };
    error.chain().find_map(errno).and_then(|errno| match errno {
        Errno::EMFILE => Some("raise the limit on open files (ulimit -n, LimitNOFILE=)".to_owned()),
        Errno::ENFILE => Some("raise the system's limit on open files (fs.file-max)".to_owned()),
        _ => None,
    })
}

/// Warns about workers that cannot get the sockets.
fn warn_of_lost_sockets(config: &Config, log: &mut Log) {
    let program = config.release.recipe.command.first().map(Path::new).and_then(Path::file_name);
    let program = program.and_then(|name| name.to_str()).unwrap_or_default();
    if config.sockets.binds.is_empty() {
        log.warn("no -b: the workers get no socket, and connections may be lost when they are replaced");
    } else if CLOSE_SOCKETS.contains(&program) {
        log.warn(format_args!(
            "{program} does not pass the sockets on to the program that it starts; hint: run what {program} would \
             run, such as \"node server.js\""
        ));
    }
}

/// Warns about workers that must ack but cannot open the control socket.
fn warn_of_deaf_workers(parts: &mut Parts) {
    let Some(credentials) = parts.workers.credentials(Generation(1)) else { return };
    let is_deaf = credentials.is_other_user() && credentials.uid != Some(0);
    let has_connection = parts.control.settings().socket_as_fd;
    if is_deaf && !has_connection && matches!(parts.core.policy().ack, AckMode::Manual(_)) {
        parts.log.warn(
            "workers of another user (--user) cannot open the control socket: they must ack by NOTIFY_SOCKET, or \
             with -g by the descriptor in EINHORN_SOCK_FD",
        );
    }
}

/// The bit of a mode that lets all users send.
const OTHERS_SEND: u32 = 0o002;

/// Gives the notify socket to the user of the workers, or opens it to all.
fn give_notify_socket(mode: Option<u32>, parts: &mut Parts) -> anyhow::Result<()> {
    let Some(credentials) = parts.workers.credentials(Generation(1)) else { return Ok(()) };
    let Err(error) = parts.notify.socket().give_to(credentials) else { return Ok(()) };
    if mode.is_some_and(|mode| mode & OTHERS_SEND != 0) {
        return Ok(());
    }
    if mode.is_some() {
        return Err(error)
            .context("cannot give the notify socket to the user of the workers (--notify-mode)");
    }
    // Its file is removed before another is made.
    parts.notify =
        Notify::new(NotifySocket::without_file(Access::default()).context("cannot make the notify socket")?);
    let open = NotifySocket::beside(&parts.control.settings().socket, Access::default());
    parts.notify = Notify::new(open.context("cannot make the notify socket again")?);
    parts.log.warn(format_args!(
        "every user may send to the notify socket, since it cannot be given to that of the workers (--user, --group): \
         {error}; hint: that needs CAP_CHOWN"
    ));
    Ok(())
}

/// The notify socket without a file.
fn notify_without_file(access: Access, why: &str, log: &mut Log) -> anyhow::Result<NotifySocket> {
    log.warn(format_args!(
        "NOTIFY_SOCKET is an abstract name, which some servers do not know, and no path: {why}"
    ));
    NotifySocket::without_file(access).context("cannot make the notify socket")
}

fn unresolved(error: &ResolveError) -> Failure {
    Failure { hint: error.hint(), error: anyhow!("{}", error.in_words()) }
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

fn share_failure(error: anyhow::Error) -> Failure {
    let is_refused =
        error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::PermissionDenied);
    let hint = match error.downcast_ref() {
        _ if is_refused => Some("the master must be root or a member of the group"),
        Some(AccountError::UnknownGroup(_)) if !cfg!(target_env = "musl") => {
            Some("make it, as with \"groupadd --system NAME\", or give the name or number of another one")
        }
        Some(unknown @ AccountError::UnknownGroup(_)) => Some(unknown.hint()),
        _ => None,
    };
    Failure { error, hint: hint.map(str::to_owned) }
}

fn log_failure(error: anyhow::Error) -> Failure {
    let hint = error.downcast_ref().and_then(|error| file_hint(error, "--log-file"));
    Failure { error, hint }
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
        ErrorKind::ReadOnlyFilesystem => Some(format!(
            "its file system is read-only: give a path on another one, such as in /run ({option} FILE)"
        )),
        ErrorKind::PermissionDenied => {
            Some(format!("is it another user's? give a path of your own ({option} FILE)"))
        }
        _ => None,
    }
}
