//! Numbers with their units, for messages.

use std::fmt;

/// A number of workers: `1 worker`, `2 workers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers(pub u32);

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 worker"),
            count => write!(f, "{count} workers"),
        }
    }
}

/// A duration in milliseconds, as people write it: `12ms`, `0.4s`, `12.0s`; from a minute on in two units: `5m12s`,
/// `3h04m`, `2d03h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..100 => write!(f, "{ms}ms"),
            ms @ 100..60_000 => write!(f, "{}.{}s", ms / 1000, ms % 1000 / 100),
            ms => {
                let minutes = ms / 60_000;
                match minutes {
                    0..60 => write!(f, "{minutes}m{:02}s", ms / 1000 % 60),
                    60..1440 => write!(f, "{}h{:02}m", minutes / 60, minutes % 60),
                    _ => write!(f, "{}d{:02}h", minutes / 1440, minutes / 60 % 24),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_their_numbers() {
        for (count, text) in [(0, "0 workers"), (1, "1 worker"), (2, "2 workers")] {
            assert_eq!(Workers(count).to_string(), text);
        }
        for (ms, text) in [
            (0, "0ms"),
            (99, "99ms"),
            (100, "0.1s"),
            (12_049, "12.0s"),
            (59_999, "59.9s"),
            (60_000, "1m00s"),
            (312_000, "5m12s"),
            (11_045_000, "3h04m"),
            (184_000_000, "2d03h"),
        ] {
            assert_eq!(Seconds(ms).to_string(), text);
        }
    }
}
