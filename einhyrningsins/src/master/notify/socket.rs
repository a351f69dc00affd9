//! The notify socket, and its address for workers (`NOTIFY_SOCKET`).
//!
//! The socket is a file beside the control socket. systemd's own is a file too, so every `sd_notify` knows
//! paths; some do not know abstract names, and those do not reach into other network namespaces. It belongs to the
//! workers' user, and other users may not send to it ([`Access`]). If the file cannot be created, or the workers' user
//! cannot reach it, the socket gets an abstract name.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, geteuid};
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use crate::socket_place::{BoundFile, Lost, PlaceError, Unmasked};
use crate::sys::account::{AccountSpec, Credentials};
use crate::sys::inherit::Kept;
use crate::sys::notify::{NotifyError, NotifyMessage, NotifyReceiver};
use crate::sys::peer::Sender;

/// Appended to the path of the control socket.
const SUFFIX: &str = ".notify";

/// The socket to which workers report. Dropping it removes its file if the file still belongs to it. Drop it
/// before the control socket, whose lock keeps other masters away from the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct NotifySocket {
    #[serde(rename = "fd")]
    receiver: Kept<NotifyReceiver>,
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<BoundFile>,
    #[serde(default)]
    access: Access,
}

/// Mode and owner of the socket's file. They decide who may send to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    mode: u32,
    user: Option<u32>,
    group: Option<u32>,
}

/// The mode for one user.
const OWNER: u32 = 0o600;

/// The bits that let others than the owner send.
const GROUP_AND_OTHERS_SEND: u32 = 0o022;

/// The mode for all users.
const ALL: u32 = 0o666;

impl Access {
    /// The master's user and group with the mode that was asked for, or with the narrowest that suits workers of `account`.
    /// Workers of root may become any user by themselves.
    pub fn new(asked: Option<u32>, account: &AccountSpec) -> Self {
        let may_change = geteuid().is_root() && account.user.is_none();
        let mode = asked.unwrap_or(if may_change { ALL } else { OWNER });
        Self { mode, user: None, group: None }
    }
}

/// All users, as every socket before this could be chosen.
impl Default for Access {
    fn default() -> Self {
        Self { mode: ALL, user: None, group: None }
    }
}

/// The notify socket cannot have a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {}", .path.display())]
pub struct NotifyPathError {
    pub path: PathBuf,
    pub source: PlaceError,
}

impl NotifySocket {
    /// Creates the socket with a file beside the control socket, whose lock keeps other masters away from it. A
    /// file that a dead master left is replaced; nothing else is.
    ///
    /// # Errors
    /// [`NotifyPathError`]; no file of another process was removed.
    pub fn beside(control: &Path, access: Access) -> Result<Self, NotifyPathError> {
        let path = path_beside(control);
        let bound = Self::at(&path, access);
        bound.map_err(|source| NotifyPathError { path, source })
    }

    fn at(path: &Path, access: Access) -> Result<Self, PlaceError> {
        let address = path.to_str().ok_or_else(|| io::Error::other("the path is not UTF-8"))?;
        let (receiver, file) = bind(path, access)?;
        Ok(Self { receiver: Kept::Open(receiver), address: address.to_owned(), file: Some(file), access })
    }

    /// Creates the socket with an abstract name, to which everybody can send: see [`Self::admits`].
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM; ENOSPC if every abstract name is taken.
    pub fn without_file(access: Access) -> Result<Self, Errno> {
        let receiver = NotifyReceiver::new()?;
        let name = receiver.bind_to_any_name()?;
        let (receiver, address) = (Kept::Open(receiver), format!("@{name}"));
        Ok(Self { receiver, address, file: None, access })
    }

    /// Gives the socket to the user and the group of `credentials`.
    ///
    /// # Errors
    /// If this process may not do that, or the path leads elsewhere by now.
    pub fn give_to(&mut self, credentials: &Credentials) -> io::Result<()> {
        let access = Access { user: credentials.uid, group: credentials.gid, ..self.access };
        if let Some(file) = &self.file {
            give(file, access)?;
        }
        self.access = access;
        Ok(())
    }

    /// Whether a message of this user is let in: what the mode of a file says, as far as a user tells. The kernel keeps
    /// other users from a file by itself.
    pub fn admits(&self, user: Uid) -> bool {
        let is_owner = || user == self.access.user.map_or_else(geteuid, Uid::from_raw);
        self.access.mode & GROUP_AND_OTHERS_SEND != 0 || user.is_root() || is_owner()
    }

    /// Opens the socket to every user, if workers with `credentials` could not send to it. Returns whether it did.
    ///
    /// # Errors
    /// If the mode of its file cannot be changed, or the path leads elsewhere by now.
    pub fn admit(&mut self, credentials: Option<&Credentials>) -> io::Result<bool> {
        let user = credentials.and_then(|credentials| credentials.uid).map_or_else(geteuid, Uid::from_raw);
        if self.admits(user) {
            return Ok(false);
        }
        if let Some(file) = &self.file {
            file.set_access(Some(ALL), None, None)?;
        }
        self.access.mode = ALL;
        Ok(true)
    }

    /// The value of `NOTIFY_SOCKET`: the path, or `@` and the abstract name.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The path of its file, if it has one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(BoundFile::path)
    }

    /// What its path no longer leads to.
    pub fn lost(&self) -> Option<Lost> {
        self.file.as_ref()?.lost()
    }

    /// Binds another socket to the path, which the socket before has lost, for the same users.
    ///
    /// # Errors
    /// If another process has the path by now, or the file cannot be made.
    pub fn bind_again(&mut self) -> Result<(), PlaceError> {
        let Some(path) = self.path() else { return Ok(()) };
        let (receiver, file) = bind(path, self.access)?;
        receiver.hold_senders(true);
        (self.receiver, self.file) = (Kept::Open(receiver), Some(file));
        Ok(())
    }

    /// The next message; see [`NotifyReceiver::receive`].
    pub fn receive(&mut self) -> Result<Option<(Sender, NotifyMessage)>, NotifyError> {
        self.receiver.receive()
    }

    /// See [`NotifyReceiver::hold_senders`].
    pub fn hold_senders(&self, are_held: bool) {
        self.receiver.hold_senders(are_held);
    }
}

/// A socket bound to `path`, whose file appears with its mode and then gets its owner.
fn bind(path: &Path, access: Access) -> Result<(NotifyReceiver, BoundFile), PlaceError> {
    let receiver = NotifyReceiver::new().map_err(io::Error::from)?;
    fchmod(&receiver, Mode::from_bits_truncate(access.mode)).map_err(io::Error::from)?;
    let unmasked = Unmasked::begin();
    let file = BoundFile::bind(path, &SockRef::from(&receiver), |_| Ok(()))?;
    drop(unmasked);
    give(&file, access)?;
    Ok((receiver, file))
}

fn give(file: &BoundFile, access: Access) -> io::Result<()> {
    file.set_access(None, access.user.map(Uid::from_raw), access.group.map(Gid::from_raw))
}

fn path_beside(control: &Path) -> PathBuf {
    let mut name = OsString::from(control);
    name.push(SUFFIX);
    name.into()
}

impl AsRawFd for NotifySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.receiver.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use nix::sys::stat::umask;
    use nix::unistd::{dup, getpid};
    use tempfile::TempDir;

    use super::*;
    use crate::master::ControlSocket;
    use crate::socket_place::PATH_BYTES_MAX;
    use crate::sys::inherit::{Inherited, naming, settle};
    use crate::sys::testing::{eventually, isolated};

    fn beside(control: &ControlSocket) -> Result<NotifySocket, NotifyPathError> {
        NotifySocket::beside(control.path(), Access::default())
    }

    /// A control socket with this file name, in a temporary directory.
    fn control_named(name: &str) -> (TempDir, ControlSocket) {
        let directory = tempfile::tempdir().unwrap();
        let control = ControlSocket::open(&directory.path().join(name)).unwrap();
        (directory, control)
    }

    fn control() -> (TempDir, ControlSocket) {
        control_named("c.sock")
    }

    fn send(socket: &NotifySocket, bytes: &[u8]) -> io::Result<usize> {
        let sender = UnixDatagram::unbound().unwrap();
        match socket.address().strip_prefix('@') {
            Some(name) => sender.send_to_addr(bytes, &SocketAddr::from_abstract_name(name).unwrap()),
            None => sender.send_to(bytes, socket.address()),
        }
    }

    #[track_caller]
    fn receives(socket: &mut NotifySocket) {
        send(socket, b"READY=1").unwrap();
        let (sender, message) = socket.receive().unwrap().unwrap();
        assert!(message.ready && sender.pid == getpid(), "{message:?}");
    }

    fn refusal(control: &ControlSocket) -> String {
        format!("{:#}", anyhow::Error::from(beside(control).unwrap_err()))
    }

    #[test]
    fn it_is_beside_the_control_socket_and_is_removed_with_its_owner() {
        let (directory, control) = control();
        let mut socket = beside(&control).unwrap();
        let path = directory.path().join("c.sock.notify");
        assert_eq!((socket.path(), socket.address()), (Some(path.as_path()), path.to_str().unwrap()));
        receives(&mut socket);
        drop(socket);
        assert!(!path.exists());
        let mut without = NotifySocket::without_file(Access::default()).unwrap();
        assert!(without.path().is_none() && without.address().starts_with('@'), "{without:?}");
        receives(&mut without);
    }

    #[test]
    fn it_has_the_mode_that_is_asked_for_whatever_the_umask() {
        isolated(
            "master::notify::socket::tests::it_has_the_mode_that_is_asked_for_whatever_the_umask",
            || {
                for mask in [0o000, 0o022, 0o077] {
                    umask(Mode::from_bits_truncate(mask));
                    for mode in [0o600, 0o660, 0o666] {
                        let (_directory, control) = control();
                        let access = Access { mode, ..Access::default() };
                        let socket = NotifySocket::beside(control.path(), access).unwrap();
                        assert_eq!(mode_of(&socket), mode, "with umask {mask:03o}");
                    }
                    assert_eq!(umask(Mode::empty()).bits(), mask, "the umask must be unchanged");
                }
            },
        );
    }

    fn mode_of(socket: &NotifySocket) -> u32 {
        fs::metadata(socket.path().unwrap()).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn one_user_may_send_unless_workers_of_root_may_become_another() {
        let spec = |user: Option<&str>| AccountSpec { user: user.map(str::to_owned), group: None };
        let mode = |asked, user| Access::new(asked, &spec(user)).mode;
        assert_eq!((mode(None, Some("54321")), mode(None, Some("0"))), (0o600, 0o600));
        assert_eq!((mode(Some(0o660), Some("54321")), mode(Some(0o660), None)), (0o660, 0o660));
        assert_eq!(mode(None, None), if geteuid().is_root() { 0o666 } else { 0o600 });
    }

    #[test]
    fn an_abstract_name_is_for_the_users_that_a_file_would_be_for() {
        let socket = |mode| NotifySocket::without_file(Access { mode, ..Access::default() }).unwrap();
        let (worker, other) = (Uid::from_raw(54_321), Uid::from_raw(54_323));
        let given = |mode| {
            let mut socket = socket(mode);
            socket.give_to(&Credentials { uid: Some(54_321), ..Credentials::default() }).unwrap();
            socket
        };
        let admitted = |socket: NotifySocket| {
            [Uid::from_raw(0), geteuid(), worker, other].map(|user| socket.admits(user))
        };
        assert_eq!(admitted(socket(0o600)), [true, true, geteuid() == worker, geteuid() == other]);
        assert_eq!(admitted(given(0o600)), [true, geteuid().is_root(), true, false]);
        assert_eq!(admitted(given(0o666)), [true; 4]);
    }

    #[test]
    fn a_file_that_is_no_longer_ours_is_not_given_away() {
        let (_directory, control) = control();
        let mut socket = beside(&control).unwrap();
        let path = socket.path().unwrap().to_owned();
        fs::remove_file(&path).unwrap();
        let other = UnixDatagram::bind(&path).unwrap();
        let owner = || fs::metadata(&path).unwrap().uid();
        let before = owner();
        assert!(socket.give_to(&Credentials { uid: Some(54_321), ..Credentials::default() }).is_err());
        assert_eq!(owner(), before);
        drop(other);
    }

    #[test]
    fn the_file_of_a_dead_master_is_replaced() {
        let (directory, control) = control();
        let path = directory.path().join("c.sock.notify");
        drop(UnixDatagram::bind(&path).unwrap());
        // A child that another test is spawning may hold a copy until its exec.
        eventually("the socket to be stale", || beside(&control).is_ok());
        receives(&mut beside(&control).unwrap());
    }

    #[test]
    fn the_file_of_another_process_stays() {
        let (directory, control) = control();
        let path = directory.path().join("c.sock.notify");
        fs::write(&path, "precious").unwrap();
        assert_eq!(refusal(&control), format!("cannot bind {}: it is not a socket", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        let other = UnixDatagram::bind(&path).unwrap();
        assert!(refusal(&control).ends_with(": another process is listening there"), "{}", refusal(&control));
        UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
        drop(other);
    }

    #[test]
    fn the_path_may_use_every_byte_that_the_system_allows() {
        let room = PATH_BYTES_MAX - tempfile::tempdir().unwrap().path().as_os_str().len() - 1 - SUFFIX.len();
        let (_directory, control) = control_named(&"x".repeat(room));
        receives(&mut beside(&control).unwrap());
        let (directory, control) = control_named(&"x".repeat(room + 1));
        let why = ".notify: the path has 108 bytes; a socket path has at most 107";
        assert!(refusal(&control).ends_with(why), "{}", refusal(&control));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "the control socket and its lock");
    }

    #[test]
    fn a_handover_keeps_the_socket_and_its_file() {
        isolated("master::notify::socket::tests::a_handover_keeps_the_socket_and_its_file", || {
            let (_directory, control) = control();
            for socket in [beside(&control).unwrap(), NotifySocket::without_file(Access::default()).unwrap()]
            {
                let path = socket.path().map(Path::to_owned);
                let mut state = serde_json::to_value(&socket).unwrap();
                // As over an exec: the descriptor stays open and nothing is dropped.
                let copy = dup(&*socket.receiver).unwrap();
                state["fd"] = copy.as_raw_fd().into();
                std::mem::forget((socket, copy));
                let resume = || serde_json::from_value::<NotifySocket>(state).unwrap();
                let mut after = Inherited::new().unwrap().lend(resume).0;
                receives(&mut after);
                settle();
                drop(after);
                assert!(path.is_none_or(|path| !path.exists()));
            }
        });
    }

    #[test]
    fn a_socket_from_an_older_state_keeps_its_abstract_name() {
        let old = r#"{"fd":9,"address":"@27bef"}"#;
        let (socket, fds) = naming(|| serde_json::from_str::<NotifySocket>(old).unwrap());
        assert_eq!((fds, socket.address(), socket.path()), (vec![9], "@27bef", None));
        assert_eq!(socket.access, Access::default(), "workers reach it as before");
    }
}
