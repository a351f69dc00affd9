//! How long a slot waits before it is filled again.

use core::time::Duration;

use super::Moment;

/// The longest wait between two spawns of one slot, counted from the first. Source: einhorn; the man page,
/// "RESPAWN AND BACKOFF", explains it.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// By how much the wait grows with each death before ack. Source: as [`BACKOFF_MAX`].
const BACKOFF_FACTOR: (u32, u32) = (3, 2);

/// When to fill a slot whose worker was spawned at `spawned_at` and is dead at `now`.
///
/// `deaths_unacked` is the number of deaths in a row before ack, this one included, and 0 if this worker
/// had acked. The time counts from the *spawn*: a worker that lived longer than the wait is replaced at once.
pub(crate) fn respawn_at(now: Moment, spawned_at: Moment, seconds: Duration, deaths_unacked: u32) -> Moment {
    now.max(spawned_at + backoff(seconds, deaths_unacked))
}

/// `seconds * 1.5^deaths`, at most [`BACKOFF_MAX`] or `seconds` itself where that is longer.
fn backoff(seconds: Duration, deaths_unacked: u32) -> Duration {
    let longest = BACKOFF_MAX.max(seconds);
    let mut wait = seconds;
    for _ in 0..deaths_unacked {
        if wait.is_zero() || wait >= longest {
            break;
        }
        wait = wait.saturating_mul(BACKOFF_FACTOR.0) / BACKOFF_FACTOR.1;
    }
    wait.min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_worker_that_lived_for_seconds_is_replaced_at_once() {
        let spawned = Moment::from_clock(Duration::from_secs(1000));
        let now = spawned + SECOND;
        assert_eq!(respawn_at(now, spawned, SECOND, 0), now);
    }

    #[test]
    fn one_that_died_younger_waits_until_seconds_after_its_own_spawn() {
        let spawned = Moment::from_clock(Duration::from_secs(1000));
        assert_eq!(respawn_at(spawned + SECOND / 4, spawned, SECOND, 0), spawned + SECOND);
    }

    #[test]
    fn deaths_before_ack_back_off_up_to_thirty_seconds() {
        assert_eq!(backoff(SECOND, 1), Duration::from_millis(1500));
        assert_eq!(backoff(SECOND, 2), Duration::from_millis(2250));
        assert_eq!(backoff(SECOND, 9), BACKOFF_MAX);
        assert_eq!(backoff(SECOND, u32::MAX), BACKOFF_MAX);
        assert_eq!(backoff(Duration::ZERO, u32::MAX), Duration::ZERO);
        assert_eq!(backoff(SECOND * 40, 3), SECOND * 40);
    }
}
