//! Conversions: between the core's types and the system's, and from types that serde cannot handle (times,
//! signals, pids, bytes).
//!
//! Every module that has a state uses this one.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use einhorn_proto::Severity;
use einhyrningsins_supervisor::{Moment, Pid, Signal};
use nix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The time of the clock that the core uses. It means the same to every process of this boot.
pub fn now() -> Moment {
    // Fails only for clocks that a kernel lacks, and every Linux has this one.
    Moment::from_clock(clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from))
}

/// Converts from the core's time. An [`Instant`] cannot be serialised, and its origin is unspecified. A time that cannot
/// be represented becomes now.
pub fn instant(moment: Moment) -> Instant {
    instant_by(Instant::now(), now(), moment)
}

/// The same for a process whose clock shows `here` when the core's shows `now`.
fn instant_by(here: Instant, now: Moment, moment: Moment) -> Instant {
    let instant = if moment < now { here.checked_sub(now - moment) } else { here.checked_add(moment - now) };
    instant.unwrap_or(here)
}

/// Converts to the core's pid.
pub fn core_pid(pid: nix::unistd::Pid) -> Pid {
    Pid::from_raw(pid.as_raw())
}

/// Converts from the core's pid.
pub fn system_pid(pid: Pid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid.as_raw())
}

/// Converts to the core's signal.
///
/// # Panics
/// Never: the core knows every signal of the system.
pub fn core_signal(signal: nix::sys::signal::Signal) -> Signal {
    Signal::from_name(signal.as_str()).expect("the core has a name for every signal")
}

/// Converts from the core's signal; `None` for one that this architecture lacks.
pub fn system_signal(signal: Signal) -> Option<nix::sys::signal::Signal> {
    signal.as_str().parse().ok()
}

/// A duration in milliseconds for clients, clamped to the largest number.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name of a severity, in the log and in replies.
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
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Raw(bytes) => bytes,
        }
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

/// What is written instead of a type that serde cannot handle.
pub(crate) trait Written: Sized {
    type As: Serialize + DeserializeOwned;

    fn write(&self) -> Result<Self::As, String>;

    fn read(written: Self::As) -> Result<Self, String>;
}

/// For `#[serde(with)]`: a type that is [`Written`] as another one.
pub(crate) mod written {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Written;

    pub(crate) fn serialize<T: Written, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        value.write().map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Written, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        T::read(T::As::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<T: Written> Written for Option<T> {
    type As = Option<T::As>;

    fn write(&self) -> Result<Self::As, String> {
        self.as_ref().map(T::write).transpose()
    }

    fn read(written: Self::As) -> Result<Self, String> {
        written.map(T::read).transpose()
    }
}

impl<T: Written> Written for Vec<T> {
    type As = Vec<T::As>;

    fn write(&self) -> Result<Self::As, String> {
        self.iter().map(T::write).collect()
    }

    fn read(written: Self::As) -> Result<Self, String> {
        written.into_iter().map(T::read).collect()
    }
}

macro_rules! written {
    ($($type:ty as $written:ty: $write:expr, $read:expr;)*) => {
        $(impl Written for $type {
            type As = $written;

            fn write(&self) -> Result<$written, String> {
                let write: fn(&$type) -> $written = $write;
                Ok(write(self))
            }

            fn read(written: $written) -> Result<Self, String> {
                let read: fn($written) -> Result<$type, String> = $read;
                read(written)
            }
        })*
    };
}

written! {
    Vec<u8> as Bytes: |bytes| bytes.as_slice().into(), |bytes| Ok(bytes.into_vec());
    VecDeque<u8> as Bytes: |bytes| bytes.clone().make_contiguous()[..].into(), |bytes| Ok(bytes.into_vec().into());
    OsString as Bytes: |text| text.as_bytes().into(), |bytes| Ok(OsString::from_vec(bytes.into_vec()));
    PathBuf as Bytes: |path| path.as_os_str().as_bytes().into(), |bytes| OsString::read(bytes).map(PathBuf::from);
    CString as Bytes: |text| text.to_bytes().into(), |bytes| CString::new(bytes.into_vec()).map_err(in_words);
    nix::unistd::Pid as i32: |pid| pid.as_raw(), |pid| Ok(nix::unistd::Pid::from_raw(pid));
    nix::sys::signal::Signal as String: |signal| signal.to_string(), |name| name.parse().map_err(in_words);
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn in_words(error: impl ToString) -> String {
    error.to_string()
}

/// For `#[serde(with)]`: a map as the list of its values, which contain their keys.
pub(crate) mod values {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Keyed;

    pub(crate) fn serialize<K, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.values())
    }

    pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Ord,
        V: Deserialize<'de> + Keyed<K>,
        D: Deserializer<'de>,
    {
        let values = Vec::<V>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| (value.key(), value)).collect())
    }
}

/// A value that contains its key in a map.
pub(crate) trait Keyed<K> {
    fn key(&self) -> K;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_becomes_an_instant_of_this_process() {
        let seconds = |count| Moment::from_clock(Duration::from_secs(count));
        let (here, now) = (Instant::now(), seconds(1003));
        assert_eq!(instant_by(here, now, seconds(1005)), here + Duration::from_secs(2));
        assert_eq!(instant_by(here, now, seconds(996)), here - Duration::from_secs(7));
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
            let now = Moment::from_clock(Duration::from_nanos(monotonic));
            let _ = instant_by(Instant::now(), now, serde_json::from_value(ns.into()).unwrap());
        }

        #[test]
        fn any_bytes_are_read_as_they_were_written(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let json = serde_json::to_string(&Bytes::from(&bytes[..])).unwrap();
            prop_assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap().into_vec(), bytes);
        }
    }
}
