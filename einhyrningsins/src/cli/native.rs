//! The native command line.

use clap::Parser;

use super::SharedArgs;

/// Run COUNT copies of a server on shared listening sockets, and replace them without dropping a connection
///
/// The master binds the sockets once and hands them to every worker, from descriptor 3 upward, in the order of --bind,
/// described by the variables of einhorn, systemd socket activation and Server::Starter. See einhyrningsins(1), and
/// einhorn-worker(7) for the worker's side.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "einhyrningsins",
    disable_help_flag = true,
    disable_version_flag = true,
    version,
    // A new master finds the program in the state that it takes over.
    mut_arg("command", |command| command.required_unless_present_any(["with_state_fd", "upgrade_check"])),
    override_usage = "einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...",
    after_help = "Signals: INT, USR2 stop gracefully; TERM stops; QUIT exits at once; HUP upgrades; TTIN adds a \
                  worker, TTOU removes one; USR1 goes to every worker.\n\
                  Exit codes: 0 done, 1 failed, 2 bad usage."
)]
pub struct Args {
    /// What is the same in both dialects.
    #[command(flatten)]
    pub shared: SharedArgs,

    /// Consider a worker up only when it acks; the same as --ack-mode manual
    #[arg(short = 'm', long, conflicts_with = "ack_mode", help_heading = "Workers")]
    pub manual: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::AckModeArg;

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("einhyrningsins").chain(line.split_whitespace());
        Args::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_word_that_is_no_option_ends_the_options() {
        let args = parse("-n 3 server -n 4 --help").unwrap();
        assert_eq!(args.shared.number, 3);
        assert_eq!(args.shared.command, ["server", "-n", "4", "--help"]);
        let args = parse("-m -- -server -x").unwrap();
        assert_eq!(args.shared.command, ["-server", "-x"]);
    }

    #[test]
    fn seconds_are_decimals() {
        let args = parse("-s 0.25 -t 0 --ack-mode 2.5 server").unwrap();
        assert_eq!(args.shared.seconds, Duration::from_millis(250));
        assert_eq!(args.shared.signal_timeout, Some(Duration::ZERO));
        assert_eq!(args.shared.ack_mode, AckModeArg::Seconds(Duration::from_millis(2500)));
    }

    #[test]
    fn nice_values_may_be_negative() {
        assert_eq!(parse("--nice -5:10 server").unwrap().shared.nice.unwrap().master, Some(-5));
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
