//! The state of the master in one line, for `STATUS=`.

use einhorn_proto::{MasterState, RolloutKind, UpgradeStage, UpgradeStatus, visible_line};
use einhyrningsins_supervisor::Summary;

use super::Condition;

/// The length limit of the line; it goes into a table.
pub(super) const STATUS_BYTES_MAX: usize = 300;

/// The line that `systemctl status` shows.
pub(super) fn text(condition: &Condition, remark: Option<&str>) -> String {
    let Summary { state, generation, wanted, up, live, given_up, .. } = &condition.pool;
    let mut line = match (&condition.pool.upgrade, state) {
        (_, MasterState::Stopping) => match live {
            0 => "stopping".to_owned(),
            1 => "stopping, 1 worker left".to_owned(),
            live => format!("stopping, {live} workers left"),
        },
        (Some(upgrade), _) => upgrade_text(upgrade),
        (None, MasterState::Starting) => format!("starting: {up} of {wanted} workers up"),
        (None, _) => format!("{up} of {wanted} workers up, generation {generation}"),
    };
    if condition.is_replacing && condition.pool.upgrade.is_none() && *state != MasterState::Stopping {
        line.push_str("; replacing the master");
    }
    if *given_up > 0 && *state != MasterState::Stopping {
        let slots = if *given_up == 1 { "slot" } else { "slots" };
        line.push_str(&format!("; {given_up} {slots} given up"));
    }
    if let Some(remark) = remark {
        let separator = if *state == MasterState::Stopping { ":" } else { ";" };
        line.push_str(&format!("{separator} {remark}"));
    }
    tidy(&line)
}

fn upgrade_text(upgrade: &UpgradeStatus) -> String {
    let UpgradeStatus { kind, stage, generation, from, upgraded, wanted, .. } = upgrade;
    match (stage, kind) {
        (UpgradeStage::RollingBack, _) => {
            format!(
                "going back to generation {from}: {upgraded} of {wanted} still have generation {generation}"
            )
        }
        (UpgradeStage::Checking, _) => format!("checking generation {generation}"),
        (UpgradeStage::Soaking, _) => {
            format!("upgrading to generation {generation}: {upgraded} of {wanted}, soaking")
        }
        (_, RolloutKind::Upgrade) => format!("upgrading to generation {generation}: {upgraded} of {wanted}"),
        (_, RolloutKind::Rollback) => {
            format!("going back to generation {generation}: {upgraded} of {wanted}")
        }
    }
}

/// One line: a newline in it would begin another assignment.
fn tidy(text: &str) -> String {
    let mut text = visible_line(text).into_owned();
    if text.len() > STATUS_BYTES_MAX {
        let end = (0..=STATUS_BYTES_MAX - '\u{2026}'.len_utf8()).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push('\u{2026}');
    }
    text
}
