//! What `--json` prints: each line of each command says what it tells of, and whether that was done.

use std::collections::BTreeSet;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use einhorn_proto::COMMANDS;
use serde_json::Value;
use tests::process::run;
use tests::{Finished, Master, Serving, binaries};

use crate::documentation::{block, read};

tests::trials! {
    every_command_says_in_each_line_what_it_tells_of_and_in_the_last_whether_it_was_done,
    a_failure_that_no_master_answered_has_a_line_too,
    no_event_is_called_as_a_command,
}

/// What every line has. To have one of these twice is an error.
#[derive(serde::Deserialize)]
#[expect(dead_code)]
struct Head {
    event: String,
    ok: Option<bool>,
    message: String,
    refused: Option<Value>,
}

/// The names of these.
const HEAD: [&str; 4] = ["event", "ok", "message", "refused"];

/// Arguments for the commands that need some, or that would not end without.
const ARGUMENTS: [(&str, &[&str]); 8] = [
    ("set_workers", &["2"]),
    ("signal", &["CONT"]),
    ("replace", &["--slot", "0"]),
    ("config", &["{signal_timeout: 3}"]),
    ("events", &["--timeout", "0.1"]),
    ("worker:ack", &["1"]),
    ("ehlo", &["me"]),
    ("probe", &["http:/"]),
];

/// The lines, each of which has what every line has.
#[track_caller]
fn lines(finished: &Finished) -> Vec<Value> {
    let lines: Vec<Value> = finished
        .stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<Head>(line).unwrap_or_else(|error| panic!("{error}\n{finished}"));
            serde_json::from_str(line).expect("JSON")
        })
        .collect();
    for line in &lines {
        assert!(line.get("ok").is_some(), "{line}\n{finished}");
    }
    lines
}

/// The last line, which says that `command` was done if the exit code does.
#[track_caller]
fn last(finished: &Finished, command: &str) -> Value {
    let mut lines = lines(finished);
    let last = lines.pop().unwrap_or_else(|| panic!("no line\n{finished}"));
    assert_eq!(last["event"], command, "{finished}");
    assert_eq!(last["ok"], finished.code() == 0, "{finished}");
    for line in lines {
        assert!(line["ok"].is_null(), "{line}\n{finished}");
    }
    last
}

/// The commands that the page lists as those with more fields.
fn documented() -> BTreeSet<String> {
    let page = read("man/einhyrningsinsctl.1");
    let lines = block(&page, ".Sh OUTPUT IN JSON", ".Bl -tag -width set_workers", ".El");
    let names = lines.iter().filter_map(|line| line.strip_prefix(".It Cm "));
    let names =
        names.flat_map(|names| names.split(" , ")).map(|names| names.split(' ').next().unwrap_or(names));
    names.map(str::to_owned).collect()
}

fn every_command_says_in_each_line_what_it_tells_of_and_in_the_last_whether_it_was_done() {
    let mut master = Master::builder().workers(2).options(["-s", "0.01"]).start();
    let arguments = |name: &str| {
        ARGUMENTS.iter().find(|(command, _)| *command == name).map_or(&[][..], |(_, arguments)| arguments)
    };
    let mut with_data = BTreeSet::new();
    let mut done = 0;
    let mut note = |name: &str, line: &Value| {
        let has_more =
            line.as_object().is_some_and(|line| line.keys().any(|key| !HEAD.contains(&key.as_str())));
        if has_more && !name.starts_with("upgrade_") {
            with_data.insert(name.to_owned());
        }
    };
    let typed = COMMANDS.iter().filter(|info| info.is_typed()).map(|info| info.name);
    // The end comes last.
    let mut names: Vec<_> = typed.filter(|name| *name != "die").collect();
    names.push("die");
    for name in names {
        let finished = master.ctl(["--json", name].iter().chain(arguments(name)));
        let line = last(&finished, name);
        note(name, &line);
        done += u32::from(finished.code() == 0);
    }
    master.wait_exit_code(0);
    assert!(done > 15, "{done} commands were done");

    let mut master = Master::builder().workers(2).start();
    let shown = master.ctl(["--json", "config", "--show"]);
    note("config", &last(&shown, "config_show"));
    last(&master.ctl(["--json", "status", "--ready"]), "status");
    last(&master.ctl(["--json", "dec", "9"]), "dec");
    last(&master.ctl(["--json", "help"]), "help");
    last(&master.ctl(["--json", "help", "--master"]), "help");
    let begun = master.ctl(["--json", "upgrade", "--no-wait"]);
    begun.assert_code(0);
    let begun = lines(&begun);
    assert_eq!(
        (begun.len(), &begun[0]["ok"], &begun[0]["event"]),
        (1, &true.into(), &"upgrade_started".into())
    );
    master.wait_status("the end of the upgrade", |status| status.upgrade.is_none());
    let listed = master.ctl(["--json", "list"]);
    listed.assert_code(0);
    let listed = lines(&listed);
    let pid = master.process().pid();
    assert!(listed.iter().any(|line| line["pid"] == pid && line["ok"] == true), "{listed:?}");
    note("list", &listed[0]);
    let address = master.address().to_string();
    note("probe", &last(&master.ctl(["--json", "probe", "http:/", "--addr", &address]), "probe"));
    let serving = Serving::start_with(master.socket(), &["--json"]);
    let line: Value = serde_json::from_str(&serving.output()).expect("one line of JSON");
    assert_eq!((&line["event"], &line["ok"]), (&"serve".into(), &true.into()));
    note("serve", &line);
    note("top", &last(&master.ctl(["--json", "top", "--batch", "--count", "1"]), "top"));
    assert_eq!(with_data, documented());
}

fn a_failure_that_no_master_answered_has_a_line_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let ask = |socket: &Path, words: &[&str], code: i32| {
        let mut command = Command::new(binaries::einhyrningsinsctl());
        command.arg("-d").arg(socket).arg("--json").args(words);
        let finished = run(command);
        finished.assert_code(code);
        let line = last(&finished, words[0]);
        let message = line["message"].as_str().expect("a text");
        assert!(finished.stderr.contains(message), "{finished}");
    };
    ask(&directory.path().join("none"), &["upgrade"], 3);
    let silent = directory.path().join("silent");
    let _listener = UnixListener::bind(&silent).expect("a socket");
    ask(&silent, &["status", "--timeout", "0.1"], 4);
    ask(&silent, &["probe", "http:/", "--addr", "127.0.0.1:1"], 1);
}

fn no_event_is_called_as_a_command() {
    let page = read("man/einhorn-control.7");
    let (_, part) = page.split_once(".Ss Events").expect("a part on events");
    let events: BTreeSet<_> = part.lines().filter_map(|line| line.strip_prefix(".It Li ")).collect();
    assert!(events.len() > 30 && events.contains("spawned"), "{events:?}");
    for info in COMMANDS {
        assert!(!events.contains(info.name), "{} is an event and a command", info.name);
    }
}
