//! A file that one process at a time holds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};

use super::inherit::Fd;
use super::inherit::{Inherited, NotInherited};
use super::pid_file::parse_pid;
use crate::forms;

/// How often a lock file may be replaced under our hands before that is an error.
const TRIES_MAX: u32 = 100;

/// More than a pid and its newline have, in bytes.
const CONTENT_BYTES_MAX: u64 = 32;

/// A lock file that this process holds, with its pid in it for whoever finds it held. Dropping it removes the
/// file and gives the lock up; a forked child that drops it changes nothing.
///
/// The lock is `flock(2)`'s: it ends with the process, however that dies, and outlives an exec if the
/// descriptor does.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    file: File,
    owner: Pid,
}

/// A lock file could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error("cannot lock {}: {} holds it", .path.display(), Holder(*.pid))]
    Held {
        /// The file.
        path: PathBuf,
        /// The process, if the file tells.
        pid: Option<Pid>,
    },
    /// What is there is no lock file, and nothing of it was changed.
    #[error("cannot use {} as a lock file: {why}", .path.display())]
    NotALockFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// The system refuses.
    #[error("cannot lock {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who holds something, for a message.
#[derive(Debug)]
pub(crate) struct Holder(pub(crate) Option<Pid>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

impl LockFile {
    /// Makes the file if there is none, mode 0600, and locks it; never waits. What is left of a process that died
    /// is taken over.
    ///
    /// # Errors
    /// [`LockError`]. A symbolic link, a file of several names or one that holds more than a pid is refused: in
    /// a directory that others write to, these are ways to have us overwrite something.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let io = |source| LockError::Io { path: path.clone(), source };
        for _ in 0..TRIES_MAX {
            let file = open(&path)?;
            check_kind(&path, &file)?;
            // SAFETY: no memory is involved; the descriptor is open.
            let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
            match Errno::result(locked) {
                Ok(_) => {}
                Err(Errno::EWOULDBLOCK) => {
                    let pid = read_content(&file).ok().and_then(|content| parse_pid(&content));
                    return Err(LockError::Held { path, pid });
                }
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(io(errno.into())),
            }
            // A holder removes its file before it unlocks: what we have locked may be nobody's file by now.
            if !is_at(&file, &path).map_err(io)? {
                continue;
            }
            let content = read_content(&file).map_err(io)?;
            if !content.is_empty() && parse_pid(&content).is_none() {
                return Err(LockError::NotALockFile { path, why: "it holds more than a pid" });
            }
            let lock = Self { path, file, owner: getpid() };
            // For messages only; on a full disk the lock is as good without.
            let _ = lock.write_owner();
            return Ok(lock);
        }
        Err(io(Errno::EBUSY.into()))
    }

    fn write_owner(&self) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n", self.owner).as_bytes())
    }
}

/// A [`LockFile`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Its descriptor, which is what holds the lock.
    pub fd: Fd,
    #[serde(with = "forms::path")]
    path: PathBuf,
}

impl LockFile {
    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> LockRecord {
        LockRecord { fd: Fd::of(&self.file), path: self.path.clone() }
    }

    /// Takes over what was written down, with the lock, which an exec does not give up.
    ///
    /// # Errors
    /// If its descriptor is not there.
    pub fn adopt(record: LockRecord, inherited: &mut Inherited) -> Result<Self, NotInherited> {
        Ok(Self { path: record.path, file: File::from(inherited.take(record.fd.0)?), owner: getpid() })
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.owner == getpid() && is_at(&self.file, &self.path).unwrap_or(false) {
            // It may stay: whoever comes next takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    // For reading and writing at once, Linux opens a FIFO without waiting for somebody at its other end.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY);
    options.open(path).map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP) => LockError::NotALockFile { path: path.to_owned(), why: "it is a symbolic link" },
        Some(libc::EISDIR) => LockError::NotALockFile { path: path.to_owned(), why: "it is a directory" },
        Some(libc::ENXIO) => LockError::NotALockFile { path: path.to_owned(), why: "it is a socket" },
        _ => LockError::Io { path: path.to_owned(), source },
    })
}

fn check_kind(path: &Path, file: &File) -> Result<(), LockError> {
    let found = file.metadata().map_err(|source| LockError::Io { path: path.to_owned(), source })?;
    let why = if !found.is_file() {
        "it is no regular file"
    } else if found.nlink() > 1 {
        "it has several names (hard links)"
    } else {
        return Ok(());
    };
    Err(LockError::NotALockFile { path: path.to_owned(), why })
}

/// The file's content, or its beginning if that is too long to be a pid anyway.
fn read_content(mut file: &File) -> io::Result<String> {
    let mut content = Vec::new();
    file.rewind()?;
    file.take(CONTENT_BYTES_MAX).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Whether `path` names the file that is open.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((open.dev(), open.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::sys::testing::{fill_disk, isolated};

    fn refusal(path: &Path) -> String {
        format!("{:#}", anyhow::Error::from(LockFile::acquire(path).unwrap_err()))
    }

    #[test]
    fn one_at_a_time_holds_it_and_the_other_learns_who() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = LockFile::acquire(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let expected = format!("cannot lock {}: process {} holds it", path.display(), getpid());
        assert_eq!(refusal(&path), expected);
        assert!(path.exists(), "who did not get it does not remove it");
        fs::write(&path, "").unwrap();
        assert!(refusal(&path).ends_with("another process holds it"));
        drop(lock);
        assert!(!path.exists());
        LockFile::acquire(&path).unwrap();
    }

    #[test]
    fn what_a_dead_holder_left_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        fs::write(&path, "2147483646\n").unwrap();
        let lock = LockFile::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&lock.path).unwrap(), format!("{}\n", getpid()));
    }

    #[test]
    fn a_full_disk_hides_who_holds_it_but_not_that_it_is_held() {
        isolated("sys::lock_file::tests::a_full_disk_hides_who_holds_it_but_not_that_it_is_held", || {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("lock");
            fill_disk();
            let _lock = LockFile::acquire(&path).unwrap();
            assert!(refusal(&path).ends_with("another process holds it"));
        });
    }

    #[test]
    fn a_file_that_is_not_ours_any_more_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let replaced = LockFile::acquire(&path).unwrap();
        fs::rename(&path, directory.path().join("old")).unwrap();
        let mut current = LockFile::acquire(&path).unwrap();
        drop(replaced);
        assert!(path.exists(), "another's file was removed");
        current.owner = Pid::from_raw(1);
        drop(current);
        assert!(path.exists(), "a forked child removed its parent's file");
    }

    #[test]
    fn many_who_come_and_go_never_hold_it_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let holders = std::sync::atomic::AtomicU32::new(0);
        let taken = std::sync::atomic::AtomicU32::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(order) < 300 {
                        if let Ok(lock) = LockFile::acquire(&path) {
                            assert_eq!(holders.fetch_add(1, order), 0, "two hold it");
                            taken.fetch_add(1, order);
                            std::thread::yield_now();
                            holders.fetch_sub(1, order);
                            drop(lock);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_no_lock_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("precious"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        symlink(path("precious"), path("link")).unwrap();
        fs::write(path("empty"), "").unwrap();
        fs::hard_link(path("empty"), path("second-name")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for (name, why) in [
            ("precious", "it holds more than a pid"),
            ("link", "it is a symbolic link"),
            ("second-name", "it has several names (hard links)"),
            ("directory", "it is a directory"),
            ("fifo", "it is no regular file"),
            ("socket", "it is a socket"),
        ] {
            let expected = format!("cannot use {} as a lock file: {why}", path(name).display());
            assert_eq!(refusal(&path(name)), expected);
            assert!(fs::symlink_metadata(path(name)).is_ok(), "{name} was removed");
        }
        assert_eq!(fs::read_to_string(path("precious")).unwrap(), "root:x:0:0:root:/root:/bin/sh\n");
        let expected =
            format!("cannot lock {}: No such file or directory (os error 2)", path("no/lock").display());
        assert_eq!(refusal(&path("no/lock")), expected);
    }
}
