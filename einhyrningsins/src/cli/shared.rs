//! The options that both command lines have, each defined once.
//!
//! The definitions are those of the native command line; `einhorn.rs` changes what differs in einhorn.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use einhorn_proto::{MaxUnacked, WORKERS_MAX, parse_master_name, parse_seconds, parse_seconds_above_zero};

use super::recycling::RecyclingArgs;
use super::stop_signal::{self, parse_stop_signal};
use super::values::{
    AckModeArg, LogFormat, NiceArg, NumberArg, parse_ack_mode, parse_bind, parse_control_mode, parse_nice,
    parse_notify_mode, parse_number, parse_socket_path, parse_variable,
};
use super::{HandoverArgs, ProcessArgs};
use crate::listen::{BindOption, BindSpec};

/// The forms of an address in `-b`, for its help.
const BIND_FORMS: &str = "IP:PORT, [V6]:PORT, NAME:PORT, :PORT, udp:ADDRESS, unix:PATH, unix:@NAME, seqpacket:PATH, or \
                          passed to the master: fd:N, systemd, systemd:NAME";

/// What the two command lines have in common.
#[derive(Debug, Clone, clap::Args)]
pub struct SharedArgs {
    /// What to listen on.
    // Help of its own: to rustdoc the brackets are a link.
    #[arg(short = 'b', long, value_name = "ADDR:PORT[,OPT...]", help_heading = "Sockets",
          value_parser = OsStringValueParser::new().try_map(|text| parse_bind(&text)),
          help = "Address to listen on, as :8080 or unix:PATH",
          long_help = format!(
              "Address to listen on, repeatable: {BIND_FORMS}; then options, separated by commas: {}",
              BindOption::help()
          ))]
    pub bind: Vec<BindSpec>,

    /// Listen on IPv4 addresses only
    #[arg(short = '4', long, conflicts_with = "ipv6_only", help_heading = "Sockets")]
    pub ipv4_only: bool,

    /// Listen on IPv6 addresses only
    #[arg(short = '6', long, help_heading = "Sockets")]
    pub ipv6_only: bool,

    /// Length of the queue of connections that wait for a worker [default: the system's maximum]
    #[arg(short = 'l', long, value_name = "N", help_heading = "Sockets",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub backlog: Option<u32>,

    /// Number of workers
    ///
    /// With "auto", one for each CPU that the affinity mask and the cgroup allow.
    #[arg(short = 'n', long, value_name = "COUNT|auto", default_value = "1", value_parser = parse_number,
          help_heading = "Workers")]
    pub number: NumberArg,

    /// Consider a worker up after SECONDS alive, or, with "manual", only when it acks
    #[arg(long, value_name = "SECONDS|manual", default_value = "1", value_parser = parse_ack_mode,
          help_heading = "Workers")]
    pub ack_mode: AckModeArg,

    /// In manual mode: how long a worker may take to ack; 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds,
          help_heading = "Workers")]
    pub ack_timeout: Option<Duration>,

    /// Spawns in a row without an ack after which a slot is given up [default: 3 at the first start and in an upgrade,
    /// no limit once the release has been up]
    #[arg(short = 'r', long, value_name = "COUNT", help_heading = "Workers",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: Option<u32>,

    /// Shortest time between two spawns of one slot
    #[arg(short = 's', long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds_above_zero,
          help_heading = "Workers")]
    pub seconds: Duration,

    /// Signal that asks a worker to stop.
    #[arg(long, alias = "stop-signal", value_name = "SIGNAL|SERVER",
          value_parser = parse_stop_signal, help = stop_signal::help(), help_heading = "Workers")]
    pub graceful_signal: Option<nix::sys::signal::Signal>,

    /// Show the last lines that a failed worker wrote
    ///
    /// This is for a worker that dies before its ack, and shows its standard error. With this option, the standard error
    /// of each worker goes through the master as long as the worker lives.
    #[arg(long, help_heading = "Workers")]
    pub capture_startup: bool,

    /// Kill a worker this long after its stop signal
    ///
    /// Only a worker that still runs is killed. [default: never]
    #[arg(short = 't', long, value_name = "SECONDS", value_parser = parse_seconds, help_heading = "Workers")]
    pub signal_timeout: Option<Duration>,

    /// Send stop signals to the process group of a worker, not to the worker alone
    ///
    /// Use this if the worker starts the server as another process, like "npm start" or a shell script without exec.
    /// Processes of the group that outlive the worker are killed after the time of -t, and a stop waits for them.
    /// Processes in other groups or sessions get no signal.
    #[arg(long, help_heading = "Workers")]
    pub stop_group: bool,

    /// Log a warning if old workers still serve this long after their stop signal; 0 for never
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds, help_heading = "Workers")]
    pub drain_warning: Duration,

    /// With reuseport in -b: how long a worker whose slot is removed still serves connections that are on their way to it,
    /// before it is asked to stop
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds, help_heading = "Workers")]
    pub shrink_grace: Duration,

    /// How many workers may be unacked at a time, except at the first start and in fleets
    ///
    /// "auto": enough to keep the CPUs busy, as measured at earlier boots, if they fit into memory; "auto:MAX": the same,
    /// but at most MAX. [default: auto]
    #[arg(long, value_name = "N|auto[:MAX]", help_heading = "Workers")]
    pub max_unacked: Option<MaxUnacked>,

    /// How many workers above COUNT may live during an upgrade, including draining ones [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Workers",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    pub max_upgrade_additional: Option<u32>,

    /// Send the workers the graceful signal when the master dies, for whatever reason
    #[arg(short = 'k', long, help_heading = "Workers")]
    pub kill_children_on_exit: bool,

    /// Directory to run in, resolved again at each upgrade [default: the current one, by its name in PWD]
    #[arg(long, value_name = "DIR", help_heading = "Workers")]
    pub chdir: Option<PathBuf>,

    /// File of variables for the workers, as lines NAME=value, which override inherited ones. Read again at each upgrade;
    /// a relative path is relative to the directory of --chdir
    #[arg(long, value_name = "FILE", help_heading = "Workers")]
    pub env_file: Option<PathBuf>,

    /// When a serving worker is replaced.
    #[command(flatten)]
    pub recycling: RecyclingArgs,

    /// Inherited variable to hide from the workers, repeatable
    #[arg(long, value_name = "VAR", value_parser = parse_variable, help_heading = "Workers")]
    pub drop_env_var: Vec<String>,

    /// Nice values of the master and of the workers
    #[arg(long, value_name = "MASTER[:WORKER]", value_parser = parse_nice, allow_hyphen_values = true,
          help_heading = "Workers")]
    pub nice: Option<NiceArg>,

    /// What a worker's process is given.
    #[command(flatten)]
    pub process: ProcessArgs,

    /// Name of this master, for ps and for its control socket, /tmp/einhorn-NAME.sock
    #[arg(short = 'c', long, value_name = "NAME", value_parser = parse_master_name, help_heading = "Control")]
    pub command_name: Option<String>,

    /// Control socket [default: /tmp/einhorn.sock]
    #[arg(short = 'd', long, value_name = "PATH", help_heading = "Control",
          long_help = "Control socket [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]",
          value_parser = PathBufValueParser::new().try_map(parse_socket_path))]
    pub socket_path: Option<PathBuf>,

    /// Mode of the control socket, in octal, such as 660; only owner and group may have access [default: 600]
    #[arg(long, value_name = "MODE", value_parser = parse_control_mode, help_heading = "Control")]
    pub control_mode: Option<u32>,

    /// Group of the control socket, by name or number; with --control-mode [default: the master's]
    #[arg(long, value_name = "GROUP", requires = "control_mode", help_heading = "Control")]
    pub control_group: Option<String>,

    /// Group, by name or number, whose members may ask questions on the control socket, and nothing else; not with
    /// --control-mode
    #[arg(long, value_name = "GROUP", conflicts_with = "control_mode", help_heading = "Control")]
    pub observe_group: Option<String>,

    /// Mode of the notify socket, in octal, such as 666 for workers that change their user themselves [default: 600, or
    /// 666 if master and workers are root and there is no --user]
    #[arg(long, value_name = "MODE", value_parser = parse_notify_mode, help_heading = "Control")]
    pub notify_mode: Option<u32>,

    /// File to write the master's pid to
    #[arg(short = 'e', long, value_name = "FILE", help_heading = "Control")]
    pub pidfile: Option<PathBuf>,

    /// File to lock as long as the master lives
    #[arg(short = 'f', long, value_name = "FILE", help_heading = "Control")]
    pub lockfile: Option<PathBuf>,

    /// Inherited descriptor to keep open, such as that of a lock; repeatable. The master closes other inherited descriptors
    /// that it does not use
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(RawFd).range(3..), help_heading = "Control")]
    pub keep_fd: Vec<RawFd>,

    /// Inherited descriptor to keep open and to pass to the workers, with the same number; repeatable
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(RawFd).range(3..), help_heading = "Control")]
    pub pass_fd: Vec<RawFd>,

    /// Give each worker a connection to the control socket; its descriptor is in EINHORN_SOCK_FD
    #[arg(short = 'g', long, help_heading = "Control")]
    pub command_socket_as_fd: bool,

    /// The master's own re-exec.
    #[command(flatten)]
    pub handover: HandoverArgs,

    /// Log more; repeatable
    #[arg(short = 'v', long, action = ArgAction::Count, help_heading = "Log")]
    pub verbose: u8,

    /// Log less: warnings and errors; twice: only errors
    #[arg(short = 'q', long, action = ArgAction::Count, help_heading = "Log")]
    pub quiet: u8,

    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", help_heading = "Log")]
    pub log_format: Option<LogFormat>,

    /// File for the log, instead of standard error; "einhyrningsinsctl reopen" opens it again
    #[arg(long, value_name = "FILE", help_heading = "Log")]
    pub log_file: Option<PathBuf>,

    /// Send warnings and errors to syslog as well
    #[arg(long, help_heading = "Log")]
    pub syslog: bool,

    /// Print help (-h: the usual options, --help: all)
    #[arg(short = 'h', long, action = ArgAction::Help, help_heading = "Others")]
    pub help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Others")]
    pub version: Option<bool>,

    /// The program to run, and its arguments. The first word that is not an option is the program. With a slash, it is a
    /// path, relative to the directory of --chdir; otherwise it is looked up in PATH.
    #[arg(trailing_var_arg = true, value_name = "PROGRAM [ARGS]")]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_an_address_in_the_help_is_one() {
        for form in BIND_FORMS.replace("or passed to the master: ", "").split(", ") {
            let address = form
                .replace("ADDRESS", ":PORT")
                .replace("IP", "127.0.0.1")
                .replace("V6", "::1")
                .replace("PORT", "80")
                .replace("fd:N", "fd:3");
            assert!(address.parse::<BindSpec>().is_ok(), "{form}, as {address}");
        }
    }
}
