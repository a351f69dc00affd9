//! Messages to the master: ack, ping, status, stopping.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::environment::{Environment, environment, is_or_may_be};
use crate::sockets::{SocketKind, kind_of};
use crate::sys::{Absent, InheritedFd};
use crate::{BadVariable, sockets};

/// How long each way to the master may block. A worker that waits longer than this to say that it is alive is
/// not healthy.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Who received a message.
///
/// ```
/// use einhorn_child::Told;
///
/// match einhorn_child::ack()? {
///     Told::Control | Told::Notify => println!("under a master"),
///     Told::Nobody => println!("on my own"),
/// }
/// # Ok::<(), einhorn_child::TellError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// A master, over its control socket.
    Control,
    /// A master or systemd, over its notify socket.
    Notify,
    /// Nobody: there is no receiver for this message.
    Nobody,
}

/// The master could not be told.
///
/// `Debug` prints the same as `Display`, for a `main` that returns it.
///
/// ```
/// use einhorn_child::TellError;
///
/// match einhorn_child::ack() {
///     Ok(_) => {}
///     Err(TellError::NotItsWorker { .. }) => println!("run by a worker: acking is not for me"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<(), TellError>(())
/// ```
#[non_exhaustive]
pub enum TellError {
    /// The master is not this process's parent, and accepts messages only from its workers.
    NotItsWorker {
        /// The pid of the master, from `EINHORN_MASTER_PID`.
        master: u32,
        /// The pid of this process's parent.
        parent: u32,
    },
    /// There is a master, but no variable says how to reach it.
    NoWay {
        /// The pid of the master.
        master: u32,
    },
    /// A variable has a bad value.
    BadVariable(BadVariable),
    /// Every way to the master failed.
    Unreachable {
        /// The message: `ack`, `ping` and so on.
        what: &'static str,
        /// Each way that was tried, with its error.
        attempts: Vec<(String, io::Error)>,
    },
}

impl fmt::Display for TellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotItsWorker { master, parent } => write!(
                f,
                "process {master} (EINHORN_MASTER_PID) is not the parent of this process, {parent} is: it died, or \
                 this is no worker of its own; if a wrapper starts this program, let it do so with exec"
            ),
            Self::NoWay { master } => write!(
                f,
                "there is no way to reach the master, process {master}: none of EINHORN_SOCK_FD, EINHORN_SOCK_PATH and \
                 NOTIFY_SOCKET is set; does a wrapper clear the environment?"
            ),
            Self::BadVariable(bad) => write!(f, "cannot determine the master: {bad}"),
            Self::Unreachable { what, attempts } => {
                write!(f, "cannot send {what} to the master")?;
                for (number, (way, error)) in attempts.iter().enumerate() {
                    write!(f, "{} {way}: {error}", if number == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for TellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for TellError {}

/// Tells the master that this worker takes traffic.
///
/// Call it when the server is ready to answer: sockets taken, caches warm, [`Stop`](crate::Stop) installed. In
/// manual ack mode, an upgrade waits for the ack before it stops an old worker. Repeating it is harmless.
///
/// The ack goes over the master's control socket (`EINHORN_SOCK_FD`, else `EINHORN_SOCK_PATH`), else over
/// `NOTIFY_SOCKET` as `READY=1`. If one way fails, the next is tried. Without any of them nothing is sent, and
/// that is not an error, so the same program runs by hand. Each way may block for 5 s at most. The master sends
/// no answer, and has the ack even if it reads it after this process has exited.
///
/// Under systemd without a master, `READY=1` is sent if the unit asks for it (`Type=notify`), and nothing if it
/// does not.
///
/// In a pid namespace of its own (`unshare --pid`, a sandbox), a worker acks too: the master asks the kernel who
/// sent the ack. This process must then be the first one of the namespace; below another one, which the sandbox
/// runs as its init, it cannot be told from a child of the worker, and gets an error.
///
/// ```
/// if einhorn_child::ack()? == einhorn_child::Told::Nobody {
///     println!("no master to ack to");
/// }
/// # Ok::<(), einhorn_child::TellError>(())
/// ```
///
/// # Errors
/// [`TellError`], for instance if `EINHORN_MASTER_PID` is not this process's parent. A child of the worker
/// inherits all these variables, and must not ack in its place.
pub fn ack() -> Result<Told, TellError> {
    tell(&Message::Ack)
}

/// Tells the master that this worker is alive, over the same ways as [`ack`]; as `WATCHDOG=1` over
/// `NOTIFY_SOCKET`.
///
/// [`ping_timeout`](crate::ping_timeout) returns how often the master expects it.
///
/// ```
/// einhorn_child::ping()?;
/// # Ok::<(), einhorn_child::TellError>(())
/// ```
///
/// # Errors
/// As [`ack`].
pub fn ping() -> Result<Told, TellError> {
    tell(&Message::Ping)
}

/// Sends the master a line of text for its `status`: what this worker is doing (`STATUS=` over
/// `NOTIFY_SOCKET`).
///
/// A line break becomes a space. A master without a notify socket gets nothing: [`Told::Nobody`].
///
/// ```
/// einhorn_child::status("loading the index: 40 %")?;
/// # Ok::<(), einhorn_child::TellError>(())
/// ```
///
/// # Errors
/// As [`ack`].
pub fn status(text: &str) -> Result<Told, TellError> {
    tell(&Message::Status(text))
}

/// Tells the master that this worker has begun to stop (`STOPPING=1` over `NOTIFY_SOCKET`). Useful if the
/// worker has its own reason to stop.
///
/// ```
/// # let stop = einhorn_child::Stop::install()?;
/// # stop.request();
/// stop.wait();
/// einhorn_child::stopping()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`ack`].
pub fn stopping() -> Result<Told, TellError> {
    tell(&Message::Stopping)
}

enum Message<'a> {
    Ack,
    Ping,
    Status(&'a str),
    Stopping,
}

impl Message<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Ping => "ping",
            Self::Status(_) => "status",
            Self::Stopping => "stopping",
        }
    }

    /// The line of the control protocol, if it has a command for this.
    fn as_command(&self) -> Option<String> {
        let command = match self {
            Self::Ack => "worker:ack",
            Self::Ping => "worker:ping",
            Self::Status(_) | Self::Stopping => return None,
        };
        Some(format!("{{\"command\":\"{command}\",\"pid\":{}}}\n", std::process::id()))
    }

    /// The message in the form of `sd_notify(3)`.
    fn as_notification(&self) -> String {
        match self {
            Self::Ack => "READY=1".to_owned(),
            Self::Ping => "WATCHDOG=1".to_owned(),
            Self::Status(text) => format!("STATUS={}", text.replace(['\n', '\r'], " ")),
            Self::Stopping => "STOPPING=1".to_owned(),
        }
    }
}

fn tell(message: &Message<'_>) -> Result<Told, TellError> {
    let environment = environment();
    let master = environment.master_pid.clone().map_err(TellError::BadVariable)?;
    if let Some(master) = master {
        let parent = std::os::unix::process::parent_id();
        if !is_or_may_be(parent, master) {
            return Err(TellError::NotItsWorker { master, parent });
        }
    }
    let mut attempts = Vec::new();
    if master.is_some()
        && let Some(line) = message.as_command()
        && tell_control(environment, line.as_bytes(), &mut attempts)
    {
        return Ok(Told::Control);
    }
    if let Some(name) = &environment.notify_socket {
        match notify(name, message.as_notification().as_bytes()) {
            Ok(()) => return Ok(Told::Notify),
            Err(error) => attempts.push((format!("NOTIFY_SOCKET {}", name.display()), error)),
        }
    }
    match master {
        _ if !attempts.is_empty() => Err(TellError::Unreachable { what: message.name(), attempts }),
        Some(master) if message.as_command().is_some() => Err(TellError::NoWay { master }),
        _ => Ok(Told::Nobody),
    }
}

/// Sends `line` over the control socket, by the first way that works; records those that fail.
fn tell_control(environment: &Environment, line: &[u8], attempts: &mut Vec<(String, io::Error)>) -> bool {
    match &environment.control_fd {
        Ok(None) => {}
        Ok(Some(fd)) => match over_inherited(*fd, line) {
            Ok(()) => return true,
            Err(error) => attempts.push((format!("EINHORN_SOCK_FD {}", fd.number()), error)),
        },
        Err(bad) => attempts.push((bad.name().to_owned(), io::Error::other(bad.to_string()))),
    }
    if let Some(path) = &environment.control_path {
        match connect(path).and_then(|socket| send_all(&socket, line)) {
            Ok(()) => return true,
            Err(error) => attempts.push((format!("EINHORN_SOCK_PATH {}", path.display()), error)),
        }
    }
    false
}

/// The connection that was inherited as `EINHORN_SOCK_FD`.
enum Inherited {
    Untaken,
    Open(Socket),
    Lost,
}

/// Sends over the inherited connection, which stays open until it fails once. If the master closes it after the
/// ack, as einhorn does, later messages go by path.
fn over_inherited(fd: InheritedFd, line: &[u8]) -> io::Result<()> {
    static CONNECTION: Mutex<Inherited> = Mutex::new(Inherited::Untaken);
    let mut connection = CONNECTION.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*connection, Inherited::Untaken) {
        *connection = match claim_connection(fd) {
            Ok(socket) => Inherited::Open(socket),
            Err(error) => {
                *connection = Inherited::Lost;
                return Err(error);
            }
        };
    }
    let Inherited::Open(socket) = &*connection else {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "failed before"));
    };
    let sent = send_all(socket, line);
    if sent.is_err() {
        *connection = Inherited::Lost;
    }
    sent
}

fn claim_connection(fd: InheritedFd) -> io::Result<Socket> {
    struct Unfit(io::Error);
    impl From<Absent> for Unfit {
        fn from(absent: Absent) -> Self {
            Self(io::Error::other(match absent {
                Absent::Taken => "the descriptor was taken as a listening socket",
                Absent::Closed => "the descriptor is not open",
            }))
        }
    }
    let check = |fd: BorrowedFd<'_>| match kind_of(fd) {
        Ok(SocketKind::UnixStream) => SockRef::from(&fd).set_cloexec(true).map_err(Unfit),
        Ok(other) => Err(Unfit(io::Error::other(format!("the descriptor is {other}, not a connection")))),
        Err(sockets::Refusal::System(error)) => Err(Unfit(error)),
        Err(_) => Err(Unfit(io::Error::other("the descriptor is not a socket"))),
    };
    let socket = Socket::from(fd.claim(check).map_err(|Unfit(error)| error)?);
    socket.set_write_timeout(Some(WAIT_MAX))?;
    Ok(socket)
}

/// A connection to the control socket at `path`.
fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // This also bounds connect(2), which blocks while the master's queue is full.
    socket.set_write_timeout(Some(WAIT_MAX))?;
    socket.connect(&SockAddr::unix(path)?).map_err(name_timeout)?;
    Ok(socket)
}

/// Writes `line` to a stream. When this returns, the master can read it even if we close at once.
fn send_all(socket: &Socket, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        // No signal: if the master is gone, SIGPIPE must not kill the worker.
        match socket.send_with_flags(line, libc::MSG_NOSIGNAL) {
            Ok(sent) => line = &line[sent..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(name_timeout(error)),
        }
    }
    Ok(())
}

/// Sends one datagram to the socket of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
fn notify(name: &OsString, text: &[u8]) -> io::Result<()> {
    let bytes = name.as_bytes();
    let address = match bytes.first() {
        Some(b'/') => SockAddr::unix(Path::new(name))?,
        Some(b'@') => SockAddr::unix(OsStr::from_bytes(&[b"\0", &bytes[1..]].concat()))?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither an absolute path nor an @name")),
    };
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_write_timeout(Some(WAIT_MAX))?;
    loop {
        match socket.send_to_with_flags(text, &address, libc::MSG_NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(name_timeout(error)),
        }
    }
}

/// Replaces the EAGAIN of an expired send timeout by an error that says so.
fn name_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the master did not read for {} s", WAIT_MAX.as_secs()),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use einhorn_proto::{Command, Request};

    #[test]
    fn ack_and_ping_are_valid_commands() {
        let pid = i32::try_from(std::process::id()).unwrap();
        for (message, command) in [
            (Message::Ack, Command::WorkerAck { pid }),
            (Message::Ping, Command::WorkerPing { pid, request_id: None }),
        ] {
            let line = message.as_command().unwrap();
            assert_eq!(Request::from_json(line.trim_end().as_bytes()).unwrap().command, command);
            assert!(line.ends_with("}\n"));
        }
        assert_eq!(
            Message::Ack.as_command(),
            Some(format!("{{\"command\":\"worker:ack\",\"pid\":{pid}}}\n"))
        );
    }

    #[test]
    fn a_status_of_two_lines_is_one_assignment() {
        assert_eq!(Message::Status("warm\nREADY=1").as_notification(), "STATUS=warm READY=1");
    }

    #[test]
    fn the_message_names_each_way_that_failed() {
        let failed = |way: &str, errno| (way.to_owned(), io::Error::from_raw_os_error(errno));
        let attempts = vec![
            failed("EINHORN_SOCK_PATH /x", libc::ENOENT),
            failed("NOTIFY_SOCKET @y", libc::ECONNREFUSED),
        ];
        assert_eq!(
            TellError::Unreachable { what: "ack", attempts }.to_string(),
            "cannot send ack to the master: EINHORN_SOCK_PATH /x: No such file or directory (os error 2); \
             NOTIFY_SOCKET @y: Connection refused (os error 111)"
        );
    }
}
