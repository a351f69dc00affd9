//! What may be typed: on the command line, after `-e`, and at the prompt. One definition for all three.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use einhorn_proto::{self as proto, SignalName};

use crate::socket::master_name;

/// Control a running einhyrningsins master
///
/// With a COMMAND, sends it, shows the answer and exits. Without one, opens a prompt; commands that come
/// on standard input from a file or a pipe are carried out line by line, up to the first that fails.
#[derive(Debug, Parser)]
#[command(name = "einhyrningsinsctl", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Talk to the master with this control socket [default: /tmp/einhorn.sock]
    #[arg(short = 'd', long, value_name = "PATH", global = true)]
    pub(crate) socket_path: Option<PathBuf>,

    /// Talk to the master of this name: short for -d /tmp/einhorn-NAME.sock
    #[arg(short = 'c', long, value_name = "NAME", value_parser = master_name, global = true)]
    pub(crate) command_name: Option<String>,

    /// Carry these commands out, separated by ";", up to the first that fails
    #[arg(short = 'e', long, value_name = "COMMANDS")]
    pub(crate) execute: Vec<String>,

    #[command(flatten)]
    pub(crate) answer: AnswerArgs,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
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
    pub(crate) json: bool,

    /// Give up on an answer after this many seconds [default: wait on]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, global = true)]
    pub(crate) timeout: Option<Duration>,
}

/// What may be typed at the prompt, or as a part of -e
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

/// The commands. The first line of each is the ledger's, which a test compares.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
#[command(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Show the master, its listeners and every worker
    ///
    /// A worker that has died leaves its cause and age beside its slot; a slot without a worker says when it is
    /// filled again. Long causes are cut to the terminal's width, and whole in a pipe.
    Status {
        /// Show nothing, and exit with 0 if every slot has a worker up and the master is not stopping; else with 1, and
        /// the reason on standard error. For probes
        #[arg(long)]
        ready: bool,
    },

    /// Replace every worker with one from the current code, one by one
    ///
    /// Shows progress and returns when the upgrade is over: with exit code 0 only if every worker runs the new
    /// release and takes traffic. If the new release fails, the master goes back to the one before by itself,
    /// and this tells why, with exit code 1. Ctrl-C leaves; the upgrade goes on in the master.
    Upgrade(UpgradeArgs),

    /// Replace every worker, all new ones at once
    ///
    /// The same as "upgrade --fleet".
    #[command(alias = "upgrade-fleet")]
    UpgradeFleet {
        #[command(flatten)]
        leave: LeaveArgs,
    },

    /// End the soak of the upgrade that runs: the rest follows
    ///
    /// The same as "upgrade --continue".
    #[command(hide = true, alias = "upgrade-continue")]
    UpgradeContinue {
        #[command(flatten)]
        leave: LeaveArgs,
    },

    /// End the upgrade that runs, and go back
    ///
    /// The same as "upgrade --abort".
    #[command(hide = true, alias = "upgrade-abort")]
    UpgradeAbort {
        #[command(flatten)]
        leave: LeaveArgs,
    },

    /// Follow the upgrade that runs to its end
    ///
    /// The same as "upgrade --follow".
    #[command(hide = true, alias = "upgrade-follow")]
    UpgradeFollow,

    /// Go back to the release before
    ///
    /// During an upgrade, ends it as "upgrade --abort" does. After one, replaces every worker again, with one
    /// from the release before, which is kept until the next upgrade begins. Exit code 0 only if every worker
    /// runs that release again and takes traffic.
    Rollback {
        #[command(flatten)]
        leave: LeaveArgs,
    },

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
    ///
    /// Returns when the program that was there to take its place runs in it, with exit code 0. If that cannot go on
    /// where the master stands, the master stays, and this tells why, with exit code 1.
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

/// How to upgrade; or what to do with the upgrade that runs, which stands alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("plan").multiple(true), group = clap::ArgGroup::new("running").conflicts_with("plan"))]
pub(crate) struct UpgradeArgs {
    /// Start all new workers at once; the old ones go when all of them have acked
    #[arg(long, group = "plan")]
    pub(crate) fleet: bool,

    /// Replace this many workers first, and the rest after the soak
    ///
    /// If one of them dies during the soak, the upgrade has failed.
    #[arg(long, value_name = "COUNT", group = "plan", conflicts_with = "fleet")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(proto::WORKERS_MAX)))]
    pub(crate) canary: Option<u32>,

    /// How long to watch the first few [default: until "upgrade --continue"]
    #[arg(long, value_name = "SECONDS", group = "plan", requires = "canary", value_parser = seconds)]
    pub(crate) soak: Option<Duration>,

    /// End the soak of the upgrade that runs: the rest follows
    #[arg(long = "continue", group = "running")]
    pub(crate) go_on: bool,

    /// End the upgrade that runs, and go back; exit code 0 once that is done
    #[arg(long, group = "running")]
    pub(crate) abort: bool,

    /// Follow the upgrade that runs to its end
    #[arg(long, group = "running", conflicts_with = "no_wait")]
    pub(crate) follow: bool,

    #[command(flatten)]
    pub(crate) leave: LeaveArgs,
}

impl UpgradeArgs {
    fn request(&self) -> proto::Command {
        let Self { fleet, canary, soak, go_on, abort, follow, .. } = *self;
        match (go_on, abort, follow) {
            (true, _, _) => proto::Command::UpgradeContinue,
            (_, true, _) => proto::Command::UpgradeAbort,
            (_, _, true) => proto::Command::UpgradeFollow,
            _ => proto::Command::Upgrade { fleet, canary, soak },
        }
    }
}

/// Whether to wait for the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub(crate) struct LeaveArgs {
    /// Return as soon as the master has begun, and do not wait for the end
    #[arg(long)]
    pub(crate) no_wait: bool,
}

impl Command {
    /// What to send to the master; `None` if it is not needed.
    pub(crate) fn request(&self) -> Option<proto::Command> {
        Some(match self {
            Self::Status { .. } => proto::Command::Status,
            Self::Upgrade(args) => args.request(),
            Self::UpgradeFleet { .. } => proto::Command::Upgrade { fleet: true, canary: None, soak: None },
            Self::UpgradeContinue { .. } => proto::Command::UpgradeContinue,
            Self::UpgradeAbort { .. } => proto::Command::UpgradeAbort,
            Self::UpgradeFollow => proto::Command::UpgradeFollow,
            Self::Rollback { .. } => proto::Command::Rollback,
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
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
        Line::command().debug_assert();
    }

    #[test]
    fn each_command_of_the_ledger_is_here_by_its_name_with_its_summary() {
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
        Ok(line.command.request().unwrap())
    }

    #[test]
    fn an_upgrade_is_planned_by_options() {
        let plan = |fleet, canary, soak| Ok(proto::Command::Upgrade { fleet, canary, soak });
        for (line, command) in [
            ("upgrade", plan(false, None, None)),
            ("upgrade --no-wait", plan(false, None, None)),
            ("upgrade --fleet", plan(true, None, None)),
            ("upgrade_fleet --no-wait", plan(true, None, None)),
            ("upgrade --canary 2", plan(false, Some(2), None)),
            ("upgrade --soak 1.5 --canary 2", plan(false, Some(2), Some(Duration::from_millis(1500)))),
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
    fn what_contradicts_itself_is_no_upgrade() {
        use clap::error::ErrorKind::{ArgumentConflict, MissingRequiredArgument, ValueValidation};
        for (line, kind) in [
            ("upgrade --fleet --canary 1", ArgumentConflict),
            ("upgrade --continue --abort", ArgumentConflict),
            ("upgrade --abort --follow", ArgumentConflict),
            ("upgrade --follow --no-wait", ArgumentConflict),
            ("upgrade --abort --fleet", ArgumentConflict),
            ("upgrade --continue --canary 1", ArgumentConflict),
            ("upgrade --follow --canary 1 --soak 1", ArgumentConflict),
            ("upgrade --soak 5", MissingRequiredArgument),
            ("upgrade --canary 0", ValueValidation),
            ("upgrade --canary 1 --soak soon", ValueValidation),
        ] {
            assert_eq!(request(line), Err(kind), "for {line}");
        }
    }

    #[test]
    fn each_command_of_the_ledger_is_sent_under_its_name_however_it_is_spelt() {
        for info in proto::COMMANDS.iter().filter(|info| info.is_typed()) {
            let argument = match info.name {
                "help" => "--master",
                _ if info.usage().contains("COUNT") => "3",
                _ if info.usage().contains("SIGNAL") => "TERM",
                _ => "",
            };
            for name in [info.name, &info.name.replace('_', "-")] {
                let words = [name, argument].into_iter().filter(|word| !word.is_empty());
                let line = Line::try_parse_from(words).unwrap();
                assert_eq!(line.command.request().unwrap().name(), info.name);
            }
        }
    }
}
