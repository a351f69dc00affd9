//! Fits text and times to a terminal.

use einhorn_proto::Seconds;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns `text` takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Cuts `text` to `columns`, and marks a cut with an ellipsis.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let mut used = 0;
    let mut cut: String = text
        .chars()
        .take_while(|&c| {
            used += c.width().unwrap_or(0);
            used <= room
        })
        .collect();
    cut.push('…');
    cut
}

/// Breaks `text` between words into lines of at most `columns`. A longer word gets a line of its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A time in at most two units: `0.4s`, `12s`, `5m12s`, `3h04m`, `2d03h`.
pub(crate) fn age(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        10_000..60_000 => format!("{}s", millis / 1000),
        _ => Seconds(millis).to_string(),
    }
}

/// A number of bytes in the unit of which there are at least one: `900K`, `412M`, `1.5G`.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        0..MIB => format!("{}K", bytes / KIB),
        MIB..GIB => format!("{}M", bytes / MIB),
        _ => format!("{}.{}G", bytes / GIB, bytes % GIB * 10 / GIB),
    }
}

/// A time in its largest unit: `12s`, `5m`, `3h`, `2d`.
pub(crate) fn coarse_age(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_columns_and_says_so() {
        assert_eq!(cut("worker", 6), "worker");
        assert_eq!(cut("worker", 5), "work…");
        assert_eq!(cut("工人工人", 5), "工人…");
        assert_eq!(cut("工人工人", 4), "工…");
        assert_eq!(cut("worker", 1), "…");
        assert_eq!(cut("worker", 0), "");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("one two", 2), ["one", "two"]);
        assert_eq!(wrap("", 2), [""; 0]);
    }

    #[test]
    fn ages_have_at_most_two_units() {
        for (millis, text) in [
            (0, "0.0s"),
            (440, "0.4s"),
            (9_999, "9.9s"),
            (12_400, "12s"),
            (312_000, "5m12s"),
            (11_045_000, "3h04m"),
            (184_000_000, "2d03h"),
        ] {
            assert_eq!(age(millis), text);
        }
        assert_eq!(coarse_age(59_999), "59s");
        assert_eq!(coarse_age(312_000), "5m");
        assert_eq!(coarse_age(11_045_000), "3h");
        assert_eq!(coarse_age(184_000_000), "2d");
    }

    #[test]
    fn a_size_has_at_most_four_digits() {
        for (bytes, text) in [
            (0, "0K"),
            (1_048_575, "1023K"),
            (432_013_312, "412M"),
            (1 << 30, "1.0G"),
            ((1 << 30) * 3 / 2, "1.5G"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
