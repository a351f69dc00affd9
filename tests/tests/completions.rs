//! The completions, in the real shells, with a real master.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::process::run;
use tests::{Finished, Master, binaries};

tests::trials! {
    bash_completes_commands_options_and_what_the_master_has,
    fish_completes_commands_options_and_what_the_master_has needs "fish",
    zsh_completes_commands_options_and_what_the_master_has needs "zsh",
    whatever_is_wrong_nothing_is_said,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .join("einhyrningsinsctl/completions")
        .join(name)
}

/// A shell that finds the program by its name.
fn shell(name: &str, script: &str, words: &[&str]) -> Finished {
    let mut command = Command::new(name);
    let programs = binaries::einhyrningsinsctl().parent().expect("a directory").to_owned();
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.display())).env_remove("EINHYRNINGSINS_SOCKET");
    command.args(["-c", script]).args(words);
    run(command)
}

/// What a shell offers behind `line`, by a function of the test that makes it complete.
#[track_caller]
fn assert_completes(offered: impl Fn(&str) -> Vec<String>) {
    let mut master = Master::builder().workers(3).start();
    let socket = master.socket().display().to_string();
    let offered = |line: &str| offered(&format!("einhyrningsinsctl -d {socket} {line}"));
    assert_eq!(offered("histo"), ["history"]);
    assert_eq!(offered("upgrade --cana"), ["--canary"]);
    assert_eq!(offered("signal USR1 --slot "), ["0", "1", "2"]);
    let mut pids = || {
        let mut pids: Vec<_> = master.status().workers.iter().map(|worker| worker.pid.to_string()).collect();
        pids.sort();
        pids
    };
    let mut found = offered("replace --pid ");
    found.sort();
    assert_eq!(found, pids());
    // For programs.
    assert!(!offered("").iter().any(|word| word.contains("__")), "{:?}", offered(""));
    let directory = Path::new(&socket).parent().expect("a directory").display().to_string();
    let found = offered(&format!("status -d {directory}/einhor"));
    assert!(found.iter().any(|word| word.ends_with("einhorn.sock")), "{found:?}");
}

fn words(finished: &Finished) -> Vec<String> {
    finished.assert_code(0);
    finished.stdout.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn bash_completes_commands_options_and_what_the_master_has() {
    let script = r#"source "$0"; read -ra COMP_WORDS <<<"$1"; [[ $1 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$1 COMP_POINT=${#1}
        _einhyrningsinsctl einhyrningsinsctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let file = file("einhyrningsinsctl.bash");
    assert_completes(|line| words(&shell("bash", script, &[&file.display().to_string(), line])));
}

fn fish_completes_commands_options_and_what_the_master_has() {
    let file = file("einhyrningsinsctl.fish").display().to_string();
    let script = "source $argv[1]; complete -C $argv[2]";
    assert_completes(|line| {
        let found = words(&shell("fish", script, &[&file, line]));
        found.iter().map(|line| line.split('\t').next().unwrap_or(line).to_owned()).collect()
    });
}

/// zsh completes on a terminal only: `zpty` is one. Its line editor takes the line from a hook, which is called when it is ready.
fn zsh_completes_commands_options_and_what_the_master_has() {
    let script = r#"
        zmodload zsh/zpty
        export LINE=$1 FOUND=$2
        zpty shell zsh -f -i
        zpty -w shell "PS1= PS2= fpath=(${0:h} \$fpath); autoload -U compinit; compinit -u -D; compdef _einhyrningsinsctl einhyrningsinsctl"
        zpty -w shell 'compadd() { local -a found; builtin compadd -O found "$@"; print -rl -- $found >>$FOUND; builtin compadd "$@" }'
        zpty -w shell 'offer() { BUFFER=$LINE; CURSOR=$#LINE; zle complete-word; BUFFER=; print -r -- do""ne }; zle -N zle-line-init offer'
        zpty -r shell REPLY '*done*'
        zpty -d shell
        cat $2
    "#;
    let file = file("_einhyrningsinsctl").display().to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let found = directory.path().join("found");
    assert_completes(|line| {
        std::fs::write(&found, "").expect("a file");
        let mut found = words(&shell("zsh", script, &[&file, line, &found.display().to_string()]));
        found.sort();
        found.dedup();
        found
    });
}

fn whatever_is_wrong_nothing_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let silent = directory.path().join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).expect("a socket");
    for socket in [directory.path().join("none"), silent, "/".into()] {
        for what in ["slots", "pids"] {
            let mut command = Command::new(binaries::einhyrningsinsctl());
            command.args(["__complete", what, "--", "-d"]).arg(&socket).args(["signal", "--slot", ""]);
            let finished = run(command);
            finished.assert_code(0);
            assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""), "{finished}");
        }
    }
}
