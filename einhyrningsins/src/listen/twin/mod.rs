//! Private twins of the listeners, for a trial: sockets that a worker takes for the real ones, at addresses that serve
//! nobody.
//!
//! A twin is made like the real socket, which is asked for its family, type, protocol and options, because it may have
//! been passed. IPv4 twins are at 127.0.0.1, IPv6 and dual-stack ones at `[::1]`, on ports that the kernel chooses, and
//! Unix ones in a [`TrialDirectory`]. What ties a socket to the outside is left out: `device`, `mark`, `freebind`,
//! `fastopen`, `mode`, `user` and `group`. A group of sockets at one address (`reuseport`) has one twin.

mod directory;
mod error;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use einhyrningsins_supervisor::Generation;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket};

use directory::TrialDirectory;
pub use error::TwinError;

use super::bind::{is_missing, set_receive_buffer, set_send_buffer};
use super::spec::Place;
use super::{Address, Listener, SocketKind, exports};
use crate::sys::inherit::Kept;
use crate::sys::tcp_option::{defer_accept, set_defer_accept};

/// One private socket for each `-b`, in their order, close-on-exec. Dropping it removes their files and closes them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Twins {
    /// Dropped before the sockets: as long as one is open, no other file gets the inode of its own.
    directory: Option<TrialDirectory>,
    listeners: Vec<Listener>,
}

impl Twins {
    /// Makes a twin of each listener. The files of Unix sockets are in a directory beside the control socket that belongs to
    /// `user`, or to that of this process. What an earlier trial left there is removed first.
    ///
    /// # Errors
    /// [`TwinError`]; no socket and no file of ours is left.
    pub fn open<'a>(
        listeners: impl IntoIterator<Item = &'a Listener>,
        control_socket: &Path,
        user: Option<u32>,
    ) -> Result<Self, TwinError> {
        let failed = |listener: &Listener, source| {
            let address = listener.address.clone();
            TwinError::Socket { address, source }
        };
        let made = listeners.into_iter().map(|listener| {
            let socket = new_twin(listener).map_err(|error| failed(listener, error))?;
            Ok((listener, socket))
        });
        let made = made.collect::<Result<Vec<_>, TwinError>>()?;
        let named = made.iter().enumerate().filter(|(_, (listener, _))| !listener.kind().is_inet());
        let named: Vec<_> = named.map(|(index, (_, socket))| (index, socket)).collect();
        let directory =
            if named.is_empty() { None } else { Some(TrialDirectory::make(control_socket, user, &named)?) };
        let listeners = made
            .into_iter()
            .map(|(listener, socket)| listen(listener, socket).map_err(|error| failed(listener, error)));
        Ok(Self { directory, listeners: listeners.collect::<Result<_, _>>()? })
    }

    /// Removes the files that a trial left when its master died. If there are none, all is well.
    ///
    /// # Errors
    /// [`TwinError::Directory`] if what is there is not a directory that a trial has made for `user` or for that of this
    /// process, or if it has other files than sockets.
    pub fn clear(control_socket: &Path, user: Option<u32>) -> Result<(), TwinError> {
        TrialDirectory::clear(control_socket, user)
    }

    /// What a worker gets instead of the real sockets.
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        self.listeners.iter().map(AsFd::as_fd).collect()
    }

    /// The variables that describe them to a worker of `generation`.
    pub fn exports(&self, generation: Generation) -> Vec<(String, String)> {
        exports(self.listeners.iter(), generation)
    }

    /// The address of each, in the form that `-b` takes. A Unix datagram socket, which `-b` cannot make, is
    /// `unix-datagram:PATH`.
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(|listener| written(&listener.address)).collect()
    }
}

/// Unlike the `Display` of an address, this can be read again if a path has a comma.
fn written(address: &Address) -> String {
    match address.path() {
        Some(path) => format!("{}:{}", address.kind().name(), Place::Path(path.to_owned())),
        None => address.to_string(),
    }
}

/// A socket like that of `listener`, with an address unless it is a Unix socket.
fn new_twin(listener: &Listener) -> io::Result<Socket> {
    let real = SockRef::from(listener);
    let domain = real.domain()?;
    let twin = Socket::new(domain, real.r#type()?, real.protocol()?)?;
    copy_options(listener, &real, &twin)?;
    if domain == Domain::IPV4 {
        twin.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    } else if domain == Domain::IPV6 {
        // At an address of IPv6, the kernel sets it.
        let only_v6 = real.only_v6()?;
        twin.set_only_v6(only_v6)?;
        bind_ipv6(only_v6, |ip| twin.bind(&SocketAddr::from((ip, 0)).into()))?;
    }
    Ok(twin)
}

/// Binds to `[::1]`. Where IPv6 is disabled, as in many containers, a dual-stack socket can be bound nevertheless; its twin
/// is at 127.0.0.1 then, and still of the family IPv6.
fn bind_ipv6(only_v6: bool, bind: impl Fn(Ipv6Addr) -> io::Result<()>) -> io::Result<()> {
    match bind(Ipv6Addr::LOCALHOST) {
        Err(error) if is_missing(&error) && !only_v6 => bind(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        result => result,
    }
}

/// Copies the options that `-b` can set, as the socket has them now: workers share it, and may have changed some.
fn copy_options(listener: &Listener, real: &SockRef<'_>, twin: &Socket) -> io::Result<()> {
    if real.nonblocking()? {
        twin.set_nonblocking(true)?;
    }
    // To set the size that it has anyway would end the kernel's own tuning of the buffers of connections.
    let (size, asked) = (real.recv_buffer_size()?, listener.spec.options.receive_buffer);
    if asked.is_some() || size != twin.recv_buffer_size()? {
        set_receive_buffer(twin, size / 2)?;
    }
    let (size, asked) = (real.send_buffer_size()?, listener.spec.options.send_buffer);
    if asked.is_some() || size != twin.send_buffer_size()? {
        set_send_buffer(twin, size / 2)?;
    }
    if listener.kind() == SocketKind::Tcp {
        twin.set_reuse_address(real.reuse_address()?)?;
        twin.set_keepalive(real.keepalive()?)?;
        // MPTCP on kernels before 5.17 knows neither of these.
        if real.tcp_nodelay().unwrap_or(false) {
            twin.set_tcp_nodelay(true)?;
        }
        if let Some(seconds) = defer_accept(listener).ok().filter(|seconds| *seconds > 0) {
            set_defer_accept(twin, seconds)?;
        }
    }
    Ok(())
}

fn listen(listener: &Listener, twin: Socket) -> io::Result<Listener> {
    if listener.kind().has_connections() {
        twin.listen(i32::try_from(listener.backlog).unwrap_or(i32::MAX))?;
    }
    Ok(Listener {
        address: Address::of(&twin, listener.kind())?,
        fd: Kept::Open(twin.into()),
        spec: listener.spec.clone(),
        backlog: listener.backlog,
        passed_name: listener.passed_name.clone(),
        place: None,
    })
}
