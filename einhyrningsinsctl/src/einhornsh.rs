//! `einhornsh`: the command line of einhorn's shell, for scripts and people that know it.
//!
//! It knows `quit` and `exit` only. All else goes to the master unchanged, whether ours or einhorn in Ruby, and the
//! master's messages are printed.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ColorChoice, Parser};
use einhorn_proto::{
    Audience, COMMANDS, CommandInfo, SOCKET_VARIABLE, einhorns_directory, parse_master_name, socket_path,
};

use crate::ask::Words;
use crate::error::{Error, Kind};
use crate::output::Output;
use crate::program::Program;
use crate::repl::{self, Next, Shell};
use crate::session::Session;
use crate::trust::Trust;
use crate::{error, script, socket};

/// Send commands to a running einhorn master
///
/// With -e, sends them, prints the answers and exits. Without it, opens a prompt; if standard input is a file or a pipe,
/// sends its lines. The commands are the master's: "help" lists them.
#[derive(Debug, Parser)]
#[command(name = "einhornsh", version, after_help = EXIT_CODES)]
#[command(infer_long_args = true, args_override_self = true)]
pub(crate) struct Cli {
    /// Name of the master: short for -d $TMPDIR/einhorn-NAME.sock
    #[arg(short = 'c', long, value_name = "NAME", value_parser = parse_master_name)]
    command_name: Option<String>,

    /// Control socket of the master [default: the value of EINHYRNINGSINS_SOCKET, or einhorn.sock in $TMPDIR or /tmp]
    #[arg(short = 'd', long, value_name = "PATH")]
    socket_path: Option<PathBuf>,

    /// Send these commands, separated by ";", and exit
    #[arg(short = 'e', long, value_name = "COMMANDS")]
    execute: Vec<String>,

    /// The same as -c NAME; -d overrides -c, and -c overrides this
    #[arg(value_parser = parse_master_name)]
    name: Option<String>,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  the master refused no command
  1  it refused a command, or failed
  2  bad usage
  3  no master there
  4  the connection broke or the time ran out before the answer";

impl Cli {
    /// The path of the control socket. `tmpdir` is the value of `TMPDIR`.
    ///
    /// # Errors
    /// [`Error`] of kind usage.
    fn socket(&self, tmpdir: Option<OsString>) -> Result<PathBuf, Error> {
        let name = self.command_name.as_ref().or(self.name.as_ref()).map(String::as_str);
        let variable = env::var_os(SOCKET_VARIABLE);
        socket::check(socket_path(einhorns_directory(tmpdir), self.socket_path.clone(), name, variable))
    }

    /// The commands of `-e`, all read before any is sent; `None` without it.
    ///
    /// # Errors
    /// [`Error`] of kind usage.
    fn script(&self) -> Result<Option<Vec<Vec<String>>>, Error> {
        if self.execute.is_empty() {
            return Ok(None);
        }
        let scripts: Result<Vec<_>, Error> = self.execute.iter().map(|line| script::read(line)).collect();
        Ok(Some(scripts?.concat()))
    }
}

/// Runs the command line, and returns an exit code that shows whether the master refused anything.
///
/// # Errors
/// The first [`Error`] in asking the master; nothing is sent after it.
pub(crate) fn run(cli: &Cli) -> Result<ExitCode, Error> {
    let script = cli.script()?;
    let session = Session::new(Program::Einhornsh, cli.socket(env::var_os("TMPDIR"))?, Trust::new(None)?);
    let mut shell = Einhornsh { session, output: Output::of_process(ColorChoice::Auto), is_refused: false };
    match script {
        Some(script) => drop(shell.send_all(script)?),
        None if io::stdin().is_terminal() && shell.output.is_terminal() => {
            repl::at_prompt(&mut shell)?;
            // The user has seen the refusals.
            shell.is_refused = false;
        }
        None => repl::from_stdin(&mut shell)?,
    }
    let code = if shell.is_refused { Kind::Failed.exit_code() } else { 0 };
    Ok(ExitCode::from(code))
}

/// Sends commands, and notes whether one was refused.
struct Einhornsh {
    session: Session,
    output: Output,
    /// Whether the master has refused something.
    is_refused: bool,
}

impl Einhornsh {
    /// Sends commands in order, up to `quit`, also after a refusal: a script may make the log louder, upgrade, and make
    /// it quieter again.
    fn send_all(&mut self, commands: Vec<Vec<String>>) -> Result<Next, Error> {
        for mut words in commands {
            if script::is_quit(&words) {
                return Ok(Next::Quit);
            }
            let command = words.remove(0);
            self.send(&Words { command, args: words })?;
        }
        Ok(Next::Line)
    }

    /// Sends a command and prints the master's messages.
    fn send(&mut self, words: &Words) -> Result<(), Error> {
        let output = &self.output;
        let reply = self.session.request(words, None, &mut |reply| output.message(&reply.message))?;
        output.message(&reply.message)?;
        // einhorn reports success in its message only.
        if reply.ok == Some(false) {
            self.is_refused = true;
            if reply.message.is_empty() {
                let text = format!("{} refused, and the master does not say why", words.command);
                error::note(Program::Einhornsh, &text);
            }
        }
        Ok(())
    }
}

impl Shell for Einhornsh {
    fn program(&self) -> Program {
        Program::Einhornsh
    }

    fn grammar(&self) -> clap::Command {
        grammar()
    }

    fn greet(&mut self) -> Result<(), Error> {
        repl::greet(&mut self.session, &self.output, None)
    }

    fn carry_out(&mut self, line: &str) -> Result<Next, Error> {
        self.send_all(script::read(line)?)
    }
}

/// The commands of our master that people type, for completion. Other commands are sent too.
fn grammar() -> clap::Command {
    let is_typed = |info: &&CommandInfo| info.audience != Audience::Programs;
    let names = COMMANDS.iter().filter(is_typed).map(|info| info.name);
    let commands = names.map(|name| clap::Command::new(name).disable_help_flag(true));
    clap::Command::new("einhornsh")
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .subcommands(commands)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn cli(args: &[&str]) -> Cli {
        Cli::try_parse_from(["einhornsh"].iter().chain(args)).unwrap()
    }

    fn socket(args: &[&str], tmpdir: &str) -> String {
        let tmpdir = (tmpdir != "unset").then(|| tmpdir.into());
        cli(args).socket(tmpdir).unwrap().display().to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_socket_is_where_einhorn_has_it() {
        assert_eq!(socket(&[], "unset"), "/tmp/einhorn.sock");
        assert_eq!(socket(&[], ""), "/tmp/einhorn.sock");
        assert_eq!(socket(&[], "/run/t"), "/run/t/einhorn.sock");
        for args in [&["-c", "web"][..], &["web"], &["--command-name=web"], &["--comm", "web"]] {
            assert_eq!(socket(args, "/run/t"), "/run/t/einhorn-web.sock", "for {args:?}");
        }
    }

    #[test]
    fn a_path_counts_before_a_name_and_an_option_before_a_word() {
        assert_eq!(socket(&["-c", "web", "-d", "/x"], "/run/t"), "/x");
        assert_eq!(socket(&["-d", "/x", "web"], "/run/t"), "/x");
        assert_eq!(socket(&["-c", "web", "api"], "unset"), "/tmp/einhorn-web.sock");
        assert_eq!(socket(&["-d", "/x", "-d", "/y"], "unset"), "/y");
    }

    #[test]
    fn a_script_is_split_at_semicolons_and_then_by_shell_rules() {
        let script = cli(&["-e", "inc 2; signal 'USR1' ;", "--exec", "config \"a: 1\""]).script().unwrap();
        let expected: &[&[&str]] = &[&["inc", "2"], &["signal", "USR1"], &["config", "a: 1"]];
        assert_eq!(script.unwrap(), expected);
        assert_eq!(cli(&["-e", ""]).script().unwrap(), Some(Vec::new()));
        assert_eq!(cli(&[]).script().unwrap(), None);
    }

    #[test]
    fn mistakes_are_bad_usage() {
        for args in [&["-c", ""][..], &["run/web"], &["web", "api"], &["--json"], &["-d"], &["-d", ""]] {
            let parsed = Cli::try_parse_from(["einhornsh"].iter().chain(args));
            assert!(parsed.unwrap_err().use_stderr(), "for {args:?}");
        }
        let long = "x".repeat(108);
        assert_eq!(cli(&["-d", &long]).socket(None).unwrap_err().kind(), Kind::Usage);
        assert_eq!(cli(&["-e", "inc; 'die"]).script().unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn commands_of_the_master_complete() {
        let grammar = grammar();
        let names: Vec<_> = grammar.get_subcommands().map(clap::Command::get_name).collect();
        assert!(["upgrade_fleet", "help", "config"].iter().all(|name| names.contains(name)), "{names:?}");
        assert!(!names.contains(&"worker:ack"), "{names:?}");
    }
}
