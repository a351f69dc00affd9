//! The names of this program: one binary with a command line for each.

use std::ffi::OsStr;
use std::path::Path;

/// The name that the program was called by, which decides on command line, prompt and hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `einhyrningsinsctl`, or any other name.
    Ctl,
    /// `einhornsh`, a link to the same file: the shell of einhorn.
    Einhornsh,
}

impl Program {
    /// Reads the first word of the command line, which may be a path.
    pub(crate) fn of(argv0: Option<&OsStr>) -> Self {
        match argv0.map(Path::new).and_then(Path::file_name) {
            Some(name) if name == "einhornsh" => Self::Einhornsh,
            _ => Self::Ctl,
        }
    }

    /// What messages begin with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ctl => "einhyrningsinsctl",
            Self::Einhornsh => "einhornsh",
        }
    }

    /// The prompt. That of `einhornsh` is einhorn's, which scripts may expect.
    pub(crate) fn prompt(self) -> &'static str {
        match self {
            Self::Ctl => "einhyrningsins> ",
            Self::Einhornsh => "> ",
        }
    }

    /// The name of the history file. Each has its own, because their commands differ.
    pub(crate) fn history_file(self) -> &'static str {
        match self {
            Self::Ctl => "history",
            Self::Einhornsh => "einhornsh_history",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_name_decides() {
        for (argv0, program) in [
            ("einhornsh", Program::Einhornsh),
            ("/usr/local/bin/einhornsh", Program::Einhornsh),
            ("einhyrningsinsctl", Program::Ctl),
            ("/opt/einhornsh/einhyrningsinsctl", Program::Ctl),
            ("einhornsh2", Program::Ctl),
            ("", Program::Ctl),
        ] {
            assert_eq!(Program::of(Some(OsStr::new(argv0))), program, "for {argv0}");
        }
        assert_eq!(Program::of(None), Program::Ctl);
    }
}
