//! The rows of a table of workers: one for each worker, and one for each slot without any.

use std::fmt::Display;

use einhorn_proto::{Death, SlotStatus, Status, Termination, WorkerState, WorkerStatus};

use crate::table::{Span, Style};
use crate::text::{age, coarse_age, size};

/// From when on a worker without an ack is pointed out.
const ACK_PATIENCE_MS: u64 = 5_000;

/// A worker, or a slot that no worker fills.
#[derive(Debug)]
pub(in crate::commands) struct Row<'a> {
    /// The slot; `None` for a worker on trial.
    pub(in crate::commands) slot: Option<u32>,
    /// Where the worker stands among those of the status, and the worker.
    pub(in crate::commands) worker: Option<(usize, &'a WorkerStatus)>,
    /// The facts about the slot, in the last of its rows.
    pub(in crate::commands) facts: Option<&'a SlotStatus>,
    /// Why no worker fills the slot.
    vacancy: Option<Span>,
}

/// The rows of a pool, by slot.
pub(in crate::commands) fn rows(status: &Status) -> Vec<Row<'_>> {
    let mut rows = Vec::with_capacity(status.workers.len() + status.slots.len());
    let mut workers = status.workers.iter().enumerate().peekable();
    for slot in &status.slots {
        let first = rows.len();
        // Those of removed slots and on trial have no facts of a slot.
        while let Some((at, worker)) =
            workers.next_if(|(_, worker)| worker.slot.0.is_some_and(|own| own <= slot.slot))
        {
            rows.push(Row::of(at, worker));
        }
        let of_slot: Vec<_> = rows[first..].iter().filter_map(|row| row.worker).collect();
        match (vacancy(slot, &of_slot), rows[first..].last_mut()) {
            (None, Some(last)) => last.facts = Some(slot),
            (vacancy, _) => {
                rows.push(Row { slot: Some(slot.slot), worker: None, facts: Some(slot), vacancy });
            }
        }
    }
    // Workers of removed slots, which still finish their requests, and one on trial.
    rows.extend(workers.map(|(at, worker)| Row::of(at, worker)));
    rows
}

impl<'a> Row<'a> {
    fn of(at: usize, worker: &'a WorkerStatus) -> Self {
        Self { slot: worker.slot.0, worker: Some((at, worker)), facts: None, vacancy: None }
    }

    /// The number of the slot.
    pub(in crate::commands) fn number(&self) -> Span {
        self.slot.map_or_else(|| Span::plain("trial"), number)
    }

    /// A number of the worker; nothing for a slot without one.
    pub(in crate::commands) fn of_worker<T: Display>(&self, of: impl FnOnce(&WorkerStatus) -> T) -> Span {
        self.worker.map_or_else(|| Span::plain(""), |(_, worker)| number(of(worker)))
    }

    /// What the worker, or the slot without one, is at.
    pub(in crate::commands) fn state(&self) -> Span {
        let Some((_, worker)) = self.worker else {
            return self.vacancy.clone().unwrap_or_else(|| Span::plain(""));
        };
        let (state, style) = match worker.state {
            WorkerState::Starting => ("starting", Style::Busy),
            WorkerState::Up => ("up", Style::Good),
            WorkerState::Draining => ("draining", Style::Faint),
        };
        match (worker.stopped, worker.unsignallable) {
            (_, true) => Span::new(&format!("{state}, cannot be signalled"), Style::Bad),
            (true, false) => Span::new(&format!("{state}, stopped"), Style::Bad),
            (false, false) => Span::new(state, style),
        }
    }

    /// How often workers of the slot died and were replaced.
    pub(in crate::commands) fn restarts(&self) -> Span {
        let Some(SlotStatus { restarts, .. }) = self.facts else { return Span::plain("") };
        Span::new(&restarts.to_string(), if *restarts > 0 { Style::Busy } else { Style::Plain })
    }

    /// How the last worker of the slot died that did.
    pub(in crate::commands) fn last_death(&self) -> Option<String> {
        let slot = self.facts?;
        slot.last_death.as_ref().map(|death| death_text(death, slot.last_death_age_ms))
    }

    /// What a worker waits for whose ack is missing for a while, if it must send one.
    pub(in crate::commands) fn missing_ack(&self, status: &Status) -> Option<String> {
        let (_, worker) = self.worker?;
        let is_manual = status.master.ack_mode.as_deref() == Some("manual");
        let is_late = worker.state == WorkerState::Starting && worker.age_ms >= ACK_PATIENCE_MS;
        (is_manual && is_late).then(|| {
            format!("no ack for {}: it is up once it sends worker:ack or READY=1", age(worker.age_ms))
        })
    }
}

/// Memory, and what there may be of it.
pub(in crate::commands) fn memory(bytes: u64, max: Option<u64>) -> Span {
    match max {
        Some(max) => {
            let style = if bytes > max { Style::Bad } else { Style::Plain };
            Span::new(&format!("{} of {}", size(bytes), size(max)), style)
        }
        None => Span::plain(&size(bytes)),
    }
}

fn vacancy(slot: &SlotStatus, workers: &[(usize, &WorkerStatus)]) -> Option<Span> {
    if workers.iter().any(|(_, worker)| worker.state != WorkerState::Draining) {
        return None;
    }
    match slot.next_spawn_ms {
        _ if slot.given_up => Some(Span::new("given up", Style::Bad)),
        Some(millis) => Some(Span::new(&format!("waiting {}", age(millis)), Style::Busy)),
        None if workers.is_empty() => Some(Span::new("empty", Style::Busy)),
        None => None,
    }
}

fn number(number: impl Display) -> Span {
    Span::plain(&number.to_string())
}

/// Time and reason come first, because the line may be cut.
fn death_text(death: &Death, ago_ms: Option<u64>) -> String {
    let mut text = ago_ms.map(|millis| format!("{} ago: ", coarse_age(millis))).unwrap_or_default();
    text.push_str(&short_reason(death));
    if let Some(pid) = death.pid {
        let unacked = if death.acked { "" } else { ", unacked" };
        let generation = death.generation;
        text.push_str(&format!(" after {}{unacked} (pid {pid}, generation {generation})", age(death.age_ms)));
    }
    text
}

/// The reason, abbreviated where that says as much: a terminal has little room.
fn short_reason(death: &Death) -> String {
    match &death.termination {
        Some(termination) if termination.to_string() == death.reason => match termination {
            Termination::Exited(status) => format!("exit {status}"),
            Termination::Killed { signal, out_of_memory: true, .. } => format!("{signal} (out of memory)"),
            Termination::Killed { signal, core_dumped: false, .. } => signal.clone(),
            Termination::Killed { signal, core_dumped: true, .. } => format!("{signal} (core dumped)"),
            Termination::Unseen => "unseen".to_owned(),
        },
        _ => death.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stands_beside_its_limit() {
        const MIB: u64 = 1 << 20;
        assert_eq!(memory(412 * MIB, None), Span::plain("412M"));
        assert_eq!(memory(412 * MIB, Some(500 * MIB)), Span::plain("412M of 500M"));
        assert_eq!(memory(501 * MIB, Some(500 * MIB)), Span::new("501M of 500M", Style::Bad));
    }

    #[test]
    fn a_reason_that_says_more_than_the_exit_is_kept() {
        let killed =
            Termination::Killed { signal: "SIGKILL".into(), core_dumped: false, out_of_memory: false };
        let mut death = Death {
            pid: Some(1),
            generation: 1,
            reason: killed.to_string(),
            termination: Some(killed),
            age_ms: 60_000,
            acked: true,
            stderr_tail: Vec::new(),
        };
        assert_eq!(death_text(&death, None), "SIGKILL after 1m00s (pid 1, generation 1)");
        death.reason = "did not ack within 60s and was killed by SIGKILL".into();
        assert!(death_text(&death, Some(9)).starts_with("0s ago: did not ack within 60s and was killed by"));
    }
}
