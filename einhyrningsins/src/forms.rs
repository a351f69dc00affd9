//! Conversions: between the core's types and the system's, and from types that serde cannot handle (times,
//! signals, pids, bytes).
//!
//! Every module that has a state uses this one.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use einhorn_proto::Severity;
use einhyrningsins_supervisor::{Moment, Pid, Signal};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The time of the clock that the core uses. It means the same to every process of this boot.
#[must_use]
pub fn now() -> Moment {
    // Fails only for clocks that a kernel lacks, and every Linux has this one.
    Moment::from_clock(clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from))
}

/// This process's clock and the core's, read together, to convert between their times.
///
/// An [`Instant`] cannot be serialised, and its origin is unspecified.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    now: Instant,
    moment: Moment,
}

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self::new(Instant::now(), now())
    }

    /// The clock of a process whose `now` is `moment`.
    #[must_use]
    pub fn new(now: Instant, moment: Moment) -> Self {
        Self { now, moment }
    }

    /// Converts to the core's time.
    #[must_use]
    pub fn moment(&self, at: Instant) -> Moment {
        self.moment + at.saturating_duration_since(self.now) - self.now.saturating_duration_since(at)
    }

    /// Converts from the core's time. A time that cannot be represented becomes now.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        let instant = if moment < self.moment {
            self.now.checked_sub(self.moment - moment)
        } else {
            self.now.checked_add(moment - self.moment)
        };
        instant.unwrap_or(self.now)
    }
}

/// Converts to the core's pid.
#[must_use]
pub fn core_pid(pid: nix::unistd::Pid) -> Pid {
    Pid::from_raw(pid.as_raw())
}

/// Converts from the core's pid.
#[must_use]
pub fn system_pid(pid: Pid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid.as_raw())
}

/// Converts to the core's signal.
///
/// # Panics
/// Never: the core knows every signal of the system.
#[must_use]
pub fn core_signal(signal: nix::sys::signal::Signal) -> Signal {
    Signal::from_name(signal.as_str()).expect("the core has a name for every signal")
}

/// Converts from the core's signal; `None` for one that this architecture lacks.
#[must_use]
pub fn system_signal(signal: Signal) -> Option<nix::sys::signal::Signal> {
    signal.as_str().parse().ok()
}

/// A duration in milliseconds for clients, clamped to the largest number.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name of a severity, in the log and in replies.
#[must_use]
pub fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warn => "warn",
        Severity::Info => "info",
        Severity::Debug => "debug",
    }
}

/// Bytes that usually are text: a path, an argument, a partly read line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bytes {
    /// Valid UTF-8.
    Text(String),
    /// Not UTF-8, written as numbers.
    Raw(Vec<u8>),
}

impl Bytes {
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Raw(bytes) => bytes,
        }
    }

    #[must_use]
    pub fn into_os_string(self) -> OsString {
        OsString::from_vec(self.into_vec())
    }

    #[must_use]
    pub fn into_path(self) -> PathBuf {
        self.into_os_string().into()
    }

    /// A C string. It ends at the first NUL, which none of ours contains.
    #[must_use]
    pub fn into_c_string(self) -> CString {
        let mut bytes = self.into_vec();
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
        CString::new(bytes).unwrap_or_default()
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Raw(bytes.to_owned()),
        }
    }
}

impl From<&OsStr> for Bytes {
    fn from(text: &OsStr) -> Self {
        text.as_bytes().into()
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        path.as_os_str().into()
    }
}

/// Serializes a type as its text: it has `Display` and `FromStr`.
macro_rules! as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text: String = serde::Deserialize::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;

/// Generates a module for `#[serde(with)]` that writes a type of the system, or a container of it, as
/// [`Bytes`].
macro_rules! as_bytes {
    ($(#[$doc:meta])* $module:ident, $type:ty, $written:ty, $write:expr, $read:expr) => {
        $(#[$doc])*
        pub(crate) mod $module {
            #[allow(unused_imports)]
            use super::*;
            use serde::{Deserializer, Serializer};

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$type) -> $written = $write;
                write(value).serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let read: fn($written) -> $type = $read;
                <$written>::deserialize(deserializer).map(read)
            }
        }
    };
}

as_bytes!(path, PathBuf, Bytes, |path| path.as_path().into(), Bytes::into_path);
as_bytes!(path_option, Option<PathBuf>, Option<Bytes>, |path| path.as_deref().map(Bytes::from), |path| path
    .map(Bytes::into_path));
as_bytes!(
    words,
    Vec<OsString>,
    Vec<Bytes>,
    |words| words.iter().map(|word| word.as_os_str().into()).collect(),
    |words| words.into_iter().map(Bytes::into_os_string).collect()
);
as_bytes!(
    words_option,
    Option<Vec<OsString>>,
    Option<Vec<Bytes>>,
    |words| words.as_ref().map(|words| words.iter().map(|word| word.as_os_str().into()).collect()),
    |words| words.map(|words| words.into_iter().map(Bytes::into_os_string).collect())
);
as_bytes!(
    os_string_option,
    Option<OsString>,
    Option<Bytes>,
    |text| text.as_deref().map(Bytes::from),
    |text| text.map(Bytes::into_os_string)
);
as_bytes!(c_string, CString, Bytes, |text| text.to_bytes().into(), Bytes::into_c_string);
as_bytes!(
    c_strings,
    Vec<CString>,
    Vec<Bytes>,
    |texts| texts.iter().map(|text| text.to_bytes().into()).collect(),
    |texts| texts.into_iter().map(Bytes::into_c_string).collect()
);
as_bytes!(bytes, Vec<u8>, Bytes, |bytes| bytes.as_slice().into(), Bytes::into_vec);

/// A pid as a number.
pub(crate) mod pid {
    use nix::unistd::Pid;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(pid: &Pid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(pid.as_raw())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pid, D::Error> {
        i32::deserialize(deserializer).map(Pid::from_raw)
    }
}

/// An optional pid as a number.
pub(crate) mod pid_option {
    use nix::unistd::Pid;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(pid: &Option<Pid>, serializer: S) -> Result<S::Ok, S::Error> {
        pid.map(Pid::as_raw).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pid>, D::Error> {
        Ok(Option::<i32>::deserialize(deserializer)?.map(Pid::from_raw))
    }
}

/// An optional signal by its name.
pub(crate) mod signal_name_option {
    use nix::sys::signal::Signal;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Named(#[serde(with = "super::signal_name")] Signal);

    pub(crate) fn serialize<S: Serializer>(
        signal: &Option<Signal>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        signal.map(Named).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Signal>, D::Error> {
        Ok(Option::<Named>::deserialize(deserializer)?.map(|Named(signal)| signal))
    }
}

/// A signal by its name.
pub(crate) mod signal_name {
    use nix::sys::signal::Signal;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(signal.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Signal, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| serde::de::Error::custom(format!("unknown signal {name}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_means_the_same_to_a_process_that_started_later() {
        let seconds = |count| Moment::from_clock(Duration::from_secs(count));
        let one = Clock::new(Instant::now(), seconds(1000));
        let moment = one.moment(one.now + Duration::from_secs(5));
        // Three seconds later by the kernel's clock, in a process with unrelated instants.
        let other = Clock::new(one.now + Duration::from_secs(77), seconds(1003));
        assert_eq!(other.instant(moment), other.now + Duration::from_secs(2));
        let past = one.moment(one.now - Duration::from_secs(4));
        assert_eq!(other.instant(past), other.now - Duration::from_secs(7));
    }

    #[test]
    fn the_core_has_a_name_for_every_signal_of_the_system() {
        for signal in nix::sys::signal::Signal::iterator() {
            assert_eq!(system_signal(core_signal(signal)), Some(signal));
        }
    }

    proptest! {
        #[test]
        fn any_moment_is_some_instant(ns in any::<i64>(), monotonic in any::<u64>()) {
            let clock = Clock::new(Instant::now(), Moment::from_clock(Duration::from_nanos(monotonic)));
            let _ = clock.instant(serde_json::from_value(ns.into()).unwrap());
        }

        #[test]
        fn any_bytes_are_read_as_they_were_written(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let json = serde_json::to_string(&Bytes::from(&bytes[..])).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().into_vec(), bytes);
        }
    }
}
