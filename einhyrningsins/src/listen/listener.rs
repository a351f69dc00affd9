//! One socket that the master holds for its workers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use einhorn_proto::QueueStatus;
use nix::libc;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::bind::set_options;
use super::spec::BindSpec;
use super::{Address, BindError, SocketKind};
use crate::socket_place::SocketPlace;
use crate::sys::inherit::Kept;
use crate::sys::queue::{tcp_queue, udp_queue};
use crate::sys::unix_diag;

/// A listening or datagram socket for workers. It is close-on-exec; workers get copies. Dropping it closes it,
/// and removes its file if this master created one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listener {
    pub fd: Kept<OwnedFd>,
    /// The `-b` that it was opened for.
    #[serde(rename = "bind")]
    pub spec: BindSpec,
    /// The address that it is bound to.
    pub address: Address,
    /// How many connections may wait in its queue: the requested number, within the system's limit; 0 for
    /// datagram sockets.
    pub backlog: u32,
    /// The name that socket activation passed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<SocketPlace>,
}

impl Listener {
    pub fn kind(&self) -> SocketKind {
        self.address.kind()
    }

    /// Its name in `LISTEN_FDNAMES` as listener number `index`, from 0.
    pub fn name_at(&self, index: usize) -> String {
        let given = self.spec.options.name.as_ref().or(self.passed_name.as_ref());
        given.cloned().unwrap_or_else(|| format!("socket-{index}"))
    }

    /// How full its queue is now; `None` if the kernel does not say. Takes one or two system calls.
    pub fn queue(&self) -> Option<QueueStatus> {
        match self.kind() {
            SocketKind::Tcp => tcp_queue(self).ok(),
            SocketKind::Udp => udp_queue(self).ok(),
            SocketKind::Unix | SocketKind::Seqpacket => unix_diag::queue(self).ok(),
            SocketKind::UnixDatagram => None,
        }
    }

    /// Whether a process has called `shutdown(2)` on it, which ends it for all holders. Only a TCP listener can
    /// be revived, so others are not reported.
    pub fn is_broken(&self) -> bool {
        self.kind() == SocketKind::Tcp && SockRef::from(self).is_listener().is_ok_and(|listens| !listens)
    }

    /// Makes it listen again at its address if it [is broken](Self::is_broken). Returns whether it was.
    ///
    /// # Errors
    /// [`BindError`] if another process has the address now.
    pub fn revive(&self) -> Result<bool, BindError> {
        if !self.is_broken() {
            return Ok(false);
        }
        let failed = |source| BindError::Bind { address: self.address.clone(), source };
        let socket = SockRef::from(self);
        take_address_again(&socket, &self.address).map_err(failed)?;
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX)).map_err(failed)?;
        set_options(&socket, &self.address, &self.spec.options, self.backlog)?;
        Ok(true)
    }

    /// Options that the system granted only in part, as lines for the log.
    pub fn shortfalls(&self) -> Vec<String> {
        let socket = SockRef::from(self);
        let options = &self.spec.options;
        let buffers = [
            (options.receive_buffer, socket.recv_buffer_size(), "rcvbuf", "rmem_max"),
            (options.send_buffer, socket.send_buffer_size(), "sndbuf", "wmem_max"),
        ];
        let short = buffers.into_iter().filter_map(|(asked, size, option, limit)| {
            let asked = usize::try_from(asked?).ok()?;
            // The kernel doubles the requested size for its own needs, and reports the double.
            let given = size.ok()? / 2;
            (given < asked).then(|| {
                format!(
                    "{}: {option} is {given} bytes instead of {asked}: net.core.{limit} allows no more",
                    self.address
                )
            })
        });
        short.collect()
    }
}

/// Binds a TCP socket that was shut down to its address again, if it has lost it. A shutdown gives up a port
/// that the kernel chose (port 0), although `getsockname` still reports it. A requested port is kept, and bind
/// returns EINVAL.
pub fn take_address_again(socket: &SockRef<'_>, address: &Address) -> io::Result<()> {
    let Some(address) = address.inet() else { return Ok(()) };
    match socket.bind(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
