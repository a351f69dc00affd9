//! Where a generation and its workers are made: the options of a release, its resolving, and each spawn meet here, with the
//! parts that workers get something from.

use einhyrningsins_supervisor::{Event, Generation, RolloutRecord, SlotNumber, WorkerId};

use super::{Master, Parts};
use crate::config::{PartOptions, ReleaseOptions, VerbosityChange};
use crate::forms::core_pid;
use crate::logging::Log;
use crate::sys::peer::{SinceBoot, start_ticks};
use crate::sys::spawn::Spawner;
use crate::workers::{Place, ResolveError, SpawnFailure, Spawned};

impl Master {
    /// Spawns a worker, and tells each part that has something to do with it.
    pub(super) fn spawn(
        &mut self,
        worker: WorkerId,
        slot: Option<SlotNumber>,
        index: u32,
        generation: Generation,
    ) -> Event {
        let (parts, registry) = (&mut self.parts, self.poll.registry());
        self.places.look_before_spawn(&mut self.ready, registry, &self.children, parts);
        let before = SinceBoot::now();
        let spawned = match parts.spawn(&mut self.spawner, slot, index, generation) {
            Ok(spawned) => spawned,
            Err(SpawnFailure { reason, transient }) => {
                return Event::SpawnFailed { worker, reason, transient };
            }
        };
        let Spawned { pid, control, stderr, no_stream } = spawned;
        let start_ticks = start_ticks(pid, before);
        if self.children.on_spawned(pid, before) {
            self.forget_actions_for(pid);
        }
        let (parts, registry) = (&mut self.parts, self.poll.registry());
        if slot.is_some() {
            self.boots.on_spawned(pid, parts.core.policy());
        }
        if let Some(stream) = control {
            parts.control.adopt(registry, stream, pid);
        }
        if let Some(stderr) = stderr
            && let Err(error) = parts.captures.add(registry, stderr, pid)
        {
            parts
                .log
                .warn(format_args!("cannot wait for what worker {pid} writes to standard error: {error}"));
        }
        if let Some(error) = no_stream {
            let what = format_args!(
                "worker {pid} does not write to journald (--log-workers), but where the master does: {error}"
            );
            self.streamless.warn(&mut parts.log, what);
        }
        Event::Spawned { worker, pid: core_pid(pid), start_ticks }
    }

    /// Finds out what a generation runs, with the options that the upgrade brings.
    pub(super) fn resolve(&mut self, generation: Generation) -> Event {
        if let Some(load) = self.boots.look_ahead(self.parts.core.policy()) {
            self.note(load);
        }
        let parts = &mut self.parts;
        parts.begin_with_options(generation);
        let resolved = parts.resolve(&mut self.spawner, generation).map_err(|error| error.in_words());
        match resolved.and_then(|()| parts.admit(&mut self.spawner, generation)) {
            Ok(()) => Event::ReleaseResolved { generation, same_as: parts.workers.same_as(generation) },
            Err(reason) => {
                parts.workers.forget(generation);
                Event::ReleaseFailed { generation, reason }
            }
        }
    }
}

/// Makes the log say more or less, unless somebody has changed that since. Returns how to undo it.
fn set_verbosity(change: VerbosityChange, log: &mut Log) -> Option<VerbosityChange> {
    let before = log.verbosity();
    if change.from.is_some_and(|from| from != before) {
        return None;
    }
    log.set_verbosity(change.to);
    Some(VerbosityChange { to: before, from: Some(change.to) })
}

impl Parts {
    /// The upgrade to `generation` begins: the parts go by the options that were read for it.
    fn begin_with_options(&mut self, generation: Generation) {
        if let Some((lines, parts)) = self.options.take_next() {
            let before = self.exchange(parts);
            self.options.on_begun(generation, lines, before);
        }
    }

    /// A rollout has ended: the parts go on with the options that it brought, or with those of before.
    pub(super) fn keep_options_of(&mut self, rollout: &RolloutRecord) {
        if let Some(before) = self.options.on_ended(rollout) {
            self.exchange(before);
        }
    }

    /// Makes the parts go by these options. Returns those that they went by.
    fn exchange(&mut self, options: PartOptions) -> PartOptions {
        let Self { workers, handover, history_file, log, .. } = self;
        let ReleaseOptions { recipe, attributes, directory_given } = options.release;
        let (recipe, attributes) = workers.exchange(recipe, attributes);
        let directory_given = handover.set_directory_given(directory_given);
        PartOptions {
            release: ReleaseOptions { recipe, attributes, directory_given },
            handover: handover.set_settings(options.handover),
            history: history_file.set_path(options.history),
            syslog: log.set_syslog(options.syslog),
            verbosity: options.verbosity.and_then(|change| set_verbosity(change, log)),
        }
    }

    /// Spawns a worker into `slot`, or a trial worker.
    fn spawn(
        &mut self,
        spawner: &mut Spawner,
        slot: Option<SlotNumber>,
        index: u32,
        generation: Generation,
    ) -> Result<Spawned, SpawnFailure> {
        let Self { core, workers, listeners, control, trial, .. } = self;
        let live = core.live();
        workers.options.ping_timeout = core.policy().recycling.ping_timeout;
        match slot {
            Some(slot) => {
                let sockets = listeners.for_slot(slot)?;
                workers.spawn(spawner, &Place::Slot(slot), index, generation, &sockets, live)
            }
            None => {
                let twins = trial.open(listeners, control, workers, generation)?;
                let exports = twins.exports(generation);
                workers.spawn(spawner, &Place::Trial { exports }, index, generation, &twins.sockets(), live)
            }
        }
    }

    /// Sees to it that workers of `generation` can send to the notify socket, if they are the first of their user.
    fn admit(&mut self, spawner: &mut Spawner, generation: Generation) -> Result<(), String> {
        let Self { workers, notify, log, .. } = self;
        if !workers.has_new_credentials(generation) {
            return Ok(());
        }
        let socket = notify.socket();
        let opened = socket.admit(workers.credentials(generation));
        if opened.map_err(|error| format!("cannot open the notify socket to the workers' user: {error}"))? {
            log.warn(
                "every user may send to the notify socket from now on: workers have another user (--user)",
            );
        }
        let reached = socket.path().map_or(Ok(()), |path| workers.may_write(spawner, generation, path));
        reached.map_err(|error| format!("workers (--user, --group) may not reach the notify socket: {error}"))
    }

    /// Resolves the release of `generation`, with the variables that the parts have for its workers.
    pub(crate) fn resolve(
        &mut self,
        spawner: &mut Spawner,
        generation: Generation,
    ) -> Result<(), ResolveError> {
        let mut exported = self.listeners.exports(generation);
        exported.extend(self.control.exports());
        exported.extend(self.notify.exports());
        self.workers.resolve(spawner, generation, exported)
    }
}
