//! Cuts lines of commands into words.

use crate::error::Error;

/// Cuts a line at `;` into commands, and each command into words, with a shell's quotes and comments.
///
/// Commands without a word are left out.
///
/// # Errors
/// [`Error::Quote`].
pub(crate) fn read(line: &str) -> Result<Vec<Vec<String>>, Error> {
    let mut commands = Vec::new();
    for text in split(line) {
        let words = shell_words::split(text).map_err(|_| Error::Quote { text: text.trim().into() })?;
        if !words.is_empty() {
            commands.push(words);
        }
    }
    Ok(commands)
}

/// Whether these words mean to leave, rather than a command for the master.
pub(crate) fn is_quit(words: &[String]) -> bool {
    matches!(words, [word] if matches!(word.as_str(), "quit" | "exit"))
}

/// Splits at each `;` and newline that is neither quoted nor in a comment. Leaves comments out.
fn split(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = Some(0);
    let mut quote = None;
    let mut is_escaped = false;
    let mut is_word_start = true;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            _ if start.is_none() && c != '\n' => continue,
            _ if is_escaped => is_escaped = false,
            (None | Some('"'), '\\') => is_escaped = true,
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ';' | '\n') => {
                parts.extend(start.map(|start| &line[start..at]));
                start = Some(at + 1);
            }
            (None, '#') if is_word_start => parts.extend(start.take().map(|start| &line[start..at])),
            _ => {}
        }
        is_word_start = quote.is_none() && !is_escaped && (c.is_whitespace() || c == ';');
    }
    parts.extend(start.map(|start| &line[start..]));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_semicolons_and_then_by_shell_rules() {
        let commands = read("inc; signal 'USR1' \"te\"rm;  ; status;").unwrap();
        assert_eq!(commands, [vec!["inc"], vec!["signal", "USR1", "term"], vec!["status"]]);
        assert_eq!(read("config 'a: 1; b: 2'").unwrap(), [["config", "a: 1; b: 2"]]);
        assert_eq!(read("inc; 'die").unwrap_err().to_string(), "cannot read \"'die\": a quote is not closed");
    }

    #[test]
    fn quoted_or_commented_semicolons_do_not_separate() {
        assert_eq!(split("a ';' \";\\\";\" \\; b#;# c; d"), ["a ';' \";\\\";\" \\; b#", ""]);
        assert_eq!(split("# a; b\nc # d; e\n'#' f"), ["", "c ", "'#' f"]);
        assert_eq!(split("a 'b; c"), ["a 'b; c"]);
        assert_eq!(split("a \\# b; c"), ["a \\# b", " c"]);
    }
}
