//! The end of the pool, asked for or forced.

use super::Moment;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::Signal;
use einhorn_proto::{Notice, Workers};

use super::event::{Action, RequestKey, SlotNumber, Stop, WorkerId};
use super::timers::Timer;
use super::worker::{State, Worker};
use super::{Phase, Supervisor};

/// Why a worker goes that was not asked to before.
const STOPPING: &str = "the master is stopping";

/// Why the master stops, and with what exit code.
#[derive(Debug)]
pub(super) struct StopReason {
    pub(super) code: u8,
    pub(super) why: String,
}

impl Supervisor {
    pub(super) fn on_stop(&mut self, now: Moment, request: Option<RequestKey>, how: Stop, why: &str) {
        let signal = match how {
            Stop::Gracefully => self.policy.graceful_signal,
            Stop::With(signal) => signal,
            Stop::Repeating(signal) => {
                self.repeat(signal);
                signal
            }
            Stop::Escalating => self.next_escalation(),
            Stop::AtOnce(signal) => return self.stop_at_once(request, signal, why),
        };
        let message = format!("stopping: {} to {}", signal.as_str(), Workers(self.live_count()));
        self.begin_stop(now, signal, StopReason { code: 0, why: why.to_owned() });
        self.reply(request, true, message, None);
        self.exit_if_last();
    }

    /// Sends `signal` to those workers that have had it from this stop or before.
    fn repeat(&mut self, signal: Signal) {
        if !matches!(self.phase, Phase::Stopping { .. }) {
            return;
        }
        let has_had = |worker: &&Worker| match worker.state {
            State::Draining(drain) => drain.has_had(signal),
            _ => false,
        };
        let pids = self.pool.workers().filter(has_had).filter_map(|worker| worker.pid);
        let again: Vec<_> = pids.map(|pid| Action::Signal { pid, signal }).collect();
        self.actions.extend(again);
    }

    fn live_count(&self) -> u32 {
        u32::try_from(self.pool.live()).unwrap_or(u32::MAX)
    }

    /// One step harder than what the hardest-pressed worker has had.
    fn next_escalation(&self) -> Signal {
        if !matches!(self.phase, Phase::Stopping { .. }) {
            return self.policy.graceful_signal;
        }
        let sent = |wanted: Signal| {
            self.pool.workers().all(|worker| match worker.state {
                State::Draining(drain) => drain.has_had(wanted),
                _ => false,
            })
        };
        if sent(Signal::SIGTERM) { Signal::SIGKILL } else { Signal::SIGTERM }
    }

    fn stop_at_once(&mut self, request: Option<RequestKey>, signal: Signal, why: &str) {
        let pids: Vec<_> = self.pool.workers().filter_map(|worker| worker.pid).collect();
        self.actions.extend(pids.into_iter().map(|pid| Action::Signal { pid, signal }));
        self.reply(request, true, "exiting at once".into(), None);
        for waiting in self.rollout.take().map_or(Vec::new(), |rollout| rollout.requests()) {
            self.reply(Some(waiting), false, "upgrade failed: the master exits".into(), None);
        }
        self.exit(1, why);
    }

    /// Ends respawning and sends `signal` to every worker that has not had it. Again with another signal, that
    /// one goes out too; the first grace period stands.
    pub(super) fn begin_stop(&mut self, now: Moment, signal: Signal, reason: StopReason) {
        if self.phase == Phase::Exited {
            return;
        }
        let is_first = !matches!(self.phase, Phase::Stopping { .. });
        let (signal_name, workers) = (signal.as_str().to_owned(), self.live_count());
        self.tell(Notice::MasterStopping { signal: signal_name, workers, why: reason.why.clone() });
        if is_first {
            self.phase = Phase::Stopping { code: reason.code };
            self.fail_rollout(now, "the master is stopping".to_owned(), None);
            self.empty_the_queues();
        }
        let workers: Vec<WorkerId> = self.pool.workers().map(|worker| worker.id).collect();
        for id in workers {
            self.stop_worker(now, id, signal);
        }
        if reason.code != 0 {
            self.stop_failure = Some(reason.why);
        }
        self.exit_if_last();
    }

    /// No seat is filled any more.
    fn empty_the_queues(&mut self) {
        self.due.clear();
        self.end_recycling();
        let numbers: Vec<SlotNumber> = self.pool.slots.keys().copied().collect();
        for number in numbers {
            self.timers.clear(Timer::Spawn(number));
            self.timers.clear(Timer::Succeed(number));
        }
        for slot in self.pool.slots.values_mut() {
            slot.current = None;
            slot.successor = None;
            slot.is_due = false;
        }
    }

    fn stop_worker(&mut self, now: Moment, id: WorkerId, signal: Signal) {
        let Some(worker) = self.pool.get(id) else { return };
        let (pid, state) = (worker.pid, worker.state);
        match state {
            State::Draining(drain) => {
                #[cfg(test)]
                if self.sabotage == Some(super::model::Sabotage::SignalTwice) {
                    return self.actions.extend(pid.map(|pid| Action::Signal { pid, signal }));
                }
                if !drain.is_asked() {
                    return self.ask_retired(now, id, signal, STOPPING);
                }
                let Some(drain) = drain.escalate(signal) else { return };
                self.pool.set_state(id, State::Draining(drain));
                self.actions.extend(pid.map(|pid| Action::Signal { pid, signal }));
            }
            _ => self.drain(now, id, signal, self.policy.grace, STOPPING),
        }
    }
}
