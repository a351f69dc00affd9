//! What a line is written in.

use serde::{Deserialize, Serialize};

/// The languages of the control socket. An answer is in that of its request.
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
