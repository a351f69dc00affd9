//! The native command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use einhorn_proto::WORKERS_MAX;

use super::values::{
    AckModeArg, LogFormat, NiceArg, parse_ack_mode, parse_name, parse_nice, parse_seconds, parse_variable,
};
use super::{ReexecArgs, SharedArgs};
use crate::listen::BindSpec;

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
        help = "Address to listen on, repeatable: IP:PORT, [V6]:PORT, NAME:PORT, :PORT, udp:ADDRESS, unix:PATH, \
                unix:@NAME, seqpacket:PATH, or passed to the master: fd:N, systemd, systemd:NAME; then options, \
                separated by commas: n (O_NONBLOCK), r (SO_REUSEADDR, which is always set), name=NAME, backlog=N, \
                nodelay, defer, fastopen[=N], keepalive, freebind, mark=N, device=NAME, rcvbuf=BYTES, sndbuf=BYTES, \
                mode=MODE, user=USER, group=GROUP"
    )]
    pub bind: Vec<BindSpec>,

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

    /// What is the same in both dialects.
    #[command(flatten)]
    pub shared: SharedArgs,

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
        assert_eq!(args.shared.seconds, Duration::from_millis(250));
        assert_eq!(args.shared.signal_timeout, Some(Duration::ZERO));
        assert_eq!(args.ack_mode, Some(AckModeArg::Seconds(Duration::from_millis(2500))));
    }

    #[test]
    fn nice_values_may_be_negative() {
        assert_eq!(parse("--nice -5:10 server").unwrap().nice.unwrap().master, Some(-5));
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
