//! What the master does to itself and to processes that it knows by pid.

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Whether a process of this pid exists, one that has ended and is not reaped included.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    // EPERM: it is another user's.
    matches!(kill(pid, None), Ok(()) | Err(Errno::EPERM))
}

/// A limit on the number of open files of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFilesLimit {
    /// What is enforced.
    pub soft: u64,
    /// How far the process may raise it by itself.
    pub hard: u64,
}

impl OpenFilesLimit {
    /// The form in which the kernel takes it.
    pub(super) fn to_rlimit(self) -> libc::rlimit64 {
        libc::rlimit64 { rlim_cur: self.soft, rlim_max: self.hard }
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
    use super::*;
    use crate::sys::testing::isolated;

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
