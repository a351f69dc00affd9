//! What may be typed: on the command line, after `-e`, and at the prompt. One definition for all three.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use einhorn_proto::{self as proto, SignalName};

use crate::error::Error;
use crate::text::wrap;

/// The longest socket path, in bytes: `sun_path` of `unix(7)` has 108, and one is for the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Control a running einhyrningsins master
///
/// With a COMMAND, sends it, shows the answer and exits. Without one, opens a prompt; commands that come
/// on standard input from a file or a pipe are carried out line by line, up to the first that fails.
#[derive(Debug, Parser)]
#[command(name = "einhyrningsinsctl", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Talk to the master with this control socket [default: /tmp/einhorn.sock]
    #[arg(short = 'd', long, value_name = "PATH", global = true)]
    socket_path: Option<PathBuf>,

    /// Talk to the master of this name: short for -d /tmp/einhorn-NAME.sock
    #[arg(short = 'c', long, value_name = "NAME", value_parser = name, global = true)]
    command_name: Option<String>,

    /// Carry these commands out, separated by ";", up to the first that fails
    #[arg(short = 'e', long, value_name = "COMMANDS")]
    execute: Vec<String>,

    #[command(flatten)]
    answer: AnswerArgs,

    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused, or failed
  2  bad usage
  3  no master there
  4  the connection broke, or --timeout passed, before the answer";

/// How an answer is waited for and shown.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct AnswerArgs {
    /// Print the data of each answer as JSON, one line each
    #[arg(long, global = true)]
    json: bool,

    /// Give up on an answer after this many seconds [default: wait on]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, global = true)]
    timeout: Option<Duration>,
}

/// What may be typed at the prompt, or as a part of -e
#[derive(Debug, Parser)]
#[command(
    name = "",
    no_binary_name = true,
    disable_help_subcommand = true,
    override_usage = "COMMAND [ARGS]"
)]
struct Line {
    #[command(flatten)]
    answer: AnswerArgs,

    #[command(subcommand)]
    command: Command,
}

/// The commands. The first line of each is the ledger's, which a test compares.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
#[command(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Show the master, its listeners and every worker
    ///
    /// A worker that has died leaves its cause and age beside its slot; a slot without a worker says when it is
    /// filled again. Long causes are cut to the terminal's width, and whole in a pipe.
    Status,

    /// Replace every worker with one from the current code, one by one
    ///
    /// Shows progress and returns when the upgrade is over: with exit code 0 only if every worker runs the new
    /// release and takes traffic. Ctrl-C leaves; the upgrade goes on in the master.
    Upgrade,

    /// Replace every worker, all at once
    #[command(hide = true, alias = "upgrade-fleet")]
    UpgradeFleet,

    /// Go back to the release before
    #[command(hide = true)]
    Rollback,

    /// Add COUNT workers [default: 1]
    Inc {
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(proto::WORKERS_MAX)))]
        count: Option<u32>,
    },

    /// Remove COUNT workers, draining them [default: 1]
    Dec {
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(proto::WORKERS_MAX)))]
        count: Option<u32>,
    },

    /// Set the number of workers
    #[command(alias = "set-workers")]
    SetWorkers {
        /// How many there shall be
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(proto::WORKERS_MAX)))]
        count: u32,
    },

    /// Fill empty slots now, given up or waiting
    Respawn,

    /// Send signals to every worker; without one, list the signals
    Signal {
        /// Names or numbers of signals, in any case, with or without SIG
        #[arg(value_name = "SIGNAL")]
        signals: Vec<String>,
    },

    /// Stop the workers gracefully, and then the master
    Die {
        /// What to stop the workers with [default: the master's graceful signal]
        signal: Option<String>,
    },

    /// Replace the master itself and keep the workers
    #[command(hide = true)]
    Reload,

    /// Show what happens as it happens
    ///
    /// Ends with Ctrl-C, or when the master exits.
    Events,

    /// Show everything that the master knows, for programs and bug reports
    State,

    /// Make the master's log say more
    Louder,

    /// Make the master's log say less
    Quieter,

    /// Show the versions of master and protocol
    ///
    /// And this client's first, which needs no master.
    Version,

    /// List the commands
    ///
    /// What this client knows, for which no master is needed; with --master, what the master knows.
    Help {
        /// Tell all about this one
        command: Option<String>,

        /// Ask the master
        #[arg(long, conflicts_with = "command")]
        master: bool,
    },
}

impl Command {
    /// What to send to the master; `None` if it is not needed.
    pub(crate) fn request(&self) -> Option<proto::Command> {
        Some(match self {
            Self::Status => proto::Command::Status,
            Self::Upgrade => proto::Command::Upgrade,
            Self::UpgradeFleet => proto::Command::UpgradeFleet,
            Self::Rollback => proto::Command::Rollback,
            Self::Inc { count } => proto::Command::Inc { by: count.unwrap_or(1) },
            Self::Dec { count } => proto::Command::Dec { by: count.unwrap_or(1) },
            Self::SetWorkers { count } => proto::Command::SetWorkers { count: *count },
            Self::Respawn => proto::Command::Respawn,
            Self::Signal { signals } => {
                proto::Command::Signal { signals: signals.iter().map(|name| SignalName::new(name)).collect() }
            }
            Self::Die { signal } => proto::Command::Die { signal: signal.as_deref().map(SignalName::new) },
            Self::Reload => proto::Command::Reload,
            Self::Events => proto::Command::Events,
            Self::State => proto::Command::State,
            Self::Louder => proto::Command::Louder,
            Self::Quieter => proto::Command::Quieter,
            Self::Version => proto::Command::Version,
            Self::Help { master: true, .. } => proto::Command::Help,
            Self::Help { master: false, .. } => return None,
        })
    }
}

/// What is meant by a command line.
#[derive(Debug)]
pub(crate) struct Options {
    /// The control socket.
    pub(crate) socket: PathBuf,
    /// What to do.
    pub(crate) mode: Mode,
    /// How answers are waited for and shown, unless a line says otherwise.
    pub(crate) answer: Answer,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Mode {
    /// Carry these out, and exit.
    Once(Vec<Input>),
    /// Read commands from standard input.
    Prompt,
}

/// How an answer is waited for and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// Its data as JSON.
    pub(crate) json: bool,
    /// The bound for all of it.
    pub(crate) timeout: Option<Duration>,
}

impl Answer {
    /// What holds for a line with arguments of its own.
    fn with(self, args: AnswerArgs) -> Self {
        Self { json: self.json || args.json, timeout: args.timeout.or(self.timeout) }
    }
}

/// One thing that was asked for.
#[derive(Debug)]
pub(crate) enum Input {
    /// A command.
    Command(Command, Answer),
    /// A text to show, such as the help of a command.
    Text(String),
}

impl Options {
    /// Checks what was typed.
    ///
    /// # Errors
    /// [`Error`] of kind usage. All of `-e` is read before any of it is carried out.
    pub(crate) fn check(cli: Cli) -> Result<Self, Error> {
        let socket = socket_path(cli.socket_path, cli.command_name)?;
        let answer = Answer::default().with(cli.answer);
        let mode = match (cli.command, cli.execute.as_slice()) {
            (Some(_), [_, ..]) => return Err(Error::Usage("give a COMMAND or -e, not both".into())),
            (Some(Command::Help { command, master: false }), []) => {
                Mode::Once(vec![Input::Text(help_in(Cli::command(), command.as_deref())?)])
            }
            (Some(command), []) => Mode::Once(vec![Input::Command(command, answer)]),
            (None, []) => Mode::Prompt,
            (None, scripts) => Mode::Once(read_scripts(scripts, answer)?),
        };
        Ok(Self { socket, mode, answer })
    }
}

fn socket_path(path: Option<PathBuf>, name: Option<String>) -> Result<PathBuf, Error> {
    let path = match (path, name) {
        (Some(_), Some(_)) => return Err(Error::Usage("give -d PATH or -c NAME, not both".into())),
        (Some(path), None) => path,
        (None, Some(name)) => PathBuf::from(format!("/tmp/einhorn-{name}.sock")),
        (None, None) => PathBuf::from("/tmp/einhorn.sock"),
    };
    check_length(&path)?;
    Ok(path)
}

fn check_length(path: &Path) -> Result<(), Error> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        return Err(Error::PathTooLong { path: path.into(), length, max: SOCKET_PATH_BYTES_MAX });
    }
    Ok(())
}

fn read_scripts(scripts: &[String], answer: Answer) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for script in scripts {
        inputs.extend(read_line(script, answer)?);
    }
    if inputs.is_empty() {
        return Err(Error::Usage("-e was given no command".into()));
    }
    Ok(inputs)
}

/// Reads a line of commands: split at `;`, then into words as a shell does, so that quotes and `#`
/// comments work. A quote does not keep a `;`, which no argument needs.
///
/// # Errors
/// [`Error`] of kind usage.
pub(crate) fn read_line(line: &str, answer: Answer) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for text in line.split(';') {
        let words = shell_words::split(text).map_err(|_| Error::Quote { text: text.trim().into() })?;
        if words.is_empty() {
            continue;
        }
        inputs.push(match Line::try_parse_from(words) {
            Ok(line) => Input::Command(line.command, answer.with(line.answer)),
            Err(error) if error.use_stderr() => return Err(Error::Clap(error)),
            Err(help) => Input::Text(help.render().to_string()),
        });
    }
    Ok(inputs)
}

/// Tells what there is to type at the prompt, or all about `command`.
///
/// # Errors
/// [`Error`] of kind usage if there is no such command.
pub(crate) fn help(command: Option<&str>) -> Result<String, Error> {
    match command {
        None => Ok(overview()),
        Some(_) => help_in(Line::command(), command),
    }
}

/// What `--help` says, of `command` if given.
fn help_in(mut grammar: clap::Command, command: Option<&str>) -> Result<String, Error> {
    grammar.build();
    let about = match command {
        None => Some(&mut grammar),
        Some(name) => grammar.find_subcommand_mut(name),
    };
    match about {
        // At the prompt there is no program's name to stand before the command's, and clap leaves its gap.
        Some(about) => Ok(about.render_long_help().to_string().replacen("Usage:  ", "Usage: ", 1)),
        None => {
            let name = command.unwrap_or_default();
            Err(Error::Usage(format!("there is no command \"{name}\"; \"help\" lists the commands")))
        }
    }
}

/// The width of the overview: what every terminal has.
const HELP_COLUMNS: usize = 80;

fn overview() -> String {
    let mut text = String::from("Commands:\n");
    for command in prompt_grammar().get_subcommands().filter(|command| !command.is_hide_set()) {
        let info = proto::command_info(command.get_name());
        let mut usage = format!("{} {}", command.get_name(), info.map_or("", |info| info.arguments));
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        for line in wrap(&about, HELP_COLUMNS - 22) {
            text.push_str(&format!("  {usage:<18}  {line}\n"));
            usage.clear();
        }
    }
    text.push_str(
        "\nEach takes --json and --timeout SECONDS; \"help COMMAND\" tells all about one.\n\
         \";\" stands between several on a line; \"quit\", \"exit\" or Ctrl-D leaves.\n",
    );
    text
}

/// The clap definition of a line, for help and completion.
pub(crate) fn prompt_grammar() -> clap::Command {
    let mut grammar = Line::command();
    grammar.build();
    grammar
}

/// Reads the name of a master, which becomes part of a file name.
fn name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        _ if text.contains('/') => Err("a name has no \"/\"; give a path with -d".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Reads a number of seconds, decimals allowed.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("must be more than 0".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Result<Options, Error> {
        let name = ["einhyrningsinsctl"];
        Options::check(Cli::try_parse_from(name.iter().chain(args)).map_err(Error::Clap)?)
    }

    fn commands(line: &str) -> Vec<Command> {
        let inputs = read_line(line, Answer::default()).unwrap();
        inputs
            .into_iter()
            .map(|input| match input {
                Input::Command(command, _) => command,
                Input::Text(text) => panic!("{line} printed {text}"),
            })
            .collect()
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
        Line::command().debug_assert();
    }

    #[test]
    fn each_command_of_the_ledger_is_here_by_its_name_with_its_summary() {
        let grammar = prompt_grammar();
        for info in proto::COMMANDS.iter().filter(|info| info.interactive) {
            let command = grammar.find_subcommand(info.name);
            let command = command.unwrap_or_else(|| panic!("{} is missing", info.name));
            assert_eq!(command.get_about().unwrap().to_string(), info.summary, "{}", info.name);
            assert_eq!(command.is_hide_set(), info.support == proto::Support::Reserved, "{}", info.name);
        }
    }

    #[test]
    fn each_command_of_the_ledger_is_sent_under_its_name_however_it_is_spelt() {
        for info in proto::COMMANDS.iter().filter(|info| info.interactive) {
            let argument = match info.name {
                "help" => "--master",
                _ if info.arguments.contains("COUNT") => "3",
                _ if info.arguments.contains("SIGNAL") => "TERM",
                _ => "",
            };
            for name in [info.name, &info.name.replace('_', "-")] {
                let [command] = commands(&format!("{name} {argument}")).try_into().unwrap();
                assert_eq!(command.request().unwrap().name(), info.name);
            }
        }
    }

    #[test]
    fn a_line_is_split_at_semicolons_and_then_by_shell_rules() {
        assert_eq!(
            commands("inc; signal 'USR1' \"term\" # both;  ; status;"),
            [
                Command::Inc { count: None },
                Command::Signal { signals: vec!["USR1".into(), "term".into()] },
                Command::Status
            ]
        );
        assert!(commands(" # nothing").is_empty());
    }

    #[test]
    fn a_line_may_have_options_of_its_own() {
        let outer = Answer { json: false, timeout: Some(Duration::from_secs(9)) };
        let inputs = read_line("status --json; --timeout 1.5 inc 2", outer).unwrap();
        let answers: Vec<_> = inputs
            .iter()
            .map(|input| match input {
                Input::Command(_, answer) => *answer,
                Input::Text(text) => panic!("{text}"),
            })
            .collect();
        assert_eq!(answers[0], Answer { json: true, ..outer });
        assert_eq!(answers[1], Answer { json: false, timeout: Some(Duration::from_millis(1500)) });
    }

    #[test]
    fn options_come_before_or_after_the_command() {
        for args in [["-d", "/x", "--json", "status"], ["status", "--json", "-d", "/x"]] {
            let options = options(&args).unwrap();
            assert_eq!(options.socket, Path::new("/x"));
            let Mode::Once(inputs) = options.mode else { panic!() };
            assert!(matches!(
                inputs.as_slice(),
                [Input::Command(Command::Status, Answer { json: true, .. })]
            ));
        }
    }

    #[test]
    fn the_socket_is_found_by_name() {
        assert_eq!(options(&[]).unwrap().socket, Path::new("/tmp/einhorn.sock"));
        assert_eq!(options(&["-c", "web"]).unwrap().socket, Path::new("/tmp/einhorn-web.sock"));
    }

    #[test]
    fn each_mistake_is_named() {
        let long = "x".repeat(108);
        for (args, message) in [
            (&["-d", "/x", "-c", "web"][..], "give -d PATH or -c NAME, not both"),
            (&["-d", "/x", "status", "-c", "web"], "give -d PATH or -c NAME, not both"),
            (&["-e", "inc", "status"], "give a COMMAND or -e, not both"),
            (&["-e", " ; "], "-e was given no command"),
            (&["-e", "inc; signal 'USR1"], "cannot read \"signal 'USR1\": a quote is not closed"),
            (
                &["-d", &long],
                &format!("the socket path {long} has 108 bytes, and the system takes at most 107"),
            ),
        ] {
            let error = options(args).unwrap_err();
            assert_eq!(error.to_string(), message, "for {args:?}");
            assert_eq!(error.kind().exit_code(), 2);
        }
        for args in [
            &["stauts"][..],
            &["inc", "0"],
            &["inc", "10001"],
            &["set_workers"],
            &["-d", ""],
            &["-c", ""],
            &["-c", "run/web"],
            &["status", "now"],
            &["--timeout", "0"],
            &["--timeout", "-1"],
            &["--timeout", "NaN"],
            &["--timeout", "soon"],
            &["-e", "status; stauts"],
            &["help", "status", "--master"],
        ] {
            assert_eq!(options(args).unwrap_err().kind().exit_code(), 2, "for {args:?}");
        }
    }

    #[test]
    fn help_at_the_prompt_fits_eighty_columns() {
        assert!(help(None).unwrap().lines().all(|line| line.len() <= 80), "{}", help(None).unwrap());
        assert!(help(None).unwrap().contains("  set_workers COUNT   Set the number of workers\n"));
        let of_one = help(Some("set-workers")).unwrap();
        assert!(of_one.starts_with("Set the number of workers\n\nUsage: set_workers [OPTIONS] <COUNT>\n"));
        assert!(help(Some("stauts")).is_err());
    }
}
