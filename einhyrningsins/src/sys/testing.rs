//! Helpers shared by the tests of several modules.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// How long a condition may take. Conditions hold much sooner; only a broken test waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const MARKER: &str = "EINHYRNINGSINS_TEST_ISOLATED";

/// Runs `body` in its own process, next to only the harness's idle main thread. For tests of what exists once
/// per process: signal dispositions, children to reap, limits. `name` is the test's path within the crate.
pub(crate) fn isolated(name: &str, body: impl FnOnce()) {
    if env::var_os(MARKER).is_some_and(|marker| marker == name) {
        return body();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(MARKER, name);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran_one = text.contains("1 passed");
    assert!(
        output.status.success() && ran_one,
        "{name} in its own process: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `body` in a fork of an isolated test. The fork has a single thread, so a signal to the process cannot
/// be delivered to the harness's main thread.
pub(crate) fn single_threaded(body: impl FnOnce()) {
    // SAFETY: the only other thread is the harness's main thread, which waits for this one and holds no lock
    // that the body could need; the C library handles its own locks.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the child without running the harness's exit handlers.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
}

/// Waits until `condition` holds; panics with `what` if it does not in time.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes every write to a file fail from now on, as on a full disk, but with EFBIG. For isolated tests only.
pub(crate) fn fill_disk() {
    // The limit also raises SIGXFSZ, which would end the test.
    let mask: SigSet = [Signal::SIGXFSZ].into_iter().collect();
    mask.thread_block().unwrap();
    set_disk(0);
}

/// Sets how long a file may be from now on, after [`fill_disk`].
pub(crate) fn set_disk(bytes: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).unwrap();
}
