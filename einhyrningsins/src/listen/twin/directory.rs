//! The directory with the Unix sockets of a trial.
//!
//! It belongs to the workers' user, who may do with it as they like, and may lie in `/tmp`. So everything in it is done by
//! its descriptor, no link is followed, and nothing but sockets is removed.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{Uid, UnlinkatFlags, fchownat, unlinkat};
use serde::{Deserialize, Serialize};
use socket2::{SockAddr, Socket};

use super::error::{DirectoryError, TwinError};
use crate::forms;
use crate::socket_place::PATH_BYTES_MAX;
use crate::sys::inherit::Owner;
use crate::sys::unix_diag::SocketFile;

/// A trial has one file for each `-b` at most. Whoever makes a million must not keep the master busy.
const FILES_MAX: usize = 4096;

/// A directory that this process made, with the sockets in it. Dropping it removes both, if they are still there; a forked
/// child that drops it changes nothing.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrialDirectory {
    #[serde(with = "forms::written")]
    path: PathBuf,
    /// The file of each socket, which has the number of its `-b` as its name.
    files: Vec<(usize, SocketFile)>,
    #[serde(skip)]
    owner: Owner,
}

impl TrialDirectory {
    /// Makes the directory beside `control_socket` for `user`, or for that of this process, and binds each of `sockets` to a
    /// file in it, named by its number.
    pub(super) fn make(
        control_socket: &Path,
        user: Option<u32>,
        sockets: &[(usize, &Socket)],
    ) -> Result<Self, TwinError> {
        let path = beside(control_socket);
        let make = || {
            clear(&path, user)?;
            let mut made = Self::new(&path, sockets)?;
            made.bind(user, sockets)?;
            Ok(made)
        };
        make().map_err(|source| TwinError::Directory { path: path.clone(), source })
    }

    fn new(path: &Path, sockets: &[(usize, &Socket)]) -> Result<Self, DirectoryError> {
        let longest = sockets.iter().map(|(number, _)| path.join(number.to_string()).as_os_str().len()).max();
        match longest {
            Some(bytes) if bytes > PATH_BYTES_MAX => return Err(DirectoryError::TooLong(bytes)),
            _ if path.to_str().is_none() => return Err(DirectoryError::NotUtf8),
            _ => {}
        }
        mkdirat(AT_FDCWD, path, Mode::S_IRWXU).map_err(io::Error::from)?;
        Ok(Self { path: path.to_owned(), files: Vec::new(), owner: Owner::maker() })
    }

    fn bind(&mut self, user: Option<u32>, sockets: &[(usize, &Socket)]) -> Result<(), DirectoryError> {
        let opened = open(&self.path)?;
        // Who may write to the directory above could have put another in its place.
        if entries(&opened)?.next().is_some() {
            return Err(DirectoryError::Moved);
        }
        for (number, socket) in sockets {
            let name = number.to_string();
            socket.bind(&SockAddr::unix(self.path.join(&name))?)?;
            let file = file_in(&opened, &name).map_err(|_| DirectoryError::Moved)?;
            self.files.push((*number, file));
        }
        if let Some(uid) = user.filter(|user| *user != Uid::effective().as_raw()) {
            let failed = |source| DirectoryError::Give { uid, source };
            let give = |(number, _): &(usize, _)| {
                let (name, to) = (number.to_string(), Some(Uid::from_raw(uid)));
                fchownat(&opened, name.as_str(), to, None, AtFlags::AT_SYMLINK_NOFOLLOW)
            };
            // The directory last: from then on, the user can put other files in the place of these.
            sockets.iter().try_for_each(give).map_err(|errno| failed(errno.into()))?;
            fchown(&opened, Some(uid), None).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes the sockets that an earlier trial left, and the directory.
    pub(super) fn clear(control_socket: &Path, user: Option<u32>) -> Result<(), TwinError> {
        let path = beside(control_socket);
        clear(&path, user).map_err(|source| TwinError::Directory { path, source })
    }
}

impl Drop for TrialDirectory {
    fn drop(&mut self) {
        if !self.owner.removes() {
            return;
        }
        if let Ok(opened) = open(&self.path) {
            for (number, file) in &self.files {
                let name = number.to_string();
                if file_in(&opened, &name).is_ok_and(|found| found == *file) {
                    let _ = remove(&opened, &name);
                }
            }
        }
        // This fails if there are other files, such as those of the next trial.
        let _ = unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir);
    }
}

/// `SOCKET.trial`: the control socket's lock keeps other masters out.
fn beside(control_socket: &Path) -> PathBuf {
    let mut path = control_socket.as_os_str().to_owned();
    path.push(".trial");
    path.into()
}

fn clear(path: &Path, user: Option<u32>) -> Result<(), DirectoryError> {
    let opened = match open(path) {
        Err(DirectoryError::Io(error)) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let found = opened.metadata()?;
    let (uid, mode) = (found.uid(), found.mode() & 0o777);
    let is_ours = user == Some(uid) || Uid::effective().as_raw() == uid;
    if !is_ours || mode != Mode::S_IRWXU.bits() {
        return Err(DirectoryError::Foreign { uid, mode });
    }
    let files = entries(&opened)?.take(FILES_MAX + 1).collect::<Result<Vec<_>, _>>()?;
    for (count, file) in files.into_iter().enumerate() {
        if count == FILES_MAX || !file.file_type()?.is_socket() {
            return Err(DirectoryError::NotEmpty { name: file.file_name().display().to_string() });
        }
        remove(&opened, file.file_name())?;
    }
    Ok(unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir).map_err(io::Error::from)?)
}

/// Opens the directory itself, and nothing that a link of its name leads to.
fn open(path: &Path) -> Result<File, DirectoryError> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP) => DirectoryError::NotADirectory,
        _ => error.into(),
    })
}

fn entries(directory: &File) -> io::Result<fs::ReadDir> {
    fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

fn file_in(directory: &File, name: &str) -> io::Result<SocketFile> {
    let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(SocketFile { device: found.st_dev, inode: found.st_ino })
}

fn remove(directory: &File, name: impl AsRef<OsStr>) -> io::Result<()> {
    Ok(unlinkat(directory, name.as_ref(), UnlinkatFlags::NoRemoveDir)?)
}

#[cfg(test)]
impl TrialDirectory {
    /// From now on, dropping it leaves the files, as the death of its process would.
    pub(super) fn die(&mut self) {
        self.owner = Owner::heir();
    }
}
