//! The reader of format 1, in which the fields of all parts were at the top of one object. To be removed after
//! the first release.

mod core;

use serde::de::Error;
use serde_json::{Map, Value, json};

use crate::master::service::ServiceRecord;

/// Turns a state of format 1 into one of format 2.
pub(super) fn convert(body: &[u8]) -> Result<Value, serde_json::Error> {
    let mut old: Map<String, Value> = serde_json::from_slice(body)?;
    let service = match old.remove("service") {
        Some(service) => service,
        None => serde_json::to_value(ServiceRecord::default())?,
    };
    let mut workers = take(&mut old, "workers");
    let listeners = workers.as_object_mut().and_then(|workers| workers.remove("listeners"));
    let mut requests = take(&mut old, "requests");
    requests.as_array_mut().into_iter().flatten().for_each(request);
    let core = core::convert(&take(&mut old, "supervisor"));
    let core = core.ok_or_else(|| serde_json::Error::custom("the core is not of format 1"))?;
    let settings = take(&mut old, "control");
    let identity = take(&mut old, "identity");
    Ok(json!({
        "version": take(&mut old, "version"),
        "pid": take(&mut old, "pid"),
        "written_at": take(&mut old, "written_at"),
        "dialect": identity.get("dialect"),
        "core": core,
        "workers": workers,
        "listeners": listeners,
        "captures": take(&mut old, "captures"),
        "notify": take(&mut old, "notify"),
        "pidfile": settings.get("pidfile"),
        "control": {
            "settings": settings,
            "socket": take(&mut old, "control_socket"),
            "clients": take(&mut old, "clients"),
            "requests": requests,
            "next_request": take(&mut old, "next_request"),
            "started_at": take(&mut old, "started_at"),
        },
        "handover": {
            "identity": identity,
            "settings": take(&mut old, "reexec"),
            "then": take(&mut old, "then"),
        },
        "service": service,
        "log": take(&mut old, "log"),
        "lockfile": take(&mut old, "lockfile"),
    }))
}

fn take(old: &mut Map<String, Value>, name: &str) -> Value {
    old.remove(name).unwrap_or_default()
}

/// From `{"request": 1, "words": {"einhorns": "inc"}, ...}` to `[1, {"dialect": "einhorn", "command": "inc",
/// ...}]`.
fn request(value: &mut Value) {
    let Value::Object(mut asker) = value.take() else { return };
    let request = take(&mut asker, "request");
    let words = take(&mut asker, "words");
    let dialect = if words.is_object() { "einhorn" } else { "native" };
    asker.insert("dialect".to_owned(), dialect.into());
    asker.insert("command".to_owned(), words.get("einhorns").cloned().unwrap_or_else(|| "".into()));
    *value = json!([request, asker]);
}
