//! `help`: the commands that this client knows, or those that the master knows.

use einhorn_proto as proto;

use super::line::Line;
use super::{Context, Typed};
use crate::error::Error;
use crate::help;

pub(super) const DETAILS: &str =
    "Lists the commands of this client, which needs no master; with --master, those of the master.";

#[derive(Debug, clap::Args)]
pub(super) struct Help {
    /// Show the help of this command
    command: Option<String>,

    /// Ask the master
    #[arg(long, conflicts_with = "command")]
    master: bool,
}

impl Typed for Help {
    fn request(&self) -> Option<proto::Command> {
        self.master.then_some(proto::Command::Help)
    }

    fn name(&self) -> &'static str {
        proto::Command::Help.name()
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        if let Some(request) = self.request() {
            return context.print(&request);
        }
        let command = self.command.as_deref();
        let text = if context.is_line { help::of_prompt(command)? } else { help::of_program(command)? };
        match context.answer.json {
            true => context.line(Line::last(self.name(), Some(true), &text), None),
            false => context.output.text(&text),
        }
    }
}
