//! The control socket's listener, and the errors of opening it.
//!
//! [`SocketPlace`] decides who may have the path and who removes the file, as for every Unix socket of the
//! master. The file has its mode before it has its name.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use mio::net::UnixListener;
use nix::sys::stat::{Mode, fchmod};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::config;
use crate::socket_place::{FileOwner, Lost, PlaceError, Remedy, SocketPlace};
use crate::sys::account::group_id;
use crate::sys::ancillary::refuse_rights;
use crate::sys::inherit::Kept;

/// The mode of a socket that observers may connect to. Whether they may send a command is decided for each.
const OBSERVED_MODE: u32 = 0o660;

/// The listening control socket and its path. Dropping it removes the socket and its lock file, if they are
/// still ours.
#[derive(Debug, Serialize, Deserialize)]
pub struct ControlSocket {
    /// Accepts clients; non-blocking and close-on-exec, like the connections that it returns.
    #[serde(rename = "fd")]
    pub listener: Kept<UnixListener>,
    #[serde(flatten)]
    place: SocketPlace,
}

/// The control socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the control socket {}", .path.display())]
pub struct ControlSocketError {
    pub path: PathBuf,
    pub source: PlaceError,
}

impl ControlSocketError {
    /// A next step for the reader.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.source.remedy()? {
            Remedy::OtherPath => "give this master another name (-c NAME) or socket (-d PATH)",
            Remedy::MoveAway => "move it away, or give another path (-d PATH)",
            Remedy::MoveLockAway => "move it away",
            Remedy::ShorterPath => "give a shorter path (-d PATH)",
            Remedy::MakeDirectory => "make the directory, or give another path (-d PATH)",
            Remedy::WritablePath => {
                "its file system is read-only: give a path on another one, such as in /run (-d PATH)"
            }
            Remedy::OwnPath => "give a path in a directory that this user may write to (-d PATH)",
        })
    }
}

impl ControlSocket {
    /// Creates the control socket at `path` with mode 0600 and listens. A stale socket is replaced; a socket in
    /// use, or any other file, never is.
    ///
    /// # Errors
    /// [`ControlSocketError`]; no file of another process was removed.
    pub fn open(path: &Path) -> Result<Self, ControlSocketError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::open_at(&path).map_err(|source| ControlSocketError { path, source })
    }

    fn open_at(path: &Path) -> Result<Self, PlaceError> {
        let socket = socket()?;
        // The longest queue that the system allows: every worker of a large pool may ack at the same time.
        let place = SocketPlace::take(path, &socket, |_| socket.listen(i32::MAX))?;
        Ok(Self { listener: Kept::Open(OwnedFd::from(socket).into()), place })
    }

    /// What its path no longer leads to.
    pub fn lost(&self) -> Option<Lost> {
        self.place.lost()
    }

    /// Makes what was lost again. If that was the socket's file, it listens with another socket, and returns the one
    /// before: clients may still wait in its queue.
    ///
    /// # Errors
    /// [`PlaceError`] if another process has the path by now, or a file cannot be made.
    pub fn bind_again(&mut self, lost: &Lost) -> Result<Option<UnixListener>, PlaceError> {
        self.place.lock_again()?;
        if !lost.socket {
            return Ok(None);
        }
        let socket = socket()?;
        self.place.bind_again(&socket, |_| socket.listen(i32::MAX))?;
        match mem::replace(&mut self.listener, Kept::Open(OwnedFd::from(socket).into())) {
            Kept::Open(before) => Ok(Some(before)),
            Kept::Named(_) => Ok(None),
        }
    }

    /// The paths to watch.
    pub fn paths(&self) -> [&Path; 2] {
        self.place.paths()
    }

    /// Gives the socket's file the group and the mode that the settings have.
    ///
    /// # Errors
    /// If there is no such group, or this process may not give it to the file.
    pub fn share(&mut self, settings: &config::Control) -> anyhow::Result<()> {
        let owner = match self.place.file_owner() {
            Some(owner) => owner,
            None => FileOwner { user: None, group: group_of(settings)? },
        };
        let mode = if settings.observe_group.is_some() { Some(OBSERVED_MODE) } else { settings.mode };
        self.place.set_access(mode, owner).with_context(|| {
            let path = self.path().display();
            match group_option(settings) {
                Some((option, group)) => format!("cannot give {path} to group {group} ({option})"),
                None => format!("cannot set the mode of {path} (--control-mode)"),
            }
        })
    }

    /// The absolute path of the socket.
    pub fn path(&self) -> &Path {
        self.place.path()
    }
}

/// The group of the socket's file, with the option that names it; `None` for the master's.
fn group_option(settings: &config::Control) -> Option<(&'static str, &str)> {
    let observers = settings.observe_group.as_deref().map(|group| ("--observe-group", group));
    observers.or_else(|| Some(("--control-group", settings.group.as_deref()?)))
}

/// Looks up the group of the socket's file; `None` for the master's. It may wait for a name service.
///
/// # Errors
/// If there is no such group.
pub fn group_of(settings: &config::Control) -> anyhow::Result<Option<u32>> {
    let look_up = |(option, group)| group_id(group).context(option);
    group_option(settings).map(look_up).transpose()
}

/// A socket whose file appears with mode 0600, less the umask, and never with another mode.
fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // An older kernel lets them pass, and they are closed.
    let _ = refuse_rights(&socket);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use nix::sys::stat::umask;
    use nix::unistd::getpid;
    use socket2::SockAddr;

    use super::*;
    use crate::socket_place::PATH_BYTES_MAX;
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
        assert!(directory.path().join("einhorn.sock.lock").is_file());
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
    fn no_other_user_may_connect_whatever_the_umask() {
        isolated("master::control::socket::tests::no_other_user_may_connect_whatever_the_umask", || {
            for mask in [0o000, 0o022, 0o077] {
                umask(Mode::from_bits_truncate(mask));
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("einhorn.sock");
                let control = ControlSocket::open(&path).unwrap();
                let lock = directory.path().join("einhorn.sock.lock");
                for path in [control.path(), &lock] {
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
        assert_eq!(files(directory.path()), 2, "a failed start must remove nothing");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_in_use_without_our_lock_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
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
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        fs::write(directory.path().join("einhorn.sock.lock"), "2147483646\n").unwrap();
        // A child that another test is spawning may hold a copy until its exec.
        eventually("the socket to be stale", || UnixStream::connect(&path).is_err());
        let _control = ControlSocket::open(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn anything_but_a_socket_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("einhorn.sock");
        fs::write(&path, "precious").unwrap();
        let (message, hint) = refusal(&path);
        assert_eq!(message, format!("cannot open the control socket {}: it is not a socket", path.display()));
        assert_eq!(hint, Some("move it away, or give another path (-d PATH)"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(files(directory.path()), 1, "the lock file stayed");
    }

    #[test]
    fn a_path_that_is_one_byte_too_long_is_refused_with_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let room = PATH_BYTES_MAX - directory.path().as_os_str().len() - 1;
        let path = directory.path().join("x".repeat(room + 1));
        assert_eq!(
            refusal(&path).0,
            format!(
                "cannot open the control socket {}: the path has 108 bytes; a socket path has at most 107",
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
}
