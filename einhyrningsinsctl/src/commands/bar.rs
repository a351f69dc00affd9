//! The bar of a rollout, drawn from the master's counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use einhorn_proto::{Counts, Notice, RolloutKind, UpgradeStage, WorkerSlot};
#[cfg(feature = "top")]
use einhorn_proto::{Status, WorkerState};

#[cfg(feature = "top")]
use crate::text::width;
use crate::text::{age, cut};

/// The columns of the bar itself, without its brackets; and where there is little room.
const BAR_COLUMNS: u64 = 20;
#[cfg(feature = "top")]
const BAR_COLUMNS_NARROW: u64 = 8;

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
        Some(awaited(*slot, now.saturating_duration_since(*since), counts.ack_within_ms))
    }
}

/// A slot that is waited for, and how long its worker may still take.
fn awaited(slot: WorkerSlot, waited: Duration, within_ms: Option<u64>) -> String {
    let left = within_ms.map(|within| Duration::from_millis(within).saturating_sub(waited));
    // Rounded up: at "0s left" its time would be over.
    let begun = |left: Duration| left + Duration::from_nanos(999_999_999);
    left.map_or_else(|| slot.to_string(), |left| format!("{slot}, {} left", seconds(begun(left))))
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
    let awaited = course.awaited(now, counts);
    let (label, rest) = label_and_rest(counts, course.age(now), awaited);
    cut(&format!("{label} {} {rest}", filled(counts, BAR_COLUMNS)), columns)
}

/// The bar itself.
fn filled(counts: &Counts, columns: u64) -> String {
    let Counts { done, wanted, .. } = *counts;
    let filled = columns * u64::from(done.min(wanted)) / u64::from(wanted.max(1));
    let bar: String = (0..columns).map(|column| if column < filled { '#' } else { '.' }).collect();
    format!("[{bar}]")
}

/// What stands before the bar and behind it.
fn label_and_rest(counts: &Counts, age: Duration, awaited: Option<String>) -> (String, String) {
    let awaited = awaited.filter(|_| counts.starting > 0);
    words(counts, &format!(", {}", seconds(age)), awaited.as_deref())
}

/// The bar of the rollout of a pool, whoever asked for it. Where there is little room, it is shorter and names no generation.
#[cfg(feature = "top")]
pub(super) fn bar_of_pool(status: &Status, columns: usize) -> Option<String> {
    let upgrade = status.upgrade.as_ref()?;
    let is_back = upgrade.stage == UpgradeStage::RollingBack;
    let target = if is_back { upgrade.from } else { upgrade.generation };
    let starting = || {
        let of_target = status.workers.iter().filter(move |worker| worker.generation == target);
        of_target.filter(|worker| worker.state == WorkerState::Starting && worker.slot.0.is_some())
    };
    let counts = Counts {
        kind: upgrade.kind,
        stage: upgrade.stage,
        generation: upgrade.generation,
        done: if is_back { status.master.up.saturating_sub(upgrade.upgraded) } else { upgrade.upgraded },
        wanted: upgrade.wanted,
        starting: u32::try_from(starting().count()).unwrap_or(u32::MAX),
        draining: status.master.draining,
        ack_within_ms: upgrade.ack_within_ms,
    };
    let oldest = starting().max_by_key(|worker| worker.age_ms);
    let awaited = oldest
        .map(|worker| awaited(worker.slot, Duration::from_millis(worker.age_ms), upgrade.ack_within_ms));
    let (label, rest) = label_and_rest(&counts, Duration::from_millis(upgrade.age_ms), awaited);
    let whole = format!("{label} {} {rest}", filled(&counts, BAR_COLUMNS));
    Some(match width(&whole) <= columns {
        true => whole,
        false => cut(&format!("{} {rest}", filled(&counts, BAR_COLUMNS_NARROW)), columns),
    })
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

    #[cfg(feature = "top")]
    #[test]
    fn it_is_the_same_of_what_the_status_says() {
        let worker = |slot: Option<u32>, generation: u64, state: &str, age_ms: u64| json!({ "slot": slot, "index": 0, "pid": 7, "generation": generation, "state": state, "age_ms": age_ms });
        let upgrade = json!({ "stage": "replacing", "generation": 8, "from": 7, "upgraded": 1, "wanted": 4,
                              "starting": 2, "age_ms": 13_000, "ack_within_ms": 60_000 });
        let status = json!({
            "master": { "pid": 7, "version": "0.1.0", "state": "upgrading", "age_ms": 5, "generation": 8,
                        "command": ["app"], "directory": "/", "socket": "/s", "wanted": 4, "up": 4, "starting": 2,
                        "draining": 1 },
            "listeners": [], "slots": [], "upgrade": upgrade,
            "workers": [worker(Some(1), 7, "starting", 50_000), worker(Some(2), 8, "starting", 12_000),
                        worker(Some(3), 8, "starting", 10_000), worker(None, 8, "starting", 40_000)],
        });
        let mut status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(
            bar_of_pool(&status, 100).unwrap(),
            "generation 8 [#####...............] 1/4 acked, 13s, 2 starting (slot 2, 48s left), 1 draining"
        );
        assert_eq!(
            bar_of_pool(&status, 60).unwrap(),
            "[##......] 1/4 acked, 13s, 2 starting (slot 2, 48s left), 1…"
        );
        status.upgrade.as_mut().unwrap().stage = UpgradeStage::RollingBack;
        assert_eq!(
            bar_of_pool(&status, 100).unwrap(),
            "rolling back [###############.....] 3/4, 13s, 1 starting (slot 1, 10s left), 1 draining"
        );
        status.upgrade = None;
        assert_eq!(bar_of_pool(&status, 100), None);
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
