//! The time of day in the time zone of this machine.

use std::mem::MaybeUninit;

use nix::libc;
use nix::time::{ClockId, clock_gettime};

/// The time of day, for people: `14:03:07`.
///
/// # Source
/// `localtime_r(3)`; the standard library knows no time zones.
pub fn time_of_day() -> String {
    let seconds = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |now| now.tv_sec());
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: reads a time and writes its parts, both alive. It reads TZ, and nothing here changes the environment.
    unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    // SAFETY: integers and a pointer that is not used, for which all zero is valid.
    let parts = unsafe { parts.assume_init() };
    format!("{:02}:{:02}:{:02}", parts.tm_hour, parts.tm_min, parts.tm_sec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_two_digits_thrice() {
        let time = time_of_day();
        let numbers: Vec<u8> = time.split(':').map(|part| part.parse().unwrap()).collect();
        assert!(time.len() == 8 && numbers[0] < 24 && numbers[1] < 60 && numbers[2] < 61, "{time}");
    }
}
