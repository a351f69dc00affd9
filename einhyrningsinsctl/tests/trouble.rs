//! No master, broken connections, time that is up, and users and readers that leave.

mod support;

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use support::{Client, DEADLINE, Master, Outcome, client_program, code_and_stderr, part};

const UPGRADE_HINT: &str = "  hint: what has begun continues in the master: \"upgrade --follow\" waits for its end, \
                            \"status\" shows its progress\n";

const CLOSED_HINT: &str = "  hint: if the master lives, what has begun continues: \"upgrade --follow\" waits for its end, \
                           \"status\" shows its progress\n";

fn run(args: &[&str]) -> Outcome {
    Client::spawn(Command::new(client_program()).args(args)).finish()
}

#[test]
fn no_master_is_exit_code_3_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("einhorn.sock");
    let path = socket.to_str().unwrap();
    run(&["-d", path, "status"]).expect(
        3,
        "",
        &format!(
            "einhyrningsinsctl: cannot connect to {path}: No such file or directory (os error 2)\n  \
             hint: is the master running? give -d PATH or -c NAME as it was started with\n"
        ),
    );
    drop(UnixListener::bind(&socket).unwrap());
    run(&["-d", path, "status"]).expect(
        3,
        "",
        &format!(
            "einhyrningsinsctl: cannot connect to {path}: Connection refused (os error 111)\n  \
             hint: the socket was left behind and no master listens on it; start the master again\n"
        ),
    );
}

#[test]
fn what_is_no_socket_is_named_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let outcome = run(&["-d", path, "status"]);
    assert_eq!(outcome.status.code(), Some(3));
    assert!(
        outcome.stderr.ends_with("hint: that is a directory; the control socket is a file in one\n"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn each_message_ends_its_line() {
    for line in ["inc 0", "stauts", "signal USR1 17", "upgrade --soak x"] {
        let stderr = run(&["-e", line]).stderr;
        assert!(stderr.ends_with('\n') && !stderr.ends_with("\n\n"), "{line}: {stderr:?}");
    }
}

#[test]
fn a_script_on_standard_input_names_the_line_of_its_error() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("inc");
        peer.last(&request, true, "grown", &Value::Null);
    });
    let mut client = master.client(&[]);
    client.type_line("inc");
    client.type_line("# nothing");
    client.type_line("stauts");
    let outcome = client.finish();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(2), "grown\n"));
    let stderr = outcome.stderr;
    assert!(
        stderr.starts_with("error: unrecognized subcommand 'stauts'\n") && !stderr.contains("--help"),
        "{stderr}"
    );
    assert!(stderr.ends_with("\neinhyrningsinsctl: stopped at line 3 of standard input\n"), "{stderr}");
}

#[test]
fn bad_usage_is_exit_code_2_and_nothing_is_sent() {
    let master = Master::once(|mut peer| assert_eq!(peer.request(), None));
    for args in [
        &["-e", "inc; stauts"][..],
        &["-e", "inc; signal 'USR1"],
        &["stauts"],
        &["-e", "inc", "inc"],
        &["upgrade", "--abort", "--fleet"],
    ] {
        let outcome = master.client(args).finish();
        assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert_ne!(outcome.stderr, "");
    }
    // Nobody has connected: this connection is the first.
    drop(UnixStream::connect(master.socket()).unwrap());
    master.finish();
}

#[test]
fn a_master_that_hangs_up_before_its_answer_is_exit_code_4() {
    for (command, hint) in [
        ("status", ""),
        ("inc", "  hint: the master may have done it anyway; see \"status\"\n"),
        ("upgrade", CLOSED_HINT),
        ("rollback", CLOSED_HINT),
    ] {
        let master = Master::once(move |mut peer| {
            let request = peer.expect(command);
            peer.progress(&request, "begun", &Value::Null);
        });
        let path = master.socket().display().to_string();
        let outcome = master.client(&[command]).finish();
        assert_eq!(outcome.status.code(), Some(4));
        assert_eq!(
            outcome.stderr,
            format!(
                "einhyrningsinsctl: the master at {path} closed the connection before it answered \
                 \"{command}\"\n{hint}"
            )
        );
    }
}

#[test]
fn die_waits_for_the_end_of_the_master_if_it_is_asked_to() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("die");
        peer.last(&request, true, "stopping", &Value::Null);
    });
    master.client(&["die", "--wait"]).finish().expect(0, "stopping\n", "");
    let master = Master::once(|mut peer| {
        let request = peer.expect("die");
        peer.last(&request, true, "stopping", &Value::Null);
        peer.await_end();
    });
    let outcome = master.client(&["die", "--wait", "--timeout", "0.2s"]).finish();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(4), "stopping\n"));
    assert!(outcome.stderr.contains("no answer to \"die\""), "{}", outcome.stderr);
}

#[test]
fn events_that_break_off_are_exit_code_4() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("events");
        peer.progress(&request, "something", &json!({ "event": "resized", "from": 1, "to": 2 }));
    });
    let outcome = master.client(&["events"]).finish();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(4), "something\n"));
}

#[test]
fn an_unreadable_answer_is_exit_code_4() {
    for (line, why) in [
        ("HTTP/1.1 400 Bad Request", "expected struct Reply"),
        ("{\"message\":", "EOF while parsing a value at line 1 column 11"),
        ("---%0Amessage: 'hi%0A", "line 2, column 10: "),
    ] {
        let master = Master::once(move |mut peer| {
            peer.expect("status");
            peer.say(&format!("{line}\n"));
        });
        let outcome = master.client(&["status"]).finish();
        assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(4), ""), "for {line}");
        let start = format!("\"{line}\" is no reply: ");
        assert!(outcome.stderr.contains(&start) && outcome.stderr.contains(why), "{}", outcome.stderr);
    }
}

#[test]
fn the_message_of_a_master_that_refuses_the_connection_is_shown() {
    let master = Master::once(|mut peer| peer.say("{\"message\":\"too many clients\",\"ok\":false}\n"));
    master.client(&["inc"]).finish().expect(1, "", "einhyrningsinsctl: too many clients\n");
}

#[test]
fn a_passed_timeout_is_exit_code_4() {
    let master = Master::once(|mut peer| {
        peer.expect("status");
        peer.await_end();
    });
    let path = master.socket().display().to_string();
    let outcome = master.client(&["status", "--timeout", "0.25"]).finish();
    outcome.expect(4, "", &format!("einhyrningsinsctl: no answer to \"status\" from {path} within 0.25s\n"));
    master.finish();
}

#[test]
fn the_timeout_covers_the_whole_answer() {
    let master = Master::once(|mut peer| {
        peer.expect("upgrade");
        while peer.try_say("{\"message\":\".\",\"request_id\":1,\"wait\":true}\n") {}
    });
    let outcome = master.client(&["upgrade", "--timeout", "0.25"]).finish();
    assert_eq!(outcome.status.code(), Some(4));
    assert!(
        outcome.stderr.contains("within 0.25s\n  hint: what has begun continues in"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn the_timeout_covers_a_master_too_busy_to_accept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    // A queue of none holds one.
    let _first = UnixStream::connect(&path).unwrap();
    let path = path.to_str().unwrap();
    run(&["-d", path, "--timeout", "0.25", "status"]).expect(
        4,
        "",
        &format!("einhyrningsinsctl: no answer to \"status\" from {path} within 0.25s\n"),
    );
}

#[test]
fn a_master_that_was_lost_between_commands_is_connected_to_again() {
    let (told, is_gone) = channel();
    let answer = |mut peer: support::Peer| {
        let request = peer.expect("inc");
        peer.last(&request, true, "done", &Value::Null);
    };
    let master = Master::play(vec![
        part(move |peer| {
            answer(peer);
            told.send(()).unwrap();
        }),
        part(answer),
    ]);
    let mut client = master.client(&[]);
    client.type_line("inc");
    assert_eq!(client.line(), "done");
    is_gone.recv_timeout(DEADLINE).unwrap();
    client.type_line("inc");
    let path = master.socket().display().to_string();
    client.finish().expect(0, "done\n", &format!("einhyrningsinsctl: connected again to {path}\n"));
    master.finish();
}

#[test]
fn a_command_that_the_master_has_read_is_not_sent_again() {
    let master = Master::play(vec![
        part(|mut peer| {
            let request = peer.expect("inc");
            peer.last(&request, true, "done", &Value::Null);
            peer.expect("upgrade");
        }),
        part(|mut peer| assert_eq!(peer.request(), None)),
    ]);
    let outcome = master.client(&["-e", "inc; upgrade"]).finish();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(4), "done\n"));
    // Nobody has connected again: this connection is the second.
    drop(UnixStream::connect(master.socket()).unwrap());
    master.finish();
}

/// A client that got SIGINT while the master was at `command`.
fn interrupted(command: &'static str) -> (Client, Master) {
    let master = Master::once(move |mut peer| {
        let request = peer.expect(command);
        peer.progress(
            &request,
            "begun",
            &json!({ "event": "upgrade_started", "generation": 2, "workers": 1 }),
        );
        peer.await_end();
    });
    let mut client = master.client(&[command]);
    assert_eq!(client.line(), "begun");
    client.signal(Signal::SIGINT);
    (client, master)
}

#[test]
fn ctrl_c_ends_the_client_by_the_signal_and_says_that_the_upgrade_continues() {
    let (client, master) = interrupted("upgrade");
    let outcome = client.finish();
    assert_eq!(outcome.status.signal(), Some(Signal::SIGINT as i32));
    assert_eq!(
        outcome.stderr,
        format!("einhyrningsinsctl: interrupted while the master works on \"upgrade\"\n{UPGRADE_HINT}")
    );
    master.finish();
}

#[test]
fn ctrl_c_ends_events_silently() {
    let (client, master) = interrupted("events");
    let outcome = client.finish();
    assert_eq!((outcome.status.signal(), outcome.stderr.as_str()), (Some(Signal::SIGINT as i32), ""));
    master.finish();
}

#[test]
fn a_sigint_that_was_ignored_at_the_start_stays_ignored() {
    let (go, is_signalled) = channel();
    let master = Master::once(move |mut peer| {
        let request = peer.expect("upgrade");
        peer.progress(&request, "begun", &Value::Null);
        is_signalled.recv_timeout(DEADLINE).unwrap();
        peer.last(&request, true, "done", &Value::Null);
    });
    let script = "trap '' INT; exec \"$0\" -d \"$1\" upgrade";
    let socket = master.socket();
    let mut client =
        Client::spawn(Command::new("sh").args(["-c", script, client_program(), socket.to_str().unwrap()]));
    assert_eq!(client.line(), "begun");
    client.signal(Signal::SIGINT);
    go.send(()).unwrap();
    client.finish().expect(0, "done\n", "");
}

#[test]
fn a_reader_that_leaves_ends_the_client_quietly_though_nothing_happens() {
    let (told, is_begun) = channel();
    let master = Master::once(move |mut peer| {
        peer.expect("events");
        told.send(()).unwrap();
        peer.await_end();
    });
    let mut child = Command::new(client_program())
        .args(["-d", master.socket().to_str().unwrap(), "events"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    is_begun.recv_timeout(DEADLINE).unwrap();
    drop(child.stdout.take());
    master.finish();
    assert_eq!(code_and_stderr(child), (Some(141), String::new()));
}

#[test]
fn a_reader_that_has_gone_before_the_answer_ends_the_client_quietly() {
    let master = Master::answering(true, "done", Value::Null);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let client = Command::new(client_program())
        .args(["-d", master.socket().to_str().unwrap(), "inc"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(code_and_stderr(client), (Some(141), String::new()));
}

#[test]
fn output_that_cannot_be_written_is_exit_code_1() {
    let master = Master::answering(true, "done", Value::Null);
    let client = Command::new(client_program())
        .args(["-d", master.socket().to_str().unwrap(), "inc"])
        .stdin(Stdio::null())
        .stdout(fs::File::options().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let message = "einhyrningsinsctl: cannot write the output: No space left on device (os error 28)\n";
    assert_eq!(code_and_stderr(client), (Some(1), message.to_owned()));
}
