//! The control socket's place in the file system: who may have it, and who removes it.
//!
//! A lock file beside the socket, held for the master's life, decides between masters; what can be seen of the
//! socket alone does not (one that refuses connections may be stale, or its master not yet listening). Under
//! the lock the path is ours, so a stale socket is simply removed and the new one bound in its place, rather
//! than bound elsewhere and renamed: a bind fails where a rename would replace whatever came in between, needs
//! no room for a longer name, and leaves the true path in what `ss -x` and `getsockname` show. The socket has its
//! mode before it has a name.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::handover::{Fd, forms};
use crate::sys::inherit::{Inherited, NotInherited};
use crate::sys::lock_file::{Holder, LockError, LockFile, LockRecord};
use crate::sys::peer::credentials;

/// The longest path of a socket, in bytes: `sun_path` of `unix(7)` less its NUL.
pub const PATH_BYTES_MAX: usize = 107;

/// The control socket, listening, with its lock. Dropping it removes both files, if they are still ours; a
/// forked child that drops it changes nothing. `std::process::exit` and exec do not drop.
#[derive(Debug)]
pub struct ControlSocket {
    /// Accepts clients; non-blocking and close-on-exec, like those it accepts.
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket as it was bound.
    inode: (u64, u64),
    owner: Pid,
    /// Last, so that it is given up when the socket is gone.
    lock: LockFile,
}

/// The control socket could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlSocketError {
    /// Another process has it.
    #[error("cannot open the control socket {}: {} is listening there", .path.display(), Holder(*.pid))]
    Held {
        /// The socket.
        path: PathBuf,
        /// The process, if that is known.
        pid: Option<Pid>,
    },
    /// Something else is at its place, and stays there.
    #[error("cannot open the control socket {}: what is there is no socket", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path is longer than the system takes.
    #[error(
        "cannot open the control socket {}: the path has {bytes} bytes, a socket's has at most {PATH_BYTES_MAX}",
        .path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Its lock file could not be had.
    #[error("cannot open the control socket {}", .path.display())]
    Lock {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: LockError,
    },
    /// The system refuses.
    #[error("cannot open the control socket {}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ControlSocketError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Held { .. } => Some("give this master another name (-c NAME) or socket (-d PATH)"),
            Self::NotASocket { .. } => Some("move it away, or give another path (-d PATH)"),
            Self::PathTooLong { .. } => Some("give a shorter path (-d PATH)"),
            Self::Lock { source: LockError::NotALockFile { .. }, .. } => Some("move it away"),
            Self::Lock { source: LockError::Io { source, .. }, .. } | Self::Io { source, .. } => {
                match source.kind() {
                    io::ErrorKind::NotFound => Some("make the directory, or give another path (-d PATH)"),
                    io::ErrorKind::PermissionDenied => {
                        Some("is it another user's? give a path of your own (-d PATH)")
                    }
                    _ => None,
                }
            }
            Self::Lock { .. } => None,
        }
    }
}

impl ControlSocket {
    /// Makes the control socket at `path`, mode 0600, and listens. A stale socket there is replaced, one that
    /// somebody listens on never is, nor anything else.
    ///
    /// # Errors
    /// [`ControlSocketError`]; then nothing of anybody's was removed.
    pub fn open(path: &Path) -> Result<Self, ControlSocketError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let bytes = path.as_os_str().len();
        if bytes > PATH_BYTES_MAX {
            return Err(ControlSocketError::PathTooLong { path, bytes });
        }
        let lock = LockFile::acquire(&lock_path(&path)).map_err(|error| match error {
            LockError::Held { pid, .. } => ControlSocketError::Held { path: path.clone(), pid },
            source => ControlSocketError::Lock { path: path.clone(), source },
        })?;
        clear(&path)?;
        match listen(&path) {
            Ok((listener, inode)) => {
                Ok(Self { listener: UnixListener::from_std(listener), path, inode, owner: getpid(), lock })
            }
            Err(source) => Err(ControlSocketError::Io { path, source }),
        }
    }

    /// Where it is; absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its lock.
    #[must_use]
    pub fn lock(&self) -> &LockFile {
        &self.lock
    }
}

/// A [`ControlSocket`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlSocketRecord {
    fd: Fd,
    #[serde(with = "forms::path")]
    path: PathBuf,
    device: u64,
    inode: u64,
    lock: LockRecord,
}

impl ControlSocketRecord {
    /// The descriptors that it names.
    #[must_use]
    pub fn descriptors(&self) -> [Fd; 2] {
        [self.fd, self.lock.fd]
    }
}

impl ControlSocket {
    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> ControlSocketRecord {
        ControlSocketRecord {
            fd: Fd::of(&self.listener),
            path: self.path.clone(),
            device: self.inode.0,
            inode: self.inode.1,
            lock: self.lock.record(),
        }
    }

    /// Takes over what was written down: clients that have connected and were not accepted are still there.
    ///
    /// # Errors
    /// If a descriptor of it is not there.
    pub fn adopt(record: ControlSocketRecord, inherited: &mut Inherited) -> Result<Self, NotInherited> {
        let listener = StdUnixListener::from(inherited.take(record.fd.0)?);
        Ok(Self {
            listener: UnixListener::from_std(listener),
            path: record.path,
            inode: (record.device, record.inode),
            owner: getpid(),
            lock: LockFile::adopt(record.lock, inherited)?,
        })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.owner == getpid() && inode_at(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn inode_at(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Removes a stale socket from `path`. The caller holds the lock.
fn clear(path: &Path) -> Result<(), ControlSocketError> {
    let io = |source| ControlSocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlSocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match probe(path).map_err(io)? {
        Probe::Stale => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
            _ => Ok(()),
        },
        Probe::Alive(pid) => Err(ControlSocketError::Held { path: path.to_owned(), pid }),
    }
}

enum Probe {
    Stale,
    Alive(Option<Pid>),
}

/// Asks whether somebody who knows nothing of our lock, such as an einhorn in Ruby, listens at `path`.
fn probe(path: &Path) -> io::Result<Probe> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(Probe::Alive(credentials(&socket).ok().map(|peer| peer.pid))),
        Err(error) => match error.raw_os_error() {
            Some(nix::libc::ECONNREFUSED | nix::libc::ENOENT) => Ok(Probe::Stale),
            // Its queue is full, or it is a socket of another type.
            Some(nix::libc::EAGAIN | nix::libc::EPROTOTYPE) => Ok(Probe::Alive(None)),
            _ => Err(error),
        },
    }
}

/// Binds and listens; leaves no socket behind if that fails.
fn listen(path: &Path) -> io::Result<(StdUnixListener, (u64, u64))> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Before bind: the name appears with this mode, less the umask, and never with another.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // As many as the system allows: every worker of a large pool may want to ack at once.
    let listening = socket.listen(i32::MAX).and_then(|()| inode_at(path));
    match listening {
        Ok(inode) => Ok((OwnedFd::from(socket).into(), inode)),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::sys::stat::umask;

    use super::*;
    use crate::sys::testing::{eventually, isolated};

    fn refusal(path: &Path) -> (String, Option<&'static str>) {
        let error = ControlSocket::open(path).unwrap_err();
        let hint = error.hint();
        (format!("{:#}", anyhow::Error::from(error)), hint)
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn clients_connect_and_both_files_go_with_the_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        let control = ControlSocket::open(&path).unwrap();
        assert_eq!(control.path(), path);
        assert_eq!(control.lock().path(), directory.path().join("einhorn.sock.lock"));
        assert_eq!(control.listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = control.listener.accept().unwrap();
        drop(accepted);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        let flags = FdFlag::from_bits_retain(fcntl(&control.listener, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
        assert_eq!(files(directory.path()), 2);
        drop(control);
        assert_eq!(files(directory.path()), 0);
    }

    #[test]
    fn nobody_else_may_connect_whatever_the_umask() {
        isolated("control_socket::tests::nobody_else_may_connect_whatever_the_umask", || {
            for mask in [0o000, 0o022, 0o077] {
                umask(Mode::from_bits_truncate(mask));
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("einhorn.sock");
                let control = ControlSocket::open(&path).unwrap();
                for path in [control.path(), control.lock().path()] {
                    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
                    assert_eq!(mode, 0o600, "{} with umask {mask:03o}", path.display());
                }
            }
        });
    }

    #[test]
    fn a_live_masters_socket_is_refused_with_its_pid() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        let _control = ControlSocket::open(&path).unwrap();
        let (message, hint) = refusal(&path);
        assert_eq!(
            message,
            format!(
                "cannot open the control socket {}: process {} is listening there",
                path.display(),
                getpid()
            )
        );
        assert_eq!(hint, Some("give this master another name (-c NAME) or socket (-d PATH)"));
        assert_eq!(files(directory.path()), 2, "who failed to start removed something");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_somebody_without_our_lock_listens_on_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        let other = StdUnixListener::bind(&path).unwrap();
        let (message, _) = refusal(&path);
        assert!(message.ends_with(&format!("process {} is listening there", getpid())), "{message}");
        UnixStream::connect(&path).unwrap();
        drop(other);
        let full = directory.path().join("full.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&full).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _queued = UnixStream::connect(&full).unwrap();
        assert!(refusal(&full).0.ends_with("another process is listening there"));
        let datagram = directory.path().join("log");
        let _datagram = UnixDatagram::bind(&datagram).unwrap();
        assert!(refusal(&datagram).0.ends_with("another process is listening there"));
        assert!(full.exists() && datagram.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        fs::write(directory.path().join("einhorn.sock.lock"), "2147483646\n").unwrap();
        // A child that another test is just spawning may hold a copy of it until its exec.
        eventually("the socket to be stale", || UnixStream::connect(&path).is_err());
        let _control = ControlSocket::open(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        fs::write(&path, "precious").unwrap();
        let (message, hint) = refusal(&path);
        assert_eq!(
            message,
            format!("cannot open the control socket {}: what is there is no socket", path.display())
        );
        assert_eq!(hint, Some("move it away, or give another path (-d PATH)"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(files(directory.path()), 1, "the lock file stayed");
    }

    #[test]
    fn a_path_one_byte_too_long_is_named_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let room = PATH_BYTES_MAX - directory.path().as_os_str().len() - 1;
        let path = directory.path().join("x".repeat(room + 1));
        assert_eq!(
            refusal(&path).0,
            format!(
                "cannot open the control socket {}: the path has 108 bytes, a socket's has at most 107",
                path.display()
            )
        );
        let longest = directory.path().join("x".repeat(room));
        let _control = ControlSocket::open(&longest).unwrap();
        UnixStream::connect(&longest).unwrap();
    }

    #[test]
    fn a_missing_directory_and_a_bad_lock_file_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("no/einhorn.sock");
        let (message, hint) = refusal(&path);
        assert_eq!(
            message,
            format!(
                "cannot open the control socket {0}: cannot lock {0}.lock: No such file or directory (os error 2)",
                path.display()
            )
        );
        assert_eq!(hint, Some("make the directory, or give another path (-d PATH)"));
        let path = directory.path().join("einhorn.sock");
        fs::create_dir(directory.path().join("einhorn.sock.lock")).unwrap();
        let (message, hint) = refusal(&path);
        assert!(message.ends_with("as a lock file: it is a directory"), "{message}");
        assert_eq!(hint, Some("move it away"));
    }

    #[test]
    fn a_socket_that_is_not_ours_any_more_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        let control = ControlSocket::open(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let _other = StdUnixListener::bind(&path).unwrap();
        drop(control);
        assert!(path.exists());
    }

    #[test]
    fn a_forked_child_does_not_remove_its_parents() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        let mut control = ControlSocket::open(&path).unwrap();
        control.owner = Pid::from_raw(1);
        drop(control);
        assert!(path.exists());
    }
}
