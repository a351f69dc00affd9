//! A command without a file of its own: its arguments are those of the table, and its answer is printed.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches};
use einhorn_proto::{self as proto, Argument, CommandInfo, Place};

use super::{Context, Reader, Typed};
use crate::error::Error;

pub(super) fn reader(details: &'static str) -> Reader {
    Reader {
        define: |info, command| command.args(positional(info).map(definition)),
        read: |info, matches| Ok(Box::new(Plain(request(info, matches)?))),
        details,
    }
}

fn positional(info: &CommandInfo) -> impl Iterator<Item = &'static Argument> {
    info.arguments.iter().filter(|argument| argument.place != Place::NamedOnly)
}

fn definition(argument: &'static Argument) -> Arg {
    let name = argument.usage.trim_matches(['[', ']']).trim_end_matches("...");
    let definition = Arg::new(argument.field)
        .value_name(name)
        .required(!argument.usage.starts_with('['))
        .help(argument.help);
    match argument.place {
        Place::Rest => definition.action(ArgAction::Append).num_args(0..),
        Place::Next | Place::NamedOnly => definition,
    }
}

/// The command that was typed, read by the table.
pub(super) fn request(info: &CommandInfo, matches: &ArgMatches) -> Result<proto::Command, clap::Error> {
    let words = positional(info).filter_map(|argument| matches.get_many::<String>(argument.field));
    checked(info, &words.flatten().map(String::as_str).collect::<Vec<_>>())
}

/// The command with these positional arguments.
pub(super) fn checked(info: &CommandInfo, words: &[&str]) -> Result<proto::Command, clap::Error> {
    proto::Command::from_words(info.name, words)
        .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))
}

/// A command whose answer is printed.
#[derive(Debug)]
pub(super) struct Plain(pub(super) proto::Command);

impl Typed for Plain {
    fn request(&self) -> Option<proto::Command> {
        Some(self.0.clone())
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        context.print(&self.0)
    }
}
