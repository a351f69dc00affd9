//! The bar of an upgrade, counted from what the master tells of it.

use std::collections::BTreeSet;
use std::mem;

use einhorn_proto::{Notice, RolloutKind, UpgradeStage};

use crate::text::cut;

/// The columns of the bar itself, brackets not counted.
const BAR_COLUMNS: usize = 20;

/// How far the upgrade is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    generation: Option<u64>,
    kind: RolloutKind,
    stage: UpgradeStage,
    wanted: u32,
    /// Pids of the generation that the way leads to that have not acked.
    starting: BTreeSet<i32>,
    /// Slots that have a worker of the new generation that has acked.
    acked: BTreeSet<u32>,
    /// How many more there were when we joined, in slots that were not named.
    unseen: u32,
    /// Slots that had one, and lost it to a death.
    lost: BTreeSet<u32>,
    /// Pids that were asked to stop.
    draining: BTreeSet<i32>,
}

impl Progress {
    /// Counts one thing that happened.
    pub(super) fn observe(&mut self, notice: &Notice) {
        match notice {
            Notice::UpgradeStarted { kind, generation, workers } => {
                let generation = Some(*generation);
                *self = Self { kind: *kind, generation, wanted: *workers, ..Self::default() };
            }
            Notice::UpgradeJoined(upgrade) => {
                // What was told of single workers before this still holds.
                let (starting, draining) = (mem::take(&mut self.starting), mem::take(&mut self.draining));
                *self = Self {
                    kind: upgrade.kind,
                    stage: upgrade.stage,
                    generation: Some(upgrade.generation),
                    wanted: upgrade.wanted,
                    unseen: upgrade.upgraded,
                    starting,
                    draining,
                    ..Self::default()
                };
            }
            Notice::SoakStarted { .. } => self.stage = UpgradeStage::Soaking,
            Notice::SoakOver { .. } => self.stage = UpgradeStage::Replacing,
            Notice::RollbackStarted { .. } => self.stage = UpgradeStage::RollingBack,
            Notice::Resized { to, .. } => self.wanted = *to,
            Notice::Spawned { pid, generation, .. } if self.is_on_the_way(*generation) => {
                self.starting.insert(*pid);
            }
            Notice::Acked { slot, pid, generation, .. } => {
                self.starting.remove(pid);
                if self.is_on_the_way(*generation) {
                    self.lost.remove(slot);
                }
                if self.is_new(*generation) {
                    self.acked.insert(*slot);
                }
            }
            Notice::Draining { slot, pid, generation, .. } => {
                let was_starting = self.starting.remove(pid);
                if self.is_new(*generation) && !was_starting {
                    self.take_back(*slot);
                }
                self.draining.insert(*pid);
            }
            Notice::Drained { pid, .. } => {
                self.draining.remove(pid);
            }
            Notice::Died { slot, death, .. } => {
                if self.is_new(death.generation) && death.acked {
                    self.take_back(*slot);
                    self.lost.insert(*slot);
                }
                if let Some(pid) = death.pid {
                    self.starting.remove(&pid);
                    self.draining.remove(&pid);
                }
            }
            _ => {}
        }
    }

    fn is_new(&self, generation: u64) -> bool {
        Some(generation) == self.generation
    }

    /// Whether the way leads to this generation now: forward to the new one, back to any other.
    fn is_on_the_way(&self, generation: u64) -> bool {
        self.is_new(generation) != (self.stage == UpgradeStage::RollingBack)
    }

    /// The slot has no acked worker of the new generation any more.
    fn take_back(&mut self, slot: u32) {
        if !self.acked.remove(&slot) {
            self.unseen = self.unseen.saturating_sub(1);
        }
    }

    /// The bar, in at most `columns`; empty before anything is known.
    pub(super) fn bar(&self, columns: usize) -> String {
        let Some(generation) = self.generation else { return String::new() };
        let wanted = self.wanted.max(1) as usize;
        let acked = (self.acked.len() + self.unseen as usize).min(wanted);
        let (label, done, unit) = match (self.stage, self.kind) {
            (UpgradeStage::RollingBack, _) => {
                ("going back".to_owned(), wanted.saturating_sub(acked + self.lost.len()), "")
            }
            (_, RolloutKind::Upgrade) => (format!("generation {generation}"), acked, " acked"),
            (_, RolloutKind::Rollback) => (format!("back to generation {generation}"), acked, " acked"),
        };
        let filled = BAR_COLUMNS * done / wanted;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(BAR_COLUMNS - filled));
        let mut text = format!("{label} [{bar}] {done}/{wanted}{unit}");
        if self.stage == UpgradeStage::Soaking {
            text.push_str(", soaking");
        }
        for (count, what) in [(self.starting.len(), "starting"), (self.draining.len(), "draining")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        cut(&text, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use einhorn_proto::{AckSource, Death, Termination, UpgradeStatus};

    fn spawned(slot: u32, pid: i32) -> Notice {
        Notice::Spawned { slot, index: slot, pid, generation: 8 }
    }

    fn acked(slot: u32, pid: i32) -> Notice {
        Notice::Acked { slot, pid, generation: 8, source: AckSource::Control, age_ms: 5, up: 1, wanted: 2 }
    }

    fn draining(slot: u32, pid: i32, generation: u64) -> Notice {
        Notice::Draining { slot, pid, generation, signal: "SIGUSR2".into(), why: "replaced".into() }
    }

    fn drained(slot: u32, pid: i32) -> Notice {
        Notice::Drained { slot, pid, generation: 7, termination: Termination::Exited(0), took_ms: 3 }
    }

    fn died(slot: u32, pid: i32, generation: u64, acked: bool) -> Notice {
        let death = Death {
            pid: Some(pid),
            generation,
            reason: "exited with status 1".into(),
            termination: Some(Termination::Exited(1)),
            age_ms: 4,
            acked,
            stderr_tail: Vec::new(),
        };
        Notice::Died { slot, death, next_spawn_ms: Some(2200), next: "next spawn in 2.2s".into() }
    }

    fn of_old(notice: Notice) -> Notice {
        match notice {
            Notice::Spawned { slot, index, pid, .. } => Notice::Spawned { slot, index, pid, generation: 7 },
            Notice::Acked { slot, pid, source, age_ms, up, wanted, .. } => {
                Notice::Acked { slot, pid, generation: 7, source, age_ms, up, wanted }
            }
            other => other,
        }
    }

    fn started() -> Notice {
        Notice::UpgradeStarted { kind: RolloutKind::Upgrade, generation: 8, workers: 4 }
    }

    fn turned() -> Notice {
        Notice::RollbackStarted { kind: RolloutKind::Upgrade, generation: 8, reason: "no good".into() }
    }

    fn joined(stage: UpgradeStage) -> Notice {
        Notice::UpgradeJoined(UpgradeStatus {
            kind: RolloutKind::Upgrade,
            stage,
            generation: 8,
            from: 7,
            soak_left_ms: None,
            upgraded: 2,
            wanted: 4,
            starting: 0,
            age_ms: 9,
        })
    }

    fn bar_after(notices: &[Notice]) -> String {
        let mut progress = Progress::default();
        progress.observe(&started());
        notices.iter().for_each(|notice| progress.observe(notice));
        progress.bar(79)
    }

    #[test]
    fn an_upgrade_fills_the_bar() {
        assert_eq!(Progress::default().bar(79), "");
        assert_eq!(bar_after(&[]), "generation 8 [....................] 0/4 acked");
        let mut notices = vec![spawned(0, 10), spawned(1, 11)];
        assert_eq!(bar_after(&notices), "generation 8 [....................] 0/4 acked, 2 starting");
        notices.extend([acked(0, 10), draining(0, 1, 7)]);
        assert_eq!(
            bar_after(&notices),
            "generation 8 [#####...............] 1/4 acked, 1 starting, 1 draining"
        );
        notices.extend([drained(0, 1), acked(1, 11), acked(2, 12), acked(3, 13)]);
        assert_eq!(bar_after(&notices), "generation 8 [####################] 4/4 acked");
    }

    #[test]
    fn a_new_worker_that_dies_or_is_taken_back_does_not_count() {
        let up = [spawned(0, 10), acked(0, 10)];
        assert_eq!(bar_after(&[&up[..], &[died(0, 10, 8, true)]].concat()), bar_after(&[]));
        assert_eq!(bar_after(&[spawned(0, 10), died(0, 10, 8, false)]), bar_after(&[]));
        let taken_back = bar_after(&[&up[..], &[draining(0, 10, 8)]].concat());
        assert_eq!(taken_back, "generation 8 [....................] 0/4 acked, 1 draining");
    }

    #[test]
    fn an_old_worker_that_dies_changes_no_count_of_new_ones() {
        assert_eq!(
            bar_after(&[spawned(0, 10), acked(0, 10), died(0, 1, 7, true)]),
            bar_after(&[acked(0, 10)])
        );
    }

    #[test]
    fn the_bar_follows_a_resize_and_a_narrow_terminal() {
        let mut progress = Progress::default();
        progress.observe(&started());
        progress.observe(&acked(0, 10));
        progress.observe(&Notice::Resized { from: 4, to: 1 });
        assert_eq!(progress.bar(79), "generation 8 [####################] 1/1 acked");
        assert_eq!(progress.bar(20), "generation 8 [#####…");
    }

    #[test]
    fn a_soak_is_told_until_it_is_over() {
        let mut notices = vec![spawned(0, 10), acked(0, 10)];
        notices.push(Notice::SoakStarted { generation: 8, workers: 1, soak_ms: Some(30_000) });
        assert_eq!(bar_after(&notices), "generation 8 [#####...............] 1/4 acked, soaking");
        notices.push(Notice::SoakOver { generation: 8 });
        assert_eq!(bar_after(&notices), "generation 8 [#####...............] 1/4 acked");
    }

    #[test]
    fn an_upgrade_that_turns_around_counts_the_slots_that_are_back() {
        let mut notices =
            vec![spawned(0, 10), acked(0, 10), spawned(1, 11), acked(1, 11), spawned(2, 12), turned()];
        notices.push(draining(2, 12, 8));
        assert_eq!(bar_after(&notices), "going back [##########..........] 2/4, 1 draining");
        notices.push(of_old(spawned(0, 20)));
        assert_eq!(bar_after(&notices), "going back [##########..........] 2/4, 1 starting, 1 draining");
        notices.extend([of_old(acked(0, 20)), draining(0, 10, 8), drained(2, 12)]);
        assert_eq!(bar_after(&notices), "going back [###############.....] 3/4, 1 draining");
    }

    #[test]
    fn a_seat_that_a_canary_left_empty_is_not_back_before_it_is_filled() {
        let mut notices = vec![spawned(0, 10), acked(0, 10), died(0, 10, 8, true), turned()];
        assert_eq!(bar_after(&notices), "going back [###############.....] 3/4");
        notices.extend([of_old(spawned(0, 20)), of_old(acked(0, 20))]);
        assert_eq!(bar_after(&notices), "going back [####################] 4/4");
    }

    #[test]
    fn an_old_worker_that_is_respawned_meanwhile_counts_for_neither_way() {
        assert_eq!(bar_after(&[of_old(spawned(0, 1)), of_old(acked(0, 1))]), bar_after(&[]));
    }

    #[test]
    fn who_joins_counts_from_what_there_is() {
        let replacing = joined(UpgradeStage::Replacing);
        assert_eq!(
            bar_after(std::slice::from_ref(&replacing)),
            "generation 8 [##########..........] 2/4 acked"
        );
        assert_eq!(
            bar_after(&[replacing.clone(), acked(3, 13)]),
            "generation 8 [###############.....] 3/4 acked"
        );
        assert_eq!(
            bar_after(&[replacing, acked(3, 13), died(0, 10, 8, true)]),
            "generation 8 [##########..........] 2/4 acked"
        );
        let back = joined(UpgradeStage::RollingBack);
        assert_eq!(bar_after(std::slice::from_ref(&back)), "going back [##########..........] 2/4");
        assert_eq!(
            bar_after(&[turned(), of_old(spawned(0, 20)), back.clone()]),
            "going back [##########..........] 2/4, 1 starting"
        );
        assert_eq!(
            bar_after(&[back, of_old(acked(0, 20)), draining(0, 10, 8)]),
            "going back [###############.....] 3/4, 1 draining"
        );
    }

    #[test]
    fn a_rollback_by_hand_says_where_it_goes() {
        let kind = RolloutKind::Rollback;
        let started = Notice::UpgradeStarted { kind, generation: 8, workers: 4 };
        assert_eq!(
            bar_after(&[started, acked(0, 10)]),
            "back to generation 8 [#####...............] 1/4 acked"
        );
    }
}
