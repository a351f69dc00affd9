//! Values that people give to several programs: times, names of masters, and the files that follow from a name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a master has its control socket unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/tmp";

/// Why a text is no time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecondsError {
    /// It is no number, or one that no time has: negative, infinite or too large.
    #[error("must be a number of seconds, 0 or more")]
    NotSeconds,
    /// It is 0 where that has no meaning.
    #[error("seconds must be > 0")]
    Zero,
}

/// Reads a decimal number of seconds, 0 or more.
///
/// # Errors
/// [`SecondsError::NotSeconds`].
pub fn parse_seconds(text: &str) -> Result<Duration, SecondsError> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or(SecondsError::NotSeconds)
}

/// Reads a decimal number of seconds above 0.
///
/// # Errors
/// [`SecondsError`].
pub fn parse_seconds_above_zero(text: &str) -> Result<Duration, SecondsError> {
    match parse_seconds(text)? {
        Duration::ZERO => Err(SecondsError::Zero),
        seconds => Ok(seconds),
    }
}

/// Reads the name of a master, which becomes part of a file name.
///
/// # Errors
/// A message for the user if it is empty or cannot be part of a file name.
pub fn parse_master_name(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("must not be empty"),
        _ if text.contains(['/', '\0']) => Err("becomes part of a file name, so it cannot have a \"/\""),
        _ => Ok(text.to_owned()),
    }
}

/// The file of the master with this name, or of one without: `einhorn-NAME.sock`, `einhorn.sock`.
///
/// *Wire*: clients and scripts of einhorn look there. The extension is `sock`, `pid` or `lock`.
///
/// ```
/// use einhorn_proto::default_path;
///
/// assert_eq!(default_path("/tmp", Some("web"), "sock"), std::path::Path::new("/tmp/einhorn-web.sock"));
/// ```
#[must_use]
pub fn default_path(directory: impl AsRef<Path>, name: Option<&str>, extension: &str) -> PathBuf {
    directory.as_ref().join(match name {
        Some(name) => format!("einhorn-{name}.{extension}"),
        None => format!("einhorn.{extension}"),
    })
}

/// The directory in which einhorn and einhornsh look for those files: `tmpdir`, the value of `TMPDIR`, unless that is
/// unset or empty.
#[must_use]
pub fn einhorns_directory(tmpdir: Option<OsString>) -> PathBuf {
    let tmpdir = tmpdir.filter(|directory| !directory.is_empty());
    tmpdir.map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_decimals_that_a_duration_holds() {
        assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_seconds("0"), Ok(Duration::ZERO));
        for text in ["", "soon", "-1", "nan", "inf", "1e30"] {
            assert_eq!(parse_seconds(text), Err(SecondsError::NotSeconds), "for {text}");
        }
        assert_eq!(parse_seconds_above_zero("0"), Err(SecondsError::Zero));
    }
}
