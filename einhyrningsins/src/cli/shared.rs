//! Options that mean the same in both dialects, with the same defaults.

use std::path::PathBuf;
use std::time::Duration;

use einhorn_proto::WORKERS_MAX;

use super::ProcessArgs;
use super::care::CareArgs;
use super::stop_signal::{self, parse_stop_signal};
use super::values::{parse_seconds, parse_seconds_above_zero};

/// What the two command lines have in common.
#[derive(Debug, Clone, clap::Args)]
pub struct SharedArgs {
    /// Listen on IPv4 addresses only
    #[arg(short = '4', long, conflicts_with = "ipv6_only", help_heading = "Sockets")]
    pub ipv4_only: bool,

    /// Listen on IPv6 addresses only
    #[arg(short = '6', long, help_heading = "Sockets")]
    pub ipv6_only: bool,

    /// Shortest time between two spawns of one slot
    #[arg(short = 's', long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds_above_zero,
          help_heading = "Workers")]
    pub seconds: Duration,

    /// Signal that asks a worker to stop.
    #[arg(long, alias = "stop-signal", value_name = "SIGNAL|SERVER", default_value = "USR2",
          value_parser = parse_stop_signal, help = stop_signal::help(), help_heading = "Workers")]
    pub graceful_signal: nix::sys::signal::Signal,

    /// Show the last lines that a worker wrote to standard error where it died before its ack. Its standard
    /// error then goes through the master for as long as it lives
    #[arg(long, help_heading = "Workers")]
    pub capture_startup: bool,

    /// Kill a worker that still runs SECONDS after its stop signal [default: never]
    #[arg(short = 't', long, value_name = "SECONDS", value_parser = parse_seconds, help_heading = "Workers")]
    pub signal_timeout: Option<Duration>,

    /// With reuseport in -b, let a worker whose slot is taken away go on for SECONDS with connections that are on
    /// their way to it, before it is asked to stop
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds, help_heading = "Workers")]
    pub shrink_grace: Duration,

    /// Unacked workers at a time, but for the first start [default: the number of available CPUs]
    #[arg(long, value_name = "N", help_heading = "Workers",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    pub max_unacked: Option<u32>,

    /// Workers above COUNT that may live during an upgrade, draining ones counted [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Workers",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    pub max_upgrade_additional: Option<u32>,

    /// Send the workers the graceful signal when the master dies, however it dies
    #[arg(short = 'k', long, help_heading = "Workers")]
    pub kill_children_on_exit: bool,

    /// Directory to run in, looked up anew at each upgrade [default: the current one, by the name in PWD]
    #[arg(long, value_name = "DIR", help_heading = "Workers")]
    pub chdir: Option<PathBuf>,

    /// File of variables for the workers, over inherited ones: NAME=value lines. Read anew at each upgrade; a
    /// relative path counts from the directory of --chdir
    #[arg(long, value_name = "FILE", help_heading = "Workers")]
    pub env_file: Option<PathBuf>,

    /// Care for workers that serve.
    #[command(flatten)]
    pub care: CareArgs,

    /// What a worker's process is given.
    #[command(flatten)]
    pub process: ProcessArgs,

    /// Give each worker a connection to the control socket, at the descriptor in EINHORN_SOCK_FD
    #[arg(short = 'g', long, help_heading = "Control")]
    pub command_socket_as_fd: bool,

    /// Send warnings and errors to syslog too
    #[arg(long, help_heading = "Log")]
    pub syslog: bool,
}
