//! The live picture of a master, for whoever shows it again and again.
//!
//! [`Live`] takes a [`Picture`] whenever it is asked for one: the master's status, and what `/proc` says of its workers. It
//! keeps only what the next picture is compared with. It blocks, for a few seconds at most, and belongs into a thread of its own.
//! [`follow`] has another thread, which reports the master's events. Neither prints anything, and a master that is lost is
//! asked again, not given up.

mod events;
mod usage;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use einhorn_proto::{Command, Severity, Status};
use serde::Serialize;

pub(crate) use events::{Event, Recent, follow};
pub(crate) use usage::{Total, Usage};

use crate::error::{Error, with_causes};
use crate::processes::Processes;
use crate::program::Program;
use crate::session::Session;
use crate::trust::Trust;
use usage::Usages;

/// How long a master may take to answer, unless the user says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part of a core that pictures may take, this program and the master together, is one in so many.
const COST_SHARE: u32 = 60;

/// A master at one moment, and before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Picture {
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// Whether the master answers.
    pub(crate) link: Link,
    /// What it has answered last; `None` before it has answered anything.
    pub(crate) status: Option<Status>,
    /// What each worker of `status` uses, in its order; empty if that cannot be known.
    pub(crate) usages: Vec<Option<Usage>>,
    /// What all workers use together; `None` if that cannot be known.
    pub(crate) total: Option<Total>,
    /// Why nothing is known of what they use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unseen: Option<String>,
}

/// Whether the master answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "link", rename_all = "snake_case")]
pub(crate) enum Link {
    /// It has answered.
    Found {
        /// How many masters have answered here, one after the other. It stays the same if a master replaces itself.
        count: u32,
    },
    /// It has not.
    Lost {
        /// Why not.
        why: String,
        /// What can be done about it.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// For how long, in milliseconds.
        for_ms: u64,
    },
}

/// Takes pictures of the master at a control socket.
#[derive(Debug)]
pub(crate) struct Live {
    session: Session,
    /// The last answer, and when it came.
    last: Option<(Instant, Status)>,
    masters: u32,
    lost_since: Option<Instant>,
    usages: Usages,
    /// What the last picture has cost.
    cost: Duration,
    /// How long the master may take to answer.
    patience: Duration,
}

impl Live {
    /// One for the master at `socket`, if `trust` accepts it. It connects when a picture is taken.
    pub(crate) fn new(program: Program, socket: PathBuf, trust: Trust) -> Self {
        let session = Session::new(program, socket, trust).in_background();
        let cost = Duration::ZERO;
        Self {
            session,
            last: None,
            masters: 0,
            lost_since: None,
            usages: Usages::default(),
            cost,
            patience: PATIENCE,
        }
    }

    /// The same with another limit for each answer.
    #[cfg(feature = "top")]
    pub(crate) fn patient_for(self, patience: Option<Duration>) -> Self {
        Self { patience: patience.unwrap_or(self.patience), ..self }
    }

    /// The picture now, of a master that answers.
    ///
    /// # Errors
    /// Why it does not.
    #[cfg(feature = "top")]
    pub(crate) fn first_look(&mut self) -> Result<Picture, Error> {
        let (began, answer) = (Instant::now(), self.ask()?);
        Ok(self.seen(began, Ok(answer)))
    }

    /// The picture now.
    pub(crate) fn look(&mut self) -> Picture {
        let began = Instant::now();
        let answer = self.ask();
        self.seen(began, answer)
    }

    fn seen(&mut self, began: Instant, answer: Result<Status, Error>) -> Picture {
        let link = match answer {
            Ok(status) => {
                if self.is_another(&status, began) {
                    self.masters += 1;
                    self.usages = Usages::default();
                }
                self.lost_since = None;
                self.last = Some((began, status));
                Link::Found { count: self.masters }
            }
            Err(error) => {
                let since = *self.lost_since.get_or_insert(began);
                Link::Lost {
                    why: with_causes(&error),
                    hint: error.hint(self.session.program()).map(Into::into),
                    for_ms: millis(began.saturating_duration_since(since)),
                }
            }
        };
        let picture = self.picture(link, began);
        self.cost = began.elapsed();
        picture
    }

    /// How long to wait at least until the next picture, so that pictures of this pool take no more than their share of a
    /// core.
    pub(crate) fn rest(&self) -> Duration {
        if self.lost_since.is_some() { Duration::ZERO } else { self.cost * COST_SHARE }
    }

    fn ask(&mut self) -> Result<Status, Error> {
        let request = Command::Status;
        let reply = self.session.request(&request, Some(self.patience), &mut |_| Ok(()))?;
        let status = reply.data.as_deref().and_then(|data| serde_json::from_str(data.get()).ok());
        status.ok_or_else(|| match reply.message.trim_end() {
            message if reply.ok == Some(false) => {
                Error::Refused { message: message.to_owned(), details: Vec::new() }
            }
            _ => Error::unknown_answer(),
        })
    }

    /// Whether this is the answer of another master than the last one: by its pid, or because it was started since. A pid
    /// alone says little where every master has the same one, as in a container.
    fn is_another(&self, status: &Status, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|(at, last)| {
            last.master.pid != status.master.pid
                || Duration::from_millis(status.master.age_ms) < now.saturating_duration_since(*at)
        })
    }

    fn picture(&mut self, link: Link, now: Instant) -> Picture {
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        let status = self.last.as_ref().map(|(_, status)| status.clone());
        let nothing = Picture { at_ms, link, status, usages: Vec::new(), total: None, unseen: None };
        let (Link::Found { .. }, Some(status)) = (&nothing.link, &nothing.status) else { return nothing };
        match Processes::of(status, self.session.peer()) {
            Err(why) => Picture { unseen: Some(why.to_string()), ..nothing },
            Ok(processes) => {
                let usages = self.usages.take(status, processes, now);
                let total = Some(Total::of(&usages));
                Picture { usages, total, ..nothing }
            }
        }
    }
}

impl Picture {
    /// Whether the master does not answer, so that all but that is old.
    #[cfg(feature = "top")]
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.link, Link::Lost { .. })
    }

    /// What has become of the master since the picture before, if anything has.
    pub(crate) fn news(&self, before: Option<&Self>) -> Option<Event> {
        let event = |severity, message| Some(Event { at_ms: self.at_ms, severity, message, notice: None });
        match (&self.link, before.map(|before| &before.link)) {
            (Link::Lost { why, .. }, Some(Link::Found { .. }) | None) => {
                event(Severity::Error, format!("the master does not answer: {why}"))
            }
            (Link::Found { count }, Some(last)) => {
                let pid = self.status.as_ref().map_or(0, |status| status.master.pid);
                match last {
                    Link::Found { count: last } if last != count => {
                        event(Severity::Warn, format!("another master has started, pid {pid}"))
                    }
                    Link::Found { .. } => None,
                    Link::Lost { .. } => event(Severity::Info, format!("master {pid} answers")),
                }
            }
            (Link::Lost { .. }, Some(Link::Lost { .. })) | (Link::Found { .. }, None) => None,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
