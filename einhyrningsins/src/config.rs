//! What was typed, checked once against the system it runs on. From here on it is not doubted.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fs, thread};

use anyhow::{Context, bail};
use einhorn_proto::Severity;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cli::{
    AckModeArg, Args, CareArgs, CommandLine, CommandWords, CpuAffinityArg, LogFormat, MaxAgeArg, NiceArg,
    ReexecArgs, SharedArgs, UserArg, einhorn,
};
use crate::forms;
use crate::listen::{BindSpec, Family};
use crate::release::Recipe;
use crate::supervisor::{AckMode, Care, MaxAge, Policy, Retries};
use crate::sys::account::AccountSpec;
use crate::sys::cpus::CpuSet;
use crate::workers::ProcessOptions;

/// Where the control socket is if nobody says where. *Wire*: clients of einhorn look there.
const SOCKET_DEFAULT: &str = "/tmp/einhorn.sock";

/// How often einhorn tries a slot: without end. But an upgrade must come to one, or its client waits for ever.
/// Source: of the end, this program; einhorn has none.
const EINHORNS_RETRIES: Retries = Retries { unproven: None, upgrade: 10, proven: None };

/// Whose manners the master has, by the name that it was called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Its own.
    #[default]
    Native,
    /// einhorn's: command line, defaults, and the words of its log and of its answers.
    Einhorn,
}

/// What the master is to do.
#[derive(Debug)]
pub struct Config {
    /// How it was called.
    pub identity: Identity,
    /// What the pool is held to.
    pub policy: Policy,
    /// What to run.
    pub recipe: Recipe,
    /// What to listen on.
    pub sockets: Sockets,
    /// How it is controlled, and what files it has.
    pub control: Control,
    /// How it logs.
    pub log: LogConfig,
    /// Nice values.
    pub nice: NiceArg,
    /// What a worker gets when the master dies.
    pub parent_death_signal: Option<Signal>,
    /// Whether what a worker writes to standard error goes through the master.
    pub capture_startup: bool,
    /// What a worker's process is given.
    pub process: ProcessOptions,
    /// How the master replaces itself.
    pub reexec: Reexec,
    /// What was asked for and is done without, for the log.
    pub warnings: Vec<String>,
}

/// How the master was called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Whose manners it has.
    pub dialect: Dialect,
    /// The command line as it was called, the name of the program first.
    #[serde(with = "forms::words")]
    pub argv: Vec<OsString>,
    /// The directory that it was started in, by the name that the shell had for it.
    #[serde(with = "forms::path")]
    pub start_directory: PathBuf,
    /// Whether another directory was asked for (`--chdir`).
    pub directory_given: bool,
}

/// What to listen on.
#[derive(Debug)]
pub struct Sockets {
    /// The addresses, in order.
    pub binds: Vec<BindSpec>,
    /// Which family they may have.
    pub family: Family,
    /// Queue length; `None` for the system's maximum.
    pub backlog: Option<u32>,
}

/// How the master is controlled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Control {
    /// Its name.
    pub name: Option<String>,
    /// Its control socket, an absolute path.
    #[serde(with = "forms::path")]
    pub socket: PathBuf,
    /// Whether each worker gets a connection to it.
    pub socket_as_fd: bool,
    /// Where its pid goes.
    #[serde(with = "forms::path_option")]
    pub pidfile: Option<PathBuf>,
    /// What it holds locked: for life, or in einhorn's dialect while it makes the control socket.
    #[serde(with = "forms::path_option")]
    pub lockfile: Option<PathBuf>,
}

/// How the master replaces itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reexec {
    /// What to become; `None` for the program as it was called.
    #[serde(with = "forms::words_option")]
    pub as_command: Option<Vec<OsString>>,
    /// How long the check of a new master may take.
    pub check_timeout: Duration,
}

/// How the master logs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LogConfig {
    /// What matters at least this much is logged.
    pub verbosity: Severity,
    /// In which form.
    pub format: LogFormat,
    /// Whether warnings and errors go to syslog too.
    pub syslog: bool,
}

/// What was typed, without the ways in which the dialects say it.
struct Choices {
    shared: SharedArgs,
    dialect: Dialect,
    command: Vec<OsString>,
    number: u32,
    ack: AckMode,
    retries: Retries,
    dropped: Vec<String>,
    nice: Option<NiceArg>,
    binds: Vec<BindSpec>,
    backlog: Option<u32>,
    name: Option<String>,
    socket: PathBuf,
    pidfile: Option<PathBuf>,
    lockfile: Option<PathBuf>,
    verbosity: Severity,
    log_format: LogFormat,
    reexec: ReexecArgs,
    warnings: Vec<String>,
}

impl Config {
    /// Gives what was typed its meaning. `argv` is that in words, the name of the program first.
    ///
    /// # Errors
    /// If the current directory cannot be found out, or what was typed does not go together or with this system.
    pub fn new(line: CommandLine, argv: Vec<OsString>) -> anyhow::Result<Self> {
        let start = start_directory()?;
        let choices = match line {
            CommandLine::Native(args) => native(*args),
            CommandLine::Einhorn(args) => einhorns(*args),
        };
        Self::build(argv, &start, choices)
    }

    fn build(argv: Vec<OsString>, start: &Path, choices: Choices) -> anyhow::Result<Self> {
        let shared = choices.shared;
        let is_einhorn = choices.dialect == Dialect::Einhorn;
        let family = match (shared.ipv4_only, shared.ipv6_only) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        let account = account(shared.process.user, shared.process.group)?;
        let process = ProcessOptions {
            umask: shared.process.umask,
            limits: shared.process.rlimit,
            oom_score_adj: shared.process.oom_score_adj,
            cpus: cpus(shared.process.cpu_affinity)?,
            no_new_privileges: shared.process.no_new_privs,
        };
        Ok(Self {
            policy: Policy {
                program: choices
                    .command
                    .first()
                    .map_or(String::new(), |name| name.to_string_lossy().into_owned()),
                workers: choices.number,
                seconds: shared.seconds,
                ack: choices.ack,
                retries: choices.retries,
                unacked_max: shared.max_unacked.unwrap_or_else(available_cpus),
                upgrade_additional_max: shared.max_upgrade_additional,
                graceful_signal: shared.graceful_signal,
                grace: shared.signal_timeout,
                shrink_grace: choices
                    .binds
                    .iter()
                    .any(|spec| spec.options.reuseport)
                    .then_some(shared.shrink_grace),
                upgrade_restarts: is_einhorn,
                care: care(&shared.care),
            },
            sockets: Sockets {
                binds: choices.binds.into_iter().map(|spec| spec.counted_from(start)).collect(),
                family,
                backlog: choices.backlog,
            },
            log: LogConfig {
                verbosity: choices.verbosity,
                format: choices.log_format,
                syslog: shared.syslog,
            },
            control: Control {
                name: choices.name,
                socket: start.join(choices.socket),
                socket_as_fd: shared.command_socket_as_fd,
                pidfile: choices.pidfile.map(|path| start.join(path)),
                lockfile: choices.lockfile.map(|path| start.join(path)),
            },
            nice: choices.nice.unwrap_or(NiceArg { master: None, worker: None }),
            process,
            capture_startup: shared.capture_startup,
            parent_death_signal: shared.kill_children_on_exit.then_some(shared.graceful_signal),
            reexec: Reexec {
                as_command: choices.reexec.reexec_as.map(|CommandWords(words)| words),
                check_timeout: choices.reexec.reexec_timeout,
            },
            identity: Identity {
                dialect: choices.dialect,
                argv,
                start_directory: start.to_owned(),
                directory_given: shared.chdir.is_some(),
            },
            recipe: Recipe {
                command: choices.command,
                directory: shared.chdir.map_or(start.to_owned(), |directory| start.join(directory)),
                dropped: choices.dropped,
                drops_at_start: !is_einhorn,
                absolute_argv0: is_einhorn,
                env_file: shared.env_file,
                account,
            },
            warnings: choices.warnings,
        })
    }
}

fn account(user: Option<UserArg>, group: Option<String>) -> anyhow::Result<AccountSpec> {
    let (user, users_group) = user.map_or((None, None), |user| (Some(user.user), user.group));
    if let (Some(one), Some(other)) = (&users_group, &group) {
        bail!("--user names a group, {}, and so does --group, {}", one.escape_debug(), other.escape_debug());
    }
    Ok(AccountSpec { user, group: users_group.or(group) })
}

/// The sets of CPUs by slot. Each CPU must be one that the master may use: the kernel would leave out the others and
/// say nothing.
fn cpus(affinity: Option<CpuAffinityArg>) -> anyhow::Result<Vec<CpuSet>> {
    let Some(affinity) = affinity else { return Ok(Vec::new()) };
    let available = CpuSet::available().context("cannot find out which CPUs the master may use")?;
    let sets = match affinity {
        CpuAffinityArg::Auto => available.one_by_one(),
        CpuAffinityArg::Sets(sets) => sets,
    };
    match sets.iter().find_map(|set| set.not_in(&available)) {
        Some(surplus) => {
            bail!("--cpu-affinity names {surplus}, but the master may use the CPUs {available} alone")
        }
        None => Ok(sets),
    }
}

fn native(args: Args) -> Choices {
    let deadline = (!args.ack_timeout.is_zero()).then_some(args.ack_timeout);
    Choices {
        shared: args.shared,
        dialect: Dialect::Native,
        number: args.number,
        ack: match args.ack_mode {
            _ if args.manual => AckMode::Manual(deadline),
            Some(AckModeArg::Manual) => AckMode::Manual(deadline),
            Some(AckModeArg::Seconds(seconds)) => AckMode::Timer(seconds),
            None => AckMode::Timer(Duration::from_secs(1)),
        },
        retries: args.retries.map_or(Retries::DEFAULT, Retries::always),
        dropped: args.drop_env_var,
        nice: args.nice,
        binds: args.bind,
        backlog: args.backlog,
        socket: args.socket_path.unwrap_or_else(|| match &args.command_name {
            Some(name) => PathBuf::from(format!("/tmp/einhorn-{name}.sock")),
            None => PathBuf::from(SOCKET_DEFAULT),
        }),
        name: args.command_name,
        pidfile: args.pidfile,
        lockfile: args.lockfile,
        verbosity: verbosity(args.verbose, args.quiet),
        log_format: args.log_format,
        reexec: args.reexec,
        command: args.command,
        warnings: Vec::new(),
    }
}

fn einhorns(args: einhorn::Args) -> Choices {
    let deadline = args.ack_timeout.filter(|deadline| !deadline.is_zero());
    let file = |given: Option<PathBuf>, extension| {
        given.unwrap_or_else(|| einhorns_file(args.command_name.as_deref(), extension))
    };
    Choices {
        shared: args.shared,
        dialect: Dialect::Einhorn,
        number: args.number,
        ack: match args.ack_mode {
            AckModeArg::Manual => AckMode::Manual(deadline),
            AckModeArg::Seconds(seconds) => AckMode::Timer(seconds),
        },
        retries: args.retries.map_or(EINHORNS_RETRIES, Retries::always),
        dropped: args.drop_env_var,
        nice: args.nice,
        binds: args.bind,
        backlog: Some(args.backlog),
        socket: file(args.socket_path, "sock"),
        pidfile: Some(file(args.pidfile, "pid")),
        lockfile: Some(file(args.lockfile, "lock")),
        name: args.command_name,
        verbosity: einhorns_verbosity(args.verbose, args.quiet),
        log_format: args.log_format.unwrap_or(LogFormat::Einhorn),
        reexec: args.reexec,
        command: args.command,
        warnings: args.preload.iter().map(|path| without_preload(path)).collect(),
    }
}

/// Where einhorn puts a file if nobody says where. *Wire*: its shell and scripts look there.
fn einhorns_file(name: Option<&str>, extension: &str) -> PathBuf {
    let directory = env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    let directory = directory.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    directory.join(match name {
        Some(name) => format!("einhorn-{name}.{extension}"),
        None => format!("einhorn.{extension}"),
    })
}

fn without_preload(path: &Path) -> String {
    format!(
        "{} is not preloaded (--preload): that takes a master in Ruby; each worker loads it by itself, as without it",
        path.display()
    )
}

fn care(args: &CareArgs) -> Care {
    Care {
        max_age: args.max_age.map(|MaxAgeArg { age, jitter }| MaxAge { age, jitter, seed: seed() }),
        max_rss_bytes: args.max_rss,
        ping_timeout: args.ping_timeout,
    }
}

/// A number that two masters hardly share: one is started at another time, or is another process.
fn seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().rotate_left(32)
        ^ u64::from(since.subsec_nanos())
        ^ u64::from(std::process::id()).rotate_left(48)
}

/// The CPUs that the affinity mask and the cgroup leave to us; 1 if that cannot be known.
fn available_cpus() -> u32 {
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

/// einhorn has no warnings between its errors and the rest.
fn einhorns_verbosity(verbose: u8, quiet: u8) -> Severity {
    match verbose.cmp(&quiet) {
        Ordering::Less => Severity::Error,
        Ordering::Equal => Severity::Info,
        Ordering::Greater => Severity::Debug,
    }
}

/// The directory that the master was started in, by the name that the shell has for it: `PWD`, if that is the
/// same directory. A deploy that moves a symlink moves this name with it, and not the physical one.
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
