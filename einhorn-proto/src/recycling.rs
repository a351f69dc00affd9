//! Recycling: why serving workers are replaced, and how many were.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a serving worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecycleReason {
    /// It has reached the maximum age (`--max-age`).
    MaxAge,
    /// It uses more memory than allowed (`--max-rss`).
    MaxRss,
    /// It has stopped pinging (`--ping-timeout`).
    PingTimeout,
    /// Somebody asked for it (`replace`).
    Asked,
    /// A socket that it serves has lost its path.
    LostSocket,
}

impl fmt::Display for RecycleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxAge => "it has reached the maximum age (--max-age)",
            Self::MaxRss => "it uses more memory than allowed (--max-rss)",
            Self::PingTimeout => "it has stopped pinging (--ping-timeout)",
            Self::Asked => "a client asked for it",
            Self::LostSocket => "a socket that it serves has lost its path",
        })
    }
}

/// How many serving workers were replaced, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recycled {
    /// For their age (`--max-age`).
    pub max_age: u64,
    /// For their memory (`--max-rss`).
    pub max_rss: u64,
    /// For missing pings (`--ping-timeout`).
    pub ping_timeout: u64,
    /// By request (`replace`).
    #[serde(default)]
    pub asked: u64,
    /// For a socket that has lost its path.
    #[serde(default)]
    pub lost_socket: u64,
}

impl Recycled {
    /// Counts one more worker.
    pub fn add(&mut self, reason: RecycleReason) {
        *match reason {
            RecycleReason::MaxAge => &mut self.max_age,
            RecycleReason::MaxRss => &mut self.max_rss,
            RecycleReason::PingTimeout => &mut self.ping_timeout,
            RecycleReason::Asked => &mut self.asked,
            RecycleReason::LostSocket => &mut self.lost_socket,
        } += 1;
    }
}
