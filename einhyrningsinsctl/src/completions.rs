//! The completions of shells, in `completions/`: made by clap from the definition of the command line. For slots, pids, sockets and
//! names of masters they ask this program, by `__complete`.
//!
//! A test compares the files with the definition; with `EINHYRNINGSINS_COMPLETIONS=write` it writes them.

use std::path::Path;
use std::{env, fs};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// What this program is asked for: the word for that, the options, and what clap calls the value.
const ASKED: [(&str, &[&str], &str); 4] = [
    ("slots", &["--slot"], "SLOT"),
    ("pids", &["--pid"], "PID"),
    ("sockets", &["-d", "--socket-path"], "PATH"),
    ("names", &["-c", "--command-name"], "NAME"),
];

/// The words of the line are given, since they may name the master.
const ZSH_FUNCTIONS: &str = r#"
_einhyrningsinsctl_ask() {
    local -a found
    found=(${${${(f)"$(einhyrningsinsctl __complete $1 -- ${(Q)${(z)LBUFFER}} 2>/dev/null)"}//:/\\:}/$'\t'/:})
    _describe -V $1 found
}
"#;

/// The command line without the commands that no help lists, which clap would complete too.
fn shown() -> clap::Command {
    let all = Cli::command();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let shown = clap::Command::new(PROGRAM).version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    shown.args(all.get_arguments().cloned()).subcommands(commands)
}

/// The completions for a shell.
fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut shown(), PROGRAM, &mut text);
    let text = String::from_utf8(text).expect("a script is text");
    match shell {
        Shell::Bash => bash(&text),
        Shell::Zsh => zsh(&text),
        _ => fish(&text),
    }
}

fn bash(text: &str) -> String {
    let mut script = String::new();
    let mut option = "";
    for line in text.lines() {
        option = line.trim().strip_suffix(')').filter(|name| name.starts_with('-')).unwrap_or(option);
        let asked = ASKED.iter().find(|(_, options, _)| options.contains(&option));
        match (line.trim() == r#"COMPREPLY=($(compgen -f "${cur}"))"#, asked) {
            (true, Some((what, ..))) => {
                let ask = format!(
                    "$({PROGRAM} __complete {what} -- \"${{COMP_WORDS[@]:1}}\" 2>/dev/null | cut -f 1)"
                );
                let files = if *what == "sockets" { " $(compgen -f \"${cur}\")" } else { "" };
                let indent = &line[..line.len() - line.trim_start().len()];
                script.push_str(&format!(
                    "{indent}COMPREPLY=($(compgen -W \"{ask}\" -- \"${{cur}}\"){files})\n"
                ));
            }
            _ => script.push_str(&format!("{line}\n")),
        }
    }
    script
}

fn zsh(text: &str) -> String {
    let mut script = String::new();
    for line in text.lines() {
        let option =
            |options: &&str| line.contains(&format!("'{options}")) || line.contains(&format!("){options}"));
        let asked = ASKED
            .iter()
            .find(|(_, options, value)| options.iter().any(option) && line.contains(&format!(":{value}:")));
        let line = match asked {
            Some((what, _, value)) => {
                let (before, after) = line.split_once(&format!(":{value}:")).expect("it was found");
                let (completer, after) = after.split_once('\'').expect("a value has a completer");
                let files = if completer == "_files" { " || _files" } else { "" };
                format!("{before}:{value}:{{_einhyrningsinsctl_ask {what}{files}}}'{after}")
            }
            // With two colons, nothing behind the first such word would be taken for an option.
            None => line.replacen("'*::", "'*:", 1),
        };
        script.push_str(&format!("{line}\n"));
        if line.starts_with("#compdef") {
            script.push_str(ZSH_FUNCTIONS);
        }
    }
    script
}

fn fish(text: &str) -> String {
    let mut script = String::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let has = |options: &&str| {
            let name = options.trim_start_matches('-');
            let flag = if options.starts_with("--") { "-l" } else { "-s" };
            words.windows(2).any(|pair| pair == [flag, name])
        };
        let asked = ASKED.iter().find(|(_, options, _)| options.iter().any(has));
        script.push_str(line);
        if let Some((what, ..)) = asked {
            let files = if *what == "sockets" { "" } else { " -f" };
            script.push_str(&format!(
                "{files} -a '({PROGRAM} __complete {what} -- (commandline -opc)[2..] 2>/dev/null)'"
            ));
        }
        script.push('\n');
    }
    script
}

#[test]
fn the_files_are_those_of_the_command_line() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, name) in [
        (Shell::Bash, "einhyrningsinsctl.bash"),
        (Shell::Zsh, "_einhyrningsinsctl"),
        (Shell::Fish, "einhyrningsinsctl.fish"),
    ] {
        let (path, script) = (directory.join(name), script(shell));
        for (what, ..) in ASKED {
            assert!(
                script.contains(&format!("__complete {what} --")) || script.contains(&format!("_ask {what}")),
                "{name} {what}"
            );
        }
        if env::var("EINHYRNINGSINS_COMPLETIONS").is_ok_and(|value| value == "write") {
            fs::write(&path, &script).expect("a file");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        let hint = "EINHYRNINGSINS_COMPLETIONS=write cargo test -p einhyrningsinsctl completions";
        assert!(found == script, "{name} is not that of the command line; {hint} writes it");
    }
}
