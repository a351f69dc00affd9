//! The log line of a notice.

use std::fmt;

use super::{AckSource, DrainEnding, Notice};
use crate::reason::OWN_SIGNAL;
use crate::{Seconds, UpgradeStage, UpgradeStatus, Workers};

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawned { slot, index, pid, generation } => {
                write!(f, "{slot}: worker {pid} (generation {generation}) spawned, index {index}")
            }
            Self::Acked { slot, pid, generation, source, age_ms, .. } => {
                let how = match source {
                    AckSource::Control => "acked",
                    AckSource::Notify => "acked by READY=1",
                    AckSource::Timer => "taken as acked",
                };
                let age = Seconds(*age_ms);
                write!(f, "{slot}: worker {pid} (generation {generation}) {how} after {age}")
            }
            Self::Retiring { slot, pid, generation, for_ms } => {
                let time = Seconds(*for_ms);
                write!(
                    f,
                    "slot {slot}: worker {pid} (generation {generation}) gets nothing new, and is asked to stop in \
                     {time}"
                )
            }
            Self::StopSignal { generation, signal, why } => {
                write!(f, "workers of generation {generation} are asked to stop with {signal}: {why}")
            }
            Self::SignalRefused { slot, pid, generation, signal, reason } => {
                write!(f, "{slot}: cannot send {signal} to worker {pid} (generation {generation}): {reason}")
            }
            Self::LeftBehind { slot, pid, generation, members, listens } => {
                let members: Vec<_> = members.iter().map(ToString::to_string).collect();
                let members = members.join(", ");
                write!(f, "{slot}: worker {pid} (generation {generation}) left processes behind: {members}")?;
                let end =
                    if *listens { "; they hold a listener and may still serve the old release" } else { "" };
                f.write_str(end)
            }
            Self::Draining { slot, pid, generation, signal, why } => {
                write!(f, "{slot}: worker {pid} (generation {generation}) draining with {signal}: {why}")
            }
            Self::Drained { slot, pid, generation, termination, took_ms, ending } => {
                let (took, signal) = (Seconds(*took_ms), termination.signal().unwrap_or_default());
                write!(f, "{slot}: worker {pid} (generation {generation}) ")?;
                match ending {
                    DrainEnding::Own => write!(f, "drained in {took}: it {termination}"),
                    DrainEnding::Reraised => write!(f, "drained in {took}, ended by {signal}"),
                    DrainEnding::Handled => write!(
                        f,
                        "ended by {signal}, {took} after it; if it has no handler of its own, requests were lost"
                    ),
                    DrainEnding::Unhandled => write!(
                        f,
                        "did not drain: it has no handler for {signal}, which ended it with its requests; if it \
                         drains on another signal, name that with --stop-signal"
                    ),
                }
            }
            Self::StillDraining { generation, workers, after_ms } => write!(
                f,
                "generation {generation} still serves: {}, {} after {} stop signal; \"signal --draining KILL\" ends \
                 whatever drains",
                Workers(*workers),
                Seconds(*after_ms),
                if *workers == 1 { "its" } else { "their" }
            ),
            Self::LeftoversGone { slot, pid, generation } => {
                write!(f, "{slot}: what worker {pid} (generation {generation}) left behind has gone")
            }
            Self::UpgradeReported(report) => {
                write!(f, "{} to generation {}: {}", report.kind, report.generation, report.left)
            }
            Self::Escalated { slot, pid, generation, signal, after_ms } => {
                let after = Seconds(*after_ms);
                write!(
                    f,
                    "{slot}: worker {pid} (generation {generation}) is still running {after} after its \
                     stop signal; sending {signal}"
                )
            }
            Self::Died { slot, death, next, .. } => write!(f, "{slot}: {death}; {next}"),
            Self::GivenUp { slot, tries } => {
                let spawns = if *tries == 1 { "spawn" } else { "spawns in a row" };
                write!(
                    f,
                    "slot {slot}: given up after {tries} {spawns} without an ack; it stays empty until \
                     \"respawn\", \"upgrade\" or \"inc\""
                )
            }
            Self::Ready { workers, generation, after_ms } => write!(
                f,
                "{workers} of {workers} workers up (generation {generation}), {} after start",
                Seconds(*after_ms)
            ),
            Self::TimeLost { lost_ms } => write!(
                f,
                "nobody was heard for {} (a frozen cgroup, a suspended container, or a machine too busy): the deadlines \
                 of workers are so much later",
                Seconds(*lost_ms)
            ),
            Self::Resized { from, to } => write!(f, "number of workers {from} -> {to}"),
            Self::UpgradeStarted { kind, generation, workers } => {
                write!(f, "{kind} to generation {generation} of {} began", Workers(*workers))
            }
            Self::CheckStarted { generation, pid, command } => {
                write!(f, "checking generation {generation} by worker {pid}: {command}")
            }
            Self::CheckPassed { generation, took_ms } => {
                write!(f, "the check of generation {generation} passed, after {}", Seconds(*took_ms))
            }
            Self::ReleaseUnchanged { generation, from } => write!(
                f,
                "generation {generation} is the same directory and program as generation {from}: was the link moved?"
            ),
            Self::UpgradeJoined(upgrade) => write_joined(f, upgrade),
            Self::UpgradeQueued { generation, waiting } => {
                let upgrades = if *waiting == 1 { "upgrade waits" } else { "upgrades wait" };
                write!(f, "upgrade queued: {waiting} {upgrades} for the end of generation {generation}'s")
            }
            Self::SoakStarted { generation, workers, soak_ms } => {
                let workers = Workers(*workers);
                write!(f, "{workers} of generation {generation} up; {}", Soak(*soak_ms))
            }
            Self::CanaryCheckFailed { generation, failures, failures_max, reason } => write!(
                f,
                "check of the canaries of generation {generation} failed, {failures} of {failures_max}: {reason}"
            ),
            Self::SoakOver { generation } => {
                write!(f, "soak of generation {generation} over; the other workers follow")
            }
            Self::RollbackStarted { kind, generation, reason } => {
                write!(f, "{kind} to generation {generation} fails, going back: {reason}")
            }
            Self::UpgradeDone { kind, generation, took_ms, draining } => {
                write!(f, "{kind} to generation {generation} done in {}", Seconds(*took_ms))?;
                match draining {
                    0 => Ok(()),
                    1 => f.write_str("; 1 old worker still finishes its requests"),
                    count => write!(f, "; {count} old workers still finish their requests"),
                }
            }
            Self::UpgradeFailed { kind, generation, reason, serving } => {
                write!(f, "{kind} to generation {generation} failed: {reason}; {serving}")
            }
            Self::OptionChanged(change) => change.fmt(f),
            Self::Recycling { slot, pid, generation, reason } => {
                write!(f, "slot {slot}: worker {pid} (generation {generation}) will be replaced: {reason}")
            }
            Self::StatusText { slot, pid, text } => write!(f, "{slot}: worker {pid} reports: {text}"),
            Self::Stopping { slot, pid } => {
                write!(f, "{slot}: worker {pid} reports that it is stopping")
            }
            Self::MasterStopping { signal, workers, why } => {
                let signal = signal.as_deref().unwrap_or(OWN_SIGNAL);
                write!(f, "stopping ({why}): {signal} to {}", Workers(*workers))
            }
            Self::MasterExiting { code: 0, why } => write!(f, "exiting: {why}"),
            Self::MasterExiting { code, why } => write!(f, "exiting with {code}: {why}"),
            Self::MasterChecking { program } => {
                write!(f, "checking whether {program} can take this master's place")
            }
            Self::MasterReplaced { version, from_version, workers, took_ms } => write!(
                f,
                "the master replaced itself in {}: version {version}, before {from_version}; {} kept",
                Seconds(*took_ms),
                Workers(*workers)
            ),
            Self::MasterKept { reason } => write!(f, "the master was not replaced and continues: {reason}"),
            Self::Refused { message } | Self::Decided { message } => f.write_str(message),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, upgrade: &UpgradeStatus) -> fmt::Result {
    let UpgradeStatus { kind, stage, generation, from, upgraded, wanted, .. } = upgrade;
    match stage {
        UpgradeStage::Resolving => write!(f, "{kind} to generation {generation} is about to begin"),
        UpgradeStage::Checking => {
            write!(f, "{kind} to generation {generation} is running: the release is being checked")
        }
        UpgradeStage::Replacing => {
            write!(f, "{kind} to generation {generation} is running: {upgraded} of {wanted} workers have it")
        }
        UpgradeStage::Soaking => write!(
            f,
            "{kind} to generation {generation} is running: {upgraded} of {wanted} workers have it; {}",
            Soak(upgrade.soak_left_ms)
        ),
        UpgradeStage::RollingBack => write!(
            f,
            "{kind} to generation {generation} is rolling back to generation {from}: {upgraded} of {wanted} workers \
             still have it"
        ),
    }
}

/// The length of a soak in milliseconds, if it ends by itself.
struct Soak(Option<u64>);

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ms) => write!(f, "soaking for {}", Seconds(ms)),
            None => f.write_str("soaking until \"upgrade --continue\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Death, RolloutKind, Termination};

    #[test]
    fn a_death_tells_slot_pid_generation_reason_age_and_what_is_next() {
        let death = Death {
            pid: Some(4711),
            generation: 7,
            reason: Termination::Exited(1).to_string(),
            termination: Some(Termination::Exited(1)),
            age_ms: 440,
            acked: false,
            stderr_tail: Vec::new(),
        };
        let next = "next spawn in 2.2s".to_owned();
        let notice = Notice::Died { slot: 3.into(), death, next_spawn_ms: Some(2200), next };
        assert_eq!(
            notice.to_string(),
            "slot 3: worker 4711 (generation 7) exited with status 1 after 0.4s, unacked; next spawn in 2.2s"
        );
    }

    #[test]
    fn who_joins_an_upgrade_is_told_how_it_stands() {
        let upgrade = UpgradeStatus {
            kind: RolloutKind::Upgrade,
            stage: UpgradeStage::Soaking,
            generation: 8,
            from: 7,
            soak_left_ms: None,
            upgraded: 1,
            wanted: 4,
            starting: 0,
            ack_within_ms: None,
            age_ms: 2_000,
        };
        let notice = Notice::UpgradeJoined(upgrade.clone());
        assert_eq!(
            notice.to_string(),
            "upgrade to generation 8 is running: 1 of 4 workers have it; soaking until \"upgrade --continue\""
        );
        let json = serde_json::to_string(&notice).unwrap();
        assert!(
            json.starts_with(r#"{"event":"upgrade_joined","kind":"upgrade","stage":"soaking""#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice);

        let back = Notice::UpgradeJoined(UpgradeStatus { stage: UpgradeStage::RollingBack, ..upgrade });
        assert_eq!(
            back.to_string(),
            "upgrade to generation 8 is rolling back to generation 7: 1 of 4 workers still have it"
        );
    }

    #[test]
    fn a_soak_says_how_long_it_lasts() {
        let soak = |workers, soak_ms| Notice::SoakStarted { generation: 8, workers, soak_ms }.to_string();
        assert_eq!(soak(1, Some(30_000)), "1 worker of generation 8 up; soaking for 30.0s");
        assert_eq!(soak(2, None), "2 workers of generation 8 up; soaking until \"upgrade --continue\"");
    }

    #[test]
    fn one_worker_is_not_workers() {
        let began = |workers| {
            Notice::UpgradeStarted { kind: RolloutKind::Upgrade, generation: 2, workers }.to_string()
        };
        assert_eq!(began(1), "upgrade to generation 2 of 1 worker began");
        assert_eq!(began(4), "upgrade to generation 2 of 4 workers began");
        let (signal, why) = (Some("SIGUSR2".to_owned()), "die".to_owned());
        let stopping = Notice::MasterStopping { signal, workers: 1, why };
        assert_eq!(stopping.to_string(), "stopping (die): SIGUSR2 to 1 worker");
    }
}
