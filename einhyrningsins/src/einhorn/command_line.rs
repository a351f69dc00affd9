//! einhorn's command line.
//!
//! Names, defaults, exit codes and abbreviations are einhorn's. It also accepts our options that einhorn lacks, unless
//! they conflict with one of einhorn's; an abbreviation always means einhorn's option.

use std::cmp::Ordering;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use einhorn_proto::{
    MaxUnacked, SOCKET_VARIABLE, Severity, WORKERS_MAX, default_path, einhorns_directory, socket_path,
};
use einhyrningsins_supervisor::Retries;

use crate::cli::{Answer, CheckArgs, LogFormat, NiceArg, NumberArg, ReportArgs, SharedArgs, parse_nice};
use crate::config::{CommandLine, Dialect, available_cpus};
use crate::listen::BindSpec;

/// The usage for a command line without a program. Its first line is einhorn's.
const USAGE: &str = "\
## Usage

Runs copies of a server on shared sockets, and replaces them without dropping a
connection:

    einhorn [OPTIONS] [--] PROGRAM [ARGS]...

`einhorn -h` lists the options.
";

/// The template of the help.
const HELP: &str = "\
## Usage

Runs copies of a server on shared sockets, and replaces them without dropping a
connection:

    einhorn [OPTIONS] [--] PROGRAM [ARGS]...

The first word that is not an option is PROGRAM. Long options may be abbreviated.

    einhorn -n 4 -b 127.0.0.1:8080,r,n -m manual ./server --its-own-options

Each worker has the sockets from descriptor 3 upward, given by EINHORN_FD_0,
EINHORN_FD_1... and EINHORN_FD_COUNT. `einhornsh` controls the master.
See einhorn(1), and einhyrningsins(1) for the options that einhorn lacks.

{all-args}{after-help}
";

/// einhorn retries a slot forever. An upgrade has a limit, or its client would wait forever.
const RETRIES: Retries = Retries { unproven: None, upgrade: 10, proven: None };

/// einhorn's long options. An abbreviation of exactly one of them means that one, whatever options we have besides.
const EINHORNS_OPTIONS: [&str; 25] = [
    "ack-mode",
    "backlog",
    "bind",
    "command-name",
    "command-socket-as-fd",
    "drop-env-var",
    "gc-before-fork",
    "help",
    "kill-children-on-exit",
    "lockfile",
    "max-unacked",
    "max-upgrade-additional",
    "nice",
    "number",
    "pidfile",
    "preload",
    "quiet",
    "reexec-as",
    "seconds",
    "signal-timeout",
    "socket-path",
    "upgrade-check",
    "verbose",
    "version",
    "with-state-fd",
];

/// einhorn's command line.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "einhorn",
    about = None,
    long_about = None,
    disable_help_flag = true,
    disable_version_flag = true,
    version,
    args_override_self = true,
    infer_long_args = true,
    override_usage = "einhorn [OPTIONS] [--] PROGRAM [ARGS]...",
    help_template = HELP,
    after_help = "Signals: INT, USR2 stop with USR2, TERM with TERM, and again each time; QUIT exits at once; HUP, ALRM \
                  upgrade; TTIN adds a worker, TTOU removes one; USR1 goes to every worker.\n\
                  Exit codes: 0 when the last worker has exited, 1 after QUIT or a failed start."
)]
pub struct Args {
    /// What is the same in both dialects.
    #[command(flatten)]
    pub shared: SharedArgs,

    /// Ruby code to load before the workers are forked: accepted and ignored
    #[arg(short = 'p', long, value_name = "PATH", help_heading = "Workers")]
    pub preload: Option<PathBuf>,

    /// Accepted and ignored
    #[arg(long, help_heading = "Workers")]
    pub gc_before_fork: bool,
}

impl Args {
    /// Reads a command line, the name of the program first.
    ///
    /// # Errors
    /// The [`Answer`], with einhorn's exit code: 1 where something is wrong and to a request for help, but 0 to a
    /// pool of no workers.
    pub fn read(argv: &[OsString]) -> Result<Self, Answer> {
        let args = Self::parser()
            .try_get_matches_from(argv)
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches))
            .map_err(answer)?;
        // In a takeover the state names the program, and the rest of the command line is ignored.
        if args.shared.handover.takeover().is_some() {
            return Ok(args);
        }
        if args.shared.command.is_empty() {
            return Err(Answer::wanted(USAGE.to_owned(), 1));
        }
        if args.shared.number == NumberArg::Count(0) {
            let text = "einhorn: cannot run 0 workers: --number must be 1 or more\n";
            return Err(Answer::complaint(text.to_owned(), 0));
        }
        Ok(args)
    }

    /// The parser, with einhorn's abbreviations.
    fn parser() -> clap::Command {
        let is_unique =
            |part: &str| EINHORNS_OPTIONS.iter().filter(|option| option.starts_with(part)).count() == 1;
        EINHORNS_OPTIONS.iter().fold(in_einhorns_manner(Self::command()), |parser, option| {
            let abbreviations =
                (1..option.len()).map(|length| &option[..length]).filter(|part| is_unique(part));
            parser.mut_arg(option.replace('-', "_"), |arg| arg.aliases(abbreviations))
        })
    }
}

/// Changes what differs in einhorn: names, defaults and ranges of the shared options, and their help.
fn in_einhorns_manner(parser: clap::Command) -> clap::Command {
    let with_help = [
        (
            "drop_env_var",
            "Variable to remove from the environment at the next upgrade; the first start keeps it; repeatable",
        ),
        ("command_name", "Name of this master, for ps and for its files"),
        (
            "socket_path",
            "Control socket [default: the value of EINHYRNINGSINS_SOCKET, or einhorn.sock or einhorn-NAME.sock in TMPDIR or \
             /tmp]",
        ),
        (
            "pidfile",
            "File to write the master's pid to [default: einhorn.pid or einhorn-NAME.pid, in TMPDIR or /tmp]",
        ),
        (
            "lockfile",
            "File to lock while the control socket is made [default: einhorn.lock or einhorn-NAME.lock, in \
             TMPDIR or /tmp]",
        ),
        ("verbose", "Log more"),
        ("quiet", "Log less"),
    ];
    with_help
        .into_iter()
        .fold(parser, |parser, (name, help)| parser.mut_arg(name, |arg| arg.help(help).long_help(help)))
        .mut_arg("number", |arg| {
            let count = clap::value_parser!(u32).range(0..=i64::from(WORKERS_MAX)).map(NumberArg::Count);
            arg.value_name("N").value_parser(count).help("Number of workers").long_help(None)
        })
        .mut_arg("bind", |arg| {
            let help = "Address to listen on, repeatable: IP:PORT, [V6]:PORT, NAME:PORT, :PORT; then flags, separated by \
                        commas, in any case: n or o_nonblock, r or so_reuseaddr (always set), name=NAME; unknown ones are \
                        ignored. The other addresses and options of einhyrningsins(1) work too";
            let parser = BindSpec::parse_ignoring_unknown_options;
            arg.value_name("HOST:PORT[,FLAG...]").value_parser(parser).help(help).long_help(help)
        })
        .mut_arg("backlog", |arg| {
            arg.default_value("100")
                .value_parser(clap::value_parser!(u32).range(0..=i64::from(i32::MAX)))
                .help("Length of the queue of connections that wait for a worker")
        })
        .mut_arg("max_unacked", |arg| {
            arg.long_help(
                "How many workers may be unacked at a time, except at the first start and in fleets; einhyrningsins(1) \
                 describes \"auto\" [default: the number of available CPUs]",
            )
        })
        .mut_arg("graceful_signal", |arg| arg.default_value("USR2"))
        .mut_arg("ack_mode", |arg| arg.short('m'))
        .mut_arg("ack_timeout", |arg| {
            arg.default_value(None).help("In manual mode: how long a worker may take to ack [default: no limit]")
        })
        .mut_arg("retries", |arg| {
            arg.short(None).help(
                "Spawns in a row without an ack after which a slot is given up [default: 10 in an upgrade, else no \
                 limit]",
            )
        })
        .mut_arg("nice", |arg| {
            arg.value_name("MASTER[:WORKER[:RENICE_CMD]]")
                .value_parser(parse_nice_with_command)
                .help("Nice values of the master and of the workers; RENICE_CMD is not needed, and ignored")
        })
        .mut_arg("log_format", |arg| {
            arg.default_value(None).help("Format of the log on standard error [default: einhorn's]")
        })
        .mut_arg("version", |arg| arg.short(None))
        .mut_arg("socket_path", |arg| arg.value_parser(clap::value_parser!(PathBuf)))
        .mut_arg("help", |arg| arg.action(ArgAction::HelpLong).help("Print this help; the exit code is 1"))
        .mut_arg("command", |arg| arg.hide(true))
}

impl From<Args> for CommandLine {
    fn from(Args { shared: args, preload, .. }: Args) -> Self {
        let directory = einhorns_directory(env::var_os("TMPDIR"));
        let file = |given: &Option<PathBuf>, extension| {
            given.clone().unwrap_or_else(|| default_path(&directory, args.command_name.as_deref(), extension))
        };
        Self {
            dialect: Dialect::Einhorn,
            manual: false,
            retries: RETRIES,
            unacked: MaxUnacked::Count(available_cpus()),
            upgrade_restarts: true,
            // Its clients wait for the last ack and no longer.
            report_wait: Duration::ZERO,
            drops_at_start: false,
            absolute_argv0: true,
            socket: socket_path(
                &directory,
                args.socket_path.clone(),
                args.command_name.as_deref(),
                env::var_os(SOCKET_VARIABLE),
            ),
            pidfile: Some(file(&args.pidfile, "pid")),
            lockfile: Some(file(&args.lockfile, "lock")),
            verbosity: verbosity(args.verbose, args.quiet),
            log_format: args.log_format.unwrap_or(LogFormat::Einhorn),
            has_colours: None,
            check: CheckArgs::default(),
            reports: ReportArgs::default(),
            options_file: None,
            dry_run: false,
            warnings: preload.iter().map(|path| without_preload(path)).collect(),
            args,
        }
    }
}

fn without_preload(path: &Path) -> String {
    format!(
        "{} is not preloaded (--preload): that takes a master in Ruby; each worker loads it by itself, as without it",
        path.display()
    )
}

/// einhorn has no level for warnings.
fn verbosity(verbose: u8, quiet: u8) -> Severity {
    match verbose.cmp(&quiet) {
        Ordering::Less => Severity::Error,
        Ordering::Equal => Severity::Info,
        Ordering::Greater => Severity::Debug,
    }
}

/// einhorn's exit codes for what the parser says.
fn answer(error: clap::Error) -> Answer {
    match error.kind() {
        ErrorKind::DisplayVersion => Answer::wanted(concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned(), 0),
        _ => Answer::of_parser(error, 1),
    }
}

/// The command is for systems on which the master may not set nice values itself; it would fail there too.
fn parse_nice_with_command(text: &str) -> Result<NiceArg, String> {
    let end = text.match_indices(':').nth(1).map_or(text.len(), |(end, _)| end);
    parse_nice(&text[..end])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::cli::AckModeArg;

    /// The shared options of a command line.
    fn shared(line: &str) -> SharedArgs {
        read(line).unwrap().shared
    }

    fn read(line: &str) -> Result<Args, Answer> {
        let words = std::iter::once("einhorn").chain(line.split_whitespace());
        Args::read(&words.map(OsString::from).collect::<Vec<_>>())
    }

    fn answered(line: &str) -> (String, u8) {
        let answer = read(line).unwrap_err();
        (answer.text(), answer.code)
    }

    #[test]
    fn the_defaults_are_einhorns() {
        let args = shared("server");
        assert_eq!(
            (args.number, args.backlog, args.seconds),
            (NumberArg::Count(1), Some(100), Duration::from_secs(1))
        );
        assert_eq!(args.ack_mode, AckModeArg::Seconds(Duration::from_secs(1)));
        assert_eq!((args.ack_timeout, args.retries, args.log_format), (None, None, None));
    }

    #[test]
    fn each_option_of_einhorn_is_taken_and_the_first_other_word_ends_them() {
        let args = read(
            "-b 127.0.0.1:80,R,N -b [::1]:81 -c web -d s -e p -f l -g -k -l 7 -m manual -n 3 -p code.rb -q -v -s 0.5 \
             --drop-env-var A --drop-env-var B --reexec-as=ruby --nice 1:2:/usr/bin/renice -t 9 \
             --max-unacked=2 --max-upgrade-additional=1 --gc-before-fork server -n 4 --bogus",
        )
        .unwrap();
        assert_eq!(args.shared.command, ["server", "-n", "4", "--bogus"]);
        assert_eq!(
            (args.shared.number, args.shared.backlog, args.shared.ack_mode),
            (NumberArg::Count(3), Some(7), AckModeArg::Manual)
        );
        assert!(
            args.shared.bind.len() == 2
                && args.shared.bind[0].options.nonblocking
                && !args.shared.bind[1].options.nonblocking
        );
        assert_eq!(args.shared.nice, Some(NiceArg { master: Some(1), worker: Some(2) }));
        assert_eq!(args.shared.drop_env_var, ["A", "B"]);
        assert_eq!(args.shared.handover.reexec_as.unwrap().0, ["ruby"].map(OsString::from));
        assert!(args.gc_before_fork && args.shared.command_socket_as_fd && args.shared.kill_children_on_exit);
        assert_eq!(shared("-n 2 -- -server").command, ["-server"]);
        assert_eq!(shared("-m 0 server").ack_mode, AckModeArg::Seconds(Duration::ZERO));
    }

    #[test]
    fn an_option_that_is_given_again_counts_as_given_last() {
        assert_eq!(shared("-n 2 --number 5 server").number, NumberArg::Count(5));
    }

    #[test]
    fn options_may_be_abbreviated_as_far_as_einhorn_has_no_other_like_it() {
        let args =
            read("--num 3 --ack manual --lock l --pid p --back 9 --reexec x --seconds=2 --comm-fd server");
        assert!(args.is_err(), "an abbreviation is a beginning");
        let args =
            shared("--num 3 --ack manual --lo l --pid p --back 9 --reexec x --seco=2 --command-so server");
        assert_eq!(
            (args.number, args.ack_mode, args.backlog),
            (NumberArg::Count(3), AckModeArg::Manual, Some(9))
        );
        assert_eq!((args.lockfile, args.pidfile), (Some("l".into()), Some("p".into())));
        assert!(args.handover.reexec_as.is_some() && args.command_socket_as_fd);
        let args = shared("--ack-t 5 --retr 4 server");
        assert_eq!((args.ack_timeout, args.retries), (Some(Duration::from_secs(5)), Some(4)), "ours");
        for ambiguous in ["--n 3", "--max 3", "--ver", "--comm x"] {
            let (text, code) = answered(&format!("{ambiguous} server"));
            assert!(text.contains("unexpected argument") && code == 1, "{ambiguous}: {text}");
        }
    }

    #[test]
    fn flags_of_an_address_that_are_not_known_are_ignored() {
        let args = shared("-b :80,bogus,N,no=thing server");
        assert!(args.bind[0].options.nonblocking);
        let (text, code) = answered("-b nonsense server");
        assert!(text.contains("nonsense") && code == 1, "{text}");
    }

    #[test]
    fn usage_begins_like_einhorns_and_fails() {
        for line in ["", "-n 3", "-n 0"] {
            let (text, code) = answered(line);
            assert!(text.starts_with("## Usage\n") && text.contains("einhorn -h"), "{text}");
            assert_eq!((text.lines().count() < 12, code), (true, 1), "{text}");
        }
        for line in ["-h", "--help", "-n 0 -h", "--hel"] {
            let (text, code) = answered(line);
            assert!(text.starts_with("## Usage\n") && code == 1, "{text}");
            for ours in ["--max-age", "--max-rss", "--ping-timeout"] {
                assert!(text.contains(ours), "{ours} in {text}");
            }
            for option in EINHORNS_OPTIONS {
                let is_listed = text.contains(&format!("--{option}"));
                assert_eq!(
                    is_listed,
                    !["upgrade-check", "with-state-fd"].contains(&option),
                    "{option} in {text}"
                );
            }
        }
    }

    #[test]
    fn the_version_is_the_bare_number() {
        assert_eq!(answered("--version"), (format!("{}\n", env!("CARGO_PKG_VERSION")), 0));
    }

    #[test]
    fn zero_workers_is_an_error_with_exit_code_zero() {
        let (text, code) = answered("-n 0 server");
        assert!(text.contains("--number") && text.lines().count() == 1, "{text}");
        assert_eq!(code, 0);
    }

    #[test]
    fn each_wrong_value_is_named_and_the_exit_code_is_one() {
        for (line, named) in [
            ("-s 0 server", "seconds must be > 0"),
            ("-s x server", "--seconds"),
            ("-m soon server", "--ack-mode"),
            ("-n x server", "--number"),
            ("-n -1 server", "-1"),
            ("--nice 99 server", "--nice"),
            ("--reexec-as ' server", "--reexec-as"),
            ("--bogus server", "--bogus"),
            ("-x server", "-x"),
        ] {
            let (text, code) = answered(line);
            assert!(text.contains(named) && code == 1, "{line}: {text}");
        }
    }

    #[test]
    fn a_takeover_needs_no_program() {
        assert!(shared("--with-state-fd 9").handover.takeover().is_some());
        assert!(shared("--upgrade-check").handover.takeover().is_some());
    }

    proptest! {
        #[test]
        fn any_words_are_read_or_answered(
            words in proptest::collection::vec("(--?[a-z]{0,6}(=.{0,3})?)|(.{0,8})|([0-9:,]{0,6})", 0..6)
        ) {
            let words: Vec<_> = std::iter::once("einhorn".into()).chain(words.into_iter().map(OsString::from)).collect();
            if let Err(answer) = Args::read(&words) {
                prop_assert!(!answer.text().is_empty() && answer.code <= 1);
            }
        }
    }
}
