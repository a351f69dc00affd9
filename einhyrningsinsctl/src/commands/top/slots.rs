//! The table of slots.

use einhorn_proto::Status;

use super::super::status::{Row, memory, rows};
use crate::live::{Picture, Usage};
use crate::table::{Align, Span, Style, Table};
use crate::text::{age, size};

/// From how many columns on there is room for blanks, and for what is said twice.
pub(super) const WIDE: usize = 72;

/// What a narrow terminal does without, in this order, before what workers say is cut to less than so much.
const DISPENSABLE: [&str; 4] = ["RESTARTS", "AGE", "GEN", "RSS"];
const SAYS_LEAST: usize = 16;

/// The table of the slots of a picture, for a terminal with so many columns.
pub(super) fn table(picture: &Picture, status: &Status, columns: Option<usize>) -> Table {
    let mut table = Table::new(&[
        ("SLOT", Align::Right),
        ("PID", Align::Right),
        ("GEN", Align::Right),
        ("STATE", Align::Left),
        ("CPU", Align::Right),
        ("RSS", Align::Right),
        ("AGE", Align::Right),
        ("RESTARTS", Align::Right),
        ("SAYS, OR LAST DEATH", Align::Left),
    ]);
    let is_narrow = columns.is_some_and(|columns| columns < WIDE);
    for row in rows(status) {
        let usage = row.worker.and_then(|(at, _)| picture.usages.get(at).copied().flatten());
        table.row(vec![
            row.number(),
            row.of_worker(|worker| worker.pid),
            row.of_worker(|worker| worker.generation),
            row.state(),
            of(&row, usage, |usage| usage.cpu_percent.map(percent)),
            of(&row, usage, |usage| Some(resident(usage.resident_bytes, status.master.max_rss, is_narrow))),
            row.of_worker(|worker| age(worker.age_ms)),
            row.restarts(),
            says(&row, status),
        ]);
    }
    if let Some(columns) = columns {
        table.fit(columns, &DISPENSABLE, SAYS_LEAST);
    }
    table
}

/// What a worker uses; `-` if that is not known, and nothing for a slot without one.
fn of(row: &Row<'_>, usage: Option<Usage>, span: impl FnOnce(Usage) -> Option<Span>) -> Span {
    let unknown = if row.worker.is_some() { "-" } else { "" };
    usage.and_then(span).unwrap_or_else(|| Span::plain(unknown))
}

/// Memory, with its limit where there is room: that stands in the head, too.
fn resident(bytes: u64, max: Option<u64>, is_narrow: bool) -> Span {
    match max {
        Some(max) if is_narrow => {
            Span::new(&size(bytes), if bytes > max { Style::Bad } else { Style::Plain })
        }
        max => memory(bytes, max),
    }
}

/// A share of a CPU.
pub(super) fn percent(percent: f64) -> Span {
    Span::plain(&if percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") })
}

/// What a worker waits for or says, or else how the last one of its slot died.
fn says(row: &Row<'_>, status: &Status) -> Span {
    if let Some(text) = row.missing_ack(status) {
        return Span::new(&text, Style::Busy);
    }
    match row.worker.and_then(|(_, worker)| worker.text.as_deref()) {
        Some(text) => Span::new(text, Style::Faint),
        None => Span::plain(&row.last_death().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_has_a_decimal() {
        for (share, text) in [(0.0, "0.0%"), (9.94, "9.9%"), (9.96, "10%"), (398.6, "399%")] {
            assert_eq!(percent(share), Span::plain(text));
        }
    }
}
