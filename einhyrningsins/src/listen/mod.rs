//! Sockets for workers: what `-b` asks for ([`BindSpec`]), the open sockets ([`Listener`]), and the variables
//! that describe them to a worker ([`exports()`]).
//!
//! The master binds and listens, or takes sockets that it was passed ([`Passed`]); it never accepts or reads. A
//! [`Listener`] stays open as long as a current or later worker may need it: closing it resets the connections
//! that wait in its queue.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

mod address;
mod bind;
mod exports;
mod listener;
mod passed;
mod spec;
mod twin;

/// The sockets that the options ask for.
#[derive(Debug)]
pub struct Sockets {
    /// Every `-b`, in order.
    pub binds: Vec<BindSpec>,
    /// The family that their addresses may have.
    pub family: Family,
    /// Length of the accept queues; `None` for the system's maximum.
    pub backlog: Option<u32>,
}

pub use address::{Address, SocketKind, UnixName};
pub use bind::{
    Backlog, BindError, Family, bind, bind_again, bind_member, is_shortage, set_options, take_over_place,
    try_bind,
};
pub use exports::exports;
pub use listener::{Listener, take_address_again};
pub use passed::{Passed, PassedError};
pub use spec::{BindAddress, BindOption, BindSpec, Origin, Place};
pub use twin::{TwinError, Twins};

/// How long a service manager may take to drop a socket.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// The interval between two attempts to bind an address that the manager may still hold.
const LET_GO_EVERY: Duration = Duration::from_millis(5);

/// Opens what `spec` asks for: binds it, or takes it from `passed`. A plain `systemd` takes only sockets that
/// no other of `binds` names. If the service manager `may_hold` the address, it gets time to drop the socket:
/// the address of a UDP socket is in use as long as anybody holds it, and a shutdown, which frees that of a TCP
/// socket, does not free it.
pub fn open(
    spec: &BindSpec,
    Sockets { binds, family, backlog }: &Sockets,
    passed: &mut Passed,
    may_hold: bool,
) -> Result<Vec<Listener>, BindError> {
    if spec.address.origin() == Origin::Passed {
        return passed.take(spec, binds);
    }
    let until = Instant::now() + LET_GO_WITHIN;
    loop {
        match bind(spec, *family, *backlog) {
            Err(BindError::Bind { source, .. })
                if source.kind() == ErrorKind::AddrInUse && may_hold && Instant::now() < until =>
            {
                thread::sleep(LET_GO_EVERY);
            }
            result => return Ok(vec![result?]),
        }
    }
}
