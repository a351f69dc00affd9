//! The manual pages and `--help` agree on what there is.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::Command;

use einhorn_proto::{COMMANDS, Place};

const CTL: (&str, &str) = ("einhyrningsinsctl", include_str!("../man/einhyrningsinsctl.1"));
const EINHORNSH: (&str, &str) = ("einhornsh", include_str!("../man/einhornsh.1"));

/// The help of this program, called as `name`.
fn help(name: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_einhyrningsinsctl"));
    let output = program.arg0(name).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The items of the lists between the heading `section` and the next, without `.It`:
/// `Fl d Ar PATH , Fl -socket-path Ar PATH`.
fn items(page: &'static str, section: &str) -> impl Iterator<Item = &'static str> {
    let mut lines = page.lines().skip_while(move |line| *line != format!(".Sh {section}"));
    assert!(lines.next().is_some(), "the manual has no {section}");
    lines.take_while(|line| !line.starts_with(".Sh ")).filter_map(|line| line.strip_prefix(".It "))
}

#[track_caller]
fn assert_same_options((name, page): (&str, &'static str)) {
    let in_help: BTreeSet<String> = help(name)
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .map(|line| line.split("  ").next().unwrap().replace(['<', '>'], ""))
        .collect();
    let in_manual: BTreeSet<String> = items(page, "OPTIONS")
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
    assert!(in_help.len() > 4, "{in_help:?}");
    assert_eq!(in_help, in_manual, "{name}");
}

#[test]
fn options_are_the_same() {
    assert_same_options(CTL);
    assert_same_options(EINHORNSH);
}

#[test]
fn commands_are_those_of_the_table() {
    let in_manual: Vec<&str> = items(CTL.1, "COMMANDS").filter_map(|item| item.strip_prefix("Cm ")).collect();
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

#[track_caller]
fn assert_same_exit_codes((name, page): (&str, &'static str)) {
    let help = help(name);
    let codes = help.lines().skip_while(|line| *line != "Exit codes:").skip(1);
    let in_help: Vec<&str> = codes.filter_map(|line| line.trim_start().split(' ').next()).collect();
    // What ends this program by a signal in others is for the manual only.
    let in_manual: Vec<&str> = items(page, "EXIT STATUS").filter(|code| *code != "141").collect();
    assert!(in_help.len() > 4, "{in_help:?}");
    assert_eq!(in_help, in_manual, "{name}");
}

#[test]
fn exit_codes_are_the_same() {
    assert_same_exit_codes(CTL);
    assert_same_exit_codes(EINHORNSH);
}
