//! A socket that the master has for its workers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::bind::set_options;
use super::spec::{BindSpec, BindSpecError};
use super::{Address, BindError, SocketKind};
use crate::socket_place::{PlaceRecord, SocketPlace};
use crate::sys::inherit::{Fd, Inherited, NotInherited};
use crate::sys::queue::{Queue, tcp_queue, udp_queue};
use crate::sys::unix_diag;

/// A socket for workers: one that listens, or one of datagrams. It is close-on-exec: workers get copies. Closed when
/// dropped, and its file, if it has one that this master made, removed.
#[derive(Debug)]
pub struct Listener {
    /// What was asked for.
    pub spec: BindSpec,
    /// The address that it really has.
    pub address: Address,
    /// How many connections may wait in its queue: what was asked for, within the system's limit; 0 for datagrams.
    pub backlog: u32,
    /// The name that it was passed on with.
    pub(super) passed_name: Option<String>,
    pub(super) fd: OwnedFd,
    pub(super) place: Option<SocketPlace>,
}

/// The queue of a [`Listener`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerQueue {
    /// What waits in it: connections, or bytes of packets.
    pub length: u32,
    /// How much may.
    pub limit: u32,
    /// Connections or packets that found no room, if the kernel counts them.
    pub drops: Option<u32>,
}

impl Listener {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> SocketKind {
        self.address.kind()
    }

    /// Its name in `LISTEN_FDNAMES` if it is number `index` of the listeners, from 0.
    #[must_use]
    pub fn name_at(&self, index: usize) -> String {
        let given = self.spec.options.name.as_ref().or(self.passed_name.as_ref());
        given.cloned().unwrap_or_else(|| format!("socket-{index}"))
    }

    /// Has its file, if it has one, go with it from now on. That is so anyway unless the file was taken over from an earlier
    /// master: one that fails to start leaves it, and what waits in the queue, to the next.
    pub fn settle(&mut self) {
        if let Some(place) = &mut self.place {
            place.settle();
        }
    }

    /// How full its queue is now; `None` where the kernel does not tell. One or two system calls.
    #[must_use]
    pub fn queue(&self) -> Option<ListenerQueue> {
        let counted = |Queue { length, limit, drops }| ListenerQueue { length, limit, drops: Some(drops) };
        match self.kind() {
            SocketKind::Tcp => tcp_queue(self).ok().map(counted),
            SocketKind::Udp => udp_queue(self).ok().map(counted),
            // Who finds no room there waits, or is told at once: nothing is dropped unseen.
            SocketKind::Unix | SocketKind::Seqpacket => unix_diag::queue(self)
                .ok()
                .map(|queue| ListenerQueue { length: queue.length, limit: queue.limit, drops: None }),
            SocketKind::UnixDatagram => None,
        }
    }

    /// Whether somebody has called `shutdown(2)` on it, which ends it for all who hold it. Only one of TCP can be
    /// revived, so of others it is not told.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.kind() == SocketKind::Tcp && SockRef::from(self).is_listener().is_ok_and(|listens| !listens)
    }

    /// Has it listen again, at the address that it had, if it [is broken](Self::is_broken). Whether it was.
    ///
    /// # Errors
    /// [`BindError`], if somebody else has the address now.
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

    /// What the system did not give in full, in words for the log.
    #[must_use]
    pub fn shortfalls(&self) -> Vec<String> {
        let socket = SockRef::from(self);
        let options = &self.spec.options;
        let buffers = [
            (options.receive_buffer, socket.recv_buffer_size(), "rcvbuf", "rmem_max"),
            (options.send_buffer, socket.send_buffer_size(), "sndbuf", "wmem_max"),
        ];
        let short = buffers.into_iter().filter_map(|(asked, size, option, limit)| {
            let asked = usize::try_from(asked?).ok()?;
            // The kernel doubles what it is asked for, for its own needs, and tells the double.
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

/// Binds a TCP socket that was shut down to its address, if it has not kept it. A port that the kernel had chosen (port 0) is
/// given back by the shutdown, although `getsockname` goes on to tell it; one that was asked for is kept, and EINVAL says
/// so.
pub(super) fn take_address_again(socket: &SockRef<'_>, address: &Address) -> io::Result<()> {
    let Some(address) = address.inet() else { return Ok(()) };
    match socket.bind(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// A [`Listener`] written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerRecord {
    fd: Fd,
    bind: String,
    address: Address,
    backlog: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passed_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<PlaceRecord>,
}

impl ListenerRecord {
    /// The descriptors that it names.
    pub fn descriptors(&self) -> impl Iterator<Item = Fd> {
        std::iter::once(self.fd).chain(self.place.as_ref().map(PlaceRecord::descriptor))
    }
}

/// A listener that was written down cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// Its descriptor is not there.
    #[error(transparent)]
    NotInherited(#[from] NotInherited),
    /// What it was asked for by is nothing that this version binds.
    #[error(transparent)]
    Spec(#[from] BindSpecError),
    /// There is no listener among those that one `-b` has for each slot.
    #[error("an address has no listener")]
    Empty,
}

impl Listener {
    /// Writes itself down.
    #[must_use]
    pub fn record(&self) -> ListenerRecord {
        ListenerRecord {
            fd: Fd::of(&self.fd),
            bind: self.spec.to_string(),
            address: self.address.clone(),
            backlog: self.backlog,
            passed_name: self.passed_name.clone(),
            place: self.place.as_ref().map(SocketPlace::record),
        }
    }

    /// Takes over what was written down.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt(record: &ListenerRecord, inherited: &mut Inherited) -> Result<Self, AdoptError> {
        let place = record.place.clone().map(|place| SocketPlace::adopt(place, inherited)).transpose()?;
        Ok(Self {
            spec: record.bind.parse()?,
            address: record.address.clone(),
            backlog: record.backlog,
            passed_name: record.passed_name.clone(),
            fd: inherited.take(record.fd.0)?,
            place,
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
