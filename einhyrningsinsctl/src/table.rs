//! Lays out coloured lines and tables.

use std::borrow::Cow;
use std::ops::Range;

use einhorn_proto::visible_line;

use crate::text::{cut, width};

/// The style of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// No style.
    Plain,
    /// A heading.
    Strong,
    /// Less important.
    Faint,
    /// All is well.
    Good,
    /// In progress.
    Busy,
    /// A problem.
    Bad,
}

impl Style {
    /// Its parameters of "select graphic rendition" (ECMA-48), in colours that every terminal has.
    fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Busy => Some("33"),
            Self::Bad => Some("31"),
        }
    }

    /// Puts `text` into this style, if colours are wanted.
    pub(crate) fn paint(self, text: &str, is_coloured: bool) -> String {
        match self.sgr().filter(|_| is_coloured && !text.is_empty()) {
            Some(sgr) => format!("\x1b[{sgr}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// Words in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    text: String,
    style: Style,
}

impl Span {
    /// Makes a span of `text`, on one line and without control characters, so that its width is known.
    pub(crate) fn new(text: &str, style: Style) -> Self {
        Self { text: visible_line(text).into_owned(), style }
    }

    pub(crate) fn plain(text: &str) -> Self {
        Self::new(text, Style::Plain)
    }

    /// What it says.
    #[cfg(feature = "top")]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// One line.
pub(crate) type Line = Vec<Span>;

/// Writes lines, cut to `columns` if given, each with its newline.
pub(crate) fn paint(lines: &[Line], columns: Option<usize>, is_coloured: bool) -> String {
    let mut out = String::new();
    for line in lines {
        for (text, style) in fit(line, columns.unwrap_or(usize::MAX)) {
            out.push_str(&style.paint(&text, is_coloured));
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }
    out
}

/// The words of a line, cut to `columns`.
pub(crate) fn fit(line: &Line, columns: usize) -> Vec<(Cow<'_, str>, Style)> {
    let mut words = Vec::with_capacity(line.len());
    let mut room = columns;
    let mut rest = line.iter().peekable();
    while let Some(Span { text, style }) = rest.next() {
        // A word that just fits is cut too if more follows, to make room for the ellipsis.
        let is_last = rest.peek().is_none_or(|next| next.text.is_empty());
        let overflows = width(text) > room || (width(text) == room && !is_last);
        let text = match overflows {
            true => Cow::Owned(cut(&format!("{text}…"), room)),
            false => Cow::Borrowed(text.as_str()),
        };
        room -= width(&text);
        words.push((text, *style));
        if overflows {
            break;
        }
    }
    words
}

/// The alignment of a column.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Between two columns.
const GAP: &str = "  ";

/// A table whose columns are as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<Span>),
    Note(Line),
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Span>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(Row::Cells(cells));
    }

    /// Adds a line below the row above, outside of the columns.
    pub(crate) fn note(&mut self, line: Line) {
        self.rows.push(Row::Note(line));
    }

    /// How many rows it has.
    #[cfg(feature = "top")]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Leaves columns out, in the order of `dispensable`, until the last one has its width or at least `least` columns of a
    /// terminal with so many.
    pub(crate) fn fit(&mut self, columns: usize, dispensable: &[&str], least: usize) {
        for name in dispensable {
            let widths = self.widths();
            let Some((last, others)) = widths.split_last() else { return };
            let taken: usize = others.iter().map(|width| width + GAP.len()).sum();
            if taken + (*last).min(least) <= columns {
                return;
            }
            let Some(at) = self.columns.iter().position(|(column, _)| column == name) else { continue };
            self.columns.remove(at);
            for row in &mut self.rows {
                if let Row::Cells(cells) = row {
                    cells.remove(at);
                }
            }
        }
    }

    /// Lays the rows out under their headings.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.window(0..self.rows.len())
    }

    /// Lays some of the rows out under their headings, in columns as wide as all of them need.
    pub(crate) fn window(&self, rows: Range<usize>) -> Vec<Line> {
        let headings: Line = self.columns.iter().map(|(name, _)| Span::new(name, Style::Strong)).collect();
        let widths = self.widths();
        let rows = self.rows.iter().skip(rows.start).take(rows.len()).map(|row| match row {
            Row::Cells(cells) => self.aligned(cells, &widths),
            Row::Note(line) => line.clone(),
        });
        std::iter::once(self.aligned(&headings, &widths)).chain(rows).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| width(name)).collect();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            for (at, cell) in cells.iter().enumerate() {
                widths[at] = widths[at].max(width(&cell.text));
            }
        }
        widths
    }

    fn aligned(&self, cells: &[Span], widths: &[usize]) -> Line {
        let mut line = Line::new();
        for (at, cell) in cells.iter().enumerate() {
            let padding = " ".repeat(widths[at] - width(&cell.text));
            let gap = if at == 0 { "" } else { GAP };
            match self.columns[at].1 {
                Align::Right => {
                    line.push(Span::plain(&format!("{gap}{padding}")));
                    line.push(cell.clone());
                }
                Align::Left => {
                    line.push(Span::plain(gap));
                    line.push(cell.clone());
                    if at + 1 < cells.len() {
                        line.push(Span::plain(&padding));
                    }
                }
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("N", Align::Right), ("STATE", Align::Left), ("WHY", Align::Left)]);
        table.row(vec![Span::plain("7"), Span::new("up", Style::Good), Span::plain("")]);
        table.row(vec![Span::plain("12"), Span::new("given up", Style::Bad), Span::plain("exited\nwith 1")]);
        table.note(vec![Span::new("    says: hello", Style::Faint)]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            paint(&table().lines(), None, false),
            concat!(" N  STATE     WHY\n", " 7  up\n", "12  given up  exited with 1\n", "    says: hello\n",)
        );
    }

    #[test]
    fn lines_are_cut_to_the_terminal() {
        assert_eq!(
            paint(&table().lines(), Some(19), false),
            concat!(" N  STATE     WHY\n", " 7  up\n", "12  given up  exit…\n", "    says: hello\n")
        );
        assert_eq!(paint(&table().lines(), Some(5), false), " N  …\n 7  …\n12  …\n    …\n");
        assert_eq!(paint(&table().lines(), Some(0), false), "\n\n\n\n");
    }

    #[test]
    fn a_word_that_just_fits_makes_way_for_the_ellipsis_of_the_next() {
        let line = vec![Span::plain("abc"), Span::plain("def")];
        assert_eq!(paint(std::slice::from_ref(&line), Some(3), false), "ab…\n");
        assert_eq!(paint(std::slice::from_ref(&line), Some(4), false), "abc…\n");
        assert_eq!(paint(&[line], Some(6), false), "abcdef\n");
    }

    #[test]
    fn some_of_the_rows_stand_in_the_same_columns() {
        assert_eq!(paint(&table().window(0..1), None, false), " N  STATE     WHY\n 7  up\n");
        assert_eq!(paint(&table().window(2..9), None, false), " N  STATE     WHY\n    says: hello\n");
    }

    #[test]
    fn colour_takes_no_columns() {
        assert_eq!(paint(&table().lines()[1..2], None, true), " 7  \x1b[32mup\x1b[0m\n");
    }
}
