//! Workers that are replaced while they serve.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a worker that serves is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecycleReason {
    /// It has reached the greatest age (`--max-age`).
    MaxAge,
    /// It holds more memory than it may (`--max-rss`).
    MaxRss,
    /// It has stopped saying that it is well (`--ping-timeout`).
    PingTimeout,
}

impl fmt::Display for RecycleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxAge => "it has reached its greatest age (--max-age)",
            Self::MaxRss => "it holds more memory than it may (--max-rss)",
            Self::PingTimeout => "it has stopped saying that it is well (--ping-timeout)",
        })
    }
}

/// How many workers were replaced while they served, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recycled {
    /// For their age (`--max-age`).
    pub max_age: u64,
    /// For their memory (`--max-rss`).
    pub max_rss: u64,
    /// For having stopped saying that they are well (`--ping-timeout`).
    pub ping_timeout: u64,
}

impl Recycled {
    /// Counts one more.
    pub fn add(&mut self, reason: RecycleReason) {
        *match reason {
            RecycleReason::MaxAge => &mut self.max_age,
            RecycleReason::MaxRss => &mut self.max_rss,
            RecycleReason::PingTimeout => &mut self.ping_timeout,
        } += 1;
    }
}
