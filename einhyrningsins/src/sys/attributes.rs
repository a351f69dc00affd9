//! What a program inherits across an exec and a script may have changed, for comparison. None of it is set from here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::stat::{FileStat, fstat, stat};
use serde::{Deserialize, Serialize};

/// Attributes by name. A value means nothing but that another one is different.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes(BTreeMap<String, String>);

/// Names of attributes, and the lines of `/proc/self/status` in which they are. Source: `proc_pid_status(5)`.
const STATUS: [(&str, &[&str]); 6] = [
    ("user and groups", &["Uid", "Gid", "Groups"]),
    ("capabilities", &["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"]),
    ("seccomp filter", &["Seccomp", "Seccomp_filters"]),
    ("CPU affinity", &["Cpus_allowed"]),
    ("memory nodes", &["Mems_allowed"]),
    ("use of huge pages", &["THP_enabled"]),
];

/// Names of attributes, and their fields in `/proc/self/stat`, counted from 0 behind the name of the program. Source:
/// `proc_pid_stat(5)`, where they are 3 more.
const STAT: [(&str, &[usize]); 4] =
    [("session", &[3]), ("terminal", &[4]), ("nice value", &[16]), ("scheduling policy", &[37, 38])];

/// Names of attributes, and their files in `/proc/self`.
const FILES: [(&str, &str); 6] = [
    ("control group", "cgroup"),
    ("core dump filter", "coredump_filter"),
    ("out-of-memory score", "oom_score_adj"),
    ("personality", "personality"),
    ("security label", "attr/current"),
    ("timer slack", "timerslack_ns"),
];

/// Namespaces, in `/proc/self/ns`.
const NAMESPACES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// Source: `ioprio_get(2)`.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

impl Attributes {
    /// Those of this process, as far as the kernel shows them. Call it in the main thread.
    pub fn own() -> Self {
        let read = |path: &str| fs::read(format!("/proc/self/{path}")).unwrap_or_default();
        let text = |path: &str| String::from_utf8_lossy(&read(path)).trim().to_owned();
        let (status, fields) = (text("status"), text("stat"));
        let fields: Vec<_> = fields.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        let line = |name: &&str| status.lines().find(|line| line.split(':').next() == Some(name));
        let mut own = Self::default();
        for (name, lines) in STATUS {
            own.add(name, lines.iter().filter_map(line).collect::<Vec<_>>().join("\n"));
        }
        for (name, numbers) in STAT {
            let values = numbers.iter().filter_map(|number| fields.get(*number).copied());
            own.add(name, values.collect::<Vec<_>>().join(" "));
        }
        for (name, path) in FILES {
            own.add(name, text(path));
        }
        let namespace = |name| fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        own.add("namespaces", NAMESPACES.map(|name| namespace(name).display().to_string()).join(" "));
        own.add("root directory", stat("/").map_or_else(|_| String::new(), |found| file_id(&found)));
        own.add("standard input", identity(std::io::stdin()));
        own.add("standard output", identity(std::io::stdout()));
        own.add_standard_error(std::io::stderr());
        // SAFETY: no memory is involved.
        own.add("secure bits", unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) }.to_string());
        // SAFETY: no memory is involved.
        let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) };
        own.add("I/O priority", priority.to_string());
        let mut policy: libc::c_int = 0;
        // SAFETY: the kernel writes the policy to a live place, and with no mask nothing else.
        unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut policy, 0, 0, 0, 0) };
        own.add("memory policy", policy.to_string());
        own
    }

    /// Adds one, or changes it.
    pub fn add(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Which file `stderr` is.
    pub fn add_standard_error(&mut self, stderr: impl AsFd) {
        self.add("standard error", identity(stderr));
    }

    /// The names of those that are not as in `other`, and of those that only one has.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let names: BTreeSet<_> = self.0.keys().chain(other.0.keys()).map(String::as_str).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).collect()
    }
}

/// Which file a descriptor is of; both ends of a pipe are one.
fn identity(fd: impl AsFd) -> String {
    fstat(fd).map_or_else(|_| String::new(), |found| file_id(&found))
}

fn file_id(found: &FileStat) -> String {
    format!("{}:{}:{}", found.st_dev, found.st_ino, found.st_rdev)
}

#[cfg(test)]
mod tests {
    use nix::sys::prctl;
    use nix::unistd::{Pid, setpgid, setsid};

    use super::*;
    use crate::sys::process::set_nice;
    use crate::sys::testing::{isolated, single_threaded};

    #[test]
    fn every_attribute_is_found_and_stays_as_it_is() {
        // Only root may read the timer slack of another thread than its own.
        isolated("sys::attributes::tests::every_attribute_is_found_and_stays_as_it_is", || {
            single_threaded(|| {
                let own = Attributes::own();
                for (name, value) in &own.0 {
                    // Without a security module there is no label.
                    assert!(!value.is_empty() || name == "security label", "{name}");
                }
                assert_eq!(own.differences(&Attributes::own()), [""; 0]);
            });
        });
    }

    #[test]
    fn what_a_script_may_change_is_named() {
        isolated("sys::attributes::tests::what_a_script_may_change_is_named", || {
            single_threaded(|| {
                let before = Attributes::own();
                set_nice(7).unwrap();
                assert_eq!(Attributes::own().differences(&before), ["nice value"]);
                prctl::set_timerslack(77_777).unwrap();
                assert_eq!(Attributes::own().differences(&before), ["nice value", "timer slack"]);
                let before = Attributes::own();
                prctl::set_no_new_privs().unwrap();
                setpgid(Pid::from_raw(0), Pid::from_raw(0)).unwrap();
                assert_eq!(Attributes::own().differences(&before), ["capabilities"]);
                fs::write("/proc/self/oom_score_adj", "900").unwrap();
                assert_eq!(Attributes::own().differences(&before), ["capabilities", "out-of-memory score"]);
            });
            single_threaded(|| {
                let before = Attributes::own();
                setsid().unwrap();
                let now = Attributes::own();
                assert!(now.differences(&before).contains(&"session"));
            });
        });
    }

    #[test]
    fn one_that_only_one_side_knows_is_different() {
        let (mut newer, older) = (Attributes::own(), Attributes::own());
        newer.add("colour", "red".into());
        assert_eq!(newer.differences(&older), ["colour"]);
        assert_eq!(older.differences(&newer), ["colour"]);
    }
}
