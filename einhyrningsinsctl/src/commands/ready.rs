//! `status --ready`: an exit code for a probe.

use einhorn_proto::{self as proto, MasterState, SlotStatus, Status, WorkerState};

use super::line::Line;
use super::{Context, typed};
use crate::error::Error;
use crate::text::age;

/// How many slots the message lists; it counts the rest.
const SLOTS_TOLD_MAX: usize = 3;

/// Prints nothing if the pool is ready, except at a prompt; with `--json` prints the status, ready or not; "ok" says which.
pub(super) fn run(context: &mut Context<'_>) -> Result<(), Error> {
    let request = proto::Command::Status;
    let reply = context.session.request(&request, context.answer.timeout, &mut |_| Ok(()))?;
    if reply.ok == Some(false) {
        return context.print_last(reply, &request);
    }
    let unreadiness = match reply.data.as_deref().and_then(typed::<Status>) {
        Some(status) => unreadiness(&status),
        None => Some("this client cannot read the status of a master of this version".to_owned()),
    };
    if context.answer.json {
        let message =
            unreadiness.as_ref().map_or_else(|| "ready".to_owned(), |why| format!("not ready: {why}"));
        let line = Line::last(request.name(), Some(unreadiness.is_none()), &message);
        context.line(line, reply.data.as_deref())?;
    }
    match unreadiness {
        None if context.is_line && context.output.is_terminal() && !context.answer.json => {
            context.output.text("ready")
        }
        None => Ok(()),
        Some(why) => Err(Error::Refused { message: format!("not ready: {why}"), details: Vec::new() }),
    }
}

/// Why the pool is not ready: it is stopping, or a slot has no worker that takes traffic. A rollout is no reason, nor is
/// the release that a worker runs.
fn unreadiness(status: &Status) -> Option<String> {
    if status.master.state == MasterState::Stopping {
        return Some("the master is stopping".to_owned());
    }
    let is_served = |slot: &SlotStatus| {
        status.workers.iter().any(|worker| worker.slot == slot.slot && worker.state == WorkerState::Up)
    };
    let unserved: Vec<_> = status.slots.iter().filter(|slot| !is_served(slot)).collect();
    if unserved.is_empty() {
        return None;
    }
    let mut slots: Vec<_> =
        unserved.iter().take(SLOTS_TOLD_MAX).map(|slot| slot_in_words(status, slot)).collect();
    if unserved.len() > SLOTS_TOLD_MAX {
        slots.push(format!("{} more", unserved.len() - SLOTS_TOLD_MAX));
    }
    let (count, all) = (status.slots.len() - unserved.len(), status.slots.len());
    Some(format!("{count} of {all} slots have a worker up; {}", slots.join(", ")))
}

fn slot_in_words(status: &Status, slot: &SlotStatus) -> String {
    let number = slot.slot;
    let mut workers = status.workers.iter().filter(|worker| worker.slot == number);
    match workers.find(|worker| worker.state == WorkerState::Starting) {
        Some(worker) => format!("slot {number}: starting for {}", age(worker.age_ms)),
        None if slot.given_up => format!("slot {number}: given up"),
        None => match slot.next_spawn_ms {
            Some(millis) => format!("slot {number}: next spawn in {}", age(millis)),
            None => format!("slot {number}: empty"),
        },
    }
}
