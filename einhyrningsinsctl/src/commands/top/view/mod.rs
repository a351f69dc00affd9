//! Draws the view: the head above, the slots below it, then the events, and one line for questions and answers.
//!
//! A small terminal keeps what matters most: the master, the rollout and the last line, then some slots, then the rest.

mod head;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style as Look};
use ratatui_core::terminal::Frame;

use super::slots;
use super::state::{Bottom, State};
use crate::commands::events;
use crate::live::Event;
use crate::table::{Line, Span, Style, fit};
use crate::text::{coarse_age, wrap};

pub(super) use head::head;

/// How many rows the slots get at least, with their headings, and how many lines the head gets in any case: else half of all.
const SLOTS_LEAST: usize = 5;
const HEAD_MOST: usize = 6;

/// How many lines the events get at most where slots want them, with their heading, and the least that is worth it.
const EVENTS_MOST: usize = 7;
const EVENTS_LEAST: usize = 3;

/// How many lines an answer may take.
const ANSWER_MOST: usize = 4;

const KEYS: [(&str, &str); 7] = [
    ("u", "upgrade"),
    ("a", "abort"),
    ("r", "rollback"),
    ("+", "more"),
    ("-", "less"),
    ("R", "replace"),
    ("q", "quit"),
];

/// Draws a frame of the state at a time in milliseconds since 1970.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, now_ms: u64, is_coloured: bool) {
    let area = frame.area();
    let mut canvas = Canvas { buffer: frame.buffer_mut(), area, row: 0, is_coloured, is_old: false };
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    let mut bottom = bottom(&state.bottom, columns, rows);
    let room = rows.saturating_sub(bottom.len());

    let head = head(state, columns);
    let head =
        most_important(head, room.saturating_sub(SLOTS_LEAST).min(HEAD_MOST.max(room / 2)).max(2).min(room));
    let room = room - head.len();
    for (is_new, line) in head {
        canvas.is_old = state.is_lost() && !is_new;
        canvas.line(&line);
    }
    canvas.is_old = state.is_lost();

    let Some(status) = state.picture.status.as_ref() else {
        canvas.row = rows.saturating_sub(bottom.len());
        bottom.iter().for_each(|line| canvas.line(line));
        return;
    };
    let table = slots::table(&state.picture, status, Some(columns));
    let count = table.len();
    let blank = usize::from(room > count + 2 + EVENTS_LEAST || room > 12);
    let heard = state.recent.iter().count();
    let events_most = match heard {
        0 => 0,
        heard => (heard + 1).min(room.saturating_sub(blank + 1 + count + 1).max(EVENTS_MOST.min(room / 3))),
    };
    let events_rows = if events_most >= EVENTS_LEAST.min(heard + 1) { events_most } else { 0 };
    let gap = usize::from(events_rows > 0);
    let page = room.saturating_sub(blank + 1 + events_rows + gap);
    let first = state.scroll(page, count);
    let selected = state.selected;
    if page < count && state.bottom == Bottom::Keys {
        let place = format!("   {} of {count}", selected + 1);
        bottom.iter_mut().for_each(|line| line.push(Span::plain(&place)));
    }

    canvas.row += blank.min(room);
    for (at, line) in table.window(first..first + page).iter().enumerate() {
        let is_selected = at > 0 && first + at - 1 == selected;
        canvas.selected_line(line, is_selected);
    }
    if events_rows > 0 {
        canvas.is_old = false;
        canvas.row = rows.saturating_sub(bottom.len() + events_rows);
        canvas.line(&vec![Span::new("EVENTS", Style::Strong)]);
        let lines: Vec<_> =
            state.recent.iter().rev().take(events_rows - 1).map(|event| event_line(event, now_ms)).collect();
        lines.iter().rev().for_each(|line| canvas.line(line));
    }
    canvas.is_old = false;
    canvas.row = rows.saturating_sub(bottom.len());
    bottom.iter().for_each(|line| canvas.line(line));
}

/// Leaves out what matters least, from the last to the first, until the rest fits.
fn most_important(mut head: Vec<head::Fact>, room: usize) -> Vec<(bool, Line)> {
    while head.len() > room {
        let Some(worst) = head.iter().map(|fact| fact.rank).max() else { break };
        if let Some(at) = head.iter().rposition(|fact| fact.rank == worst) {
            head.remove(at);
        }
    }
    head.into_iter().map(|fact| (fact.is_new, fact.line)).collect()
}

fn event_line(event: &Event, now_ms: u64) -> Line {
    let ago = coarse_age(now_ms.saturating_sub(event.at_ms));
    vec![
        Span::new(&format!("{ago:>4}  "), Style::Faint),
        Span::new(&event.message, events::style(event.severity)),
    ]
}

/// The last lines.
fn bottom(bottom: &Bottom, columns: usize, rows: usize) -> Vec<Line> {
    match bottom {
        Bottom::Keys => vec![keys(columns)],
        Bottom::Question(_, question) => vec![vec![Span::new(&format!("{question} y/N "), Style::Strong)]],
        Bottom::Said(text, style) => {
            // One line too many is cut by what it is drawn on.
            let text = Span::new(text, *style);
            let lines = wrap(text.text(), columns);
            let most = ANSWER_MOST.min(rows / 4).max(1);
            lines.iter().take(most).map(|line| vec![Span::new(line, *style)]).collect()
        }
    }
}

/// The keys; on a narrow terminal, what they do in one word less.
fn keys(columns: usize) -> Line {
    let gap = if columns < slots::WIDE { " " } else { "   " };
    let mut line = Line::new();
    for (at, (key, what)) in KEYS.into_iter().enumerate() {
        line.push(Span::plain(if at == 0 { "" } else { gap }));
        line.push(Span::new(key, Style::Strong));
        line.push(Span::new(&format!(" {what}"), Style::Faint));
    }
    line
}

/// Where lines are drawn, one below the other.
struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    row: usize,
    is_coloured: bool,
    /// Whether what is drawn is old, and may be otherwise by now.
    is_old: bool,
}

impl Canvas<'_> {
    fn line(&mut self, line: &Line) {
        self.selected_line(line, false);
    }

    fn selected_line(&mut self, line: &Line, is_selected: bool) {
        let Ok(row) = u16::try_from(self.row) else { return };
        self.row += 1;
        if row >= self.area.height {
            return;
        }
        let (mut x, y) = (self.area.x, self.area.y + row);
        for (text, style) in fit(line, usize::from(self.area.width)) {
            let look = self.look(style);
            (x, _) = self.buffer.set_stringn(x, y, &text, usize::from(self.area.right() - x), look);
        }
        if is_selected {
            let row = Rect { y, height: 1, ..self.area };
            self.buffer.set_style(row, Look::new().add_modifier(Modifier::REVERSED));
        }
    }

    /// How a style looks. Without colours, weight remains.
    fn look(&self, style: Style) -> Look {
        let plain = Look::new();
        let look = match style {
            Style::Plain => plain,
            Style::Strong => plain.add_modifier(Modifier::BOLD),
            Style::Faint => plain.add_modifier(Modifier::DIM),
            Style::Good if self.is_coloured => plain.fg(Color::Green),
            Style::Busy if self.is_coloured => plain.fg(Color::Yellow),
            Style::Bad if self.is_coloured => plain.fg(Color::Red),
            Style::Good | Style::Busy | Style::Bad => plain,
        };
        if self.is_old { look.add_modifier(Modifier::DIM) } else { look }
    }
}

#[cfg(test)]
mod tests;
