//! From being asked to stop until SIGKILL: how a worker drains, whoever wants it gone.

use alloc::borrow::ToOwned;
use core::time::Duration;

use super::Moment;

use super::Signal;
use einhorn_proto::Notice;

use super::Supervisor;
use super::event::{Action, WorkerId};
use super::moment::milliseconds;
use super::timers::Timer;
use super::worker::{Drain, State, Worker};

impl Supervisor {
    /// Asks a worker to stop and starts its grace period; both as soon as it has a pid. Once it is draining,
    /// calling again changes nothing.
    pub(super) fn cull(&mut self, now: Moment, id: WorkerId, why: &str) {
        self.drain(now, id, self.policy.graceful_signal, self.grace_of(id), why);
    }

    pub(super) fn drain(
        &mut self,
        now: Moment,
        id: WorkerId,
        signal: Signal,
        grace: Option<Duration>,
        why: &str,
    ) {
        if !self.pool.get(id).is_some_and(Worker::is_undrained) {
            return;
        }
        self.vacate(id, Drain::new(now, signal));
        self.ask_to_stop(now, id, signal, grace, why);
    }

    /// Takes a worker from those that serve, and forgets what was expected of it.
    pub(super) fn vacate(&mut self, id: WorkerId, drain: Drain) {
        self.pool.set_state(id, State::Draining(drain));
        self.timers.clear(Timer::Ack(id));
        self.timers.clear(Timer::Boot(id));
        self.end_care(id);
    }

    /// Sends its first signal to a worker whose state says already that it has it, and starts its grace period; if it
    /// has no pid yet, it gets both with that.
    fn ask_to_stop(&mut self, now: Moment, id: WorkerId, signal: Signal, grace: Option<Duration>, why: &str) {
        let Some(worker) = self.pool.get(id) else { return };
        let (slot, generation) = (worker.slot.0, worker.generation.0);
        let Some(pid) = worker.pid else { return };
        if let Some(grace) = grace {
            self.timers.set(Timer::Kill(id), now + grace);
        }
        self.actions.push(Action::Signal { pid, signal });
        let (pid, signal, why) = (pid.as_raw(), signal.as_str().to_owned(), why.to_owned());
        self.tell(Notice::Draining { slot, pid, generation, signal, why });
    }

    /// Asks a worker to stop that drains and was not asked yet; of any other nothing changes.
    pub(super) fn ask_retired(&mut self, now: Moment, id: WorkerId, signal: Signal, why: &str) {
        let Some(worker) = self.pool.get(id) else { return };
        let State::Draining(drain) = worker.state else { return };
        if drain.is_asked() {
            return;
        }
        self.timers.clear(Timer::Retire(id));
        self.pool.set_state(id, State::Draining(Drain::new(now, signal)));
        self.ask_to_stop(now, id, signal, self.policy.grace, why);
    }

    pub(super) fn on_grace_over(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.pool.get(id) else { return };
        let State::Draining(drain) = worker.state else { return };
        let (slot, generation) = (worker.slot.0, worker.generation.0);
        let (Some(pid), Some(killed)) = (worker.pid, drain.escalate(Signal::SIGKILL)) else { return };
        self.pool.set_state(id, State::Draining(killed));
        self.actions.push(Action::Signal { pid, signal: Signal::SIGKILL });
        self.tell(Notice::Escalated {
            slot,
            pid: pid.as_raw(),
            generation,
            signal: Signal::SIGKILL.as_str().to_owned(),
            after_ms: milliseconds(now - drain.since),
        });
    }
}
