//! The smallest worker: says that it is ready at once, and ends when it is asked to.
//!
//! It sends `READY=1` to `NOTIFY_SOCKET` or, without that, acks to einhorn's control socket, after it has slept for
//! `TINY_BOOT_MS` milliseconds and computed for `TINY_BURN_MS` milliseconds of CPU time, if those are set. It takes no
//! connections: what is measured or counted with it is the master. With `TINY_MEBIBYTES=N` it takes so much memory after its
//! sleep; with `TINY_CONNECTIONS=N` it opens N connections to the control socket before it is ready, and keeps them.

use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

fn main() -> std::io::Result<()> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGUSR2);
    stop.add(Signal::SIGTERM);
    // Before it is ready: a signal that comes right after must end it in good order.
    stop.thread_block()?;
    thread::sleep(Duration::from_millis(number("TINY_BOOT_MS")));
    let memory = vec![1_u8; usize::try_from(number("TINY_MEBIBYTES")).unwrap_or(0) << 20];
    tests::process::burn(Duration::from_millis(number("TINY_BURN_MS")));
    let number = number("TINY_CONNECTIONS");
    let _connections = (0..number).map(|_| half_a_request()).collect::<std::io::Result<Vec<_>>>()?;
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let socket = UnixDatagram::unbound()?;
        let address = match path.as_encoded_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(b"READY=1", &address)?;
    } else if std::env::var_os("EINHORN_SOCK_PATH").is_some() {
        let ack = format!("{{\"command\":\"worker:ack\",\"pid\":{}}}\n", std::process::id());
        connection()?.write_all(ack.as_bytes())?;
    }
    stop.wait()?;
    std::hint::black_box(memory);
    Ok(())
}

/// The number in a variable; 0 without one.
fn number(variable: &str) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A connection to the control socket.
fn connection() -> std::io::Result<UnixStream> {
    UnixStream::connect(std::env::var_os("EINHORN_SOCK_PATH").unwrap_or_default())
}

/// A connection to the control socket, on which half a request was sent. The master may have closed it already.
fn half_a_request() -> std::io::Result<UnixStream> {
    let mut stream = connection()?;
    let _ = stream.write_all(b"{");
    Ok(stream)
}
