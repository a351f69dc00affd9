//! Standard output: terminal or not, width, colours. Writing never panics.

use std::env;
use std::io::{self, IsTerminal, Write};

use clap::ColorChoice;
use einhorn_proto::{visible, visible_json};
use terminal_size::{Height, Width, terminal_size_of};

use crate::error::Error;
use crate::table::{Line, Style, paint};

/// Moves the cursor of a terminal to its first line, and erases all below.
///
/// # Source
/// ECMA-48: CUP, ED.
pub(crate) const CLEAR: &str = "\x1b[H\x1b[J";

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    is_terminal: bool,
    is_coloured: bool,
}

impl Output {
    /// Looks at standard output and at the environment, unless `color` is chosen.
    pub(crate) fn of_process(color: ColorChoice) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_coloured = match color {
            ColorChoice::Auto => is_terminal && !no_color && !is_dumb,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        Self { is_terminal: is_terminal && !is_dumb, is_coloured }
    }

    /// Whether it is a terminal that can move its cursor.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether it has colours.
    #[cfg(feature = "top")]
    pub(crate) fn is_coloured(&self) -> bool {
        self.is_coloured
    }

    /// The columns of the terminal; `None` without a terminal.
    pub(crate) fn width(&self) -> Option<usize> {
        self.size().map(|size| size.columns)
    }

    /// The size of the terminal, read anew each time because windows are resized; `None` without a terminal.
    pub(crate) fn size(&self) -> Option<Size> {
        if !self.is_terminal {
            return None;
        }
        let size = terminal_size_of(io::stdout()).unwrap_or((Width(80), Height(24)));
        Some(Size { columns: size.0.0.into(), rows: size.1.0.into() })
    }

    /// Writes a text of one or more lines, and a newline if it has none.
    pub(crate) fn text(&self, text: &str) -> Result<(), Error> {
        self.styled(text, Style::Plain)
    }

    /// [`Self::text`] for a master's message; prints nothing if that is empty.
    pub(crate) fn message(&self, message: &str) -> Result<(), Error> {
        if message.is_empty() { Ok(()) } else { self.text(message) }
    }

    /// [`Self::text`], coloured if the terminal has colours. Characters in it that control a terminal become visible,
    /// whether there is one or not: what goes to a file may be shown later.
    pub(crate) fn styled(&self, text: &str, style: Style) -> Result<(), Error> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = style.paint(&visible(text), self.is_coloured);
        self.raw(&format!("{text}\n"))
    }

    /// Writes a value in JSON, and a newline.
    pub(crate) fn json(&self, json: &str) -> Result<(), Error> {
        self.raw(&format!("{}\n", visible_json(json)))
    }

    /// Writes lines, coloured and cut to the terminal's width if there is one.
    pub(crate) fn lines(&self, lines: &[Line]) -> Result<(), Error> {
        self.raw(&paint(lines, self.width(), self.is_coloured))
    }

    /// Writes `text` as it is, and at once: nothing that others wrote.
    ///
    /// # Errors
    /// [`Error::Output`], which is silent if the reader has gone.
    pub(crate) fn raw(&self, text: &str) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)
    }
}
