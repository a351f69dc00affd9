//! Why a spawn failed, in words.

use std::ffi::CStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::SpawnSpec;

/// A step of a spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Making the process.
    Clone,
    /// Giving it a process group of its own.
    ProcessGroup,
    /// Setting its nice value.
    Nice,
    /// Arranging for its signal at the master's death.
    ParentDeathSignal,
    /// Entering its directory.
    Directory,
    /// Putting its descriptors in place.
    Descriptors,
    /// Setting its resource limits.
    Limits,
    /// Resetting its signal dispositions.
    Dispositions,
    /// Emptying its signal mask.
    SignalMask,
    /// Executing the program.
    Exec,
}

/// What is wrong with a program that cannot be executed, where its errno leaves that open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecFault {
    /// It is there, but the program that its `#!` line names is not.
    InterpreterMissing {
        /// The interpreter's path.
        interpreter: String,
    },
    /// It is there, but the program that its `#!` line names cannot be executed.
    InterpreterNotExecutable {
        /// The interpreter's path.
        interpreter: String,
    },
    /// It is there, but the dynamic loader that it was linked for is not.
    LoaderMissing,
    /// It lay in a directory that has been deleted.
    DirectoryDeleted {
        /// The directory's path before.
        directory: String,
    },
    /// It is a directory.
    IsDirectory,
    /// Its mode has no execute permission at all.
    NotExecutable {
        /// The permission bits.
        mode: u32,
    },
    /// It lies on a file system that is mounted `noexec`.
    MountedNoexec,
}

/// A worker could not be spawned. Its `Display` is whole: the step, the object and the system's reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// The step that failed.
    pub stage: Stage,
    /// Why, as the system says it.
    pub errno: Errno,
    /// The path that was to be executed.
    pub program: String,
    /// What a look at the program added.
    pub fault: Option<ExecFault>,
}

impl SpawnError {
    /// Describes a failure at `stage`; looks at the program if that is what failed.
    pub(super) fn new(stage: Stage, errno: Errno, spec: &SpawnSpec<'_>) -> Self {
        let program = Program {
            directory: spec.directory.unwrap_or(AT_FDCWD),
            path: spec.program,
            executable: spec.executable,
        };
        let fault = if stage == Stage::Exec { program.find_fault(errno) } else { None };
        Self { stage, errno, program: spec.program.to_string_lossy().into_owned(), fault }
    }

    /// Whether the same spawn may well succeed in a while: the system was short of something, or the program was
    /// being written. Anything else stays so until somebody changes it.
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
        )
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match (self.stage, self.errno, &self.fault) {
            (Stage::Clone | Stage::Exec, Errno::EAGAIN, _) => {
                "the limit is RLIMIT_NPROC of the user, pids.max of the cgroup or kernel.pid_max".into()
            }
            (Stage::Descriptors, Errno::EMFILE, _) => {
                "raise the limit on open files (ulimit -n, LimitNOFILE=)".into()
            }
            (Stage::Nice, Errno::EACCES | Errno::EPERM, _) => {
                "a lower nice value needs CAP_SYS_NICE or a limit that allows it (LimitNICE=)".into()
            }
            (_, _, Some(ExecFault::InterpreterMissing { interpreter })) if interpreter.ends_with('\r') => {
                format!("the script has line ends of another system; sed -i 's/\\r$//' {}", self.program)
            }
            (_, _, Some(ExecFault::NotExecutable { .. })) => format!("chmod +x {}", self.program),
            (_, _, Some(ExecFault::LoaderMissing)) => {
                "was it built for another distribution? ldd shows what it wants".into()
            }
            (_, _, Some(ExecFault::DirectoryDeleted { .. })) => {
                "keep a release's directory for as long as workers run from it".into()
            }
            _ => return None,
        };
        Some(hint)
    }

    fn write_exec_reason(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            (Some(ExecFault::LoaderMissing), _) => "the dynamic loader that it was linked for is missing",
            (Some(ExecFault::IsDirectory), _) => "it is a directory",
            (Some(ExecFault::MountedNoexec), _) => "its file system is mounted noexec",
            (None, Errno::ENOEXEC) => "it is neither a binary that this kernel runs nor a script with #!",
            (None, Errno::E2BIG) => "its arguments and variables are longer than the kernel takes",
            (None, Errno::EAGAIN) => "its user has too many processes",
            (None, Errno::ETXTBSY) => "somebody has it open for writing",
            (None, errno) => return write!(f, "{}", io::Error::from(errno)),
        };
        f.write_str(text)
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, errno, program, .. } = self;
        let step = match stage {
            Stage::Exec => {
                write!(f, "cannot execute {}: ", program.escape_debug())?;
                return self.write_exec_reason(f);
            }
            Stage::Clone => "cannot make a process",
            Stage::ProcessGroup => "cannot make a process group",
            Stage::Nice => "cannot set the nice value",
            Stage::ParentDeathSignal => "cannot arrange for a signal at the master's death",
            Stage::Directory => "cannot enter the working directory",
            Stage::Descriptors => "cannot put the sockets in place",
            Stage::Limits => "cannot set the resource limits",
            Stage::Dispositions => "cannot reset the signal dispositions",
            Stage::SignalMask => "cannot empty the signal mask",
        };
        write!(f, "{step} for {}: {}", program.escape_debug(), io::Error::from(*errno))
    }
}

impl std::error::Error for SpawnError {}

/// What was to be executed.
struct Program<'a> {
    directory: BorrowedFd<'a>,
    path: &'a CStr,
    /// The file itself, if it was not to be found by its path.
    executable: Option<BorrowedFd<'a>>,
}

impl Program<'_> {
    /// Looks for what ENOENT and EACCES leave open. What it sees may have changed since; then it says nothing.
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
                let interpreter = interpreter(&self.read_head()?)?;
                Some(ExecFault::InterpreterNotExecutable { interpreter: lossy(&interpreter) })
            }
            _ => None,
        }
    }

    /// A relative path in a directory that is no longer anywhere leads nowhere, and never will again.
    fn deleted_directory(&self) -> Option<ExecFault> {
        let is_deleted = fstat(self.directory).ok()?.st_nlink == 0;
        if !is_deleted || self.path.to_bytes().starts_with(b"/") {
            return None;
        }
        let directory = fs::read_link(link_of(self.directory)).ok()?.to_string_lossy().into_owned();
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

    /// The beginning of the file: as much as the kernel looks at for `#!` (BINPRM_BUF_SIZE).
    fn read_head(&self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        File::from(self.open(OFlag::O_RDONLY)?).take(256).read_to_end(&mut head).ok()?;
        Some(head)
    }
}

/// What the descriptor has open, as a path. Source: `proc_pid_fd(5)`.
fn link_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
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
