//! The convention of a worker: which signal asks it to stop, and why that one.
//!
//! The core knows what the worker has said and what people have set; its process shows the rest, and only at the moment
//! of the signal. So the core hands out a [`Convention`], and the shell asks it for the signal when it sends one.

use alloc::string::ToString;

use einhorn_proto::SignalReason;
use serde::{Deserialize, Serialize};

use super::signal::Signal;

/// What decides which signal asks a worker to stop, apart from what its process shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// The signal that was set for all workers.
    Set(Signal),
    /// It has sent `worker:ack`, so it speaks einhorn's protocol.
    Einhorn,
    /// It has acked in another way.
    Acked,
    /// It has never acked; other workers of its release were asked with this signal.
    Unacked(Option<Signal>),
}

/// A process, as it shows itself.
pub trait Shows {
    /// The name of the server that runs in it, and the signal on which that drains; `None` for an unknown program.
    fn server(&self) -> Option<(&str, Signal)>;

    /// Whether it has a handler for `signal`.
    fn catches(&self, signal: Signal) -> bool;
}

impl Convention {
    /// The signal for a worker that shows this, and why. The first that applies: what was set; a known server's own;
    /// einhorn's USR2 after a `worker:ack`; before the ack what other workers of the release got; USR2 for one that
    /// catches that and not TERM; TERM.
    pub fn choose(self, process: &impl Shows) -> (Signal, SignalReason) {
        if let Self::Set(signal) = self {
            return (signal, SignalReason::Set);
        }
        if let Some((name, signal)) = process.server() {
            return (signal, SignalReason::Server(name.to_string()));
        }
        match self {
            Self::Einhorn => (Signal::SIGUSR2, SignalReason::WorkerAck),
            Self::Unacked(Some(signal)) => (signal, SignalReason::Release),
            Self::Acked if process.catches(Signal::SIGUSR2) && !process.catches(Signal::SIGTERM) => {
                (Signal::SIGUSR2, SignalReason::Handlers)
            }
            Self::Set(_) | Self::Acked | Self::Unacked(None) => (Signal::SIGTERM, SignalReason::Default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seen(Option<&'static str>, &'static [Signal]);

    impl Shows for Seen {
        fn server(&self) -> Option<(&str, Signal)> {
            self.0.map(|name| (name, Signal::SIGQUIT))
        }

        fn catches(&self, signal: Signal) -> bool {
            self.1.contains(&signal)
        }
    }

    const USR2: Signal = Signal::SIGUSR2;
    const TERM: Signal = Signal::SIGTERM;

    #[test]
    fn the_first_that_applies_decides() {
        let nginx = Seen(Some("nginx"), &[USR2]);
        let only_usr2 = Seen(None, &[USR2]);
        let both = Seen(None, &[USR2, TERM]);
        let server = || SignalReason::Server("nginx".into());
        for (convention, process, expected) in [
            (Convention::Set(Signal::SIGINT), &nginx, (Signal::SIGINT, SignalReason::Set)),
            (Convention::Einhorn, &nginx, (Signal::SIGQUIT, server())),
            (Convention::Unacked(Some(USR2)), &nginx, (Signal::SIGQUIT, server())),
            (Convention::Einhorn, &both, (USR2, SignalReason::WorkerAck)),
            (Convention::Acked, &only_usr2, (USR2, SignalReason::Handlers)),
            (Convention::Acked, &both, (TERM, SignalReason::Default)),
            (Convention::Acked, &Seen(None, &[]), (TERM, SignalReason::Default)),
            (Convention::Unacked(Some(USR2)), &both, (USR2, SignalReason::Release)),
            (Convention::Unacked(None), &only_usr2, (TERM, SignalReason::Default)),
        ] {
            assert_eq!(convention.choose(process), expected, "{convention:?}");
        }
    }
}
