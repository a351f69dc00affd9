//! `history`: the last rollouts, who asked for each, and how it ended.

use std::collections::BTreeMap;

use einhorn_proto::{
    self as proto, History, Left, PastOutcome, PastRollout, Requester, RolloutKind, RolloutOrder,
};

use super::requester::{UNKNOWN, who, with};
use super::{Context, Typed, typed};
use crate::error::Error;
use crate::table::{Align, Span, Style, Table};
use crate::text::age;
use crate::trust::Owner;

pub(super) const DETAILS: &str = "\
Lists the last 100 upgrades and rollbacks that have ended, oldest first. Times are UTC. \"alice as root\" is a user who \
logged in as alice and ran the command as root, for example with sudo; \"-\" stands for something unknown. A reload keeps \
the history; a stop of the master loses it, except with the master's option --history.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

impl Typed for Args {
    fn request(&self) -> Option<proto::Command> {
        Some(proto::Command::History)
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let request = proto::Command::History;
        if context.answer.json {
            return context.print(&request);
        }
        let reply = context.ask(&request, &mut |_| Ok(()))?;
        let mut names = BTreeMap::new();
        let mut name_of = |uid| names.entry(uid).or_insert_with(|| Owner(uid).name()).clone();
        match reply.data.as_deref().and_then(typed::<History>) {
            Some(History { rollouts }) if rollouts.is_empty() => {
                context.output.text("no upgrade or rollback has ended since the master started")
            }
            Some(History { rollouts }) => context.output.lines(&table(&rollouts, &mut name_of).lines()),
            None => context.output.text(&reply.message),
        }
    }
}

fn table(rollouts: &[PastRollout], name_of: &mut impl FnMut(u32) -> String) -> Table {
    let mut table = Table::new(&[
        ("ENDED", Align::Left),
        ("GEN", Align::Right),
        ("RELEASE", Align::Left),
        ("KIND", Align::Left),
        ("TOOK", Align::Right),
        ("OUTCOME", Align::Left),
        ("WHO", Align::Left),
        ("WITH", Align::Left),
        ("REASON", Align::Left),
    ]);
    for rollout in rollouts {
        let (outcome, style) = match (rollout.outcome, rollout.is_untouched) {
            (PastOutcome::Done, _) if rollout.listening > 0 => ("done, old not gone", Style::Bad),
            (PastOutcome::Done, _) => ("done", Style::Good),
            (PastOutcome::RolledBack, false) => ("rolled back", Style::Bad),
            (PastOutcome::RolledBack | PastOutcome::Failed, true) => ("no worker touched", Style::Bad),
            (PastOutcome::Failed, false) => ("failed", Style::Bad),
            (PastOutcome::Superseded, false) => ("superseded", Style::Busy),
            (PastOutcome::Superseded, true) => ("superseded, no worker touched", Style::Busy),
        };
        table.row(vec![
            Span::plain(&rollout.ended_at),
            Span::plain(&rollout.generation.to_string()),
            Span::plain(rollout.release.as_deref().unwrap_or(UNKNOWN)),
            Span::plain(kind(rollout)),
            Span::plain(&age(rollout.took_ms)),
            Span::new(outcome, style),
            Span::plain(&who(&rollout.requester, name_of)),
            Span::plain(&with(&rollout.requester)),
            Span::plain(&reason(rollout, name_of)),
        ]);
    }
    table
}

fn kind(rollout: &PastRollout) -> &'static str {
    match (rollout.kind, rollout.order) {
        (RolloutKind::Rollback, _) => "rollback",
        (RolloutKind::Upgrade, RolloutOrder::Smooth) => "smooth",
        (RolloutKind::Upgrade, RolloutOrder::Fleet) => "fleet",
        (RolloutKind::Upgrade, RolloutOrder::Canary) => "canary",
    }
}

/// Why it did not end as asked for, who saw to that, and what it has left.
fn reason(rollout: &PastRollout, name_of: &mut impl FnMut(u32) -> String) -> String {
    let PastRollout { reason, listening, .. } = rollout;
    let left = (*listening > 0).then(|| Left { listening: *listening, ..Left::default() }.to_string());
    let mut reason = match (reason, left) {
        (Some(reason), Some(left)) => format!("{reason}; {left}"),
        (None, Some(left)) => left,
        (reason, None) => reason.as_deref().unwrap_or(UNKNOWN).to_owned(),
    };
    if let Some(by) = rollout.ended_by.as_ref().filter(|by| **by != Requester::default()) {
        reason.push_str(&format!(" (by {} with {})", who(by, name_of), with(by)));
    }
    reason
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::table::paint;

    fn rollout(generation: u64, requester: Requester) -> PastRollout {
        PastRollout {
            ended_at: "2026-11-28T12:40:46Z".to_owned(),
            kind: RolloutKind::Upgrade,
            order: RolloutOrder::Smooth,
            generation,
            from: generation - 1,
            release: None,
            requester,
            took_ms: 4_100,
            outcome: PastOutcome::Done,
            is_untouched: false,
            ended_by: None,
            listening: 0,
            reason: None,
        }
    }

    fn shown(rollouts: &[PastRollout]) -> String {
        let mut name_of = |uid| match uid {
            0 => "root".to_owned(),
            1001 => "alice".to_owned(),
            other => other.to_string(),
        };
        paint(&table(rollouts, &mut name_of).lines(), None, false)
    }

    #[test]
    fn a_row_has_who_asked_with_what_and_how_it_ended() {
        let client = |login_uid, uid, process: &str| Requester {
            uid,
            login_uid,
            process: Some(process.to_owned()),
            ..Requester::default()
        };
        let signal = Some("SIGHUP".to_owned());
        let rollouts = [
            PastRollout {
                release: Some("v2".to_owned()),
                ..rollout(2, client(Some(1001), Some(0), "einhyrningsinsc"))
            },
            PastRollout {
                order: RolloutOrder::Fleet,
                outcome: PastOutcome::RolledBack,
                reason: Some("slot 0: worker 7 exited\nwith status 1".to_owned()),
                ..rollout(3, client(Some(1001), Some(1001), "deploy.py"))
            },
            PastRollout {
                kind: RolloutKind::Rollback,
                ..rollout(2, Requester { signal: signal.clone(), ..client(None, Some(0), "systemd") })
            },
            PastRollout {
                outcome: PastOutcome::RolledBack,
                is_untouched: true,
                ended_by: Some(client(Some(1001), Some(0), "einhyrningsinsc")),
                reason: Some("an abort was asked for".to_owned()),
                ..rollout(4, client(None, Some(0), "deploy"))
            },
            PastRollout {
                outcome: PastOutcome::Failed,
                ended_by: Some(Requester {
                    signal: Some("SIGTERM".to_owned()),
                    ..client(None, Some(0), "systemd")
                }),
                reason: Some("the master is stopping".to_owned()),
                ..rollout(5, client(None, Some(0), "deploy"))
            },
            PastRollout {
                order: RolloutOrder::Canary,
                outcome: PastOutcome::Failed,
                ..rollout(4, Requester { signal, uid: Some(77), ..Requester::default() })
            },
            PastRollout { listening: 1, ..rollout(5, client(None, Some(0), "deploy")) },
            PastRollout { outcome: PastOutcome::Superseded, ..rollout(5, Requester::default()) },
        ];
        assert_snapshot!(shown(&rollouts), @r"
        ENDED                 GEN  RELEASE  KIND      TOOK  OUTCOME             WHO            WITH                 REASON
        2026-11-28T12:40:46Z    2  v2       smooth    4.1s  done                alice as root  einhyrningsinsctl    -
        2026-11-28T12:40:46Z    3  -        fleet     4.1s  rolled back         alice          deploy.py            slot 0: worker 7 exited with status 1
        2026-11-28T12:40:46Z    2  -        rollback  4.1s  done                root           SIGHUP from systemd  -
        2026-11-28T12:40:46Z    4  -        smooth    4.1s  no worker touched   root           deploy               an abort was asked for (by alice as root with einhyrningsinsctl)
        2026-11-28T12:40:46Z    5  -        smooth    4.1s  failed              root           deploy               the master is stopping (by root with SIGTERM from systemd)
        2026-11-28T12:40:46Z    4  -        canary    4.1s  failed              77             SIGHUP               -
        2026-11-28T12:40:46Z    5  -        smooth    4.1s  done, old not gone  root           deploy               1 old worker left processes that hold a listener and may still serve
        2026-11-28T12:40:46Z    5  -        smooth    4.1s  superseded          -              -                    -
        ");
    }
}
