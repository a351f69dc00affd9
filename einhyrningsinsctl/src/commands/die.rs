//! `die`: stops the master, and waits for its end if asked to.

use std::time::Duration;

use einhorn_proto::{self as proto, SignalName, parse_seconds_above_zero};

use super::{Context, Typed};
use crate::error::Error;
use crate::interrupt::Interrupts;

pub(super) const DETAILS: &str =
    "Returns when the master has begun to stop; with --wait, when it has exited.";

#[derive(Debug, clap::Args)]
pub(super) struct Die {
    /// The signal to stop the workers with [default: the master's graceful signal]
    #[arg(value_name = "SIGNAL")]
    signal: Option<String>,

    /// Wait this long before stopping it, so that load balancers can take it out first
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds_above_zero)]
    delay: Option<Duration>,

    /// Return when the master has exited
    #[arg(long)]
    wait: bool,
}

impl Typed for Die {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::Die { signal: self.signal.as_deref().map(SignalName::new) })
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let Some(request) = self.request() else { return Ok(()) };
        if let Some(delay) = self.delay {
            context.pause(&Interrupts::watch().map_err(Error::Watch)?, delay)?;
        }
        context.print(&request)?;
        if self.wait { context.session.await_end(&request, context.answer.timeout) } else { Ok(()) }
    }
}
