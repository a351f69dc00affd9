//! `state`: everything that the master knows, as JSON.

use einhorn_proto as proto;

use super::{Context, Typed, typed};
use crate::error::Error;

#[derive(Debug, clap::Args)]
pub(super) struct State {}

impl Typed for State {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::State)
    }

    /// Prints the data over several lines, or on one with `--json`.
    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let request = proto::Command::State;
        if context.answer.json {
            return context.print(&request);
        }
        let reply = context.ask(&request, &mut |_| Ok(()))?;
        match reply.data.as_deref().and_then(typed::<serde_json::Value>) {
            Some(value) => context.output.json(&format!("{value:#}")),
            None => context.output.text(&reply.message),
        }
    }
}
