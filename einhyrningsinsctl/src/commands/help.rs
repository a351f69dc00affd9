//! `help`: the commands that this client knows, or those that the master knows.

use einhorn_proto as proto;

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

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let command = self.command.as_deref();
        match self.request() {
            Some(request) => context.print(&request),
            None if context.is_line => context.output.text(&help::of_prompt(command)?),
            None => context.output.text(&help::of_program(command)?),
        }
    }
}
