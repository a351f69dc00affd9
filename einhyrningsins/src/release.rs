//! What a generation runs, resolved once: program, arguments, directory, environment.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{env, io};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{AccessFlags, faccessat};

/// Where a program without a slash is looked for if `PATH` is not set. Source: `confstr(3)`, `_CS_PATH`, as
/// glibc has it.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// Variables by which somebody passed sockets or expectations to the *master*: its workers would take them
/// for their own. Those that end in `_` stand for all that begin so.
const NOT_INHERITED: &[&str] = &[
    "EINHORN_",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "SERVER_STARTER_",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// How to make a [`Release`]: what was asked for, to be looked up anew at each upgrade.
#[derive(Debug)]
pub struct Recipe {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// The directory, by a path that may lead elsewhere at the next upgrade.
    pub directory: PathBuf,
    /// Variables to keep from the workers.
    pub dropped: Vec<String>,
}

/// What the workers of one generation run.
#[derive(Debug)]
pub struct Release {
    /// The path to execute; a relative one counts from the directory.
    pub program: CString,
    /// The arguments, the program's name as it was typed first.
    pub argv: Vec<CString>,
    /// Variables as `NAME=value`.
    pub env: Vec<CString>,
    /// The directory by its name.
    pub directory_path: PathBuf,
    directory: OwnedFd,
}

/// What a release lacks.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The directory cannot be opened.
    #[error("cannot run in {directory}", directory = .directory.display())]
    Directory {
        /// Its path.
        directory: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The program is not there, or is nothing that can be executed.
    #[error("cannot execute {program}, looked up from {directory}",
            program = .program.display(), directory = .directory.display())]
    Program {
        /// As it was typed.
        program: PathBuf,
        /// Where.
        directory: PathBuf,
        /// Why.
        source: Errno,
    },
    /// No directory of `PATH` has it.
    #[error("cannot find {program} in PATH ({path})", program = .program.display())]
    NotInPath {
        /// As it was typed.
        program: PathBuf,
        /// The search path.
        path: String,
    },
    /// An argument or variable has a NUL byte in it.
    #[error("cannot pass an argument with a NUL byte in it")]
    Nul,
}

impl ReleaseError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Directory { .. } => Some("--chdir names a directory that the master may enter"),
            Self::Program { source: Errno::EACCES, .. } => {
                Some("is it a file with its executable bit set (chmod +x)?")
            }
            Self::Program { .. } => {
                Some("with a slash in it, the program is a path, from the directory of --chdir")
            }
            Self::NotInPath { .. } => Some("give a path with a slash in it, such as ./server"),
            Self::Nul => None,
        }
    }

    /// The whole of it in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let source = std::error::Error::source(self).map_or(String::new(), |source| {
            let errno = source.downcast_ref::<Errno>();
            errno.map_or(String::new(), |errno| format!(": {}", io::Error::from(*errno)))
        });
        format!("{self}{source}")
    }
}

impl Recipe {
    /// Looks everything up as it is now. `exported` are the variables that each worker gets from the master.
    ///
    /// # Errors
    /// [`ReleaseError`]; nothing was started and nothing changes.
    pub fn resolve(&self, exported: &[(String, String)]) -> Result<Release, ReleaseError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(&self.directory, flags, Mode::empty())
            .map_err(|source| ReleaseError::Directory { directory: self.directory.clone(), source })?;
        let name = self.command.first().map_or(OsStr::new(""), OsString::as_os_str);
        let program = self.find_program(name, directory.as_fd())?;
        Ok(Release {
            program: c_string(program)?,
            argv: self.command.iter().cloned().map(c_string).collect::<Result<_, _>>()?,
            env: self.environment(exported)?,
            directory_path: self.directory.clone(),
            directory,
        })
    }

    /// The path to execute, if there is something there that can be.
    fn find_program(&self, name: &OsStr, directory: BorrowedFd<'_>) -> Result<OsString, ReleaseError> {
        if name.as_bytes().contains(&b'/') {
            let fault = |source| ReleaseError::Program {
                program: name.into(),
                directory: self.directory.clone(),
                source,
            };
            return check_executable(directory, Path::new(name)).map(|()| name.to_owned()).map_err(fault);
        }
        let path = env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
        let candidates = env::split_paths(&path).map(|entry| match entry.as_os_str() {
            here if here.is_empty() => Path::new(".").join(name),
            _ => entry.join(name),
        });
        let mut denied = None;
        for candidate in candidates {
            match check_executable(directory, &candidate) {
                Ok(()) => return Ok(candidate.into_os_string()),
                // As execvp(3): something that is there but cannot be executed is the better message.
                Err(Errno::EACCES) => denied = denied.or(Some(candidate)),
                Err(_) => {}
            }
        }
        Err(match denied {
            Some(program) => {
                let directory = self.directory.clone();
                ReleaseError::Program { program, directory, source: Errno::EACCES }
            }
            None => {
                ReleaseError::NotInPath { program: name.into(), path: path.to_string_lossy().into_owned() }
            }
        })
    }

    fn environment(&self, exported: &[(String, String)]) -> Result<Vec<CString>, ReleaseError> {
        let kept = env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            !is_masters_own(&name) && name != "PWD" && !self.dropped.iter().any(|dropped| *dropped == name)
        });
        let pwd = (OsString::from("PWD"), self.directory.clone().into_os_string());
        let exported = exported.iter().map(|(name, value)| (name.into(), value.into()));
        kept.chain([pwd]).chain(exported).map(|(name, value)| variable(name, &value)).collect()
    }
}

impl Release {
    /// The directory, pinned: it stays the same one whatever becomes of its path.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// A regular file that we may execute. Whether the kernel can run what is in it only an exec tells.
fn check_executable(directory: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let stat = fstatat(directory, path, AtFlags::empty())?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Errno::EACCES);
    }
    faccessat(directory, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
}

fn is_masters_own(name: &str) -> bool {
    let is_meant = |pattern: &str| match pattern.strip_suffix('_') {
        Some(_) => name.starts_with(pattern),
        None => name == pattern,
    };
    NOT_INHERITED.iter().any(|pattern| is_meant(pattern))
}

/// `NAME=value` for exec.
pub(crate) fn variable(mut name: OsString, value: &OsStr) -> Result<CString, ReleaseError> {
    name.push("=");
    name.push(value);
    c_string(name)
}

fn c_string(text: OsString) -> Result<CString, ReleaseError> {
    CString::new(text.into_vec()).map_err(|_| ReleaseError::Nul)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn recipe(directory: &Path, program: &str) -> Recipe {
        Recipe { command: vec![program.into()], directory: directory.into(), dropped: Vec::new() }
    }

    fn fault(recipe: &Recipe) -> String {
        recipe.resolve(&[]).map(|_| ()).unwrap_err().in_words()
    }

    #[test]
    fn a_program_with_a_slash_counts_from_the_release_directory() {
        let directory = tempfile::tempdir().unwrap();
        let server = directory.path().join("server");
        fs::write(&server, "#!/bin/sh\n").unwrap();
        let recipe = recipe(directory.path(), "./server");
        let message = fault(&recipe);
        assert!(
            message.contains("cannot execute ./server") && message.contains("Permission denied"),
            "{message}"
        );
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(recipe.resolve(&[]).unwrap().program.as_bytes(), b"./server");
    }

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        assert!(fault(&recipe(directory.path(), "./server")).contains("No such file or directory"));
        assert!(fault(&recipe(directory.path(), "no-such-program-anywhere")).contains("in PATH ("));
        assert!(fault(&recipe(&directory.path().join("gone"), "sh")).starts_with("cannot run in "));
        assert!(
            fault(&recipe(Path::new("/"), "/tmp")).contains("Permission denied"),
            "a directory is no program"
        );
    }

    #[test]
    fn a_plain_name_is_looked_up_in_path() {
        let release = recipe(Path::new("/"), "sh").resolve(&[]).unwrap();
        assert!(release.program.to_str().unwrap().ends_with("/sh"));
        assert_eq!(release.argv, [c"sh".to_owned()]);
    }

    #[test]
    fn workers_do_not_inherit_what_was_meant_for_the_master() {
        for name in
            ["LISTEN_FDS", "EINHORN_FD_0", "EINHORN_MASTER_PID", "NOTIFY_SOCKET", "SERVER_STARTER_PORT"]
        {
            assert!(is_masters_own(name), "{name}");
        }
        for name in ["LISTEN_ADDRESS", "PATH", "EINHORN", "NOTIFY_SOCKET_PATH"] {
            assert!(!is_masters_own(name), "{name}");
        }
    }
}
