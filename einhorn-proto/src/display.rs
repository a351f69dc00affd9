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

/// A duration in milliseconds: `12ms`; from 100 ms on in seconds with one decimal: `0.4s`, `12.0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..100 => write!(f, "{ms}ms"),
            ms => write!(f, "{}.{}s", ms / 1000, ms % 1000 / 100),
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
        for (ms, text) in [(0, "0ms"), (99, "99ms"), (100, "0.1s"), (12_049, "12.0s")] {
            assert_eq!(Seconds(ms).to_string(), text);
        }
    }
}
