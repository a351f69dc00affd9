//! Options about the master's own re-exec, which are the same in both dialects.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::time::Duration;

use einhorn_proto::parse_seconds_above_zero;

use super::CommandWords;

/// What to run in the master's place, and what a master that takes another's place is told.
#[derive(Debug, Clone, clap::Args)]
pub struct HandoverArgs {
    /// Command to run in the master's place when it replaces itself, split into words as a shell does; the options of
    /// the re-exec follow it [default: the program as it was called]
    #[arg(long, value_name = "CMDLINE", allow_hyphen_values = true, help_heading = "Control")]
    pub reexec_as: Option<CommandWords>,

    /// How long the check of a new master may take before it counts as failed
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_seconds_above_zero,
          help_heading = "Control")]
    pub reexec_timeout: Duration,

    /// The descriptor with the state to go on from; the rest of the command line does not count then
    #[arg(long, value_name = "FD", hide = true, value_parser = clap::value_parser!(RawFd).range(0..))]
    pub with_state_fd: Option<RawFd>,

    /// Tell by the exit code whether this program can go on from the state, and change nothing
    #[arg(long, hide = true)]
    pub upgrade_check: bool,

    /// The signal that ended the new master, whose predecessor is back
    #[arg(long, value_name = "SIGNAL", hide = true)]
    pub returned: Option<String>,
}

/// What a program is told that is started in a master's place, or to say whether it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// Where the state is.
    pub state_fd: Option<RawFd>,
    /// Whether it is only to say if it can read that; without a state, that it can run at all.
    pub is_check: bool,
    /// What ended the new master, if this is the old one come back.
    pub returned: Option<String>,
}

impl Takeover {
    /// That of a command line which begins as a master writes it. The rest does not count, and nobody is answered while it is
    /// read: it is not.
    #[must_use]
    pub fn at_once(argv: &[OsString]) -> Option<Self> {
        let [_, option, fd, rest @ ..] = argv else { return None };
        let is_other = |word: &OsString| {
            ["--returned", "--upgrade-check"]
                .iter()
                .any(|other| word.as_encoded_bytes().starts_with(other.as_bytes()))
        };
        let is_plain = option == "--with-state-fd" && !rest.iter().any(is_other);
        let fd = fd.to_str().filter(|_| is_plain)?.parse().ok().filter(|fd| *fd >= 0)?;
        Some(Self { state_fd: Some(fd), is_check: false, returned: None })
    }
}

impl HandoverArgs {
    /// What this program is started for; `None` for an ordinary start.
    #[must_use]
    pub fn takeover(&self) -> Option<Takeover> {
        let Self { with_state_fd, upgrade_check, returned, .. } = self;
        (with_state_fd.is_some() || *upgrade_check).then(|| Takeover {
            state_fd: *with_state_fd,
            is_check: *upgrade_check,
            returned: returned.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Args;

    use super::*;

    fn parse(words: &[&str]) -> Result<HandoverArgs, String> {
        let words = ["einhyrningsins"].iter().chain(words);
        Args::try_parse_from(words).map(|args| args.shared.handover).map_err(|error| error.to_string())
    }

    #[test]
    fn an_ordinary_start_is_no_takeover() {
        let args = parse(&["server"]).unwrap();
        assert_eq!(args.takeover(), None);
        assert_eq!(args.reexec_timeout, Duration::from_secs(60));
    }

    #[test]
    fn a_takeover_is_told_apart_from_a_check_and_a_return() {
        let takeover = |words: &[&str]| parse(words).unwrap().takeover().unwrap();
        let plain = Takeover { state_fd: Some(9), is_check: false, returned: None };
        assert_eq!(takeover(&["--with-state-fd", "9", "--", "server", "-x"]), plain);
        assert_eq!(takeover(&["--with-state-fd=9"]), plain, "no program is needed: the state has it");
        let check = Takeover { is_check: true, ..plain.clone() };
        assert_eq!(takeover(&["--upgrade-check", "--with-state-fd", "9", "--", "server"]), check);
        assert_eq!(takeover(&["--upgrade-check"]), Takeover { state_fd: None, ..check });
        let returned = Takeover { returned: Some("SIGSEGV".into()), ..plain };
        assert_eq!(takeover(&["--with-state-fd", "9", "--returned", "SIGSEGV", "server"]), returned);
    }

    #[test]
    fn what_a_master_writes_is_read_without_the_rest() {
        let at_once = |words: &[&str]| {
            let argv: Vec<_> = ["einhyrningsins"].iter().chain(words).map(OsString::from).collect();
            Takeover::at_once(&argv)
        };
        let plain = Takeover { state_fd: Some(9), is_check: false, returned: None };
        assert_eq!(
            at_once(&["--with-state-fd", "9", "-n", "4", "--no-such", "--", "server"]),
            Some(plain.clone())
        );
        assert_eq!(at_once(&["--with-state-fd", "9"]), Some(plain));
        for words in [
            &["-n", "4"][..],
            &["--with-state-fd"],
            &["--with-state-fd", "x"],
            &["--with-state-fd", "-1"],
            &["--with-state-fd", "9", "--returned", "SIGSEGV"],
            &["--with-state-fd", "9", "--returned=SIGSEGV"],
            &["--with-state-fd", "9", "--upgrade-check"],
            &["--upgrade-check", "--with-state-fd", "9"],
        ] {
            assert_eq!(at_once(words), None, "{words:?}");
        }
    }

    #[test]
    fn the_command_to_become_is_split_as_a_shell_would() {
        let words =
            |text: &str| parse(&["--reexec-as", text, "server"]).map(|args| args.reexec_as.unwrap().0);
        assert_eq!(
            words(r#"env "A=b c" /srv/ein\ horn 'x "y"'"#).unwrap(),
            ["env", "A=b c", "/srv/ein horn", "x \"y\""]
        );
        for (text, message) in [
            ("'x", "a quote is not closed"),
            ("", "must name a program"),
            ("  ", "must name a program"),
            ("''", "must name a program"),
        ] {
            let error = words(text).unwrap_err();
            assert!(error.contains("--reexec-as") && error.contains(message), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_bad_descriptor_or_time_is_named() {
        for (words, named) in [
            (["--with-state-fd", "-1"], "unexpected argument '-1'"),
            (["--with-state-fd", "x"], "--with-state-fd"),
            (["--reexec-timeout", "0"], "--reexec-timeout"),
        ] {
            let error = parse(&[words[0], words[1], "server"]).unwrap_err();
            assert!(error.contains(named), "{words:?}: {error}");
        }
    }
}
