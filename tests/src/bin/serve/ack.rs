//! The ways to ack and to ping, spelt out as a worker in any language would do it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};

use crate::knobs::Ack;

pub(crate) fn ack(way: Ack) -> io::Result<()> {
    tell(way, "worker:ack", "READY=1")
}

/// Says that the worker is well, now and every so often, in the way in which it acks.
pub(crate) fn ping(way: Ack, every: Duration) -> io::Result<()> {
    let ping = move || tell(way, "worker:ping", "WATCHDOG=1");
    ping()?;
    thread::spawn(move || {
        loop {
            thread::sleep(every);
            // A master that is being replaced, or has gone, is not this worker's affair.
            let _ = ping();
        }
    });
    Ok(())
}

fn tell(way: Ack, command: &str, notification: &str) -> io::Result<()> {
    // Without a master there is nobody to tell.
    if std::env::var_os("EINHORN_MASTER_PID").is_none() {
        return Ok(());
    }
    let line = format!("{{\"command\":\"{command}\",\"pid\":{}}}\n", process::id());
    match way {
        Ack::Control => UnixStream::connect(variable("EINHORN_SOCK_PATH")?)?.write_all(line.as_bytes()),
        Ack::Descriptor => {
            let fd = variable("EINHORN_SOCK_FD")?.into_string().ok().and_then(|fd| fd.parse().ok());
            let fd = fd.ok_or_else(|| io::Error::other("EINHORN_SOCK_FD is no number"))?;
            send(fd, line.as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
            Ok(())
        }
        Ack::Notify => notify(notification),
        Ack::None => Ok(()),
    }
}

/// Says what it does now, to whom cares.
pub(crate) fn status(text: &str) -> io::Result<()> {
    notify(&format!("STATUS={text}"))
}

/// Says `count` times what it does, in a text of a few hundred bytes.
pub(crate) fn chatter(count: u64) -> io::Result<()> {
    (0..count).try_for_each(|number| status(&format!("{number}{}", " and so on".repeat(20))))
}

fn notify(text: &str) -> io::Result<()> {
    let path = variable("NOTIFY_SOCKET")?;
    let address = match path.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

fn variable(name: &str) -> io::Result<OsString> {
    std::env::var_os(name).ok_or_else(|| io::Error::other(format!("{name} is not set")))
}
