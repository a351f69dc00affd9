//! `top --batch`: a plain table each time, for pipes and files, or with `--json` a line.

use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::value::to_raw_value;

use super::super::line::Line as JsonLine;
use super::state::State;
use super::{Context, EVERY, NAME, slots, view};
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::live::{self, Event, Link, Live, Picture};
use crate::table::{Line, Span, Style};
use crate::wait::{Ended, Wait};

/// From the first look to the second, which is the first that knows how much CPU time is used.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// The columns of a pipe, which has no end: bars and texts are made for a wide terminal.
const PIPE_COLUMNS: usize = 160;

/// Writes tables until Ctrl-C, or until so many are written.
///
/// # Errors
/// [`Error`], if the master does not answer at first. One that is lost later is waited for.
pub(super) fn run(
    context: &mut Context<'_>,
    live: &mut Live,
    interval: Option<Duration>,
    count: Option<u64>,
) -> Result<(), Error> {
    let interrupts = Interrupts::watch().map_err(Error::Watch)?;
    let mut before = live.first_look()?;
    let reader = Arc::new(());
    let events = events(context, Arc::downgrade(&reader))?;
    for table in 0..count.unwrap_or(u64::MAX) {
        let pause = if table == 0 { SECOND_LOOK } else { interval.unwrap_or_else(|| EVERY.max(live.rest())) };
        let wait = Wait {
            deadline: Instant::now().checked_add(pause),
            interrupts: &interrupts,
            is_for_reader: true,
        };
        match wait.pause() {
            Ended::Deadline => {}
            Ended::Interrupt => return Err(Error::Interrupted { command: NAME.to_owned() }),
            Ended::ReaderGone => return Err(Error::Output(ErrorKind::BrokenPipe.into())),
            Ended::Failed(error) => return Err(Error::Output(error)),
        }
        let picture = live.look();
        let news = picture.news(Some(&before));
        if context.answer.json {
            write_json(context, &picture)?;
        } else {
            if table > 0 {
                context.output.text("")?;
            }
            let lines = lines(picture.clone(), events.try_iter().chain(news), context.output.width());
            context.output.lines(&lines)?;
        }
        before = picture;
    }
    Ok(())
}

/// Begins to follow the events, as long as there is a `reader`.
fn events(context: &Context<'_>, reader: Weak<()>) -> Result<Receiver<Event>, Error> {
    let (told, events) = channel();
    let session = &context.session;
    if !context.answer.json {
        let (program, socket, trust) =
            (session.program(), session.socket().to_owned(), session.trust().clone());
        let report = move |event: Option<Event>| {
            reader.strong_count() > 0 && event.is_none_or(|event| told.send(event).is_ok())
        };
        live::follow(program, socket, trust, report).map_err(Error::Output)?;
    }
    Ok(events)
}

fn write_json(context: &mut Context<'_>, picture: &Picture) -> Result<(), Error> {
    let (is_ok, message) = match &picture.link {
        Link::Found { .. } => (true, String::new()),
        Link::Lost { why, .. } => (false, format!("the master does not answer: {why}")),
    };
    let data = to_raw_value(picture).map_err(|error| Error::Output(error.into()))?;
    context.line(JsonLine::last(NAME, Some(is_ok), &message), Some(&data))
}

/// The head and the table as the view has them, and what has happened since the one before.
fn lines(picture: Picture, events: impl Iterator<Item = Event>, columns: Option<usize>) -> Vec<Line> {
    let state = State::new(picture);
    let mut lines: Vec<Line> =
        view::head(&state, columns.unwrap_or(PIPE_COLUMNS)).into_iter().map(|fact| fact.line).collect();
    if let Some(status) = state.status() {
        lines.push(Line::new());
        lines.extend(slots::table(&state.picture, status, columns).lines());
    }
    let events: Vec<_> = events.filter(|event| event.severity != einhorn_proto::Severity::Debug).collect();
    if !events.is_empty() {
        lines.push(Line::new());
        lines.push(vec![Span::new("EVENTS", Style::Strong)]);
        let style = |event: &Event| super::super::events::style(event.severity);
        lines.extend(events.iter().map(|event| vec![Span::new(&event.message, style(event))]));
    }
    lines
}
