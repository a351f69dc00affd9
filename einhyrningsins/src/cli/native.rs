//! The native command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, ValueEnum};

use super::{Answer, CheckArgs, ReportArgs, SharedArgs, stop_signal};

/// Run COUNT copies of a server on shared listening sockets, and replace them without dropping a connection
///
/// The master binds the sockets once and passes them to every worker, from descriptor 3 upward in the order of --bind.
/// Workers find them by the variables of einhorn, systemd socket activation or Server::Starter. See einhyrningsins(1),
/// and einhorn-worker(7) for the worker's side.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "einhyrningsins",
    disable_help_flag = true,
    disable_version_flag = true,
    version,
    // A new master finds the program in the state that it takes over.
    mut_arg("graceful_signal", |arg| arg.help(stop_signal::help() + " [default: each worker's own convention]")),
    mut_arg("command", |command| command.required_unless_present_any(["with_state_fd", "upgrade_check"])),
    override_usage = "einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...\n       \
                      einhyrningsins -b :8080 -n 4 ./server --options-of-its-own",
    after_long_help = "Times are in seconds, or have units: 500ms, 1m30s, 1h, 2d.\n\
                       Signals: INT, USR2, TERM stop gracefully; QUIT exits at once; HUP upgrades; TTIN adds a \
                       worker, TTOU removes one; USR1 goes to every worker.\n\
                       Exit codes: 0 done, 1 failed, 2 bad usage."
)]
pub struct Args {
    /// What is the same in both dialects.
    #[command(flatten)]
    pub shared: SharedArgs,

    /// Consider a worker up only when it acks
    ///
    /// The same as --ack-mode manual.
    #[arg(short = 'm', long, conflicts_with = "ack_mode", help_heading = "Workers")]
    pub manual: bool,

    #[command(flatten)]
    pub check: CheckArgs,

    #[command(flatten)]
    pub reports: ReportArgs,

    /// File of options, one per line as on the command line, read at the start and at each upgrade
    ///
    /// Changed lines take effect with the upgrade that reads them; options that need a restart are named. An option on
    /// the command line overrides the file. The file must belong to root or the master's user, and nobody else may be
    /// able to write to it.
    #[arg(long, value_name = "FILE", help_heading = "Others")]
    pub options_file: Option<PathBuf>,

    /// Check whether a start would work, and spawn nothing
    ///
    /// Exits with 0, or with the error of a start. Addresses and files of a running master with the same control socket
    /// count as free. TCP addresses are bound, but nothing listens on them. For UDP and reuseport, only the host and the
    /// options are checked, not whether the port is free.
    #[arg(long, help_heading = "Others")]
    pub dry_run: bool,

    /// When to use colours: in help, in errors, and in the log on a terminal
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", help_heading = "Others")]
    pub color: ColorChoice,
}

/// The options that `-h` shows.
const USUAL: [&str; 10] = [
    "bind",
    "number",
    "manual",
    "signal_timeout",
    "capture_startup",
    "command_name",
    "socket_path",
    "dry_run",
    "help",
    "version",
];

/// Options of other programs, and what does the same here.
const ELSEWHERE: [(&str, &str); 8] = [
    ("-w", "-n COUNT"),
    ("--workers", "-n COUNT"),
    ("--processes", "-n COUNT"),
    ("-p", "-b :PORT"),
    ("--port", "-b :PORT"),
    ("--listen", "-b ADDR:PORT"),
    ("--host", "-b ADDR:PORT"),
    ("--address", "-b ADDR:PORT"),
];

impl Args {
    /// Reads a command line, the name of the program first.
    ///
    /// # Errors
    /// The [`Answer`] to one that asks for words alone, or that is wrong; with one suggestion at most.
    pub fn read(argv: &[OsString]) -> Result<Self, Answer> {
        let read = Self::parser()
            .try_get_matches_from(argv)
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches));
        read.map_err(|error| {
            let colour = clap::Command::new("").color(colour(argv));
            with_suggestion(error.with_cmd(&colour)).into()
        })
    }

    /// What `--color` says; `None` for what the environment asks for.
    pub fn has_colours(&self) -> Option<bool> {
        match self.color {
            ColorChoice::Auto => None,
            ColorChoice::Always => Some(true),
            ColorChoice::Never => Some(false),
        }
    }

    pub(super) fn parser() -> clap::Command {
        Self::command().mut_args(|arg| {
            let is_usual = USUAL.contains(&arg.get_id().as_str());
            arg.hide_short_help(!is_usual)
        })
    }
}

/// Replaces the parser's advice to write `-- --option`, which nobody needs here.
fn with_suggestion(mut error: clap::Error) -> clap::Error {
    error.remove(ContextKind::Suggested);
    let elsewhere = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if error.kind() == ErrorKind::UnknownArgument => {
            ELSEWHERE.iter().find(|(name, _)| name == option)
        }
        _ => None,
    };
    if let Some((_, ours)) = elsewhere {
        error.remove(ContextKind::SuggestedArg);
        let tips = vec![StyledStr::from(format!("use '{ours}'"))];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// What `--color` says, although the rest of the line may be wrong.
fn colour(argv: &[OsString]) -> ColorChoice {
    let words: Vec<_> = argv.iter().filter_map(|word| word.to_str()).collect();
    let given = words.iter().zip(words.iter().skip(1).chain([&""])).find_map(|(word, next)| match *word {
        "--color" => Some(*next),
        word => word.strip_prefix("--color="),
    });
    given.and_then(|given| ColorChoice::from_str(given, true).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::time::Duration;

    use insta::assert_snapshot;

    use super::*;
    use crate::cli::{AckModeArg, NumberArg};

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("einhyrningsins").chain(line.split_whitespace());
        let words: Vec<_> = words.map(OsString::from).collect();
        Args::read(&words).map_err(|answer| answer.text())
    }

    #[test]
    fn options_of_other_programs_lead_to_ours() {
        assert_snapshot!(parse("-w 4 server").unwrap_err(), @r"
        error: unexpected argument '-w' found

          tip: use '-n COUNT'

        Usage: einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...
               einhyrningsins -b :8080 -n 4 ./server --options-of-its-own

        For more information, try '--help'.
        ");
        for (option, ours) in ELSEWHERE {
            let message = parse(&format!("{option} 4 server")).unwrap_err();
            assert!(message.contains(&format!("tip: use '{ours}'\n")), "{option}: {message}");
            let name = ours.split(' ').next().unwrap();
            assert!(parse(&format!("{name} :80 server")).is_ok() || name == "-n", "{name}");
        }
    }

    #[test]
    fn a_misspelt_option_has_one_suggestion() {
        assert_snapshot!(parse("--numbr 3 server").unwrap_err(), @r"
        error: unexpected argument '--numbr' found

          tip: a similar argument exists: '--number'

        Usage: einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...
               einhyrningsins -b :8080 -n 4 ./server --options-of-its-own

        For more information, try '--help'.
        ");
        assert_snapshot!(parse("--frob server").unwrap_err(), @r"
        error: unexpected argument '--frob' found

        Usage: einhyrningsins [OPTIONS] [--] PROGRAM [ARGS]...
               einhyrningsins -b :8080 -n 4 ./server --options-of-its-own

        For more information, try '--help'.
        ");
    }

    #[test]
    fn values_in_the_manner_of_other_programs_are_explained() {
        for (line, words) in [
            ("-b 8000 server", "did you mean :8000?"),
            ("-d @web server", "for a file, give ./@web"),
            ("--max-rss 512MB server", "may mean 1000 or 1024: give 512M or 512MiB"),
            ("--max-age 1e19 server", "at most 36500d"),
            ("-n some server", "must be a whole number from 1 to 10000, or \"auto\""),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(words), "{line}: {message}");
        }
        let words =
            ["einhyrningsins".into(), "-b".into(), OsString::from_vec(b"unix:/tmp/\xff".into()), "x".into()];
        let message = Args::read(&words).unwrap_err().text();
        assert!(message.contains("'--bind <") && message.contains("must be UTF-8"), "{message}");
    }

    #[test]
    fn the_number_of_workers_may_be_left_to_the_machine() {
        assert_eq!(parse("-n auto server").unwrap().shared.number, NumberArg::Auto);
    }

    #[test]
    fn colours_are_chosen_though_the_line_is_wrong() {
        let chosen = |line: &str| colour(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(chosen("x --color always --bogus"), ColorChoice::Always);
        assert_eq!(chosen("x --bogus --color=never"), ColorChoice::Never);
        for line in ["x", "x --color", "x --color=green"] {
            assert_eq!(chosen(line), ColorChoice::Auto, "{line}");
        }
    }

    #[test]
    fn the_usual_options_are_some_of_all() {
        for id in USUAL {
            assert!(Args::command().get_arguments().any(|arg| arg.get_id() == id), "{id}");
        }
    }

    #[test]
    fn the_first_word_that_is_no_option_ends_the_options() {
        let args = parse("-n 3 server -n 4 --help").unwrap();
        assert_eq!(args.shared.number, NumberArg::Count(3));
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
