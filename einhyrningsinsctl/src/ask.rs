//! What is sent to a master: a command that this client knows, or words as somebody typed them.

use einhorn_proto::{Command, Request, RequestId};
use serde_json::json;

/// Something that a master can be asked.
pub(crate) trait Ask {
    /// What it is called in messages.
    fn name(&self) -> &str;

    /// The request under `id`, as one line of JSON with its newline.
    fn to_json(&self, id: &RequestId) -> String;
}

impl Ask for Command {
    fn name(&self) -> &str {
        Command::name(self)
    }

    fn to_json(&self, id: &RequestId) -> String {
        Request { id: Some(id.clone()), command: self.clone() }.to_json()
    }
}

/// A command and its arguments, whose meaning is for the master to know.
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

/// The line as any einhorn reads it.
///
/// Einhorn's lines are YAML, of which JSON is a subset, but undergo two things that JSON knows nothing of:
/// `%25` and `%0A` are decoded first, and YAML has no control characters but as escapes. All of those can
/// stand in strings only, where JSON has escapes for them that YAML has too.
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
    fn what_einhorn_would_decode_or_refuse_is_escaped_and_means_the_same() {
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
