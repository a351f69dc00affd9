//! What a process has cost.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The time that `pid` has been on a processor: its main thread, which is all there is of a master.
pub(crate) fn time_of(pid: i32) -> Duration {
    time_in(format!("/proc/{pid}/schedstat").as_ref())
}

/// The same with all the threads that it has.
pub(crate) fn time_of_threads(pid: i32) -> Duration {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
    threads.flatten().map(|thread| time_in(&thread.path().join("schedstat"))).sum()
}

fn time_in(path: &Path) -> Duration {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_else(|| panic!("no time in {}: {text}", path.display())))
}
