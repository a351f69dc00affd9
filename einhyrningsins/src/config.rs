//! The configuration: what was typed, checked once against the system.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fs, thread};

use anyhow::{Context, anyhow, bail};
use einhorn_proto::{
    DEFAULT_DIRECTORY, MaxUnacked, SOCKET_VARIABLE, Severity, WORKERS_MAX, socket_path, visible_line,
};
use einhyrningsins_supervisor::{AckMode, MaxAge, Policy, RecyclingLimits, Retries};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cli::{
    AckModeArg, Args, CheckArgs, CommandWords, CpuAffinityArg, LogFormat, LogWorkersArg, MaxAgeArg,
    NumberArg, RecyclingArgs, ReportArgs, SharedArgs, UserArg,
};
use crate::forms::{self, core_signal};
use crate::listen::{Family, Sockets};
use crate::release::{Attributes, ProcessOptions, Recipe, WorkerLog};
use crate::sys::account::AccountSpec;
use crate::sys::cpus::CpuSet;
use crate::sys::journal::STREAMS_MAX;

/// The dialect of a master, by the name that it was called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    #[default]
    Native,
    Einhorn,
}

#[derive(Debug)]
pub struct Config {
    pub dialect: Dialect,
    pub identity: Identity,
    pub policy: Policy,
    pub release: ReleaseOptions,
    pub sockets: Sockets,
    pub control: Control,
    pub log: LogConfig,
    /// The nice value of the master.
    pub nice: Option<i32>,
    pub handover: HandoverSettings,
    /// The file of `--history`, absolute.
    pub history: Option<String>,
    /// Descriptors to hold.
    pub keep_fds: Vec<RawFd>,
    /// Descriptors to hold and to give to the workers.
    pub pass_fds: Vec<RawFd>,
    /// Mode of the notify socket's file; `None` for the one that fits the users of master and workers.
    pub notify_mode: Option<u32>,
    /// Whether to find out only what would be wrong at a start.
    pub dry_run: bool,
    /// For the log: options that were accepted and have no effect.
    pub warnings: Vec<String>,
}

/// What the next release is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReleaseOptions {
    pub recipe: Recipe,
    pub attributes: Attributes,
    /// Whether `--chdir` was given.
    pub directory_given: bool,
}

/// What parts of the master hold of the options that an upgrade changes. The core holds the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartOptions {
    pub release: ReleaseOptions,
    pub handover: HandoverSettings,
    /// The file of `--history`, absolute.
    pub history: Option<String>,
    pub syslog: bool,
    /// Where the lines about that have changed.
    pub verbosity: Option<VerbosityChange>,
}

/// A change of the verbosity, which clients may change, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbosityChange {
    pub to: Severity,
    /// What it must be for that: an undo leaves alone what somebody has set since.
    pub from: Option<Severity>,
}

/// How the master was called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The command line, with the name of the program first.
    #[serde(with = "forms::written")]
    pub argv: Vec<OsString>,
    /// The directory that it was started in, as the shell names it.
    #[serde(with = "forms::written")]
    pub start_directory: PathBuf,
    /// Whether `--chdir` was given.
    pub directory_given: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Control {
    pub name: Option<String>,
    /// Absolute.
    #[serde(with = "forms::written")]
    pub socket: PathBuf,
    /// Mode of the socket; 0600 if `None`.
    #[serde(default)]
    pub mode: Option<u32>,
    /// Group of the socket, by name or number; the master's if `None`.
    #[serde(default)]
    pub group: Option<String>,
    /// The group whose members may connect and ask questions only, by name or number. Then neither of the two above is given.
    #[serde(default)]
    pub observe_group: Option<String>,
    /// Whether each worker gets a connection to the control socket (`-g`).
    pub socket_as_fd: bool,
    #[serde(with = "forms::written")]
    pub pidfile: Option<PathBuf>,
    /// Locked for life, or in einhorn's dialect while the control socket is made.
    #[serde(with = "forms::written")]
    pub lockfile: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandoverSettings {
    /// The command of the new program; `None` for the program as it was called.
    #[serde(with = "forms::written")]
    pub as_command: Option<Vec<OsString>>,
    pub check_timeout: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogConfig {
    pub verbosity: Severity,
    pub format: LogFormat,
    pub syslog: bool,
    /// The file of `--log-file`, absolute; `None` for standard error.
    #[serde(default, with = "forms::written")]
    pub file: Option<PathBuf>,
    /// Whether lines on a terminal have colours; `None` for what the environment asks for.
    #[serde(default)]
    pub has_colours: Option<bool>,
}

/// How long the report of an upgrade waits for the old workers. Source: this program; einhyrningsinsctl(1), `upgrade`.
const REPORT_WAIT: Duration = Duration::from_secs(1);

/// A command line, with the defaults of its dialect.
#[derive(Debug, Clone)]
pub struct CommandLine {
    pub args: SharedArgs,
    pub dialect: Dialect,
    /// Whether `-m` asks for manual acks, which overrides the default of `--ack-mode`.
    pub manual: bool,
    pub retries: Retries,
    /// How many workers may start at a time, where nothing else is asked for.
    pub unacked: MaxUnacked,
    /// Whether an upgrade takes the place of one that runs.
    pub upgrade_restarts: bool,
    /// How long the report of an upgrade waits for the workers that it replaced.
    pub report_wait: Duration,
    /// Whether variables are dropped at the start too, and not only at upgrades.
    pub drops_at_start: bool,
    /// Whether workers see the path of their program instead of its name.
    pub absolute_argv0: bool,
    pub socket: PathBuf,
    pub pidfile: Option<PathBuf>,
    pub lockfile: Option<PathBuf>,
    pub verbosity: Severity,
    pub log_format: LogFormat,
    /// Whether log lines on a terminal have colours; `None` for what the environment asks for.
    pub has_colours: Option<bool>,
    pub check: CheckArgs,
    pub reports: ReportArgs,
    pub options_file: Option<PathBuf>,
    pub dry_run: bool,
    pub warnings: Vec<String>,
}

/// Our own command line.
impl From<Args> for CommandLine {
    fn from(line: Args) -> Self {
        let has_colours = line.has_colours();
        let Args { shared: args, manual, check, reports, options_file, dry_run, .. } = line;
        let name = args.command_name.as_deref();
        let socket = args.socket_path.clone();
        Self {
            dialect: Dialect::Native,
            manual,
            retries: Retries::DEFAULT,
            unacked: MaxUnacked::Auto(WORKERS_MAX),
            upgrade_restarts: false,
            report_wait: REPORT_WAIT,
            drops_at_start: true,
            absolute_argv0: false,
            socket: socket_path(DEFAULT_DIRECTORY, socket, name, env::var_os(SOCKET_VARIABLE)),
            pidfile: args.pidfile.clone(),
            lockfile: args.lockfile.clone(),
            verbosity: verbosity(args.verbose, args.quiet),
            log_format: args.log_format.unwrap_or(LogFormat::Text),
            has_colours,
            check,
            reports,
            options_file,
            dry_run,
            warnings: Vec::new(),
            args,
        }
    }
}

impl Config {
    /// Checks a command line. `argv` is its words, the name of the program first.
    ///
    /// # Errors
    /// If the current directory cannot be found out, or what was typed does not go together or with this system.
    pub fn new(line: CommandLine, argv: Vec<OsString>) -> anyhow::Result<Self> {
        let start = start_directory()?;
        let policy = policy(&line);
        let PartOptions { release, handover, history, syslog, .. } = PartOptions::new(&line, &start)?;
        let args = line.args;
        let family = match (args.ipv4_only, args.ipv6_only) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        Ok(Self {
            policy,
            sockets: Sockets {
                binds: args.bind.into_iter().map(|spec| spec.counted_from(&start)).collect(),
                family,
                backlog: args.backlog,
            },
            log: LogConfig {
                verbosity: line.verbosity,
                format: line.log_format,
                syslog,
                file: args.log_file.map(|path| start.join(path)),
                has_colours: line.has_colours,
            },
            history,
            keep_fds: args.keep_fd,
            pass_fds: args.pass_fd,
            notify_mode: args.notify_mode,
            control: Control {
                name: args.command_name,
                socket: start.join(line.socket),
                mode: args.control_mode,
                group: args.control_group,
                observe_group: args.observe_group,
                socket_as_fd: args.command_socket_as_fd,
                pidfile: line.pidfile.map(|path| start.join(path)),
                lockfile: line.lockfile.map(|path| start.join(path)),
            },
            nice: args.nice.and_then(|nice| nice.master),
            handover,
            dialect: line.dialect,
            dry_run: line.dry_run,
            identity: Identity { argv, start_directory: start, directory_given: release.directory_given },
            release,
            warnings: line.warnings,
        })
    }
}

impl PartOptions {
    /// Those of a command line. A relative path starts at `start`.
    ///
    /// # Errors
    /// If options do not go together, or with this system.
    pub(crate) fn new(line: &CommandLine, start: &Path) -> anyhow::Result<Self> {
        let args = &line.args;
        let command = args.handover.reexec_as.as_ref();
        Ok(Self {
            release: ReleaseOptions::new(line, start)?,
            handover: HandoverSettings {
                as_command: command.map(|CommandWords(words)| words.clone()),
                check_timeout: args.handover.reexec_timeout,
            },
            history: line.reports.history.as_ref().map(|path| history_file(start, path)).transpose()?,
            syslog: args.syslog,
            verbosity: None,
        })
    }
}

impl ReleaseOptions {
    /// Those of a command line. A relative path starts at `start`.
    ///
    /// # Errors
    /// If options do not go together, or with this system.
    fn new(line: &CommandLine, start: &Path) -> anyhow::Result<Self> {
        let args = &line.args;
        let directory = args.chdir.as_ref().map_or(start.to_owned(), |directory| start.join(directory));
        Ok(Self {
            recipe: Recipe {
                command: args.command.clone(),
                directory,
                dropped: args.drop_env_var.clone(),
                drops_at_start: line.drops_at_start,
                absolute_argv0: line.absolute_argv0,
                env_file: args.env_file.clone(),
                account: account(args.process.user.clone(), args.process.group.clone())?,
            },
            attributes: Attributes {
                nice: args.nice.and_then(|nice| nice.worker),
                parent_death_signal: args
                    .kill_children_on_exit
                    .then_some(args.graceful_signal.unwrap_or(Signal::SIGTERM)),
                control_as_fd: args.command_socket_as_fd,
                capture_startup: args.capture_startup,
                log: worker_log(line)?,
                process: ProcessOptions {
                    umask: args.process.umask,
                    limits: args.process.rlimit.clone(),
                    oom_score_adj: args.process.oom_score_adj,
                    cpus: cpus(args.process.cpu_affinity.as_ref())?,
                    no_new_privileges: args.process.no_new_privs,
                },
            },
            directory_given: args.chdir.is_some(),
        })
    }
}

/// Characters of a name that is no value of `--log-workers`. The longest that journald takes has 254 bytes, with the slot.
const JOURNAL_NAME_CHARS_MAX: usize = 50;

/// Where workers write.
fn worker_log(line: &CommandLine) -> anyhow::Result<WorkerLog> {
    let Some(LogWorkersArg::Journal(name)) = &line.reports.log_workers else { return Ok(WorkerLog::Inherit) };
    let workers = policy(line).workers as usize;
    if workers > STREAMS_MAX {
        bail!("cannot give {workers} workers to journald (--log-workers), which takes {STREAMS_MAX} of them");
    }
    let program = line.args.command.first().map(Path::new).and_then(Path::file_name);
    let program = program.map(|name| name.to_string_lossy().into_owned());
    let name = name.as_ref().or(line.args.command_name.as_ref()).cloned().or(program).unwrap_or_default();
    Ok(WorkerLog::Journal(visible_line(&name).chars().take(JOURNAL_NAME_CHARS_MAX).collect()))
}

fn history_file(start: &Path, path: &Path) -> anyhow::Result<String> {
    let path = start.join(path).into_os_string();
    path.into_string().map_err(|path| anyhow!("the path of --history must be UTF-8: {}", path.display()))
}

/// What the pool is held to by a command line.
pub(crate) fn policy(line: &CommandLine) -> Policy {
    let args = &line.args;
    let ack = ack_mode(args, line.manual);
    let (unacked_max, unacked_by_cpus) = unacked_bounds(args.max_unacked.unwrap_or(line.unacked));
    Policy {
        program: args.command.first().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
        workers: match args.number {
            NumberArg::Auto => available_cpus(),
            NumberArg::Count(count) => count,
        },
        seconds: args.seconds,
        ack,
        retries: args.retries.map_or(line.retries, Retries::always),
        unacked_max,
        unacked_by_cpus,
        upgrade_additional_max: args.max_upgrade_additional,
        graceful_signal: args.graceful_signal.map(core_signal),
        grace: args.signal_timeout,
        stop_group: args.stop_group,
        drain_warning: Some(args.drain_warning).filter(|after| !after.is_zero()),
        report_wait: line.report_wait,
        shrink_grace: args.bind.iter().any(|spec| spec.options.reuseport).then_some(args.shrink_grace),
        upgrade_restarts: line.upgrade_restarts,
        recycling: recycling(&args.recycling),
        check: line.check.check.clone(),
        check_timeout: line.check.check_timeout,
        checks_first: line.check.check_first,
        on_event: line.reports.on_event.clone(),
    }
}

fn account(user: Option<UserArg>, group: Option<String>) -> anyhow::Result<AccountSpec> {
    let (user, users_group) = user.map_or((None, None), |user| (Some(user.user), user.group));
    if let (Some(one), Some(other)) = (&users_group, &group) {
        bail!("--user names a group, {}, and so does --group, {}", one.escape_debug(), other.escape_debug());
    }
    Ok(AccountSpec { user, group: users_group.or(group) })
}

/// The sets of CPUs by slot. Refuses a CPU that the master may not use: the kernel would ignore it silently.
fn cpus(affinity: Option<&CpuAffinityArg>) -> anyhow::Result<Vec<CpuSet>> {
    let Some(affinity) = affinity else { return Ok(Vec::new()) };
    let available = CpuSet::available().context("cannot find out which CPUs the master may use")?;
    let sets = match affinity {
        CpuAffinityArg::Auto => available.one_by_one(),
        CpuAffinityArg::Sets(sets) => sets.clone(),
    };
    match sets.iter().find_map(|set| set.not_in(&available)) {
        Some(surplus) => {
            bail!("--cpu-affinity names {surplus}, but the master may use the CPUs {available} alone")
        }
        None => Ok(sets),
    }
}

fn ack_mode(args: &SharedArgs, manual: bool) -> AckMode {
    match args.ack_mode {
        AckModeArg::Seconds(seconds) if !manual => AckMode::Timer(seconds),
        _ => AckMode::Manual(args.ack_timeout.filter(|deadline| !deadline.is_zero())),
    }
}

fn recycling(args: &RecyclingArgs) -> RecyclingLimits {
    RecyclingLimits {
        max_age: args.max_age.map(|MaxAgeArg { age, jitter }| MaxAge { age, jitter, seed: seed() }),
        max_rss_bytes: args.max_rss,
        ping_timeout: args.ping_timeout,
    }
}

/// A number that hardly any two masters share: start times and pids differ.
fn seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().rotate_left(32)
        ^ u64::from(since.subsec_nanos())
        ^ u64::from(std::process::id()).rotate_left(48)
}

/// The most unacked workers at a time, and the number of CPUs if what boots use decides how many there may be.
pub(crate) fn unacked_bounds(max_unacked: MaxUnacked) -> (u32, Option<u32>) {
    match max_unacked {
        MaxUnacked::Auto(max) => (max, Some(available_cpus())),
        MaxUnacked::Count(max) => (max, None),
    }
}

/// The CPUs that the affinity mask and the cgroup allow; 1 if that is unknown.
pub(crate) fn available_cpus() -> u32 {
    thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}

fn verbosity(verbose: u8, quiet: u8) -> Severity {
    match i16::from(verbose) - i16::from(quiet) {
        ..=-2 => Severity::Error,
        -1 => Severity::Warn,
        0 => Severity::Info,
        1.. => Severity::Debug,
    }
}

/// The directory that the master was started in, as the shell names it: `PWD`, if that is the same directory. A
/// deploy that moves a symlink moves this name, but not the physical one.
pub(crate) fn start_directory() -> anyhow::Result<PathBuf> {
    let physical = env::current_dir().context("cannot find out the current directory")?;
    let logical = env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    Ok(logical.filter(|logical| is_same_file(logical, &physical)).unwrap_or(physical))
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}
