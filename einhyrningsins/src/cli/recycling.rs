//! Options about the recycling of workers.

use std::time::Duration;

use einhorn_proto::{SecondsError, parse_seconds, parse_seconds_above_zero};

use super::values::parse_size_above_zero;

/// When a serving worker is replaced.
#[derive(Debug, Clone, clap::Args)]
pub struct RecyclingArgs {
    /// Replace a worker that has been up for SECONDS, plus a random part of JITTER; one worker at a time, after its
    /// successor has acked [default: never]
    #[arg(long, value_name = "SECONDS[:JITTER]", value_parser = parse_max_age, help_heading = "Workers")]
    pub max_age: Option<MaxAgeArg>,

    /// Replace a worker that uses more than SIZE of memory (RSS), in bytes, or with K, M, G or T for powers of 1024
    /// [default: never]
    #[arg(long, value_name = "SIZE", value_parser = parse_size_above_zero, help_heading = "Workers")]
    pub max_rss: Option<u64>,

    /// Replace, then kill, a worker that has pinged (worker:ping or WATCHDOG=1) and then been silent for SECONDS
    /// [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds_above_zero, help_heading = "Workers")]
    pub ping_timeout: Option<Duration>,
}

/// What `--max-age` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxAgeArg {
    /// The age.
    pub age: Duration,
    /// The longest time to add to it.
    pub jitter: Duration,
}

fn parse_max_age(text: &str) -> Result<MaxAgeArg, SecondsError> {
    let (age, jitter) = text.split_once(':').unwrap_or((text, "0"));
    let age = parse_seconds_above_zero(age)?;
    let jitter = parse_seconds(jitter)?;
    Ok(MaxAgeArg { age, jitter })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_and_its_jitter_have_units() {
        let (age, jitter) = (Duration::from_secs(3600), Duration::from_secs(300));
        assert_eq!(parse_max_age("1h:5m"), Ok(MaxAgeArg { age, jitter }));
        assert_eq!(parse_max_age("3600"), Ok(MaxAgeArg { age, jitter: Duration::ZERO }));
        assert_eq!(parse_max_age("1e19"), Err(SecondsError::TooLong));
        assert_eq!(parse_max_age("1h:1e19"), Err(SecondsError::TooLong));
    }
}
