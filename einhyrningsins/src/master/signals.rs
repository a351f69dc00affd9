//! Signals to the master: what each asks for, and the children that one of them tells of.

use std::io;

use einhyrningsins_supervisor::{Event, PoolCommand, Stop, UpgradePlan};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::Master;
use crate::config::Dialect;
use crate::forms::{core_pid, core_signal};
use crate::sys::reap::reap_one;
use crate::sys::signals::Received;

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

impl Master {
    pub(super) fn read_signals(&mut self) {
        match self.signals.drain() {
            Ok(received) => received.into_iter().for_each(|signal| self.on_signal(signal)),
            Err(errno) => self.log.error(format_args!("cannot read signals: {}", io::Error::from(errno))),
        }
    }

    fn on_signal(&mut self, Received { signal, sender }: Received) {
        let why = match sender {
            Some(pid) => format!("{signal} from process {pid}"),
            None => format!("{signal} from the terminal or the kernel"),
        };
        let stop = |how| PoolCommand::Stop { how, why: why.clone() };
        let is_einhorn = self.identity.dialect == Dialect::Einhorn;
        let command = match signal {
            Signal::SIGCHLD => {
                self.backlog.children = true;
                return;
            }
            Signal::SIGINT | Signal::SIGUSR2 if is_einhorn => {
                stop(Stop::Repeating(self.supervisor.policy().graceful_signal))
            }
            Signal::SIGTERM if is_einhorn => stop(Stop::Repeating(core_signal(Signal::SIGTERM))),
            Signal::SIGALRM if !is_einhorn => return,
            Signal::SIGINT => stop(Stop::Escalating),
            Signal::SIGUSR2 => stop(Stop::Gracefully),
            Signal::SIGTERM => stop(Stop::With(core_signal(Signal::SIGTERM))),
            Signal::SIGQUIT => stop(Stop::AtOnce(core_signal(Signal::SIGQUIT))),
            Signal::SIGHUP | Signal::SIGALRM => {
                self.log.debug(&why);
                self.service.on_hangup();
                return self.upgrade(None, UpgradePlan::default());
            }
            Signal::SIGTTIN => PoolCommand::Inc(1),
            Signal::SIGTTOU => PoolCommand::Dec(1),
            Signal::SIGUSR1 => PoolCommand::Signal(vec![core_signal(Signal::SIGUSR1)]),
            _ => return,
        };
        self.log.debug(&why);
        self.feed(Event::Command { request: None, command });
    }

    /// Collects every child that has ended. Before an exit nobody is left to be surprised by a death.
    pub(super) fn reap(&mut self) {
        loop {
            match reap_one() {
                Ok(Some((pid, termination))) if self.replacement.is_check(pid) => {
                    self.on_check_ended(&termination);
                }
                Ok(Some((pid, termination))) => {
                    self.on_reaped(pid);
                    self.feed(Event::Exited { pid: core_pid(pid), termination });
                }
                Ok(None) => return,
                Err(errno) => {
                    self.log.error(format_args!("cannot reap children: {}", io::Error::from(errno)));
                    return;
                }
            }
        }
    }

    /// Hears what a worker said last over the connection that was made for it (-g), and closes that: from now on
    /// its pid may be another's. What the worker wrote before it died, the supervisor hears before it hears of
    /// that.
    pub(super) fn on_reaped(&mut self, pid: Pid) {
        for id in self.clients.of_worker(pid) {
            self.serve_client(id);
            self.clients.close(id);
        }
        let mut sink = |lines: &[u8]| self.log.pass_on(lines);
        if let Some(lines) = self.captures.last_words(pid, self.poll.registry(), &mut sink) {
            self.feed(Event::LastWords { pid: core_pid(pid), lines });
        }
    }
}
