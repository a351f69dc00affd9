//! The parser of `--env-file`: a subset of what a shell reads, and of systemd's `EnvironmentFile=`.
//!
//! A file has `NAME=value` lines. Blank lines and lines that begin with `#` or `;` are ignored, and so is
//! `export ` before a name. A value ends with its line; blanks around it are dropped. Between single quotes
//! every character is literal. Between double quotes a backslash escapes `"`, `\`, `$` and a backquote; outside
//! of quotes, any byte. At the end of a line, it continues the line. Quotes may span lines. Nothing is
//! expanded: a `$` is literal, and no other variable is read.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// The longest file that is read, in bytes: many times the kernel's default limit for an environment.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is a directory, a pipe or a device.
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    /// A line is not an assignment.
    #[error("line {line}: {fault}")]
    Line {
        /// The number of the line, from 1; the first one of an assignment that spans several.
        line: usize,
        fault: LineFault,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineFault {
    NoValue,
    /// The text before the `=` is not a valid name.
    BadName(String),
    /// The master sets this variable itself, to describe a worker's sockets and the like.
    MastersOwn(String),
    Nul,
    Unclosed(char),
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue => f.write_str("it has no \"=\"; write NAME=value"),
            Self::BadName(name) => {
                write!(
                    f,
                    "\"{name}\" is not a variable name: use letters, digits and \"_\", and no digit first"
                )
            }
            Self::MastersOwn(name) => write!(f, "{name} is set by the master"),
            Self::Nul => f.write_str("the value contains a NUL byte"),
            Self::Unclosed(quote) => write!(f, "the {quote} is never closed"),
        }
    }
}

/// A variable, and the line that it was on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: OsString,
    pub(super) line: usize,
}

/// Reads the file at `path`; a relative path starts at `directory`. If several lines set a variable, the last
/// one wins.
pub(super) fn read(directory: BorrowedFd<'_>, path: &Path) -> Result<Vec<Variable>, EnvFileError> {
    // Do not wait for the other end of a pipe.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = File::from(openat(directory, path, flags, Mode::empty()).map_err(io::Error::from)?);
    if !file.metadata()?.is_file() {
        return Err(EnvFileError::NotRegular);
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(EnvFileError::TooLong);
    }
    parse(&text)
}

pub(super) fn parse(text: &[u8]) -> Result<Vec<Variable>, EnvFileError> {
    let mut rest = Text { bytes: text, line: 1 };
    let mut variables: Vec<Variable> = Vec::new();
    loop {
        rest.skip_while(|byte| byte.is_ascii_whitespace());
        let line = rest.line;
        let fault = |fault| EnvFileError::Line { line, fault };
        match rest.peek() {
            None => return Ok(variables),
            Some(b'#' | b';') => rest.skip_while(|byte| byte != b'\n'),
            Some(_) => {
                let name = name(&mut rest).map_err(fault)?;
                let value = value(&mut rest).map_err(fault)?;
                variables.retain(|variable| variable.name != name);
                variables.push(Variable { name, value, line });
            }
        }
    }
}

/// The unread rest of the file.
struct Text<'a> {
    bytes: &'a [u8],
    line: usize,
}

impl Text<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        self.line += usize::from(*first == b'\n');
        Some(*first)
    }

    fn skip_while(&mut self, is_skipped: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&is_skipped) {
            self.next();
        }
    }
}

/// Takes the text before the `=`, and the `=`.
fn name(text: &mut Text<'_>) -> Result<String, LineFault> {
    let end = text.bytes.iter().position(|byte| matches!(byte, b'=' | b'\n'));
    let end = end.filter(|end| text.bytes[*end] == b'=').ok_or(LineFault::NoValue)?;
    let name = String::from_utf8_lossy(&text.bytes[..end]);
    let after_export = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let name = after_export.map_or(&*name, str::trim_start).to_owned();
    text.bytes = &text.bytes[end + 1..];
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit()) {
        Ok(name)
    } else {
        Err(LineFault::BadName(name.escape_debug().to_string()))
    }
}

/// Takes the text after the `=`, to the end of the line.
fn value(text: &mut Text<'_>) -> Result<OsString, LineFault> {
    let mut value = Vec::new();
    // Trailing blanks are not part of the value, unless they were quoted.
    let mut kept = 0;
    text.skip_while(|byte| matches!(byte, b' ' | b'\t'));
    while let Some(byte) = text.next().filter(|byte| *byte != b'\n') {
        match byte {
            b'\'' => quoted(text, b'\'', &mut value)?,
            b'"' => quoted(text, b'"', &mut value)?,
            b'\\' => match text.next() {
                Some(b'\n') | None => {}
                Some(byte) => value.push(byte),
            },
            b' ' | b'\t' | b'\r' => {
                value.push(byte);
                continue;
            }
            _ => value.push(byte),
        }
        kept = value.len();
    }
    value.truncate(kept);
    if value.contains(&0) { Err(LineFault::Nul) } else { Ok(OsString::from_vec(value)) }
}

/// Takes the text before the closing quote, and the quote.
fn quoted(text: &mut Text<'_>, quote: u8, value: &mut Vec<u8>) -> Result<(), LineFault> {
    loop {
        match text.next().ok_or(LineFault::Unclosed(char::from(quote)))? {
            byte if byte == quote => return Ok(()),
            b'\\' if quote == b'"' => match text.next() {
                Some(b'\n') | None => {}
                Some(byte @ (b'"' | b'\\' | b'$' | b'`')) => value.push(byte),
                Some(byte) => value.extend([b'\\', byte]),
            },
            byte => value.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |variable: Variable| (variable.name, variable.value.into_string().unwrap());
        parse(text.as_bytes()).unwrap().into_iter().map(pair).collect()
    }

    #[track_caller]
    fn check(text: &str, value: &str) {
        assert_eq!(pairs(text), [("A".to_owned(), value.to_owned())], "{text}");
    }

    #[test]
    fn a_value_is_read_as_by_a_shell_without_expansion() {
        check("A=1", "1");
        check("export A=1\n", "1");
        check("export\t A=1\n", "1");
        check("A=", "");
        check("A=''", "");
        check("A= two words \t\r\n", "two words");
        check("A='two words '  \n", "two words ");
        check("A=\"x\"'y'z\n", "xyz");
        check(r#"A="a\"b\\c\$d\`e\n""#, r#"a"b\c$d`e\n"#);
        check(r"A='a\b'", r"a\b");
        check(r"A=a\ b\'\\c\ ", r"a b'\c ");
        check("A=$HOME/x#y;z=w", "$HOME/x#y;z=w");
        check("A=1 \\\n 2\n", "1  2");
        check("A=\"line 1\nline 2\"\n", "line 1\nline 2");
        check("A=\"one \\\nline\"\n", "one line");
        check("A=\u{e9}", "\u{e9}");
    }

    #[test]
    fn comments_and_blank_lines_are_ignored_and_the_last_assignment_wins() {
        let text = "# A=0\n\n  ; B=0\n\tA=1\nexport B=2\nA=3\n  # end";
        assert_eq!(pairs(text), [("B".into(), "2".into()), ("A".into(), "3".into())]);
        assert_eq!(pairs(""), []);
    }

    #[test]
    fn a_fault_is_reported_with_its_line() {
        for (text, message) in [
            ("A=1\n\nB\nC=2", "line 3: it has no \"=\"; write NAME=value"),
            (
                "A=1\n=2",
                "line 2: \"\" is not a variable name: use letters, digits and \"_\", and no digit first",
            ),
            (
                "1A=2",
                "line 1: \"1A\" is not a variable name: use letters, digits and \"_\", and no digit first",
            ),
            (
                "A =2",
                "line 1: \"A \" is not a variable name: use letters, digits and \"_\", and no digit first",
            ),
            ("A='1\n2'\nB=\"x\n\n", "line 3: the \" is never closed"),
            ("A='", "line 1: the ' is never closed"),
            ("A=\"\\", "line 1: the \" is never closed"),
            ("A=x\0y", "line 1: the value contains a NUL byte"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message, "{text:?}");
        }
    }

    #[test]
    fn anything_but_a_regular_file_is_refused_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let pinned = File::open(directory.path()).unwrap();
        let fault = |name: &str| read(pinned.as_fd(), Path::new(name)).unwrap_err().to_string();
        nix::unistd::mkfifo(&directory.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(fault("pipe"), "it is not a regular file");
        assert_eq!(fault("."), "it is not a regular file");
        assert_eq!(fault("gone"), "it cannot be read");
        std::fs::write(directory.path().join("long"), vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(fault("long"), "it is longer than 1048576 bytes");
    }

    proptest! {
        #[test]
        fn any_bytes_are_variables_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_quoted_value_is_read_back(value in "[^\0]*") {
            let quoted = value.replace('\'', r"'\''");
            let read = parse(format!("B=1\nA='{quoted}'\nC=2").as_bytes()).unwrap();
            prop_assert_eq!(read[1].value.as_bytes(), value.as_bytes());
            prop_assert_eq!(read.len(), 3);
        }
    }
}
