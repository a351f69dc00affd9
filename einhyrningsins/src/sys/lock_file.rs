//! Lock files: at most one process holds one at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};

use super::inherit::{Kept, Owner};
use super::open::open_or_create;
use super::pid_file::{CONTENT_BYTES_MAX, parse_pid};
use crate::forms;

/// How often another process may replace the lock file while we open it before we give up.
const TRIES_MAX: u32 = 100;

/// A lock file that this process holds. It contains our pid, so that others can name the holder. Dropping it
/// removes the file, if this process is its [`Owner`], and releases the lock; a forked child that drops it changes nothing.
///
/// The lock is that of `flock(2)`: it ends with the process, however the process dies, and it survives an exec
/// if the descriptor does.
#[derive(Debug, Serialize, Deserialize)]
pub struct LockFile {
    #[serde(rename = "fd")]
    file: Kept<File>,
    #[serde(with = "forms::written")]
    path: PathBuf,
    #[serde(skip)]
    owner: Owner,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    #[error("cannot lock {}: {} holds it", .path.display(), Holder(*.pid))]
    Held {
        path: PathBuf,
        /// The holder, if the file contains its pid.
        pid: Option<Pid>,
    },
    /// The path does not lead to a lock file. What is there was not changed.
    #[error("cannot use {} as a lock file: {why}", .path.display())]
    NotALockFile {
        path: PathBuf,
        /// What is there instead.
        why: &'static str,
    },
    #[error("cannot lock {}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The holder of a lock, formatted for a message.
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
    /// Creates the file with mode 0600 if there is none, and locks it; never blocks. A file that a dead process
    /// left is taken over.
    ///
    /// # Errors
    /// [`LockError`]. Symbolic links, files with several hard links and files that hold more than a pid are
    /// refused: in a directory that others can write to, they could make us overwrite another file.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let io = |source| LockError::Io { path: path.clone(), source };
        for _ in 0..TRIES_MAX {
            let file = open(&path)?;
            check_kind(&path, &file)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = read_content(&file).ok().and_then(|content| parse_pid(&content));
                    return Err(LockError::Held { path, pid });
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
            }
            // A holder removes its file before it unlocks, so the file that we locked may have been removed.
            if !is_at(&file, &path).map_err(io)? {
                continue;
            }
            let content = read_content(&file).map_err(io)?;
            if !content.is_empty() && parse_pid(&content).is_none() {
                return Err(LockError::NotALockFile { path, why: "it holds more than a pid" });
            }
            let lock = Self { path, file: Kept::Open(file), owner: Owner::maker() };
            // The pid is only for messages; on a full disk the lock works without it.
            let _ = lock.write_pid();
            return Ok(lock);
        }
        Err(io(Errno::EBUSY.into()))
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path leads to it, as far as this process can see. If not, another process may lock the path too.
    pub fn is_there(&self) -> bool {
        // One that this process may not look at counts as there.
        is_at(&self.file, &self.path).unwrap_or_else(|error| error.kind() != io::ErrorKind::NotADirectory)
    }

    fn write_pid(&self) -> io::Result<()> {
        let mut file: &File = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n", getpid()).as_bytes())
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.owner.removes() && is_at(&self.file, &self.path).unwrap_or(false) {
            // If this fails, the file stays, and the next holder takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    // Opened for reading and writing, a FIFO does not block on Linux until its other end is opened.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY);
    open_or_create(&mut options, path).map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP) => LockError::NotALockFile { path: path.to_owned(), why: "it is a symbolic link" },
        Some(libc::EISDIR) => LockError::NotALockFile { path: path.to_owned(), why: "it is a directory" },
        Some(libc::ENXIO) => LockError::NotALockFile { path: path.to_owned(), why: "it is a socket" },
        _ => LockError::Io { path: path.to_owned(), source },
    })
}

fn check_kind(path: &Path, file: &File) -> Result<(), LockError> {
    let found = file.metadata().map_err(|source| LockError::Io { path: path.to_owned(), source })?;
    let why = if !found.is_file() {
        "it is not a regular file"
    } else if found.nlink() > 1 {
        "it has several hard links"
    } else {
        return Ok(());
    };
    Err(LockError::NotALockFile { path: path.to_owned(), why })
}

/// The content of the file, or its beginning if it is longer than a pid.
fn read_content(mut file: &File) -> io::Result<String> {
    let mut content = Vec::new();
    file.rewind()?;
    file.take(CONTENT_BYTES_MAX).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Whether `path` leads to the open file.
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
    fn a_second_process_is_refused_and_told_who_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = LockFile::acquire(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let expected = format!("cannot lock {}: process {} holds it", path.display(), getpid());
        assert_eq!(refusal(&path), expected);
        assert!(path.exists(), "a refused process must not remove the file");
        fs::write(&path, "").unwrap();
        assert!(refusal(&path).ends_with("another process holds it"));
        drop(lock);
        assert!(!path.exists());
        LockFile::acquire(&path).unwrap();
    }

    #[test]
    fn the_file_of_a_dead_holder_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        fs::write(&path, "2147483646\n").unwrap();
        let lock = LockFile::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&lock.path).unwrap(), format!("{}\n", getpid()));
    }

    #[test]
    fn on_a_full_disk_the_lock_works_without_the_pid() {
        isolated("sys::lock_file::tests::on_a_full_disk_the_lock_works_without_the_pid", || {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("lock");
            fill_disk();
            let _lock = LockFile::acquire(&path).unwrap();
            assert!(refusal(&path).ends_with("another process holds it"));
        });
    }

    #[test]
    fn a_file_that_was_replaced_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let replaced = LockFile::acquire(&path).unwrap();
        fs::rename(&path, directory.path().join("old")).unwrap();
        let mut current = LockFile::acquire(&path).unwrap();
        drop(replaced);
        assert!(path.exists(), "another's file was removed");
        current.owner = Owner::parent();
        drop(current);
        assert!(path.exists(), "a forked child removed its parent's file");
    }

    #[test]
    fn many_contenders_never_hold_it_at_the_same_time() {
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
                            assert_eq!(holders.fetch_add(1, order), 0, "two processes hold it");
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
    fn anything_but_a_lock_file_is_refused_and_left_alone() {
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
            ("second-name", "it has several hard links"),
            ("directory", "it is a directory"),
            ("fifo", "it is not a regular file"),
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
