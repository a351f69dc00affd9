//! The commands: how each is read from the command line and carried out.
//!
//! Names, arguments and one-line help come from the table in `einhorn-proto`, except those of the commands that no master
//! has ([`OWN`]). A command has a file here if it takes options or shows its answer in a way of its own; any other is sent
//! as it was typed, and its answer printed.

mod bar;
mod candidates;
mod config;
mod die;
mod events;
mod help;
mod history;
mod line;
mod list;
mod metrics;
mod plain;
#[cfg(feature = "http")]
mod probe;
mod ready;
mod replace;
pub(crate) mod requester;
#[cfg(feature = "http")]
mod serve;
mod signal;
mod state;
mod status;
#[cfg(feature = "top")]
mod top;
mod upgrade;
mod version;

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches, Subcommand};
use einhorn_proto::{
    self as proto, Audience, COMMANDS, CommandClass, CommandInfo, RefusalKind, command_info,
};
use serde_json::value::RawValue;

use crate::connection::Reply;
use crate::error::{Error, with_causes};
use crate::interrupt::Interrupts;
use crate::options::Answer;
use crate::output::Output;
use crate::session::Session;
use crate::wait::{Ended, Wait};

use line::Line;

/// A command with its arguments, as it was typed.
pub(crate) trait Typed: fmt::Debug {
    /// What to send to the master; `None` if no master is needed.
    fn request(&self) -> Option<proto::Command>;

    /// The name of the command, which the lines of `--json` have.
    fn name(&self) -> &'static str {
        self.request().map_or("", |request| request.name())
    }

    /// Whether it needs a terminal to show anything.
    fn has_view(&self) -> bool {
        false
    }

    /// Carries the command out and shows its answer.
    ///
    /// # Errors
    /// [`Error`]; of kind "failed" if the master answers that it refused or failed.
    fn run(&self, context: &mut Context<'_>) -> Result<(), Error>;
}

/// What a command is carried out with.
pub(crate) struct Context<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) output: &'a Output,
    /// How to wait for the answer and show it.
    pub(crate) answer: Answer,
    /// Whether the command was typed at the prompt or in a script, rather than on the command line.
    pub(crate) is_line: bool,
    /// Whether a line of JSON has said that the command failed.
    pub(crate) is_failure_told: bool,
}

/// A command, or what clap finds wrong with it.
type ReadCommand = Result<Box<dyn Typed>, clap::Error>;

/// How a command is read.
struct Reader {
    /// Adds the command's arguments to its definition.
    define: fn(&CommandInfo, clap::Command) -> clap::Command,
    read: fn(&CommandInfo, &ArgMatches) -> ReadCommand,
    /// What `--help` says below the line of the table.
    details: &'static str,
}

impl Reader {
    /// The reader of a command whose arguments are `T`.
    fn of<T: clap::Args + Typed + 'static>(details: &'static str) -> Self {
        Self {
            define: |_, command| T::augment_args(command),
            read: |_, matches| Ok(Box::new(T::from_arg_matches(matches)?)),
            details,
        }
    }

    fn of_command(info: &CommandInfo) -> Self {
        match info.name {
            "config" => config::reader(),
            "die" => Self::of::<die::Die>(die::DETAILS),
            "events" => Self::of::<events::Events>(events::DETAILS),
            "help" => Self::of::<help::Help>(help::DETAILS),
            "history" => Self::of::<history::Args>(history::DETAILS),
            "metrics" => Self::of::<metrics::Args>(metrics::DETAILS),
            "reload" => plain::reader(RELOAD_DETAILS),
            "replace" => replace::reader(),
            "signal" => signal::reader(),
            "state" => Self::of::<state::State>(""),
            "status" => Self::of::<status::Args>(status::DETAILS),
            "upgrade" => Self::of::<upgrade::Args>(upgrade::DETAILS),
            "version" => Self::of::<version::Version>(version::DETAILS),
            _ if info.class == CommandClass::Rollout => upgrade::rollout_reader(info),
            _ => plain::reader(""),
        }
    }
}

const RELOAD_DETAILS: &str = "\
Returns with exit code 0 once the new master runs. If that cannot continue from the old master's state, the old master \
stays, the reason is printed, and the exit code is 1.";

/// A command that no master has.
struct Own {
    name: &'static str,
    aliases: &'static [&'static str],
    /// Whether it is for programs, and no help lists it.
    is_hidden: bool,
    /// What it does, in one line.
    summary: &'static str,
    /// What `--help` says below that line.
    details: &'static str,
    /// Adds its arguments to its definition.
    define: fn(clap::Command) -> clap::Command,
    read: fn(&ArgMatches) -> ReadCommand,
}

/// The commands that no master has.
const OWN: &[Own] = &[
    candidates::OWN,
    list::OWN,
    #[cfg(feature = "http")]
    probe::OWN,
    #[cfg(feature = "http")]
    serve::OWN,
    #[cfg(feature = "top")]
    top::OWN,
];

impl Own {
    /// The command of this name, whose arguments are `T`.
    const fn of<T: clap::Args + Typed + 'static>(
        name: &'static str,
        summary: &'static str,
        details: &'static str,
    ) -> Self {
        let read: fn(&ArgMatches) -> ReadCommand = |matches| Ok(Box::new(T::from_arg_matches(matches)?));
        Self { name, aliases: &[], is_hidden: false, summary, details, define: T::augment_args, read }
    }

    fn named(name: &str) -> Option<&'static Self> {
        OWN.iter().find(|own| own.name == name)
    }

    fn definition(&self) -> clap::Command {
        let command =
            clap::Command::new(self.name).about(self.summary).aliases(self.aliases).hide(self.is_hidden);
        command.defer(|command| {
            let Some(own) = Self::named(command.get_name()) else { return command };
            (own.define)(command).about(own.summary).long_about(format!("{}\n\n{}", own.summary, own.details))
        })
    }
}

/// A command as clap reads it, for every command of the table that people type, and for those in [`OWN`].
#[derive(Debug)]
pub(crate) struct Command(pub(crate) Box<dyn Typed>);

impl Command {
    /// The command, whose arguments are defined when it is typed: to define those of all takes as long as the master's answer.
    fn define(info: &'static CommandInfo) -> clap::Command {
        let command = clap::Command::new(info.name).about(info.summary).aliases(info.aliases);
        command.hide(info.audience == Audience::UpgradeOption).defer(|command| {
            let Some(info) = command_info(command.get_name()) else { return command };
            let reader = Reader::of_command(info);
            let command = (reader.define)(info, command).about(info.summary);
            match reader.details {
                "" => command,
                details => command.long_about(format!("{}\n\n{details}", info.summary)),
            }
        })
    }
}

impl Subcommand for Command {
    fn augment_subcommands(parent: clap::Command) -> clap::Command {
        parent
            .subcommands(COMMANDS.iter().filter(|info| info.is_typed()).map(Self::define))
            .subcommands(OWN.iter().map(Own::definition))
    }

    fn augment_subcommands_for_update(parent: clap::Command) -> clap::Command {
        Self::augment_subcommands(parent)
    }

    fn has_subcommand(name: &str) -> bool {
        Own::named(name).is_some() || command_info(name).is_some_and(CommandInfo::is_typed)
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        if let Some(own) = Own::named(name) {
            return (own.read)(matches).map(Self);
        }
        let info = command_info(name).ok_or_else(missing)?;
        (Reader::of_command(info).read)(info, matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Context<'_> {
    /// Sends `request`, gives each reply before the last to `on_progress`, and returns the last one if the master
    /// did what was asked.
    ///
    /// A last reply without `ok` comes from einhorn, which reports failures in its message only.
    fn ask(
        &mut self,
        request: &proto::Command,
        on_progress: &mut dyn FnMut(&Reply) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        let reply = self.session.request(request, self.answer.timeout, on_progress)?;
        accepted(reply, request)
    }

    /// Sends `request` and prints each message; with `--json`, a line for each reply.
    fn print(&mut self, request: &proto::Command) -> Result<(), Error> {
        let (output, is_json) = (self.output, self.answer.json);
        let reply = self.session.request(request, self.answer.timeout, &mut |reply| match is_json {
            true => output.json(&json(reply, request)),
            false => output.text(&reply.message),
        })?;
        self.print_last(reply, request)
    }

    /// Prints the last reply. A refusal goes to standard error, from the caller.
    fn print_last(&mut self, reply: Reply, request: &proto::Command) -> Result<(), Error> {
        if self.answer.json {
            self.line(Line::of(&reply, request.name()), reply.data.as_deref())?;
            return accepted(reply, request).map(drop);
        }
        self.output.message(&accepted(reply, request)?.message)
    }

    /// Waits for `time`.
    ///
    /// # Errors
    /// [`Error`] if Ctrl-C, or the end of the reader of standard output, ends that early.
    fn pause(&self, interrupts: &Interrupts, time: Duration) -> Result<(), Error> {
        let wait = Wait { deadline: Instant::now().checked_add(time), interrupts, is_for_reader: true };
        match wait.pause() {
            Ended::Deadline => Ok(()),
            Ended::Interrupt => Err(Error::InterruptedBefore),
            Ended::ReaderGone => Err(Error::Output(io::ErrorKind::BrokenPipe.into())),
            Ended::Failed(error) => Err(Error::Output(error)),
        }
    }

    /// Prints a line of JSON.
    fn line(&mut self, line: Line<'_>, data: Option<&RawValue>) -> Result<(), Error> {
        self.is_failure_told |= line.is_failure();
        self.output.json(&line.with(data.map(RawValue::get)))
    }

    /// Carries `command` out. With `--json`, the last line says whether it failed, and why, whoever noticed.
    ///
    /// # Errors
    /// Those of [`Typed::run`].
    pub(crate) fn run(mut self, command: &dyn Typed) -> Result<(), Error> {
        let result = command.run(&mut self);
        match &result {
            Err(Error::Output(_) | Error::Interrupted { .. } | Error::InterruptedBefore) | Ok(()) => {}
            Err(error) if self.answer.json && !self.is_failure_told => {
                self.line(Line::last(command.name(), Some(false), &with_causes(error)), None)?;
            }
            Err(_) => {}
        }
        result
    }
}

/// What `--json` shows of a reply to `request`.
fn json(reply: &Reply, request: &proto::Command) -> String {
    Line::of(reply, request.name()).with(reply.data.as_deref().map(RawValue::get))
}

fn accepted(reply: Reply, request: &proto::Command) -> Result<Reply, Error> {
    if reply.ok != Some(false) {
        return Ok(reply);
    }
    let message = match reply.message.trim_end() {
        "" => format!("{} refused; the master gives no reason", request.name()),
        message => message.to_owned(),
    };
    match reply.refused {
        Some(RefusalKind::RolloutRuns) => {
            let may_wait =
                matches!(request, proto::Command::Upgrade(proto::UpgradeRequest { wait: false, .. }));
            Err(Error::Busy { message, may_wait })
        }
        Some(RefusalKind::OwnerOnly) => Err(Error::OwnerOnly { message }),
        _ => Err(Error::Refused { message, details: Vec::new() }),
    }
}

/// The data as its type; `None` if a master of another version sent something else.
fn typed<T: serde::de::DeserializeOwned>(data: &RawValue) -> Option<T> {
    serde_json::from_str(data.get()).ok()
}
