//! Binding sockets where nobody passed any.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{self as unix, UnixDatagram, UnixListener};
use std::path::Path;

use crate::{Inherit, TakeError};

/// A type of socket that [`inherit_or_bind`](crate::inherit_or_bind) can bind to an address of type `A`.
///
/// ```
/// use einhorn_child::{Bind, TakeError};
/// use std::net::SocketAddr;
///
/// fn open<T: Bind<SocketAddr>>(port: u16) -> Result<T, TakeError> {
///     einhorn_child::inherit_or_bind(SocketAddr::from(([127, 0, 0, 1], port)))
/// }
/// let listener: std::net::TcpListener = open(0)?;
/// # Ok::<(), TakeError>(())
/// ```
pub trait Bind<A>: Inherit {
    #[doc(hidden)]
    fn bind_here(address: A) -> Result<OwnedFd, TakeError>;
}

impl<A: ToSocketAddrs> Bind<A> for TcpListener {
    fn bind_here(address: A) -> Result<OwnedFd, TakeError> {
        bind_internet(&address, |addresses| Self::bind(addresses))
    }
}

impl<A: ToSocketAddrs> Bind<A> for UdpSocket {
    fn bind_here(address: A) -> Result<OwnedFd, TakeError> {
        bind_internet(&address, |addresses| Self::bind(addresses))
    }
}

impl<A: AsRef<Path>> Bind<A> for UnixListener {
    fn bind_here(address: A) -> Result<OwnedFd, TakeError> {
        bind_unix(address.as_ref(), Self::bind_addr)
    }
}

impl<A: AsRef<Path>> Bind<A> for UnixDatagram {
    fn bind_here(address: A) -> Result<OwnedFd, TakeError> {
        bind_unix(address.as_ref(), Self::bind_addr)
    }
}

fn bind_internet<T: Into<OwnedFd>>(
    address: &impl ToSocketAddrs,
    bind: impl FnOnce(&[SocketAddr]) -> io::Result<T>,
) -> Result<OwnedFd, TakeError> {
    let failed = |address: String, error| TakeError::Bind { address, error };
    let addresses: Vec<_> =
        address.to_socket_addrs().map_err(|error| failed("the given address".into(), error))?.collect();
    bind(&addresses).map(T::into).map_err(|error| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        failed(addresses.join(" or "), error)
    })
}

fn bind_unix<T: Into<OwnedFd>>(
    path: &Path,
    bind: impl Fn(&unix::SocketAddr) -> io::Result<T>,
) -> Result<OwnedFd, TakeError> {
    let bound = unix_address(path).and_then(|address| match bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path, &address) => {
            fs::remove_file(path)?;
            bind(&address)
        }
        bound => bound,
    });
    bound.map(T::into).map_err(|error| TakeError::Bind { address: path.display().to_string(), error })
}

fn unix_address(path: &Path) -> io::Result<unix::SocketAddr> {
    match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => unix::SocketAddr::from_abstract_name(name),
        _ => unix::SocketAddr::from_pathname(path),
    }
}

/// Whether `path` is a socket that no process has open.
///
/// connect(2) refuses such a socket, and a regular file too, so look at the file first. A datagram socket makes
/// no connection and never waits: for a socket of another type that somebody has open, the error is EPROTOTYPE.
fn is_left_over(path: &Path, address: &unix::SocketAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let probe = || UnixDatagram::unbound()?.connect_addr(address);
    is_socket && probe().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
}
