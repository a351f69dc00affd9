//! `events`: what happens, as it happens.

use einhorn_proto::{self as proto, Notice, Severity};

use super::{Context, Typed, json, typed};
use crate::error::Error;
use crate::table::Style;

pub(super) const DETAILS: &str = "Ends with Ctrl-C, or when the master exits.";

#[derive(Debug, clap::Args)]
pub(super) struct Events {}

impl Typed for Events {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::Events)
    }

    /// Shows each event until Ctrl-C, or until the master has reported its exit.
    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let request = proto::Command::Events;
        let (output, is_json) = (context.output, context.answer.json);
        let mut has_exited = false;
        let reply = context.session.request(&request, context.answer.timeout, &mut |reply| {
            let notice = reply.data.as_deref().and_then(typed::<Notice>);
            has_exited |= matches!(notice, Some(Notice::MasterExiting { .. }));
            match is_json {
                true => output.json(&json(reply, &request)),
                false => output
                    .styled(&reply.message, notice.map_or(Style::Plain, |notice| style(notice.severity()))),
            }
        });
        match reply {
            Err(Error::Closed { .. }) if has_exited => Ok(()),
            reply => context.print_last(reply?, &request),
        }
    }
}

/// How an event is shown that matters so much.
pub(super) fn style(severity: Severity) -> Style {
    match severity {
        Severity::Error => Style::Bad,
        Severity::Warn => Style::Busy,
        Severity::Debug => Style::Faint,
        Severity::Info => Style::Plain,
    }
}
