//! The other side of the exec, in the loop: what was under way continues, and what the handover was for is done.

use einhorn_proto::{Notice, Termination};
use einhyrningsins_supervisor::{Action, Event, Moment, PoolCommand};

use super::Then;
use crate::forms::{self, milliseconds};
use crate::master::Master;

impl Master {
    /// Another program has left the state, at `written_at`; `version` is its version.
    pub(in crate::master) fn on_replaced(&mut self, written_at: Moment, version: String) {
        let notice = Notice::MasterReplaced {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            from_version: version,
            workers: u32::try_from(self.parts.core.live()).unwrap_or(u32::MAX),
            took_ms: milliseconds(forms::now() - written_at),
        };
        let then = std::mem::take(&mut self.parts.handover.then);
        let upgrades = then.iter().filter(|then| matches!(then, Then::Upgrade { .. }));
        let progress_of = upgrades.filter_map(Then::request).collect();
        let message = notice.to_string();
        let counts = self.parts.core.counts();
        self.perform([Action::Notice { notice, progress_of, counts }]);
        self.take_up();
        for then in then {
            match then {
                Then::Reload { request } => {
                    self.perform([Action::Reply { request, ok: true, message: message.clone(), data: None }]);
                }
                Then::Upgrade { request, plan } => {
                    self.feed(Event::Command { request, command: PoolCommand::Upgrade(plan) });
                }
            }
        }
    }

    /// This is the old program, returned to: the one that was to take its place has failed.
    pub(in crate::master) fn on_returned(&mut self, why: &str) {
        self.take_up();
        let parts = &mut self.parts;
        let reason = format!("the new one took over and failed at once ({why})");
        let actions = parts.handover.give_up(&reason, &mut parts.log);
        self.perform(actions);
    }

    /// Looks at everything of which no event will tell again, and reports workers that another program has reaped while
    /// it ran in the master's place.
    fn take_up(&mut self) {
        self.parts.control.look_at_all(&mut self.ready);
        self.parts.captures.look_at_all(&mut self.ready);
        self.ready.notify = true;
        for pid in self.children.find_unseen(&self.parts.core) {
            self.bury(pid, Termination::Unseen);
        }
        self.children.are_seen();
    }
}
