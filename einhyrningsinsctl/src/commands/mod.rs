//! The commands, one file for each that shows its answer in a way of its own.

mod events;
mod progress;
mod ready;
mod status;
mod upgrade;
mod version;

use einhorn_proto as proto;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::{Command, UpgradeArgs};
use crate::connection::Reply;
use crate::error::Error;
use crate::help;
use crate::options::Answer;
use crate::output::Output;
use crate::session::Session;

/// Carries one command out and shows its answer.
///
/// # Errors
/// [`Error`]; one of kind "failed" if the master answers that it refused or did not manage.
pub(crate) fn run(
    session: &mut Session,
    output: &Output,
    command: &Command,
    answer: Answer,
) -> Result<(), Error> {
    let Some(request) = command.request() else {
        let Command::Help { command, .. } = command else { return Ok(()) };
        return output.text(&help::of_prompt(command.as_deref())?);
    };
    match command {
        Command::Events => events::run(session, output, answer),
        Command::Upgrade(UpgradeArgs { leave, .. })
        | Command::UpgradeFleet { leave }
        | Command::UpgradeContinue { leave }
        | Command::UpgradeAbort { leave }
        | Command::Rollback { leave }
            if leave.no_wait =>
        {
            upgrade::begin(session, output, &request, answer)
        }
        Command::Status { ready: true } => ready::run(session, output, answer),
        _ if answer.json => as_json(session, output, &request, answer),
        Command::State => as_pretty_json(session, output, &request, answer),
        Command::Status { .. } => status::run(session, output, answer),
        Command::Upgrade(_)
        | Command::UpgradeFleet { .. }
        | Command::UpgradeContinue { .. }
        | Command::UpgradeAbort { .. }
        | Command::UpgradeFollow
        | Command::Rollback { .. } => upgrade::run(session, output, &request, answer),
        Command::Version => version::run(session, output, answer),
        _ => as_text(session, output, &request, answer),
    }
}

/// Shows the messages of the master.
fn as_text(
    session: &mut Session,
    output: &Output,
    request: &proto::Command,
    answer: Answer,
) -> Result<(), Error> {
    let reply = session.request(request, answer.timeout, &mut |reply| output.text(&reply.message))?;
    show_last(output, reply, request, answer)
}

/// Prints the data of each reply on a line of its own, and what a reply without data says in its place.
fn as_json(
    session: &mut Session,
    output: &Output,
    request: &proto::Command,
    answer: Answer,
) -> Result<(), Error> {
    let reply = session.request(request, answer.timeout, &mut |reply| output.raw(&json_line(reply)))?;
    show_last(output, reply, request, answer)
}

/// Shows the last reply. What the master did not do goes to standard error, from the caller.
fn show_last(output: &Output, reply: Reply, request: &proto::Command, answer: Answer) -> Result<(), Error> {
    if answer.json {
        output.raw(&json_line(&reply))?;
        return accepted(reply, request).map(drop);
    }
    output.message(&accepted(reply, request)?.message)
}

fn json_line(reply: &Reply) -> String {
    match (&reply.data, reply.ok) {
        (Some(data), _) => format!("{data}\n"),
        (None, None) => format!("{}\n", json!({ "message": reply.message })),
        (None, Some(ok)) => format!("{}\n", json!({ "message": reply.message, "ok": ok })),
    }
}

/// Prints the data over several lines, for reading.
fn as_pretty_json(
    session: &mut Session,
    output: &Output,
    request: &proto::Command,
    answer: Answer,
) -> Result<(), Error> {
    let reply = session.request(request, answer.timeout, &mut |_| Ok(()))?;
    let reply = accepted(reply, request)?;
    let value = reply.data.as_deref().and_then(typed::<serde_json::Value>);
    match value {
        Some(value) => output.text(&format!("{value:#}")),
        None => output.text(&reply.message),
    }
}

/// Lets through what was carried out. A last reply that does not say `ok` comes from an older master,
/// which told failures in its message only.
fn accepted(reply: Reply, request: &proto::Command) -> Result<Reply, Error> {
    if reply.ok != Some(false) {
        return Ok(reply);
    }
    let message = match reply.message.trim_end() {
        "" => format!("{} refused, and the master does not say why", request.name()),
        message => message.to_owned(),
    };
    Err(Error::Refused { message, details: Vec::new() })
}

/// The data as its type; `None` if a master of another version has made something else of it.
fn typed<T: serde::de::DeserializeOwned>(data: &RawValue) -> Option<T> {
    serde_json::from_str(data.get()).ok()
}
