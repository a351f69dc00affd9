//! What the master does to itself and to processes that it knows by pid.

use std::ffi::CString;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::limits::KernelLimit;

/// The longest name that a process list shows, in bytes: TASK_COMM_LEN of the kernel less its NUL.
const NAME_BYTES_MAX: usize = 15;

/// Tells the master from the workers, which often have the same name.
const NAME_PREFIX: &str = "ein:";

/// Whether a process of this pid exists, one that has ended and is not reaped included.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    // EPERM: it is another user's.
    matches!(kill(pid, None), Ok(()) | Err(Errno::EPERM))
}

/// Sets the nice value, from -20 to 19, of this thread, and of the threads and processes that it makes from now on.
///
/// # Errors
/// EACCES or EPERM for a value below the present one without CAP_SYS_NICE.
pub fn set_nice(nice: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Names the master in process lists (`ps -e`, `top`): `ein:` and as much of `name` as there is room for.
///
/// Call it on the main thread, whose name is the process's. The command line, which `ps -f` shows, is left as it
/// is: it holds the name (`-c NAME`), whoever looks wants the rest of it too, and it is kept in memory that the
/// standard library reads.
///
/// # Source
/// `PR_SET_NAME`; a worker loses the name by its exec.
pub fn set_name(name: &str) {
    let mut name = format!("{NAME_PREFIX}{}", name.replace('\0', ""));
    truncate(&mut name, NAME_BYTES_MAX);
    if let Ok(name) = CString::new(name) {
        // It fails only for memory that cannot be read.
        let _ = prctl::set_name(&name);
    }
}

/// Cuts `text` to at most `bytes_max` bytes, between two characters.
pub(super) fn truncate(text: &mut String, bytes_max: usize) {
    while text.len() > bytes_max {
        text.pop();
    }
}

/// A limit on the number of open files of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFilesLimit {
    /// What is enforced, in descriptors.
    pub soft: u64,
    /// How far the process may raise it by itself, likewise.
    pub hard: u64,
}

impl OpenFilesLimit {
    /// The form in which the kernel takes it.
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn for_kernel(self) -> KernelLimit {
        let limit = libc::rlimit64 { rlim_cur: self.soft, rlim_max: self.hard };
        KernelLimit { resource: libc::RLIMIT_NOFILE as u32, limit }
    }
}

/// Raises the master's limit on open files as far as it may, and returns the limit that there was, if that was
/// lower: a worker must get it back, because programs size tables by it and `select(2)` breaks beyond 1,024.
///
/// The master has a descriptor per control client, and with `-g` one per worker.
///
/// # Errors
/// None is known; whatever the kernel says.
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
    fn a_process_is_alive_or_not() {
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
    fn the_limit_on_open_files_is_raised_once_and_the_old_one_told() {
        isolated("sys::process::tests::the_limit_on_open_files_is_raised_once_and_the_old_one_told", || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
            assert_eq!(raise_open_files(), Ok(Some(OpenFilesLimit { soft: 64, hard })));
            assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((hard, hard)));
            assert_eq!(raise_open_files(), Ok(None));
        });
    }
}
