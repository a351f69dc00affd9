use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;

use einhorn_proto::Notice;
use serde_json::{Value, json};

use super::*;

/// How long anything may take before the test is called hung.
const DEADLINE: Duration = Duration::from_secs(30);

/// A master at a socket, which answers as many requests as there are `answers`, on one connection for each of its lists.
fn master(path: &Path, connections: Vec<Vec<Value>>) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for answers in connections {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            for answer in answers {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let request: Value = serde_json::from_str(&line).unwrap();
                say(reader.get_mut(), &request, &answer);
            }
        }
    })
}

fn say(stream: &mut UnixStream, request: &Value, answer: &Value) {
    let mut reply = answer.clone();
    reply["request_id"] = request["id"].clone();
    writeln!(stream, "{reply}").unwrap();
}

/// The answer of a master of this age, with this process as its worker.
fn status(pid: u32, age_ms: u64) -> Value {
    let me = procfs::process::Process::myself().unwrap().stat().unwrap();
    let worker = json!({ "slot": 0, "index": 0, "pid": me.pid, "start_ticks": me.starttime, "generation": 1,
                         "state": "up", "age_ms": 5 });
    let status = json!({
        "master": { "pid": pid, "version": "0.1.0", "state": "running", "age_ms": age_ms, "generation": 1,
                    "command": ["app"], "directory": "/", "socket": "/s", "wanted": 1, "up": 1, "starting": 0,
                    "draining": 0 },
        "listeners": [], "slots": [], "workers": [worker, { "slot": 1, "index": 1, "pid": 1, "start_ticks": 1,
                                                            "generation": 1, "state": "up", "age_ms": 5 }],
    });
    json!({ "message": "", "ok": true, "data": status })
}

fn live(path: &Path) -> Live {
    Live::new(Program::Ctl, path.to_owned(), Trust::new(None).unwrap())
}

#[test]
fn a_picture_has_the_status_and_what_each_worker_uses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let master = master(&path, vec![vec![status(std::process::id(), 1000)]]);
    let picture = live(&path).look();
    master.join().unwrap();
    assert_eq!(picture.link, Link::Found { count: 1 });
    let [Some(mine), None] = picture.usages[..] else { panic!("{picture:?}") };
    assert!(mine.resident_bytes > 0);
    let total = picture.total.unwrap();
    assert_eq!((total.workers, total.resident_bytes), (1, mine.resident_bytes));
    assert_eq!(picture.news(None), None);
    let json = serde_json::to_value(&picture).unwrap();
    assert_eq!((&json["link"]["link"], &json["status"]["master"]["wanted"]), (&json!("found"), &json!(1)));
}

#[test]
fn nothing_is_known_of_workers_elsewhere_and_the_reason_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let master = master(&path, vec![vec![status(1, 1000)]]);
    let picture = live(&path).look();
    master.join().unwrap();
    assert!(picture.usages.is_empty() && picture.total.is_none());
    assert!(picture.unseen.unwrap().starts_with("it runs in another pid namespace"));
}

#[test]
fn a_master_that_is_lost_is_found_again_and_known_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let me = std::process::id();
    let first = master(&path, vec![vec![status(me, 60_000)], vec![status(me, 60_000)]]);
    let mut live = live(&path);
    let found = live.look();
    // The connection ends, perhaps while a request is on its way; the same master answers on the next one.
    let same = std::iter::repeat_with(|| live.look()).find(|picture| picture.link == found.link).unwrap();
    first.join().unwrap();
    assert_eq!((&same.link, same.news(Some(&found))), (&Link::Found { count: 1 }, None));
    let lost = live.look();
    let Link::Lost { why, hint, .. } = &lost.link else { panic!("{lost:?}") };
    assert!(why.contains("Connection refused") && hint.is_some(), "{why}");
    assert_eq!(lost.status, same.status, "what was known last");
    assert!(lost.total.is_none());
    assert_eq!(lost.news(Some(&same)).unwrap().severity, Severity::Error);
    assert_eq!(live.look().news(Some(&lost)), None, "it is said once");
    std::fs::remove_file(&path).unwrap();
    // Another one with the same pid, as in a container: it has started since.
    let second = master(&path, vec![vec![status(me, 0)]]);
    let another = live.look();
    second.join().unwrap();
    assert_eq!(another.link, Link::Found { count: 2 });
    assert_eq!(another.news(Some(&lost)).unwrap().message, format!("master {me} answers"));
    assert_eq!(another.news(Some(&found)).unwrap().message, format!("another master has started, pid {me}"));
}

#[test]
fn a_master_that_refuses_is_lost_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let refusal = json!({ "message": "status refused: try later", "ok": false });
    let master = master(&path, vec![vec![refusal, json!({ "message": "what?" })]]);
    let mut live = live(&path);
    for expected in ["status refused: try later", "the master's answer is not one that this client knows"] {
        let Link::Lost { why, .. } = live.look().link else { panic!() };
        assert!(why.starts_with(expected), "{why}");
    }
    master.join().unwrap();
}

#[test]
fn events_are_reported_also_those_of_the_next_master_until_nobody_wants_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let event = json!({ "message": "slot 0: given up\n", "wait": true,
                        "data": { "event": "given_up", "slot": 0, "tries": 3 } });
    let unknown = json!({ "message": "something new", "wait": true, "data": { "event": "new" } });
    let master = master(&path, vec![vec![event], vec![unknown]]);
    let (told, events) = channel();
    let report = move |event: Option<Event>| event.is_none_or(|event| told.send(event).is_ok());
    follow(Program::Ctl, path, Trust::new(None).unwrap(), report).unwrap();
    let first = events.recv_timeout(DEADLINE).unwrap();
    assert_eq!((first.severity, first.message.as_str()), (Severity::Error, "slot 0: given up"));
    assert_eq!(first.notice, Some(Notice::GivenUp { slot: 0, tries: 3 }));
    let second = events.recv_timeout(DEADLINE).unwrap();
    assert_eq!((second.message.as_str(), second.notice), ("something new", None));
    master.join().unwrap();
}

#[test]
fn only_the_last_events_are_kept() {
    let mut recent = Recent::new(2);
    for at_ms in 1..=3 {
        recent.push(Event { at_ms, severity: Severity::Info, message: String::new(), notice: None });
    }
    assert_eq!(recent.iter().map(|event| event.at_ms).collect::<Vec<_>>(), [2, 3]);
}
