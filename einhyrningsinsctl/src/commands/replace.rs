//! `replace`: a successor for one worker.

use clap::{ArgGroup, FromArgMatches};
use einhorn_proto::{self as proto, Target};

use super::Reader;
use super::plain::Plain;

const DETAILS: &str = "\
A successor from the same release takes the slot when it acks, and then the worker drains, as with --max-age. One \
worker is replaced at a time, and none while an upgrade runs. Returns as soon as the worker is in the queue; \"status\" \
shows the rest.";

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("which").required(true))]
struct Args {
    /// The worker in this slot
    #[arg(long, value_name = "SLOT", group = "which")]
    slot: Option<u32>,

    /// The worker with this pid
    #[arg(long, value_name = "PID", group = "which")]
    pid: Option<i32>,
}

pub(super) fn reader() -> Reader {
    Reader {
        define: |_, command| <Args as clap::Args>::augment_args(command),
        read: |_, matches| {
            let Args { slot, pid } = Args::from_arg_matches(matches)?;
            let target = slot.map(Target::Slot).or(pid.map(Target::Pid));
            let target =
                target.ok_or_else(|| clap::Error::new(clap::error::ErrorKind::MissingRequiredArgument))?;
            Ok(Box::new(Plain(proto::Command::Replace { target })))
        },
        details: DETAILS,
    }
}
