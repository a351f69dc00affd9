//! The lines that `--json` prints: each says what it tells of and whether that was done, and has the fields of its data.

use einhorn_proto::RefusalKind;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::connection::Reply;

/// What every line has, unless its data has a field of that name.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line<'a> {
    /// The event that it tells of; in the last line, the command that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    /// Whether the command did what was asked; null while that is not known.
    ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusalKind>,
}

/// Which of these fields data has.
#[derive(Deserialize)]
struct Taken {
    event: Option<IgnoredAny>,
    message: Option<IgnoredAny>,
    refused: Option<IgnoredAny>,
}

impl<'a> Line<'a> {
    /// A line that says whether `command` did what was asked.
    pub(super) fn last(command: &'a str, ok: Option<bool>, message: &'a str) -> Self {
        Self { event: Some(command), ok, message: Some(message), refused: None }
    }

    /// The line of a reply to `command`, without its data. A line before the last is an event, whose name its data has.
    pub(super) fn of(reply: &'a Reply, command: &'a str) -> Self {
        Self { refused: reply.refused, ..Self::last(command, reply.ok, &reply.message) }
    }

    /// Whether it says that the command failed.
    pub(super) fn is_failure(&self) -> bool {
        self.ok == Some(false)
    }

    /// The line, with the fields of `data` as they were written.
    pub(super) fn with(mut self, data: Option<&str>) -> String {
        let data = data.unwrap_or("{}").trim();
        let fields = data.strip_prefix('{').and_then(|data| data.strip_suffix('}')).map(str::trim);
        let (Ok(taken), Some(fields)) = (serde_json::from_str::<Taken>(data), fields) else {
            return self.with(Some(&format!("{{\"data\":{data}}}")));
        };
        self.event = self.event.filter(|_| taken.event.is_none());
        self.message = self.message.filter(|_| taken.message.is_none());
        self.refused = self.refused.filter(|_| taken.refused.is_none());
        // It has nothing that JSON cannot express.
        let mut line = serde_json::to_string(&self).unwrap_or_default();
        if !fields.is_empty() {
            line.truncate(line.len().saturating_sub(1));
            line.push_str(&format!(",{fields}}}"));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_data_stand_behind_those_of_every_line_and_take_their_place() {
        let line = |data| Line::last("inc", Some(true), "grown").with(data);
        assert_eq!(line(None), r#"{"event":"inc","ok":true,"message":"grown"}"#);
        assert_eq!(line(Some(" { } ")), line(None));
        assert_eq!(
            line(Some(r#"{"b":1.50,"a":[]}"#)),
            r#"{"event":"inc","ok":true,"message":"grown","b":1.50,"a":[]}"#
        );
        assert_eq!(
            line(Some(r#"{"event":"acked","message":"m","refused":3}"#)),
            r#"{"ok":true,"event":"acked","message":"m","refused":3}"#
        );
        for other in ["[1]", "7", "null", "\"{}\""] {
            assert_eq!(
                line(Some(other)),
                format!(r#"{{"event":"inc","ok":true,"message":"grown","data":{other}}}"#)
            );
        }
    }
}
