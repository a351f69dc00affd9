//! The head of the view: the master, what runs, the rollout, the listeners, and what is wrong.

use einhorn_proto::{ListenerStatus, Outcome, Status};

use super::super::slots::{WIDE, percent};
use super::super::state::State;
use crate::commands::bar::bar_of_pool;
use crate::commands::status::{
    fact, heading, last_line, lasting_line, leftover_line, master_lines, queue_line, queue_words,
    release_lines, trouble, upgrade_line,
};
use crate::live::{Link, Picture};
use crate::table::{Line, Span, Style};
use crate::text::{age, size, width};

/// How many listeners, and how many warnings of a kind, have a line; more have one together.
const EACH_MOST: usize = 4;

/// The columns in which addresses stand, so that the bars stand in one.
const ADDRESS_MOST: usize = 40;

/// The columns of the bar of a queue.
const QUEUE_COLUMNS: u64 = 10;

/// A line of the head.
#[derive(Debug)]
pub(in crate::commands::top) struct Fact {
    /// How much it matters, 0 most: a small terminal does without the rest.
    pub(super) rank: u8,
    /// Whether it is true of a master that is lost.
    pub(super) is_new: bool,
    pub(in crate::commands::top) line: Line,
}

/// The lines of the head, for a terminal with so many columns.
pub(in crate::commands::top) fn head(state: &State, columns: usize) -> Vec<Fact> {
    let picture = &state.picture;
    let mut head = Vec::new();
    let mut add = |rank, line| head.push(Fact { rank, is_new: false, line });
    if let Some(status) = &picture.status {
        let mut lines = master_lines(status).into_iter();
        lines.next().into_iter().for_each(|line| add(0, line));
        if let Some(mut line) = lines.next() {
            line.extend(totals(picture));
            add(0, line);
        }
        running(status).into_iter().for_each(|line| add(3, line));
        if let Some(upgrade) = &status.upgrade {
            add(2, upgrade_line(upgrade, None));
            // The bar stands behind the gap of a heading, if there is room.
            let gap = if columns < WIDE { Line::new() } else { vec![heading("")] };
            let room = columns.saturating_sub(gap.iter().map(|gap| width(gap.text())).sum());
            let bar = Span::new(&bar_of_pool(status, room).unwrap_or_default(), Style::Busy);
            add(0, gap.into_iter().chain([bar]).collect());
        } else if let Some(last) = &status.last_upgrade {
            add(4, last_line(last));
        }
        queue_line(status.queued).into_iter().for_each(|line| add(2, line));
        limits(status).into_iter().for_each(|line| add(6, line));
        listeners(&status.listeners).into_iter().for_each(|line| add(3, line));
        some(status.lasting.iter().map(lasting_line).collect()).into_iter().for_each(|line| add(1, line));
        some(status.leftovers.iter().map(leftover_line).collect()).into_iter().for_each(|line| add(1, line));
    }
    if let Some(why) = &picture.unseen {
        let text = format!("no memory and CPU time of the workers: {why}");
        head.push(Fact {
            rank: 5,
            is_new: false,
            line: vec![heading("note"), Span::new(&text, Style::Faint)],
        });
    }
    if let Link::Lost { why, hint, for_ms } = &picture.link {
        let text = format!("no answer for {}: {why}", age(*for_ms));
        let lost = vec![heading("lost"), Span::new(&text, Style::Bad)];
        head.insert(0, Fact { rank: 0, is_new: true, line: lost });
        if let Some(hint) = hint {
            let line =
                vec![heading(""), Span::new(&format!("{hint}; below is what was last known"), Style::Busy)];
            head.insert(1, Fact { rank: 1, is_new: true, line });
        }
    }
    head
}

/// What all workers use together.
fn totals(picture: &Picture) -> Vec<Span> {
    let Some(total) = picture.total else { return Vec::new() };
    let mut spans = vec![Span::plain(&format!(", {}", size(total.resident_bytes)))];
    if let Some(share) = total.cpu_percent {
        spans.push(Span::plain(&format!(", {} CPU", percent(share).text())));
    }
    spans
}

/// The release that serves, and the one that is to serve next. Older ones matter only to a rollback.
fn running(status: &Status) -> Vec<Line> {
    let current = status.upgrade.as_ref().map_or(status.master.generation, |upgrade| upgrade.from);
    let shown = status.releases.iter().filter(|release| release.generation >= current);
    let lines = shown.filter_map(|release| {
        let since = (release.generation == current).then(|| since_ms(status)).flatten();
        release_lines(status, release, since).into_iter().next()
    });
    lines.collect()
}

/// For how long the current release has served, if that is known.
fn since_ms(status: &Status) -> Option<u64> {
    match (&status.upgrade, &status.last_upgrade) {
        (Some(_), _) => None,
        (None, None) => Some(status.master.age_ms),
        (None, Some(last)) => (last.report.outcome == Outcome::Done).then_some(last.ended_ms),
    }
}

/// What limits the pool: how many workers start at a time, and their memory.
fn limits(status: &Status) -> Option<Line> {
    let pace = status.pace.map(|pace| format!("workers start {pace}"));
    let memory = status.master.max_rss.map(|bytes| format!("a worker above {} is replaced", size(bytes)));
    let limits: Vec<_> = pace.into_iter().chain(memory).collect();
    (!limits.is_empty()).then(|| fact("limits", &limits.join("; ")))
}

/// A line for each listener, with a bar of its queue.
fn listeners(listeners: &[ListenerStatus]) -> Vec<Line> {
    let widths = listeners.iter().take(EACH_MOST).map(|listener| width(&listener.address));
    let widest = widths.max().unwrap_or(0).min(ADDRESS_MOST);
    some(listeners.iter().map(|listener| listener_line(listener, widest)).collect())
}

fn listener_line(listener: &ListenerStatus, widest: usize) -> Line {
    let padding = " ".repeat(widest.saturating_sub(width(&listener.address)));
    let mut line = vec![heading("listens"), Span::plain(&listener.address)];
    if let (Some(queue), Some(words)) = (listener.queue, queue_words(listener)) {
        let (filled, bar) = queue_bar(queue.length, queue.limit);
        let style = match filled {
            0..3 => Style::Plain,
            3..8 => Style::Busy,
            _ => Style::Bad,
        };
        line.push(Span::plain(&format!("{padding}  [")));
        line.push(Span::new(&bar, style));
        line.push(Span::plain(&format!("] {words}")));
    }
    line.extend(trouble(listener));
    line
}

/// How much of the bar of a queue is filled, and the bar. One that is not empty has a mark.
fn queue_bar(length: u32, limit: u32) -> (u64, String) {
    let part = QUEUE_COLUMNS * u64::from(length) / u64::from(limit.max(1));
    let filled = part.min(QUEUE_COLUMNS).max(u64::from(length > 0));
    (filled, (0..QUEUE_COLUMNS).map(|column| if column < filled { '#' } else { '.' }).collect())
}

/// The first of many lines, and how many more there are.
fn some(mut lines: Vec<Line>) -> Vec<Line> {
    let more = lines.len().saturating_sub(EACH_MOST);
    if more > 1 {
        lines.truncate(EACH_MOST);
        lines.push(vec![
            heading(""),
            Span::new(&format!("and {more} more; \"status\" shows all"), Style::Faint),
        ]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_not_empty_has_a_mark_and_a_full_one_is_full() {
        for (length, bar) in [
            (0, ".........."),
            (1, "#........."),
            (2047, "####......"),
            (4096, "##########"),
            (9999, "##########"),
        ] {
            assert_eq!(queue_bar(length, 4096).1, bar, "{length}");
        }
        assert_eq!(queue_bar(0, 0).1, "..........");
    }
}
