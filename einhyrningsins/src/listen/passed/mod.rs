//! Sockets that the master inherits at its start: by socket activation (`LISTEN_FDS`), or as open descriptors,
//! for instance from another master.
//!
//! # Source
//! `sd_listen_fds(3)` for the variables.

use std::env;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::libc;
use socket2::{SockRef, Socket};

use super::bind::{Backlog, set_options};
use super::spec::{BindAddress, BindSpec, BindSpecErrorKind, Origin, is_socket_name};
use super::{Address, BindError, Listener, SocketKind};
use crate::sys::inherit::{Inherited, Kept, set_close_on_exec};

/// The first descriptor of socket activation.
const FIRST: RawFd = 3;

/// Far more sockets than anybody passes.
const PASSED_MAX: u32 = 1 << 16;

/// Sockets that were passed to this process. Each can be taken once.
#[derive(Debug)]
pub struct Passed {
    inherited: Inherited,
    activated: Result<Vec<Activated>, PassedError>,
    taken: Vec<RawFd>,
}

/// A socket of socket activation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Activated {
    fd: RawFd,
    name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassedError {
    /// This caller has no passed sockets.
    #[error("nothing was passed")]
    NotPassed,
    /// There was no socket activation.
    #[error("no sockets were passed: LISTEN_FDS is not set")]
    NotActivated,
    /// The sockets were passed to another process.
    #[error("the sockets of LISTEN_FDS are not for this process ({own}): LISTEN_PID is {found}")]
    OtherProcess {
        /// The value of `LISTEN_PID`.
        found: String,
        /// The pid of this process.
        own: u32,
    },
    /// A variable has a bad value.
    #[error("{variable} is \"{}\", which is {wrong}", .value.escape_debug())]
    BadVariable { variable: &'static str, value: String, wrong: &'static str },
    #[error("no socket of that name was passed; {}", Names(.names))]
    NoSuchName {
        /// The names of the sockets that were passed.
        names: Vec<String>,
    },
    /// Every socket has been taken by another `-b`.
    #[error("no socket is left; {count} were passed, and other -b take them")]
    NoneLeft {
        /// How many sockets were passed.
        count: usize,
    },
    #[error("descriptor {0} is not open")]
    NotOpen(RawFd),
    /// Another `-b` has taken the descriptor.
    #[error("descriptor {0} is taken by another -b")]
    Taken(RawFd),
    #[error("descriptor {0} is not a socket")]
    NotASocket(RawFd),
    /// A worker cannot get a socket of this kind.
    #[error(
        "descriptor {fd} is a socket of family {family} and type {socket_type}, which a worker cannot get"
    )]
    OtherKind {
        fd: RawFd,
        /// Its `AF_` number.
        family: i32,
        /// Its `SOCK_` number.
        socket_type: i32,
    },
    #[error("descriptor {fd} is {} that does not listen", .kind.described())]
    NotListening { fd: RawFd, kind: SocketKind },
    /// The socket cannot have one of the options.
    #[error("descriptor {fd}: {error}")]
    Misplaced { fd: RawFd, error: BindSpecErrorKind },
    #[error("cannot determine what descriptor {fd} is: {reason}")]
    System { fd: RawFd, reason: String },
}

/// Names of sockets, for a message.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("those that were passed have no names"),
            names => write!(f, "names that were passed: {}", names.join(", ")),
        }
    }
}

impl PassedError {
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotActivated => {
                "start the master from a socket unit, or with systemd-socket-activate; by hand, give an address to bind"
            }
            Self::OtherProcess { .. } => "the program that received the sockets must exec the master",
            Self::NoSuchName { .. } => "set the name with FileDescriptorName= in the socket unit",
            Self::NotOpen(_) => {
                "the program that starts the master must leave it open, without close-on-exec"
            }
            Self::NotListening { kind: SocketKind::Tcp | SocketKind::Unix, .. } => {
                "with Accept=yes in the socket unit it is a connection; the master needs Accept=no"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl Passed {
    /// Collects the sockets that this process was started with, if `binds` or its variables mention any. Call
    /// it before anything is opened.
    pub fn of_process(binds: &[BindSpec]) -> io::Result<Self> {
        let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let activated = activated(variable, std::process::id());
        let is_needed = activated.is_ok() || binds.iter().any(|spec| spec.address.origin() == Origin::Passed);
        let inherited = if is_needed { Inherited::new()? } else { Inherited::default() };
        Ok(Self { inherited, activated, taken: Vec::new() })
    }

    /// Takes the sockets with one of these names; `-b` does not see them.
    #[must_use]
    pub fn take_named(&mut self, is_one: impl Fn(&str) -> bool) -> Vec<(String, Kept<OwnedFd>)> {
        let Ok(activated) = &mut self.activated else { return Vec::new() };
        let is_one = |socket: &mut Activated| socket.name.as_deref().is_some_and(&is_one);
        let named: Vec<_> = activated.extract_if(.., is_one).collect();
        let named = named.into_iter();
        named.filter_map(|Activated { fd, name }| Some((name?, Kept::Open(self.claim(fd).ok()?)))).collect()
    }

    /// Takes the sockets that `spec` asks for. A plain `systemd` takes only sockets that no other of `binds`
    /// names.
    ///
    /// # Errors
    /// [`BindError::Passed`], or an option that cannot be set.
    pub fn take(&mut self, spec: &BindSpec, binds: &[BindSpec]) -> Result<Vec<Listener>, BindError> {
        let refused = |source| BindError::Passed { address: spec.address.clone(), source };
        let found = self.find(&spec.address, binds).map_err(refused)?;
        found
            .into_iter()
            .map(|Activated { fd, name }| {
                let socket = self.claim(fd).map_err(refused)?;
                let kind = check(&socket, &spec.options).map_err(refused)?;
                listener(spec, socket, kind, name)
            })
            .collect()
    }

    /// The sockets that `address` means.
    fn find(&self, address: &BindAddress, binds: &[BindSpec]) -> Result<Vec<Activated>, PassedError> {
        match address {
            BindAddress::Fd(fd) => {
                let activated = self.activated.iter().flatten().find(|socket| socket.fd == *fd);
                Ok(vec![activated.cloned().unwrap_or(Activated { fd: *fd, name: None })])
            }
            BindAddress::Systemd(Some(name)) => {
                let activated = self.activated.as_ref().map_err(Clone::clone)?;
                let of_name: Vec<_> =
                    activated.iter().filter(|socket| socket.name.as_ref() == Some(name)).cloned().collect();
                if of_name.is_empty() {
                    let names = activated.iter().filter_map(|socket| socket.name.clone()).collect();
                    return Err(PassedError::NoSuchName { names });
                }
                Ok(of_name)
            }
            BindAddress::Systemd(None) => {
                let activated = self.activated.as_ref().map_err(Clone::clone)?;
                let is_left = |socket: &&Activated| {
                    !self.taken.contains(&socket.fd) && !binds.iter().any(|spec| spec.address.names(socket))
                };
                let left: Vec<_> = activated.iter().filter(is_left).cloned().collect();
                if left.is_empty() {
                    return Err(PassedError::NoneLeft { count: activated.len() });
                }
                Ok(left)
            }
            _ => Err(PassedError::NotPassed),
        }
    }

    fn claim(&mut self, fd: RawFd) -> Result<OwnedFd, PassedError> {
        if self.taken.contains(&fd) {
            return Err(PassedError::Taken(fd));
        }
        let socket = self.inherited.take(fd).map_err(|_| PassedError::NotOpen(fd))?;
        set_close_on_exec(&[fd], true);
        self.taken.push(fd);
        Ok(socket)
    }

    /// Lines for the log about the sockets of socket activation that nobody took. Makes them close-on-exec.
    pub fn leftovers(&self) -> Vec<String> {
        let activated = match &self.activated {
            Ok(activated) => activated,
            // They belong to another process, or there are none; a `-b` that asked for one has failed already.
            Err(PassedError::NotActivated | PassedError::OtherProcess { .. }) => return Vec::new(),
            Err(error) => return vec![format!("passed sockets are not used: {error}")],
        };
        let left: Vec<_> = activated.iter().filter(|socket| !self.taken.contains(&socket.fd)).collect();
        left.into_iter()
            .map(|Activated { fd, name }| {
                set_close_on_exec(&[*fd], true);
                let (name, bind) = match name {
                    Some(name) => (format!(" ({name})"), format!("systemd:{name}")),
                    None => (String::new(), "systemd".to_owned()),
                };
                format!(
                    "descriptor {fd}{name} was passed to this master and is not used; use it with -b {bind}"
                )
            })
            .collect()
    }
}

impl BindAddress {
    /// Whether the address names this socket and no other.
    fn names(&self, socket: &Activated) -> bool {
        match self {
            Self::Fd(fd) => *fd == socket.fd,
            Self::Systemd(Some(name)) => socket.name.as_ref() == Some(name),
            _ => false,
        }
    }
}

/// Reads the variables of socket activation.
fn activated(variable: impl Fn(&str) -> Option<String>, own: u32) -> Result<Vec<Activated>, PassedError> {
    let count = variable("LISTEN_FDS").ok_or(PassedError::NotActivated)?;
    let pid = variable("LISTEN_PID").unwrap_or_default();
    if pid.parse() != Ok(own) {
        let found = if pid.is_empty() { "not set".to_owned() } else { pid };
        return Err(PassedError::OtherProcess { found, own });
    }
    let bad =
        |variable, value: &str, wrong| PassedError::BadVariable { variable, value: value.to_owned(), wrong };
    let number = count.parse::<u32>().ok().filter(|number| (1..=PASSED_MAX).contains(number));
    let number = number.ok_or_else(|| bad("LISTEN_FDS", &count, "not a number of sockets"))?;
    let names = variable("LISTEN_FDNAMES");
    let names: Vec<_> = names.iter().flat_map(|names| names.split(':')).collect();
    if !names.is_empty() && names.len() != number as usize {
        let wrong = "not one name per socket of LISTEN_FDS";
        return Err(bad("LISTEN_FDNAMES", &names.join(":"), wrong));
    }
    let name =
        |index: usize| names.get(index).filter(|name| is_socket_name(name)).map(|&name| name.to_owned());
    Ok((FIRST..)
        .take(number as usize)
        .enumerate()
        .map(|(index, fd)| Activated { fd, name: name(index) })
        .collect())
}

/// The kind of `socket`, if a worker can use it and it can have the options.
fn check(socket: &OwnedFd, options: &super::spec::BindOptions) -> Result<SocketKind, PassedError> {
    let fd = socket.as_raw_fd();
    let system = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOTSOCK) => PassedError::NotASocket(fd),
        _ => PassedError::System { fd, reason: error.to_string() },
    };
    let asked = SockRef::from(socket);
    let kind = SocketKind::of(&asked).map_err(system)?;
    let Some(kind) = kind else {
        let family = asked.domain().map_err(system)?.into();
        let socket_type = asked.r#type().map_err(system)?.into();
        return Err(PassedError::OtherKind { fd, family, socket_type });
    };
    if kind.has_connections() && !asked.is_listener().map_err(system)? {
        return Err(PassedError::NotListening { fd, kind });
    }
    match options.first_misfit(Origin::PassedAs(kind)) {
        Some(option) => Err(PassedError::Misplaced { fd, error: option.misplaced(Origin::PassedAs(kind)) }),
        None => Ok(kind),
    }
}

fn listener(
    spec: &BindSpec,
    socket: OwnedFd,
    kind: SocketKind,
    passed_name: Option<String>,
) -> Result<Listener, BindError> {
    let refused = |error: io::Error| BindError::Passed {
        address: spec.address.clone(),
        source: PassedError::System { fd: socket.as_raw_fd(), reason: error.to_string() },
    };
    let address = Address::of(&socket.as_fd(), kind).map_err(refused)?;
    let socket = Socket::from(socket);
    let asked = spec.options.backlog.map(|backlog| Backlog::new(Some(backlog)));
    if let Some(backlog) = asked {
        // On a listening socket, a second `listen` changes its limit.
        socket
            .listen(backlog.asked)
            .map_err(|source| BindError::Bind { address: address.clone(), source })?;
    }
    let backlog = asked.unwrap_or_else(|| Backlog::new(None)).effective;
    set_options(&socket, &address, &spec.options, backlog)?;
    let fd = Kept::Open(socket.into());
    let mut listener = Listener { fd, spec: spec.clone(), address, backlog: 0, passed_name, place: None };
    if kind.has_connections() {
        listener.backlog = listener.queue().map_or(backlog, |queue| queue.limit);
    }
    Ok(listener)
}

#[cfg(test)]
mod tests;
