//! One reply line.

use serde::{Deserialize, Serialize};

use crate::{Death, RequestId, RolloutKind};

/// One line of the master's answer to a request.
///
/// A long command sends lines with `wait`, and then exactly one without, which has `ok`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply<D = serde_json::Value> {
    /// For people; may have several lines.
    pub message: String,
    /// The request's `id`, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Whether more lines will come for this request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// In the last line: whether the command did what was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// For programs; its type depends on the command: [`crate::Status`] for `status`, [`Resized`] for `inc`,
    /// `dec` and `set_workers`, [`crate::Notice`] in progress and events, [`UpgradeReport`] at an upgrade's end.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub data: Option<D>,
}

/// `#[serde(default)]` alone would ask `D: Default` of every caller.
fn none<D>() -> Option<D> {
    None
}

impl<D: Serialize> Reply<D> {
    /// The last line of an answer.
    pub fn last(
        request_id: Option<RequestId>,
        ok: bool,
        message: impl Into<String>,
        data: Option<D>,
    ) -> Self {
        Self { message: message.into(), request_id, wait: false, ok: Some(ok), data }
    }

    /// A line that is not the last.
    pub fn progress(request_id: Option<RequestId>, message: impl Into<String>, data: Option<D>) -> Self {
        Self { message: message.into(), request_id, wait: true, ok: None, data }
    }

    /// Appends the reply to `out` as one line, with its newline.
    ///
    /// # Panics
    /// If `D` cannot be written as JSON, which the types of this crate always can.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("reply types serialise to JSON");
        out.push(b'\n');
    }
}

/// What `inc`, `dec` and `set_workers` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resized {
    /// The number of workers asked for before.
    pub from: u32,
    /// The number of workers asked for now.
    pub to: u32,
}

/// How an upgrade ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every worker runs the new release and has acked.
    Done,
    /// The new release failed, or was not wanted; every worker runs the one before. `reason` says why.
    RolledBack,
    /// It failed, and so did the way back; `reason` says why.
    Failed,
}

/// The end of an upgrade, as its last reply carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// Upgrade or rollback.
    #[serde(default)]
    pub kind: RolloutKind,
    /// How it ended.
    pub outcome: Outcome,
    /// The generation that it brought, or would have brought.
    pub generation: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The death that decided it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
    /// Workers that are up with the new generation.
    pub upgraded: u32,
    /// Workers asked for.
    pub wanted: u32,
    /// Old workers that still finish what they have.
    pub draining: u32,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_has_ok_and_only_the_others_have_wait() {
        let mut out = Vec::new();
        Reply::<()>::progress(Some(3.into()), "half", None).write_to(&mut out);
        Reply::last(Some(3.into()), true, "whole", Some(Resized { from: 1, to: 2 })).write_to(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"message":"half","request_id":3,"wait":true}"#,
                "\n",
                r#"{"message":"whole","request_id":3,"ok":true,"data":{"from":1,"to":2}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_reply_of_einhorn_is_read() {
        let reply: Reply = serde_json::from_str(r#"{"message":"hi"}"#).unwrap();
        assert!(!reply.wait && reply.ok.is_none() && reply.data.is_none());
    }
}
