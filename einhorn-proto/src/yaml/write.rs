//! Writes strings as YAML scalars that no reader takes for anything else.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Words that YAML 1.1 reads as something other than a string, in lower case.
const WORDS_WITH_A_MEANING: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// `text` as a YAML scalar: one line of ASCII that every reader reads as that string.
///
/// It is plain where that is safe, else in double quotes, with `+` and `%` escaped as YAML does it: go-einhorn decodes
/// a line as a query, in which `+` is a blank, while Ruby's einhorn decodes `%25` and `%0A` only, so that `%2B` would
/// reach its user. `\u002B` is a plus sign to both. Letters beyond ASCII are escaped because Ruby cannot read them in the
/// C locale.
///
/// ```
/// use einhorn_proto::yaml_scalar;
///
/// assert_eq!(yaml_scalar("Upgrade done"), "Upgrade done");
/// assert_eq!(yaml_scalar("no"), r#""no""#);
/// assert_eq!(yaml_scalar("1+1: 100%"), r#""1\u002B1: 100\u0025""#);
/// ```
#[must_use]
pub fn yaml_scalar(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '+' | '%' => push_escape(&mut quoted, character),
            ' '..='~' => quoted.push(character),
            _ => push_escape(&mut quoted, character),
        }
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

fn push_escape(quoted: &mut String, character: char) {
    let code = u32::from(character);
    let written =
        if code <= 0xFFFF { write!(quoted, "\\u{code:04X}") } else { write!(quoted, "\\U{code:08X}") };
    written.expect("a String takes all that is written to it");
}

/// Whether `text` is safe without quotes. It must begin with a letter, so that it is no number, date or indicator, and
/// go on with characters that have no meaning anywhere in YAML.
fn is_plain(text: &str) -> bool {
    let has_safe_ends = text.starts_with(|first: char| first.is_ascii_alphabetic()) && !text.ends_with(' ');
    has_safe_ends
        && text.chars().all(|character| character.is_ascii_alphanumeric() || " .;()'/_-".contains(character))
        && !WORDS_WITH_A_MEANING.iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_be_taken_for_something_else_is_quoted() {
        let suspects =
            ["", " a", "a ", "yes", "NO", "Null", "~", "1.0", "0x1F", "1:30", "2026-11-22", "- a", "a: b"];
        for text in suspects {
            assert!(yaml_scalar(text).starts_with('"'), "{text:?} needs quotes");
        }
    }

    proptest! {
        #[test]
        fn a_scalar_is_one_line_of_ascii_with_nothing_that_einhorns_clients_decode(text in "(?s).{0,60}") {
            let scalar = yaml_scalar(&text);
            prop_assert!(scalar.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert!(!scalar.contains(['%', '+', '\n']));
        }
    }
}
