//! Completion at the prompt, made from the definition of its commands.

use einhorn_proto::{SignalName, command_info, short_signal_name};
use nix::sys::signal::Signal;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

/// Commands of the prompt itself.
const OWN_WORDS: [&str; 2] = ["quit", "exit"];

/// Completes commands, their options, and the names of signals.
#[derive(Debug)]
pub(crate) struct Completion {
    grammar: clap::Command,
}

impl Completion {
    /// Completes the subcommands of `grammar`.
    pub(crate) fn of(grammar: clap::Command) -> Self {
        Self { grammar }
    }

    /// The start of the word before the cursor, and its completions. `line` ends at the cursor.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let command_start = line.rfind(';').map_or(0, |at| at + 1);
        let start = line.rfind([' ', '\t', ';']).map_or(0, |at| at + 1);
        let before: Vec<&str> = line[command_start..start].split_whitespace().collect();
        let command = before.iter().find(|word| !word.starts_with('-')).copied();
        let word = &line[start..];
        let mut words = if word.starts_with('-') { self.options(command) } else { self.words(command) };
        words.retain(|candidate| starts_with(candidate, word));
        (start, words)
    }

    fn words(&self, command: Option<&str>) -> Vec<String> {
        match command {
            None => self.commands().chain(OWN_WORDS.map(str::to_owned)).collect(),
            Some("help") => self.commands().collect(),
            Some(name) if takes_signals(name) => {
                Signal::iterator().map(|signal| short_signal_name(signal.as_str()).to_owned()).collect()
            }
            Some(_) => Vec::new(),
        }
    }

    fn commands(&self) -> impl Iterator<Item = String> {
        let shown = self.grammar.get_subcommands().filter(|command| !command.is_hide_set());
        shown.map(|command| command.get_name().to_owned())
    }

    fn options(&self, command: Option<&str>) -> Vec<String> {
        let command = command.map_or(Some(&self.grammar), |name| self.grammar.find_subcommand(name));
        let options = command.into_iter().flat_map(clap::Command::get_arguments);
        options.filter_map(|option| option.get_long()).map(|name| format!("--{name}")).collect()
    }
}

/// Signals may be typed in any case, with or without SIG, and complete to their short names.
fn starts_with(candidate: &str, word: &str) -> bool {
    let is_signal = candidate.starts_with(|c: char| c.is_ascii_uppercase());
    if !is_signal {
        return candidate.starts_with(word);
    }
    candidate.starts_with(SignalName::new(word).as_str())
}

/// Whether an argument of the command is a signal.
fn takes_signals(command: &str) -> bool {
    command_info(command).is_some_and(|info| info.arguments.iter().any(|argument| argument.field == "signal"))
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, mut words) = self.candidates(&line[..pos]);
        if let [word] = words.as_mut_slice() {
            word.push(' ');
        }
        Ok((start, words))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::help::prompt_grammar;

    fn completed(line: &str) -> Vec<String> {
        Completion::of(prompt_grammar()).candidates(line).1
    }

    #[test]
    fn commands_complete_and_hidden_ones_are_not_offered() {
        assert_eq!(completed("st"), ["status", "state"]);
        assert_eq!(completed("upg"), ["upgrade", "upgrade_fleet"]);
        assert_eq!(completed("q"), ["quieter", "quit"]);
        assert_eq!(completed("help upgrade"), ["upgrade", "upgrade_fleet"]);
        assert_eq!(completed("rel"), ["reload"]);
        assert!(completed("").len() > OWN_WORDS.len());
    }

    #[test]
    fn the_word_after_a_semicolon_is_a_command() {
        assert_eq!(Completion::of(prompt_grammar()).candidates("inc 2;ver"), (6, vec!["version".to_owned()]));
        assert_eq!(completed("inc; --json ver"), ["version"]);
    }

    #[test]
    fn signals_complete_in_any_case() {
        assert_eq!(completed("signal TERM usr"), ["USR1", "USR2"]);
        assert_eq!(completed("die SIGTER"), ["TERM"]);
        assert_eq!(completed("status t"), [""; 0]);
    }

    #[test]
    fn options_complete() {
        assert_eq!(completed("status --j"), ["--json"]);
        assert_eq!(completed("--t"), ["--timeout"]);
        assert_eq!(completed("upgrade --c"), ["--canary", "--check", "--continue"]);
        assert!(completed("help --m").contains(&"--master".to_owned()));
        assert_eq!(completed("nonsense --"), [""; 0]);
    }
}
