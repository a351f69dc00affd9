//! Requests: a command that this client knows, or words as they were typed.

use std::time::Duration;

use einhorn_proto::{Command, CommandClass, Request, RequestId, command_info};
use serde_json::json;

/// How long a master may take over a command that it answers at once, even with thousands of workers on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to ask a master.
pub(crate) trait Ask {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// The request under `id`, as one line of JSON with its newline.
    fn to_json(&self, id: &RequestId) -> String;

    /// How long to wait for the whole answer if the user has set no limit; `None` for ever, where the answer may take
    /// long: a rollout and a reload have no limit, and events no end.
    fn patience(&self) -> Option<Duration> {
        let info = command_info(self.name())?;
        let is_answered_at_once = matches!(info.class, CommandClass::Question | CommandClass::Change)
            && !matches!(info.name, "events" | "reload");
        is_answered_at_once.then_some(PATIENCE)
    }
}

impl Ask for Command {
    fn name(&self) -> &str {
        Command::name(self)
    }

    fn to_json(&self, id: &RequestId) -> String {
        Request { id: Some(id.clone()), command: self.clone() }.to_json()
    }
}

/// A command and its arguments, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
}

impl Ask for Words {
    fn name(&self) -> &str {
        &self.command
    }

    fn to_json(&self, id: &RequestId) -> String {
        let Self { command, args } = self;
        format!("{}\n", json!({ "command": command, "args": args, "id": id }))
    }
}

/// Escapes a line of JSON so that every einhorn reads it as JSON.
///
/// einhorn reads YAML, of which JSON is a subset, with two differences: it decodes `%25` and `%0A` first, and YAML
/// allows control characters as escapes only. All of these occur in strings only, where JSON and YAML have the same
/// escapes for them.
pub(crate) fn as_einhorn_reads_it(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '%' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sent_as_they_are() {
        let words = Words { command: "inc".into(), args: vec!["2".into(), "\"x\"\n".into()] };
        let line = words.to_json(&RequestId::from(7));
        assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
        let request: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(request, json!({ "command": "inc", "args": ["2", "\"x\"\n"], "id": 7 }));
    }

    #[test]
    fn only_what_may_take_long_is_waited_for_without_a_limit() {
        for (line, is_limited) in [
            ("status", true),
            ("ehlo", true),
            ("inc", true),
            ("die", true),
            ("upgrade", false),
            ("upgrade_follow", false),
            ("rollback", false),
            ("reload", false),
            ("events", false),
            ("a word of another master", false),
        ] {
            let words = Words { command: line.into(), args: Vec::new() };
            assert_eq!(words.patience().is_some(), is_limited, "{line}");
        }
    }

    #[test]
    fn text_that_einhorn_would_decode_or_refuse_is_escaped() {
        let text = "50%25 \\%0A \u{7f}\u{85}\u{2028}\u{feff} żółw 🦄";
        let line = as_einhorn_reads_it(&format!("{}\n", json!({ "command": text })));
        assert!(
            !line.contains(|c| matches!(c, '%' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{feff}')),
            "{line}"
        );
        assert!(line.contains("żółw 🦄") && line.ends_with("}\n"), "{line}");
        let request: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(request, json!({ "command": text }));
    }
}
