//! The events of a master, as they happen, and the last of them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use einhorn_proto::{Command, Notice, Severity};
use serde::Serialize;

use super::millis;
use crate::connection::Reply;
use crate::error::Error;
use crate::program::Program;
use crate::session::Session;
use crate::trust::Trust;

/// How often it is looked whether events are still wanted, and whether a master that was lost is back.
const TICK: Duration = Duration::from_secs(1);

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Event {
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What, for people: one line, which may quote what workers have written.
    pub(crate) message: String,
    /// The same for programs, if it is the master's and its version is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notice: Option<Notice>,
}

/// The last events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent {
    events: VecDeque<Event>,
    max: usize,
}

impl Recent {
    /// Keeps the last `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self { events: VecDeque::with_capacity(max), max }
    }

    /// Adds one.
    pub(crate) fn push(&mut self, event: Event) {
        if self.events.len() >= self.max {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Those that are kept, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }
}

/// Begins a thread that gives each event of the master at `socket` to `report`, until that returns false. It is asked once a
/// second without an event.
///
/// A master that cannot be reached, or is lost, is tried again. Who wants to know that looks at a
/// [`Picture`](super::Picture).
///
/// # Errors
/// The system's, if it has no thread.
pub(crate) fn follow(
    program: Program,
    socket: PathBuf,
    trust: Trust,
    mut report: impl FnMut(Option<Event>) -> bool + Send + 'static,
) -> io::Result<()> {
    let mut session = Session::new(program, socket, trust).in_background();
    let run = move || {
        loop {
            let ended = session.request_with_ticks(&Command::Events, None, TICK, &mut |reply| {
                // One without data says that events follow.
                let event = reply.filter(|reply| reply.data.is_some()).map(event_of);
                if report(event) { Ok(()) } else { Err(Error::Output(ErrorKind::BrokenPipe.into())) }
            });
            if matches!(ended, Err(Error::Output(_))) || !report(None) {
                return;
            }
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name("events".to_owned()).spawn(run).map(drop)
}

fn event_of(reply: &Reply) -> Event {
    let notice: Option<Notice> = reply.data.as_deref().and_then(|data| serde_json::from_str(data.get()).ok());
    Event {
        at_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
        severity: notice.as_ref().map_or(Severity::Info, Notice::severity),
        message: reply.message.trim_end().to_owned(),
        notice,
    }
}
