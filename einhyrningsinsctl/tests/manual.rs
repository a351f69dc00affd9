//! The manual page and `--help` agree on what there is.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::process::Command;

use einhorn_proto::{COMMANDS, Place};

const MANUAL: &str = include_str!("../man/einhyrningsinsctl.1");

fn help() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_einhyrningsinsctl")).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of the manual between the heading `section` and the next.
fn section(section: &str) -> impl Iterator<Item = &'static str> {
    let mut lines = MANUAL.lines().skip_while(move |line| *line != format!(".Sh {section}"));
    assert!(lines.next().is_some(), "the manual has no {section}");
    lines.take_while(|line| !line.starts_with(".Sh "))
}

/// The items of a list, without macros and punctuation: `Fl d Ar PATH , Fl -socket-path Ar PATH`.
fn items(section_name: &str) -> impl Iterator<Item = &'static str> {
    section(section_name).filter_map(|line| line.strip_prefix(".It "))
}

#[test]
fn options_are_the_same() {
    let in_help: BTreeSet<String> = help()
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .map(|line| line.split("  ").next().unwrap().replace(['<', '>'], ""))
        .collect();
    let in_manual: BTreeSet<String> = items("OPTIONS")
        .map(|item| {
            let options = item.split(" , ").map(|option| {
                let mut words = option.split(' ').filter(|word| !matches!(*word, "Fl" | "Ar"));
                let name = format!("-{}", words.next().unwrap());
                words.fold(name, |option, word| format!("{option} {word}"))
            });
            let options: Vec<String> = options.collect();
            // clap names the value once, after the long option.
            match options.as_slice() {
                [short, long] => format!("{}, {long}", short.split(' ').next().unwrap()),
                options => options.concat(),
            }
        })
        .collect();
    assert_eq!(in_help, in_manual);
}

#[test]
fn commands_are_those_of_the_table() {
    let in_manual: Vec<&str> = items("COMMANDS").filter_map(|item| item.strip_prefix("Cm ")).collect();
    for info in COMMANDS.iter().filter(|info| info.is_typed()) {
        let entry = in_manual.iter().find(|item| item.split(' ').next() == Some(info.name));
        let entry = entry.unwrap_or_else(|| panic!("the manual lacks {}", info.name));
        for argument in info.arguments.iter().filter(|argument| argument.place != Place::NamedOnly) {
            let value = argument.usage.trim_matches(['[', ']']).trim_end_matches("...");
            assert!(entry.contains(value), "{entry} lacks {value}");
        }
    }
    // The client's own commands, which no master has.
    let names = || COMMANDS.iter().map(|info| info.name).chain(["list", "probe", "serve", "top"]);
    let known = |item: &&str| names().any(|name| Some(name) == item.split(' ').next());
    assert_eq!(in_manual.iter().copied().find(|item| !known(item)), None);
}

#[test]
fn exit_codes_are_the_same() {
    let help = help();
    let codes = help.lines().skip_while(|line| *line != "Exit codes:").skip(1);
    let in_help: Vec<&str> = codes.filter_map(|line| line.trim_start().split(' ').next()).collect();
    // What ends this program by a signal in others is for the manual only.
    let in_manual: Vec<&str> = items("EXIT STATUS").filter(|code| *code != "141").collect();
    assert_eq!(in_help, in_manual);
    assert!(!in_help.is_empty());
}

#[test]
fn options_of_einhornsh_are_in_its_section() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_einhyrningsinsctl"));
    std::os::unix::process::CommandExt::arg0(&mut program, "einhornsh");
    let help = String::from_utf8(program.arg("--help").output().unwrap().stdout).unwrap();
    let options = help.lines().filter_map(|line| line.trim_start().strip_prefix('-')?.split(',').next());
    let options: Vec<&str> = options.collect();
    assert_eq!(options, ["c", "d", "e", "h", "V"]);
    let text: Vec<&str> =
        section("EINHORNSH").flat_map(|line| line.trim_start_matches('.').split(' ')).collect();
    for option in options {
        assert!(text.windows(2).any(|words| words == ["Fl", option]), "the manual lacks -{option}");
    }
    let codes = help.lines().skip_while(|line| *line != "Exit codes:").skip(1);
    let in_help: Vec<&str> = codes.filter_map(|line| line.trim_start().split(' ').next()).collect();
    let in_manual: Vec<&str> = section("EINHORNSH").filter_map(|line| line.strip_prefix(".It ")).collect();
    let in_manual: Vec<&str> = in_manual.into_iter().filter(|item| item.parse::<u8>().is_ok()).collect();
    assert_eq!(in_help, in_manual);
}
