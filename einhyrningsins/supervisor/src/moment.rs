//! Points in time, as the core has them: numbers that somebody else reads from a clock.

use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time, in nanoseconds of a clock that never goes back and that means the same to every process of this
/// boot: `CLOCK_MONOTONIC`.
///
/// Arithmetic saturates: a time that is too far off to be written down is as far off as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Moment(i64);

impl Moment {
    /// The moment at which the clock shows `time`.
    #[must_use]
    pub fn from_clock(time: Duration) -> Self {
        Self(nanoseconds(time))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(by)))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(by)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// How long `earlier` is ago at this moment; zero if it is still ahead.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A duration in milliseconds, as it travels in notices and in answers; one that is too long saturates.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_and_a_difference_is_never_negative() {
        let second = Duration::from_secs(1);
        let moment = Moment::from_clock(10 * second);
        assert_eq!((moment + second) - moment, second);
        assert_eq!(moment - (moment + second), Duration::ZERO);
        assert_eq!(moment + Duration::MAX, Moment::from_clock(Duration::MAX));
        assert!(moment - 11 * second < Moment::default());
    }
}
