//! A command line that is answered, and not run.

use std::io::Write;
use std::process::ExitCode;

/// What to say to a command line that asks for nothing but words, or for something that there is not.
#[derive(Debug)]
pub struct Answer {
    words: Words,
    /// The exit code.
    pub code: u8,
}

#[derive(Debug)]
enum Words {
    /// As the parser puts it, with its colours and to where it says.
    Parser(clap::Error),
    /// To standard output.
    Wanted(String),
    /// To standard error.
    Complaint(String),
}

impl Answer {
    /// What somebody asked for, with a newline at its end.
    pub fn wanted(text: String, code: u8) -> Self {
        Self { words: Words::Wanted(text), code }
    }

    /// What is wrong, with a newline at its end.
    pub fn complaint(text: String, code: u8) -> Self {
        Self { words: Words::Complaint(text), code }
    }

    /// What the parser says; `code` instead of its own.
    pub fn of_parser(error: clap::Error, code: u8) -> Self {
        Self { words: Words::Parser(error), code }
    }

    /// Says it, and returns the exit code. Nobody may be there to hear it.
    #[must_use]
    pub fn give(self) -> ExitCode {
        let _ = match self.words {
            Words::Parser(error) => error.print(),
            Words::Wanted(text) => std::io::stdout().write_all(text.as_bytes()),
            Words::Complaint(text) => std::io::stderr().write_all(text.as_bytes()),
        };
        ExitCode::from(self.code)
    }

    /// The words alone.
    #[cfg(test)]
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
