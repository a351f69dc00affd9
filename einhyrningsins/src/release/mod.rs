//! Releases: what a generation runs, resolved once and pinned (program, arguments, directory, environment,
//! user).
//!
//! The directory and the program are held by descriptors. A respawned worker therefore runs what its generation
//! was resolved to, even if a symbolic link has moved or another file has been renamed over the program. Three
//! things cannot be held:
//! - A script (`#!`) runs by its path inside the held directory, because its interpreter opens it by path.
//! - A file that is overwritten in place, rather than replaced, is the same file with new contents. The kernel
//!   refuses that (ETXTBSY) only while a worker runs it.
//! - Files that the program opens by path later: libraries, modules, templates.

mod attributes;
mod env_file;
mod process;
mod program;

use std::error::Error;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use einhorn_proto::{CommandInfo, ReleaseStatus, SOCKET_VARIABLE, command_info};
use einhyrningsins_supervisor::Generation;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::AccessFlags;
use serde::{Deserialize, Serialize};

pub use self::attributes::{Attributes, WorkerLog};
use self::env_file::Variable;
pub use self::env_file::{EnvFileError, LineFault};
pub use self::process::ProcessOptions;

/// Parses what may stand in a file of variables.
#[cfg(fuzzing)]
pub fn parse_env_file(text: &[u8]) -> Result<(), EnvFileError> {
    env_file::parse(text).map(drop)
}

pub use self::program::Program;
pub(crate) use self::program::{ProgramFile, RUNNING};
use crate::forms;
use crate::sys::access::check_access;
use crate::sys::account::{Account, AccountError, AccountSpec, Credentials};
use crate::sys::inherit::Kept;

/// Variables that passed sockets or expectations to the *master*, which its workers would take for their own.
/// An entry that ends in `_` covers every variable with that prefix.
const NOT_INHERITED: &[&str] = &[
    "EINHORN_",
    SOCKET_VARIABLE,
    "FDSTORE",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "SERVER_STARTER_",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The variable in the file of variables that names the release.
const NAME_VARIABLE: &str = "RELEASE";

/// Where systems keep their own programs, such as interpreters. Links there choose a version, and no deploy moves them.
const SYSTEM_DIRECTORIES: [&str; 5] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin"];

/// The options from which a [`Release`] is resolved, again at each upgrade.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recipe {
    #[serde(with = "forms::written")]
    pub command: Vec<OsString>,
    /// The path of the directory, which may lead elsewhere at the next upgrade.
    #[serde(with = "forms::written")]
    pub directory: PathBuf,
    /// Inherited variables that workers must not get.
    pub dropped: Vec<String>,
    /// Whether `dropped` applies from the start or, as in einhorn, only once a new image of the master no
    /// longer has the variables.
    pub drops_at_start: bool,
    /// Whether a worker's first argument is the absolute path of the program, as in einhorn, or the text of the
    /// command line.
    pub absolute_argv0: bool,
    /// The path of a file of variables. A relative path starts at `directory`, so that a release can bring its
    /// own.
    #[serde(with = "forms::written")]
    pub env_file: Option<PathBuf>,
    /// The user and group of the workers.
    #[serde(default)]
    pub account: AccountSpec,
}

/// What the workers of one generation run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Release {
    pub generation: Generation,
    pub program: Program,
    /// The arguments, starting with the program's name.
    #[serde(with = "forms::written")]
    pub argv: Vec<CString>,
    /// Variables as `NAME=value`.
    #[serde(with = "forms::written")]
    pub env: Vec<CString>,
    /// The path of the directory as configured.
    #[serde(with = "forms::written")]
    pub directory_path: PathBuf,
    /// The same path without symbolic links, as it was resolved.
    #[serde(with = "forms::written")]
    pub real_directory: PathBuf,
    /// The pinned directory: it stays the same, whatever happens to its path. `None` for the current directory of the
    /// master, which it may not enter again.
    pub directory: Option<Kept<OwnedFd>>,
    /// The user and groups of the workers; `None` for the master's.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Its own name: `RELEASE` in the file of variables.
    #[serde(default)]
    pub own_name: Option<String>,
    /// What else its workers are made with. `None` in the state of an older master, which had the same for every release.
    #[serde(default)]
    pub attributes: Option<Attributes>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("cannot run in {directory}", directory = .directory.display())]
    Directory { directory: PathBuf, source: Errno },
    #[error("cannot execute {program}, looked up from {directory}",
            program = .program.display(), directory = .directory.display())]
    Program {
        program: PathBuf,
        /// The directory that a relative path starts at.
        directory: PathBuf,
        source: Errno,
    },
    #[error("cannot find {program} in PATH ({path})", program = .program.display())]
    NotInPath {
        program: PathBuf,
        path: String,
        /// The directory that a relative path starts at.
        directory: PathBuf,
    },
    #[error("cannot use the variables of {file}, looked up from {directory}",
            file = .file.display(), directory = .directory.display())]
    EnvFile {
        file: PathBuf,
        /// The directory that a relative path starts at.
        directory: PathBuf,
        source: EnvFileError,
    },
    #[error("cannot run workers as {account}")]
    Account { account: AccountSpec, source: AccountError },
    #[error("cannot pass an argument with a NUL byte in it")]
    Nul,
}

impl ReleaseError {
    pub fn hint(&self) -> Option<String> {
        if let Self::Program { source, .. } | Self::Directory { source, .. } = self
            && matches!(source, Errno::EMFILE | Errno::ENFILE)
        {
            return Some("raise the limit on open files (ulimit -n, LimitNOFILE=)".to_owned());
        }
        if let Self::Program { program, directory, .. } | Self::NotInPath { program, directory, .. } = self
            && let Some(words) = several_words(program, directory)
        {
            return Some(format!("the program and its arguments must be separate words: {words}"));
        }
        let hint = match self {
            Self::Directory { .. } => Some("give --chdir a directory that the master may enter"),
            Self::Program { program, directory, source: Errno::EACCES } => {
                Some(why_not_executable(&directory.join(program)))
            }
            Self::Program { .. } => {
                Some("a program with a slash is a path that starts at the directory of --chdir")
            }
            Self::NotInPath { program, .. } if is_command(program) => {
                Some("that is a command of einhyrningsinsctl")
            }
            Self::NotInPath { .. } => Some("give a path with a slash, such as ./server"),
            Self::EnvFile { source: EnvFileError::Read(_), .. } => {
                Some("a relative --env-file starts at the directory of --chdir, or at the current one")
            }
            Self::Account { source, .. } => Some(source.hint()),
            Self::EnvFile { .. } | Self::Nul => None,
        };
        hint.map(str::to_owned)
    }

    /// The error and its causes on one line.
    pub fn in_words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            words += ": ";
            words += &match error.downcast_ref::<Errno>() {
                Some(errno) => io::Error::from(*errno).to_string(),
                None => error.to_string(),
            };
            cause = error.source();
        }
        words
    }
}

/// `./server --foo` as one word: what it is as several, if its first word is a file.
fn several_words(program: &Path, directory: &Path) -> Option<String> {
    let (first, _) = program.to_str()?.split_once(' ')?;
    let is_found = match first.contains('/') {
        true => directory.join(first).is_file(),
        false => env::split_paths(&env::var_os("PATH")?).any(|entry| entry.join(first).is_file()),
    };
    is_found.then(|| program.display().to_string())
}

/// Whether it is the name of a command that people type at the client.
fn is_command(program: &Path) -> bool {
    let name = program.to_str().unwrap_or_default();
    command_info(name).is_some_and(CommandInfo::is_typed)
}

fn why_not_executable(path: &Path) -> &'static str {
    let found = fs::metadata(path);
    let is_noexec = || statvfs(path).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC));
    match found {
        Ok(found) if found.is_dir() => "that is a directory; give a program in it",
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            "check that it is a file with its executable bit set (chmod +x)"
        }
        Ok(_) if is_noexec() => "its file system is mounted noexec: move it to another one",
        Ok(_) => "the master's user may not execute it; its mode and owner decide who may",
        Err(_) => "the master's user may not enter a directory on the way to it",
    }
}

impl Recipe {
    /// Resolves everything as it is now, for `generation`. `exported` are the variables that the master gives to each
    /// worker, and `attributes` what else it is made with.
    ///
    /// # Errors
    /// [`ReleaseError`]; nothing was started or changed.
    pub fn resolve(
        &self,
        generation: Generation,
        exported: &[(String, String)],
        attributes: &Attributes,
    ) -> Result<Release, ReleaseError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // As after "sudo -u app" in /root: a program that is found elsewhere runs there all the same.
        let may_enter = check_access(AT_FDCWD, &self.directory, AccessFlags::X_OK);
        let stays = may_enter == Err(Errno::EACCES)
            && env::current_dir().is_ok_and(|current| current == self.directory);
        let pinned =
            if stays {
                None
            } else {
                let opened = open(&self.directory, flags, Mode::empty());
                Some(opened.map_err(|source| ReleaseError::Directory {
                    directory: self.directory.clone(),
                    source,
                })?)
            };
        let directory = pinned.as_ref().map_or(AT_FDCWD, AsFd::as_fd);
        let name = self.command.first().map_or(OsStr::new(""), OsString::as_os_str);
        let program = Program::find(name, directory, &self.directory)?;
        let variables = self.read_env_file(directory)?;
        let own_name = variables.iter().find(|variable| variable.name == NAME_VARIABLE);
        let own_name = own_name.map(|variable| variable.value.to_string_lossy().into_owned());
        let account = self.account.look_up();
        let account =
            account.map_err(|source| ReleaseError::Account { account: self.account.clone(), source })?;
        Ok(Release {
            generation,
            argv: self.argv(&program)?,
            program,
            own_name: own_name.filter(|name| !name.is_empty()),
            env: self.environment(variables, &account, exported)?,
            credentials: (!account.credentials.are_own()).then_some(account.credentials),
            real_directory: pinned
                .as_ref()
                .and_then(|directory| program::path_of(directory.as_fd()))
                .unwrap_or_else(|| self.directory.clone()),
            directory_path: self.directory.clone(),
            directory: pinned.map(Kept::Open),
            attributes: Some(attributes.clone()),
        })
    }

    fn argv(&self, program: &Program) -> Result<Vec<CString>, ReleaseError> {
        let mut words = self.command.clone();
        if self.absolute_argv0
            && let Some(name) = words.first_mut()
        {
            let found = self.directory.join(OsStr::from_bytes(program.path().to_bytes()));
            *name = std::path::absolute(&found).unwrap_or(found).into_os_string();
        }
        words.into_iter().map(c_string).collect()
    }

    fn read_env_file(&self, directory: BorrowedFd<'_>) -> Result<Vec<Variable>, ReleaseError> {
        let Some(file) = &self.env_file else { return Ok(Vec::new()) };
        let fault =
            |source| ReleaseError::EnvFile { file: file.clone(), directory: self.directory.clone(), source };
        let variables = env_file::read(directory, file).map_err(fault)?;
        match variables.iter().find(|variable| is_given(&variable.name)) {
            Some(Variable { name, line, .. }) => {
                Err(fault(EnvFileError::Line { line: *line, fault: LineFault::MastersOwn(name.clone()) }))
            }
            None => Ok(variables),
        }
    }

    /// The environment: inherited variables that are not dropped, overridden by those of the user, then by
    /// those of the file, plus those that the master gives.
    fn environment(
        &self,
        from_file: Vec<Variable>,
        account: &Account,
        exported: &[(String, String)],
    ) -> Result<Vec<CString>, ReleaseError> {
        let dropped = if self.drops_at_start { self.dropped.as_slice() } else { &[] };
        let is_in_file = |name: &str| from_file.iter().any(|variable| variable.name == name);
        let of_user = account.variables.iter().filter(|(name, _)| !is_in_file(name));
        let of_user = of_user.filter_map(|(name, value)| Some((OsString::from(name), value.clone()?)));
        let of_user = of_user.collect::<Vec<_>>();
        let kept = env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            let is_replaced = is_in_file(&name) || account.variables.iter().any(|(other, _)| *other == name);
            !is_given(&name) && !is_replaced && !dropped.iter().any(|dropped| *dropped == name)
        });
        let kept = kept.collect::<Vec<_>>();
        let from_file = from_file.into_iter().map(|variable| (variable.name.into(), variable.value));
        let pwd = (OsString::from("PWD"), self.directory.clone().into_os_string());
        let exported = exported.iter().map(|(name, value)| (name.into(), value.into()));
        let all = kept.into_iter().chain(of_user).chain(from_file).chain([pwd]).chain(exported);
        all.map(|(name, value)| variable(name, &value)).collect()
    }
}

impl Release {
    /// Whether it is what `other` was resolved to, by a path with a symbolic link in it: a deploy may have forgotten to
    /// move that.
    pub fn is_unmoved_since(&self, other: &Self) -> bool {
        let is_same =
            self.real_directory == other.real_directory && self.program.file() == other.program.file();
        is_same && self.is_behind_link()
    }

    /// Its own name or, without one, the name of its directory.
    pub fn name(&self) -> Option<String> {
        let directory = || self.real_directory.file_name().map(|name| name.to_string_lossy().into_owned());
        self.own_name.clone().or_else(directory)
    }

    fn is_behind_link(&self) -> bool {
        let program = self.directory_path.join(OsStr::from_bytes(self.program.path().to_bytes()));
        let directory = self.program.file().path.parent();
        let is_systems = SYSTEM_DIRECTORIES.iter().any(|systems| directory == Some(Path::new(systems)));
        has_link(&self.directory_path) || !is_systems && has_link(&program)
    }

    /// Describes it for status.
    pub fn status(&self) -> ReleaseStatus {
        let file = self.program.file();
        ReleaseStatus {
            generation: self.generation.0,
            label: self.name(),
            directory: self.directory_path.display().to_string(),
            real_directory: self.real_directory.display().to_string(),
            program: file.path.display().to_string(),
            device: file.device,
            inode: file.inode,
            modified: humantime::format_rfc3339_seconds(file.modified).to_string(),
            stop_signals: Vec::new(),
        }
    }
}

/// Whether a symbolic link is in `path`, which is absolute.
fn has_link(path: &Path) -> bool {
    path.ancestors().any(Path::is_symlink)
}

/// Whether the master sets this variable for each worker, or workers must not have it.
fn is_given(name: &str) -> bool {
    name == "PWD" || is_masters_own(name)
}

pub(crate) fn is_masters_own(name: &str) -> bool {
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

pub(crate) fn c_string(text: OsString) -> Result<CString, ReleaseError> {
    CString::new(text.into_vec()).map_err(|_| ReleaseError::Nul)
}

#[cfg(test)]
mod tests;
