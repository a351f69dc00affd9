//! The master's own process attributes, and whether a process exists.

use std::ffi::CString;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::limits::KernelLimit;

/// The longest name that a process list shows, in bytes: the kernel's TASK_COMM_LEN without its NUL.
const NAME_BYTES_MAX: usize = 15;

/// Distinguishes the master from its workers, which often have the same name.
const NAME_PREFIX: &str = "ein:";

/// Whether a process with this pid exists. One that has exited and is not reaped counts.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    // EPERM: it belongs to another user.
    matches!(kill(pid, None), Ok(()) | Err(Errno::EPERM))
}

/// Sets the nice value, from -20 to 19, of this thread and of the threads and processes that it creates from
/// now on.
///
/// # Errors
/// EACCES or EPERM for a lower value than the current one, without CAP_SYS_NICE.
pub fn set_nice(nice: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Names the master in process lists (`ps -e`, `top`): `ein:` and as much of `name` as fits.
///
/// Call it on the main thread, whose name is that of the process. The command line, which `ps -f` shows, stays
/// unchanged: it contains the name (`-c NAME`), readers want the rest of it too, and the standard library reads
/// it from the same memory.
///
/// # Source
/// `PR_SET_NAME`; a worker loses the name at its exec.
pub fn set_name(name: &str) {
    let mut name = format!("{NAME_PREFIX}{}", name.replace('\0', ""));
    truncate(&mut name, NAME_BYTES_MAX);
    if let Ok(name) = CString::new(name) {
        // Fails only if the name cannot be read.
        let _ = prctl::set_name(&name);
    }
}

/// Cuts `text` to at most `bytes_max` bytes, at a character boundary.
pub(super) fn truncate(text: &mut String, bytes_max: usize) {
    while text.len() > bytes_max {
        text.pop();
    }
}

/// A limit on the number of open files of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFilesLimit {
    /// The enforced limit, in descriptors.
    pub soft: u64,
    /// How far the process may raise the soft limit by itself, in descriptors.
    pub hard: u64,
}

impl OpenFilesLimit {
    /// Converts it for `prlimit64(2)`.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn for_kernel(self) -> KernelLimit {
        let limit = libc::rlimit64 { rlim_cur: self.soft, rlim_max: self.hard };
        KernelLimit { resource: libc::RLIMIT_NOFILE as u32, limit }
    }
}

/// Raises the master's soft limit on open files to the hard limit, and returns the previous limit if it was
/// lower. Workers must get the previous limit back, because programs size tables by it and `select(2)` breaks
/// beyond 1,024.
///
/// The master needs a descriptor per control client and, with `-g`, one per worker.
///
/// # Errors
/// None known; passes on what the kernel returns.
pub fn raise_open_files() -> Result<Option<OpenFilesLimit>, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= hard {
        return Ok(None);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(Some(OpenFilesLimit { soft, hard }))
}

#[cfg(test)]
mod tests {
    use nix::unistd::getpid;

    use super::*;
    use crate::sys::testing::isolated;

    #[test]
    fn a_process_is_alive_until_it_is_reaped() {
        assert!(is_alive(getpid()));
        assert!(is_alive(Pid::from_raw(1)));
        assert!(!is_alive(Pid::from_raw(i32::MAX)));
    }

    #[test]
    fn the_nice_value_and_the_name_are_set() {
        isolated("sys::process::tests::the_nice_value_and_the_name_are_set", || {
            let comm = || std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            set_name("web");
            assert_eq!(comm(), "ein:web\n");
            set_name("a name \0too l\u{f6}ng");
            assert_eq!(comm(), "ein:a name too \n");
            set_name("123456789\u{f6}xyz");
            assert_eq!(comm(), "ein:123456789\u{f6}\n");
            set_name("1234567890\u{f6}xyz");
            assert_eq!(comm(), "ein:1234567890\n");
            set_nice(7).unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let after_name: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            assert_eq!(after_name[16], "7", "nice in {stat}");
        });
    }

    #[test]
    fn the_limit_on_open_files_is_raised_once_and_the_old_one_returned() {
        isolated(
            "sys::process::tests::the_limit_on_open_files_is_raised_once_and_the_old_one_returned",
            || {
                let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
                setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
                assert_eq!(raise_open_files(), Ok(Some(OpenFilesLimit { soft: 64, hard })));
                assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
                assert_eq!(raise_open_files(), Ok(None));
            },
        );
    }
}
