//! What a process has cost.

use std::fs;
use std::time::Duration;

/// The time that `pid` has been on a processor: its main thread, which is all there is of a master.
pub(crate) fn time_of(pid: i32) -> Duration {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_else(|| panic!("no time in {path}: {text}")))
}
