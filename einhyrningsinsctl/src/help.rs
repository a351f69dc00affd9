//! Help, made from the definitions that clap reads lines by.

use clap::CommandFactory;
use einhorn_proto::{CommandInfo, command_info};

use crate::cli::{Cli, Line};
use crate::error::Error;
use crate::text::wrap;

/// The width of the overview. Every terminal has that many columns.
const HELP_COLUMNS: usize = 80;

/// The output of `--help`, or of `COMMAND --help`.
///
/// # Errors
/// [`Error`] of kind usage if there is no such command.
pub(crate) fn of_program(command: Option<&str>) -> Result<String, Error> {
    find(Cli::command(), command)
}

/// The overview of what can be typed at the prompt, or the help of `command`.
///
/// # Errors
/// [`Error`] of kind usage if there is no such command.
pub(crate) fn of_prompt(command: Option<&str>) -> Result<String, Error> {
    match command {
        None => Ok(overview()),
        Some(_) => find(Line::command(), command),
    }
}

fn find(mut grammar: clap::Command, command: Option<&str>) -> Result<String, Error> {
    grammar.build();
    let about = match command {
        None => Some(&mut grammar),
        Some(name) => grammar.find_subcommand_mut(name),
    };
    match about {
        // At the prompt no name of a program stands before the command's; clap leaves a gap for it.
        Some(about) => Ok(about.render_long_help().to_string().replacen("Usage:  ", "Usage: ", 1)),
        None => {
            let name = command.unwrap_or_default();
            Err(Error::Usage(format!("there is no command \"{name}\"; \"help\" lists the commands")))
        }
    }
}

fn overview() -> String {
    let mut text = String::from("Commands:\n");
    for command in prompt_grammar().get_subcommands().filter(|command| !command.is_hide_set()) {
        let info = command_info(command.get_name());
        let mut usage = info.map_or_else(|| command.get_name().to_owned(), CommandInfo::usage);
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        for line in wrap(&about, HELP_COLUMNS - 22) {
            text.push_str(&format!("  {usage:<18}  {line}\n"));
            usage.clear();
        }
    }
    text.push_str(
        "\nEach takes --json and --timeout SECONDS; \"help COMMAND\" shows its help.\n\
         \";\" separates commands on one line; \"quit\", \"exit\" or Ctrl-D leaves.\n",
    );
    text
}

/// The clap definition of a line, for help and completion.
pub(crate) fn prompt_grammar() -> clap::Command {
    let mut grammar = Line::command();
    grammar.build();
    grammar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_at_the_prompt_fits_eighty_columns() {
        assert!(
            of_prompt(None).unwrap().lines().all(|line| line.len() <= 80),
            "{}",
            of_prompt(None).unwrap()
        );
        assert!(of_prompt(None).unwrap().contains("  set_workers COUNT   Set the number of workers\n"));
        let of_one = of_prompt(Some("set-workers")).unwrap();
        assert!(of_one.starts_with("Set the number of workers\n\nUsage: set_workers [OPTIONS] <COUNT>\n"));
        assert!(of_prompt(Some("stauts")).is_err());
    }
}
