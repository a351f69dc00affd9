//! A Unix socket's place in the file system: who may have it, and who removes it.
//!
//! A lock file beside the socket, held for the master's life, decides between masters; what can be seen of the
//! socket alone does not (one that refuses connections may be stale, or its master not yet listening). Under
//! the lock the path is ours, so a stale socket is simply removed and the new one bound in its place, rather
//! than bound elsewhere and renamed: a bind fails where a rename would replace whatever came in between, needs
//! no room for a longer name, and leaves the true path in what `ss -x` and `getsockname` show.
//!
//! The notify socket's file has no lock of its own: it goes by that of the control socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Gid, Pid, Uid, fchownat, getpid};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::forms;
use crate::sys::inherit::{Fd, Inherited, NotInherited};
use crate::sys::lock_file::{Holder, LockError, LockFile, LockRecord};
use crate::sys::peer::credentials;
use crate::sys::unix_diag::{SocketFile, is_bound, is_bound_to};

/// The longest path of a socket, in bytes: `sun_path` of `unix(7)` less its NUL.
pub const PATH_BYTES_MAX: usize = 107;

/// A path that is ours, with the lock that says so. Dropping it removes the socket as [`BoundFile`] has it, and the lock
/// file; a forked child that drops it changes nothing. `std::process::exit` and exec do not drop.
#[derive(Debug)]
pub struct SocketPlace {
    file: BoundFile,
    /// Last, so that it is given up when the socket is gone.
    lock: LockFile,
}

/// The file of a socket that this process has bound. Dropping it removes the file, if it is still that socket's; a
/// forked child that drops it changes nothing.
#[derive(Debug)]
pub struct BoundFile {
    path: PathBuf,
    /// Device and inode of the socket as it was bound.
    file: SocketFile,
    owner: Pid,
    /// Whether it is not removed, whoever drops this.
    stays: bool,
}

/// A path cannot be had for a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Another process has it.
    #[error("{} is listening there", Holder(*.0))]
    Held(Option<Pid>),
    /// Another process has it, and does not listen yet.
    #[error("another process has bound a socket there")]
    Bound,
    /// Something else is there, and stays there.
    #[error("what is there is no socket")]
    NotASocket,
    /// The path is longer than the system takes.
    #[error("the path has {0} bytes, a socket's has at most {PATH_BYTES_MAX}")]
    TooLong(usize),
    /// Its lock file could not be had.
    #[error(transparent)]
    Lock(LockError),
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What to do about a [`PlaceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Use another path: somebody has this one.
    OtherPath,
    /// Move away what is there, or use another path.
    MoveAway,
    /// Move away what is where the lock file should be.
    MoveLockAway,
    /// Use a shorter path.
    ShorterPath,
    /// Make the directory, or use another path.
    MakeDirectory,
    /// Use a path of one's own.
    OwnPath,
}

impl PlaceError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Held(_) | Self::Bound => Some(Remedy::OtherPath),
            Self::NotASocket => Some(Remedy::MoveAway),
            Self::TooLong(_) => Some(Remedy::ShorterPath),
            Self::Lock(LockError::NotALockFile { .. }) => Some(Remedy::MoveLockAway),
            Self::Lock(LockError::Io { source, .. }) | Self::Io(source) => match source.kind() {
                io::ErrorKind::NotFound => Some(Remedy::MakeDirectory),
                io::ErrorKind::PermissionDenied => Some(Remedy::OwnPath),
                _ => None,
            },
            Self::Lock(_) => None,
        }
    }
}

impl SocketPlace {
    /// Binds `socket` to `path` under its lock, and calls `finish`, which should have it listen.
    ///
    /// # Errors
    /// As [`BoundFile::bind`].
    pub fn take(
        path: &Path,
        socket: &Socket,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, PlaceError> {
        let path = checked(path)?;
        let lock = lock(&path)?;
        Ok(Self { file: BoundFile::bind(&path, socket, finish)?, lock })
    }

    /// Takes the place over of a `socket` that a process before this one has bound to `path`; `None` if the path does not
    /// lead to that socket any more. Until [`Self::settle`] is called, dropping it leaves the socket's file.
    ///
    /// # Errors
    /// [`PlaceError`], if somebody else has the lock, or the kernel does not tell what the socket is bound to.
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
        Ok(Some(Self { file: BoundFile { path, file, owner: getpid(), stays: true }, lock }))
    }

    /// Has the file go with this from now on.
    pub fn settle(&mut self) {
        self.file.stays = false;
    }

    /// Gives the socket's file this mode and this owner, each if it is another.
    ///
    /// # Errors
    /// If the system refuses, or the path leads to something else by now.
    pub fn set_access(&self, mode: Option<u32>, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        self.file.set_access(mode, user, group)
    }

    /// Where it is; absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

impl BoundFile {
    /// Binds `socket` to `path` and calls `finish`. A stale socket there is replaced, one that somebody has never is,
    /// nor anything else. The caller holds the lock by which no other master does the same.
    ///
    /// # Errors
    /// [`PlaceError`]; then nothing of anybody's was removed, and nothing of ours is left.
    pub fn bind(
        path: &Path,
        socket: &Socket,
        finish: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, PlaceError> {
        let path = checked(path)?;
        clear(&path)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        match finish(&path).and_then(|()| file_at(&path)) {
            Ok(file) => Ok(Self { path, file, owner: getpid(), stays: false }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error.into())
            }
        }
    }

    /// Where it is; absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn set_access(&self, mode: Option<u32>, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        // By a descriptor: in a directory that others write to, the path may lead elsewhere from one call to the next.
        let opened = open(&self.path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = fstat(&opened)?;
        if (SocketFile { device: found.st_dev, inode: found.st_ino }) != self.file {
            return Err(io::ErrorKind::NotFound.into());
        }
        let user = user.filter(|user| user.as_raw() != found.st_uid);
        let group = group.filter(|group| group.as_raw() != found.st_gid);
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

/// As long as it lives, what is made has the mode that it is made with. It is the process's, so there must be no
/// other thread that makes files.
#[derive(Debug)]
pub struct Unmasked(Mode);

impl Unmasked {
    /// Begins.
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

/// A [`SocketPlace`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaceRecord {
    #[serde(flatten)]
    file: BoundFileRecord,
    lock: LockRecord,
}

/// A [`BoundFile`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundFileRecord {
    #[serde(with = "forms::path")]
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl PlaceRecord {
    /// The descriptor that it names.
    #[must_use]
    pub fn descriptor(&self) -> Fd {
        self.lock.fd
    }
}

impl SocketPlace {
    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> PlaceRecord {
        PlaceRecord { file: self.file.record(), lock: self.lock.record() }
    }

    /// Takes over what was written down.
    ///
    /// # Errors
    /// If the descriptor of its lock is not there.
    pub fn adopt(record: PlaceRecord, inherited: &mut Inherited) -> Result<Self, NotInherited> {
        Ok(Self { file: BoundFile::adopt(record.file), lock: LockFile::adopt(record.lock, inherited)? })
    }
}

impl BoundFile {
    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> BoundFileRecord {
        BoundFileRecord { path: self.path.clone(), device: self.file.device, inode: self.file.inode }
    }

    /// Takes over what was written down.
    #[must_use]
    pub fn adopt(record: BoundFileRecord) -> Self {
        let BoundFileRecord { path, device, inode } = record;
        Self { path, file: SocketFile { device, inode }, owner: getpid(), stays: false }
    }
}

impl Drop for BoundFile {
    fn drop(&mut self) {
        if !self.stays && self.owner == getpid() && file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A path that a socket can have, absolute.
fn checked(path: &Path) -> Result<PathBuf, PlaceError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match path.as_os_str().len() {
        0..=PATH_BYTES_MAX => Ok(path),
        bytes => Err(PlaceError::TooLong(bytes)),
    }
}

/// The lock of a path.
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
        // Who has bound it may be about to listen. A kernel that cannot tell leaves us with what the probe told.
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

/// Asks whether somebody who knows nothing of our lock, such as an einhorn in Ruby, listens at `path`.
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
    /// Goes as it does when its process dies: the lock is given up, and the socket's file stays.
    pub(crate) fn die(mut self) {
        self.file.stays = true;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

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
    fn a_socket_that_is_not_ours_any_more_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let place = take(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(place);
        assert!(path.exists());
    }

    #[test]
    fn a_forked_child_does_not_remove_its_parents() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (mut place, _socket) = take(&path).unwrap();
        place.file.owner = Pid::from_raw(1);
        drop(place);
        assert!(path.exists());
    }

    #[test]
    fn a_place_is_taken_over_from_who_has_died_and_stays_until_it_is_settled() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let (before, socket) = take(&path).unwrap();
        let held = SocketPlace::take_over(&path, &socket).unwrap_err();
        assert!(matches!(held, PlaceError::Held(Some(pid)) if pid == getpid()), "{held:?}");
        before.die();
        let unsettled = SocketPlace::take_over(&path, &socket).unwrap().unwrap();
        drop(unsettled);
        assert!(path.exists(), "it is still waited for");
        let mut place = SocketPlace::take_over(&path, &socket).unwrap().unwrap();
        place.settle();
        drop(place);
        assert_eq!(files(&directory), 0);
    }

    #[test]
    fn nothing_is_left_of_one_that_could_not_be_finished() {
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
