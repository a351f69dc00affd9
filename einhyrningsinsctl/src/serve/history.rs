//! The rollouts that have ended, for the page: as the master has them, with the names of who asked.

use std::collections::BTreeMap;

use einhorn_proto::{History, PastRollout};
use serde::Serialize;

use crate::commands::requester;
use crate::trust::Owner;

#[derive(Serialize)]
struct Rows<'a> {
    rollouts: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    rollout: &'a PastRollout,
    /// The user who asked for it.
    who: String,
    /// The program or the signal that the user asked with.
    with: String,
    /// The same of whoever ended it, if somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_with: Option<String>,
}

/// As JSON, oldest first.
pub(super) fn rows(history: &History) -> String {
    let mut names = BTreeMap::new();
    let mut name_of = |uid| names.entry(uid).or_insert_with(|| Owner(uid).name()).clone();
    let rollouts = history.rollouts.iter().map(|rollout| Row {
        rollout,
        who: requester::who(&rollout.requester, &mut name_of),
        with: requester::with(&rollout.requester),
        ended_with: rollout
            .ended_by
            .as_ref()
            .map(|by| format!("{} with {}", requester::who(by, &mut name_of), requester::with(by))),
    });
    serde_json::to_string(&Rows { rollouts: rollouts.collect() }).unwrap_or_default()
}
