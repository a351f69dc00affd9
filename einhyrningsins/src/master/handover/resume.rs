//! The other side of the exec, in the loop: what was under way goes on, and what the replacement was for is done.

use std::io;
use std::time::Instant;

use einhorn_proto::{Notice, Termination};
use einhyrningsins_supervisor::{Event, Moment, PoolCommand};

use super::exec::Then;
use super::record::MasterRecord;
use crate::forms::{Clock, core_pid, milliseconds, system_pid};
use crate::master::{Captures, Clients, Master};
use crate::sys::inherit::Inherited;
use crate::sys::reap::is_child;

impl Master {
    /// Takes up clients, requests and standard errors that were written down, and what was under way.
    ///
    /// # Errors
    /// If a descriptor is not there, or the kernel cannot wait for one.
    pub fn resume(
        &mut self,
        record: MasterRecord,
        inherited: &mut Inherited,
        clock: &Clock,
    ) -> io::Result<()> {
        self.clients = Clients::adopt_all(record.clients, inherited, self.poll.registry())?;
        self.captures = Captures::adopt_all(record.captures, inherited, self.poll.registry())?;
        let requests = record.requests.into_iter();
        self.requests = requests.map(|waiting| (waiting.request, waiting.asker)).collect();
        self.next_request = record.next_request;
        self.started = clock.instant(record.started_at);
        self.replacement.reloads = record.reloads;
        self.replacement.then = record.then;
        // What they had sent is here, and no event will tell of it again.
        self.backlog.clients.extend(self.clients.ids());
        self.backlog.captures.extend(self.captures.all());
        self.backlog.notifications = true;
        Ok(())
    }

    /// What the replacement was for can now be done. `written_at` is when the image before wrote its state down,
    /// and `version` its version.
    pub fn on_replaced(&mut self, clock: &Clock, written_at: Moment, version: String) {
        let took = Instant::now().saturating_duration_since(clock.instant(written_at));
        let notice = Notice::MasterReplaced {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            from_version: version,
            workers: u32::try_from(self.supervisor.live()).unwrap_or(u32::MAX),
            took_ms: milliseconds(took),
        };
        let upgrades = self.replacement.then.iter().filter(|then| matches!(then, Then::Upgrade { .. }));
        let upgrades = upgrades.filter_map(Then::request).collect::<Vec<_>>();
        self.publish(&notice, &upgrades, self.supervisor.counts());
        self.bury_the_unseen();
        for then in std::mem::take(&mut self.replacement.then) {
            match then {
                Then::Reload { request } => self.give_last_reply(request, true, notice.to_string()),
                Then::Upgrade { request, plan } => {
                    let command = PoolCommand::Upgrade(plan);
                    self.feed(Event::Command { request, command });
                }
            }
        }
    }

    /// This is the image before, gone back to: the one that was to take its place has failed.
    pub fn on_returned(&mut self, why: &str) {
        self.replacement.reloads -= 1;
        self.bury_the_unseen();
        self.keep_master(&format!("the new one took over and failed at once ({why})"));
    }

    /// Tells the supervisor of workers that another program has reaped while it ran in the master's place.
    fn bury_the_unseen(&mut self) {
        let gone: Vec<_> = self.supervisor.pids().map(system_pid).filter(|pid| !is_child(*pid)).collect();
        // What follows from the first death must not signal the second, whose pid may be another's by now.
        self.unseen.extend(&gone);
        for pid in gone {
            self.on_reaped(pid);
            self.feed(Event::Exited { pid: core_pid(pid), termination: Termination::Unseen });
        }
        self.unseen.clear();
    }
}
