//! Metrics of a master, for Prometheus: what it has counted, how its pool is, and what `/proc` says of its workers.

mod text;

use std::fmt::Display;

use einhorn_proto::{
    Deaths, ListenerStatus, Metrics, Outcomes, QueueStatus, Recycled, Status, WorkerState, WorkerStatus,
};

use crate::processes::{Processes, Sample};
use text::{Label, Text};

/// How a generation stands to what runs, as a label.
const RELEASES: [&str; 3] = ["current", "previous", "older"];

/// Each metric, once. `processes` are those of the workers, if `/proc` may be asked; `is_shared` asks for their proportional
/// memory too.
pub(crate) fn text(
    status: &Status,
    metrics: &Metrics,
    processes: Option<Processes>,
    is_shared: bool,
) -> String {
    let mut text = Text::default();
    of_pool(&mut text, status);
    of_events(&mut text, metrics);
    of_listeners(&mut text, &status.listeners);
    if let Some(processes) = processes {
        of_processes(&mut text, status, processes, is_shared);
    }
    text.into_string()
}

fn of_pool(text: &mut Text, status: &Status) {
    let master = &status.master;
    text.gauge("build_info", "The master's version.").add(&[("version", &master.version)], 1);
    text.gauge("workers_wanted", "The number of workers asked for.").add(&[], master.wanted);
    let mut workers = text.gauge("workers", "Workers, by state and release.");
    let of_release = |worker: &WorkerStatus| release_of(worker.generation, status);
    for (state, name) in
        [(WorkerState::Starting, "starting"), (WorkerState::Up, "up"), (WorkerState::Draining, "draining")]
    {
        for release in RELEASES {
            let is_one = |worker: &&WorkerStatus| worker.state == state && of_release(worker) == release;
            let count = status.workers.iter().filter(is_one).count();
            workers.add(&[("state", &name), ("release", &release)], count);
        }
    }
    let mut info = text.gauge("worker_info", "Each worker.");
    for WorkerStatus { slot, pid, index, generation, .. } in &status.workers {
        let slot = slot.0.map_or("trial".to_owned(), |slot| slot.to_string());
        info.add(&[("slot", &slot), ("pid", pid), ("index", index), ("generation", generation)], 1);
    }
    let given_up = status.slots.iter().filter(|slot| slot.given_up).count();
    text.gauge("slots_given_up", "Slots that stay empty until a command fills them.").add(&[], given_up);
}

/// The current release is the one that new workers get; the previous one, the newest of the others that the master still
/// holds.
fn release_of(generation: u64, status: &Status) -> &'static str {
    let current = status.master.generation;
    let held = status.releases.iter().map(|release| release.generation);
    let previous = match &status.upgrade {
        Some(upgrade) => Some(upgrade.from),
        None => held.filter(|held| *held != current).max(),
    };
    match generation {
        _ if generation == current => RELEASES[0],
        _ if Some(generation) == previous => RELEASES[1],
        _ => RELEASES[2],
    }
}

fn of_events(text: &mut Text, metrics: &Metrics) {
    let Metrics { counts, recycled, refused, lost_log_lines } = metrics;
    text.counter("worker_spawns_total", "Workers that were spawned.").add(&[], counts.spawns);
    text.counter("worker_acks_total", "Workers that have begun to take traffic.").add(&[], counts.acks);
    let Deaths { spawn, boot_deadline, unacked, oom, signal, exit, stop_signal } = counts.deaths;
    let deaths = [
        ("exit", exit),
        ("signal", signal),
        ("oom", oom),
        ("unacked", unacked),
        ("boot_deadline", boot_deadline),
        ("stop_signal", stop_signal),
        ("spawn", spawn),
    ];
    by_label(text, "worker_deaths_total", "Workers that died.", "reason", &deaths);
    let Recycled { max_age, max_rss, ping_timeout, asked, lost_socket } = recycled;
    let recycles = [
        ("max_age", *max_age),
        ("max_rss", *max_rss),
        ("ping_timeout", *ping_timeout),
        ("asked", *asked),
        ("lost_socket", *lost_socket),
    ];
    by_label(text, "worker_recycles_total", "Serving workers that were replaced.", "reason", &recycles);
    let mut upgrades = text.counter("upgrades_total", "Upgrades, and rollbacks by command, that have ended.");
    for (kind, outcomes) in [("upgrade", counts.upgrades), ("rollback", counts.rollbacks)] {
        let Outcomes { done, rolled_back, failed, superseded } = outcomes;
        for (outcome, count) in
            [("done", done), ("rolled_back", rolled_back), ("failed", failed), ("superseded", superseded)]
        {
            upgrades.add(&[("outcome", &outcome), ("kind", &kind)], count);
        }
    }
    text.counter("master_reexecs_total", "Replacements of the master.").add(&[], counts.reexecs);
    text.counter(
        "messages_refused_total",
        "Acks, pings and other messages that did not come from their worker.",
    )
    .add(&[], refused);
    text.counter("log_lines_lost_total", "Lines of the log that were dropped.").add(&[], lost_log_lines);
    text.histogram("worker_boot_seconds", "From the spawn of a worker to its ack.", &counts.boot);
    text.histogram("worker_drain_seconds", "From the stop signal of a worker to its end.", &counts.drain);
    let help = "From the first worker that an upgrade replaced, or the start of its check, to its end.";
    text.histogram("upgrade_duration_seconds", help, &counts.rollout);
}

fn by_label(text: &mut Text, name: &str, help: &str, label: &str, counts: &[(&str, u64)]) {
    let mut family = text.counter(name, help);
    for (value, count) in counts {
        family.add(&[(label, value)], count);
    }
}

/// The queue of a socket, with `slot` for one of a slot.
struct Queue<'a> {
    listener: &'a ListenerStatus,
    slot: Option<u32>,
    queue: QueueStatus,
}

fn queues_of(listener: &ListenerStatus) -> Vec<Queue<'_>> {
    let ListenerStatus { slots, queue, .. } = listener;
    if slots.is_empty() {
        return queue.iter().map(|queue| Queue { listener, slot: None, queue: *queue }).collect();
    }
    let queues = slots.iter().filter_map(|own| Some((own.slot, own.queue?)));
    queues.map(|(slot, queue)| Queue { listener, slot: Some(slot), queue }).collect()
}

fn of_listeners(text: &mut Text, listeners: &[ListenerStatus]) {
    let queues: Vec<_> = listeners.iter().flat_map(queues_of).collect();
    let what = "connections that wait to be accepted, or for UDP bytes that wait to be read";
    let mut length = text.gauge("listener_queue_length", &format!("What waits: {what}."));
    queues.iter().for_each(|queue| queue.add_to(&mut length, queue.queue.length));
    let mut limit = text.gauge("listener_queue_limit", &format!("How much can wait: {what}."));
    queues.iter().for_each(|queue| queue.add_to(&mut limit, queue.queue.limit));
    let mut drops = text.counter(
        "listener_drops_total",
        "Connections or packets that the kernel dropped: the queue was full.",
    );
    for queue in &queues {
        queue.queue.drops.into_iter().for_each(|count| queue.add_to(&mut drops, count));
    }
}

impl Queue<'_> {
    fn add_to(&self, family: &mut text::Family<'_>, value: impl Display) {
        let ListenerStatus { index, address, .. } = self.listener;
        let mut labels: Vec<Label<'_>> = vec![("listener", index), ("address", address)];
        labels.extend(self.slot.as_ref().map(|slot| -> Label<'_> { ("slot", slot) }));
        family.add(&labels, value);
    }
}

/// What `/proc` says of the worker of each slot. While a slot has several, it is that which serves, and before that one does,
/// the one that starts.
fn of_processes(text: &mut Text, status: &Status, processes: Processes, is_shared: bool) {
    let of_slot = |slot| {
        let workers = status.workers.iter().filter(|worker| worker.slot.0 == Some(slot));
        let undrained = workers.filter(|worker| worker.state != WorkerState::Draining);
        undrained.max_by_key(|worker| worker.state == WorkerState::Up)
    };
    let sampled: Vec<(u32, &WorkerStatus, Sample)> = status
        .slots
        .iter()
        .filter_map(|slot| Some((slot.slot, of_slot(slot.slot)?)))
        .filter_map(|(slot, worker)| Some((slot, worker, processes.sample(worker, is_shared)?)))
        .collect();
    let mut cpu = text.counter("worker_cpu_seconds_total", "CPU time of the worker of each slot.");
    sampled.iter().for_each(|(slot, _, sample)| cpu.add(&[("slot", slot)], sample.cpu_seconds));
    let mut resident = text.gauge("worker_resident_memory_bytes", "Memory of the worker of each slot.");
    sampled.iter().for_each(|(slot, _, sample)| resident.add(&[("slot", slot)], sample.resident_bytes));
    if is_shared {
        let help = "Memory of the worker of each slot, with its share of pages that others have too.";
        let mut proportional = text.gauge("worker_proportional_memory_bytes", help);
        for (slot, _, sample) in &sampled {
            sample
                .proportional_bytes
                .into_iter()
                .for_each(|bytes| proportional.add(&[("slot", slot)], bytes));
        }
    }
    let booted_at = procfs::boot_time_secs().ok();
    let mut started = text
        .gauge("worker_start_time_seconds", "When the worker of each slot started, in seconds since 1970.");
    for (slot, worker, _) in &sampled {
        if let (Some(booted_at), Some(after)) = (booted_at, processes.started_after(worker)) {
            #[expect(clippy::cast_precision_loss)]
            started.add(&[("slot", slot)], booted_at as f64 + after);
        }
    }
}
