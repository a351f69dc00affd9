//! The client called as `einhornsh`, against a master of ours and against one that speaks as einhorn in Ruby does.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use support::terminal::Terminal;
use support::{Client, Master, answer, greeting, part};

const PROMPT: &str = "> ";

#[test]
fn commands_are_sent_unchanged_and_only_messages_are_shown() {
    let master = Master::once(|mut peer| {
        for expected in [
            json!({ "command": "set_workers", "args": ["8"], "id": 1 }),
            json!({ "command": "signal", "args": ["sigusr1", "te rm"], "id": 2 }),
            json!({ "command": "what", "args": ["--is", "100%"], "id": 3 }),
        ] {
            let request = peer.request().unwrap();
            assert_eq!(request, expected);
            peer.last(&request, true, "done", &json!({ "not": "shown" }));
        }
        assert_eq!(peer.request(), None);
    });
    let client = master.einhornsh(&["-e", "set_workers 8; signal sigusr1 'te rm' ;", "-e", "what --is 100%"]);
    client.finish().expect(0, "done\ndone\ndone\n", "");
    master.finish();
}

#[test]
fn a_percent_sign_is_escaped_as_in_json() {
    let (told, line) = channel();
    let master = Master::once(move |mut peer| {
        told.send(peer.line()).unwrap();
        peer.say("{\"message\":\"done\",\"request_id\":1}\n");
    });
    master.einhornsh(&["-e", "what 100%0A"]).finish().expect(0, "done\n", "");
    let line = line.recv_timeout(support::DEADLINE).expect("no request came");
    assert!(line.contains("[\"100\\u00250A\"]") && line.ends_with("}\n"), "{line}");
}

#[test]
fn a_refusal_is_shown_as_an_answer_and_is_exit_code_1_after_the_rest_was_sent() {
    let master = Master::once(|mut peer| {
        answer(&mut peer, "louder", "Verbosity set to 0");
        let request = peer.expect("upgarde");
        peer.last(&request, false, "Unrecognized command: \"upgarde\"", &Value::Null);
        answer(&mut peer, "quieter", "Verbosity set to 1");
    });
    master.einhornsh(&["-e", "louder; upgarde; quieter"]).finish().expect(
        1,
        "Verbosity set to 0\nUnrecognized command: \"upgarde\"\nVerbosity set to 1\n",
        "",
    );
}

#[test]
fn a_refusal_without_a_message_is_reported() {
    let master = Master::answering(false, "", Value::Null);
    let outcome = master.einhornsh(&["-e", "inc"]).finish();
    outcome.expect(1, "", "einhornsh: inc refused, and the master does not say why\n");
}

#[test]
fn an_answer_without_ok_is_a_success() {
    let master = Master::once(|mut peer| {
        peer.expect("upgrade");
        for message in ["Upgrading smoothly, as commanded", "Launched 11", ""] {
            peer.say(&format!("{}\n", json!({ "message": message, "request_id": 1, "wait": true })));
        }
        peer.say("{\"message\":\"Upgrade done\",\"request_id\":1}\n");
        peer.expect("quieter");
        // Of a release that gives no id back.
        peer.say("{\"message\":\"Verbosity set to 1\"}\n");
    });
    master.einhornsh(&["-e", "upgrade; quieter"]).finish().expect(
        0,
        "Upgrading smoothly, as commanded\nLaunched 11\nUpgrade done\nVerbosity set to 1\n",
        "",
    );
}

#[test]
fn answers_in_escaped_yaml_are_read_with_the_escapes_undone() {
    let master = Master::once(|mut peer| {
        peer.expect("ehlo");
        peer.say(
            "---%0Amessage: |-%0A  Welcome, root! You are speaking to Einhorn Master Process 7%0A  \
             This is Einhorn 0.8.2. 100%25 %250A.%0Arequest_id: 1%0A\n",
        );
        peer.expect("upgrade");
        peer.say("---%0Amessage: Upgrading smoothly, as commanded%0Arequest_id: 2%0Await: true%0A\n");
        peer.say("---%0Amessage: not ours%0Arequest_id: 1%0A\n");
        peer.say("---%0Amessage: 'Upgrade: done'%0Arequest_id: 2%0A\n");
        peer.expect("quieter");
        peer.say("---%0Amessage: Verbosity set to 1%0A\n");
    });
    master.einhornsh(&["-e", "ehlo; upgrade; quieter"]).finish().expect(
        0,
        "Welcome, root! You are speaking to Einhorn Master Process 7\n\
         This is Einhorn 0.8.2. 100% %0A.\nUpgrading smoothly, as commanded\nUpgrade: done\n\
         Verbosity set to 1\n",
        "",
    );
}

#[test]
fn an_upgrade_is_shown_as_it_goes_and_its_failure_is_exit_code_1() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("upgrade");
        peer.progress(&request, "Upgrading smoothly, as commanded", &Value::Null);
        peer.progress(&request, "worker 11 died", &json!({ "event": "died" }));
        peer.last(&request, false, "upgrade to generation 8 failed", &Value::Null);
    });
    let mut client = master.einhornsh(&["-e", "upgrade"]);
    assert_eq!(client.line(), "Upgrading smoothly, as commanded");
    client.finish().expect(1, "worker 11 died\nupgrade to generation 8 failed\n", "");
}

/// Runs einhornsh with `args` where `TMPDIR` is the master's directory.
fn run_by_name(master: &Master, args: &[&str]) -> support::Outcome {
    let mut command = Command::new(master.einhornsh_program());
    Client::spawn(command.args(args).env("TMPDIR", master.directory())).finish()
}

#[test]
fn the_socket_is_found_in_tmpdir_by_name() {
    let greet = || part(|mut peer| answer(&mut peer, "louder", "here"));
    let master = Master::play(vec![greet(), greet(), greet()]);
    let directory = master.directory();
    fs::rename(master.socket(), directory.join("einhorn-web.sock")).unwrap();
    run_by_name(&master, &["-c", "web", "-e", "louder"]).expect(0, "here\n", "");
    run_by_name(&master, &["-e", "louder", "web"]).expect(0, "here\n", "");
    fs::rename(directory.join("einhorn-web.sock"), directory.join("einhorn.sock")).unwrap();
    run_by_name(&master, &["-e", "louder"]).expect(0, "here\n", "");
    master.finish();
}

#[test]
fn without_a_terminal_lines_are_sent_without_a_greeting_up_to_quit() {
    for end in ["quit", "exit", "louder; exit; die"] {
        let master = Master::once(move |mut peer| {
            let request = peer.expect("inc");
            peer.last(&request, false, "no", &Value::Null);
            answer(&mut peer, "dec", "1 -> 0");
            if end.starts_with("louder") {
                answer(&mut peer, "louder", "loud");
            }
            assert_eq!(peer.request(), None);
        });
        let mut client = master.einhornsh(&[]);
        for line in ["inc", "", "dec", end] {
            client.type_line(line);
        }
        let outcome = client.finish();
        let more = if end.starts_with("louder") { "loud\n" } else { "" };
        outcome.expect(1, &format!("no\n1 -> 0\n{more}"), "");
        master.finish();
    }
}

#[test]
fn the_end_of_input_is_the_end() {
    let master = Master::once(|mut peer| {
        answer(&mut peer, "inc", "1 -> 2");
        assert_eq!(peer.request(), None);
    });
    let mut client = master.einhornsh(&[]);
    client.type_line("inc");
    client.finish().expect(0, "1 -> 2\n", "");
    master.finish();
}

#[test]
fn a_mistake_in_the_script_is_exit_code_2_and_nothing_is_sent() {
    let master = Master::once(|mut peer| assert_eq!(peer.request(), None));
    let outcome = master.einhornsh(&["-e", "inc; signal 'USR1"]).finish();
    outcome.expect(2, "", "einhornsh: cannot read \"signal 'USR1\": a quote is not closed\n");
    for args in [&["--json", "-e", "inc"][..], &["web", "inc"]] {
        assert_eq!(master.einhornsh(args).finish().status.code(), Some(2), "for {args:?}");
    }
    // Nobody has connected: this connection is the first.
    drop(UnixStream::connect(master.socket()).unwrap());
    master.finish();
}

#[test]
fn a_line_from_a_pipe_that_cannot_be_read_is_exit_code_2_and_the_end() {
    let master = Master::once(|mut peer| {
        answer(&mut peer, "inc", "1 -> 2");
        assert_eq!(peer.request(), None);
    });
    let mut client = master.einhornsh(&[]);
    for line in ["inc", "dec; signal 'USR1", "die"] {
        client.type_line(line);
    }
    client.finish().expect(2, "1 -> 2\n", "einhornsh: cannot read \"signal 'USR1\": a quote is not closed\n");
    master.finish();
}

#[test]
fn no_master_is_exit_code_3() {
    let master = Master::play(Vec::new());
    master.wait();
    let outcome = master.einhornsh(&["-e", "inc; dec"]).finish();
    let path = master.socket().display().to_string();
    outcome.expect(
        3,
        "",
        &format!(
            "einhornsh: cannot connect to {path}: Connection refused (os error 111)\n  \
             hint: the socket was left behind and no master listens on it; start the master again\n"
        ),
    );
}

#[test]
fn a_master_that_is_lost_is_exit_code_4_and_no_further_command_is_sent() {
    let master = Master::play(vec![
        part(|mut peer| {
            let request = peer.expect("upgrade");
            peer.progress(&request, "begun", &Value::Null);
        }),
        part(|mut peer| assert_eq!(peer.request(), None)),
    ]);
    let path = master.socket().display().to_string();
    master.einhornsh(&["-e", "upgrade; die"]).finish().expect(
        4,
        "begun\n",
        &format!(
            "einhornsh: the master at {path} closed the connection before it answered \"upgrade\"\n  \
             hint: if the master lives, what has begun continues; \"status\", or \"state\" in einhorn itself, shows its \
             progress\n"
        ),
    );
    // Nobody has connected again: this connection is the second.
    drop(UnixStream::connect(master.socket()).unwrap());
    master.finish();
}

#[test]
fn help_and_version_are_those_of_einhornsh() {
    let master = Master::play(Vec::new());
    let run = |args: &[&str]| Client::spawn(Command::new(master.einhornsh_program()).args(args)).finish();
    let version = format!("einhornsh {}\n", env!("CARGO_PKG_VERSION"));
    run(&["--version"]).expect(0, &version, "");
    for help in ["-h", "--help"] {
        let outcome = run(&[help]);
        assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""));
        assert!(outcome.stdout.contains("Usage: einhornsh [OPTIONS] [NAME]\n"), "{}", outcome.stdout);
    }
}

#[test]
fn a_person_is_greeted_completes_a_command_is_refused_and_leaves() {
    let master = Master::play(vec![greeting(|mut peer| {
        let request = peer.expect("set_workers");
        assert_eq!(request["args"], json!(["8"]));
        peer.last(&request, true, "Altering worker count, 4 -> 8.", &Value::Null);
        let request = peer.expect("stauts");
        peer.last(&request, false, "Unrecognized command: \"stauts\"", &Value::Null);
        answer(&mut peer, "help", "You are speaking to the Einhorn command socket.");
        assert_eq!(peer.request(), None);
    })]);
    let mut terminal = Terminal::open(&master, &master.einhornsh_program());
    terminal.await_text("Welcome to web\r\n");
    for (keys, answer) in [
        ("set\t8\r", "Altering worker count, 4 -> 8.\r\n"),
        ("stauts\r", "Unrecognized command: \"stauts\"\r\n"),
        ("signal 'USR1\r", "einhornsh: cannot read \"signal 'USR1\": a quote is not closed\r\n"),
        ("help\r", "You are speaking to the Einhorn command socket.\r\n"),
    ] {
        terminal.await_text(PROMPT);
        terminal.type_keys(keys);
        terminal.await_text(answer);
    }
    terminal.await_text(PROMPT);
    terminal.type_keys("exit\r");
    assert_eq!(terminal.finish().0, Some(0));
    let history = fs::read_to_string(master.directory().join("einhyrningsins/einhornsh_history")).unwrap();
    assert!(history.contains("set_workers 8\n") && history.ends_with("help\nexit\n"), "{history}");
    master.finish();
}

#[test]
fn the_prompt_reports_a_lost_master_and_connects_again() {
    let master = Master::play(vec![
        greeting(|mut peer| drop(peer.expect("reload"))),
        part(|mut peer| answer(&mut peer, "inc", "1 -> 2")),
    ]);
    let mut terminal = Terminal::open(&master, &master.einhornsh_program());
    terminal.await_text(PROMPT);
    terminal.type_keys("reload\r");
    terminal.await_text("closed the connection before it answered \"reload\"\r\n");
    terminal.await_text(
        "hint: the master may have done it anyway; see \"status\", or \"state\" in einhorn itself\r\n",
    );
    terminal.await_text(PROMPT);
    terminal.type_keys("inc\r");
    terminal.await_text("einhornsh: connected again to ");
    terminal.await_text("1 -> 2\r\n");
    terminal.await_text(PROMPT);
    terminal.type_keys("\x04");
    assert_eq!(terminal.finish().0, Some(0));
    master.finish();
}

#[test]
fn the_name_it_is_called_by_counts_rather_than_the_target_of_the_link() {
    let master = Master::answering(true, "done", Value::Null);
    let other = master.directory().join("ctl");
    std::os::unix::fs::symlink(Path::new(support::client_program()), &other).unwrap();
    let socket = master.socket();
    let outcome = Client::spawn(Command::new(other).args(["-d", socket.to_str().unwrap(), "inc"])).finish();
    outcome.expect(0, "done\n", "");
}
