//! The service manager's notify socket: sends the master's own status as `sd_notify(3)` messages.
//!
//! The manager owns the other end, and it may be full or gone. A message is sent without blocking, or not at
//! all.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

/// The socket that `NOTIFY_SOCKET` names. It is not connected, so a manager that binds its socket again is
/// found again.
#[derive(Debug)]
pub struct ManagerSocket {
    fd: OwnedFd,
    address: UnixAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The address is neither a path nor an abstract name.
    #[error("neither an absolute path nor \"@\" followed by an abstract name")]
    Unknown,
    #[error("{0}")]
    System(#[from] Errno),
}

impl ManagerSocket {
    /// Prepares to send to `address`: an absolute path, or `@` and an abstract name. The socket need not exist
    /// yet.
    ///
    /// # Errors
    /// [`ManagerError`]: another kind of address, an address that is too long, or no descriptor left.
    ///
    /// # Source
    /// `sd_notify(3)` on addresses. Those of `vsock(7)`, by which a virtual machine notifies its host, do not
    /// apply to a service.
    pub fn new(address: &OsStr) -> Result<Self, ManagerError> {
        let address = match address.as_bytes() {
            [b'/', ..] => UnixAddr::new(address.as_bytes())?,
            [b'@', name @ ..] if !name.is_empty() => UnixAddr::new_abstract(name)?,
            _ => return Err(ManagerError::Unknown),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        Ok(Self { fd, address })
    }

    /// Sends one message with copies of `fds`; never blocks.
    ///
    /// # Errors
    /// EAGAIN if the manager's queue is full; ENOENT or ECONNREFUSED if the manager is gone.
    pub fn send(&self, text: &str, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[] } else { &rights[..] };
        let parts = [IoSlice::new(text.as_bytes())];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg(self.fd.as_raw_fd(), &parts, rights, flags, Some(&self.address)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        ManagerSocket::new(path.as_os_str()).unwrap().send("READY=1", &[]).unwrap();
        assert_eq!(read(&by_path), "READY=1");

        let name = format!("einhyrningsins-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let socket = ManagerSocket::new(OsStr::new(&format!("@{name}"))).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        socket.send("FDSTORE=1", &[reader.as_fd()]).unwrap();
        assert_eq!(read(&by_name), "FDSTORE=1");
    }

    #[test]
    fn a_full_socket_and_a_missing_one_fail_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = ManagerSocket::new(path.as_os_str()).unwrap();
        assert_eq!(socket.send("READY=1", &[]), Err(Errno::ENOENT));
        let manager = UnixDatagram::bind(&path).unwrap();
        let refused = (0..100_000).find_map(|_| socket.send("STATUS=x", &[]).err());
        assert_eq!(refused, Some(Errno::EAGAIN));
        drop(manager);
        assert_eq!(socket.send("READY=1", &[]), Err(Errno::ECONNREFUSED));
    }

    #[test]
    fn a_bad_address_is_refused() {
        for address in ["", "@", "run/notify", "vsock:2:1234", "vsock-stream:2:1"] {
            assert_eq!(ManagerSocket::new(OsStr::new(address)).unwrap_err(), ManagerError::Unknown);
        }
        let long = format!("/{}", "x".repeat(200));
        let error = ManagerSocket::new(OsStr::new(&long)).unwrap_err();
        assert_eq!(error, ManagerError::System(Errno::ENAMETOOLONG));
    }
}
