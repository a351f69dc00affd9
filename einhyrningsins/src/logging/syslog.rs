//! Warnings and errors for the system's syslog.

use std::fmt::Display;
use std::io;
use std::os::unix::net::UnixDatagram;

use einhorn_proto::Severity;
use syslog::{Facility, Formatter3164, LogFormat};

use super::PROGRAM;

/// The socket of the system's syslog. Source: `syslog(3)`.
pub(super) const SYSLOG_SOCKET: &str = "/dev/log";

#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    formatter: Formatter3164,
}

impl Syslog {
    pub(super) fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(SYSLOG_SOCKET)?;
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: PROGRAM.to_owned(),
            pid: std::process::id(),
        };
        Ok(Self { socket, formatter })
    }

    /// Sends a line, or drops it if syslog does not take it at once.
    pub(super) fn send(&mut self, severity: Severity, message: &dyn Display) {
        let mut datagram = Vec::new();
        if self.formatter.format(&mut datagram, priority(severity), message).is_ok()
            && self.socket.send(&datagram).is_err()
        {
            // syslogd was restarted, so its socket is a new one.
            if let Ok(fresh) = Self::connect() {
                *self = fresh;
                let _ = self.socket.send(&datagram);
            }
        }
    }
}

/// As syslog and the journal number it.
pub(super) fn priority(severity: Severity) -> syslog::Severity {
    match severity {
        Severity::Error => syslog::Severity::LOG_ERR,
        Severity::Warn => syslog::Severity::LOG_WARNING,
        Severity::Info => syslog::Severity::LOG_INFO,
        Severity::Debug => syslog::Severity::LOG_DEBUG,
    }
}
