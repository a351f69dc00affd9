//! `top`: a live view of a master, with keys for what is done to it most.
//!
//! [`State`] knows what is shown and what the keys mean; it does no I/O. [`view`] draws it, [`run`] has the terminal and the
//! threads that look and ask, and [`batch`] writes plain tables instead.

mod batch;
mod keys;
mod order;
mod post;
mod run;
mod screen;
mod slots;
mod state;
mod view;

use std::time::Duration;

use einhorn_proto::{self as proto, parse_seconds_above_zero};

use super::{Context, Own, Typed};
use crate::error::Error;
use crate::live::Live;

use state::State;

pub(super) const OWN: Own =
    Own::of::<Top>(NAME, "Watch a master, full-screen, with keys to control it", DETAILS);

const NAME: &str = "top";

const DETAILS: &str = "\
Shows the master, its listeners, every slot, a running upgrade and the last events until q, Esc or Ctrl-C. Keys: u upgrade, a \
abort, r rollback, + and - one worker more or less, R replace the selected worker; each asks before it does anything. Arrows, \
Page Up and Page Down select a slot. If the master is lost, waits for it to come back.";

/// How often the master is looked at, where nothing happens.
const EVERY: Duration = Duration::from_secs(2);

/// What `top --help` shows.
#[derive(Debug, clap::Args)]
struct Top {
    /// Write plain text each time, for pipes and files; with --json, a line of JSON
    #[arg(long)]
    batch: bool,

    /// With --batch: exit after this many samples
    #[arg(long, value_name = "COUNT", requires = "batch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// How often to look at the master [default: 2, or longer if that would take more than 2 % of a CPU]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds_above_zero)]
    interval: Option<Duration>,
}

impl Typed for Top {
    fn request(&self) -> Option<proto::Command> {
        None
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn has_view(&self) -> bool {
        !self.batch
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let session = &context.session;
        let mut live = Live::new(session.program(), session.socket().to_owned(), session.trust().clone())
            .patient_for(context.answer.timeout);
        if self.batch {
            return batch::run(context, &mut live, self.interval, self.count);
        }
        if context.answer.json {
            return Err(Error::Usage("a view is no JSON; \"top --batch\" writes lines of it".to_owned()));
        }
        if !screen::is_there(context.output) {
            return Err(Error::Usage(
                "the view needs a terminal that can move its cursor, and keys; \"top --batch\" writes plain tables"
                    .to_owned(),
            ));
        }
        let first = live.first_look()?;
        run::run(context, live, State::new(first), self.interval)
    }
}

#[cfg(test)]
mod fixtures;
