//! Spawn errors: the step that failed, and an explanation of the errno.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::geteuid;

use super::SpawnSpec;
use super::apart::LIMIT;
use crate::sys::account::Credentials;
use crate::sys::limits::resource_name;

/// A step of a spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Creating the process.
    Clone,
    /// Creating its process group.
    ProcessGroup,
    /// Setting its nice value.
    Nice,
    /// Setting the CPUs that it may run on.
    Affinity,
    /// Setting its out-of-memory score adjustment.
    OomScoreAdj,
    /// Requesting a signal at the master's death.
    ParentDeathSignal,
    /// Entering its directory.
    Directory,
    /// Placing its descriptors.
    Descriptors,
    /// Setting a limit, by the number of its resource.
    Limit(u32),
    /// Setting its supplementary groups.
    Groups,
    /// Changing its group.
    Group,
    /// Changing its user.
    User,
    /// Setting `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Resetting its signal dispositions.
    Dispositions,
    /// Emptying its signal mask.
    SignalMask,
    /// Executing the program.
    Exec,
    /// Checking that it may write to a file.
    WritesTo,
    /// Sending it a signal.
    Signal,
    /// Reading its report, if it does not share the master's memory.
    Hear,
    /// Reaching its exec: it was stopped on the way.
    Stopped,
    /// Reaching its exec in time.
    Hung,
    /// Creating the process: another one was stopped or hung a moment ago.
    Paused,
}

/// Why a program cannot be executed, or its directory entered, where the errno alone does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecFault {
    /// The script exists, but the program in its `#!` line does not.
    InterpreterMissing { interpreter: String },
    /// The script exists, but the program in its `#!` line cannot be executed.
    InterpreterNotExecutable { interpreter: String },
    /// The program exists, but the dynamic loader that it was linked for does not.
    LoaderMissing,
    /// The program was in a directory that has been deleted.
    DirectoryDeleted {
        /// The former path of the directory.
        directory: String,
    },
    /// The path leads to a directory.
    IsDirectory,
    /// The mode has no execute permission at all.
    NotExecutable { mode: u32 },
    /// The file system is mounted `noexec`.
    MountedNoexec,
    /// Others may execute the program, but the worker's user may not.
    NotForUser { uid: u32, mode: u32 },
    /// The worker's user may not search a directory on the path.
    NotSearchable { uid: u32, directory: String, mode: u32 },
}

/// A worker could not be spawned. Its `Display` is complete: the step, the object and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// The step that failed.
    pub stage: Stage,
    /// The error of the system call.
    pub errno: Errno,
    /// The path that was to be executed.
    pub program: String,
    /// What an inspection of the program added.
    pub fault: Option<ExecFault>,
}

impl SpawnError {
    /// Describes a failure at `stage`. If the exec failed, it inspects the program.
    pub(super) fn new(stage: Stage, errno: Errno, spec: &SpawnSpec<'_>) -> Self {
        let program = Program {
            directory: spec.directory.unwrap_or(AT_FDCWD),
            path: spec.program,
            executable: spec.executable,
            credentials: spec.credentials,
        };
        let fault = match stage {
            Stage::Exec => program.find_fault(errno),
            Stage::Directory => program.find_directory_fault(errno),
            _ => None,
        };
        Self { stage, errno, program: spec.program.to_string_lossy().into_owned(), fault }
    }

    /// Whether the same spawn may succeed later: the system lacked a resource, the program was being written,
    /// or the process was stopped on its way. Any other failure persists until somebody changes something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.errno,
            Errno::EAGAIN
                | Errno::ENOMEM
                | Errno::EMFILE
                | Errno::ENFILE
                | Errno::EINTR
                | Errno::ETXTBSY
                | Errno::EIO
                | Errno::ETIMEDOUT
        )
    }

    fn write_reason(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (&self.fault, self.errno) {
            (Some(ExecFault::InterpreterMissing { interpreter }), _) => {
                return write!(f, "its #! interpreter {} is missing", interpreter.escape_debug());
            }
            (Some(ExecFault::InterpreterNotExecutable { interpreter }), _) => {
                return write!(f, "its #! interpreter {} cannot be executed", interpreter.escape_debug());
            }
            (Some(ExecFault::NotExecutable { mode }), _) => {
                return write!(f, "it has no execute permission (mode {mode:04o})");
            }
            (Some(ExecFault::DirectoryDeleted { directory }), _) => {
                return write!(f, "its directory {} has been deleted", directory.escape_debug());
            }
            (Some(ExecFault::NotForUser { uid, mode }), _) => {
                return write!(f, "user {uid} may not execute it (mode {mode:04o})");
            }
            (Some(ExecFault::NotSearchable { uid, directory, mode }), _) => {
                let directory = directory.escape_debug();
                return write!(f, "user {uid} may not search {directory} (mode {mode:04o})");
            }
            (Some(ExecFault::LoaderMissing), _) => "the dynamic loader that it was linked for is missing",
            (Some(ExecFault::IsDirectory), _) => "it is a directory",
            (Some(ExecFault::MountedNoexec), _) => "its file system is mounted noexec",
            (None, Errno::ENOEXEC) => "it is neither a binary that this kernel runs nor a script with #!",
            (None, Errno::E2BIG) => "its arguments and variables are longer than the kernel takes",
            (None, Errno::EAGAIN) => "its user has too many processes",
            (None, Errno::ETXTBSY) => "it is open for writing",
            (None, errno) => return write!(f, "{}", io::Error::from(errno)),
        };
        f.write_str(text)
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, errno, .. } = self;
        let program = self.program.escape_debug();
        let step = match stage {
            Stage::Exec => {
                write!(f, "cannot execute {program}: ")?;
                return self.write_reason(f);
            }
            Stage::Stopped => {
                return write!(
                    f,
                    "cannot execute {program}: its process was stopped between clone and exec, and was killed"
                );
            }
            Stage::Hung => {
                let seconds = LIMIT.as_secs_f64();
                return write!(
                    f,
                    "cannot execute {program}: its process hung between clone and exec, and was killed after {seconds}s"
                );
            }
            Stage::Paused => {
                return write!(
                    f,
                    "cannot execute {program}: not tried, since another process was stopped or hung before its exec"
                );
            }
            Stage::Clone => "cannot make a process",
            Stage::ProcessGroup => "cannot make a process group",
            Stage::Nice => "cannot set the nice value",
            Stage::Affinity => "cannot set the CPU affinity",
            Stage::OomScoreAdj => "cannot set oom_score_adj",
            Stage::ParentDeathSignal => "cannot request a signal at the master's death",
            Stage::Directory => "cannot enter the working directory",
            Stage::Descriptors => "cannot place the sockets",
            Stage::Limit(resource) => {
                let reason = io::Error::from(*errno);
                let name = resource_name(*resource);
                return write!(f, "cannot set the limit {name} for {program}: {reason}");
            }
            Stage::Groups => "cannot set the supplementary groups",
            Stage::Group => "cannot change the group",
            Stage::User => "cannot change the user",
            Stage::NoNewPrivileges => "cannot set no_new_privs",
            Stage::Signal => "could not send a signal to the process",
            Stage::WritesTo => "cannot reach a file to write to",
            Stage::Hear => "cannot read the report of the process",
            Stage::Dispositions => "cannot reset the signal dispositions",
            Stage::SignalMask => "cannot empty the signal mask",
        };
        write!(f, "{step} for {program}: ")?;
        match self.fault {
            Some(_) => self.write_reason(f),
            None => write!(f, "{}", io::Error::from(*errno)),
        }
    }
}

impl std::error::Error for SpawnError {}

/// The program that was to be executed.
struct Program<'a> {
    directory: BorrowedFd<'a>,
    path: &'a CStr,
    /// The pinned file, if it was not to be found by its path.
    executable: Option<BorrowedFd<'a>>,
    /// The worker's credentials, if they are not the master's.
    credentials: Option<&'a Credentials>,
}

impl Program<'_> {
    /// Looks for what ENOENT and EACCES leave open. If things have changed since, it finds nothing.
    fn find_fault(&self, errno: Errno) -> Option<ExecFault> {
        match errno {
            Errno::ENOENT => {
                let Some(head) = self.read_head() else { return self.deleted_directory() };
                let Some(interpreter) = interpreter(&head) else { return Some(ExecFault::LoaderMissing) };
                let found = fstatat(self.directory, interpreter.as_slice(), AtFlags::empty());
                (found == Err(Errno::ENOENT))
                    .then(|| ExecFault::InterpreterMissing { interpreter: lossy(&interpreter) })
            }
            Errno::EACCES => {
                let file = self.open(OFlag::O_PATH)?;
                let found = fstat(&file).ok()?;
                let mode = Mode::from_bits_truncate(found.st_mode).bits();
                if found.st_mode & libc::S_IFMT == libc::S_IFDIR {
                    return Some(ExecFault::IsDirectory);
                }
                if mode & 0o111 == 0 {
                    return Some(ExecFault::NotExecutable { mode });
                }
                if fstatvfs(&file).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC)) {
                    return Some(ExecFault::MountedNoexec);
                }
                if let Some(fault) = self.find_user_fault(found.st_uid, found.st_gid, mode) {
                    return Some(fault);
                }
                let interpreter = interpreter(&self.read_head()?)?;
                Some(ExecFault::InterpreterNotExecutable { interpreter: lossy(&interpreter) })
            }
            _ => None,
        }
    }

    /// What keeps the worker's user from the program, by permission bits alone: access lists are not read.
    fn find_user_fault(&self, owner: u32, group: u32, mode: u32) -> Option<ExecFault> {
        let credentials = self.credentials?;
        let uid = credentials.uid.unwrap_or_else(|| geteuid().as_raw());
        if !credentials.may_execute(owner, group, mode) {
            return Some(ExecFault::NotForUser { uid, mode });
        }
        if self.executable.is_some() {
            return None;
        }
        let path = Path::new(OsStr::from_bytes(self.path.to_bytes()));
        // The path itself is the file. The last ancestor of a relative path is the directory that it is
        // relative to.
        let directories = path.ancestors().skip(1);
        let mut directories: Vec<_> =
            directories.map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path }).collect();
        directories.reverse();
        directories.into_iter().find_map(|path| {
            let directory =
                openat(self.directory, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
            not_searchable(directory.as_fd(), credentials)
        })
    }

    /// The working directory, if its user may not enter it.
    fn find_directory_fault(&self, errno: Errno) -> Option<ExecFault> {
        not_searchable(self.directory, self.credentials.filter(|_| errno == Errno::EACCES)?)
    }

    /// A relative path in a deleted directory leads nowhere and never will again.
    fn deleted_directory(&self) -> Option<ExecFault> {
        let is_deleted = fstat(self.directory).ok()?.st_nlink == 0;
        if !is_deleted || self.path.to_bytes().starts_with(b"/") {
            return None;
        }
        let directory = path_of(self.directory)?;
        let directory = directory.strip_suffix(" (deleted)").unwrap_or(&directory).to_owned();
        Some(ExecFault::DirectoryDeleted { directory })
    }

    fn open(&self, flags: OFlag) -> Option<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let opened = match self.executable {
            Some(executable) => open(link_of(executable).as_str(), flags, Mode::empty()),
            None => openat(self.directory, self.path, flags, Mode::empty()),
        };
        opened.ok()
    }

    /// The beginning of the file: as much as the kernel reads for `#!` (BINPRM_BUF_SIZE).
    fn read_head(&self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        File::from(self.open(OFlag::O_RDONLY)?).take(256).read_to_end(&mut head).ok()?;
        Some(head)
    }
}

/// The path of an open descriptor. Source: `proc_pid_fd(5)`.
fn link_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn path_of(fd: BorrowedFd<'_>) -> Option<String> {
    Some(fs::read_link(link_of(fd)).ok()?.to_string_lossy().into_owned())
}

fn not_searchable(directory: BorrowedFd<'_>, credentials: &Credentials) -> Option<ExecFault> {
    let found = fstat(directory).ok()?;
    let mode = Mode::from_bits_truncate(found.st_mode).bits();
    let uid = credentials.uid.unwrap_or_else(|| geteuid().as_raw());
    let is_free = credentials.may_execute(found.st_uid, found.st_gid, mode);
    (!is_free).then_some(ExecFault::NotSearchable { uid, directory: path_of(directory)?, mode })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The path in a script's `#!` line, as the kernel reads it: a carriage return is part of it.
fn interpreter(head: &[u8]) -> Option<Vec<u8>> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0);
    let path = line.split(is_blank).find(|word| !word.is_empty())?;
    Some(path.to_vec())
}
