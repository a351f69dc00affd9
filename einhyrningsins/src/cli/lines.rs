//! Lines of options in a file, and a command line with such lines beneath it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches};
use serde::{Deserialize, Serialize};

use super::{Answer, Args};

/// Options that no file of options can have, beside hidden ones: they are about a start, or name the file.
const NOT_IN_A_FILE: [&str; 4] = ["options_file", "dry_run", "help", "version"];

/// Stands for the program while a line is read alone.
const PROGRAM: &str = "program";

/// A line of the options file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionLine {
    /// The option, by the name of its field.
    pub id: String,
    /// The number of the line, from 1.
    pub line: usize,
    words: Vec<String>,
    /// What is given for it; that of a flag is `true`.
    pub value: String,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct BadLine {
    pub line: usize,
    pub fault: String,
}

/// A command line with lines of a file beneath it.
#[derive(Debug)]
pub struct Merged(ArgMatches);

/// An option, and the value that is in force.
#[derive(Debug)]
pub struct Given {
    pub id: String,
    /// As `--number`.
    pub name: String,
    pub value: Option<String>,
}

impl OptionLine {
    /// Reads the lines of a file. Blank lines, and what follows a `#` at the beginning of a word, are left out.
    ///
    /// # Errors
    /// The first [`BadLine`].
    pub fn read_all(text: &str) -> Result<Vec<Self>, BadLine> {
        let parser = Args::parser();
        let mut lines: Vec<Self> = Vec::new();
        for (number, text) in (1..).zip(text.lines()) {
            let bad = |fault: String| BadLine { line: number, fault };
            let words = shell_words::split(text).map_err(|_| bad("a quote is not closed".to_owned()))?;
            if words.is_empty() {
                continue;
            }
            let read = Self::read(&parser, number, words).map_err(bad)?;
            let earlier = lines.iter().find(|earlier| earlier.id == read.id);
            if let Some(earlier) = earlier.filter(|_| !is_repeatable(&parser, &read.id)) {
                return Err(bad(format!("line {} has {} already", earlier.line, name_of(&parser, &read.id))));
            }
            lines.push(read);
        }
        Ok(lines)
    }

    fn read(parser: &clap::Command, line: usize, words: Vec<String>) -> Result<Self, String> {
        let first = words.first().map_or("", String::as_str);
        if !first.starts_with('-') || first == "-" || first == "--" {
            return Err(format!("\"{}\" is not an option", first.escape_debug()));
        }
        let argv = ["einhyrningsins"].into_iter().chain(words.iter().map(String::as_str));
        let argv = argv.chain(["--", PROGRAM]);
        let (id, value) = match parser.clone().try_get_matches_from(argv) {
            Ok(matches) => {
                let command = matches.get_raw("command").into_iter().flatten();
                if !command.eq([PROGRAM]) {
                    return Err("a line takes one option and its value".to_owned());
                }
                match given(parser, &matches).into_iter().collect::<Vec<_>>().as_slice() {
                    [id] => (id.clone(), value_of(&matches, id).unwrap_or_default()),
                    _ => return Err("a line takes one option".to_owned()),
                }
            }
            // It may be on another line.
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
                let name = first.trim_start_matches('-').split('=').next().unwrap_or_default();
                let arg = parser.get_arguments().find(|arg| arg.get_long() == Some(name));
                let id = arg.ok_or_else(|| fault(error))?.get_id().to_string();
                let value = first.split_once('=').map(|(_, value)| value.to_owned());
                (id, value.or_else(|| words.get(1).cloned()).unwrap_or_else(|| "true".to_owned()))
            }
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                return Err(format!("{first} cannot be in a file"));
            }
            Err(error) => return Err(fault(error)),
        };
        let arg = parser.get_arguments().find(|arg| *arg.get_id() == id);
        if NOT_IN_A_FILE.contains(&id.as_str()) || arg.is_some_and(Arg::is_hide_set) {
            return Err(format!("{} cannot be in a file", name_of(parser, &id)));
        }
        Ok(Self { id, line, words, value })
    }
}

impl Merged {
    /// Reads the command line `argv`, the name of the program first, with `lines` beneath it: those of which the command line
    /// has the same option, or one that excludes it, do not count.
    ///
    /// # Errors
    /// The [`Answer`] to what does not go together.
    pub fn new(argv: &[OsString], lines: &[OptionLine]) -> Result<Self, Answer> {
        let hidden = hidden(argv)?;
        let (name, rest) = argv.split_at(argv.len().min(1));
        let words = lines.iter().filter(|line| !hidden.contains(&line.id)).flat_map(|line| &line.words);
        let argv = name.iter().cloned().chain(words.map(OsString::from)).chain(rest.iter().cloned());
        Ok(Self(Args::parser().try_get_matches_from(argv)?))
    }

    /// # Errors
    /// None: the values were read before.
    pub fn args(&self) -> Result<Args, Answer> {
        Ok(Args::from_arg_matches(&self.0)?)
    }

    /// Every option, in the order of help.
    pub fn options(&self) -> Vec<Given> {
        let parser = Args::parser();
        let shown = parser.get_arguments().filter(|arg| arg.get_long().is_some() && !arg.is_hide_set());
        let shown = shown.filter(|arg| !["help", "version", "dry_run"].contains(&arg.get_id().as_str()));
        let options = shown.map(|arg| Given {
            id: arg.get_id().to_string(),
            name: name(arg),
            value: value_of(&self.0, arg.get_id().as_str()),
        });
        options.collect()
    }
}

/// The options that a command line has.
///
/// # Errors
/// The [`Answer`] to one that is wrong.
pub fn on_command_line(argv: &[OsString]) -> Result<BTreeSet<String>, Answer> {
    let parser = Args::parser();
    let matches = parser.clone().try_get_matches_from(argv)?;
    Ok(given(&parser, &matches))
}

/// The options that a command line hides: those that it has, and those that these exclude.
///
/// # Errors
/// The [`Answer`] to one that is wrong.
pub fn hidden(argv: &[OsString]) -> Result<BTreeSet<String>, Answer> {
    let parser = Args::parser();
    let given = on_command_line(argv)?;
    let excludes = |arg: &Arg, id: &str| {
        parser.get_arg_conflicts_with(arg).iter().any(|other| other.get_id().as_str() == id)
    };
    let args: Vec<_> = parser.get_arguments().collect();
    let is_hidden = |arg: &&&Arg| {
        let id = arg.get_id().as_str();
        given.contains(id)
            || args.iter().any(|other| {
                let other_id = other.get_id().as_str();
                given.contains(other_id) && (excludes(other, id) || excludes(arg, other_id))
            })
    };
    Ok(args.iter().filter(is_hidden).map(|arg| arg.get_id().to_string()).collect())
}

/// What lines give for each option, in one text, and their numbers.
pub fn values(lines: &[OptionLine]) -> BTreeMap<&str, (String, Vec<usize>)> {
    let mut values: BTreeMap<&str, (String, Vec<usize>)> = BTreeMap::new();
    for line in lines {
        let (value, numbers) = values.entry(&line.id).or_default();
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str(&line.value);
        numbers.push(line.line);
    }
    values
}

/// An option as it is typed.
pub fn option_name(id: &str) -> String {
    name_of(&Args::parser(), id)
}

fn name_of(parser: &clap::Command, id: &str) -> String {
    let arg = parser.get_arguments().find(|arg| arg.get_id() == id);
    arg.map_or_else(|| id.to_owned(), name)
}

fn name(arg: &Arg) -> String {
    format!("--{}", arg.get_long().unwrap_or_default())
}

fn is_repeatable(parser: &clap::Command, id: &str) -> bool {
    let arg = parser.get_arguments().find(|arg| arg.get_id() == id);
    arg.is_some_and(|arg| matches!(arg.get_action(), ArgAction::Append | ArgAction::Count))
}

fn given(parser: &clap::Command, matches: &ArgMatches) -> BTreeSet<String> {
    let ids = parser.get_arguments().map(|arg| arg.get_id().as_str()).filter(|id| *id != "command");
    let is_given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    ids.filter(is_given).map(str::to_owned).collect()
}

fn value_of(matches: &ArgMatches, id: &str) -> Option<String> {
    let words = matches.get_raw(id)?.map(|word| word.to_string_lossy().into_owned());
    Some(words.collect::<Vec<_>>().join(" "))
}

fn fault(error: clap::Error) -> String {
    Answer::from(error).fault()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<OsString> {
        ["einhyrningsins"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect()
    }

    fn read(text: &str) -> Vec<OptionLine> {
        OptionLine::read_all(text).unwrap()
    }

    #[test]
    fn a_line_is_an_option_as_on_the_command_line() {
        let lines = read(
            "# ours\n\n  -n 4  # four\n--max-rss=512M\n-m\n--check 'sh -c \"exit 0\"'\n-v\n-v\n--check-first\n",
        );
        let lines: Vec<_> =
            lines.iter().map(|line| (line.line, line.id.as_str(), line.value.as_str())).collect();
        assert_eq!(
            lines,
            [
                (3, "number", "4"),
                (4, "max_rss", "512M"),
                (5, "manual", "true"),
                (6, "check", "sh -c \"exit 0\""),
                (7, "verbose", "1"),
                (8, "verbose", "1"),
                (9, "check_first", "true"),
            ]
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for (text, line, words) in [
            ("-n 4\n-n x", 2, "'x' for '--number <COUNT|auto>'"),
            ("\n--frob", 2, "unexpected argument '--frob'"),
            ("-n 4\n\n-n 5", 3, "line 1 has --number already"),
            ("-n 4 -s 1", 1, "a line takes one option"),
            ("-n 4 server", 1, "a line takes one option and its value"),
            ("-n 4 --", 1, "a line takes one option and its value"),
            ("server", 1, "\"server\" is not an option"),
            ("--", 1, "is not an option"),
            ("-n", 1, "--number"),
            ("--check 'x", 1, "a quote is not closed"),
            ("--help", 1, "--help cannot be in a file"),
            ("-V", 1, "-V cannot be in a file"),
            ("--options-file x", 1, "--options-file cannot be in a file"),
            ("--dry-run", 1, "--dry-run cannot be in a file"),
            ("--with-state-fd 3", 1, "--with-state-fd cannot be in a file"),
        ] {
            let bad = OptionLine::read_all(text).unwrap_err();
            assert!(bad.line == line && bad.fault.contains(words), "{text:?}: {bad:?}");
        }
    }

    #[test]
    fn the_command_line_hides_an_option_of_the_file_with_its_whole_list() {
        let lines = read("-n 4\n--rlimit core=0\n--rlimit nofile=9\n-s 2\n--ack-mode 3\n-4");
        let merged = Merged::new(&argv("-n 2 --rlimit core=1 -m -6 server"), &lines).unwrap();
        let args = merged.args().unwrap();
        let shared = &args.shared;
        assert_eq!(format!("{:?}", shared.process.rlimit), "[core=1:1]");
        assert_eq!(format!("{:?} {:?}", shared.number, shared.seconds), "Count(2) 2s");
        assert!(args.manual && shared.ipv6_only && !shared.ipv4_only);
        assert_eq!(shared.command, ["server"]);
    }

    #[test]
    fn lines_that_do_not_go_together_are_refused() {
        let merged = |text| Merged::new(&argv("server"), &read(text)).map_err(|answer| answer.text());
        assert!(merged("-4\n-6").unwrap_err().contains("--ipv4-only"));
        assert!(merged("--check-first").unwrap_err().contains("--check"));
        assert!(merged("--check-first\n--check true").is_ok());
    }
}
