//! The bar of a rollout, drawn from the master's counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use einhorn_proto::{Counts, Notice, RolloutKind, UpgradeStage, WorkerSlot};

use crate::text::{age, cut};

/// The columns of the bar itself, without its brackets.
const BAR_COLUMNS: u64 = 20;

/// What a client can see of a rollout, from its progress.
#[derive(Debug)]
pub(super) struct Course {
    begun: Instant,
    /// How old the rollout was then.
    age_before: Duration,
    /// The workers that start, by pid, and since when.
    starting: BTreeMap<i32, (Instant, WorkerSlot)>,
}

impl Course {
    /// One that begins `now`.
    pub(super) fn begin(now: Instant) -> Self {
        Self { begun: now, age_before: Duration::ZERO, starting: BTreeMap::new() }
    }

    /// Follows what happens.
    pub(super) fn note(&mut self, now: Instant, notice: &Notice) {
        match notice {
            Notice::UpgradeJoined(upgrade) => self.age_before = Duration::from_millis(upgrade.age_ms),
            Notice::Spawned { pid, slot, .. } => {
                self.starting.insert(*pid, (now, *slot));
            }
            Notice::Acked { pid, .. } | Notice::Retiring { pid, .. } | Notice::Draining { pid, .. } => {
                self.starting.remove(pid);
            }
            Notice::Died { death, .. } => {
                if let Some(pid) = death.pid {
                    self.starting.remove(&pid);
                }
            }
            _ => {}
        }
    }

    fn age(&self, now: Instant) -> Duration {
        self.age_before + now.saturating_duration_since(self.begun)
    }

    /// The worker that has started for the longest time: its slot, and how long it may still take.
    fn awaited(&self, now: Instant, counts: &Counts) -> Option<String> {
        let (since, slot) = self.starting.values().min_by_key(|(since, _)| *since)?;
        let waited = now.saturating_duration_since(*since);
        let left = counts.ack_within_ms.map(|within| Duration::from_millis(within).saturating_sub(waited));
        // Rounded up: at "0s left" its time would be over.
        let begun = |left: Duration| left + Duration::from_nanos(999_999_999);
        Some(left.map_or_else(|| slot.to_string(), |left| format!("{slot}, {} left", seconds(begun(left)))))
    }
}

/// Whole seconds, because it is drawn once a second.
fn seconds(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => age(seconds * 1000),
    }
}

/// The bar at this time, in at most `columns`.
pub(super) fn bar(counts: &Counts, course: &Course, now: Instant, columns: usize) -> String {
    let Counts { done, wanted, .. } = *counts;
    let filled = BAR_COLUMNS * u64::from(done.min(wanted)) / u64::from(wanted.max(1));
    let bar: String = (0..BAR_COLUMNS).map(|column| if column < filled { '#' } else { '.' }).collect();
    let awaited = course.awaited(now, counts).filter(|_| counts.starting > 0);
    let (label, rest) = words(counts, &format!(", {}", seconds(course.age(now))), awaited.as_deref());
    cut(&format!("{label} [{bar}] {rest}"), columns)
}

/// The same without a bar: how far a rollout is.
pub(super) fn in_words(counts: &Counts) -> String {
    let (label, rest) = words(counts, "", None);
    format!("{label}: {rest}")
}

/// What goes on, and how far it is.
fn words(counts: &Counts, age: &str, awaited: Option<&str>) -> (String, String) {
    let Counts { kind, stage, generation, done, wanted, starting, draining, .. } = *counts;
    let (label, unit) = match (stage, kind) {
        (UpgradeStage::RollingBack, _) => ("rolling back".to_owned(), ""),
        (UpgradeStage::Checking, _) => (format!("checking generation {generation}"), ""),
        (_, RolloutKind::Upgrade) => (format!("generation {generation}"), " acked"),
        (_, RolloutKind::Rollback) => (format!("back to generation {generation}"), " acked"),
    };
    let mut text = format!("{done}/{wanted}{unit}{age}");
    if stage == UpgradeStage::Soaking {
        text.push_str(", soaking");
    }
    for (count, what) in [(starting, "starting"), (draining, "draining")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
        if let Some(awaited) = awaited.filter(|_| what == "starting") {
            text.push_str(&format!(" ({awaited})"));
        }
    }
    (label, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COUNTS: Counts = Counts {
        kind: RolloutKind::Upgrade,
        stage: UpgradeStage::Replacing,
        generation: 8,
        done: 1,
        wanted: 4,
        starting: 0,
        draining: 0,
        ack_within_ms: Some(60_000),
    };

    /// The bar of a rollout that has just begun.
    fn drawn(counts: &Counts, columns: usize) -> String {
        let now = Instant::now();
        bar(counts, &Course::begin(now), now, columns)
    }

    #[test]
    fn it_shows_what_is_done_and_what_is_on_its_way() {
        assert_eq!(
            drawn(&Counts { done: 0, ..COUNTS }, 79),
            "generation 8 [....................] 0/4 acked, 0s"
        );
        assert_eq!(
            drawn(&Counts { starting: 1, draining: 2, ..COUNTS }, 79),
            "generation 8 [#####...............] 1/4 acked, 0s, 1 starting, 2 draining"
        );
        assert_eq!(
            drawn(&Counts { done: 4, ..COUNTS }, 79),
            "generation 8 [####################] 4/4 acked, 0s"
        );
        assert_eq!(drawn(&COUNTS, 20), "generation 8 [#####…");
        assert_eq!(in_words(&Counts { starting: 1, ..COUNTS }), "generation 8: 1/4 acked, 1 starting");
    }

    #[test]
    fn it_shows_since_when_and_for_which_slot_until_when() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut course = Course::begin(begun);
        let spawned = |slot: u32, pid| Notice::Spawned { slot: slot.into(), index: slot, pid, generation: 8 };
        course.note(at(1), &spawned(2, 71));
        course.note(at(3), &spawned(3, 72));
        let counts = Counts { starting: 2, ..COUNTS };
        assert_eq!(
            bar(&counts, &course, at(13), 100),
            "generation 8 [#####...............] 1/4 acked, 13s, 2 starting (slot 2, 48s left)"
        );
        assert_eq!(
            bar(&Counts { ack_within_ms: None, ..counts }, &course, at(73), 100),
            "generation 8 [#####...............] 1/4 acked, 1m13s, 2 starting (slot 2)"
        );
        let death = json!({ "pid": 71, "generation": 8, "reason": "", "age_ms": 4, "acked": false });
        let died = json!({ "event": "died", "slot": 2, "death": death, "next": "done" });
        course.note(at(14), &serde_json::from_value(died).unwrap());
        assert!(bar(&counts, &course, at(14), 100).contains("(slot 3, 49s left)"));
        let later = at(13) + Duration::from_millis(100);
        assert!(bar(&counts, &course, later, 100).contains("(slot 3, 50s left)"));
    }

    #[test]
    fn it_names_the_stage_and_the_direction() {
        assert_eq!(
            drawn(&Counts { stage: UpgradeStage::Soaking, ..COUNTS }, 79),
            "generation 8 [#####...............] 1/4 acked, 0s, soaking"
        );
        assert_eq!(
            drawn(&Counts { stage: UpgradeStage::RollingBack, done: 3, ..COUNTS }, 79),
            "rolling back [###############.....] 3/4, 0s"
        );
        assert_eq!(
            drawn(&Counts { kind: RolloutKind::Rollback, ..COUNTS }, 79),
            "back to generation 8 [#####...............] 1/4 acked, 0s"
        );
    }
}
