//! Resource limits: those of this process, parsing those of workers, and the form that `setrlimit(2)` takes.

use std::fmt;
use std::str::FromStr;

use einhorn_proto::{SizeError, parse_size};
use nix::errno::Errno;
use nix::libc;

use crate::forms::as_text;

/// `infinity` in the kernel's 64-bit calls, on every architecture (RLIM64_INFINITY).
const INFINITY: u64 = u64::MAX;

/// A resource: its name without `RLIMIT_`, and the kernel's number for it.
struct Resource {
    name: &'static str,
    number: u32,
    is_in_bytes: bool,
}

const fn in_bytes(name: &'static str, number: u32) -> Resource {
    Resource { name, number, is_in_bytes: true }
}

const fn counted(name: &'static str, number: u32) -> Resource {
    Resource { name, number, is_in_bytes: false }
}

/// All resources. C libraries disagree about the type of the numbers.
#[allow(clippy::unnecessary_cast)]
const RESOURCES: [Resource; 16] = [
    in_bytes("as", libc::RLIMIT_AS as u32),
    in_bytes("core", libc::RLIMIT_CORE as u32),
    counted("cpu", libc::RLIMIT_CPU as u32),
    in_bytes("data", libc::RLIMIT_DATA as u32),
    in_bytes("fsize", libc::RLIMIT_FSIZE as u32),
    counted("locks", libc::RLIMIT_LOCKS as u32),
    in_bytes("memlock", libc::RLIMIT_MEMLOCK as u32),
    in_bytes("msgqueue", libc::RLIMIT_MSGQUEUE as u32),
    counted("nice", libc::RLIMIT_NICE as u32),
    counted("nofile", libc::RLIMIT_NOFILE as u32),
    counted("nproc", libc::RLIMIT_NPROC as u32),
    in_bytes("rss", libc::RLIMIT_RSS as u32),
    counted("rtprio", libc::RLIMIT_RTPRIO as u32),
    counted("rttime", libc::RLIMIT_RTTIME as u32),
    counted("sigpending", libc::RLIMIT_SIGPENDING as u32),
    in_bytes("stack", libc::RLIMIT_STACK as u32),
];

/// A limit on one resource, in bytes or as a count. Its text form is `NAME=SOFT[:HARD]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Index in [`RESOURCES`].
    resource: usize,
    soft: u64,
    hard: u64,
}

impl ResourceLimit {
    /// All limits of this process.
    pub fn all_own() -> Vec<Self> {
        (0..RESOURCES.len()).filter_map(Self::own).collect()
    }

    /// This process's limit on open files.
    pub fn own_open_files() -> Option<Self> {
        RESOURCES.iter().position(|resource| resource.name == "nofile").and_then(Self::own)
    }

    fn own(resource: usize) -> Option<Self> {
        let limit = own_limit(RESOURCES[resource].number).ok()?;
        Some(Self { resource, soft: limit.rlim_cur, hard: limit.rlim_max })
    }

    /// Sets it for this process. Allocates nothing.
    ///
    /// # Errors
    /// EPERM for a hard limit above the present one, without CAP_SYS_RESOURCE.
    pub fn set_own(&self) -> Result<(), Errno> {
        let KernelLimit { resource, limit } = self.for_kernel();
        let no_old = std::ptr::null_mut::<libc::rlimit64>();
        // SAFETY: the kernel reads the new limit, which lives here, and writes nothing (the old limit is null).
        Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, no_old) })
            .map(drop)
    }

    /// Converts it for `prlimit64(2)`.
    pub(super) fn for_kernel(self) -> KernelLimit {
        let limit = libc::rlimit64 { rlim_cur: self.soft, rlim_max: self.hard };
        KernelLimit { resource: RESOURCES[self.resource].number, limit }
    }
}

/// A limit as `prlimit64(2)` takes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KernelLimit {
    pub(super) resource: u32,
    pub(super) limit: libc::rlimit64,
}

/// This process's hard limit of the resource with this number.
pub fn own_hard_limit(resource: u32) -> Result<u64, Errno> {
    own_limit(resource).map(|limit| limit.rlim_max)
}

fn own_limit(resource: u32) -> Result<libc::rlimit64, Errno> {
    let mut own = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let nothing = std::ptr::null::<libc::rlimit64>();
    // SAFETY: reads only (the new limit is null), and the kernel writes the old limit into live memory of its
    // size.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, nothing, &raw mut own) };
    Errno::result(result).map(|_| own)
}

/// The name of the resource with this number, without `RLIMIT_`.
pub fn resource_name(number: u32) -> &'static str {
    RESOURCES.iter().find(|resource| resource.number == number).map_or("?", |resource| resource.name)
}

/// Formats a limit: a number, or `infinity`.
pub fn in_words(limit: u64) -> String {
    if limit == INFINITY { "infinity".to_owned() } else { limit.to_string() }
}

impl fmt::Display for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", RESOURCES[self.resource].name, in_words(self.soft), in_words(self.hard))
    }
}

impl fmt::Debug for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a [`ResourceLimit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    #[error("must be NAME=SOFT[:HARD]")]
    NoValue,
    #[error("unknown limit \"{}\"; valid limits: {}", .0.escape_debug(), names())]
    UnknownName(String),
    #[error("\"{}\" is not a limit: give a whole number{}, or infinity", .value.escape_debug(),
            if *.is_in_bytes { " of bytes, with suffix K, M, G or T for powers of 1024" } else { "" })]
    BadNumber {
        value: String,
        /// Whether the resource is measured in bytes, which allows suffixes.
        is_in_bytes: bool,
    },
    #[error("\"{}\" {why}", .value.escape_debug())]
    Ambiguous { value: String, why: SizeError },
    #[error("the soft limit, {}, is above the hard limit, {}", in_words(*.soft), in_words(*.hard))]
    SoftAboveHard { soft: u64, hard: u64 },
}

fn names() -> String {
    RESOURCES.map(|resource| resource.name).join(", ")
}

impl FromStr for ResourceLimit {
    type Err = LimitError;

    /// Reads `NAME=SOFT[:HARD]`. The name is case-insensitive, with or without `RLIMIT_`; a single value sets
    /// both limits.
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (name, values) = text.split_once('=').ok_or(LimitError::NoValue)?;
        let plain = name.to_ascii_lowercase();
        let plain = plain.strip_prefix("rlimit_").unwrap_or(&plain);
        let resource = RESOURCES.iter().position(|resource| resource.name == plain);
        let resource = resource.ok_or_else(|| LimitError::UnknownName(name.to_owned()))?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let is_in_bytes = RESOURCES[resource].is_in_bytes;
        let (soft, hard) = (parse_value(soft, is_in_bytes)?, parse_value(hard, is_in_bytes)?);
        if soft > hard {
            return Err(LimitError::SoftAboveHard { soft, hard });
        }
        Ok(Self { resource, soft, hard })
    }
}

fn parse_value(text: &str, is_in_bytes: bool) -> Result<u64, LimitError> {
    if text == "infinity" || text == "unlimited" {
        return Ok(INFINITY);
    }
    let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
    match parse_size(text) {
        // The largest number is the kernel's infinity, which has to be given by name.
        Ok(number) if number != INFINITY && (is_in_bytes || is_bare) => Ok(number),
        Err(why @ SizeError::Ambiguous { .. }) if is_in_bytes => {
            Err(LimitError::Ambiguous { value: text.to_owned(), why })
        }
        Ok(_) | Err(_) => Err(LimitError::BadNumber { value: text.to_owned(), is_in_bytes }),
    }
}

as_text!(ResourceLimit);

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource as Known, getrlimit};
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<ResourceLimit, String> {
        text.parse().map_err(|error: LimitError| error.to_string())
    }

    #[test]
    fn a_limit_is_a_number_for_both_or_one_for_each() {
        let finite = |limit: u64| (limit != INFINITY).then_some(limit);
        let limits = |text| {
            let name = |limit: &ResourceLimit| RESOURCES[limit.resource].name;
            parse(text).map(|limit| (name(&limit), finite(limit.soft), finite(limit.hard)))
        };
        assert_eq!(limits("nofile=1024"), Ok(("nofile", Some(1024), Some(1024))));
        assert_eq!(limits("RLIMIT_NOFILE=1024:4096"), Ok(("nofile", Some(1024), Some(4096))));
        assert_eq!(limits("Core=0:infinity"), Ok(("core", Some(0), None)));
        assert_eq!(limits("memlock=unlimited"), Ok(("memlock", None, None)));
        assert_eq!(limits("as=2GiB"), Ok(("as", Some(2 << 30), Some(2 << 30))));
        assert_eq!(limits("as=2G:1T"), Ok(("as", Some(2 << 30), Some(1 << 40))));
        assert_eq!(limits("stack=64k"), Ok(("stack", Some(65_536), Some(65_536))));
    }

    #[test]
    fn a_bad_limit_is_named() {
        for (text, words) in [
            ("nofile", "must be NAME=SOFT[:HARD]"),
            ("files=1", "unknown limit \"files\"; valid limits: as, core, cpu, "),
            ("=1", "unknown limit \"\""),
            ("nofile=", "\"\" is not a limit: give a whole number, or infinity"),
            ("nofile=1K", "\"1K\" is not a limit"),
            ("nofile=-1", "\"-1\" is not a limit"),
            ("nofile=+1", "\"+1\" is not a limit"),
            ("nofile=1:2:3", "\"2:3\" is not a limit"),
            ("as=1.5G", "powers of 1024"),
            ("as=K", "\"K\" is not a limit"),
            ("as=2GB", "\"2GB\" may mean 1000 or 1024: give 2G or 2GiB"),
            ("nofile=2GB", "\"2GB\" is not a limit"),
            ("as=99999999999T", "is not a limit"),
            ("cpu=18446744073709551615", "is not a limit"),
            ("nofile=2:1", "the soft limit, 2, is above the hard limit, 1"),
            ("nofile=infinity:9", "the soft limit, infinity, is above the hard limit, 9"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn each_name_maps_to_the_kernels_number() {
        for (name, known) in [
            ("as", Known::RLIMIT_AS),
            ("core", Known::RLIMIT_CORE),
            ("cpu", Known::RLIMIT_CPU),
            ("memlock", Known::RLIMIT_MEMLOCK),
            ("nofile", Known::RLIMIT_NOFILE),
            ("nproc", Known::RLIMIT_NPROC),
            ("sigpending", Known::RLIMIT_SIGPENDING),
            ("stack", Known::RLIMIT_STACK),
        ] {
            let limit = parse(&format!("{name}=1")).unwrap().for_kernel();
            assert_eq!(own_hard_limit(limit.resource), getrlimit(known).map(|(_, hard)| hard), "{name}");
            assert_eq!(resource_name(limit.resource), name);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_or_refused_without_a_panic(text in ".{0,40}", value in "[0-9KMG:a-z]{0,12}") {
            let _ = parse(&text);
            if let Ok(limit) = parse(&format!("as={value}")) {
                prop_assert_eq!(parse(&limit.to_string()), Ok(limit));
                let json = serde_json::to_string(&limit).unwrap();
                prop_assert_eq!(serde_json::from_str::<ResourceLimit>(&json).unwrap(), limit);
            }
        }
    }
}
