//! What was typed. What it means is for `config.rs` to say.

mod answer;
mod care;
pub mod einhorn;
mod native;
mod process;
mod reexec;
mod shared;
mod stop_signal;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Parser;

pub use answer::Answer;
pub use care::{CareArgs, MaxAgeArg};
pub use native::Args;
pub use process::{CpuAffinityArg, ProcessArgs, UserArg};
pub use reexec::{CommandWords, ReexecArgs, Takeover};
pub use shared::SharedArgs;
pub use values::{AckModeArg, LogFormat, NiceArg};

/// The file name that makes this program speak as einhorn does.
const EINHORN: &str = "einhorn";

/// A command line, in the manner of the name that the program was called by.
#[derive(Debug, Clone)]
pub enum CommandLine {
    /// Our own.
    Native(Box<Args>),
    /// einhorn's.
    Einhorn(Box<einhorn::Args>),
}

impl CommandLine {
    /// Reads a command line, the name of the program first. Its file name tells whose manner it is in.
    ///
    /// # Errors
    /// The [`Answer`] to one that asks for words alone, such as `--help`, or that is wrong.
    pub fn read(argv: &[OsString]) -> Result<Self, Answer> {
        let name = argv.first().and_then(|name| Path::new(name).file_name());
        if name == Some(OsStr::new(EINHORN)) {
            return einhorn::Args::read(argv).map(|args| Self::Einhorn(Box::new(args)));
        }
        Ok(Self::Native(Box::new(Args::try_parse_from(argv)?)))
    }

    /// The program's name in messages.
    #[must_use]
    pub fn program(&self) -> &'static str {
        match self {
            Self::Native(_) => "einhyrningsins",
            Self::Einhorn(_) => EINHORN,
        }
    }

    /// What this program is started for in a master's place; `None` for an ordinary start. To be looked at before
    /// anything else: in a takeover nothing else of the command line counts.
    #[must_use]
    pub fn takeover(&self) -> Option<Takeover> {
        match self {
            Self::Native(args) => args.shared.reexec.takeover(),
            Self::Einhorn(args) => args.shared.reexec.takeover(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> CommandLine {
        CommandLine::read(&words.iter().map(OsString::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_name_that_it_is_called_by_decides_whose_manners_it_has() {
        for name in ["einhorn", "/usr/local/bin/einhorn", "./einhorn"] {
            assert!(matches!(read(&[name, "-m", "manual", "server"]), CommandLine::Einhorn(_)), "{name}");
        }
        for name in ["einhyrningsins", "/opt/einhorn/bin/einhyrningsins", "einhornsh", ""] {
            assert!(matches!(read(&[name, "-m", "manual", "server"]), CommandLine::Native(_)), "{name}");
        }
    }

    #[test]
    fn a_takeover_shows_in_both_dialects() {
        for name in ["einhorn", "einhyrningsins"] {
            let line = read(&[name, "--with-state-fd", "9", "--returned", "SIGSEGV", "--", "server"]);
            let takeover = line.takeover().unwrap();
            assert_eq!((takeover.state_fd, takeover.returned.as_deref()), (Some(9), Some("SIGSEGV")));
            assert_eq!(read(&[name, "server"]).takeover(), None);
        }
    }
}
