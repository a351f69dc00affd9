//! Descriptors that a service manager passes to the process that it starts.

use std::ffi::OsString;
use std::os::fd::RawFd;

/// The first of them. Source: `sd_listen_fds(3)`, SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// More than any manager passes; what is beyond is a mistake.
const PASSED_MAX: usize = 1 << 16;

/// What a descriptor is called to which nobody gave a name. Source: `sd_listen_fds(3)`.
const NAMELESS: &str = "unknown";

/// The descriptors that were passed to process `pid`, with their names, as its variables tell; `variable` looks one
/// up. What was meant for another process, or makes no sense, is as if there were none.
pub fn passed(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Vec<(RawFd, String)> {
    let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
    let number = |name: &str| text(name)?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(pid) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").map_or(0, |count| count as usize);
    if count > PASSED_MAX {
        return Vec::new();
    }
    let names = text("LISTEN_FDNAMES");
    let names = names.iter().flat_map(|names| names.split(':')).map(str::to_owned);
    (FIRST..).zip(names.chain(std::iter::repeat(NAMELESS.to_owned()))).take(count).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> Vec<(RawFd, String)> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        passed(|name| variables.get(name).map(OsString::from), 7)
    }

    #[test]
    fn descriptors_have_the_names_that_were_given() {
        let found = of(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "web:admin")]);
        assert_eq!(found, [(3, "web".to_owned()), (4, "admin".to_owned()), (5, "unknown".to_owned())]);
        assert_eq!(of(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "1")]), [(3, "unknown".to_owned())]);
    }

    #[test]
    fn what_is_for_another_process_or_makes_no_sense_is_none() {
        for variables in [
            &[][..],
            &[("LISTEN_FDS", "1")],
            &[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")],
            &[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")],
            &[("LISTEN_PID", "7"), ("LISTEN_FDS", "4000000000")],
        ] {
            assert_eq!(of(variables), [], "{variables:?}");
        }
    }
}
