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

/// What to listen on.
#[derive(Debug)]
pub struct Sockets {
    /// The addresses, in order.
    pub binds: Vec<BindSpec>,
    /// Which family they may have.
    pub family: Family,
    /// Queue length; `None` for the system's maximum.
    pub backlog: Option<u32>,
}

pub use address::{Address, SocketKind, UnixName};
pub use bind::{Backlog, BindError, Family, bind, bind_twin, set_options, take_over_place};
pub use exports::exports;
pub use listener::{AdoptError, Listener, ListenerQueue, ListenerRecord, take_address_again};
pub use passed::{Passed, PassedError};
pub use spec::{BindAddress, BindSpec, Origin, Place};

/// How long a service manager may take to let go of a socket.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);

/// Between two tries to bind an address that it may still hold.
const LET_GO_EVERY: Duration = Duration::from_millis(5);

/// Opens what `spec` asks for: binds it, or takes it from `passed`. A `systemd` without a name leaves what other `binds`
/// name. If the service manager `may_hold` the address, it gets time to let go: the address of a UDP socket is taken as
/// long as anybody has it, and what frees that of a TCP socket at once does not free it.
///
/// # Errors
/// [`BindError`].
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
