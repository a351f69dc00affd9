//! Answers to command lines that start no master: help, version and mistakes.

use std::io::Write;
use std::process::ExitCode;

/// Text to print instead of starting, and the exit code.
#[derive(Debug)]
pub struct Answer {
    words: Words,
    /// The exit code.
    pub code: u8,
}

#[derive(Debug)]
enum Words {
    /// The parser's own, with its colours and its choice of stream.
    Parser(clap::Error),
    /// To standard output.
    Wanted(String),
    /// To standard error.
    Complaint(String),
}

impl Answer {
    /// A requested text, with a newline at its end.
    pub fn wanted(text: String, code: u8) -> Self {
        Self { words: Words::Wanted(text), code }
    }

    /// A complaint, with a newline at its end.
    pub fn complaint(text: String, code: u8) -> Self {
        Self { words: Words::Complaint(text), code }
    }

    /// The parser's text, with `code` instead of its exit code.
    pub fn of_parser(error: clap::Error, code: u8) -> Self {
        Self { words: Words::Parser(error), code }
    }

    /// Prints it and returns the exit code. Ignores a failure to print.
    #[must_use]
    pub fn give(self) -> ExitCode {
        let _ = match self.words {
            Words::Parser(error) => error.print(),
            Words::Wanted(text) => std::io::stdout().write_all(text.as_bytes()),
            Words::Complaint(text) => std::io::stderr().write_all(text.as_bytes()),
        };
        ExitCode::from(self.code)
    }

    /// What is wrong, in one line.
    #[must_use]
    pub fn fault(&self) -> String {
        let text = self.text();
        let line = text.lines().next().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    }

    /// The text alone.
    pub fn text(&self) -> String {
        match &self.words {
            Words::Parser(error) => error.to_string(),
            Words::Wanted(text) | Words::Complaint(text) => text.clone(),
        }
    }
}

impl From<clap::Error> for Answer {
    fn from(error: clap::Error) -> Self {
        let code = u8::try_from(error.exit_code()).unwrap_or(1);
        Self::of_parser(error, code)
    }
}
