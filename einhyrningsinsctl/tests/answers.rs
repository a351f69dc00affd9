//! What the client makes of answers: standard output, standard error and exit code.

mod support;

use serde_json::{Value, json};

use support::{Client, Master, part};

#[test]
fn success_is_exit_code_0() {
    let master = Master::answering(true, "number of workers 4 -> 6", json!({ "from": 4, "to": 6 }));
    master.client(&["inc", "2"]).finish().expect(0, "number of workers 4 -> 6\n", "");
    master.finish();
}

#[test]
fn a_refusal_goes_to_standard_error_with_exit_code_1() {
    let message = "upgrade refused: generation 8 is still coming up (2 of 4 acked)";
    let master = Master::answering(false, message, Value::Null);
    let outcome = master.client(&["upgrade"]).finish();
    outcome.expect(1, "", &format!("einhyrningsinsctl: {message}\n"));
}

/// The line in JSON for a last reply with data.
fn last(command: &str, ok: bool, message: &str, data: &Value) -> String {
    let data = data.to_string();
    format!(
        "{{\"event\":\"{command}\",\"ok\":{ok},\"message\":\"{message}\",{}",
        data.trim_start_matches('{')
    )
}

#[test]
fn a_refusal_because_another_rollout_runs_is_exit_code_5() {
    let refused = |args: &[&str]| {
        let master = Master::once(|mut peer| {
            peer.expect("upgrade");
            peer.say("{\"message\":\"generation 8 comes up\",\"ok\":false,\"refused\":\"rollout_runs\"}\n");
        });
        master.client(args).finish()
    };
    let stderr = "einhyrningsinsctl: generation 8 comes up\n  hint: \"upgrade --wait\" begins when that has ended; \
                  \"upgrade --follow\" only waits for it\n";
    refused(&["upgrade"]).expect(5, "", stderr);
    let json = "{\"event\":\"upgrade\",\"ok\":false,\"message\":\"generation 8 comes up\",\"refused\":\"rollout_runs\"}\n";
    refused(&["--json", "upgrade"]).expect(5, json, stderr);
    refused(&["-e", "upgrade; inc"]).expect(5, "", stderr);
    let follow = "einhyrningsinsctl: generation 8 comes up\n  hint: \"upgrade --follow\" waits for its end, \"status\" shows \
                  its progress\n";
    refused(&["upgrade", "--wait"]).expect(5, "", follow);
}

#[test]
fn a_refusal_of_what_the_owner_alone_may_do_says_who_may() {
    let stderr = "einhyrningsinsctl: no\n  hint: run this as the user of the master or as root\n";
    let json = "{\"event\":\"inc\",\"ok\":false,\"message\":\"no\",\"refused\":\"owner_only\"}\n";
    for (args, command, stdout) in [
        (&["inc"][..], "inc", ""),
        (&["upgrade"], "upgrade", ""),
        (&["state"], "state", ""),
        (&["--json", "inc"], "inc", json),
    ] {
        let master = Master::once(move |mut peer| {
            peer.expect(command);
            peer.say("{\"message\":\"no\",\"ok\":false,\"refused\":\"owner_only\"}\n");
        });
        master.client(args).finish().expect(1, stdout, stderr);
    }
}

#[test]
fn a_reason_for_a_refusal_that_this_client_does_not_know_is_exit_code_1() {
    let master = Master::once(|mut peer| {
        peer.expect("inc");
        peer.say("{\"message\":\"no\",\"ok\":false,\"refused\":\"moon_is_full\"}\n");
    });
    master.client(&["inc"]).finish().expect(1, "", "einhyrningsinsctl: no\n");
}

#[test]
fn a_reload_shows_its_outcome() {
    for (ok, last, code, stdout, stderr) in [
        (true, "replaced", 0, "checked\nreplaced\n", ""),
        (false, "not reloaded: no", 1, "checked\n", "einhyrningsinsctl: not reloaded: no\n"),
    ] {
        let master = Master::once(move |mut peer| {
            let request = peer.expect("reload");
            peer.progress(&request, "checked", &Value::Null);
            peer.last(&request, ok, last, &Value::Null);
        });
        master.client(&["reload"]).finish().expect(code, stdout, stderr);
    }
}

#[test]
fn arguments_reach_the_master_by_name() {
    let master = Master::once(|mut peer| {
        for expected in [
            json!({ "command": "set_workers", "count": 8, "id": 1 }),
            json!({ "command": "dec", "by": 1, "id": 2 }),
            json!({ "command": "signal", "args": ["USR1", "TERM"], "id": 3 }),
            json!({ "command": "die", "signal": "QUIT", "id": 4 }),
        ] {
            let request = peer.request().unwrap();
            assert_eq!(request, expected);
            peer.last(&request, true, "done", &Value::Null);
        }
    });
    let client = master.client(&["-e", "set_workers 8; dec", "-e", "signal sigusr1 term; die SIGQUIT"]);
    client.finish().expect(0, "done\ndone\ndone\ndone\n", "");
    master.finish();
}

#[test]
fn a_list_of_commands_ends_at_the_first_that_fails() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("inc");
        peer.last(&request, true, "grown", &Value::Null);
        let request = peer.expect("upgrade");
        peer.last(&request, false, "no", &Value::Null);
        assert_eq!(peer.request(), None);
    });
    let outcome = master.client(&["-e", "inc; upgrade; die"]).finish();
    outcome.expect(1, "grown\n", "einhyrningsinsctl: no\n");
    master.finish();
}

#[test]
fn messages_of_several_lines_are_printed_as_such() {
    let master = Master::answering(true, "SIGHUP\nSIGINT\n\tand more\n", Value::Null);
    master.client(&["signal"]).finish().expect(0, "SIGHUP\nSIGINT\n\tand more\n", "");
}

/// Also where there is no terminal: what goes to a file may be shown later.
#[test]
fn what_controls_a_terminal_is_made_visible_on_every_output() {
    let bad = "\u{1b}[2Ja\rb\u{7f}\u{9b}1m\u{202e}c\u{2066}";
    let shown = "\\u{1b}[2Ja\\rb\\u{7f}\\u{9b}1m\\u{202e}c\\u{2066}";
    let master = |ok: bool| Master::answering(ok, bad, Value::Null);
    for command in ["inc", "status", "state", "events"] {
        master(true).client(&[command]).finish().expect(0, &format!("{shown}\n"), "");
    }
    master(false).client(&["inc"]).finish().expect(1, "", &format!("einhyrningsinsctl: {shown}\n"));
    master(true).einhornsh(&["-e", "inc"]).finish().expect(0, &format!("{shown}\n"), "");
    // In JSON the value stays.
    let data = json!({ "text": bad });
    let written =
        r#"{"event":"inc","ok":true,"message":"","text":"\u001b[2Ja\rb\u007f\u009b1m\u202ec\u2066"}"#;
    let answering = |data: &Value| Master::answering(true, "", data.clone());
    answering(&data).client(&["--json", "inc"]).finish().expect(0, &format!("{written}\n"), "");
    let state = answering(&data).client(&["state"]).finish();
    assert!(!state.stdout.contains(['\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}']), "{state:?}");
    assert_eq!(serde_json::from_str::<Value>(&state.stdout).unwrap(), data);
    // clap removes escape sequences itself.
    let outcome = master(true).client(&["\u{1b}[2J\u{202e}"]).finish();
    assert!(outcome.stderr.contains("'\\u{202e}'") && !outcome.stderr.contains('\u{1b}'), "{outcome:?}");
    // Nor does a line that is no reply.
    let garbage = Master::once(|mut peer| {
        peer.expect("status");
        peer.say("\u{1b}[2J\u{202e}\n");
    });
    let outcome = garbage.client(&["status"]).finish();
    assert!(outcome.stderr.contains("\\u{1b}[2J\\u{202e}"), "{outcome:?}");
}

#[test]
fn an_answer_with_neither_ok_nor_wait_is_a_success() {
    let master = Master::once(|mut peer| {
        peer.expect("louder");
        peer.say("{\"message\":\"Welcome to the einhorn\"}\n");
    });
    master.client(&["louder"]).finish().expect(0, "Welcome to the einhorn\n", "");
}

#[test]
fn replies_to_other_requests_are_skipped() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("quieter");
        peer.last(&json!({ "id": 99 }), false, "not yours", &Value::Null);
        peer.last(&json!({ "id": "1" }), false, "nor this", &Value::Null);
        peer.last(&request, true, "yours", &Value::Null);
    });
    master.client(&["quieter"]).finish().expect(0, "yours\n", "");
}

#[test]
fn a_reply_is_read_however_it_is_cut() {
    let master = Master::once(|mut peer| {
        peer.expect("louder");
        for byte in "{\"message\":\"żółw\",\"request_id\":1,\"ok\":true}\r\n".bytes() {
            peer.say_bytes(&[byte]);
        }
    });
    master.client(&["louder"]).finish().expect(0, "żółw\n", "");
}

#[test]
fn a_last_reply_without_its_newline_counts() {
    let master = Master::once(|mut peer| {
        peer.expect("die");
        peer.say("{\"message\":\"bye\",\"request_id\":1,\"ok\":true}");
    });
    master.client(&["die"]).finish().expect(0, "bye\n", "");
}

#[test]
fn a_reply_of_megabytes_is_read() {
    let text = "x".repeat(8 << 20);
    let master = Master::answering(true, &text, Value::Null);
    let outcome = master.client(&["louder"]).finish();
    assert_eq!(outcome.stdout.len(), text.len() + 1);
    assert_eq!(outcome.status.code(), Some(0));
}

#[test]
fn json_has_the_data_as_the_master_wrote_it() {
    let master = Master::once(|mut peer| {
        peer.expect("status");
        peer.say("{\"message\":\"2 up\",\"request_id\":1,\"ok\":true,\"data\":{\"b\":1.50,\"a\":[]}}\n");
    });
    let line = r#"{"event":"status","ok":true,"message":"2 up","b":1.50,"a":[]}"#;
    master.client(&["status", "--json"]).finish().expect(0, &format!("{line}\n"), "");
}

#[test]
fn json_of_a_reply_without_data_is_its_command_and_message_and_ok() {
    let master = Master::answering(true, "log level is now debug", Value::Null);
    let outcome = master.client(&["--json", "louder"]).finish();
    outcome.expect(0, "{\"event\":\"louder\",\"ok\":true,\"message\":\"log level is now debug\"}\n", "");
}

#[test]
fn json_of_a_failure_is_on_standard_output_and_its_message_on_standard_error() {
    let report = json!({ "outcome": "failed", "generation": 8, "upgraded": 0, "wanted": 4,
                         "draining": 0, "took_ms": 7 });
    let printed = last("upgrade", false, "upgrade to generation 8 failed", &report);
    let master = Master::once(move |mut peer| {
        let request = peer.expect("upgrade");
        let notice = json!({ "event": "upgrade_started", "generation": 8, "workers": 4 });
        peer.progress(&request, "upgrade to generation 8 of 4 workers began", &notice);
        peer.last(&request, false, "upgrade to generation 8 failed", &report);
    });
    let outcome = master.client(&["upgrade", "--json"]).finish();
    let started = r#"{"ok":null,"message":"upgrade to generation 8 of 4 workers began","event":"upgrade_started","generation":8,"workers":4}"#;
    outcome.expect(
        1,
        &format!("{started}\n{printed}\n"),
        "einhyrningsinsctl: upgrade to generation 8 failed\n",
    );
}

#[test]
fn the_options_of_an_upgrade_reach_the_master_as_commands_and_fields() {
    let master = Master::once(|mut peer| {
        for expected in [
            json!({ "command": "upgrade", "id": 1 }),
            json!({ "command": "upgrade_fleet", "id": 2 }),
            json!({ "command": "upgrade", "canary": 2, "soak": 1.5, "id": 3 }),
            json!({ "command": "upgrade_continue", "id": 4 }),
            json!({ "command": "upgrade_abort", "id": 5 }),
            json!({ "command": "upgrade_follow", "id": 6 }),
            json!({ "command": "rollback", "id": 7 }),
            json!({ "command": "upgrade_fleet", "wait": true, "keep_master": true, "id": 8 }),
        ] {
            let request = peer.request().unwrap();
            assert_eq!(request, expected);
            peer.last(&request, true, "done", &Value::Null);
        }
    });
    let script = "upgrade; upgrade --fleet; upgrade --canary 2 --soak 1.5; upgrade --continue; \
                  upgrade --abort; upgrade --follow; rollback; upgrade --wait --fleet \
                  --keep-master";
    master.client(&["-e", script]).finish().expect(0, &"done\n".repeat(8), "");
    master.finish();
}

/// A report as the master makes it.
fn report(outcome: &str, upgraded: u32) -> Value {
    json!({ "kind": "upgrade", "outcome": outcome, "generation": 8, "reason": "no good", "upgraded": upgraded,
            "wanted": 4, "draining": 0, "took_ms": 7,
            "death": { "pid": 9, "generation": 8, "reason": "exited with status 1", "age_ms": 4, "acked": false,
                       "stderr_tail": ["cannot read /etc/web.conf", "giving up"] } })
}

#[test]
fn a_failed_upgrade_shows_what_was_done_and_the_last_output_of_the_worker() {
    let words = "  last lines of its standard error:\n  | cannot read /etc/web.conf\n  | giving up\n";
    for (outcome, upgraded, done) in [
        ("rolled_back", 0, "rolled back: no worker runs generation 8"),
        ("failed", 1, "not rolled back; \"status\" shows which worker runs what"),
    ] {
        for command in ["upgrade", "rollback"] {
            let master = Master::answering(false, "it failed: no good", report(outcome, upgraded));
            let stderr = format!("einhyrningsinsctl: it failed: no good\n  {done}\n{words}");
            master.client(&[command]).finish().expect(1, "", &stderr);
        }
    }
}

#[test]
fn the_report_of_an_upgrade_is_shown_as_its_outcome() {
    let shown = |ok: bool, message: &str, outcome: &str| {
        let master = Master::answering(ok, message, report(outcome, 0));
        let outcome = master.client(&["upgrade"]).finish();
        assert_eq!(outcome.status.code(), Some(i32::from(!ok)));
        format!("{}{}", outcome.stdout, outcome.stderr)
    };
    insta::assert_snapshot!(shown(true, "upgrade to generation 8 done in 0.3s", "done"), @r"
    upgrade to generation 8 done in 0.3s
    ");
    insta::assert_snapshot!(shown(false, "upgrade to generation 8 failed: slot 2: no good", "rolled_back"), @r"
    einhyrningsinsctl: upgrade to generation 8 failed: slot 2: no good
      rolled back: no worker runs generation 8
      last lines of its standard error:
      | cannot read /etc/web.conf
      | giving up
    ");
    insta::assert_snapshot!(shown(false, "upgrade to generation 8 failed: slot 2: no good", "failed"), @r#"
    einhyrningsinsctl: upgrade to generation 8 failed: slot 2: no good
      not rolled back; "status" shows which worker runs what
      last lines of its standard error:
      | cannot read /etc/web.conf
      | giving up
    "#);
}

#[test]
fn an_abort_succeeds_when_the_upgrade_is_rolled_back() {
    let master = Master::answering(true, "it failed: an abort was asked for", report("rolled_back", 0));
    let outcome = master.client(&["upgrade", "--abort"]).finish();
    outcome.expect(0, "it failed: an abort was asked for\n", "");
}

#[test]
fn no_wait_returns_at_the_first_line() {
    for (args, command) in [
        (["upgrade", "--no-wait"], "upgrade"),
        (["upgrade_fleet", "--no-wait"], "upgrade_fleet"),
        (["upgrade_continue", "--no-wait"], "upgrade_continue"),
        (["upgrade_abort", "--no-wait"], "upgrade_abort"),
        (["rollback", "--no-wait"], "rollback"),
    ] {
        let master = Master::once(move |mut peer| {
            let request = peer.expect(command);
            peer.progress(&request, "begun", &json!({ "event": "soak_over", "generation": 8 }));
            // The client does not ask for the end, and it does not leave before it has heard of the begin.
            peer.await_end();
        });
        master.client(&args).finish().expect(
            0,
            "begun\nthe upgrade continues in the master: \"upgrade --follow\" waits for its end, \"status\" shows its progress\n",
            "",
        );
        master.finish();
    }
}

#[test]
fn no_wait_shows_a_refusal_or_an_immediate_end() {
    let master = Master::answering(false, "upgrade refused: generation 8 is in its soak", Value::Null);
    let outcome = master.client(&["upgrade", "--no-wait"]).finish();
    outcome.expect(1, "", "einhyrningsinsctl: upgrade refused: generation 8 is in its soak\n");

    let master = Master::answering(true, "upgrade to generation 8 done", Value::Null);
    let outcome = master.client(&["upgrade", "--no-wait"]).finish();
    outcome.expect(0, "upgrade to generation 8 done\n", "");

    // With --json the report says it all, and standard error is for the message.
    let printed = last("upgrade", false, "it failed", &report("rolled_back", 0));
    let master = Master::answering(false, "it failed", report("rolled_back", 0));
    let outcome = master.client(&["upgrade", "--no-wait", "--json"]).finish();
    outcome.expect(1, &format!("{printed}\n"), "einhyrningsinsctl: it failed\n");
}

#[test]
fn no_wait_with_json_prints_the_first_line_and_the_next_command_connects_again() {
    let master = Master::play(vec![
        part(|mut peer| {
            let request = peer.expect("upgrade");
            peer.progress(&request, "begun", &json!({ "event": "soak_over", "generation": 8 }));
            peer.await_end();
        }),
        part(|mut peer| {
            let request = peer.expect("inc");
            peer.last(&request, true, "grown", &Value::Null);
        }),
    ]);
    let outcome = master.client(&["-e", "upgrade --no-wait --json; inc"]).finish();
    let begun = r#"{"ok":true,"message":"begun","event":"soak_over","generation":8}"#;
    outcome.expect(0, &format!("{begun}\ngrown\n"), "");
    master.finish();
}

#[test]
fn an_upgrade_is_shown_step_by_step_in_a_pipe() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("upgrade");
        let notice = json!({ "event": "upgrade_started", "generation": 8, "workers": 1 });
        peer.progress(&request, "upgrade to generation 8 of 1 worker began", &notice);
        let counts = json!({ "kind": "upgrade", "stage": "replacing", "generation": 8, "done": 1, "wanted": 3,
                             "starting": 0, "draining": 0 });
        let acked = json!({ "event": "acked", "slot": 0, "pid": 9, "generation": 8, "source": "notify", "age_ms": 2,
                            "counts": counts });
        peer.progress(&request, "slot 0: worker 9 (generation 8) acked after 2ms", &acked);
        peer.progress(&request, "something of a later version", &json!({ "event": "unheard_of" }));
        peer.last(&request, true, "upgrade to generation 8 done in 0.3s", &Value::Null);
    });
    master.client(&["upgrade"]).finish().expect(
        0,
        "upgrade to generation 8 of 1 worker began\n\
         slot 0: worker 9 (generation 8) acked after 2ms, 1 of 3\n\
         something of a later version\n\
         upgrade to generation 8 done in 0.3s\n",
        "",
    );
}

#[test]
fn status_is_a_table() {
    let status = json!({
        "master": { "pid": 4711, "version": "0.1.0", "state": "running", "age_ms": 61_000, "generation": 1,
                    "command": ["./server"], "directory": "/srv", "socket": "/tmp/einhorn.sock",
                    "wanted": 1, "up": 1, "starting": 0, "draining": 0 },
        "listeners": [{ "index": 0, "fd": 3, "name": "http", "address": "127.0.0.1:8080",
                        "family": "AF_INET", "backlog": 4096 }],
        "slots": [{ "slot": 0, "restarts": 0, "tries": 0 }],
        "workers": [{ "slot": 0, "index": 0, "pid": 4712, "generation": 1, "state": "up",
                      "age_ms": 60_990 }],
    });
    let master = Master::answering(true, "not this", status);
    let outcome = master.client(&["status"]).finish();
    assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""));
    insta::assert_snapshot!(outcome.stdout, @r"
    master    pid 4711, version 0.1.0, running, age 1m01s
    workers   1 of 1 up, generation 1
    runs      ./server
    in        /srv
    control   /tmp/einhorn.sock
    listens   127.0.0.1:8080, fd 3, name http, backlog 4096

    SLOT  INDEX   PID  GEN  STATE    AGE  RSS  CPU  RESTARTS  LAST DEATH
       0      0  4712    1  up     1m00s    -    -         0
    ");
}

#[test]
fn a_status_of_another_type_is_shown_as_its_message() {
    let master = Master::answering(true, "3 workers", json!({ "number": 3 }));
    master.client(&["status"]).finish().expect(0, "3 workers\n", "");
}

#[test]
fn state_is_indented_json() {
    let master = Master::answering(true, "not this", json!({ "workers": [1] }));
    let expected = "{\n  \"workers\": [\n    1\n  ]\n}\n";
    master.client(&["state"]).finish().expect(0, expected, "");
}

#[test]
fn version_shows_client_and_master() {
    let master = Master::answering(true, "einhyrningsins 9.9.9", Value::Null);
    let client = format!("einhyrningsinsctl {} (protocol 3)", env!("CARGO_PKG_VERSION"));
    master.client(&["version"]).finish().expect(0, &format!("{client}\neinhyrningsins 9.9.9\n"), "");
}

#[test]
fn help_needs_no_master_except_for_its_own() {
    let outcome = Client::spawn(std::process::Command::new(support::client_program()).arg("help")).finish();
    assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""));
    assert!(outcome.stdout.contains("--socket-path"), "{}", outcome.stdout);

    let master = Master::answering(true, "commands: status", Value::Null);
    master.client(&["help", "--master"]).finish().expect(0, "commands: status\n", "");
}

#[test]
fn events_succeed_when_the_master_has_announced_its_exit() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("events");
        peer.progress(
            &request,
            "exiting: told to",
            &json!({ "event": "master_exiting", "code": 0, "why": "" }),
        );
    });
    master.client(&["events"]).finish().expect(0, "exiting: told to\n", "");
}

#[test]
fn each_event_is_a_line_of_json() {
    let master = Master::once(|mut peer| {
        let request = peer.expect("events");
        peer.progress(&request, "following events", &Value::Null);
        for from in 1..=2 {
            peer.progress(&request, "text", &json!({ "event": "resized", "from": from, "to": 9 }));
        }
        peer.last(&request, true, "", &Value::Null);
    });
    let outcome = master.client(&["events", "--json"]).finish();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], r#"{"event":"events","ok":null,"message":"following events"}"#);
    assert_eq!(lines[1], r#"{"ok":null,"message":"text","event":"resized","from":1,"to":9}"#);
    assert_eq!(lines[2], r#"{"ok":null,"message":"text","event":"resized","from":2,"to":9}"#);
    assert_eq!(lines[3], r#"{"event":"events","ok":true,"message":""}"#);
    assert_eq!(outcome.status.code(), Some(0));
}

#[test]
fn commands_from_a_pipe_end_at_quit_or_at_the_first_that_fails() {
    for (script, code, stdout, stderr) in [
        ("# resize; die\ninc\n\ninc; quit; die\ndie\n", 0, "done\ndone\n", ""),
        ("inc; inc\nstauts\ninc", 2, "done\ndone\n", "error: unrecognized subcommand 'stauts'\n"),
    ] {
        let master = Master::play(vec![part(|mut peer| {
            while let Some(request) = peer.request() {
                assert_eq!(request["command"], "inc");
                peer.last(&request, true, "done", &Value::Null);
            }
        })]);
        let mut client = master.client(&[]);
        client.type_line(script);
        let outcome = client.finish();
        assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(code), stdout));
        assert!(outcome.stderr.starts_with(stderr) && outcome.stderr.is_empty() == stderr.is_empty());
        master.finish();
    }
}
