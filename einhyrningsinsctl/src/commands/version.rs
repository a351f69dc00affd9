//! `version`: of this client and of the master.

use einhorn_proto::{self as proto, PROTOCOL_VERSION};

use super::{Context, Typed};
use crate::error::Error;

pub(super) const DETAILS: &str = "Shows this client's version first, which needs no master.";

#[derive(Debug, clap::Args)]
pub(super) struct Version {}

impl Typed for Version {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::Version)
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        if !context.answer.json {
            let client = env!("CARGO_PKG_VERSION");
            context.output.text(&format!("einhyrningsinsctl {client} (protocol {PROTOCOL_VERSION})"))?;
        }
        context.print(&proto::Command::Version)
    }
}
