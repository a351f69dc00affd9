//! Events in einhorn's words, for its log and for the progress of an upgrade.

use einhorn_proto::{AckSource, Death, Notice, RolloutKind, Seconds};

/// einhorn's line for `notice`; `None` if it has none, and ours is used.
///
/// Each line begins like einhorn's, for scripts that look for it. The rest is what einhorn does not report: how a
/// worker ended and what happens next.
pub fn words(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::Spawned { index, pid, .. } => format!("===> Launched {pid} (index: {index})"),
        Notice::Acked { source, up, wanted, .. } => {
            let how = match source {
                AckSource::Timer => "timer",
                AckSource::Control | AckSource::Notify => "manual",
            };
            format!("Up to {up} / {wanted} {how} ACKs")
        }
        Notice::Drained { pid, termination, took_ms, .. } => {
            format!("===> Exited worker {pid}: it {termination} {} after its stop signal", Seconds(*took_ms))
        }
        Notice::Died {
            death: Death { pid: Some(pid), termination: Some(termination), acked, age_ms, .. },
            next,
            ..
        } => {
            let before = if *acked { "" } else { " before it was ACKed" };
            format!("===> Exited worker {pid}{before}: it {termination} after {}; {next}", Seconds(*age_ms))
        }
        Notice::UpgradeDone { kind: RolloutKind::Upgrade, generation, took_ms, .. } => {
            format!("Upgraded successfully to version {generation} in {}", Seconds(*took_ms))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use einhorn_proto::{DrainEnding, Termination};

    use super::*;

    fn death(termination: Option<Termination>, acked: bool) -> Notice {
        let death = Death {
            pid: Some(4711),
            generation: 7,
            reason: "missed its boot deadline".to_owned(),
            termination,
            age_ms: 440,
            acked,
            stderr_tail: Vec::new(),
        };
        Notice::Died {
            slot: 3.into(),
            death,
            next_spawn_ms: Some(2200),
            next: "next spawn in 2.2s".to_owned(),
        }
    }

    #[test]
    fn a_line_begins_like_einhorns_and_adds_what_einhorn_does_not_report() {
        let killed =
            Termination::Killed { signal: "SIGSEGV".into(), core_dumped: false, out_of_memory: false };
        for (notice, line) in [
            (
                Notice::Spawned { slot: 1.into(), index: 4, pid: 42, generation: 2 },
                "===> Launched 42 (index: 4)",
            ),
            (
                death(Some(Termination::Exited(1)), false),
                "===> Exited worker 4711 before it was ACKed: it exited with status 1 after 0.4s; next spawn in 2.2s",
            ),
            (
                death(Some(killed), true),
                "===> Exited worker 4711: it was killed by SIGSEGV after 0.4s; next spawn in 2.2s",
            ),
            (
                Notice::Drained {
                    slot: 0.into(),
                    pid: 5,
                    generation: 2,
                    termination: Termination::Exited(0),
                    took_ms: 1300,
                    ending: DrainEnding::Own,
                },
                "===> Exited worker 5: it exited with status 0 1.3s after its stop signal",
            ),
            (
                Notice::UpgradeDone { kind: RolloutKind::Upgrade, generation: 3, took_ms: 2100, draining: 0 },
                "Upgraded successfully to version 3 in 2.1s",
            ),
        ] {
            assert_eq!(words(&notice).as_deref(), Some(line));
        }
    }

    #[test]
    fn ack_lines_count_and_name_timer_or_manual() {
        for (source, line) in [
            (AckSource::Timer, "Up to 2 / 4 timer ACKs"),
            (AckSource::Control, "Up to 2 / 4 manual ACKs"),
            (AckSource::Notify, "Up to 2 / 4 manual ACKs"),
        ] {
            let acked =
                Notice::Acked { slot: 0.into(), pid: 5, generation: 1, source, age_ms: 0, up: 2, wanted: 4 };
            assert_eq!(words(&acked).as_deref(), Some(line));
        }
    }

    #[test]
    fn events_unknown_to_einhorn_use_our_words() {
        let back =
            Notice::UpgradeDone { kind: RolloutKind::Rollback, generation: 1, took_ms: 5, draining: 0 };
        let unspawned = Notice::Died {
            slot: 0.into(),
            death: Death {
                pid: None,
                ..match death(None, false) {
                    Notice::Died { death, .. } => death,
                    _ => unreachable!(),
                }
            },
            next_spawn_ms: None,
            next: String::new(),
        };
        for notice in [back, death(None, false), unspawned, Notice::Resized { from: 1, to: 2 }] {
            assert_eq!(words(&notice), None, "{notice}");
        }
    }
}
