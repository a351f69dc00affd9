//! Values that people give to several programs: times, sizes, names of masters, and the files that follow from a name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a master has its control socket unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/tmp";

/// The longest time that can be given, a century. Two of them can be added to any clock.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The units of times, in seconds.
const TIME_UNITS: [(&str, f64); 5] = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecondsError {
    /// It is neither a number nor numbers with units, or it is negative or infinite.
    #[error("must be a number of seconds, 0 or more, or a time with units, such as 500ms, 1m30s, 1h or 2d")]
    NotSeconds,
    /// It is so long that adding it to a clock could fail.
    #[error("must be at most 36500d, a century")]
    TooLong,
    /// It is 0 where that has no meaning.
    #[error("seconds must be > 0")]
    Zero,
}

/// Reads a time: a decimal number of seconds, or decimal numbers with units, such as `500ms`, `1.5s`, `1m30s`, `1h` or
/// `2d`.
///
/// # Errors
/// [`SecondsError::NotSeconds`] or [`SecondsError::TooLong`].
pub fn parse_seconds(text: &str) -> Result<Duration, SecondsError> {
    let seconds: f64 = match text.parse() {
        Ok(seconds) => seconds,
        Err(_) => seconds_with_units(text).ok_or(SecondsError::NotSeconds)?,
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if time <= TIME_MAX => Ok(time),
        Err(_) if seconds.is_nan() || seconds.is_infinite() || seconds < 0.0 => Err(SecondsError::NotSeconds),
        Ok(_) | Err(_) => Err(SecondsError::TooLong),
    }
}

/// Own code, because `humantime` panics on times near the largest `Duration`, and a client's text gets here.
fn seconds_with_units(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let (unit, after) =
            after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let (_, unit_seconds) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
        let number: f64 = number.parse().ok().filter(|_| !number.contains(['+', '-']))?;
        seconds += number * unit_seconds;
        rest = after;
    }
    (!text.is_empty()).then_some(seconds)
}

/// Reads a time above 0, as [`parse_seconds`] does.
///
/// # Errors
/// [`SecondsError`].
pub fn parse_seconds_above_zero(text: &str) -> Result<Duration, SecondsError> {
    match parse_seconds(text)? {
        Duration::ZERO => Err(SecondsError::Zero),
        seconds => Ok(seconds),
    }
}

/// Why a text is no size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It is neither a whole number nor one with a unit, or too large.
    #[error(
        "must be a number of bytes, or one with K, M, G or T behind it, for powers of 1024, such as 512M"
    )]
    NotASize,
    /// Its unit is one of those that some take for powers of 1000 and others for powers of 1024.
    #[error(
        "may mean 1000 or 1024: give {number}{letter} or {number}{letter}iB for powers of 1024, or the number of bytes"
    )]
    Ambiguous {
        /// The number.
        number: String,
        /// The first letter of the unit.
        letter: char,
    },
}

/// Reads a number of bytes, with a unit or without: `K` and `KiB` are 1024, `M` and `MiB` 1024 times as much, then `G`
/// and `T`. `KB`, `MB`, `GB` and `TB` are refused.
///
/// # Errors
/// [`SizeError`].
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let bytes: u64 = number.parse().map_err(|_| SizeError::NotASize)?;
    let mut rest = unit.chars();
    let Some(letter) = rest.next().map(|letter| letter.to_ascii_uppercase()) else { return Ok(bytes) };
    let shift = match letter {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return Err(SizeError::NotASize),
    };
    match rest.as_str() {
        "" | "iB" | "ib" => bytes.checked_mul(1 << shift).ok_or(SizeError::NotASize),
        "B" | "b" => Err(SizeError::Ambiguous { number: number.to_owned(), letter }),
        _ => Err(SizeError::NotASize),
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

/// The variable that names the control socket, for masters and clients alike, where no option does.
pub const SOCKET_VARIABLE: &str = "EINHYRNINGSINS_SOCKET";

/// The path of a control socket: what an option says, `path` or the `name` of the master; else the `variable`, the value of
/// [`SOCKET_VARIABLE`], unless that is unset or empty; else the default.
///
/// ```
/// use einhorn_proto::socket_path;
///
/// let variable = Some("/run/web/einhorn.sock".into());
/// assert_eq!(socket_path("/tmp", None, Some("web"), variable), std::path::Path::new("/tmp/einhorn-web.sock"));
/// ```
#[must_use]
pub fn socket_path(
    directory: impl AsRef<Path>,
    path: Option<PathBuf>,
    name: Option<&str>,
    variable: Option<OsString>,
) -> PathBuf {
    let variable = variable.filter(|path| name.is_none() && !path.is_empty()).map(PathBuf::from);
    path.or(variable).unwrap_or_else(|| default_path(directory, name, "sock"))
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
    fn times_are_seconds_or_have_units() {
        for (text, ms) in [
            ("0", 0),
            ("0.25", 250),
            ("90", 90_000),
            ("500ms", 500),
            ("1.5s", 1500),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("3h04m", 11_040_000),
        ] {
            assert_eq!(parse_seconds(text), Ok(Duration::from_millis(ms)), "for {text}");
        }
        for text in
            ["", "soon", "-1", "-1s", "nan", "inf", "1 s", "s", "1x", "1m30", "1M", "1e3s1", "ms500", "1m-5s"]
        {
            assert_eq!(parse_seconds(text), Err(SecondsError::NotSeconds), "for {text}");
        }
        assert_eq!(parse_seconds_above_zero("0"), Err(SecondsError::Zero));
        assert_eq!(parse_seconds_above_zero("0ms"), Err(SecondsError::Zero));
    }

    #[test]
    fn times_that_a_clock_might_not_add_are_refused() {
        assert_eq!(parse_seconds("36500d"), Ok(TIME_MAX));
        for text in ["36501d", "1e19", "1e30", "18446744073709551615s1000ms", "9999999999999999999999d"] {
            assert_eq!(parse_seconds(text), Err(SecondsError::TooLong), "for {text}");
        }
    }

    #[test]
    fn sizes_have_binary_units_and_ambiguous_ones_are_refused() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("1K", 1 << 10), ("2m", 2 << 20), ("3G", 3 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "for {text}");
        }
        for (text, bytes) in [("1KiB", 1 << 10), ("512MiB", 512 << 20), ("1gib", 1 << 30), ("1TiB", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "for {text}");
        }
        for text in ["512MB", "512mb"] {
            assert_eq!(
                parse_size(text).unwrap_err().to_string(),
                "may mean 1000 or 1024: give 512M or 512MiB for powers of 1024, or the number of bytes"
            );
        }
        for text in ["", "K", "-1", "+1", "1.5G", "1 M", "1B", "1E", "1MiBs", "1é", "99999999999T"] {
            assert_eq!(parse_size(text), Err(SizeError::NotASize), "for {text}");
        }
    }

    #[test]
    fn an_option_names_the_socket_before_the_variable_does() {
        for (path, name, variable, socket) in [
            (None, None, None, "/tmp/einhorn.sock"),
            (None, None, Some(""), "/tmp/einhorn.sock"),
            (None, None, Some("/v"), "/v"),
            (None, Some("web"), Some("/v"), "/tmp/einhorn-web.sock"),
            (Some("/d"), Some("web"), Some("/v"), "/d"),
            (Some("/d"), None, Some("/v"), "/d"),
        ] {
            let found = socket_path("/tmp", path.map(PathBuf::from), name, variable.map(OsString::from));
            assert_eq!(found, Path::new(socket), "{path:?} {name:?} {variable:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_time_and_a_size_or_is_refused(text in "[0-9.]{0,22}[a-zA-Z]{0,3}[0-9.]{0,6}.{0,3}") {
            let _ = (parse_seconds(&text), parse_size(&text));
        }
    }
}
