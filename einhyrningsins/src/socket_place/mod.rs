//! The path of a Unix socket: who may have it, who removes its file, and how it comes back when others removed it.
//!
//! A lock file beside the socket, held for the master's life, decides between masters. The socket alone cannot:
//! one that refuses connections may be stale, or its master may not listen yet. The holder of the lock owns the
//! path, so it removes a stale socket and binds the new one in place, rather than binding elsewhere and
//! renaming. A bind fails where a rename would replace a file that appeared in between, needs no room for a
//! longer name, and leaves the true path in `ss -x` and `getsockname`.
//!
//! A cleaner of temporary files may remove both files. `watch.rs` notices most of that, [`SocketPlace::lost`] all of it,
//! and then the owner of the place calls [`SocketPlace::lock_again`] and [`SocketPlace::bind_again`]: the lock first, so
//! that no other master takes the path in between. A file cannot be given back to its socket, so a new socket is bound.
//!
//! The notify socket's file has no lock of its own: the control socket's lock covers it.

mod watch;

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Gid, Pid, Uid, fchownat};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::forms;
use crate::sys::inherit::Owner;
use crate::sys::lock_file::{Holder, LockError, LockFile};
use crate::sys::peer::credentials;
use crate::sys::unix_diag::{SocketFile, is_bound, is_bound_to};

pub use watch::Watch;

/// The longest path of a socket, in bytes: `sun_path` of `unix(7)` without its NUL.
pub const PATH_BYTES_MAX: usize = 107;

/// A path that we own, with its lock. Dropping it removes the lock file, and the socket's file as [`BoundFile`]
/// does; a forked child that drops it changes nothing. `std::process::exit` and exec do not drop it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SocketPlace {
    #[serde(flatten)]
    file: BoundFile,
    /// Whose the file is to be. A state of format 2 does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_owner: Option<FileOwner>,
    /// The last field: the lock is released after the socket's file is gone.
    lock: LockFile,
}

/// User and group of a file, where they are not those of the process that makes it. They are looked up once: in the loop, a
/// name service could keep everybody waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOwner {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

/// The file of a socket that this process bound. Dropping it removes the file if it still belongs to that
/// socket and this process is its [`Owner`]; a forked child that drops it changes nothing.
#[derive(Debug, Serialize, Deserialize)]
pub struct BoundFile {
    #[serde(with = "forms::written")]
    path: PathBuf,
    /// Device and inode of the socket's file when it was bound.
    #[serde(flatten)]
    file: SocketFile,
    #[serde(skip)]
    owner: Owner,
}

/// A socket cannot have the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Another process listens there.
    #[error("{} is listening there", Holder(*.0))]
    Held(Option<Pid>),
    /// Another process has bound it, and does not listen yet.
    #[error("another process has bound a socket there")]
    Bound,
    /// The path leads to something else, which stays.
    #[error("it is not a socket")]
    NotASocket,
    #[error("the path has {0} bytes; a socket path has at most {PATH_BYTES_MAX}")]
    TooLong(usize),
    #[error(transparent)]
    Lock(LockError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What of a [`SocketPlace`] its path no longer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    path: PathBuf,
    pub socket: bool,
    pub lock: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (socket, lock) = (self.path.display(), lock_path(&self.path));
        match (self.socket, self.lock) {
            (true, true) => write!(f, "{socket} and {} were", lock.display()),
            (true, false) => write!(f, "{socket} was"),
            (false, _) => write!(f, "{} was", lock.display()),
        }
    }
}

/// The remedy for a [`PlaceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Use another path: this one is in use.
    OtherPath,
    /// Move the file away, or use another path.
    MoveAway,
    /// Move away the file in the place of the lock file.
    MoveLockAway,
    ShorterPath,
    MakeDirectory,
    /// Use a path in a directory that this user may write to.
    OwnPath,
    /// Use a path on a file system that is not read-only.
    WritablePath,
}

impl PlaceError {
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Held(_) | Self::Bound => Some(Remedy::OtherPath),
            Self::NotASocket => Some(Remedy::MoveAway),
            Self::TooLong(_) => Some(Remedy::ShorterPath),
            Self::Lock(LockError::NotALockFile { .. }) => Some(Remedy::MoveLockAway),
            Self::Lock(LockError::Io { source, .. }) | Self::Io(source) => match source.kind() {
                io::ErrorKind::NotFound => Some(Remedy::MakeDirectory),
                io::ErrorKind::PermissionDenied => Some(Remedy::OwnPath),
                io::ErrorKind::ReadOnlyFilesystem => Some(Remedy::WritablePath),
                _ => None,
            },
            Self::Lock(_) => None,
        }
    }
}

impl SocketPlace {
    /// Locks `path`, binds `socket` to it and calls `finish`, which should make it listen.
    pub fn take(
        path: &Path,
        socket: &Socket,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, PlaceError> {
        let path = checked(path)?;
        let lock = lock(&path)?;
        Ok(Self { file: BoundFile::bind(&path, socket, finish)?, file_owner: None, lock })
    }

    /// Takes over the path of a `socket` that an earlier process bound; `None` if the path no longer leads to
    /// that socket. Until `sys::inherit::settle` is called, dropping it leaves the socket's file.
    ///
    /// # Errors
    /// [`PlaceError`] if another process has the lock, or the kernel does not say what the socket is bound to.
    pub fn take_over(path: &Path, socket: &impl AsFd) -> Result<Option<Self>, PlaceError> {
        let path = checked(path)?;
        let lock = lock(&path)?;
        let file = match file_at(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if !is_bound_to(socket, file)? {
            return Ok(None);
        }
        Ok(Some(Self { file: BoundFile { path, file, owner: Owner::heir() }, file_owner: None, lock }))
    }

    /// Removes the socket's file, though it was taken over just now.
    pub fn remove(mut self) {
        self.file.owner = Owner::maker();
    }

    /// What the path no longer leads to; `None` if all is as it should be. Takes two system calls.
    pub fn lost(&self) -> Option<Lost> {
        let (socket, lock) = (!self.file.is_there(), !self.lock.is_there());
        (socket || lock).then(|| Lost { path: self.file.path.clone(), socket, lock })
    }

    /// Locks the path again, with a new lock file if the one before is gone.
    ///
    /// # Errors
    /// [`PlaceError`] if another process has the lock by now, or the file cannot be made. The lock before is kept.
    pub fn lock_again(&mut self) -> Result<(), PlaceError> {
        if !self.lock.is_there() {
            self.lock = lock(&self.file.path)?;
        }
        Ok(())
    }

    /// Binds `socket` to the path, which the socket before has lost, and calls `finish`, as [`Self::take`] does. The
    /// path must be locked.
    ///
    /// # Errors
    /// [`PlaceError`] if another process has the path by now, or the file cannot be made.
    pub fn bind_again(
        &mut self,
        socket: &Socket,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), PlaceError> {
        self.file = BoundFile::bind(&self.file.path, socket, finish)?;
        Ok(())
    }

    /// The paths to watch.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.file.path, self.lock.path()]
    }

    /// Sets mode and owner of the socket's file where they differ.
    ///
    /// # Errors
    /// If a system call fails, or the path leads elsewhere by now.
    pub fn set_access(&mut self, mode: Option<u32>, owner: FileOwner) -> io::Result<()> {
        self.file_owner = Some(owner);
        self.file.set_access(mode, owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw))
    }

    /// Whose the file is to be, if that was looked up already.
    pub fn file_owner(&self) -> Option<FileOwner> {
        self.file_owner
    }

    /// The file was given to `owner`.
    pub fn given_to(&mut self, owner: FileOwner) {
        self.file_owner = Some(owner);
    }

    /// The absolute path of the socket.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

impl BoundFile {
    /// Binds `socket` to `path` and calls `finish`. A stale socket is replaced; a socket in use, or any other
    /// file, never is. The caller holds the lock that keeps other masters out.
    ///
    /// # Errors
    /// [`PlaceError`]; no file of another process was removed, and none of ours is left.
    pub fn bind(
        path: &Path,
        socket: &Socket,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, PlaceError> {
        let path = checked(path)?;
        clear(&path)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        match finish(&path).and_then(|()| file_at(&path)) {
            Ok(file) => Ok(Self { path, file, owner: Owner::maker() }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error.into())
            }
        }
    }

    /// The absolute path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says so if the path no longer leads to it.
    pub fn lost(&self) -> Option<Lost> {
        (!self.is_there()).then(|| Lost { path: self.path.clone(), socket: true, lock: false })
    }

    /// Whether the path leads to it, as far as this process can see.
    fn is_there(&self) -> bool {
        // One that this process may not look at counts as there.
        let found = file_at(&self.path).map(|file| file == self.file);
        found.unwrap_or_else(|error| {
            !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        })
    }

    /// Sets mode and owner of the socket's file where they differ.
    ///
    /// # Errors
    /// If a system call fails, or the path leads elsewhere by now.
    pub fn set_access(&self, mode: Option<u32>, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        // By descriptor: in a directory that others can write to, the path may change from one call to the
        // next.
        let opened = open(&self.path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = fstat(&opened)?;
        if (SocketFile { device: found.st_dev, inode: found.st_ino }) != self.file {
            return Err(io::ErrorKind::NotFound.into());
        }
        let user = user.filter(|user| user.as_raw() != found.st_uid);
        let group = group.filter(|group| group.as_raw() != found.st_gid);
        // Before the mode, which may let the group in: never that of the process, which nobody has named.
        if user.is_some() || group.is_some() {
            fchownat(&opened, c"", user, group, AtFlags::AT_EMPTY_PATH)?;
        }
        if let Some(mode) = mode.filter(|mode| *mode != found.st_mode & 0o7777) {
            let opened = format!("/proc/self/fd/{}", opened.as_raw_fd());
            fs::set_permissions(opened, Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// While it lives, files are created with exactly the mode that is asked for. The umask belongs to the process,
/// so no other thread may create files meanwhile.
#[derive(Debug)]
pub struct Unmasked(Mode);

impl Unmasked {
    /// Clears the umask; dropping this restores it.
    #[must_use]
    pub fn begin() -> Self {
        Self(umask(Mode::empty()))
    }
}

impl Drop for Unmasked {
    fn drop(&mut self) {
        umask(self.0);
    }
}

impl Drop for BoundFile {
    fn drop(&mut self) {
        if self.owner.removes() && file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Checks that a socket can have the path, and makes it absolute.
fn checked(path: &Path) -> Result<PathBuf, PlaceError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match path.as_os_str().len() {
        0..=PATH_BYTES_MAX => Ok(path),
        bytes => Err(PlaceError::TooLong(bytes)),
    }
}

fn lock(path: &Path) -> Result<LockFile, PlaceError> {
    LockFile::acquire(&lock_path(path)).map_err(|error| match error {
        LockError::Held { pid, .. } => PlaceError::Held(pid),
        other => PlaceError::Lock(other),
    })
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn file_at(path: &Path) -> io::Result<SocketFile> {
    let found = fs::symlink_metadata(path)?;
    Ok(SocketFile { device: found.dev(), inode: found.ino() })
}

/// Removes a stale socket from `path`. The caller holds the lock.
fn clear(path: &Path) -> Result<(), PlaceError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => return Err(PlaceError::NotASocket),
        Ok(found) => SocketFile { device: found.dev(), inode: found.ino() },
    };
    match probe(path)? {
        Probe::Alive(pid) => return Err(PlaceError::Held(pid)),
        // The process that bound it may be about to listen. If the kernel cannot tell, the result of the probe
        // stands.
        Probe::Refuses if is_bound(found).unwrap_or(false) => return Err(PlaceError::Bound),
        Probe::Refuses => {}
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

enum Probe {
    Refuses,
    Alive(Option<Pid>),
}

/// Checks whether a process that ignores our lock, such as einhorn in Ruby, listens at `path`.
fn probe(path: &Path) -> io::Result<Probe> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(Probe::Alive(credentials(&socket).ok().map(|peer| peer.pid))),
        Err(error) => match error.raw_os_error() {
            Some(nix::libc::ECONNREFUSED | nix::libc::ENOENT) => Ok(Probe::Refuses),
            // Its queue is full, or it is a socket of another type.
            Some(nix::libc::EAGAIN | nix::libc::EPROTOTYPE) => Ok(Probe::Alive(None)),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
impl SocketPlace {
    /// Drops it as the death of its process would: the lock is released, and the socket's file stays.
    pub(crate) fn die(mut self) {
        self.file.owner = Owner::heir();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::unistd::getpid;

    use super::*;
    use crate::sys::inherit::settle;

    fn take(path: &Path) -> Result<(SocketPlace, Socket), PlaceError> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        Ok((SocketPlace::take(path, &socket, |_| socket.listen(1))?, socket))
    }

    fn files(directory: &tempfile::TempDir) -> usize {
        fs::read_dir(directory.path()).unwrap().count()
    }

    #[test]
    fn both_files_go_with_the_owner() {
        let directory = tempfile::tempdir().unwrap();
        let place = take(&directory.path().join("a.sock")).unwrap();
        assert_eq!(files(&directory), 2);
        drop(place);
        assert_eq!(files(&directory), 0);
    }

    #[test]
    fn a_socket_that_was_replaced_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let place = take(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(place);
        assert!(path.exists());
    }

    #[test]
    fn a_forked_child_does_not_remove_its_parents_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (mut place, _socket) = take(&path).unwrap();
        place.file.owner = Owner::parent();
        drop(place);
        assert!(path.exists());
    }

    #[test]
    fn a_dead_processs_place_is_taken_over_and_its_file_stays_until_settled() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (before, socket) = take(&path).unwrap();
        let held = SocketPlace::take_over(&path, &socket).unwrap_err();
        assert!(matches!(held, PlaceError::Held(Some(pid)) if pid == getpid()), "{held:?}");
        before.die();
        let unsettled = SocketPlace::take_over(&path, &socket).unwrap().unwrap();
        drop(unsettled);
        assert!(path.exists(), "the file must stay until it is settled");
        let place = SocketPlace::take_over(&path, &socket).unwrap().unwrap();
        settle();
        drop(place);
        assert_eq!(files(&directory), 0);
    }

    #[test]
    fn a_failed_bind_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let result = SocketPlace::take(&directory.path().join("a.sock"), &socket, |path| {
            assert!(path.exists());
            Err(io::ErrorKind::Other.into())
        });
        assert!(matches!(result, Err(PlaceError::Io(_))));
        assert_eq!(files(&directory), 0);
    }
}
