//! The program of a release: looked up once, and held.

use std::env;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::{AccessFlags, faccessat};
use serde::{Deserialize, Serialize};

use super::{ReleaseError, c_string};
use crate::forms;
use crate::sys::inherit::{Fd, Inherited, NotInherited};

/// Where a program without a slash is looked for if `PATH` is not set. Source: `confstr(3)`, `_CS_PATH`, as
/// glibc has it.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// What begins a file that another program is to run. Source: `execve(2)`, "Interpreter scripts".
const SCRIPT_MARK: &[u8] = b"#!";

/// 9999-12-31T23:59:59Z, in seconds since 1970. Source: RFC 3339 has four digits for the year.
const LAST_SECOND_OF_9999: u64 = 253_402_300_799;

/// A program that was looked up.
#[derive(Debug)]
pub struct Program {
    path: CString,
    executable: Option<OwnedFd>,
    file: ProgramFile,
}

/// The file that a program was when it was looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFile {
    /// Where it lay, with no symbolic link in the path.
    #[serde(with = "forms::path")]
    pub path: PathBuf,
    /// The device that it is on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// When it was last written to, from 1970 to 9999.
    pub modified: SystemTime,
}

/// A [`Program`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ProgramRecord {
    #[serde(with = "forms::c_string")]
    path: CString,
    pub(super) executable: Option<Fd>,
    file: ProgramFile,
}

impl ProgramFile {
    /// Whether it is the file that `metadata` is of.
    #[must_use]
    pub fn is(&self, metadata: &fs::Metadata) -> bool {
        (self.device, self.inode) == (metadata.dev(), metadata.ino())
    }
}

impl Program {
    pub(super) fn record(&self) -> ProgramRecord {
        let executable = self.executable.as_ref().map(Fd::of);
        ProgramRecord { path: self.path.clone(), executable, file: self.file.clone() }
    }

    pub(super) fn adopt(record: ProgramRecord, inherited: &mut Inherited) -> Result<Self, NotInherited> {
        let executable = record.executable.map(|fd| inherited.take(fd.0)).transpose()?;
        Ok(Self { path: record.path, executable, file: record.file })
    }

    /// Looks `name` up: a path from `directory` if it has a slash in it, else in `PATH`.
    pub(crate) fn find(
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
        let path = env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
        let candidates = env::split_paths(&path).map(|entry| match entry.as_os_str() {
            here if here.is_empty() => Path::new(".").join(name),
            _ => entry.join(name),
        });
        let mut better_fault = None;
        for candidate in candidates {
            match pin(&candidate) {
                Err(ReleaseError::Program { source: Errno::ENOENT | Errno::ENOTDIR, .. }) => {}
                // As execvp(3): something that is there but cannot be executed is the better message.
                Err(fault) => better_fault = better_fault.or(Some(fault)),
                found => return found,
            }
        }
        Err(better_fault.unwrap_or_else(|| ReleaseError::NotInPath {
            program: name.into(),
            path: path.to_string_lossy().into_owned(),
        }))
    }

    fn new(path: CString, pinned: OwnedFd, stat: &FileStat) -> Self {
        let file = ProgramFile {
            path: path_of(pinned.as_fd())
                .unwrap_or_else(|| PathBuf::from(OsStr::from_bytes(path.to_bytes()))),
            device: stat.st_dev,
            inode: stat.st_ino,
            modified: modified(stat),
        };
        let executable = (!is_script(pinned.as_fd())).then_some(pinned);
        Self { path, executable, file }
    }

    /// The path to execute; a relative one counts from the release's directory.
    #[must_use]
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// The file to execute, whatever the path leads to by now; `None` for a script, which its interpreter can
    /// only find by path.
    #[must_use]
    pub fn executable(&self) -> Option<BorrowedFd<'_>> {
        self.executable.as_ref().map(AsFd::as_fd)
    }

    /// What the file was when it was looked up.
    #[must_use]
    pub fn file(&self) -> &ProgramFile {
        &self.file
    }
}

/// Opens a regular file that we may execute. Whether the kernel can run what is in it only an exec tells.
fn pin(directory: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, FileStat), Errno> {
    let pinned = openat(directory, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&pinned)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Errno::EACCES);
    }
    // By path, since older kernels cannot be asked about a descriptor. If another file has just taken its place,
    // this is about that one, and a first spawn that fails says what this would have.
    faccessat(directory, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)?;
    Ok((pinned, stat))
}

/// Whether it begins with `#!`. What we may not read counts as a binary: no interpreter could read it either.
fn is_script(pinned: BorrowedFd<'_>) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let Ok(file) = open(link_of(pinned).as_path(), flags, Mode::empty()) else { return false };
    let mut head = [0; SCRIPT_MARK.len()];
    File::from(file).read_exact(&mut head).is_ok() && head == SCRIPT_MARK
}

/// Where the file of a descriptor lies now, with no symbolic link in the path; `None` without `/proc`.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    fs::read_link(link_of(fd)).ok()
}

/// Source: `proc_pid_fd(5)`.
fn link_of(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// When it was last written to, within what a date has digits for: a file may claim any time at all.
fn modified(stat: &FileStat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0).min(LAST_SECOND_OF_9999);
    let since_epoch =
        Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH)
}
