//! Waiting for a condition under a deadline: the only way in which a test here waits.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Multiplies [`patience`], for a machine that is slow or busy: `EINHYRNINGSINS_TEST_PATIENCE=4`.
pub const PATIENCE_VARIABLE: &str = "EINHYRNINGSINS_TEST_PATIENCE";

/// Between two looks at a condition. Short beside what is waited for (a spawn takes a millisecond), long
/// beside what a look costs.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How long one condition may take to come true: 30 s, times [`PATIENCE_VARIABLE`].
///
/// It is no expectation: whatever is waited for normally comes within milliseconds, and only a failing
/// test waits to the end.
#[must_use]
pub fn patience() -> Duration {
    static PATIENCE: OnceLock<Duration> = OnceLock::new();
    *PATIENCE.get_or_init(|| {
        let factor = match std::env::var(PATIENCE_VARIABLE) {
            Ok(text) => text.parse::<f64>().ok().filter(|factor| (0.1..=100.0).contains(factor)),
            Err(_) => Some(1.0),
        };
        Duration::from_secs(30).mul_f64(factor.unwrap_or_else(|| {
            panic!("{PATIENCE_VARIABLE} must be a number from 0.1 to 100");
        }))
    })
}

/// Looks at `condition` until it gives something, and gives that.
///
/// # Panics
/// With `what` in the message, if [`patience`] runs out.
#[track_caller]
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    let limit = patience();
    within(limit, condition).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Looks at `condition` until it gives something or `limit` has passed.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
}
