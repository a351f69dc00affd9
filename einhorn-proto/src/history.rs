//! Rollouts that have ended: the answer to `history`.

use serde::{Deserialize, Serialize};

use crate::{Outcome, RolloutKind};

/// The longest label of a release, in characters. Source: this program; einhorn-control(7), "LIMITS".
///
/// Long enough for an image with its digest.
pub const LABEL_CHARS_MAX: usize = 128;

/// The data of the answer to `history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The last rollouts that have ended, oldest first.
    pub rollouts: Vec<PastRollout>,
}

/// A rollout that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRollout {
    /// When it ended: UTC, as in RFC 3339, to the second.
    pub ended_at: String,
    /// Upgrade, or rollback by command.
    pub kind: RolloutKind,
    /// The order that was asked for.
    pub order: RolloutOrder,
    /// The generation that it led to.
    pub generation: u64,
    /// The generation that served before.
    pub from: u64,
    /// The name of the release of `generation`, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Who asked for it; of several, the first.
    #[serde(default)]
    pub requester: Requester,
    /// How long it took, in milliseconds, from the first worker that it replaced, or from the start of its check, to its end.
    pub took_ms: u64,
    /// How it ended.
    pub outcome: PastOutcome,
    /// Whether it ended before it touched a worker.
    #[serde(default, rename = "untouched", skip_serializing_if = "std::ops::Not::not")]
    pub is_untouched: bool,
    /// Who aborted or superseded it, or stopped the master meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<Requester>,
    /// How many of the workers that it replaced have left processes that hold a listener and may still serve, as its report says.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub listening: u32,
    /// Why it failed, was aborted or was superseded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// The order in which a rollout replaces the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutOrder {
    /// One after the other, or a few at a time.
    #[default]
    Smooth,
    /// All at once.
    Fleet,
    /// Some first, and the rest after a soak.
    Canary,
}

/// How a rollout of the history ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PastOutcome {
    /// As [`Outcome::Done`].
    Done,
    /// As [`Outcome::RolledBack`].
    RolledBack,
    /// As [`Outcome::Failed`].
    Failed,
    /// Another upgrade took its place before its end; only in einhorn's dialect.
    Superseded,
}

impl From<Outcome> for PastOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::RolledBack => Self::RolledBack,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// Who asked for a rollout, or ended it: a client of the control socket, or the sender of a signal. Each field is missing if it is not
/// known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// The signal, such as `SIGHUP`; missing for a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The user of its process: the effective one of a client, the real one of whoever sent a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The user who logged in. `sudo` and `su` do not change it; a service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// The name of its process, of which the kernel keeps 15 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
}

/// Reads the label that somebody gives to a release.
///
/// # Errors
/// A message for the user if it is empty, too long, or not one line of visible characters.
pub fn parse_label(text: &str) -> Result<String, String> {
    let is_visible = crate::visible_line(text) == text;
    match text.trim() {
        "" => Err("must not be empty".to_owned()),
        _ if !is_visible => Err("must be one line of visible characters".to_owned()),
        label if label.chars().nth(LABEL_CHARS_MAX).is_some() => {
            Err(format!("must have {LABEL_CHARS_MAX} characters at most"))
        }
        label => Ok(label.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_short_line_of_visible_characters() {
        for (text, label) in [("v1.4.2", "v1.4.2"), (" żółw 🦄 ", "żółw 🦄")] {
            assert_eq!(parse_label(text).as_deref(), Ok(label));
        }
        let longest = "ż".repeat(LABEL_CHARS_MAX);
        assert_eq!(parse_label(&longest).as_ref(), Ok(&longest));
        for (text, why) in [
            ("", "must not be empty"),
            ("  ", "must not be empty"),
            ("v1\nv2", "must be one line of visible characters"),
            ("\u{1b}[2J", "must be one line of visible characters"),
            ("\u{202e}1v", "must be one line of visible characters"),
            (&format!("{longest}!"), "must have 128 characters at most"),
        ] {
            assert_eq!(parse_label(text), Err(why.to_owned()), "{text}");
        }
    }
}
