//! Makes characters visible that control a terminal or deceive its reader.
//!
//! Names of processes, status texts, last words and the messages of a master are written by others. In a log or on a
//! terminal, an escape sequence in them could rewrite lines, and a change of direction could reorder them.

use std::borrow::Cow;

/// Whether `c` is a control character, or changes the direction or the lines of the text around it, or hides.
///
/// # Source
/// C0, DEL and C1 of ISO/IEC 6429; the bidirectional formatting characters of Unicode's annex 9, its separators of lines
/// and paragraphs, and format characters without a width. The joiners U+200C and U+200D stay: some scripts need them.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                       | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The text with such characters as escapes, except newlines and tabs.
///
/// ```
/// assert_eq!(einhorn_proto::visible("\u{1b}[2Jup\n"), "\\u{1b}[2Jup\n");
/// ```
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, |c| is_deceptive(c) && !matches!(c, '\n' | '\t'), |c| c.escape_default().collect())
}

/// [`visible`] on one line: newlines and tabs become spaces.
///
/// ```
/// assert_eq!(einhorn_proto::visible_line("up\n9 INFO: done"), "up 9 INFO: done");
/// ```
#[must_use]
pub fn visible_line(text: &str) -> Cow<'_, str> {
    replaced(text, is_deceptive, |c| match c {
        '\n' | '\t' => " ".to_owned(),
        c => c.escape_default().collect(),
    })
}

/// A text in JSON with such characters as escapes of JSON, so that it has the same value. Newlines stay, and other
/// control characters, which in JSON can only be blanks between two values, become spaces.
///
/// ```
/// assert_eq!(einhorn_proto::visible_json("{\"name\":\"\u{202e}\"}"), "{\"name\":\"\\u202e\"}");
/// ```
#[must_use]
pub fn visible_json(json: &str) -> Cow<'_, str> {
    let escape = |c| match c {
        '\0'..=' ' => " ".to_owned(),
        // All of them have four digits.
        c => format!("\\u{:04x}", u32::from(c)),
    };
    replaced(json, |c| is_deceptive(c) && c != '\n', escape)
}

/// Characters of a word that are repeated to whoever sent it.
const WORD_MAX: usize = 64;

/// The beginning of a word that somebody else chose, for an error that names it; the whole of one that is no longer than any
/// that means something.
///
/// ```
/// assert_eq!(einhorn_proto::shortened("frobnicate"), "frobnicate");
/// assert_eq!(einhorn_proto::shortened(&"x".repeat(1000)), format!("{}...", "x".repeat(64)));
/// ```
#[must_use]
pub fn shortened(word: &str) -> Cow<'_, str> {
    match word.char_indices().nth(WORD_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}...", &word[..end])),
        None => Cow::Borrowed(word),
    }
}

fn replaced(text: &str, is_replaced: impl Fn(char) -> bool, by: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_replaced(c) {
            true => replaced.push_str(&by(c)),
            false => replaced.push(c),
        }
    }
    Cow::Owned(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn what_controls_a_terminal_or_reorders_a_line_is_shown_as_an_escape() {
        for (text, shown) in [
            ("\u{1b}]0;owned\u{7}", "\\u{1b}]0;owned\\u{7}"),
            ("a\rb\0\u{7f}\u{9b}2J", "a\\rb\\u{0}\\u{7f}\\u{9b}2J"),
            ("\u{202e}gpj.exe\u{2066}\u{200f}", "\\u{202e}gpj.exe\\u{2066}\\u{200f}"),
            ("one\ttwo\nthree", "one\ttwo\nthree"),
            ("żółw 🦄 نمی\u{200c}خواهم 👩\u{200d}💻", "żółw 🦄 نمی\u{200c}خواهم 👩\u{200d}💻"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_line("one\ttwo\nthree\r"), "one two three\\r");
    }

    #[test]
    fn blanks_between_values_become_spaces() {
        assert_eq!(visible_json("{\r\"a\":\t1\n}"), "{ \"a\": 1\n}");
    }

    proptest! {
        #[test]
        fn nothing_deceptive_is_left_and_json_keeps_its_value(text in "(?s)[\u{0}-\u{ff}\u{2000}-\u{2070}\u{feff}]{0,40}") {
            prop_assert!(!visible_line(&text).contains(is_deceptive));
            let whole = json!({ &text: [text] }).to_string();
            let shown = visible_json(&whole);
            prop_assert!(!shown.contains(is_deceptive));
            let value: Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(value.to_string(), whole);
        }
    }
}
