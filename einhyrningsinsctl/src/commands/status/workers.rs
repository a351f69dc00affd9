//! The table of `status`: a row for each worker, and for each slot without any.

use std::fmt::Display;
use std::time::Duration;

use einhorn_proto::{Death, SlotStatus, Status, Termination, WorkerState, WorkerStatus};

use crate::processes::{Processes, Sample};
use crate::table::{Align, Span, Style, Table};
use crate::text::{age, coarse_age, size};

/// From when on a worker without an ack is pointed out.
const ACK_PATIENCE_MS: u64 = 5_000;

/// Which rows to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Rows {
    /// Workers that have not said yet that they take traffic
    Starting,
    /// Workers that take traffic
    Up,
    /// Workers that were asked to stop
    Draining,
    /// Slots without a worker
    Empty,
}

impl Rows {
    fn of(state: WorkerState) -> Self {
        match state {
            WorkerState::Starting => Self::Starting,
            WorkerState::Up => Self::Up,
            WorkerState::Draining => Self::Draining,
        }
    }
}

/// The table, of all rows or of some.
pub(super) fn worker_table(status: &Status, only: Option<Rows>, processes: Option<Processes>) -> Table {
    let mut table = Table::new(&[
        ("SLOT", Align::Right),
        ("INDEX", Align::Right),
        ("PID", Align::Right),
        ("GEN", Align::Right),
        ("STATE", Align::Left),
        ("AGE", Align::Right),
        ("RSS", Align::Right),
        ("CPU", Align::Right),
        ("RESTARTS", Align::Right),
        ("LAST DEATH", Align::Left),
    ]);
    let is_manual = status.master.ack_mode.as_deref() == Some("manual");
    let view = View { is_manual, only, processes, rss_max: status.master.max_rss };
    let mut workers = status.workers.as_slice();
    for slot in &status.slots {
        let others = workers.partition_point(|worker| worker.slot.0.is_some_and(|own| own <= slot.slot));
        let (of_slot, rest) = workers.split_at(others);
        view.add_slot(&mut table, slot, of_slot);
        workers = rest;
    }
    // Workers of removed slots, which still finish their requests, and one on trial.
    for worker in workers {
        view.add_worker(&mut table, worker, None);
    }
    table
}

/// How the rows are made.
struct View {
    is_manual: bool,
    only: Option<Rows>,
    /// What shows memory and CPU time; `None` if they cannot be known.
    processes: Option<Processes>,
    /// The limit of memory, in bytes.
    rss_max: Option<u64>,
}

impl View {
    /// The memory of a worker, with its limit, and its CPU time.
    fn use_of(&self, worker: &WorkerStatus) -> [Span; 2] {
        let sample = self.processes.and_then(|processes| processes.sample(worker, false));
        let Some(Sample { cpu_seconds, resident_bytes, .. }) = sample else {
            return [(); 2].map(|()| Span::plain("-"));
        };
        let millis = Duration::try_from_secs_f64(cpu_seconds).map_or(0, |time| time.as_millis() as u64);
        [memory(resident_bytes, self.rss_max), Span::plain(&age(millis))]
    }

    fn shows(&self, rows: Rows) -> bool {
        self.only.is_none_or(|only| only == rows)
    }

    /// Adds a row for each worker of the slot, and one for the slot itself if no worker fills it. The last row has the
    /// facts about the slot.
    fn add_slot(&self, table: &mut Table, slot: &SlotStatus, workers: &[WorkerStatus]) {
        let vacancy = vacancy(slot, workers);
        let last = workers.len().saturating_sub(1);
        for (at, worker) in workers.iter().enumerate() {
            let slot = Some(slot).filter(|_| at == last && vacancy.is_none());
            self.add_worker(table, worker, slot);
        }
        if let Some(state) = vacancy.filter(|_| self.shows(Rows::Empty)) {
            let none = || Span::plain("");
            let [restarts, death] = of_slot(Some(slot));
            let row =
                [number(slot.slot), none(), none(), none(), state, none(), none(), none(), restarts, death];
            table.row(row.into());
        }
    }

    fn add_worker(&self, table: &mut Table, worker: &WorkerStatus, slot: Option<&SlotStatus>) {
        if !self.shows(Rows::of(worker.state)) {
            return;
        }
        let (state, style) = match worker.state {
            WorkerState::Starting => ("starting", Style::Busy),
            WorkerState::Up => ("up", Style::Good),
            WorkerState::Draining => ("draining", Style::Faint),
        };
        let (state, style) = match (worker.stopped, worker.unsignallable) {
            (_, true) => (format!("{state}, cannot be signalled"), Style::Bad),
            (true, false) => (format!("{state}, stopped"), Style::Bad),
            (false, false) => (state.to_owned(), style),
        };
        let ([restarts, death], [rss, cpu]) = (of_slot(slot), self.use_of(worker));
        table.row(vec![
            worker.slot.0.map_or_else(|| Span::plain("trial"), number),
            number(worker.index),
            number(worker.pid),
            number(worker.generation),
            Span::new(&state, style),
            Span::plain(&age(worker.age_ms)),
            rss,
            cpu,
            restarts,
            death,
        ]);
        if self.is_manual && worker.state == WorkerState::Starting && worker.age_ms >= ACK_PATIENCE_MS {
            let text = format!(
                "      no ack for {}: it is up once it sends worker:ack or READY=1",
                age(worker.age_ms)
            );
            table.note(vec![Span::new(&text, Style::Busy)]);
        }
        if let Some(text) = &worker.text {
            table.note(vec![Span::new(&format!("      says: {text}"), Style::Faint)]);
        }
    }
}

fn vacancy(slot: &SlotStatus, workers: &[WorkerStatus]) -> Option<Span> {
    if workers.iter().any(|worker| worker.state != WorkerState::Draining) {
        return None;
    }
    match slot.next_spawn_ms {
        _ if slot.given_up => Some(Span::new("given up", Style::Bad)),
        Some(millis) => Some(Span::new(&format!("waiting {}", age(millis)), Style::Busy)),
        None if workers.is_empty() => Some(Span::new("empty", Style::Busy)),
        None => None,
    }
}

/// Memory, and what there may be of it.
fn memory(bytes: u64, max: Option<u64>) -> Span {
    match max {
        Some(max) => {
            let style = if bytes > max { Style::Bad } else { Style::Plain };
            Span::new(&format!("{} of {}", size(bytes), size(max)), style)
        }
        None => Span::plain(&size(bytes)),
    }
}

fn number(number: impl Display) -> Span {
    Span::plain(&number.to_string())
}

/// Restarts and last death.
fn of_slot(slot: Option<&SlotStatus>) -> [Span; 2] {
    let Some(slot) = slot else { return [Span::plain(""), Span::plain("")] };
    let style = if slot.restarts > 0 { Style::Busy } else { Style::Plain };
    let death = slot.last_death.as_ref().map(|death| death_text(death, slot.last_death_age_ms));
    [Span::new(&slot.restarts.to_string(), style), Span::plain(&death.unwrap_or_default())]
}

/// Time and reason come first, because the line may be cut.
pub(super) fn death_text(death: &Death, ago_ms: Option<u64>) -> String {
    let mut text = ago_ms.map(|millis| format!("{} ago: ", coarse_age(millis))).unwrap_or_default();
    text.push_str(&short_reason(death));
    if let Some(pid) = death.pid {
        let unacked = if death.acked { "" } else { ", unacked" };
        let generation = death.generation;
        text.push_str(&format!(" after {}{unacked} (pid {pid}, generation {generation})", age(death.age_ms)));
    }
    text
}

/// The reason, abbreviated where that says as much: a terminal has little room.
fn short_reason(death: &Death) -> String {
    match &death.termination {
        Some(termination) if termination.to_string() == death.reason => match termination {
            Termination::Exited(status) => format!("exit {status}"),
            Termination::Killed { signal, out_of_memory: true, .. } => format!("{signal} (out of memory)"),
            Termination::Killed { signal, core_dumped: false, .. } => signal.clone(),
            Termination::Killed { signal, core_dumped: true, .. } => format!("{signal} (core dumped)"),
            Termination::Unseen => "unseen".to_owned(),
        },
        _ => death.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stands_beside_its_limit() {
        const MIB: u64 = 1 << 20;
        assert_eq!(memory(412 * MIB, None), Span::plain("412M"));
        assert_eq!(memory(412 * MIB, Some(500 * MIB)), Span::plain("412M of 500M"));
        assert_eq!(memory(501 * MIB, Some(500 * MIB)), Span::new("501M of 500M", Style::Bad));
    }
}
