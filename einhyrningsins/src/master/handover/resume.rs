//! The last step of a handover, in the new image: resumes the loop, and completes the request that the handover
//! was for.

use einhorn_proto::{Done, LastReply, Notice, Termination};
use einhyrningsins_supervisor::{Action, Event};

use super::Then;
use super::format::Origin;
use crate::forms::{self, milliseconds};
use crate::master::Master;
use crate::release::ProgramFile;

impl Master {
    /// Resumes from the state that another image left.
    pub(in crate::master) fn on_replaced(&mut self, origin: Origin) {
        let notice = Notice::MasterReplaced {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            from_version: origin.version,
            workers: u32::try_from(self.parts.core.live()).unwrap_or(u32::MAX),
            took_ms: milliseconds(forms::now() - origin.written_at),
        };
        let own = ProgramFile::running().ok().map(|own| (own.device, own.inode));
        let is_direct = own.is_some() && own == origin.checked;
        let then = std::mem::take(&mut self.parts.handover.then);
        let upgrades = then.iter().filter(|then| matches!(then, Then::Upgrade { .. }));
        let progress_of = upgrades.filter_map(Then::request).collect();
        let reloaded = Done::Reloaded(Box::new(notice.clone()));
        let counts = self.parts.core.counts();
        self.perform([Action::Notice { notice, progress_of, counts }]);
        // There is no way back any more: if this image crashes now, the log tells which one did.
        self.parts.log.flush();
        self.take_up(is_direct);
        for then in then {
            match then {
                Then::Reload { request } => {
                    let answer = LastReply::Done(reloaded.clone());
                    self.perform([Action::Reply { request, answer }]);
                }
                Then::Upgrade { request, plan } => {
                    self.feed(Event::UpgradePrepared { request, plan: *plan });
                }
            }
        }
    }

    /// Set if this is the old program, to which the new one returned because it failed.
    pub(in crate::master) fn on_returned(&mut self, why: &str) {
        self.take_up(false);
        let parts = &mut self.parts;
        let reason = format!("the new program failed right after the exec ({why})");
        let actions = parts.handover.give_up(&reason, &mut parts.log);
        self.perform(actions);
    }

    /// Checks everything for which no event will come, and reports workers that another program reaped while it
    /// ran in between, unless this one was executed directly.
    fn take_up(&mut self, is_direct: bool) {
        self.parts.control.look_at_all(&mut self.ready);
        self.parts.captures.look_at_all(&mut self.ready);
        self.ready.notify = true;
        self.ready.jobs = true;
        if is_direct {
            return;
        }
        self.has_unburied = true;
        let jobs = self.parts.jobs.find_unseen();
        for pid in self.children.find_unseen(&self.parts.core).into_iter().chain(jobs) {
            self.bury(pid, Termination::Unseen);
        }
        self.has_unburied = false;
    }
}
