//! The core's state in format 1: deadlines stood in a list beside their owners, an empty slot that waited was in a
//! queue, and a rollout listed the slots whose turn had not come.

use serde_json::{Map, Value, json};

/// Turns the core's state into the present format; `None` if it is not one of format 1.
pub(super) fn convert(state: &Value) -> Option<Value> {
    Old::of(state)?.convert()
}

/// The core's part, and its list of deadlines.
struct Old<'a> {
    state: &'a Value,
    timers: &'a [Value],
    due: &'a [Value],
    is_stopping: bool,
}

impl<'a> Old<'a> {
    fn of(state: &'a Value) -> Option<Self> {
        Some(Self {
            state,
            timers: state.get("timers")?.as_array()?,
            due: state.get("due")?.as_array()?,
            is_stopping: !matches!(state.get("phase")?.as_str(), Some("waiting" | "running")),
        })
    }

    fn convert(&self) -> Option<Value> {
        let state = self.state;
        let mut policy = state.get("policy")?.as_object()?.clone();
        if let Some(limits) = policy.remove("care") {
            policy.insert("recycling".to_owned(), limits);
        }
        let mut recycling = state.get("recycling").and_then(Value::as_object).cloned().unwrap_or_default();
        for (field, default) in [("queue", json!([])), ("turn", Value::Null), ("failures", json!(0))] {
            recycling.entry(field).or_insert(default);
        }
        recycling.entry("counts").or_insert(json!({ "max_age": 0, "max_rss": 0, "ping_timeout": 0 }));
        recycling.insert("not_before".to_owned(), json!(self.timer(&json!("recycle"))));
        Some(json!({
            "policy": policy,
            "plan": self.plan()?,
            "pool": {
                "workers": self.by_number("workers", "id", |worker| self.worker(worker))?,
                "slots": self.by_number("slots", "slot", |slot| self.slot(slot))?,
                "next_id": state.get("next_worker")?,
            },
            "releases": {
                "serving": state.get("generation")?,
                "last": state.get("generation_last")?,
                "previous": state.get("previous"),
                "proven": state.get("proven")?,
                "held": state.get("releases")?,
            },
            "recycling": recycling,
            "started_at": state.get("started_at"),
            "was_ready": state.get("was_ready")?,
        }))
    }

    /// When a timer was to fire.
    fn timer(&self, timer: &Value) -> Option<&'a Value> {
        let found = self.timers.iter().find(|entry| entry.get(0) == Some(timer));
        found.and_then(|entry| entry.get(1))
    }

    /// A list of what has a number, as a map.
    fn by_number(
        &self,
        list: &str,
        number: &str,
        convert: impl Fn(&Value) -> Option<Value>,
    ) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        for item in self.state.get(list)?.as_array()? {
            // One that is there twice cannot be.
            if map.insert(item.get(number)?.as_u64()?.to_string(), convert(item)?).is_some() {
                return None;
            }
        }
        Some(map)
    }

    fn worker(&self, worker: &Value) -> Option<Value> {
        let id = worker.get("id")?;
        let timer = |kind: &str| self.timer(&json!({ kind: id }));
        let state = match worker.get("state")?.as_str()? {
            "starting" => {
                let by_time = timer("ack").map(|at| json!({ "acked_at": at }));
                let by_word = timer("boot").map(|at| json!({ "ack_by": at }));
                json!({ "starting": by_time.or(by_word).unwrap_or(json!("unlimited")) })
            }
            "up" => json!({ "up": { "old_at": timer("age") } }),
            "draining" => {
                let ask = timer("retire").map(|at| json!({ "ask": at }));
                let kill = timer("kill").map(|at| json!({ "kill": at }));
                json!({ "draining": {
                    "since": worker.get("since")?,
                    "signal": worker.get("signal")?,
                    "sent": worker.get("sent")?,
                    "next": ask.or(kill).unwrap_or(json!("nothing")),
                } })
            }
            _ => return None,
        };
        Some(json!({
            "id": id,
            "slot": worker.get("slot")?,
            "index": worker.get("index")?,
            "generation": worker.get("generation")?,
            "state": state,
            "pid": worker.get("pid")?,
            "spawned_at": worker.get("spawned_at")?,
            "acked_at": worker.get("acked_at"),
            "pinged_at": worker.get("pinged_at"),
            "ping_due": timer("ping"),
            "ping_word": worker.get("ping_word"),
            "text": worker.get("text"),
            "last_words": worker.get("last_words").cloned().unwrap_or(json!([])),
        }))
    }

    fn slot(&self, slot: &Value) -> Option<Value> {
        let number = slot.get("slot")?;
        let worker = slot.get("current").filter(|worker| !worker.is_null());
        let successor = slot.get("successor").filter(|worker| !worker.is_null());
        let holder = match (worker, successor) {
            (Some(worker), Some(successor)) => {
                json!({ "passing": { "worker": worker, "successor": successor } })
            }
            (Some(worker), None) => json!({ "held": { "worker": worker } }),
            (None, _) if self.is_stopping => json!("closed"),
            (None, _) if slot.get("given_up") == Some(&json!(true)) => json!("given_up"),
            (None, _) => {
                // The longest due came first in the queue.
                let queued = || json!(self.due.iter().position(|due| due == number).unwrap_or_default());
                let at = self.timer(&json!({ "spawn": number })).cloned().unwrap_or_else(queued);
                json!({ "empty": { "due": at } })
            }
        };
        Some(json!({
            "holder": holder,
            "generation": slot.get("generation")?,
            "attempts": slot.get("attempts")?,
            "restarts": slot.get("restarts")?,
            "last_death": slot.get("last_death"),
        }))
    }

    fn plan(&self) -> Option<Value> {
        if let Some(rollout) = self.state.get("rollout").filter(|rollout| !rollout.is_null()) {
            return Some(json!({ "rolling": self.rollout(rollout)? }));
        }
        let phase = self.state.get("phase")?;
        let why = match self.state.get("stop_failure").filter(|why| !why.is_null()) {
            Some(why) => json!({ "at_once": why }),
            None => json!("last_worker_gone"),
        };
        Some(match (phase.as_str(), phase.get("stopping")) {
            (Some("running"), _) => json!("steady"),
            (Some(_), _) => phase.clone(),
            (None, Some(stopping)) => json!({ "stopping": { "code": stopping.get("code")?, "why": why } }),
            (None, None) => return None,
        })
    }

    fn rollout(&self, rollout: &Value) -> Option<Value> {
        let stage = rollout.get("stage")?;
        let stage = match (stage.as_str(), stage.get("rolling_back")) {
            (Some("soaking"), _) => json!({ "soaking": { "until": self.timer(&json!("soak")) } }),
            (Some(stage), _) => json!(stage),
            (None, Some(failure)) => {
                json!({ "rolling_back": { "failure": { "release": failure.get("reason")? } } })
            }
            (None, None) => return None,
        };
        let waiters: Option<Vec<_>> = rollout.get("waiters")?.as_array()?.iter().map(waiter).collect();
        let attempts = self.by_number("slots", "slot", |slot| slot.get("succession").cloned())?;
        let mut retries = Map::new();
        for slot in self.state.get("slots")?.as_array()? {
            let number = slot.get("slot")?;
            if let Some(at) = self.timer(&json!({ "succeed": number })) {
                retries.insert(number.as_u64()?.to_string(), at.clone());
            }
        }
        Some(json!({
            "kind": rollout.get("kind")?,
            "to": rollout.get("generation")?,
            "from": rollout.get("from")?,
            "superseded": rollout.get("superseded")?,
            "is_fleet": rollout.get("is_fleet")?,
            "canary": rollout.get("canary"),
            "waiters": waiters?,
            "since": rollout.get("since"),
            "stage": stage,
            "attempts": attempts,
            "retries": retries,
        }))
    }
}

fn waiter(waiter: &Value) -> Option<Value> {
    Some(json!({ "request": waiter.get(0)?, "wants": waiter.get(1)? }))
}
