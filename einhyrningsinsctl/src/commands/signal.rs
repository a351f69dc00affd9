//! `signal`: to every worker, or to some.

use clap::{ArgGroup, FromArgMatches};
use einhorn_proto::{self as proto, Target};

use super::Reader;
use super::plain::{Plain, checked};

const DETAILS: &str = "\
A number is accepted only alone: in \"signal USR1 17\" it could be a slot, a pid or SIGCHLD.";

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("only").requires("signal"))]
struct Args {
    /// Names of signals, in any case, with or without SIG; a number only alone
    #[arg(id = "signal", value_name = "SIGNAL")]
    signals: Vec<String>,

    /// Signal only the worker in this slot
    #[arg(long, value_name = "SLOT", group = "only")]
    slot: Option<u32>,

    /// Signal only the worker with this pid
    #[arg(long, value_name = "PID", group = "only")]
    pid: Option<i32>,

    /// Signal only workers that are draining
    #[arg(long, group = "only")]
    draining: bool,
}

pub(super) fn reader() -> Reader {
    Reader {
        define: |_, command| <Args as clap::Args>::augment_args(command),
        read: |info, matches| {
            let Args { signals, slot, pid, draining } = Args::from_arg_matches(matches)?;
            let words: Vec<_> = signals.iter().map(String::as_str).collect();
            let command = checked(info, &words)?;
            let target =
                slot.map(Target::Slot).or(pid.map(Target::Pid)).or(draining.then_some(Target::Draining));
            Ok(Box::new(Plain(match (command, target) {
                (proto::Command::Signal { signals }, Some(target)) => {
                    proto::Command::SignalOnly { signals, target }
                }
                (command, _) => command,
            })))
        },
        details: DETAILS,
    }
}
