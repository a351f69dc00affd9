//! What the keys ask of the master, and its answers.

use std::path::PathBuf;
use std::time::Duration;

use einhorn_proto::{Command, Status, Target, UpgradeReport, UpgradeRequest, Workers};

use super::super::{accepted, typed, upgrade};
use super::post::{Input, Post};
use crate::error::{Error, with_causes};
use crate::program::Program;
use crate::session::Session;
use crate::trust::Trust;

/// Something to ask of the master, after the user has confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Replace every worker.
    Upgrade,
    /// Abort the running rollout.
    Abort,
    /// Go back to the previous release.
    Rollback,
    /// One worker more.
    Grow,
    /// One worker less.
    Shrink,
    /// A successor for the worker with this pid.
    Replace { slot: Option<u32>, pid: Option<i32> },
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) order: Order,
    pub(super) is_ok: bool,
    pub(super) text: String,
}

impl Order {
    /// The question to the user.
    ///
    /// # Errors
    /// Why there is nothing to ask.
    pub(super) fn question(self, status: &Status) -> Result<String, String> {
        let wanted = status.master.wanted;
        Ok(match self {
            Self::Upgrade => format!("replace {} with ones from the current code?", Workers(wanted)),
            Self::Abort => {
                let upgrade = status.upgrade.as_ref().ok_or("no upgrade runs")?;
                format!("abort the {} to generation {} and roll it back?", upgrade.kind, upgrade.generation)
            }
            Self::Rollback => "go back to the previous release?".to_owned(),
            Self::Grow => format!("add a worker: {wanted} -> {}?", wanted.saturating_add(1)),
            Self::Shrink => {
                format!("remove a worker, draining it: {wanted} -> {}?", wanted.saturating_sub(1))
            }
            Self::Replace { slot: Some(slot), pid: Some(pid) } => {
                format!("replace worker {pid} of slot {slot}, its successor first?")
            }
            Self::Replace { slot: Some(slot), pid: None } => {
                return Err(format!("slot {slot} has no worker to replace"));
            }
            Self::Replace { slot: None, .. } => return Err("a worker on trial has no slot".to_owned()),
        })
    }

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
            Self::Grow => "one more",
            Self::Shrink => "one less",
            Self::Replace { .. } => "replace",
        }
    }

    /// Whether the answer comes when a rollout has ended, rather than at once.
    pub(super) fn is_rollout(self) -> bool {
        matches!(self, Self::Upgrade | Self::Abort | Self::Rollback)
    }

    fn command(self) -> Command {
        match self {
            Self::Upgrade => Command::Upgrade(UpgradeRequest::default()),
            Self::Abort => Command::UpgradeAbort,
            Self::Rollback => Command::Rollback,
            Self::Grow => Command::Inc { by: 1 },
            Self::Shrink => Command::Dec { by: 1 },
            Self::Replace { pid, .. } => Command::Replace { target: Target::Pid(pid.unwrap_or_default()) },
        }
    }
}

/// Who carries orders out.
#[derive(Debug, Clone)]
pub(super) struct Messenger {
    pub(super) program: Program,
    pub(super) socket: PathBuf,
    pub(super) trust: Trust,
    pub(super) timeout: Option<Duration>,
}

impl Messenger {
    /// Carries `order` out in a thread with a connection of its own, and posts the answer.
    pub(super) fn send(&self, order: Order, post: &Post) {
        let messenger = self.clone();
        let run = {
            let post = post.clone();
            move || {
                // After the end of the view, nobody reads it.
                let _ = post.send(Input::Answer(messenger.ask(order)));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("order".to_owned()).spawn(run) {
            let text = format!("no thread to ask the master: {error}");
            // The caller reads what is posted: it must not wait here.
            post.try_send(Input::Answer(Answer { order, is_ok: false, text }));
        }
    }

    fn ask(self, order: Order) -> Answer {
        let command = order.command();
        let mut session = Session::new(self.program, self.socket, self.trust).in_background();
        let reply = session.request(&command, self.timeout, &mut |_| Ok(()));
        let report =
            reply.as_ref().ok().and_then(|reply| reply.data.as_deref()).and_then(typed::<UpgradeReport>);
        let (is_ok, text) = match reply.and_then(|reply| accepted(reply, &command)) {
            Ok(reply) => (true, reply.message.trim_end().to_owned()),
            Err(error) => (false, told(&error, report.as_ref(), self.program)),
        };
        Answer { order, is_ok, text }
    }
}

/// An error, and what was done or can be done about it.
fn told(error: &Error, report: Option<&UpgradeReport>, program: Program) -> String {
    let mut text = with_causes(error);
    if let Some(report) = report {
        text.push_str(&format!("; {}", upgrade::what_was_done(report)));
    } else if let Some(hint) = error.hint(program) {
        text.push_str(&format!("; {hint}"));
    }
    text
}
