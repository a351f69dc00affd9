//! The definition of what can be typed on the command line, after `-e`, and at the prompt.

use std::env;
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, ValueEnum};
use einhorn_proto::{parse_master_name, parse_seconds_above_zero};

use crate::commands::Command;
use crate::mistakes;

/// Control a running einhyrningsins master
///
/// With a COMMAND, sends it, prints the answer and exits. Without one, opens a prompt; if standard input is a file or a
/// pipe, runs its lines as commands, up to the first that fails.
#[derive(Debug, Parser)]
#[command(name = "einhyrningsinsctl", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or /tmp/einhorn.sock]
    #[arg(short = 'd', long, value_name = "PATH", global = true, display_order = GLOBAL)]
    pub(crate) socket_path: Option<PathBuf>,

    /// Name of the master: short for -d /tmp/einhorn-NAME.sock
    #[arg(short = 'c', long, value_name = "NAME", value_parser = parse_master_name, global = true, display_order = GLOBAL)]
    pub(crate) command_name: Option<String>,

    /// Trust a master of this user, by name or number, even if others may put a socket into the directory, as in /tmp
    /// [default: the value of EINHYRNINGSINS_TRUST_OWNER]
    #[arg(long, value_name = "USER", global = true, display_order = GLOBAL)]
    pub(crate) trust_owner: Option<String>,

    /// Run the command on HOST: short for ssh -- HOST einhyrningsinsctl COMMAND
    #[arg(short = 'H', long, value_name = "[USER@]HOST", value_parser = parse_host)]
    pub(crate) host: Option<String>,

    /// Run these commands, separated by ";", up to the first that fails
    #[arg(short = 'e', long, value_name = "COMMANDS")]
    pub(crate) execute: Vec<String>,

    /// When to use colours: auto, always or never
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", hide_possible_values = true)]
    #[arg(global = true, display_order = GLOBAL)]
    pub(crate) color: ColorChoice,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The host, which may not look like an option of ssh.
fn parse_host(text: &str) -> Result<String, String> {
    match text.starts_with('-') || text.is_empty() {
        true => Err("give the name of a host, and a user before an @ if ssh needs one".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Where the options of every command stand in its help: behind its own.
const GLOBAL: usize = 100;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed
  2  bad usage
  3  no master there
  4  the connection broke or the time ran out before the answer
  5  refused because another upgrade or rollback is running
  6  ssh did not reach the host of -H";

/// How to wait for an answer and show it.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct AnswerArgs {
    /// Print each reply as JSON, one per line
    #[arg(long, global = true, display_order = GLOBAL)]
    pub(crate) json: bool,

    /// Give up on the answer after this many seconds [default: 10, but no limit for upgrades and other rollouts,
    /// reload and events]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds_above_zero, global = true, display_order = GLOBAL)]
    pub(crate) timeout: Option<Duration>,
}

/// What can be typed at the prompt or after -e
#[derive(Debug, Parser)]
#[command(
    name = "",
    no_binary_name = true,
    disable_help_subcommand = true,
    override_usage = "COMMAND [ARGS]"
)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Whether the command needs a terminal to show anything.
    pub(crate) fn has_view(&self) -> bool {
        self.command.as_ref().is_some_and(|command| command.0.has_view())
    }

    /// Reads the command line.
    ///
    /// # Errors
    /// clap's, or the help that was asked for.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        // The definition is never taken apart: that takes long, and this program ends soon.
        let mut definition = ManuallyDrop::new(Self::command());
        let read = definition
            .try_get_matches_from_mut(env::args_os())
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches))
            .map_err(|error| error.format(&mut definition));
        read.map_err(|error| {
            let words: Vec<_> = env::args_os().collect();
            mistakes::with_suggestion(error.with_cmd(&clap::Command::new("").color(colour(&words))))
        })
    }
}

/// What `--color` says, although the rest of the line may be wrong.
fn colour(words: &[OsString]) -> ColorChoice {
    let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
    let given = words.iter().zip(words.iter().skip(1).chain([&""])).find_map(|(word, next)| match *word {
        "--color" => Some(*next),
        word => word.strip_prefix("--color="),
    });
    given.and_then(|given| ColorChoice::from_str(given, true).ok()).unwrap_or_default()
}

impl Line {
    /// Reads the words of a command.
    ///
    /// # Errors
    /// clap's, or the help that was asked for.
    pub(crate) fn read(words: &[String]) -> Result<Self, clap::Error> {
        let read = Self::command()
            .try_get_matches_from(words)
            .and_then(|mut matches| Self::from_arg_matches_mut(&mut matches));
        read.map_err(|error| if error.use_stderr() { mistakes::in_line(error) } else { error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use einhorn_proto as proto;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
        Line::command().debug_assert();
    }

    #[test]
    fn each_command_of_the_table_is_here_by_its_name_with_its_summary() {
        let grammar = Line::command();
        for info in proto::COMMANDS.iter().filter(|info| info.is_typed()) {
            let command = grammar.find_subcommand(info.name);
            let command = command.unwrap_or_else(|| panic!("{} is missing", info.name));
            assert_eq!(command.get_about().unwrap().to_string(), info.summary, "{}", info.name);
            assert_eq!(
                command.is_hide_set(),
                info.audience == proto::Audience::UpgradeOption,
                "{}",
                info.name
            );
        }
    }

    fn request(line: &str) -> Result<proto::Command, clap::error::ErrorKind> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.kind())?;
        Ok(line.command.0.request().unwrap())
    }

    fn upgrade(
        fleet: bool,
        canary: Option<u32>,
        soak: Option<Duration>,
        [wait, keep_master, drained]: [bool; 3],
    ) -> proto::Command {
        let plan =
            proto::UpgradeRequest { fleet, canary, soak, wait, keep_master, drained, ..Default::default() };
        proto::Command::Upgrade(plan)
    }

    #[test]
    fn an_upgrade_is_planned_by_options() {
        let (wait, keep_master, drained) = (false, false, false);
        let plan = |fleet, canary, soak| Ok(upgrade(fleet, canary, soak, [wait, keep_master, drained]));
        let waiting = |keep_master, drained| {
            let (fleet, canary, soak, wait) = (true, None, None, true);
            Ok(upgrade(fleet, canary, soak, [wait, keep_master, drained]))
        };
        let label = Some("v1.4 rc".to_owned());
        let labelled = proto::Command::Upgrade(proto::UpgradeRequest { label, ..Default::default() });
        let line = Line::try_parse_from(["upgrade", "--label", " v1.4 rc"]).unwrap();
        assert_eq!(line.command.0.request(), Some(labelled));
        for (line, command) in [
            ("upgrade", plan(false, None, None)),
            ("upgrade --no-wait", plan(false, None, None)),
            ("upgrade --fleet", plan(true, None, None)),
            ("upgrade_fleet --no-wait", plan(true, None, None)),
            ("upgrade --canary 2", plan(false, Some(2), None)),
            ("upgrade --soak 1.5 --canary 2", plan(false, Some(2), Some(Duration::from_millis(1500)))),
            ("upgrade --wait --fleet --keep-master", waiting(true, false)),
            ("upgrade --wait --fleet --drained", waiting(false, true)),
            ("upgrade --fleet --wait --no-wait", waiting(false, false)),
            ("upgrade --continue", Ok(proto::Command::UpgradeContinue)),
            ("upgrade --continue --no-wait", Ok(proto::Command::UpgradeContinue)),
            ("upgrade --abort --timeout 9", Ok(proto::Command::UpgradeAbort)),
            ("upgrade --follow --json", Ok(proto::Command::UpgradeFollow)),
            ("rollback --no-wait", Ok(proto::Command::Rollback)),
        ] {
            assert_eq!(request(line), command, "for {line}");
        }
    }

    #[test]
    fn signals_go_to_all_workers_or_to_some() {
        let signals = || vec![proto::SignalName::new("USR1")];
        let only = |target| Ok(proto::Command::SignalOnly { signals: signals(), target });
        for (line, command) in [
            ("signal USR1", Ok(proto::Command::Signal { signals: signals() })),
            ("signal --slot 2 USR1", only(proto::Target::Slot(2))),
            ("signal USR1 --pid 7", only(proto::Target::Pid(7))),
            ("signal --draining USR1", only(proto::Target::Draining)),
            ("replace --pid 7", Ok(proto::Command::Replace { target: proto::Target::Pid(7) })),
            ("signal 10", Ok(proto::Command::Signal { signals: vec![proto::SignalName::new("10")] })),
        ] {
            assert_eq!(request(line), command, "for {line}");
        }
    }

    #[test]
    fn options_of_the_master_are_one_text_or_words() {
        let settings =
            proto::Settings { max_unacked: Some(proto::MaxUnacked::Auto(8)), ..proto::Settings::default() };
        for line in ["config max_unacked: auto:8", "config {\"max_unacked\":\"auto:8\"}"] {
            assert_eq!(request(line), Ok(proto::Command::Config(settings)), "for {line}");
        }
        assert_eq!(request("config max_unacked: much"), Err(clap::error::ErrorKind::ValueValidation));
    }

    #[test]
    fn contradictory_options_are_refused() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, ValueValidation};
        for (line, kind) in [
            ("upgrade --fleet --canary 1", ArgumentConflict),
            ("upgrade --continue --abort", ArgumentConflict),
            ("upgrade --abort --follow", ArgumentConflict),
            ("upgrade --follow --no-wait", ArgumentConflict),
            ("upgrade --abort --fleet", ArgumentConflict),
            ("upgrade --continue --canary 1", ArgumentConflict),
            ("upgrade --follow --canary 1 --soak 1", ArgumentConflict),
            ("upgrade --follow --wait", ArgumentConflict),
            ("upgrade --wait --abort", ArgumentConflict),
            ("upgrade --keep-master --continue", ArgumentConflict),
            ("upgrade --drained --no-wait", ArgumentConflict),
            ("upgrade --soak 5", MissingRequiredArgument),
            ("upgrade --canary 0", ValueValidation),
            ("upgrade --canary 1 --soak soon", ValueValidation),
            ("signal USR1 17", ValueValidation),
            ("signal --slot 1 --pid 2 USR1", ArgumentConflict),
            ("signal --slot 1", MissingRequiredArgument),
            ("replace", MissingRequiredArgument),
            ("replace --slot 1 --pid 2", ArgumentConflict),
        ] {
            assert_eq!(request(line), Err(kind), "for {line}");
        }
    }

    #[test]
    fn each_command_of_the_table_is_sent_under_its_name_however_it_is_spelt() {
        for info in proto::COMMANDS.iter().filter(|info| info.is_typed()) {
            let argument = match info.name {
                "help" => "--master",
                "replace" => "--slot=3",
                _ if info.usage().contains("COUNT") => "3",
                _ if info.usage().contains("SIGNAL") => "TERM",
                _ => "",
            };
            for name in std::iter::once(&info.name).chain(info.aliases) {
                let words = [*name, argument].into_iter().filter(|word| !word.is_empty());
                let line = Line::try_parse_from(words).unwrap();
                assert_eq!(line.command.0.request().unwrap().name(), info.name);
            }
        }
    }
}
