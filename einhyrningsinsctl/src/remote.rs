//! `-H HOST`: the same command on another host, by ssh.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::error::Error;

/// What ssh exits with if it cannot do what it is there for. Source: `ssh(1)`, "EXIT STATUS".
const SSH_FAILED: i32 = 255;

/// Carries out on `host` what was typed here, and returns its exit code. A command with a view gets the terminal, if there is one.
///
/// # Errors
/// If there is no ssh here, or it did not reach the host; ssh has said why.
pub(crate) fn run(host: &str, has_view: bool) -> Result<u8, Error> {
    let words = words_of(env::args_os().skip(1)).map_err(Error::Usage)?;
    let mut ssh = Command::new("ssh");
    if has_view && io::stdin().is_terminal() && io::stdout().is_terminal() {
        ssh.arg("-t");
    }
    ssh.arg("--").arg(host).arg(env!("CARGO_PKG_NAME")).args(words);
    let status = ssh.status().map_err(Error::Ssh)?;
    match status.code() {
        Some(SSH_FAILED) => Err(Error::Unreached { host: host.to_owned() }),
        // A signal has ended it, as its exit code would say.
        code => Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(130)),
    }
}

/// What follows the name of the program on the other host: the words of this command line without `-H HOST`, quoted for the
/// shell there, which splits what ssh has joined.
fn words_of(line: impl Iterator<Item = OsString>) -> Result<Vec<String>, String> {
    let mut line = line.peekable();
    let mut words = Vec::new();
    let mut is_found = false;
    while let Some(word) = line.next() {
        // The first such word is the option: before the command, no value begins with a dash.
        if !is_found && is_host_option(&word) {
            is_found = true;
            if matches!(word.as_bytes(), b"-H" | b"--host") {
                line.next();
            }
            continue;
        }
        let text =
            word.to_str().ok_or_else(|| format!("-H takes no word that is not UTF-8: {}", word.display()))?;
        words.push(shell_words::quote(text).into_owned());
    }
    Ok(words)
}

fn is_host_option(word: &OsStr) -> bool {
    let word = word.as_bytes();
    word == b"--host" || word.starts_with(b"--host=") || word.starts_with(b"-H")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_host_is_passed_on_as_it_was_typed() {
        let words = |line: &[&str]| words_of(line.iter().map(OsString::from)).unwrap().join(" ");
        assert_eq!(words(&["-H", "web1", "-c", "web", "upgrade", "--wait"]), "-c web upgrade --wait");
        assert_eq!(words(&["-Hroot@web1", "--json", "status"]), "--json status");
        assert_eq!(words(&["--json", "--host", "web1", "status"]), "--json status");
        assert_eq!(words(&["--host=web1", "-e", "inc; status"]), "-e 'inc; status'");
        assert_eq!(
            words(&["-H", "web1", "upgrade", "--label", "it's -H"]),
            r#"upgrade --label 'it'\''s -H'"#
        );
        assert_eq!(words(&["-H", "web1", "upgrade", "--label", "$(id)", ""]), "upgrade --label '$(id)' ''");
        let bytes = OsStr::from_bytes(b"\xff").to_owned();
        assert!(words_of([bytes].into_iter()).unwrap_err().contains("UTF-8"));
    }
}
