//! `events`: what happens, as it happens.

use einhorn_proto::{self as proto, Notice, Severity};

use crate::error::Error;
use crate::options::Answer;
use crate::output::Output;
use crate::session::Session;
use crate::table::Style;

use super::{json_line, show_last, typed};

/// Shows each event until Ctrl-C, or until the master has said that it exits.
pub(super) fn run(session: &mut Session, output: &Output, answer: Answer) -> Result<(), Error> {
    let request = proto::Command::Events;
    let mut has_exited = false;
    let reply = session.request(&request, answer.timeout, &mut |reply| {
        let notice = reply.data.as_deref().and_then(typed::<Notice>);
        has_exited |= matches!(notice, Some(Notice::MasterExiting { .. }));
        match answer.json {
            true => output.raw(&json_line(reply)),
            false => output.styled(&reply.message, style(notice.as_ref())),
        }
    });
    match reply {
        Err(Error::Closed { .. }) if has_exited => Ok(()),
        reply => show_last(output, reply?, &request, answer),
    }
}

fn style(notice: Option<&Notice>) -> Style {
    match notice.map(Notice::severity) {
        Some(Severity::Error) => Style::Bad,
        Some(Severity::Warn) => Style::Busy,
        Some(Severity::Debug) => Style::Faint,
        Some(Severity::Info) | None => Style::Plain,
    }
}
