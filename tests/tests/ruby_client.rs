//! A worker and a client as they were written for einhorn, with Ruby's own YAML. They are in `servers/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use einhorn_proto::{Language, Reply, Request, RequestId, WorkerState, yaml_scalar};
use serde_json::{Value, json};
use tests::load::Plan;
use tests::process::run_with_input;
use tests::{Finished, Master};

tests::trials! {
    an_einhorn_client_in_ruby_greets_upgrades_and_loads_the_state needs "ruby",
    ruby_loads_the_set_of_signals_that_a_worker_was_sent needs "ruby",
    workers_that_ack_in_yaml_lose_nothing_in_an_upgrade needs "ruby",
    ruby_reads_what_is_written_whichever_way_it_decodes_a_line needs "ruby",
    what_ruby_writes_is_read needs "ruby",
    ruby_reads_json_replies_too needs "ruby",
}

fn script(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/servers")).join(name)
}

fn ruby(name: &str, arguments: &[&Path], input: &str) -> Finished {
    let mut command = Command::new("ruby");
    command.arg(script(name)).args(arguments);
    // Some systems start what they start in this locale, and it is the hardest one.
    command.env("LC_ALL", "C").env_remove("RUBYOPT");
    let finished = run_with_input(command, input);
    finished.assert_code(0);
    finished
}

fn master(workers: u32) -> Master {
    let worker = script("einhorn_worker.rb");
    Master::builder().options(["-c", "ruby"]).workers(workers).program([Path::new("ruby"), &worker]).start()
}

fn an_einhorn_client_in_ruby_greets_upgrades_and_loads_the_state() {
    let mut master = master(1);
    let pid = master.process().pid();
    let seen = ruby("einhorn_session.rb", &[master.socket()], "");
    let seen: Value = serde_json::from_str(&seen.stdout).expect("JSON");

    let welcome = |user: &str| {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "Welcome, {user}! You are speaking to Einhorn Master Process {pid} (ruby).\nThis is Einhorn {version}."
        )
    };
    assert_eq!(seen["ehlo"], json!({ "message": welcome("joe: 100% + more") }));
    assert_eq!(seen["symbols"], json!({ "message": welcome("joe"), "request_id": "abc" }));
    assert_eq!(
        seen["inc"],
        json!({ "message": "Incrementing number of workers from 1 -> 2", "request_id": "7" })
    );
    let unknown = seen["unknown"]["message"].as_str().expect("a message");
    assert!(unknown.starts_with("Unrecognized command: \"nonsense\"\n\n"), "{unknown}");
    assert_eq!(seen["config"], json!({ "message": "number of workers is 2 already" }));

    let upgrade = seen["upgrade"].as_array().expect("replies");
    let (last, progress) = upgrade.split_last().expect("a last reply");
    assert_eq!(progress[0]["message"], "Upgrading smoothly, as commanded");
    assert!(progress.len() > 4 && progress.iter().all(|reply| reply["wait"] == true), "{upgrade:?}");
    assert_eq!(*last, json!({ "message": "Upgrade done", "request_id": "an id" }));

    let status = master.status();
    assert_eq!(seen["same"], true, "the old way and the new way of loading differ");
    let state = &seen["state"]["state"];
    let children = state["children"].as_object().expect("a map of children");
    assert!(children.len() >= 2, "{state}");
    for worker in status.workers.iter().filter(|worker| worker.generation == 2) {
        let child = &children[&worker.pid.to_string()];
        assert_eq!(child["type"], "worker");
        assert_eq!(child["version"], 2);
        assert_eq!(child["acked"], true);
        assert_eq!(child["index"], worker.index);
        assert_eq!(child["pinged_request_id"], "50% + 1");
    }
    assert_eq!(
        seen["classes"],
        json!({
            "type": "Symbol", "version": "Integer", "acked": "TrueClass", "signaled": "Set",
            "last_signaled_at": "NilClass", "index": "Integer", "spinup_time": "Time", "pinged_at": "Time",
            "pinged_request_id": "String",
        })
    );
    assert!((0.0..3600.0).contains(&seen["age"].as_f64().expect("seconds")), "{}", seen["age"]);
    assert_eq!(state["config"]["number"], 2);
    assert_eq!(state["config"]["seconds"], 1.5);
    let address = master.address();
    assert_eq!(state["bind"], json!([["127.0.0.1", address.port(), []]]));
    assert_eq!(state["bound_ports"], json!([address.port()]));
    assert_eq!(state["bind_fds"], json!([3]));
    assert_eq!(state["version"], 2);
    assert_eq!((&state["respawn"], &state["upgrading"]), (&json!(true), &json!(false)));
    assert_eq!(state["cmd"][0], "ruby");
}

fn ruby_loads_the_set_of_signals_that_a_worker_was_sent() {
    let mut master = Master::builder().workers(2).serve(["ignore_stop"]).start();
    assert_eq!(master.control().ask("dec", &[]).ok, Some(true));
    let draining = master.wait_worker("one that drains", |worker| worker.state == WorkerState::Draining);
    let told = ruby("einhorn_state.rb", &[master.socket()], "");
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!((&told[0][0], &told[0][1]), (&json!(draining.pid), &json!(["USR2"])), "{told}");
    assert!((0.0..3600.0).contains(&told[0][2].as_f64().expect("seconds")), "{told}");
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
}

fn workers_that_ack_in_yaml_lose_nothing_in_an_upgrade() {
    let mut master = master(2);
    let load = Plan { keep_alive: 0, ..Plan::new(master.address()) }.start();
    load.wait_for_answers(50);
    master.upgrade();
    load.wait_for_answers(50);
    let report = load.stop();
    report.assert_nothing_lost();
    assert_eq!(report.generations(), [1, 2].into(), "{report}");
}

/// Strings that a writer of YAML can get wrong.
fn texts() -> Vec<String> {
    let words = [
        "",
        " ",
        " a",
        "a ",
        "a\n",
        "\na",
        "a: b",
        "a:",
        ":a",
        "a #b",
        "- a",
        "-",
        "---",
        "...",
        "? a",
        "[a]",
        "{a}",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "%41",
        "%",
        "%25",
        "100%",
        "%0A",
        "+",
        "1+1",
        "@",
        "`",
        "\"",
        "'",
        "\\",
        "\\n",
        "~",
        "null",
        "Null",
        "yes",
        "No",
        "on",
        "off",
        "y",
        "n",
        "true",
        "FALSE",
        "1",
        "1.0",
        "1e3",
        "0x1F",
        "017",
        "0o17",
        "1_000",
        "1:30",
        ".inf",
        ".nan",
        "-.INF",
        "2026-11-22",
        "2026-11-22T08:35:29Z",
        "<<",
        "=",
        ",",
        "a, b",
        "\t",
        "\r\n",
        "\u{0}",
        "\u{7}\u{1b}[31m",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{FEFF}",
        "é",
        "語",
        "\u{1F600}",
        "\u{FFFD}",
        "\u{10FFFF}",
        "Upgrade done",
        "a\n\n b\n",
        "(a) b; c/d.e_f-g'h",
    ];
    let mut texts: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    texts.extend((0..0x250).filter_map(char::from_u32).map(|character| format!("x{character}y")));
    texts
}

fn ruby_reads_what_is_written_whichever_way_it_decodes_a_line() {
    let texts = texts();
    let mut input = Vec::new();
    for text in &texts {
        Reply::<()>::progress(Some(RequestId::Text(text.clone())), text, None)
            .write_in(Language::Yaml, &mut input);
        assert!(!yaml_scalar(text).contains('\n'));
    }
    let input = String::from_utf8(input).expect("ASCII");
    let read = ruby("einhorn_reader.rb", &[], &input);
    let read: Vec<Value> =
        read.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(read.len(), texts.len());
    for (text, read) in texts.iter().zip(read) {
        let expected = json!({ "message": text, "request_id": text, "wait": true });
        assert_eq!(read, json!([expected]), "for {text:?}");
    }
}

fn what_ruby_writes_is_read() {
    let texts = texts();
    let input: String = texts.iter().map(|text| format!("{}\n", json!(text))).collect();
    let written = ruby("einhorn_writer.rb", &[], &input).stdout;
    let lines: Vec<_> = written.lines().collect();
    assert_eq!(lines.len(), 2 * texts.len());
    for (line, text) in lines.iter().zip(texts.iter().flat_map(|text| [text, text])) {
        let (language, request) = Request::from_line(line.as_bytes());
        let request = request.unwrap_or_else(|error| panic!("{text:?} comes as {line}: {error}"));
        let expected = Request {
            id: Some(RequestId::Text(text.clone())),
            command: einhorn_proto::Command::Ehlo { user: Some(text.clone()) },
        };
        assert_eq!((language, request), (Language::Yaml, expected), "{text:?} comes as {line}");
    }
}

fn ruby_reads_json_replies_too() {
    let mut input = Vec::new();
    let message = "100% + more: \"quoted\"\n";
    Reply::last(Some(1.into()), true, message, Some(json!({ "a": "%0A+" })))
        .write_in(Language::Json, &mut input);
    let read = ruby("einhorn_reader.rb", &[], &String::from_utf8(input).expect("UTF-8"));
    let read: Value = serde_json::from_str(&read.stdout).expect("JSON");
    let expected = json!({ "message": message, "request_id": 1, "ok": true, "data": { "a": "%0A+" } });
    assert_eq!(read, json!([expected]));
}
