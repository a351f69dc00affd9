//! The program of a release: found once, and pinned by a descriptor.

use std::env;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nix::unistd::AccessFlags;
use serde::{Deserialize, Serialize};

use super::{ReleaseError, c_string};
use crate::forms;
use crate::sys::access::check_access;
use crate::sys::inherit::Kept;

/// Where a program without a slash is looked up if `PATH` is not set. Source: `confstr(3)`, `_CS_PATH` of
/// glibc.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// This program, as it runs.
pub(crate) const RUNNING: &str = "/proc/self/exe";

/// Begins a file that an interpreter runs. Source: `execve(2)`, "Interpreter scripts".
const SCRIPT_MARK: &[u8] = b"#!";

/// 9999-12-31T23:59:59Z, in seconds since 1970. Source: RFC 3339 has four digits for the year.
const LAST_SECOND_OF_9999: u64 = 253_402_300_799;

#[derive(Debug, Serialize, Deserialize)]
pub struct Program {
    #[serde(with = "forms::written")]
    path: CString,
    executable: Option<Kept<OwnedFd>>,
    file: ProgramFile,
}

/// The identity of a program's file when it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFile {
    /// The path without symbolic links.
    #[serde(with = "forms::written")]
    pub path: PathBuf,
    /// The device of the file.
    pub device: u64,
    /// The inode on that device.
    pub inode: u64,
    /// The time of the last write, clamped to the years 1970 to 9999.
    pub modified: SystemTime,
}

impl ProgramFile {
    /// That of this program, as it runs.
    ///
    /// # Errors
    /// Without `/proc`.
    pub(crate) fn running() -> io::Result<Self> {
        Ok(Self::of(fs::read_link(RUNNING)?, &stat(RUNNING)?))
    }

    fn of(path: PathBuf, stat: &FileStat) -> Self {
        Self { path, device: stat.st_dev, inode: stat.st_ino, modified: modified(stat) }
    }

    /// Whether `path` leads to this file, which nobody has written to since.
    pub(crate) fn is_at(&self, path: &CStr) -> bool {
        stat(path).is_ok_and(|found| *self == Self::of(self.path.clone(), &found))
    }

    /// Whether `metadata` belongs to this file.
    pub fn is(&self, metadata: &fs::Metadata) -> bool {
        (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }
}

impl Program {
    /// Finds `name`: as a path that starts at `directory` if it contains a slash, otherwise in the master's `PATH`.
    pub(crate) fn find(
        name: &OsStr,
        directory: BorrowedFd<'_>,
        directory_path: &Path,
    ) -> Result<Self, ReleaseError> {
        Self::find_in(env::var_os("PATH").as_deref(), name, directory, directory_path)
    }

    /// The same, in another `PATH`.
    pub(crate) fn find_in(
        path: Option<&OsStr>,
        name: &OsStr,
        directory: BorrowedFd<'_>,
        directory_path: &Path,
    ) -> Result<Self, ReleaseError> {
        let fault = |program: &Path, source| ReleaseError::Program {
            program: program.to_owned(),
            directory: directory_path.to_owned(),
            source,
        };
        let pin = |path: &Path| match pin(directory, path) {
            Ok((pinned, stat)) => Ok(Self::new(c_string(path.into())?, pinned, &stat)),
            Err(errno) => Err(fault(path, errno)),
        };
        if name.as_bytes().contains(&b'/') {
            return pin(Path::new(name));
        }
        let path = path.unwrap_or(OsStr::new(PATH_DEFAULT));
        let candidates = env::split_paths(path).map(|entry| match entry.as_os_str() {
            here if here.is_empty() => Path::new(".").join(name),
            _ => entry.join(name),
        });
        let mut better_fault = None;
        for candidate in candidates {
            match pin(&candidate) {
                Err(ReleaseError::Program { source: Errno::ENOENT | Errno::ENOTDIR, .. }) => {}
                // As in execvp(3): a file that exists but cannot be executed makes the better message.
                Err(fault) => better_fault = better_fault.or(Some(fault)),
                found => return found,
            }
        }
        Err(better_fault.unwrap_or_else(|| ReleaseError::NotInPath {
            program: name.into(),
            path: path.to_string_lossy().into_owned(),
            directory: directory_path.to_owned(),
        }))
    }

    fn new(path: CString, pinned: OwnedFd, stat: &FileStat) -> Self {
        let named = || PathBuf::from(OsStr::from_bytes(path.to_bytes()));
        let file = ProgramFile::of(path_of(pinned.as_fd()).unwrap_or_else(named), stat);
        let executable = (!is_script(pinned.as_fd())).then_some(Kept::Open(pinned));
        Self { path, executable, file }
    }

    /// The path to execute; a relative one starts at the release's directory.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// The descriptor to execute, whatever the path leads to by now; `None` for a script, because its
    /// interpreter opens it by path.
    pub fn executable(&self) -> Option<BorrowedFd<'_>> {
        self.executable.as_ref().map(AsFd::as_fd)
    }

    /// The identity of the file when it was found.
    pub fn file(&self) -> &ProgramFile {
        &self.file
    }
}

/// Opens a regular file that this process may execute. Whether the kernel can run its contents shows only at an
/// exec.
fn pin(directory: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, FileStat), Errno> {
    let pinned = openat(directory, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&pinned)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Errno::EACCES);
    }
    // By path, since older kernels cannot check a descriptor. If another file has just taken its place, the
    // answer is about that one; the first spawn then fails with the error that this one would have returned.
    check_access(directory, path, AccessFlags::X_OK)?;
    Ok((pinned, stat))
}

/// Whether the file begins with `#!`. An unreadable file counts as a binary: an interpreter could not read it
/// either.
fn is_script(pinned: BorrowedFd<'_>) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let Ok(file) = open(link_of(pinned).as_path(), flags, Mode::empty()) else { return false };
    let mut head = [0; SCRIPT_MARK.len()];
    File::from(file).read_exact(&mut head).is_ok() && head == SCRIPT_MARK
}

/// The current path of a descriptor's file, without symbolic links; `None` without `/proc`.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    fs::read_link(link_of(fd)).ok()
}

/// Source: `proc_pid_fd(5)`.
fn link_of(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// The time of the last write, clamped to what the date format can hold: a file may carry any time.
fn modified(stat: &FileStat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0).min(LAST_SECOND_OF_9999);
    let since_epoch =
        Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH)
}
