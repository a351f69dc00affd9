//! The prompt, on a real terminal: a pseudo-terminal that the client has as its own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use support::terminal::Terminal;
use support::{Master, answer, client_program, greeting, part};

const PROMPT: &str = "einhyrningsins> ";

#[test]
fn a_person_is_greeted_completes_a_command_and_leaves() {
    let master = Master::play(vec![greeting(|mut peer| {
        answer(&mut peer, "set_workers", "number of workers 4 -> 8");
        assert_eq!(peer.request(), None);
    })]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text("Welcome to web\r\n");
    terminal.await_text(PROMPT);
    terminal.type_keys("set\t8\r");
    terminal.await_text("number of workers 4 -> 8\r\n");
    terminal.await_text(PROMPT);
    terminal.type_keys("quit\r");
    assert_eq!(terminal.finish().0, Some(0));
    let history = master.directory().join("einhyrningsins/history");
    assert_eq!(lines_of(&history)[1..], ["set_workers 8", "quit"]);
    assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    master.finish();
}

fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_prompt_outlives_mistakes_and_refusals() {
    let master = Master::play(vec![greeting(|mut peer| {
        let request = peer.expect("inc");
        peer.last(&request, false, "inc refused: the master is stopping", &Value::Null);
        answer(&mut peer, "louder", "log level is now debug");
    })]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    for (line, answer) in [
        ("stauts", "unrecognized subcommand 'stauts'"),
        ("signal 'USR1", "a quote is not closed"),
        ("help", "set_workers COUNT"),
        ("inc; die", "einhyrningsinsctl: inc refused: the master is stopping"),
        ("louder", "log level is now debug"),
    ] {
        terminal.await_text(PROMPT);
        terminal.type_keys(&format!("{line}\r"));
        terminal.await_text(answer);
    }
    terminal.await_text(PROMPT);
    terminal.type_keys("\x04");
    let (code, shown) = terminal.finish();
    assert_eq!(code, Some(0));
    assert!(!shown.contains("try '--help'"), "{shown}");
}

#[test]
fn a_pool_that_is_ready_says_so_at_the_prompt_and_q_leaves() {
    let status = json!({ "master": { "pid": 7, "version": "0.1.0", "state": "running", "age_ms": 1, "generation": 1,
                                     "command": ["x"], "directory": "/", "socket": "/x", "wanted": 0, "up": 0,
                                     "starting": 0, "draining": 0 },
                         "listeners": [], "slots": [], "workers": [] });
    let master = Master::play(vec![greeting(move |mut peer| {
        let request = peer.expect("status");
        peer.last(&request, true, "", &status);
        assert_eq!(peer.request(), None);
    })]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text(PROMPT);
    terminal.type_keys("status --ready\r");
    terminal.await_text("\nready\r\n");
    terminal.await_text(PROMPT);
    terminal.type_keys("q\r");
    assert_eq!(terminal.finish().0, Some(0));
    master.finish();
}

#[test]
fn ctrl_c_returns_to_the_prompt_and_says_that_the_upgrade_continues() {
    let master = Master::play(vec![
        greeting(|mut peer| {
            let request = peer.expect("upgrade");
            let notice = json!({ "event": "upgrade_started", "kind": "upgrade", "generation": 8, "workers": 3,
                                 "counts": counts("replacing", 0, 3) });
            peer.progress(&request, "upgrade to generation 8 of 3 workers began", &notice);
            peer.await_end();
        }),
        part(|mut peer| answer(&mut peer, "louder", "log level is now debug")),
    ]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text(PROMPT);
    terminal.type_keys("upgrade\r");
    terminal.await_text("generation 8 [....................] 0/3 acked");
    terminal.type_keys("\x03");
    terminal.await_text("interrupted while the master works on \"upgrade\"\r\n");
    terminal.await_text("hint: what has begun continues in the master: ");
    terminal.await_text(PROMPT);
    // At the prompt it is a key like any other, and leaves the line.
    terminal.type_keys("die\x03");
    terminal.await_text(PROMPT);
    // As if pressed in the moment between an answer and the prompt.
    terminal.signal(Signal::SIGINT);
    terminal.type_keys("louder\r");
    let before = terminal.skip_to("log level is now debug\r\n");
    assert!(!before.contains("connected again"), "nothing was lost: {before}");
    terminal.await_text(PROMPT);
    terminal.type_keys("exit\r");
    assert_eq!(terminal.finish().0, Some(0));
    master.finish();
}

/// How far an upgrade to generation 8 is.
fn counts(stage: &str, done: u32, wanted: u32) -> Value {
    json!({ "kind": "upgrade", "stage": stage, "generation": 8, "done": done, "wanted": wanted,
            "starting": 0, "draining": 0 })
}

fn with_counts(mut notice: Value, counts: Value) -> Value {
    notice["counts"] = counts;
    notice
}

#[test]
fn the_live_line_of_a_master_that_sends_no_counts_is_its_last_message() {
    let master = Master::play(vec![greeting(|mut peer| {
        let request = peer.expect("upgrade");
        let started = json!({ "event": "upgrade_started", "kind": "upgrade", "generation": 8, "workers": 2 });
        peer.progress(&request, "upgrade to generation 8 of 2 workers began", &started);
        peer.progress(&request, "slot 1: given up", &json!({ "event": "given_up", "slot": 1, "tries": 3 }));
        peer.last(&request, true, "upgrade to generation 8 done", &Value::Null);
    })]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text(PROMPT);
    terminal.type_keys("upgrade\r");
    let shown = terminal.skip_to("upgrade to generation 8 done\r\n");
    let (began, clear) = ("\rupgrade to generation 8 of 2 workers began\x1b[K", "\r\x1b[K");
    assert!(shown.ends_with(&format!("{began}{clear}slot 1: given up\r\n")), "{shown:?}");
    terminal.await_text(PROMPT);
    terminal.type_keys("quit\r");
    terminal.finish();
}

/// What was drawn, with a live line that is no second old, as it is unless the machine is busy.
fn ageless(shown: &str) -> String {
    (1..10).fold(shown.to_owned(), |shown, age| shown.replace(&format!("/2 acked, {age}s"), "/2 acked, 0s"))
}

#[test]
fn an_upgrade_is_one_live_line_with_failures_above_it() {
    let master = Master::play(vec![greeting(|mut peer| {
        let request = peer.expect("upgrade");
        for (done, notice) in [
            (0, json!({ "event": "upgrade_started", "kind": "upgrade", "generation": 8, "workers": 2 })),
            (0, json!({ "event": "status_text", "slot": 0, "pid": 9, "text": "of no account here" })),
            (0, json!({ "event": "given_up", "slot": 1, "tries": 3 })),
            (
                1,
                json!({ "event": "acked", "slot": 0, "pid": 9, "generation": 8, "source": "notify", "age_ms": 2 }),
            ),
        ] {
            let message = format!("step {}", notice["event"]);
            peer.progress(&request, &message, &with_counts(notice, counts("replacing", done, 2)));
        }
        peer.last(&request, true, "upgrade to generation 8 done", &Value::Null);
    })]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text(PROMPT);
    terminal.type_keys("upgrade\r");
    let shown = ageless(&terminal.skip_to("upgrade to generation 8 done\r\n"));
    let empty = "\rgeneration 8 [....................] 0/2 acked, 0s\x1b[K";
    let half = "\rgeneration 8 [##########..........] 1/2 acked, 0s\x1b[K";
    let clear = "\r\x1b[K";
    let failure = "step \"given_up\"\r\n";
    let expected = format!("{empty}{clear}{failure}{empty}{half}{clear}");
    assert!(shown.ends_with(&expected), "{shown:?}");
    assert_eq!(shown.matches("0/2 acked").count(), 2, "drawn though nothing changed: {shown:?}");
    terminal.await_text(PROMPT);
    terminal.type_keys("quit\r");
    terminal.finish();
}

#[test]
fn the_live_line_shows_a_joined_upgrade_and_its_rollback() {
    let master = Master::play(vec![greeting(|mut peer| {
        let request = peer.expect("upgrade_follow");
        for (stage, notice) in [
            (
                "replacing",
                json!({ "event": "upgrade_joined", "kind": "upgrade", "stage": "replacing", "generation": 8,
                                  "from": 7, "upgraded": 1, "wanted": 2, "starting": 0, "age_ms": 2 }),
            ),
            ("soaking", json!({ "event": "soak_started", "generation": 8, "workers": 1, "soak_ms": 30_000 })),
            (
                "rolling_back",
                json!({ "event": "rollback_started", "kind": "upgrade", "generation": 8, "reason": "no good" }),
            ),
        ] {
            let message = format!("step {}", notice["event"]);
            peer.progress(&request, &message, &with_counts(notice, counts(stage, 1, 2)));
        }
        peer.last(&request, false, "upgrade to generation 8 failed", &Value::Null);
    })]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text(PROMPT);
    terminal.type_keys("upgrade --follow\r");
    let shown = ageless(&terminal.skip_to("einhyrningsinsctl: upgrade to generation 8 failed\r\n"));
    let clear = "\r\x1b[K";
    let half = "\rgeneration 8 [##########..........] 1/2 acked, 0s\x1b[K";
    let soaking = "\rgeneration 8 [##########..........] 1/2 acked, 0s, soaking\x1b[K";
    let back = "\rrolling back [##########..........] 1/2, 0s\x1b[K";
    let expected = format!(
        "step \"upgrade_joined\"\r\n{half}{clear}step \"soak_started\"\r\n{soaking}{clear}\
         step \"rollback_started\"\r\n{back}{clear}"
    );
    assert!(shown.ends_with(&expected), "{shown:?}");
    terminal.await_text(PROMPT);
    terminal.type_keys("quit\r");
    terminal.finish();
}

#[test]
fn a_lost_master_is_reported_and_connected_to_again() {
    let master = Master::play(vec![greeting(|mut peer| answer(&mut peer, "die", "stopping"))]);
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text(PROMPT);
    terminal.type_keys("die\r");
    terminal.await_text("stopping\r\n");
    terminal.await_text(PROMPT);
    let socket = master.socket();
    master.wait();
    terminal.type_keys("inc\r");
    terminal.await_text(&format!("cannot connect to {}: Connection refused", socket.display()));
    terminal.await_text(PROMPT);
    let master = master.play_again(vec![part(|mut peer| answer(&mut peer, "inc", "grown"))]);
    terminal.type_keys("inc\r");
    terminal.await_text(&format!("connected again to {}\r\n", socket.display()));
    terminal.await_text("grown\r\n");
    terminal.await_text(PROMPT);
    terminal.type_keys("quit\r");
    assert_eq!(terminal.finish().0, Some(0));
    master.finish();
}

#[test]
fn a_prompt_without_a_master_is_exit_code_3() {
    let master = Master::play(Vec::new());
    master.wait();
    let (code, shown) = Terminal::open(&master, Path::new(client_program())).finish();
    assert_eq!(code, Some(3));
    assert!(shown.contains("cannot connect to") && !shown.contains(PROMPT), "{shown}");
}

#[test]
fn a_history_that_cannot_be_kept_is_reported_once() {
    let master = Master::play(vec![greeting(|mut peer| {
        answer(&mut peer, "inc", "grown");
        answer(&mut peer, "dec", "shrunk");
    })]);
    fs::write(master.directory().join("einhyrningsins"), "a file where a directory should be").unwrap();
    let mut terminal = Terminal::open(&master, Path::new(client_program()));
    terminal.await_text(PROMPT);
    terminal.type_keys("inc\r");
    terminal.await_text("no history is kept in ");
    terminal.await_text("grown\r\n");
    terminal.await_text(PROMPT);
    terminal.type_keys("dec\r");
    let shown = terminal.skip_to("shrunk\r\n");
    assert!(!shown.contains("no history"), "{shown}");
    terminal.await_text(PROMPT);
    terminal.type_keys("quit\r");
    assert_eq!(terminal.finish().0, Some(0));
}
