//! The control socket, and the messages when it cannot be had.
//!
//! Who has its path and who removes it is as with every Unix socket of ours ([`SocketPlace`]). It has its mode
//! before it has a name.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use nix::sys::stat::{Mode, fchmod};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::socket_place::{PlaceError, PlaceRecord, Remedy, SocketPlace};
use crate::sys::inherit::{Fd, Inherited, NotInherited};

/// The control socket, listening, with its place. Dropping it removes the socket and its lock file, if they are still
/// ours.
#[derive(Debug)]
pub struct ControlSocket {
    /// Accepts clients; non-blocking and close-on-exec, like those it accepts.
    pub listener: UnixListener,
    place: SocketPlace,
}

/// The control socket could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the control socket {}", .path.display())]
pub struct ControlSocketError {
    /// The socket.
    pub path: PathBuf,
    /// Why.
    pub source: PlaceError,
}

impl ControlSocketError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.source.remedy()? {
            Remedy::OtherPath => "give this master another name (-c NAME) or socket (-d PATH)",
            Remedy::MoveAway => "move it away, or give another path (-d PATH)",
            Remedy::MoveLockAway => "move it away",
            Remedy::ShorterPath => "give a shorter path (-d PATH)",
            Remedy::MakeDirectory => "make the directory, or give another path (-d PATH)",
            Remedy::OwnPath => "is it another user's? give a path of your own (-d PATH)",
        })
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
        Self::open_at(&path).map_err(|source| ControlSocketError { path, source })
    }

    fn open_at(path: &Path) -> Result<Self, PlaceError> {
        let socket = socket()?;
        // As many as the system allows: every worker of a large pool may want to ack at once.
        let place = SocketPlace::take(path, &socket, |_| socket.listen(i32::MAX))?;
        let listener = StdUnixListener::from(OwnedFd::from(socket));
        Ok(Self { listener: UnixListener::from_std(listener), place })
    }

    /// Where it is; absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }
}

/// A socket whose name appears with mode 0600, less the umask, and never with another.
fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(socket)
}

/// A [`ControlSocket`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlSocketRecord {
    fd: Fd,
    #[serde(flatten)]
    place: PlaceRecord,
}

impl ControlSocketRecord {
    /// The descriptors that it names.
    #[must_use]
    pub fn descriptors(&self) -> [Fd; 2] {
        [self.fd, self.place.descriptor()]
    }
}

impl ControlSocket {
    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> ControlSocketRecord {
        ControlSocketRecord { fd: Fd::of(&self.listener), place: self.place.record() }
    }

    /// Takes over what was written down: clients that have connected and were not accepted are still there.
    ///
    /// # Errors
    /// If a descriptor of it is not there.
    pub fn resume(record: ControlSocketRecord, inherited: &mut Inherited) -> Result<Self, NotInherited> {
        let listener = StdUnixListener::from(inherited.take(record.fd.0)?);
        Ok(Self {
            listener: UnixListener::from_std(listener),
            place: SocketPlace::adopt(record.place, inherited)?,
        })
    }
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
    fn nobody_else_may_connect_whatever_the_umask() {
        isolated("master::control::socket::tests::nobody_else_may_connect_whatever_the_umask", || {
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
        assert_eq!(message, format!("cannot open the control socket {}: it is not a socket", path.display()));
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
