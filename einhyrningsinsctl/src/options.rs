//! Checks what was typed, and turns it into what to do.

use std::env;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use einhorn_proto::{DEFAULT_DIRECTORY, SOCKET_VARIABLE, socket_path};

use crate::cli::{AnswerArgs, Cli, Line};
use crate::commands::Typed;
use crate::error::Error;
use crate::trust::Trust;
use crate::{script, socket};

/// What a command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    /// The control socket.
    pub(crate) socket: PathBuf,
    /// Whom to trust there.
    pub(crate) trust: Trust,
    /// What to do.
    pub(crate) mode: Mode,
    /// How to wait for answers and show them, unless a line has options of its own.
    pub(crate) answer: Answer,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Mode {
    /// Run this command and exit.
    Command(Box<dyn Typed>),
    /// Run these and exit.
    Script(Vec<Input>),
    /// Read commands from standard input.
    Prompt,
}

/// How to wait for an answer and show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// Print its data as JSON.
    pub(crate) json: bool,
    /// The time limit for the whole answer.
    pub(crate) timeout: Option<Duration>,
}

impl Answer {
    /// The same for a line with options of its own.
    fn with(self, args: AnswerArgs) -> Self {
        Self { json: self.json || args.json, timeout: args.timeout.or(self.timeout) }
    }
}

/// A part of a line.
#[derive(Debug)]
pub(crate) enum Input {
    /// A command.
    Command(Box<dyn Typed>, Answer),
    /// A text to print, such as the help of a command.
    Text(String),
    /// `quit`, `q` or `exit`.
    Quit,
}

impl Options {
    /// Checks what was typed.
    ///
    /// # Errors
    /// [`Error`] of kind usage. All of `-e` is checked before any of it runs.
    pub(crate) fn check(cli: Cli) -> Result<Self, Error> {
        let socket = checked_path(cli.socket_path, cli.command_name)?;
        let trust = Trust::new(cli.trust_owner.as_deref())?;
        let answer = Answer::default().with(cli.answer);
        let mode = match (cli.command, cli.execute.as_slice()) {
            (Some(_), [_, ..]) => return Err(Error::Usage("give a COMMAND or -e, not both".into())),
            (Some(command), []) => Mode::Command(command.0),
            (None, []) => Mode::Prompt,
            (None, scripts) => Mode::Script(read_scripts(scripts, answer)?),
        };
        Ok(Self { socket, trust, mode, answer })
    }
}

/// The control socket that the words of a command line name, if they name one; the rest of the line may be wrong.
pub(crate) fn path_in(words: &[String]) -> Option<PathBuf> {
    let value = |short: &str, long: &str| {
        words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(long) {
            Some("") => words.get(at + 1).cloned(),
            Some(value) => value.strip_prefix('=').map(str::to_owned),
            None if word == short => words.get(at + 1).cloned(),
            None => word.strip_prefix(short).map(str::to_owned),
        })
    };
    let (path, name) = (value("-d", "--socket-path"), value("-c", "--command-name"));
    let is_named = path.is_some() || name.is_some();
    is_named.then(|| socket_path(DEFAULT_DIRECTORY, path.map(PathBuf::from), name.as_deref(), None))
}

fn checked_path(path: Option<PathBuf>, name: Option<String>) -> Result<PathBuf, Error> {
    let path = match (path, name) {
        (Some(_), Some(_)) => return Err(Error::Usage("give -d PATH or -c NAME, not both".into())),
        (Some(path), None) if path.as_os_str().as_bytes().starts_with(b"@") => {
            let path = path.display();
            return Err(Error::Usage(format!(
                "-d takes no abstract name; for a file of that name give ./{path}"
            )));
        }
        (path, name) => socket_path(DEFAULT_DIRECTORY, path, name.as_deref(), env::var_os(SOCKET_VARIABLE)),
    };
    socket::check(path)
}

fn read_scripts(scripts: &[String], answer: Answer) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for script in scripts {
        inputs.extend(read_line(script, answer)?);
    }
    if inputs.is_empty() {
        return Err(Error::Usage("-e was given no command".into()));
    }
    Ok(inputs)
}

/// Reads a line of commands.
///
/// # Errors
/// [`Error`] of kind usage.
pub(crate) fn read_line(line: &str, answer: Answer) -> Result<Vec<Input>, Error> {
    let mut inputs = Vec::new();
    for words in script::read(line)? {
        inputs.push(if script::is_quit(&words) || words == ["q"] {
            Input::Quit
        } else {
            match Line::read(&words) {
                Ok(line) => Input::Command(line.command.0, answer.with(line.answer)),
                Err(error) if error.use_stderr() => return Err(Error::Clap(error)),
                Err(help) => Input::Text(help.render().to_string()),
            }
        });
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use einhorn_proto::{Command, SignalName};
    use std::path::Path;

    #[test]
    fn the_socket_of_a_line_that_is_not_finished_is_found() {
        let path = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            path_in(&words).map(|path| path.display().to_string())
        };
        for words in [
            &["-d", "/s", "signal", "--slot"][..],
            &["signal", "-d/s"],
            &["--socket-path=/s"],
            &["x", "--socket-path", "/s"],
        ] {
            assert_eq!(path(words).as_deref(), Some("/s"), "{words:?}");
        }
        for words in [&["-c", "web", "signal"][..], &["-cweb"], &["--command-name=web", "-"]] {
            assert_eq!(path(words).as_deref(), Some("/tmp/einhorn-web.sock"), "{words:?}");
        }
        for words in [&["signal", "--slot"][..], &["-d"], &["--json"], &[]] {
            assert_eq!(path(words), None, "{words:?}");
        }
    }

    fn options(args: &[&str]) -> Result<Options, Error> {
        let name = ["einhyrningsinsctl"];
        Options::check(Cli::try_parse_from(name.iter().chain(args)).map_err(Error::Clap)?)
    }

    fn commands(line: &str) -> Vec<Command> {
        let inputs = read_line(line, Answer::default()).unwrap();
        inputs
            .into_iter()
            .map(|input| match input {
                Input::Command(command, _) => command.request().unwrap(),
                other => panic!("{line} is read as {other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_line_is_split_at_semicolons_and_then_by_shell_rules() {
        assert_eq!(
            commands("inc; signal 'USR1' \"term\";  ; status;"),
            [
                Command::Inc { by: 1 },
                Command::Signal { signals: ["USR1", "term"].map(SignalName::new).to_vec() },
                Command::Status
            ]
        );
    }

    #[test]
    fn comments_are_ignored() {
        assert_eq!(commands("inc # by one; die"), [Command::Inc { by: 1 }]);
        assert!(commands("# inc; die").is_empty());
    }

    #[test]
    fn quit_and_exit_end_a_line_wherever_they_stand() {
        let inputs = read_line("inc; quit; die; exit; q", Answer::default()).unwrap();
        let [Input::Command(..), Input::Quit, Input::Command(die, _), Input::Quit, Input::Quit] =
            inputs.as_slice()
        else {
            panic!("{inputs:?}")
        };
        assert_eq!(die.request().unwrap().name(), "die");
    }

    #[test]
    fn a_line_may_have_options_of_its_own() {
        let outer = Answer { json: false, timeout: Some(Duration::from_secs(9)) };
        let inputs = read_line("status --json; --timeout 1.5 inc 2", outer).unwrap();
        let answers: Vec<_> = inputs
            .iter()
            .map(|input| match input {
                Input::Command(_, answer) => *answer,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(answers[0], Answer { json: true, ..outer });
        assert_eq!(answers[1], Answer { json: false, timeout: Some(Duration::from_millis(1500)) });
    }

    #[test]
    fn options_come_before_or_after_the_command() {
        for args in [["-d", "/x", "--json", "status"], ["status", "--json", "-d", "/x"]] {
            let options = options(&args).unwrap();
            assert_eq!(options.socket, Path::new("/x"));
            let Mode::Command(command) = options.mode else { panic!() };
            assert_eq!(command.request(), Some(Command::Status));
            assert!(options.answer.json);
        }
    }

    #[test]
    fn the_socket_is_found_by_name() {
        assert_eq!(options(&[]).unwrap().socket, Path::new("/tmp/einhorn.sock"));
        assert_eq!(options(&["-c", "web"]).unwrap().socket, Path::new("/tmp/einhorn-web.sock"));
    }

    #[test]
    fn error_messages_name_the_mistake() {
        let long = "x".repeat(108);
        for (args, message) in [
            (&["-d", "/x", "-c", "web"][..], "give -d PATH or -c NAME, not both"),
            (&["-d", "/x", "status", "-c", "web"], "give -d PATH or -c NAME, not both"),
            (&["-d", "@web"], "-d takes no abstract name; for a file of that name give ./@web"),
            (&["-e", "inc", "status"], "give a COMMAND or -e, not both"),
            (&["-e", " ; "], "-e was given no command"),
            (&["-e", "inc; signal 'USR1"], "cannot read \"signal 'USR1\": a quote is not closed"),
            (
                &["-d", &long],
                &format!("the socket path {long} has 108 bytes, and the system takes at most 107"),
            ),
        ] {
            let error = options(args).unwrap_err();
            assert_eq!(error.to_string(), message, "for {args:?}");
            assert_eq!(error.kind().exit_code(), 2);
        }
        for args in [
            &["stauts"][..],
            &["inc", "0"],
            &["inc", "10001"],
            &["set_workers"],
            &["-d", ""],
            &["-c", ""],
            &["-c", "run/web"],
            &["status", "now"],
            &["--timeout", "0"],
            &["--timeout", "-1"],
            &["--timeout", "NaN"],
            &["--timeout", "soon"],
            &["-e", "status; stauts"],
            &["help", "status", "--master"],
        ] {
            assert_eq!(options(args).unwrap_err().kind().exit_code(), 2, "for {args:?}");
        }
    }
}
