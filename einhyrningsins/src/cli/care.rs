//! Options about the care for workers that serve.

use std::time::Duration;

use einhorn_proto::{SecondsError, parse_seconds, parse_seconds_above_zero};

use super::values::parse_bytes;

/// When a worker that serves is replaced.
#[derive(Debug, Clone, clap::Args)]
pub struct CareArgs {
    /// Replace a worker that has been up for SECONDS, and up to JITTER more, of which each worker has its own share:
    /// by replacement first, one at a time [default: never]
    #[arg(long, value_name = "SECONDS[:JITTER]", value_parser = parse_max_age, help_heading = "Workers")]
    pub max_age: Option<MaxAgeArg>,

    /// Replace a worker that holds more than SIZE of memory, as the kernel counts it (RSS): a number of bytes, or with
    /// K, M or G behind it [default: never]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Workers")]
    pub max_rss: Option<u64>,

    /// Replace, and then kill, a worker that has said that it is well, by worker:ping or WATCHDOG=1, and then not
    /// again for SECONDS [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds_above_zero, help_heading = "Workers")]
    pub ping_timeout: Option<Duration>,
}

/// What `--max-age` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAgeArg {
    /// The age.
    pub age: Duration,
    /// By how much more at the most.
    pub jitter: Duration,
}

fn parse_max_age(text: &str) -> Result<MaxAgeArg, SecondsError> {
    let (age, jitter) = text.split_once(':').unwrap_or((text, "0"));
    let age = parse_seconds_above_zero(age)?;
    let jitter = parse_seconds(jitter)?;
    Ok(MaxAgeArg { age, jitter })
}
