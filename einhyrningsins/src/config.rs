//! What was typed, checked once against the system it runs on. From here on it is not doubted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::Context;
use einhorn_proto::Severity;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cli::{AckModeArg, Args, CommandWords, LogFormat, NiceArg};
use crate::handover::forms;
use crate::listen::{BindSpec, Family};
use crate::release::Recipe;
use crate::supervisor::{AckMode, Policy, Retries};

/// Where the control socket is if nobody says where. *Wire*: clients of einhorn look there.
const SOCKET_DEFAULT: &str = "/tmp/einhorn.sock";

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
    /// How the master replaces itself.
    pub reexec: Reexec,
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
    /// What it holds locked.
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

impl Config {
    /// Gives what was typed its meaning. `argv` is that in words, the name of the program first.
    ///
    /// # Errors
    /// If the current directory cannot be found out.
    pub fn new(args: Args, argv: Vec<OsString>) -> anyhow::Result<Self> {
        let start = start_directory()?;
        let socket = match (&args.socket_path, &args.command_name) {
            (Some(path), _) => start.join(path),
            (None, Some(name)) => PathBuf::from(format!("/tmp/einhorn-{name}.sock")),
            (None, None) => PathBuf::from(SOCKET_DEFAULT),
        };
        let family = match (args.ipv4_only, args.ipv6_only) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        Ok(Self {
            policy: policy(&args),
            sockets: Sockets { binds: args.bind, family, backlog: args.backlog },
            log: LogConfig {
                verbosity: verbosity(args.verbose, args.quiet),
                format: args.log_format,
                syslog: args.syslog,
            },
            control: Control {
                name: args.command_name,
                socket,
                socket_as_fd: args.command_socket_as_fd,
                pidfile: args.pidfile.map(|path| start.join(path)),
                lockfile: args.lockfile.map(|path| start.join(path)),
            },
            nice: args.nice.unwrap_or(NiceArg { master: None, worker: None }),
            capture_startup: args.capture_startup,
            parent_death_signal: args.kill_children_on_exit.then_some(args.graceful_signal),
            reexec: Reexec {
                as_command: args.reexec.reexec_as.map(|CommandWords(words)| words),
                check_timeout: args.reexec.reexec_timeout,
            },
            identity: Identity {
                dialect: Dialect::Native,
                argv,
                start_directory: start.clone(),
                directory_given: args.chdir.is_some(),
            },
            recipe: Recipe {
                command: args.command,
                directory: args.chdir.map_or_else(|| start.clone(), |directory| start.join(directory)),
                dropped: args.drop_env_var,
                env_file: args.env_file,
            },
        })
    }
}

fn policy(args: &Args) -> Policy {
    let deadline = (!args.ack_timeout.is_zero()).then_some(args.ack_timeout);
    let ack = match args.ack_mode {
        _ if args.manual => AckMode::Manual(deadline),
        Some(AckModeArg::Manual) => AckMode::Manual(deadline),
        Some(AckModeArg::Seconds(seconds)) => AckMode::Timer(seconds),
        None => AckMode::Timer(Duration::from_secs(1)),
    };
    Policy {
        program: args.command.first().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
        workers: args.number,
        seconds: args.seconds,
        ack,
        retries: args.retries.map_or(Retries::DEFAULT, Retries::always),
        unacked_max: args.max_unacked.unwrap_or_else(available_cpus),
        upgrade_additional_max: args.max_upgrade_additional,
        graceful_signal: args.graceful_signal,
        grace: args.signal_timeout,
        upgrade_restarts: false,
    }
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
