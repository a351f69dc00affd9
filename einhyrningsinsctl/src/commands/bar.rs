//! The bar of a rollout, drawn from the master's counts.

use einhorn_proto::{Counts, RolloutKind, UpgradeStage};

use crate::text::cut;

/// The columns of the bar itself, without its brackets.
const BAR_COLUMNS: u64 = 20;

/// The bar, in at most `columns`.
pub(super) fn bar(counts: &Counts, columns: usize) -> String {
    let Counts { kind, stage, generation, done, wanted, starting, draining } = *counts;
    let (label, unit) = match (stage, kind) {
        (UpgradeStage::RollingBack, _) => ("rolling back".to_owned(), ""),
        (UpgradeStage::Checking, _) => (format!("checking generation {generation}"), ""),
        (_, RolloutKind::Upgrade) => (format!("generation {generation}"), " acked"),
        (_, RolloutKind::Rollback) => (format!("back to generation {generation}"), " acked"),
    };
    let filled = BAR_COLUMNS * u64::from(done.min(wanted)) / u64::from(wanted.max(1));
    let bar: String = (0..BAR_COLUMNS).map(|column| if column < filled { '#' } else { '.' }).collect();
    let mut text = format!("{label} [{bar}] {done}/{wanted}{unit}");
    if stage == UpgradeStage::Soaking {
        text.push_str(", soaking");
    }
    for (count, what) in [(starting, "starting"), (draining, "draining")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    cut(&text, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: Counts = Counts {
        kind: RolloutKind::Upgrade,
        stage: UpgradeStage::Replacing,
        generation: 8,
        done: 1,
        wanted: 4,
        starting: 0,
        draining: 0,
    };

    #[test]
    fn it_shows_what_is_done_and_what_is_on_its_way() {
        assert_eq!(bar(&Counts { done: 0, ..COUNTS }, 79), "generation 8 [....................] 0/4 acked");
        assert_eq!(
            bar(&Counts { starting: 1, draining: 2, ..COUNTS }, 79),
            "generation 8 [#####...............] 1/4 acked, 1 starting, 2 draining"
        );
        assert_eq!(bar(&Counts { done: 4, ..COUNTS }, 79), "generation 8 [####################] 4/4 acked");
        assert_eq!(bar(&COUNTS, 20), "generation 8 [#####…");
    }

    #[test]
    fn it_names_the_stage_and_the_direction() {
        assert_eq!(
            bar(&Counts { stage: UpgradeStage::Soaking, ..COUNTS }, 79),
            "generation 8 [#####...............] 1/4 acked, soaking"
        );
        assert_eq!(
            bar(&Counts { stage: UpgradeStage::RollingBack, done: 3, ..COUNTS }, 79),
            "rolling back [###############.....] 3/4"
        );
        assert_eq!(
            bar(&Counts { kind: RolloutKind::Rollback, ..COUNTS }, 79),
            "back to generation 8 [#####...............] 1/4 acked"
        );
    }
}
