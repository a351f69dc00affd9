//! States of released formats can be read, newer ones are refused with a message, and any other input does no
//! harm.

use std::time::Duration;

use einhorn_proto::{MasterState as Stage, UpgradeStage, WorkerSlot, WorkerState};
use einhyrningsins_supervisor::Supervisor;
use proptest::prelude::*;
use serde_json::Value;

use super::format::{Body, HandoverError, Header, Origin, core_to_bytes, to_bytes};
use crate::forms;
use crate::master::parts::Parts;
use crate::sys::inherit::naming;

/// The state of a master with everything in progress, as it wrote it: canaries in their soak, two draining
/// workers, a booting one, a slot that waits for its next try, clients of each kind. Paths were changed, the
/// unread replies of one client were shortened, and lines were broken. A new format gets a fixture beside it,
/// made in the same way: with `--reexec-as` and a script that exports `$$` and copies the descriptor of `--with-state-fd`.
const FORMAT_1: &[u8] = include_bytes!("format-1.state");

/// The same state, as this program writes it after it has read that of format 1.
const FORMAT_2: &[u8] = include_bytes!("format-2.state");

/// The state of another master, made in the same way: canaries in their soak after another upgrade; four draining workers of two
/// generations; a process that one has left behind; a worker whose standard error is captured until its ack; clients that wait, follow and
/// have sent half a request. Paths and environments were changed.
const FORMAT_4: &[u8] = include_bytes!("format-4.state");

/// The state of a third master, made in the same way, during the check of a release: a trial worker on twins of a TCP and a Unix
/// socket, and the job that checks it. Nothing was changed but the number of the image.
const FORMAT_5: &[u8] = include_bytes!("format-5.state");

fn state_of(bytes: &[u8], format: u32) -> (Origin, Parts) {
    let (header, body) = Header::parse(bytes).unwrap();
    assert_eq!(header, Header { format, image: 30 });
    Body::of(header, body).unwrap().read().unwrap()
}

/// A state as this program writes it, without anything in flight.
fn written(parts: &Parts) -> Value {
    written_in(parts, 4)
}

fn written_in(parts: &Parts, format: u32) -> Value {
    let bytes = to_bytes(30, None, &core_to_bytes(&parts.core).unwrap(), parts).unwrap();
    let (header, body) = Header::parse(&bytes).unwrap();
    assert_eq!((header.format, header.image), (format, 30));
    in_one_object(body)
}

/// The three lines of a state since format 4.
fn in_one_object(body: &[u8]) -> Value {
    let lines = body.split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap());
    let Ok([origin, core, mut all]) = <[Value; 3]>::try_from(lines.collect::<Vec<_>>()) else { panic!() };
    all["core"] = core;
    with_fields(all, &origin)
}

/// The state that another writer would have written.
fn with_origin(state: Value, origin: &Origin) -> Value {
    with_fields(state, &serde_json::to_value(origin).unwrap())
}

fn with_fields(mut state: Value, fields: &Value) -> Value {
    state.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    state
}

/// Where each field of format 1 is in today's format.
const MOVED: [(&str, &str); 19] = [
    ("/version", "/version"),
    ("/pid", "/pid"),
    ("/written_at", "/written_at"),
    ("/started_at", "/control/started_at"),
    ("/identity", "/handover/identity"),
    ("/reexec", "/handover/settings"),
    ("/then", "/handover/then"),
    ("/control", "/control/settings"),
    ("/control_socket", "/control/socket"),
    ("/clients", "/control/clients"),
    ("/requests", "/control/requests"),
    ("/next_request", "/control/next_request"),
    ("/workers", "/workers"),
    ("/workers/listeners", "/listeners"),
    ("/captures", "/captures"),
    ("/notify", "/notify"),
    ("/lockfile", "/lockfile"),
    ("/log", "/log"),
    ("/service", "/service"),
];

/// The order of what has a number does not matter.
fn sorted(list: &[Value]) -> Vec<&Value> {
    let mut list: Vec<_> = list.iter().collect();
    list.sort_by_key(|value| value.get("id").and_then(Value::as_u64));
    list
}

/// Whether it may be left out of a state.
fn is_default(value: &Value) -> bool {
    let attempts = serde_json::json!({ "tries": 0, "deaths": 0 });
    *value == Value::Null
        || *value == false
        || *value == 0
        || *value == Value::Array(Vec::new())
        || *value == attempts
}

/// Asserts that everything in `before` is in `after`, which may have newer fields, and lack those that have their default.
fn assert_kept(before: &Value, after: &Value, path: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in before {
                match after.get(name) {
                    None if is_default(value) => {}
                    after => assert_kept(value, after.unwrap_or(&Value::Null), &format!("{path}/{name}")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (at, (before, after)) in sorted(before).into_iter().zip(sorted(after)).enumerate() {
                assert_kept(before, after, &format!("{path}/{at}"));
            }
        }
        _ => assert_eq!(before, after, "{path}"),
    }
}

/// Asserts that a state of today has every field of one of format 1.
fn assert_all_kept(old: &Value, new: &Value) {
    for name in old.as_object().unwrap().keys().filter(|name| *name != "reloads" && *name != "supervisor") {
        assert!(MOVED.iter().any(|(from, _)| from[1..] == *name), "{name}");
    }
    for (from, to) in MOVED {
        let Some(mut before) = old.pointer(from).cloned() else { continue };
        match from {
            "/identity" => {
                assert_eq!(before.as_object_mut().unwrap().remove("dialect"), Some(new["dialect"].clone()));
            }
            "/workers" => drop(before.as_object_mut().unwrap().remove("listeners")),
            "/requests" => {
                for (at, asker) in before.as_array_mut().unwrap().iter_mut().enumerate() {
                    let asker = asker.as_object_mut().unwrap();
                    let (after, path) = (new.pointer(to).unwrap(), format!("{to}/{at}"));
                    assert_eq!(asker.remove("request").as_ref(), after.pointer(&format!("/{at}/0")));
                    assert_eq!(asker.remove("words"), Some("ours".into()));
                    assert_eq!(after.pointer(&format!("/{at}/1/dialect")), Some(&"native".into()));
                    assert_kept(
                        &Value::Object(asker.clone()),
                        after.pointer(&format!("/{at}/1")).unwrap(),
                        &path,
                    );
                }
                continue;
            }
            _ => {}
        }
        assert_kept(&before, new.pointer(to).unwrap_or(&Value::Null), to);
    }
}

#[test]
fn every_field_of_format_1_is_read() {
    let ((origin, parts), mut fds) = naming(|| state_of(FORMAT_1, 1));
    assert_eq!(origin.checked, None, "its master took everything behind the proof for the version");
    let (_, body) = Header::parse(FORMAT_1).unwrap();
    let old: Value = serde_json::from_slice(body).unwrap();
    assert_all_kept(&old, &with_origin(written(&parts), &origin));
    fds.sort_unstable();
    let listed =
        [4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29];
    assert_eq!(fds, listed);
}

#[test]
fn format_2_is_read_to_the_last_field() {
    let (origin, parts) = state_of(FORMAT_2, 2);
    let (_, body) = Header::parse(FORMAT_2).unwrap();
    let mut old: Value = serde_json::from_slice(body).unwrap();
    // The default of then; today's is the convention of each worker.
    assert_eq!(old["core"]["policy"]["graceful_signal"].take(), "SIGUSR2");
    assert_kept(&old, &with_origin(written(&parts), &origin), "");
    assert_eq!(parts.core.tables().unwrap(), state_of(FORMAT_1, 1).1.core.tables().unwrap());
}

#[test]
fn format_4_is_read_to_the_last_field() {
    let (origin, parts) = state_of(FORMAT_4, 4);
    let (_, body) = Header::parse(FORMAT_4).unwrap();
    let mut old = in_one_object(body);
    // Another thread closes it.
    assert_eq!(old.as_object_mut().unwrap().remove("closing"), Some(serde_json::json!([31])));
    assert_kept(&old, &with_origin(written(&parts), &origin), "");

    let pool = parts.core.snapshot(origin.written_at);
    assert_eq!((pool.state, pool.wanted), (Stage::Upgrading, 4));
    assert_eq!((pool.up, pool.starting, pool.draining), (3, 0, 4));
    assert_eq!(pool.upgrade.unwrap().stage, UpgradeStage::Soaking);
    let last = pool.last_upgrade.unwrap().report;
    assert_eq!((last.generation, last.left.left_behind, last.left.listening), (2, 1, 1));
    let leftovers: Vec<_> = pool.leftovers.iter().map(|left| (left.pid, &left.members[..])).collect();
    assert_eq!(leftovers, [(10_487, &[10_488][..])]);
    assert_eq!(pool.slots[3].last_death.as_ref().unwrap().reason, "was killed by SIGKILL");
}

#[test]
fn format_5_is_read_to_the_last_field() {
    let (origin, parts) = state_of(FORMAT_5, 5);
    let (_, body) = Header::parse(FORMAT_5).unwrap();
    let mut old = in_one_object(body);
    // Another thread closes it.
    assert_eq!(old.as_object_mut().unwrap().remove("closing"), Some(serde_json::json!([19])));
    assert_kept(&old, &with_origin(written_in(&parts, 5), &origin), "");

    let pool = parts.core.snapshot(origin.written_at);
    assert_eq!((pool.up, pool.starting, pool.draining), (2, 0, 0), "the trial worker is in no slot");
    assert_eq!(pool.upgrade.unwrap().stage, UpgradeStage::Checking);
    let trial = pool.workers.iter().find(|worker| worker.generation == 2).unwrap();
    assert_eq!((trial.slot, trial.index, trial.state), (WorkerSlot(None), 2, WorkerState::Up));
}

#[test]
fn the_pool_of_format_1_is_as_it_was() {
    let (origin, Parts { core: supervisor, .. }) = state_of(FORMAT_1, 1);
    let again = Supervisor::restore(supervisor.tables().unwrap().clone()).unwrap();
    assert_eq!(again.tables().unwrap(), supervisor.tables().unwrap());

    let now = origin.written_at;
    let pool = supervisor.snapshot(now);
    assert_eq!((pool.state, pool.wanted), (Stage::Upgrading, 4));
    assert_eq!((pool.up, pool.starting, pool.draining), (2, 1, 2));
    let workers: Vec<_> =
        pool.workers.iter().map(|w| (w.slot.0.unwrap(), w.pid, w.generation, w.state)).collect();
    assert_eq!(
        workers,
        [
            (0, 24_696, 2, WorkerState::Draining),
            (0, 24_708, 3, WorkerState::Up),
            (1, 24_704, 2, WorkerState::Draining),
            (1, 24_709, 3, WorkerState::Up),
            (3, 24_712, 2, WorkerState::Starting),
        ]
    );
    assert_eq!((pool.workers[1].age_ms, pool.workers[1].boot_ms), (2288, Some(1)));
    let upgrade = pool.upgrade.unwrap();
    assert_eq!((upgrade.stage, upgrade.generation, upgrade.from), (UpgradeStage::Soaking, 3, 2));
    assert_eq!((upgrade.upgraded, upgrade.soak_left_ms), (2, Some(597_713)));
    let waiting = &pool.slots[2];
    assert_eq!((waiting.restarts, waiting.tries, waiting.next_spawn_ms), (2, 1, Some(1854)));
    let death = waiting.last_death.as_ref().unwrap();
    assert_eq!((death.pid, death.reason.as_str()), (Some(24_714), "exited with status 3"));
    assert_eq!(waiting.last_death_age_ms, Some(389));
    // The next step is that slot's spawn.
    assert_eq!(supervisor.next_deadline(), Some(now + Duration::from_nanos(1_854_730_512)));
}

#[test]
fn an_older_master_refuses_a_state_with_a_job_in_it() {
    let (_, mut parts) = state_of(FORMAT_2, 2);
    let jobs = serde_json::json!({
        "running": [{
            "key": { "check": 7 },
            "leader": 24_720,
            "output": { "fd": 31, "kept": "connecting\n", "is_cut": false },
            "timeout": { "secs": 30, "nanos": 0 },
            "end_by": 9_000_000_000_i64,
        }],
        "killed": [{ "key": { "check": 6 }, "leader": 24_719 }],
    });
    parts.jobs = serde_json::from_value(jobs.clone()).unwrap();
    let bytes = to_bytes(30, None, &core_to_bytes(&parts.core).unwrap(), &parts).unwrap();
    let ((_, again), fds) = naming(|| state_of(&bytes, 5));
    assert_eq!(serde_json::to_value(&again.jobs).unwrap(), jobs);
    assert!(fds.contains(&31));
}

/// It would take their commands.
#[test]
fn an_older_master_refuses_a_state_with_observers() {
    let (_, parts) = state_of(FORMAT_2, 2);
    let mut state = written(&parts);
    state["control"]["settings"]["observe_group"] = "54322".into();
    let (_, observed) = state_of(format!("einhyrningsins-state 3 30\n{state}").as_bytes(), 3);
    let bytes = to_bytes(30, None, &core_to_bytes(&observed.core).unwrap(), &observed).unwrap();
    let (_, again) = state_of(&bytes, 6);
    assert_eq!(again.control.settings().observe_group.as_deref(), Some("54322"));
}

#[test]
fn a_newer_format_and_other_files_are_refused_with_a_message() {
    let refusal = |state: &[u8]| Header::parse(state).unwrap_err().to_string();
    let program = env!("CARGO_PKG_VERSION");
    assert_eq!(
        refusal(b"einhyrningsins-state 7 9\n{}"),
        format!("handover refused: format 7 is newer than this program ({program}) reads (1 to 6)")
    );
    assert_eq!(
        refusal(b"einhyrningsins-state 0 9\n{}"),
        format!("handover refused: format 0 is older than this program ({program}) reads (1 to 6)")
    );
    let long = [b"einhyrningsins-state 1 ", "9".repeat(200).as_bytes(), b"\n{}"].concat();
    for state in [&b""[..], b"{}", b"einhyrningsins-state 1\n{}", b"einhyrningsins-state x 9\n", &long] {
        assert_eq!(refusal(state), "not the state of a master");
    }
    for state in [
        "einhyrningsins-state 1 9\n{\"version\":\"0.1.0\"}",
        "einhyrningsins-state 3 9\n{}",
        "einhyrningsins-state 4 9\n{}",
        "einhyrningsins-state 5 9\n{}",
        "einhyrningsins-state 6 9\n{}",
    ] {
        let error = read(state.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the state of the master");
    }
}

/// Everything that a new master does with a state before it acts on it.
fn read(state: &[u8]) -> Result<(), HandoverError> {
    let (header, body) = Header::parse(state)?;
    let (_, parts) = Body::of(header, body)?.read()?;
    // A state that was read can be shown and written again.
    let _ = (parts.core.snapshot(forms::now()), parts.core.next_deadline());
    let bytes = to_bytes(3, None, &core_to_bytes(&parts.core).unwrap(), &parts).unwrap();
    let (header, body) = Header::parse(&bytes)?;
    Body::of(header, body)?.read()?;
    parts.core.tables().unwrap();
    Ok(())
}

/// A replacement for a value.
fn any_value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        any::<i64>().prop_map(|number| Some(number.into())),
        any::<u64>().prop_map(|number| Some(number.into())),
        (0_u64..40).prop_map(|number| Some(number.into())),
        any::<f64>().prop_map(|number| Some(number.into())),
        any::<String>().prop_map(|text| Some(text.into())),
        any::<bool>().prop_map(|is| Some(is.into())),
        Just(Some(Value::Array(Vec::new()))),
        Just(Some(Value::Object(serde_json::Map::new()))),
    ]
}

/// Replaces one value in `value` by `with`, or removes it; `way` says which child to descend into at each
/// level.
fn mutate(value: &mut Value, way: &[prop::sample::Index], with: &Option<Value>) {
    let Some((index, rest)) = way.split_first() else { return };
    let is_last = rest.is_empty();
    match value {
        Value::Array(items) if !items.is_empty() => {
            let index = index.index(items.len());
            match (&mut items[index], with) {
                (Value::Array(_) | Value::Object(_), _) if !is_last => mutate(&mut items[index], rest, with),
                (item, Some(with)) => *item = with.clone(),
                // A duplicate is as good a mistake as a missing value.
                (item, None) if is_last => {
                    let twice = item.clone();
                    items.push(twice);
                }
                (_, None) => drop(items.remove(index)),
            }
        }
        Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(index.index(map.len())).unwrap().clone();
            match (&mut map[&key], with) {
                (Value::Array(_) | Value::Object(_), _) if !is_last => mutate(&mut map[&key], rest, with),
                (item, Some(with)) => *item = with.clone(),
                (_, None) => drop(map.remove(&key)),
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read(&[b"einhyrningsins-state 1 3\n", &bytes[..]].concat());
        let _ = read(&[b"einhyrningsins-state 2 3\n", &bytes[..]].concat());
    }

    #[test]
    fn a_truncated_or_corrupted_state_is_refused_or_read(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        for whole in [FORMAT_1, FORMAT_2, FORMAT_4, FORMAT_5] {
            let at = at.index(whole.len());
            let mut state = whole.to_vec();
            state[at] = byte;
            let _ = read(&state);
            state.truncate(at);
            let is_whole = whole[at..].trim_ascii().is_empty();
            prop_assert!(read(&state).is_err() || is_whole);
        }
    }

    #[test]
    fn a_state_with_wrong_values_is_refused_or_read(
        changes in proptest::collection::vec(
            (proptest::collection::vec(any::<prop::sample::Index>(), 1..6), any_value()), 1..4),
    ) {
        for whole in [FORMAT_1, FORMAT_2] {
            let (header, body) = Header::parse(whole).unwrap();
            let mut value = serde_json::from_slice(body).unwrap();
            for (way, with) in &changes {
                mutate(&mut value, way, with);
            }
            let line = format!("einhyrningsins-state {} 3\n", header.format);
            let _ = read(&[line.as_bytes(), &serde_json::to_vec(&value).unwrap()[..]].concat());
        }
    }
}
