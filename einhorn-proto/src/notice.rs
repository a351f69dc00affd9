//! What happened: one vocabulary for the log, for `events` and for the progress of an upgrade.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Seconds, UpgradeStage, UpgradeStatus, Workers};

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// It exited with this status.
    Exited(i32),
    /// A signal ended it.
    Killed {
        /// The signal's name, for instance `SIGKILL`.
        signal: String,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
    /// It was gone when the master looked again, after another program had run in the master's place: how it
    /// ended, that program was told.
    Unseen,
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Killed { signal, core_dumped: false } => write!(f, "was killed by {signal}"),
            Self::Killed { signal, core_dumped: true } => write!(f, "was killed by {signal} (core dumped)"),
            Self::Unseen => f.write_str("ended while the master was being replaced"),
        }
    }
}

/// The end of a worker, or of the attempt to have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Its pid; `None` if it could not be spawned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its generation.
    pub generation: u64,
    /// How it ended, in words: `exited with status 1`, `cannot execute /srv/app: ...`.
    pub reason: String,
    /// How it ended, for programs; `None` if it could not be spawned or still lives past its boot deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination: Option<Termination>,
    /// Its age, in milliseconds since it was spawned.
    pub age_ms: u64,
    /// Whether it had acked.
    pub acked: bool,
    /// If it had not: the last lines that it wrote to standard error, where the master captures those
    /// (`--capture-startup`). They are in the log in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr_tail: Vec<String>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, reason, .. } = self;
        let Some(pid) = self.pid else {
            return write!(f, "spawn (generation {generation}) failed: {reason}");
        };
        write!(f, "worker {pid} (generation {generation}) {reason} after {}", Seconds(self.age_ms))?;
        if self.acked { Ok(()) } else { f.write_str(", unacked") }
    }
}

/// Who said that a worker takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckSource {
    /// The worker, over the control socket.
    Control,
    /// The worker, with `READY=1` to the notify socket.
    Notify,
    /// Nobody: the time of `--ack-mode SECONDS` passed and it was alive.
    Timer,
}

/// Which way a rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutKind {
    /// To a new release.
    #[default]
    Upgrade,
    /// To the one before, because somebody asked for it.
    Rollback,
}

impl fmt::Display for RolloutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
        })
    }
}

/// Why a worker that serves is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecycleReason {
    /// It has reached the greatest age (`--max-age`).
    MaxAge,
    /// It holds more memory than it may (`--max-rss`).
    MaxRss,
    /// It has stopped saying that it is well (`--ping-timeout`).
    PingTimeout,
}

impl fmt::Display for RecycleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxAge => "it has reached its greatest age (--max-age)",
            Self::MaxRss => "it holds more memory than it may (--max-rss)",
            Self::PingTimeout => "it has stopped saying that it is well (--ping-timeout)",
        })
    }
}

/// How much a notice matters, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Wakes someone.
    Error,
    /// Odd, but handled.
    Warn,
    /// A transition.
    Info,
    /// A decision.
    Debug,
}

/// One thing that happened. Its `Display` is the line in the log; as JSON it has a tag, `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// A worker was spawned.
    Spawned {
        /// Its slot.
        slot: u32,
        /// Its index.
        index: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
    },
    /// A worker takes traffic.
    Acked {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// Who says so.
        source: AckSource,
        /// Its age, in milliseconds since it was spawned.
        age_ms: u64,
        /// How many workers of its generation are up now.
        #[serde(default)]
        up: u32,
        /// How many workers there are to be.
        #[serde(default)]
        wanted: u32,
    },
    /// The slot of a worker was taken away, and new connections go elsewhere. It is asked to stop when those that are
    /// on their way to it have had time to arrive.
    Retiring {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// How long it goes on, in milliseconds.
        for_ms: u64,
    },
    /// A worker was asked to stop.
    Draining {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// The signal it got.
        signal: String,
        /// Why.
        why: String,
    },
    /// A worker that had been asked to stop has gone.
    Drained {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// How it ended.
        termination: Termination,
        /// How long it took, in milliseconds since its stop signal.
        took_ms: u64,
    },
    /// A worker did not stop within its grace period and gets the next signal.
    Escalated {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// The signal it gets now.
        signal: String,
        /// How long it had, in milliseconds.
        after_ms: u64,
    },
    /// A worker died, or could not be spawned, or missed its boot deadline.
    Died {
        /// Its slot.
        slot: u32,
        /// How it ended.
        death: Death,
        /// When its slot is filled again, in milliseconds from now; `None` if not by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_spawn_ms: Option<u64>,
        /// What happens next, in words.
        next: String,
    },
    /// A slot has no worker and gets none by itself.
    GivenUp {
        /// The slot.
        slot: u32,
        /// Spawns in a row without an ack.
        tries: u32,
    },
    /// The pool has as many acked workers as it should.
    Ready {
        /// How many.
        workers: u32,
        /// Their generation.
        generation: u64,
        /// Since the master started, in milliseconds.
        after_ms: u64,
    },
    /// The number of workers was changed.
    Resized {
        /// From.
        from: u32,
        /// To.
        to: u32,
    },
    /// An upgrade, or the way back from one, began.
    UpgradeStarted {
        /// Which of the two.
        kind: RolloutKind,
        /// The generation that it brings.
        generation: u64,
        /// How many workers it replaces.
        workers: u32,
    },
    /// Somebody has joined an upgrade that runs, and this is how it stands. Told to nobody else.
    UpgradeJoined(UpgradeStatus),
    /// An upgrade ended and every worker runs the new release.
    UpgradeDone {
        /// Upgrade or rollback.
        kind: RolloutKind,
        /// The generation that it brought.
        generation: u64,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Old workers that still finish what they have.
        draining: u32,
    },
    /// The first few workers of an upgrade are up, and the rest waits.
    SoakStarted {
        /// The generation that it brings.
        generation: u64,
        /// How many there are.
        workers: u32,
        /// For how long the rest waits, in milliseconds; `None` until somebody says to go on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        soak_ms: Option<u64>,
    },
    /// The rest of an upgrade follows.
    SoakOver {
        /// The generation that it brings.
        generation: u64,
    },
    /// An upgrade failed, and what it had replaced is replaced again.
    RollbackStarted {
        /// Upgrade or rollback.
        kind: RolloutKind,
        /// The generation that it would have brought.
        generation: u64,
        /// Why.
        reason: String,
    },
    /// An upgrade failed and has ended.
    UpgradeFailed {
        /// Upgrade or rollback.
        kind: RolloutKind,
        /// The generation that it would have brought.
        generation: u64,
        /// Why.
        reason: String,
        /// What serves now.
        serving: String,
    },
    /// A worker that serves is to be replaced; its successor is spawned.
    Recycling {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// Its generation.
        generation: u64,
        /// Why.
        reason: RecycleReason,
    },
    /// A worker said something of itself (`STATUS=`).
    StatusText {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
        /// What it said.
        text: String,
    },
    /// A worker said that it is stopping by itself (`STOPPING=1`).
    Stopping {
        /// Its slot.
        slot: u32,
        /// Its pid.
        pid: i32,
    },
    /// The master is stopping.
    MasterStopping {
        /// The signal that the workers get.
        signal: String,
        /// How many workers there are.
        workers: u32,
        /// Who asked.
        why: String,
    },
    /// The master ends.
    MasterExiting {
        /// With this exit code.
        code: u8,
        /// Why.
        why: String,
    },
    /// A program is asked whether it can take the master's place.
    MasterChecking {
        /// The program.
        program: String,
    },
    /// The master has replaced itself; the workers are the same.
    MasterReplaced {
        /// Its version.
        version: String,
        /// The version before.
        from_version: String,
        /// How many workers it has taken over.
        workers: u32,
        /// How long the master did nothing else, in milliseconds, the check not counted.
        took_ms: u64,
    },
    /// The master was to be replaced, and goes on as it was.
    MasterKept {
        /// Why.
        reason: String,
    },
    /// A request was not carried out, or something was ignored.
    Refused {
        /// What, and why.
        message: String,
    },
    /// A decision that only somebody who looks for a fault wants to read.
    Decided {
        /// What, and why.
        message: String,
    },
}

impl Notice {
    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::GivenUp { .. }
            | Self::UpgradeFailed { .. }
            | Self::RollbackStarted { .. }
            | Self::MasterKept { .. } => Severity::Error,
            Self::MasterExiting { code, .. } if *code != 0 => Severity::Error,
            Self::Recycling { reason: RecycleReason::PingTimeout, .. } => Severity::Warn,
            Self::Died { .. } | Self::Escalated { .. } | Self::Refused { .. } => Severity::Warn,
            Self::Decided { .. } | Self::StatusText { .. } => Severity::Debug,
            _ => Severity::Info,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawned { slot, index, pid, generation } => {
                write!(f, "slot {slot}: worker {pid} (generation {generation}) spawned, index {index}")
            }
            Self::Acked { slot, pid, generation, source, age_ms, .. } => {
                let how = match source {
                    AckSource::Control => "acked",
                    AckSource::Notify => "acked by READY=1",
                    AckSource::Timer => "taken as acked",
                };
                let age = Seconds(*age_ms);
                write!(f, "slot {slot}: worker {pid} (generation {generation}) {how} after {age}")
            }
            Self::Retiring { slot, pid, generation, for_ms } => {
                let time = Seconds(*for_ms);
                write!(
                    f,
                    "slot {slot}: worker {pid} (generation {generation}) gets nothing new, and is asked to stop in \
                     {time}"
                )
            }
            Self::Draining { slot, pid, generation, signal, why } => {
                write!(f, "slot {slot}: worker {pid} (generation {generation}) draining with {signal}: {why}")
            }
            Self::Drained { slot, pid, generation, termination, took_ms } => {
                let took = Seconds(*took_ms);
                write!(
                    f,
                    "slot {slot}: worker {pid} (generation {generation}) drained in {took}: it {termination}"
                )
            }
            Self::Escalated { slot, pid, generation, signal, after_ms } => {
                let after = Seconds(*after_ms);
                write!(
                    f,
                    "slot {slot}: worker {pid} (generation {generation}) still runs {after} after its stop \
                     signal; it gets {signal}"
                )
            }
            Self::Died { slot, death, next, .. } => write!(f, "slot {slot}: {death}; {next}"),
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
            Self::Resized { from, to } => write!(f, "number of workers {from} -> {to}"),
            Self::UpgradeStarted { kind, generation, workers } => {
                write!(f, "{kind} to generation {generation} of {} began", Workers(*workers))
            }
            Self::UpgradeJoined(upgrade) => write_joined(f, upgrade),
            Self::SoakStarted { generation, workers, soak_ms } => {
                let workers = Workers(*workers);
                write!(f, "{workers} of generation {generation} up; {}", Soak(*soak_ms))
            }
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
            Self::Recycling { slot, pid, generation, reason } => {
                write!(f, "slot {slot}: worker {pid} (generation {generation}) is to be replaced: {reason}")
            }
            Self::StatusText { slot, pid, text } => write!(f, "slot {slot}: worker {pid} says: {text}"),
            Self::Stopping { slot, pid } => write!(f, "slot {slot}: worker {pid} says that it is stopping"),
            Self::MasterStopping { signal, workers, why } => {
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
            Self::MasterKept { reason } => write!(f, "the master was not replaced and goes on: {reason}"),
            Self::Refused { message } | Self::Decided { message } => f.write_str(message),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, upgrade: &UpgradeStatus) -> fmt::Result {
    let UpgradeStatus { kind, stage, generation, from, upgraded, wanted, .. } = upgrade;
    match stage {
        UpgradeStage::Resolving => write!(f, "{kind} to generation {generation} is about to begin"),
        UpgradeStage::Replacing => {
            write!(f, "{kind} to generation {generation} runs: {upgraded} of {wanted} workers have it")
        }
        UpgradeStage::Soaking => write!(
            f,
            "{kind} to generation {generation} runs: {upgraded} of {wanted} workers have it; {}",
            Soak(upgrade.soak_left_ms)
        ),
        UpgradeStage::RollingBack => write!(
            f,
            "{kind} to generation {generation} goes back to generation {from}: {upgraded} of {wanted} workers \
             still have it"
        ),
    }
}

/// How long a soak lasts, in milliseconds if it has an end of its own.
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
        let notice = Notice::Died { slot: 3, death, next_spawn_ms: Some(2200), next };
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
            age_ms: 2_000,
        };
        let notice = Notice::UpgradeJoined(upgrade.clone());
        assert_eq!(
            notice.to_string(),
            "upgrade to generation 8 runs: 1 of 4 workers have it; soaking until \"upgrade --continue\""
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
            "upgrade to generation 8 goes back to generation 7: 1 of 4 workers still have it"
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
        let (signal, why) = ("SIGUSR2".to_owned(), "die".to_owned());
        let stopping = Notice::MasterStopping { signal, workers: 1, why };
        assert_eq!(stopping.to_string(), "stopping (die): SIGUSR2 to 1 worker");
    }

    #[test]
    fn a_notice_survives_the_wire() {
        let notice = Notice::Drained {
            slot: 0,
            pid: 5,
            generation: 2,
            termination: Termination::Killed { signal: "SIGSEGV".into(), core_dumped: true },
            took_ms: 3,
        };
        let json = serde_json::to_string(&notice).unwrap();
        assert!(json.starts_with(r#"{"event":"drained","slot":0"#), "{json}");
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice);
    }
}
