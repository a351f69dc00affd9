//! Where `serve` listens: an address of TCP, the path of a Unix socket, or the sockets that systemd passes.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use listenfd::ListenFd;
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// How many connections may wait to be accepted. Source: that of the standard library, which TCP gets here.
const BACKLOG: i32 = 128;

/// The mode of a socket's file.
const MODE: u32 = 0o660;

/// Where to listen, as `--listen` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// At the sockets that were passed, as `sd_listen_fds(3)` has it.
    Systemd,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "systemd" {
            return Ok(Self::Systemd);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("give the path of the socket, as in unix:/run/web/serve.sock".to_owned()),
                path if path.starts_with('@') => {
                    Err("an abstract name has no owner and no mode; give the path of a file".to_owned())
                }
                path => Ok(Self::Unix(path.into())),
            };
        }
        // A name may have several addresses, and which of them is looked up changes.
        text.parse().map(Self::Tcp).map_err(|_| "give IP:PORT, [IPV6]:PORT, unix:PATH or systemd".to_owned())
    }
}

/// Why there is nothing to listen at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot listen at {0}")]
    Tcp(SocketAddr, #[source] io::Error),
    #[error("cannot listen at {}", .0.display())]
    Unix(PathBuf, #[source] io::Error),
    #[error("cannot listen at {}: another process listens there", .0.display())]
    Used(PathBuf),
    #[error("cannot listen at {}: that file is no socket", .0.display())]
    NoSocket(PathBuf),
    #[error("no socket was passed; \"systemd\" is for a service with a socket unit")]
    NonePassed,
    #[error("descriptor {0}, which was passed, is no listening stream socket of TCP or of a file")]
    Passed(usize, #[source] io::Error),
}

/// A listening socket. The file of one that was made here goes with it.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, File),
}

/// The file of a Unix socket.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Its device and inode, if it was made here.
    own: Option<(u64, u64)>,
}

impl Drop for File {
    fn drop(&mut self) {
        // Another one may have taken its place.
        let is_own = |file: fs::Metadata| self.own == Some((file.dev(), file.ino()));
        if fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Whether others than the processes of this machine reach it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Tcp(_, address) if !is_loopback(address.ip()))
    }
}

/// Whether the address is one of this machine alone.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

impl Listen {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`ListenError`].
    pub(super) fn open(&self) -> Result<Vec<Listener>, ListenError> {
        match self {
            Self::Tcp(address) => {
                let listener =
                    TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
                let (address, listener) = listener.map_err(|source| ListenError::Tcp(*address, source))?;
                Ok(vec![Listener::Tcp(listener, address)])
            }
            Self::Unix(path) => bind(path).map(|listener| vec![listener]),
            Self::Systemd => passed(),
        }
    }
}

/// Makes a socket at `path`, in place of one that nobody listens at any more.
fn bind(path: &Path) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Unix(path.to_owned(), source);
    let address = SockAddr::unix(path).map_err(failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    match bind_private(&socket, &address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(path)?;
            bind_private(&socket, &address).map_err(failed)?;
        }
        bound => bound.map_err(failed)?,
    }
    let file = fs::symlink_metadata(path).map_err(failed)?;
    let file = File { path: path.to_owned(), own: Some((file.dev(), file.ino())) };
    // The umask may have taken the group's part.
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    Ok(Listener::Unix(UnixListener::from(OwnedFd::from(socket)), file))
}

/// Only its owner and its group may connect: [`MODE`].
///
/// # Source
/// Linux makes the file with the mode of the socket's own inode, less the umask, so it never has a wider one.
fn bind_private(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    fchmod(socket, Mode::from_bits_truncate(MODE))?;
    socket.bind(address)
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix(path.to_owned(), source);
    if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
        return Err(ListenError::NoSocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(ListenError::Used(path.to_owned())),
    }
}

fn passed() -> Result<Vec<Listener>, ListenError> {
    let mut fds = ListenFd::from_env();
    let listeners: Result<Vec<_>, _> = (0..fds.len()).map(|number| take(&mut fds, number)).collect();
    match listeners? {
        none if none.is_empty() => Err(ListenError::NonePassed),
        some => Ok(some),
    }
}

fn take(fds: &mut ListenFd, number: usize) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Passed(number, source);
    let gone = || failed(ErrorKind::NotFound.into());
    // One that is of another kind stays where it is.
    if let Ok(listener) = fds.take_tcp_listener(number) {
        let listener = listener.ok_or_else(gone)?;
        let address = listener.local_addr().map_err(failed)?;
        return Ok(Listener::Tcp(listener, address));
    }
    let listener = fds.take_unix_listener(number).map_err(failed)?.ok_or_else(gone)?;
    let address = listener.local_addr().map_err(failed)?;
    let path = address.as_pathname().map(Path::to_owned).unwrap_or_default();
    Ok(Listener::Unix(listener, File { path, own: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_a_path_or_systemd() {
        for (text, expected) in [
            ("127.0.0.1:9180", Listen::Tcp(([127, 0, 0, 1], 9180).into())),
            ("[::1]:0", Listen::Tcp((std::net::Ipv6Addr::LOCALHOST, 0).into())),
            ("unix:/run/a b", Listen::Unix("/run/a b".into())),
            ("systemd", Listen::Systemd),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "9180",
            ":9180",
            "localhost:9180",
            "127.0.0.1",
            "unix:",
            "unix:@name",
            "systemd:web",
            "::1:80",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        for (ip, expected) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(ip.parse().unwrap()), expected, "{ip}");
        }
    }

    #[test]
    fn a_socket_is_its_owners_and_its_groups_and_its_file_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serve.sock");
        let open = || Listen::Unix(path.clone()).open();
        let listener = open().unwrap();
        let file = fs::symlink_metadata(&path).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o660);
        assert!(matches!(open(), Err(ListenError::Used(_))), "somebody listens there");
        assert!(path.exists());
        drop(listener);
        assert!(!path.exists());
        // One that was left behind is replaced, a file that is something else is not, and one of a successor stays.
        drop(UnixListener::bind(&path).unwrap());
        let listener = open().unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(listener);
        assert!(path.exists());
        assert!(matches!(open(), Err(ListenError::NoSocket(_))));
    }
}
