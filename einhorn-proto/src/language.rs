//! The languages of the control socket: JSON and einhorn's YAML.

use serde::{Deserialize, Serialize};

/// The language of a line. A reply is in the language of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// One JSON object a line.
    #[default]
    Json,
    /// einhorn's: one YAML document a line, in which `%` is `%25` and a newline `%0A`.
    Yaml,
}

impl Language {
    /// Whether `line` begins as a JSON object or list does.
    #[cfg(feature = "yaml")]
    pub(crate) fn looks_like_json(line: &[u8]) -> bool {
        matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
    }
}
