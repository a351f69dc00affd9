//! `status --ready`: what a probe makes of the pool.

mod support;

use serde_json::{Value, json};

use support::{Master, Outcome};

/// A pool of one worker for each word: `up`, `starting`, `draining`; or a slot without one: `empty`, `given up`,
/// `waiting`.
fn pool(state: &str, slots: &[&[&str]]) -> Value {
    let (mut table, mut workers) = (Vec::new(), Vec::new());
    for (number, words) in slots.iter().enumerate() {
        let mut slot = json!({ "slot": number, "restarts": 0, "tries": 0 });
        for (index, word) in words.iter().enumerate() {
            match *word {
                "given up" => slot["given_up"] = true.into(),
                "waiting" => slot["next_spawn_ms"] = 1_250.into(),
                state => workers.push(json!({
                    "slot": number, "index": index, "pid": 4712 + index, "generation": 1, "state": state,
                    "age_ms": 1_230,
                })),
            }
        }
        table.push(slot);
    }
    json!({
        "master": { "pid": 4711, "version": "0.1.0", "state": state, "age_ms": 61_000, "generation": 1,
                    "command": ["./server"], "directory": "/srv", "socket": "/tmp/einhorn.sock",
                    "wanted": slots.len(), "up": slots.len(), "starting": 0, "draining": 0 },
        "listeners": [], "slots": table, "workers": workers,
    })
}

fn probe(status: Value) -> Outcome {
    Master::answering(true, "not this", status).client(&["status", "--ready"]).finish()
}

#[test]
fn a_pool_that_serves_in_every_slot_is_ready_and_prints_nothing() {
    probe(pool("running", &[&["up"], &["up"]])).expect(0, "", "");
    // An upgrade: old workers drain, new ones start, and each slot has one that takes traffic.
    let slots = [&["up", "starting"][..], &["draining", "up"]];
    probe(pool("upgrading", &slots)).expect(0, "", "");
}

#[test]
fn an_unready_pool_prints_the_reason() {
    for (status, why) in [
        (pool("stopping", &[&["up"]]), "the master is stopping"),
        (
            pool("starting", &[&["up"], &["starting"]]),
            "1 of 2 slots have a worker up; slot 1: starting for 1.2s",
        ),
        (
            pool("running", &[&["draining"], &["given up"], &["waiting"], &[], &["starting"]]),
            "0 of 5 slots have a worker up; slot 0: empty, slot 1: given up, slot 2: next spawn in 1.2s, 2 more",
        ),
        (json!({ "number": 3 }), "this client cannot read the status of a master of this version"),
    ] {
        probe(status).expect(1, "", &format!("einhyrningsinsctl: not ready: {why}\n"));
    }
}

#[test]
fn with_json_the_status_is_printed_too() {
    for (state, code) in [("running", 0), ("stopping", 1)] {
        let status = pool(state, &[&["up"]]);
        let master = Master::answering(true, "", status.clone());
        let outcome = master.client(&["status", "--ready", "--json"]).finish();
        assert_eq!(outcome.status.code(), Some(code));
        let printed: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(printed["ok"], code == 0, "{printed}");
        assert_eq!(printed["master"], status["master"]);
    }
}

#[test]
fn without_a_master_nothing_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_einhyrningsinsctl"));
    command.arg("-d").arg(directory.path().join("none")).args(["status", "--ready"]);
    assert_eq!(command.output().unwrap().status.code(), Some(3));
}
