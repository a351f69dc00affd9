//! The table of commands: how each is called, read and described.
//!
//! Parsing and `help` work from this table, and so do the client's parser, completion and hints; tests compare it
//! with the manual pages. A new command is a variant of [`Command`] and a row here, then a handler in the master, and
//! a file in the client if its answer or its options need one.

use std::fmt;

use super::arguments::Arguments;
use super::{Command, SignalName, UpgradeRequest};
use crate::{RequestErrorKind, Target};

/// The version of the control protocol that this crate speaks.
///
/// It grows when a command, a field or an event is added. What a version added stays:
///
/// 1. The commands whose row says so, and the fields and events of einhorn-control(7).
/// 2. `counts` in the progress of a rollout: [`crate::Counts`].
/// 3. `signal_only`, `replace` and `reopen`; `ack_mode` in a status; `hint` in the report of a rollout; `refused` in a
///    reply; `wait`, `keep_master`, `drained`, `label`, `check`, `no_check`, `soak_check`, `every` and `soak_failures` in `upgrade`;
///    `history`; `metrics`; `start_ticks` of a worker; `left` and `check` and `untouched` in the report of a rollout; `last_upgrade`, `lasting` and `leftovers` in a status;
///    `auto` as `max_unacked` of `config`; `unsignallable` of a worker; `ending` of one that drained;
///    the events `release_unchanged`, `still_draining`, `leftovers_gone`, `upgrade_reported` and `time_lost`;
///    `config_show`; the reason `owner_only` of a refusal; `label` of a release and `max_rss` in a status; `ack_within_ms` in the counts and in the status of a rollout; `options` in the report of a rollout; the event `option_changed`;
///    the events `check_started`, `check_passed` and `canary_check_failed`; the stage `checking`; null as the `slot` of a worker
///    on trial.
pub const PROTOCOL_VERSION: u32 = 3;

/// What a command is for, which decides what a client does when its answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandClass {
    /// Reads something and changes nothing.
    Question,
    /// Changes the pool, its options or the master, and is answered at once.
    Change,
    /// Starts, steers or follows a rollout, and is answered when the rollout has ended.
    Rollout,
    /// A worker's own message, accepted only from that worker; it is not answered.
    Worker,
}

/// Who types a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// People.
    People,
    /// People, who usually give it as an option of `upgrade`.
    UpgradeOption,
    /// Nobody: programs send it.
    Programs,
}

/// How a request may give an argument, beside by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As the next of the positional `args`.
    Next,
    /// As all the rest of the positional `args`.
    Rest,
    /// Not by position.
    NamedOnly,
}

/// An argument of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// The field that gives it by name.
    pub field: &'static str,
    /// How help shows it: `COUNT`, or `[COUNT]` if it may be left out.
    pub usage: &'static str,
    /// Where it stands among the positional `args`.
    pub place: Place,
    /// What it is, in one line.
    pub help: &'static str,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct CommandInfo {
    /// Its name on the wire.
    pub name: &'static str,
    /// Other spellings that the client accepts from people; the wire has `name` only.
    pub aliases: &'static [&'static str],
    /// What other programs call it. Nothing accepts these words; messages suggest the command instead.
    pub elsewhere: &'static [&'static str],
    /// Its arguments, positional ones first and in order.
    pub arguments: &'static [Argument],
    /// The protocol version that added it.
    pub since: u32,
    /// What it is for.
    pub class: CommandClass,
    /// Whether its answer is for the master's user and root alone, though it changes nothing.
    pub is_private: bool,
    /// Who types it.
    pub audience: Audience,
    /// What it does, in one line.
    pub summary: &'static str,
    pub(super) read: Read,
}

type Read = fn(&Arguments<'_>) -> Result<Command, RequestErrorKind>;

impl CommandInfo {
    const fn new(class: CommandClass, name: &'static str, summary: &'static str, read: Read) -> Self {
        let audience = Audience::People;
        Self {
            name,
            aliases: &[],
            elsewhere: &[],
            arguments: &[],
            since: 1,
            class,
            is_private: false,
            audience,
            summary,
            read,
        }
    }

    const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn elsewhere(self, elsewhere: &'static [&'static str]) -> Self {
        Self { elsewhere, ..self }
    }

    const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    const fn takes(self, arguments: &'static [Argument]) -> Self {
        Self { arguments, ..self }
    }

    const fn typed_by(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }

    const fn private(self) -> Self {
        Self { is_private: true, ..self }
    }

    /// Whether an observer may send it, which is a client that `--observe-group` lets in to ask questions. The answer shows nothing
    /// that the master's log and `ps` do not show.
    #[must_use]
    pub fn is_for_observers(&self) -> bool {
        self.class == CommandClass::Question && !self.is_private
    }

    /// Whether people type it at the native client.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        matches!(self.audience, Audience::People | Audience::UpgradeOption)
    }

    /// Its name and positional arguments, as help shows them: `inc [COUNT]`.
    #[must_use]
    pub fn usage(&self) -> String {
        let arguments = self.arguments.iter().filter(|argument| argument.place != Place::NamedOnly);
        arguments.fold(self.name.to_owned(), |usage, argument| format!("{usage} {}", argument.usage))
    }
}

/// Name, usage and summary in two columns: a line of `help`.
impl fmt::Display for CommandInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22} {}", self.usage(), self.summary)
    }
}

const fn next(field: &'static str, usage: &'static str, help: &'static str) -> Argument {
    Argument { field, usage, place: Place::Next, help }
}

const fn rest(field: &'static str, usage: &'static str, help: &'static str) -> Argument {
    Argument { place: Place::Rest, ..next(field, usage, help) }
}

const fn named(field: &'static str, usage: &'static str, help: &'static str) -> Argument {
    Argument { place: Place::NamedOnly, ..next(field, usage, help) }
}

const BY: Argument = next("by", "[COUNT]", "How many");
const CHECK: Argument =
    named("check", "CMDLINE", "What checks the new release, in place of the master's own command");
const CANARY: Argument = named("canary", "COUNT", "How many workers to replace before the soak");
const DRAINING: Argument = named("draining", "BOOL", "Every draining worker");
const DRAINED: Argument = named("drained", "BOOL", "Whether the answer waits for the last old worker");
const EVERY: Argument = named("every", "SECONDS", "From the end of one check of the canaries to the next");
const FLEET: Argument = named("fleet", "BOOL", "Whether to start all new workers at once");
const KEEP_MASTER: Argument = named(
    "keep_master",
    "BOOL",
    "Whether to upgrade the workers even if the master cannot be replaced first",
);
const LABEL: Argument = named("label", "TEXT", "What the release is called in the history");
const NUMBER: Argument = next("count", "COUNT", "The new number of workers");
const OPTIONS: Argument = rest("options", "[OPTIONS]", "A map of options in YAML");
const OF_PID: Argument = named("pid", "PID", "The worker with this pid");
const OF_SLOT: Argument = named("slot", "SLOT", "The worker that has this slot");
const PID: Argument = next("pid", "PID", "The worker's pid");
const REQUEST_ID: Argument = next("request_id", "[REQUEST_ID]", "The worker's own name for the ping");
const SIGNAL: Argument =
    next("signal", "[SIGNAL]", "The signal to stop the workers with [default: the master's graceful signal]");
const SIGNALS: Argument =
    rest("signal", "[SIGNAL...]", "Names of signals, in any case, with or without SIG; a number only alone");
const NO_CHECK: Argument = named("no_check", "BOOL", "Whether to leave out the check of the new release");
const SOAK: Argument = named("soak", "SECONDS", "How long the soak lasts");
const SOAK_CHECK: Argument = named("soak_check", "CMDLINE", "What checks the canaries during the soak");
const SOAK_FAILURES: Argument =
    named("soak_failures", "COUNT", "How many checks of the canaries may fail before the upgrade does");
const USER: Argument = next("user", "[USER]", "Who connects");
const WAIT: Argument =
    named("wait", "BOOL", "Whether to begin once the upgrades that run and wait have ended");

const fn question(name: &'static str, summary: &'static str, read: Read) -> CommandInfo {
    CommandInfo::new(CommandClass::Question, name, summary, read)
}

const fn change(name: &'static str, summary: &'static str, read: Read) -> CommandInfo {
    CommandInfo::new(CommandClass::Change, name, summary, read)
}

const fn rollout(name: &'static str, summary: &'static str, read: Read) -> CommandInfo {
    CommandInfo::new(CommandClass::Rollout, name, summary, read)
}

const fn worker(name: &'static str, summary: &'static str, read: Read) -> CommandInfo {
    CommandInfo::new(CommandClass::Worker, name, summary, read).typed_by(Audience::Programs)
}

/// Makes the table, and the way from a command to its row; the compiler refuses a command without one.
macro_rules! table {
    ($($command:pat => $row:expr,)*) => {
        /// Every command, in the order in which help lists them.
        pub const COMMANDS: &[CommandInfo] = &[$($row),*];

        impl Command {
            /// The command's row in the table.
            #[must_use]
            pub fn info(&self) -> &'static CommandInfo {
                match self {
                    $($command => const { &$row },)*
                }
            }
        }
    };
}

table! {
    Command::Status => question("status", "Show the master, its listeners and every worker", |_| Ok(Command::Status))
        .elsewhere(&["ps", "info", "show"]),
    Command::Upgrade(UpgradeRequest { fleet: false, .. }) => rollout(
        "upgrade",
        "Replace every worker with one from the current code, one by one",
        |args| args.upgrade(args.flag("fleet")?),
    )
    .elsewhere(&["restart", "restart_all", "reload_all", "deploy"])
    .takes(&[FLEET, CANARY, SOAK, WAIT, KEEP_MASTER, DRAINED, CHECK, NO_CHECK, SOAK_CHECK, EVERY, SOAK_FAILURES, LABEL]),
    Command::Upgrade(UpgradeRequest { fleet: true, .. }) => rollout(
        "upgrade_fleet",
        "Replace every worker, all new ones at once",
        |args| args.upgrade(true),
    )
    .alias(&["upgrade-fleet"]),
    Command::UpgradeContinue => rollout(
        "upgrade_continue",
        "End the soak of the running upgrade and replace the rest",
        |_| Ok(Command::UpgradeContinue),
    )
    .alias(&["upgrade-continue"])
    .typed_by(Audience::UpgradeOption),
    Command::UpgradeAbort => rollout(
        "upgrade_abort",
        "Abort the running upgrade and roll it back",
        |_| Ok(Command::UpgradeAbort),
    )
    .alias(&["upgrade-abort"])
    .typed_by(Audience::UpgradeOption),
    Command::UpgradeFollow => rollout(
        "upgrade_follow",
        "Follow the running upgrade until it ends",
        |_| Ok(Command::UpgradeFollow),
    )
    .alias(&["upgrade-follow"])
    .typed_by(Audience::UpgradeOption),
    Command::Rollback => rollout("rollback", "Go back to the previous release", |_| Ok(Command::Rollback))
        .elsewhere(&["undo", "revert"]),
    Command::Inc { .. } => change(
        "inc",
        "Add COUNT workers [default: 1]",
        |args| Ok(Command::Inc { by: args.count("by")?.unwrap_or(1) }),
    )
    .takes(&[BY]),
    Command::Dec { .. } => change(
        "dec",
        "Remove COUNT workers, draining them [default: 1]",
        |args| Ok(Command::Dec { by: args.count("by")?.unwrap_or(1) }),
    )
    .takes(&[BY]),
    Command::SetWorkers { .. } => change(
        "set_workers",
        "Set the number of workers",
        |args| Ok(Command::SetWorkers { count: args.required("count", Arguments::count)? }),
    )
    .alias(&["set-workers"])
    .elsewhere(&["scale", "resize", "workers"])
    .takes(&[NUMBER]),
    Command::Respawn => change(
        "respawn",
        "Fill empty slots now, including those that were given up",
        |_| Ok(Command::Respawn),
    ),
    Command::Signal { .. } => change(
        "signal",
        "Send signals to every worker; without any, list the signals",
        |args| Ok(Command::Signal { signals: args.signals("signal")? }),
    )
    .elsewhere(&["kill"])
    .takes(&[SIGNALS]),
    Command::Replace { .. } => change(
        "replace",
        "Replace one worker, its successor first",
        |args| match args.target()? {
            Target::Draining => Err(args.refused("draining", "are replaced already")),
            target => Ok(Command::Replace { target }),
        },
    )
    .takes(&[OF_SLOT, OF_PID])
    .since(3),
    Command::Die { .. } => change(
        "die",
        "Stop the workers gracefully, then the master",
        |args| Ok(Command::Die { signal: args.text("signal")?.as_deref().map(SignalName::new) }),
    )
    .elsewhere(&["stop", "shutdown", "terminate"])
    .takes(&[SIGNAL]),
    Command::Reload => change(
        "reload",
        "Replace the master itself and keep the workers",
        |_| Ok(Command::Reload),
    ),
    Command::History => question(
        "history",
        "Show the last rollouts: when, who asked, which release, and how each ended",
        |_| Ok(Command::History),
    )
    .elsewhere(&["rollouts", "deploys"])
    .since(3),
    Command::Metrics => question(
        "metrics",
        "Show counts, queues, memory and CPU time, for Prometheus",
        |_| Ok(Command::Metrics),
    )
    .elsewhere(&["stats", "statistics", "prometheus"])
    .since(3),
    Command::Events => question("events", "Show events as they happen", |_| Ok(Command::Events))
        .elsewhere(&["logs", "tail", "watch"]),
    Command::State => question(
        "state",
        "Show the master's whole state, for programs and bug reports",
        |_| Ok(Command::State),
    )
    .private(),
    Command::Louder => change("louder", "Make the master's log more verbose", |_| Ok(Command::Louder)),
    Command::Quieter => change("quieter", "Make the master's log less verbose", |_| Ok(Command::Quieter)),
    Command::Reopen => change("reopen", "Open the log file again, after a rotation", |_| Ok(Command::Reopen)).since(3),
    Command::Version => question(
        "version",
        "Show the versions of the master and the protocol",
        |_| Ok(Command::Version),
    ),
    Command::Help => question("help", "List the commands", |_| Ok(Command::Help)),
    Command::Config(_) => change(
        "config",
        "Change options of the running master, by a map in YAML",
        |args| args.settings().map(Command::Config),
    )
    .takes(&[OPTIONS]),
    Command::ConfigShow => question(
        "config_show",
        "Show each option of the running master, and where its value came from",
        |_| Ok(Command::ConfigShow),
    )
    .private()
    .typed_by(Audience::Programs)
    .since(3),
    Command::Ehlo { .. } => question(
        "ehlo",
        "Greet the master",
        |args| Ok(Command::Ehlo { user: args.text("user")? }),
    )
    .takes(&[USER])
    .typed_by(Audience::Programs),
    Command::SignalOnly { .. } => change(
        "signal_only",
        "Send signals to some workers",
        |args| match args.signals("signal")? {
            signals if signals.is_empty() => Err(args.refused("signal", "is missing")),
            signals => Ok(Command::SignalOnly { signals, target: args.target()? }),
        },
    )
    .takes(&[SIGNALS, OF_SLOT, OF_PID, DRAINING])
    .typed_by(Audience::Programs)
    .since(3),
    Command::WorkerAck { .. } => worker(
        "worker:ack",
        "Report that a worker takes traffic",
        |args| Ok(Command::WorkerAck { pid: args.required("pid", Arguments::pid)? }),
    )
    .takes(&[PID]),
    Command::WorkerPing { .. } => worker(
        "worker:ping",
        "Report that a worker is still healthy",
        |args| Ok(Command::WorkerPing {
            pid: args.required("pid", Arguments::pid)?,
            request_id: args.text("request_id")?,
        }),
    )
    .takes(&[PID, REQUEST_ID]),
}

/// The row of the command `name`, or of the command that has `name` as an alias.
#[must_use]
pub fn command_info(name: &str) -> Option<&'static CommandInfo> {
    COMMANDS.iter().find(|info| info.name == name || info.aliases.contains(&name))
}

/// The row of the command that other programs call `word`, in any case, with `-` or `_`.
#[must_use]
pub fn command_elsewhere(word: &str) -> Option<&'static CommandInfo> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    COMMANDS.iter().find(|info| info.elsewhere.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn every_command_is_read_by_its_name_and_knows_its_row() {
        for info in COMMANDS {
            let line = format!(r#"{{"command":"{}","args":[]}}"#, info.name);
            match Request::from_json(line.as_bytes()) {
                Ok(request) => assert_eq!(request.command.name(), info.name),
                Err(error) => assert!(
                    matches!(error.kind, RequestErrorKind::BadArgument { .. }),
                    "{}: {error}",
                    info.name
                ),
            }
        }
    }

    #[test]
    fn no_name_means_two_commands_and_none_is_newer_than_the_protocol() {
        for info in COMMANDS {
            let spellings = || std::iter::once(&info.name).chain(info.aliases);
            for spelling in spellings() {
                assert_eq!(command_info(spelling).unwrap().name, info.name);
            }
            assert!((1..=PROTOCOL_VERSION).contains(&info.since), "{}", info.name);
        }
    }

    /// Each is named here, so that whoever adds a command decides.
    #[test]
    fn observers_may_send_these_and_no_other() {
        for info in COMMANDS {
            let may = match info.name {
                "status" | "history" | "metrics" | "events" | "version" | "help" | "ehlo" => true,
                // The first has everything, whatever that will be; the second the options of a file that others may not read.
                "state" | "config_show" => false,
                "upgrade" | "upgrade_fleet" | "upgrade_continue" | "upgrade_abort" | "rollback" => false,
                // It is answered at the end of the rollout, and holds a place until then. `events` shows the same.
                "upgrade_follow" => false,
                "inc" | "dec" | "set_workers" | "respawn" | "signal" | "signal_only" | "replace" => false,
                "die" | "reload" | "config" | "louder" | "quieter" | "reopen" => false,
                // Theirs is another rule: who has sent them must be a worker.
                "worker:ack" | "worker:ping" => false,
                name => panic!("may an observer send {name}? decide here and in the table"),
            };
            assert_eq!(info.is_for_observers(), may, "{}", info.name);
        }
    }

    #[test]
    fn words_of_other_programs_name_one_command_each_and_are_none_of_ours() {
        for info in COMMANDS {
            for word in info.elsewhere {
                assert_eq!(command_elsewhere(word).unwrap().name, info.name, "{word}");
                assert!(command_info(word).is_none(), "{word}");
            }
        }
        for (word, name) in [
            ("restart", "upgrade"),
            ("Reload-All", "upgrade"),
            ("stop", "die"),
            ("scale", "set_workers"),
            ("ps", "status"),
        ] {
            assert_eq!(command_elsewhere(word).unwrap().name, name);
        }
        assert!(command_elsewhere("stauts").is_none());
    }

    #[test]
    fn the_table_reads_as_help() {
        let help = |is_shown: fn(&&CommandInfo) -> bool| {
            COMMANDS.iter().filter(is_shown).map(|info| format!("{info}\n")).collect::<String>()
        };
        insta::assert_snapshot!(help(|info| info.is_typed()), @r"
        status                 Show the master, its listeners and every worker
        upgrade                Replace every worker with one from the current code, one by one
        upgrade_fleet          Replace every worker, all new ones at once
        upgrade_continue       End the soak of the running upgrade and replace the rest
        upgrade_abort          Abort the running upgrade and roll it back
        upgrade_follow         Follow the running upgrade until it ends
        rollback               Go back to the previous release
        inc [COUNT]            Add COUNT workers [default: 1]
        dec [COUNT]            Remove COUNT workers, draining them [default: 1]
        set_workers COUNT      Set the number of workers
        respawn                Fill empty slots now, including those that were given up
        signal [SIGNAL...]     Send signals to every worker; without any, list the signals
        replace                Replace one worker, its successor first
        die [SIGNAL]           Stop the workers gracefully, then the master
        reload                 Replace the master itself and keep the workers
        history                Show the last rollouts: when, who asked, which release, and how each ended
        metrics                Show counts, queues, memory and CPU time, for Prometheus
        events                 Show events as they happen
        state                  Show the master's whole state, for programs and bug reports
        louder                 Make the master's log more verbose
        quieter                Make the master's log less verbose
        reopen                 Open the log file again, after a rotation
        version                Show the versions of the master and the protocol
        help                   List the commands
        config [OPTIONS]       Change options of the running master, by a map in YAML
        ");
        insta::assert_snapshot!(help(|info| !info.is_typed()), @r"
        config_show            Show each option of the running master, and where its value came from
        ehlo [USER]            Greet the master
        signal_only [SIGNAL...] Send signals to some workers
        worker:ack PID         Report that a worker takes traffic
        worker:ping PID [REQUEST_ID] Report that a worker is still healthy
        ");
    }
}
