//! What was typed: the native command line. What it means is for `config.rs` to say.

mod reexec;
mod stop_signal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use einhorn_proto::WORKERS_MAX;
use serde::{Deserialize, Serialize};

use crate::listen::BindSpec;

pub use reexec::{CommandWords, ReexecArgs, Takeover};
pub use stop_signal::{UnknownStopSignal, parse_stop_signal};

/// Run COUNT copies of a server on shared listening sockets, and replace them without dropping a connection
///
/// Sockets are bound once, by the master, and handed to every worker from descriptor 3 upward, in the order of
/// --bind. A worker learns of them by the variables of einhorn, systemd socket activation and Server::Starter.
/// See einhyrningsins(1), and einhorn-worker(7) for the worker's side.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "einhyrningsins",
    disable_help_flag = true,
    disable_version_flag = true,
    version,
    override_usage = "einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...",
    after_help = "Signals: INT, USR2 stop gracefully; TERM stops; QUIT exits at once; HUP upgrades; TTIN adds a \
                  worker, TTOU removes one; USR1 goes to every worker.\n\
                  Exit codes: 0 done, 1 failed, 2 bad usage."
)]
pub struct Args {
    /// Number of workers
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1, help_heading = "Workers",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(WORKERS_MAX)))]
    pub number: u32,

    /// What to listen on.
    // Help of its own: to rustdoc the brackets are a link.
    #[arg(
        short = 'b',
        long,
        value_name = "ADDR:PORT[,OPT...]",
        help_heading = "Sockets",
        help = "Address to listen on, repeatable: IP:PORT, [V6]:PORT, NAME:PORT, :PORT; then options, separated by \
                commas: n (O_NONBLOCK), r (SO_REUSEADDR, which is always set), name=NAME"
    )]
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

    /// Take a worker as up only when it says so; the same as --ack-mode manual
    #[arg(short = 'm', long, conflicts_with = "ack_mode", help_heading = "Workers")]
    pub manual: bool,

    /// Take a worker as up after SECONDS alive, or only when it says so [default: 1]
    #[arg(long, value_name = "SECONDS|manual", value_parser = parse_ack_mode, help_heading = "Workers")]
    pub ack_mode: Option<AckModeArg>,

    /// In manual mode: how long a worker has to say so; 0 for ever
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds,
          help_heading = "Workers")]
    pub ack_timeout: Duration,

    /// Spawns of one slot in a row without an ack, before giving it up [default: 3 at first start and in an
    /// upgrade, no limit once the release has been up]
    #[arg(short = 'r', long, value_name = "COUNT", help_heading = "Workers",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: Option<u32>,

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

    /// Inherited variable to keep from the workers, repeatable
    #[arg(long, value_name = "VAR", value_parser = parse_variable, help_heading = "Workers")]
    pub drop_env_var: Vec<String>,

    /// Nice values, of the master and of the workers
    #[arg(long, value_name = "MASTER[:WORKER]", value_parser = parse_nice, allow_hyphen_values = true,
          help_heading = "Workers")]
    pub nice: Option<NiceArg>,

    /// Name of this master: in ps, and for its control socket, /tmp/einhorn-NAME.sock
    #[arg(short = 'c', long, value_name = "NAME", value_parser = parse_name, help_heading = "Control")]
    pub command_name: Option<String>,

    /// Control socket [default: /tmp/einhorn.sock]
    #[arg(short = 'd', long, value_name = "PATH", help_heading = "Control")]
    pub socket_path: Option<PathBuf>,

    /// Give each worker a connection to the control socket, at the descriptor in EINHORN_SOCK_FD
    #[arg(short = 'g', long, help_heading = "Control")]
    pub command_socket_as_fd: bool,

    /// File to write the master's pid to
    #[arg(short = 'e', long, value_name = "FILE", help_heading = "Control")]
    pub pidfile: Option<PathBuf>,

    /// File to hold locked as long as the master lives
    #[arg(short = 'f', long, value_name = "FILE", help_heading = "Control")]
    pub lockfile: Option<PathBuf>,

    /// The master's own re-exec.
    #[command(flatten)]
    pub reexec: ReexecArgs,

    /// Say more in the log; repeatable
    #[arg(short = 'v', long, action = ArgAction::Count, help_heading = "Log")]
    pub verbose: u8,

    /// Say less in the log: warnings and errors; twice: errors
    #[arg(short = 'q', long, action = ArgAction::Count, help_heading = "Log")]
    pub quiet: u8,

    /// Form of the log on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = "Log")]
    pub log_format: LogFormat,

    /// Send warnings and errors to syslog too
    #[arg(long, help_heading = "Log")]
    pub syslog: bool,

    /// Print help (-h: short, --help: long)
    #[arg(short = 'h', long, action = ArgAction::Help)]
    pub help: Option<bool>,

    /// Print the version
    #[arg(long, action = ArgAction::Version)]
    pub version: Option<bool>,

    /// The program to run, and its arguments. With a slash it is a path, from the directory of --chdir; else it
    /// is looked up in PATH. The first word that is no option is the program.
    #[arg(required_unless_present_any = ["with_state_fd", "upgrade_check"], trailing_var_arg = true,
          value_name = "PROGRAM [ARGS]")]
    pub command: Vec<OsString>,
}

/// What `--ack-mode` takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AckModeArg {
    /// After this long alive.
    Seconds(Duration),
    /// When the worker says so.
    Manual,
}

/// What `--nice` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NiceArg {
    /// Of the master; `None` to leave it.
    pub master: Option<i32>,
    /// Of the workers; `None` for the master's.
    pub worker: Option<i32>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// A decimal number of seconds, 0 or more.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "must be a number of seconds, 0 or more".to_owned())
}

fn parse_seconds_above_zero(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("seconds must be > 0".to_owned()),
        seconds => Ok(seconds),
    }
}

fn parse_ack_mode(text: &str) -> Result<AckModeArg, String> {
    match text {
        "manual" => Ok(AckModeArg::Manual),
        _ => parse_seconds(text)
            .map(AckModeArg::Seconds)
            .map_err(|_| "must be a number of seconds or \"manual\"".to_owned()),
    }
}

fn parse_variable(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must be the name of a variable".to_owned()),
        _ if text.contains(['=', '\0']) => {
            Err("must be the name of a variable, without its value".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        _ if text.contains(['/', '\0']) => {
            Err("becomes part of a file name, so it cannot have a \"/\"".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

fn parse_nice(text: &str) -> Result<NiceArg, String> {
    let value = |text: &str| match text {
        "" => Ok(None),
        _ => match text.parse::<i32>() {
            Ok(nice) if (-20..=19).contains(&nice) => Ok(Some(nice)),
            _ => Err(format!("\"{text}\" is no nice value: a whole number from -20 to 19")),
        },
    };
    let (master, worker) = text.split_once(':').unwrap_or((text, ""));
    Ok(NiceArg { master: value(master)?, worker: value(worker)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("einhyrningsins").chain(line.split_whitespace());
        Args::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_word_that_is_no_option_ends_the_options() {
        let args = parse("-n 3 server -n 4 --help").unwrap();
        assert_eq!(args.number, 3);
        assert_eq!(args.command, ["server", "-n", "4", "--help"]);
        let args = parse("-m -- -server -x").unwrap();
        assert_eq!(args.command, ["-server", "-x"]);
    }

    #[test]
    fn seconds_are_decimals() {
        let args = parse("-s 0.25 -t 0 --ack-mode 2.5 server").unwrap();
        assert_eq!(args.seconds, Duration::from_millis(250));
        assert_eq!(args.signal_timeout, Some(Duration::ZERO));
        assert_eq!(args.ack_mode, Some(AckModeArg::Seconds(Duration::from_millis(2500))));
    }

    #[test]
    fn nice_values_may_be_negative_and_either_may_be_left_out() {
        assert_eq!(parse_nice("-5:10"), Ok(NiceArg { master: Some(-5), worker: Some(10) }));
        assert_eq!(parse_nice(":3"), Ok(NiceArg { master: None, worker: Some(3) }));
        assert_eq!(parse("--nice -5:10 server").unwrap().nice.unwrap().master, Some(-5));
        assert!(parse_nice("20").is_err());
    }

    #[test]
    fn each_wrong_value_is_named_with_its_option() {
        for (line, words) in [
            ("-n 0 server", ["--number", "0"]),
            ("-n x server", ["--number", "x"]),
            ("-s 0 server", ["--seconds", "seconds must be > 0"]),
            ("-s -1 server", ["-1", "unexpected"]),
            ("-t nan server", ["--signal-timeout", "nan"]),
            ("-r 0 server", ["--retries", "0"]),
            ("--ack-mode soon server", ["--ack-mode", "soon"]),
            ("-m --ack-mode 1 server", ["--manual", "--ack-mode"]),
            ("-4 -6 server", ["--ipv4-only", "--ipv6-only"]),
            ("--graceful-signal FOO server", ["--graceful-signal", "FOO"]),
            ("--stop-signal ngnix server", ["ngnix", "nginx"]),
            ("--nice 99 server", ["--nice", "99"]),
            ("--log-format xml server", ["--log-format", "xml"]),
            ("-c a/b server", ["--command-name", "a/b"]),
            ("--drop-env-var A=b server", ["--drop-env-var", "A=b"]),
            ("--frob server", ["--frob", "unexpected"]),
            ("--numbr 3 server", ["--numbr", "--number"]),
            ("-n 3 -x", ["-x", "unexpected"]),
            ("-n 2", ["PROGRAM", "required"]),
        ] {
            let message = parse(line).unwrap_err();
            for word in words {
                assert!(message.contains(word), "{line}: {word} is not in: {message}");
            }
        }
    }
}
