//! What the view shows, and what each key means: no I/O, no clock.
//!
//! It receives pictures, events, answers and keys, and returns what is to be done about a key. What changes anything at the
//! master is asked of the user first; any key but y means no.

use einhorn_proto::{Severity, Status};

use super::super::status::{Row, rows};
use super::keys::Key;
use super::order::{Answer, Order};
use crate::live::{Event, Picture, Recent};
use crate::table::Style;

/// How many events are kept, which is more than most terminals have lines.
const EVENTS_MAX: usize = 100;

/// What to do about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, but the view may have changed.
    Nothing,
    /// End.
    Quit,
    /// Give the terminal to the shell for a while.
    Suspend,
    /// Draw all of it again.
    Redraw,
    /// Ask this of the master.
    Send(Order),
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bottom {
    /// The keys.
    Keys,
    /// A question to the user.
    Question(Order, String),
    /// What came of an order, until the next key.
    Said(String, Style),
}

/// What the view shows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) picture: Picture,
    pub(super) recent: Recent,
    pub(super) bottom: Bottom,
    /// The row that is selected, and what it shows: rows come and go.
    pub(super) selected: usize,
    anchor: Option<Anchor>,
    /// The first row on the screen, and how many there are.
    first: usize,
    page: usize,
    /// Orders that have no answer yet.
    sent: Vec<Order>,
}

/// What a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    slot: Option<u32>,
    pid: Option<i32>,
}

impl Anchor {
    fn of(row: &Row<'_>) -> Self {
        Self { slot: row.slot, pid: row.worker.map(|(_, worker)| worker.pid) }
    }
}

impl State {
    /// That of a view which begins with this picture.
    pub(super) fn new(picture: Picture) -> Self {
        let mut state = Self {
            picture,
            recent: Recent::new(EVENTS_MAX),
            bottom: Bottom::Keys,
            selected: 0,
            anchor: None,
            first: 0,
            page: 1,
            sent: Vec::new(),
        };
        state.select(0);
        state
    }

    /// Takes the next picture.
    pub(super) fn see(&mut self, picture: Picture) {
        if let Some(news) = picture.news(Some(&self.picture)) {
            self.recent.push(news);
        }
        self.picture = picture;
        self.follow_selection();
    }

    /// Notes what has happened, and returns whether the pool may look different now.
    pub(super) fn hear(&mut self, event: Event) -> bool {
        if event.severity != Severity::Debug {
            self.recent.push(event);
        }
        true
    }

    /// Takes the answer to an order. A question to the user stays.
    pub(super) fn answer(&mut self, answer: &Answer) {
        if let Some(at) = self.sent.iter().position(|sent| *sent == answer.order) {
            self.sent.remove(at);
        }
        if matches!(self.bottom, Bottom::Question(..)) {
            let severity = if answer.is_ok { Severity::Info } else { Severity::Error };
            let (at_ms, message) = (self.picture.at_ms, self.words_of(answer));
            self.recent.push(Event { at_ms, severity, message, notice: None });
        } else {
            let style = if answer.is_ok { Style::Good } else { Style::Bad };
            self.bottom = Bottom::Said(self.words_of(answer), style);
        }
    }

    fn words_of(&self, answer: &Answer) -> String {
        let Answer { order, is_ok, text } = answer;
        match text.as_str() {
            "" if *is_ok => format!("{}: done", order.name()),
            "" => format!("{}: refused", order.name()),
            text => text.to_owned(),
        }
    }

    /// Whether an order has no answer yet that ends with a rollout.
    pub(super) fn awaits_rollout(&self) -> bool {
        self.sent.iter().any(|order| order.is_rollout())
    }

    /// The status, new or old; `None` before there was one.
    pub(super) fn status(&self) -> Option<&Status> {
        self.picture.status.as_ref()
    }

    /// Whether the master does not answer, so that all but this is old.
    pub(super) fn is_lost(&self) -> bool {
        self.picture.is_lost()
    }

    /// What to do about a key.
    pub(super) fn key(&mut self, key: Key) -> Effect {
        match key {
            Key::Control('c') => return Effect::Quit,
            Key::Control('z') => return Effect::Suspend,
            Key::Control('l') => return Effect::Redraw,
            Key::Control(_) => return Effect::Nothing,
            _ => {}
        }
        if let Bottom::Question(order, _) = self.bottom {
            return self.confirm(order, key);
        }
        self.bottom = Bottom::Keys;
        match key {
            Key::Char('q') | Key::Esc => return Effect::Quit,
            Key::Char('u') => self.ask(Order::Upgrade),
            Key::Char('a') => self.ask(Order::Abort),
            Key::Char('r') => self.ask(Order::Rollback),
            // A keyboard may have + only above =.
            Key::Char('+' | '=') => self.ask(Order::Grow),
            Key::Char('-' | '_') => self.ask(Order::Shrink),
            Key::Char('R') => {
                if let Some(Anchor { slot, pid }) = self.anchor {
                    self.ask(Order::Replace { slot, pid });
                }
            }
            Key::Up | Key::Char('k') => self.select(self.selected.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(self.selected.saturating_add(1)),
            Key::PageUp => self.select(self.selected.saturating_sub(self.page)),
            Key::PageDown => self.select(self.selected.saturating_add(self.page)),
            Key::Home | Key::Char('g') => self.select(0),
            Key::End | Key::Char('G') => self.select(usize::MAX),
            Key::Char(_) | Key::Control(_) | Key::Other => {}
        }
        Effect::Nothing
    }

    fn ask(&mut self, order: Order) {
        self.bottom = match self.status() {
            _ if self.is_lost() => Bottom::Said("the master does not answer".to_owned(), Style::Bad),
            None => Bottom::Keys,
            Some(status) => match order.question(status) {
                Ok(question) => Bottom::Question(order, question),
                Err(why_not) => Bottom::Said(why_not, Style::Busy),
            },
        };
    }

    fn confirm(&mut self, order: Order, key: Key) -> Effect {
        if !matches!(key, Key::Char('y' | 'Y')) {
            self.bottom = Bottom::Said(format!("{}: not done", order.name()), Style::Plain);
            return Effect::Nothing;
        }
        self.sent.push(order);
        self.bottom = Bottom::Said(format!("{}: sent", order.name()), Style::Busy);
        Effect::Send(order)
    }

    /// Selects a row, or the last one.
    fn select(&mut self, row: usize) {
        let rows = self.status().map(rows).unwrap_or_default();
        let row = row.min(rows.len().saturating_sub(1));
        let anchor = rows.get(row).map(Anchor::of);
        (self.selected, self.anchor) = (row, anchor);
    }

    /// Finds what is selected in other rows: the same worker, or else the last row of its slot, where its successor stands.
    fn follow_selection(&mut self) {
        let rows = self.status().map(rows).unwrap_or_default();
        let same = self.anchor.and_then(|anchor| {
            let of_worker = rows.iter().position(|row| Anchor::of(row) == anchor);
            of_worker.or_else(|| rows.iter().rposition(|row| row.slot == anchor.slot))
        });
        self.select(same.unwrap_or(self.selected));
    }

    /// The first of `page` rows on the screen, so that the selected one is among them.
    pub(super) fn scroll(&mut self, page: usize, rows: usize) -> usize {
        self.page = page.max(1);
        let last_first = rows.saturating_sub(self.page);
        let least = (self.selected + 1).saturating_sub(self.page);
        self.first = self.first.clamp(least, self.selected.max(least)).min(last_first);
        self.first
    }
}

#[cfg(test)]
mod tests;
