//! The surroundings of a program: what it finds besides its arguments and descriptors, and what a script sets for the
//! program that it executes. A process can give itself other ones.

use std::env;
use std::ffi::{CStr, CString, OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use super::limits::ResourceLimit;
use crate::forms;

/// Environment, directory, umask and limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Variables as `NAME=value`.
    #[serde(with = "forms::written")]
    pub environment: Vec<CString>,
    /// Without symbolic links; `None` if it has no path.
    #[serde(with = "forms::written")]
    pub directory: Option<PathBuf>,
    pub umask: u32,
    pub limits: Vec<ResourceLimit>,
}

/// A program was not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecFailure {
    /// The process may not have this limit.
    Limit(ResourceLimit, Errno),
    Exec(Errno),
}

impl Surroundings {
    /// Those of this process.
    pub fn own() -> Self {
        let variable = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).ok()
        };
        // What another thread creates in this moment has no permissions rather than too many.
        let mask = umask(Mode::from_bits_truncate(0o777));
        umask(mask);
        Self {
            environment: env::vars_os().filter_map(variable).collect(),
            directory: env::current_dir().ok(),
            umask: mask.bits(),
            limits: ResourceLimit::all_own(),
        }
    }

    /// Executes the program at `path` in these surroundings, but in the present directory. Returns only if that fails;
    /// the process then has those of `before` again, except hard limits that it may not raise.
    pub fn execute(&self, path: &CStr, argv: &[CString], before: &Self) -> ExecFailure {
        // Allocated before a limit may be in the way.
        let (argv, envp) = (pointers(argv), pointers(&self.environment));
        umask(Mode::from_bits_truncate(self.umask));
        let changed = self.limits.iter().filter(|limit| !before.limits.contains(limit));
        let failure =
            changed.clone().find_map(|limit| Some(ExecFailure::Limit(*limit, limit.set_own().err()?)));
        let failure = failure.unwrap_or_else(|| {
            // SAFETY: the path is a C string, both arrays end in null, and all of it outlives the call.
            unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
            ExecFailure::Exec(Errno::last())
        });
        for limit in &before.limits {
            let _ = limit.set_own();
        }
        umask(Mode::from_bits_truncate(before.umask));
        failure
    }

    /// Gives them to this process, each as far as that is possible, and returns what is not.
    ///
    /// Call it while there is one thread: others could be reading the environment.
    pub fn restore(&self) -> Vec<String> {
        let own = Self::own();
        let mut failures = Vec::new();
        if self.environment != own.environment {
            // SAFETY: no other thread reads or changes the environment.
            unsafe { libc::clearenv() };
            for variable in &self.environment {
                // SAFETY: as above; the string belongs to the environment from now on.
                unsafe { libc::putenv(variable.clone().into_raw()) };
            }
        }
        if let Some(directory) = self.directory.as_ref().filter(|_| self.directory != own.directory)
            && let Err(error) = env::set_current_dir(directory)
        {
            failures.push(format!("the directory {}: {error}", directory.display()));
        }
        umask(Mode::from_bits_truncate(self.umask));
        for limit in self.limits.iter().filter(|limit| !own.limits.contains(limit)) {
            if let Err(errno) = limit.set_own() {
                failures.push(format!("the limit {limit}: {}", std::io::Error::from(errno)));
            }
        }
        failures
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests {

    use nix::sys::resource::{Resource, getrlimit};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::sys::testing::{isolated, single_threaded};

    fn strings(texts: &[&str]) -> Vec<CString> {
        texts.iter().map(|text| CString::new(*text).unwrap()).collect()
    }

    /// Others than those of this process, with this limit on open files.
    fn others(own: &Surroundings, files: &str) -> Surroundings {
        let files: ResourceLimit = files.parse().unwrap();
        let is_files = |limit: &ResourceLimit| limit.to_string().starts_with("nofile=");
        let limits = own.limits.iter().map(|limit| if is_files(limit) { files } else { *limit }).collect();
        Surroundings { environment: strings(&["FRUIT=pear"]), umask: 0o027, limits, ..own.clone() }
    }

    #[test]
    fn a_program_is_executed_in_its_surroundings() {
        isolated("sys::surroundings::tests::a_program_is_executed_in_its_surroundings", || {
            let script =
                "test \"$FRUIT $(umask) $(ulimit -Sn) $(ulimit -Hn)\" = 'pear 0027 77 88' && exit 42";
            // SAFETY: the other thread, of the harness, waits for this one.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let own = Surroundings::own();
                    others(&own, "nofile=77:88").execute(c"/bin/sh", &strings(&["sh", "-c", script]), &own);
                    std::process::abort();
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 42)));
                }
            }
        });
    }

    #[test]
    fn a_failed_exec_leaves_everything_as_it_was() {
        isolated("sys::surroundings::tests::a_failed_exec_leaves_everything_as_it_was", || {
            single_threaded(|| {
                let own = Surroundings::own();
                // Root alone could raise the hard limit again.
                let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
                let others = others(&own, &format!("nofile={}:{hard}", soft / 2));
                let failure = others.execute(c"/no/such/program", &[], &own);
                assert_eq!(failure, ExecFailure::Exec(Errno::ENOENT));
                assert_eq!(Surroundings::own(), own);
                let limit: ResourceLimit = "nofile=18446744073709551614".parse().unwrap();
                let others = Surroundings { limits: vec![limit], ..others };
                let failure = others.execute(c"/bin/true", &[], &own);
                assert_eq!(failure, ExecFailure::Limit(limit, Errno::EPERM));
                assert_eq!(Surroundings::own(), own);
            });
        });
    }

    #[test]
    fn surroundings_are_restored_as_far_as_possible() {
        isolated("sys::surroundings::tests::surroundings_are_restored_as_far_as_possible", || {
            single_threaded(|| {
                let own = Surroundings::own();
                let mut others = others(&own, "nofile=77:88");
                others.directory = Some("/".into());
                assert_eq!(others.restore(), [""; 0]);
                assert_eq!(Surroundings::own(), others);
                assert_eq!((env::var("FRUIT").as_deref(), env::vars_os().count()), (Ok("pear"), 1));
                let gone = Surroundings { directory: Some("/no/such".into()), umask: 0o022, ..others };
                let failures = gone.restore();
                assert!(
                    failures.len() == 1 && failures[0].starts_with("the directory /no/such: No such file")
                );
                assert_eq!(Surroundings::own().umask, 0o022);
            });
        });
    }
}
