//! Mistakes in what was typed: clap's message, with one suggestion at most.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use einhorn_proto::{CommandInfo, command_elsewhere, command_info};

/// Replaces clap's suggestions by the best one.
pub(crate) fn with_suggestion(mut error: clap::Error) -> clap::Error {
    match error.kind() {
        ErrorKind::InvalidSubcommand => suggest_command(&mut error),
        ErrorKind::UnknownArgument => drop_advice_on_values(&mut error),
        _ => {}
    }
    error
}

/// [`with_suggestion`] for a line of a script or at the prompt, where there is no `--help` to try.
pub(crate) fn in_line(error: clap::Error) -> clap::Error {
    let mut error = with_suggestion(error).with_cmd(&clap::Command::new("").disable_help_flag(true));
    if error.kind() == ErrorKind::InvalidSubcommand {
        error.remove(ContextKind::Usage);
        if error.get(ContextKind::SuggestedSubcommand).is_none()
            && error.get(ContextKind::Suggested).is_none()
        {
            tip(&mut error, "\"help\" lists the commands");
        }
    }
    error
}

fn suggest_command(error: &mut clap::Error) {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let word = word.clone();
    let elsewhere = command_elsewhere(&word);
    // The most similar one is the last. It may be an alias.
    let similar = match error.remove(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(mut names)) => names.pop(),
        _ => None,
    };
    error.remove(ContextKind::Suggested);
    if let Some(CommandInfo { name, summary, .. }) = elsewhere {
        let (initial, rest) = summary.split_at(1);
        tip(error, &format!("use '{name}' to {}{rest}", initial.to_ascii_lowercase()));
    } else if word == "probe" {
        // Known, except in a program that was built without it.
        tip(error, "this program was built without HTTP, the Cargo feature \"http\"");
    } else if let Some(name) = similar {
        let name = command_info(&name).map_or(name, |info| info.name.to_owned());
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::String(name));
    }
}

/// Drops the advice to write `-- --option`, for which no command of ours has a use. clap has no switch for it; its other
/// tips here name a command that has the option.
fn drop_advice_on_values(error: &mut clap::Error) {
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains(" as a value, "));
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
}

fn tip(error: &mut clap::Error, text: &str) {
    let tips = vec![StyledStr::from(text.to_owned())];
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use insta::assert_snapshot;

    use super::*;
    use crate::cli::{Cli, Line};

    fn on_command_line(words: &str) -> String {
        let words = std::iter::once("einhyrningsinsctl").chain(words.split(' '));
        with_suggestion(Cli::try_parse_from(words).unwrap_err()).to_string()
    }

    fn at_prompt(words: &str) -> String {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        Line::read(&words).unwrap_err().to_string()
    }

    #[test]
    fn words_of_other_programs_lead_to_the_command() {
        assert_snapshot!(on_command_line("restart"), @r"
        error: unrecognized subcommand 'restart'

          tip: use 'upgrade' to replace every worker with one from the current code, one by one

        Usage: einhyrningsinsctl [OPTIONS] [COMMAND]

        For more information, try '--help'.
        ");
        assert_snapshot!(at_prompt("restart"), @r"
        error: unrecognized subcommand 'restart'

          tip: use 'upgrade' to replace every worker with one from the current code, one by one
        ");
        for (word, name) in
            [("reload-all", "upgrade"), ("stop", "die"), ("scale", "set_workers"), ("ps", "status")]
        {
            let message = on_command_line(word);
            assert!(message.contains(&format!("tip: use '{name}' to ")), "{word}: {message}");
            assert_eq!(message.matches("tip:").count(), 1, "{word}: {message}");
        }
    }

    #[test]
    fn the_best_of_the_similar_commands_is_suggested_alone() {
        for (word, name) in [
            ("statsu", "status"),
            ("set_workr", "set_workers"),
            ("set-workr", "set_workers"),
            ("upgrade-flet", "upgrade_fleet"),
            ("lst", "list"),
        ] {
            let message = on_command_line(word);
            assert!(message.contains(&format!("tip: a similar subcommand exists: '{name}'\n")), "{message}");
        }
    }

    #[cfg(not(feature = "http"))]
    #[test]
    fn a_program_without_http_says_so() {
        let message = on_command_line("probe http:/");
        assert!(message.contains("tip: this program was built without HTTP"), "{message}");
        assert!(at_prompt("probe http:/").contains("tip: this program was built without HTTP"));
    }

    #[test]
    fn nobody_is_told_to_pass_an_option_as_a_value() {
        assert_snapshot!(on_command_line("inc --foo"), @r"
    error: unexpected argument '--foo' found

    Usage: einhyrningsinsctl inc [OPTIONS] [COUNT]

    For more information, try '--help'.
    ");
        assert!(on_command_line("--canary 2 upgrade").contains("'upgrade --canary' exists"));
    }

    #[test]
    fn mistakes_at_the_prompt_do_not_end_in_an_option() {
        assert_snapshot!(at_prompt("xyzzy"), @r#"
    error: unrecognized subcommand 'xyzzy'

      tip: "help" lists the commands
    "#);
        assert_snapshot!(at_prompt("inc --foo"), @r"
        error: unexpected argument '--foo' found

        Usage: inc [OPTIONS] [COUNT]
        ");
        for line in ["statsu", "inc 0", "upgrade --canary x", "upgrade --soak 1", "set_workers"] {
            let message = at_prompt(line);
            assert!(!message.contains("--help"), "{line}: {message}");
        }
    }
}
