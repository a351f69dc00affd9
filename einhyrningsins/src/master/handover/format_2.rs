//! The reader of format 2, in which every worker had one stop signal. To be removed after the first release.

use serde_json::{Value, json};

/// Turns a state of format 2 into the present format.
///
/// The default of then, USR2, becomes the convention of each worker. The workers of such a state count as those that send
/// `worker:ack`, so nothing changes for them.
pub(super) fn convert(mut state: Value) -> Value {
    if state.get("dialect") == Some(&json!("native"))
        && let Some(signal) = state.pointer_mut("/core/policy/graceful_signal")
        && *signal == json!("SIGUSR2")
    {
        *signal = Value::Null;
    }
    state
}
