//! The table of `status`.

use std::time::Duration;

use einhorn_proto::{Status, WorkerState, WorkerStatus};

use super::rows::{Row, memory, rows};
use crate::processes::{Processes, Sample};
use crate::table::{Align, Span, Style, Table};
use crate::text::age;

/// Which rows to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Rows {
    /// Workers that have not acked
    Starting,
    /// Workers that have acked
    Up,
    /// Workers that were asked to stop
    Draining,
    /// Slots without a worker
    Empty,
}

impl Rows {
    fn of(row: &Row<'_>) -> Self {
        match row.worker.map(|(_, worker)| worker.state) {
            Some(WorkerState::Starting) => Self::Starting,
            Some(WorkerState::Up) => Self::Up,
            Some(WorkerState::Draining) => Self::Draining,
            None => Self::Empty,
        }
    }
}

/// The table, of all rows or of some. `processes` shows memory and CPU time; `None` if they cannot be known.
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
    for row in rows(status).iter().filter(|row| only.is_none_or(|only| only == Rows::of(row))) {
        let [rss, cpu] = use_of(row.worker.map(|(_, worker)| worker), processes, status.master.max_rss);
        table.row(vec![
            row.number(),
            row.of_worker(|worker| worker.index),
            row.of_worker(|worker| worker.pid),
            row.of_worker(|worker| worker.generation),
            row.state(),
            row.of_worker(|worker| age(worker.age_ms)),
            rss,
            cpu,
            row.restarts(),
            Span::plain(&row.last_death().unwrap_or_default()),
        ]);
        if let Some(text) = row.missing_ack(status) {
            table.note(vec![Span::new(&format!("      {text}"), Style::Busy)]);
        }
        if let Some(text) = row.worker.and_then(|(_, worker)| worker.text.as_ref()) {
            table.note(vec![Span::new(&format!("      says: {text}"), Style::Faint)]);
        }
    }
    table
}

/// The memory of a worker, with its limit, and its CPU time.
fn use_of(worker: Option<&WorkerStatus>, processes: Option<Processes>, rss_max: Option<u64>) -> [Span; 2] {
    let Some(worker) = worker else { return [(); 2].map(|()| Span::plain("")) };
    let sample = processes.and_then(|processes| processes.sample(worker, false));
    let Some(Sample { cpu_seconds, resident_bytes, .. }) = sample else {
        return [(); 2].map(|()| Span::plain("-"));
    };
    let millis = Duration::try_from_secs_f64(cpu_seconds).map_or(0, |time| time.as_millis() as u64);
    [memory(resident_bytes, rss_max), Span::plain(&age(millis))]
}
