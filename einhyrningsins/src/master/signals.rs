//! Signals to the master: which ones it handles, and their descriptions for the log.

use std::io;

use nix::sys::signal::Signal;

use super::ready::Ready;
use crate::logging::Log;
use crate::sys::signals::{Received, Signals};

/// The signals that the master handles.
pub const HANDLED_SIGNALS: [Signal; 10] = [
    Signal::SIGCHLD,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGALRM,
];

/// Signals taken up in one round: others may send them as fast as they are read.
const SIGNALS_PER_ROUND: usize = 64;

/// The signals that have arrived, each with its origin for the log. A SIGCHLD is recorded in `ready`.
pub(super) fn turn(signals: &mut Signals, ready: &mut Ready, log: &mut Log) -> Vec<(Received, String)> {
    if !std::mem::take(&mut ready.signals) {
        return Vec::new();
    }
    let mut received = signals.drain(SIGNALS_PER_ROUND).unwrap_or_else(|errno| {
        log.error(format_args!("cannot read signals: {}", io::Error::from(errno)));
        Vec::new()
    });
    ready.signals = signals.has_more();
    received.retain(|received| {
        let is_of_child = received.signal == Signal::SIGCHLD;
        if is_of_child {
            ready.named_children.extend(received.sender);
            ready.children |= received.sender.is_none();
        }
        !is_of_child
    });
    received.into_iter().map(|received| (received, name(received.signal, received.sender))).collect()
}

fn name(signal: Signal, sender: Option<nix::unistd::Pid>) -> String {
    match sender {
        Some(pid) => format!("{signal} from process {pid}"),
        // A sender outside the container has no pid in it, so the kernel reports none.
        None if std::process::id() == 1 => {
            format!("{signal} from outside the container, its terminal or the kernel")
        }
        None => format!("{signal} from the terminal or the kernel"),
    }
}
