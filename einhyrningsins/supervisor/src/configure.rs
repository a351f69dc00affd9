//! Options that change while the master runs.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::time::Duration;

use super::Moment;

use super::Signal;

use super::Supervisor;
use super::event::RequestKey;
use super::policy::PolicyChange;
use super::timers::Timer;
use super::worker::State;

impl Supervisor {
    pub(super) fn on_configure(&mut self, now: Moment, request: Option<RequestKey>, change: PolicyChange) {
        let policy = &mut self.policy;
        policy.seconds = change.seconds.unwrap_or(policy.seconds);
        policy.unacked_max = change.unacked_max.unwrap_or(policy.unacked_max);
        policy.upgrade_additional_max = change.upgrade_additional_max.or(policy.upgrade_additional_max);
        if let Some(grace) = change.grace {
            policy.grace = Some(grace);
            self.restart_grace(grace);
        }
        match change.workers {
            Some(workers) => self.resize(now, request, workers),
            None => {
                self.reply(request, true, "options changed".to_owned(), None);
                self.pump(now);
                self.settle_rollout(now);
            }
        }
    }

    /// Counts the grace period of those that stop already anew, from when they were asked.
    fn restart_grace(&mut self, grace: Duration) {
        let deadlines: Vec<_> = self
            .pool
            .workers()
            .filter(|worker| worker.pid.is_some())
            .filter_map(|worker| match worker.state {
                State::Draining(drain) if drain.is_asked() && !drain.has_had(Signal::SIGKILL) => {
                    Some((worker.id, drain.since + grace))
                }
                _ => None,
            })
            .collect();
        for (worker, at) in deadlines {
            self.timers.set(Timer::Kill(worker), at);
        }
    }
}
