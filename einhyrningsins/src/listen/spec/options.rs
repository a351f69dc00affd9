//! The options of `-b`: their names, their values, and the sockets that each applies to.

use std::fmt;

use super::error::BindSpecErrorKind;
use crate::listen::SocketKind;

/// The longest name of a socket in `LISTEN_FDNAMES`, in bytes: the limit of `sd_listen_fds(3)`.
const SOCKET_NAME_BYTES_MAX: usize = 255;

/// The longest name of a network interface, in bytes: `IFNAMSIZ` without its NUL.
const DEVICE_BYTES_MAX: usize = 15;

/// The options of one `-b`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BindOptions {
    /// Whether the socket is `O_NONBLOCK`. The flag is shared by all holders of the socket.
    pub nonblocking: bool,
    /// The name in `LISTEN_FDNAMES`.
    pub name: Option<String>,
    /// How many connections may wait in the queue.
    pub backlog: Option<u32>,
    /// Whether small writes are sent at once, on every connection (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Whether a connection reaches a worker only after the client has sent data (`TCP_DEFER_ACCEPT`).
    pub defer: bool,
    /// Whether a client may send data with its first packet (`TCP_FASTOPEN`).
    pub fastopen: Option<FastOpen>,
    /// Whether this machine may lack the address (`IP_FREEBIND`).
    pub freebind: bool,
    /// The mark of outgoing packets (`SO_MARK`).
    pub mark: Option<u32>,
    /// The network interface to bind to (`SO_BINDTODEVICE`).
    pub device: Option<String>,
    /// Whether each slot has its own socket at the address (`SO_REUSEPORT`).
    pub reuseport: bool,
    /// The size of the receive buffer, in bytes (`SO_RCVBUF`).
    pub receive_buffer: Option<u32>,
    /// The size of the send buffer, in bytes (`SO_SNDBUF`).
    pub send_buffer: Option<u32>,
    /// Whether silent connections are probed (`SO_KEEPALIVE`).
    pub keepalive: bool,
    /// The mode of the file.
    pub mode: Option<u32>,
    /// The owner of the file: a name or a number.
    pub user: Option<String>,
    /// The group of the file: a name or a number.
    pub group: Option<String>,
}

/// How many connections with early data may have an unfinished handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastOpen {
    /// As many as the queue takes.
    Backlog,
    /// This many.
    Pending(u32),
}

/// An option of `-b`; [`OPTIONS`] describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindOption {
    NonBlocking,
    ReuseAddress,
    Name,
    Backlog,
    NoDelay,
    Defer,
    FastOpen,
    FreeBind,
    Mark,
    Device,
    ReusePort,
    ReceiveBuffer,
    SendBuffer,
    KeepAlive,
    Mode,
    User,
    Group,
}

/// The sockets that an option applies to.
#[derive(Debug, Clone, Copy)]
enum Fitting {
    Any,
    WithConnections,
    Tcp,
    BoundTcp,
    Inet,
    BoundInet,
    File,
}

/// Every option, in the order of messages: its names, the usual one first, its value, and the sockets that it is for.
const OPTIONS: [(BindOption, &[&str], &str, Fitting); 17] = [
    (BindOption::NonBlocking, &["n", "o_nonblock"], "", Fitting::Any),
    (BindOption::ReuseAddress, &["r", "so_reuseaddr"], "", Fitting::BoundTcp),
    (BindOption::Name, &["name"], "=NAME", Fitting::Any),
    (BindOption::Backlog, &["backlog"], "=N", Fitting::WithConnections),
    (BindOption::NoDelay, &["nodelay"], "", Fitting::Tcp),
    (BindOption::Defer, &["defer"], "", Fitting::Tcp),
    (BindOption::FastOpen, &["fastopen"], "[=N]", Fitting::Tcp),
    (BindOption::FreeBind, &["freebind"], "", Fitting::BoundInet),
    (BindOption::Mark, &["mark"], "=N", Fitting::Inet),
    (BindOption::Device, &["device"], "=NAME", Fitting::BoundInet),
    (BindOption::ReusePort, &["reuseport", "so_reuseport"], "", Fitting::BoundInet),
    (BindOption::ReceiveBuffer, &["rcvbuf"], "=BYTES", Fitting::Any),
    (BindOption::SendBuffer, &["sndbuf"], "=BYTES", Fitting::Any),
    (BindOption::KeepAlive, &["keepalive"], "", Fitting::Tcp),
    (BindOption::Mode, &["mode"], "=MODE", Fitting::File),
    (BindOption::User, &["user", "owner"], "=USER", Fitting::File),
    (BindOption::Group, &["group"], "=GROUP", Fitting::File),
];

/// Where a socket comes from, as far as options depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Bound by this master.
    Bound(SocketKind),
    /// Bound by another process and passed on; its kind is not known yet.
    Passed,
    /// Bound by another process and passed on; its kind is known.
    PassedAs(SocketKind),
    /// Bound by this master to an abstract name.
    Abstract(SocketKind),
}

impl Origin {
    /// The origin with its article, for use in a sentence.
    pub fn described(self) -> &'static str {
        match self {
            Self::Bound(kind) | Self::PassedAs(kind) => kind.described(),
            Self::Passed => "a socket that is already bound",
            Self::Abstract(_) => "an abstract Unix socket",
        }
    }

    fn is_passed(self) -> bool {
        matches!(self, Self::Passed | Self::PassedAs(_))
    }
}

impl Fitting {
    fn includes(self, origin: Origin) -> bool {
        let (kind, is_file) = match origin {
            Origin::Bound(kind) => (Some(kind), !kind.is_inet()),
            Origin::Passed => (None, false),
            Origin::PassedAs(kind) | Origin::Abstract(kind) => (Some(kind), false),
        };
        let is_tcp = kind.is_none_or(|kind| kind == SocketKind::Tcp);
        let is_inet = kind.is_none_or(SocketKind::is_inet);
        match self {
            Self::Any => true,
            Self::WithConnections => kind.is_none_or(SocketKind::has_connections),
            Self::Tcp => is_tcp,
            Self::BoundTcp => is_tcp && !origin.is_passed(),
            Self::Inet => is_inet,
            Self::BoundInet => is_inet && !origin.is_passed(),
            Self::File => is_file,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Any => "any socket",
            Self::WithConnections => "sockets that accept connections",
            Self::Tcp => "TCP",
            Self::BoundTcp => "TCP sockets that the master binds",
            Self::Inet => "TCP and UDP",
            Self::BoundInet => "TCP and UDP sockets that the master binds",
            Self::File => "unix:PATH and seqpacket:PATH",
        }
    }
}

impl BindOption {
    /// The names of the option, the usual one first.
    fn names(self) -> &'static [&'static str] {
        OPTIONS[self as usize].1
    }

    fn fitting(self) -> Fitting {
        OPTIONS[self as usize].3
    }

    /// Every option with its value, for the help of `-b`.
    #[must_use]
    pub fn help() -> String {
        let described = |(option, names, value, _): (Self, &[&str], &str, Fitting)| {
            let note = match option {
                Self::NonBlocking => " (O_NONBLOCK)",
                Self::ReuseAddress => " (SO_REUSEADDR, which is always set)",
                Self::ReusePort => " (a socket for each slot)",
                _ => "",
            };
            format!("{}{value}{note}", names[0])
        };
        OPTIONS.map(described).join(", ")
    }

    /// Finds an option by name, case-insensitively.
    pub(super) fn find(name: &str) -> Option<Self> {
        let is_it = |names: &[&str]| names.iter().any(|other| other.eq_ignore_ascii_case(name));
        OPTIONS.into_iter().find_map(|(option, names, ..)| is_it(names).then_some(option))
    }

    /// Whether the option applies to such a socket.
    pub fn fits(self, origin: Origin) -> bool {
        self.fitting().includes(origin)
    }

    /// The error that the option does not apply to such a socket.
    pub(in crate::listen) fn misplaced(self, origin: Origin) -> BindSpecErrorKind {
        BindSpecErrorKind::Misplaced {
            option: self.names()[0],
            socket: origin.described(),
            fitting: self.fitting().described(),
        }
    }

    /// The options that apply to such a socket, with their values and other names, as a list.
    pub(super) fn list(origin: Origin) -> String {
        let fitting = OPTIONS.into_iter().filter(|(.., fitting)| fitting.includes(origin));
        let mut usages: Vec<_> = fitting
            .map(|(_, names, value, _)| match names {
                [name, other, ..] => format!("{name}{value} (or {other})"),
                names => format!("{}{value}", names.concat()),
            })
            .collect();
        let last = usages.pop().unwrap_or_default();
        format!("{} and {last}", usages.join(", "))
    }
}

impl BindOptions {
    /// Sets `option` from its value, if one was given.
    pub(super) fn set(&mut self, option: BindOption, value: Option<&str>) -> Result<(), BindSpecErrorKind> {
        let name = option.names()[0];
        let wants = |what: &'static str| BindSpecErrorKind::BadValue {
            option: name,
            value: value.unwrap_or_default().to_owned(),
            wants: what,
        };
        let count = |text: &str| positive(text).ok_or_else(|| wants("a number from 1 to 2147483647"));
        let word =
            || value.filter(|value| !value.is_empty()).ok_or(BindSpecErrorKind::NoValue { option: name });
        let is_second = match option {
            BindOption::NonBlocking => flag(&mut self.nonblocking, name, value)?,
            BindOption::ReuseAddress => flag(&mut true, name, value)?,
            BindOption::NoDelay => flag(&mut self.nodelay, name, value)?,
            BindOption::Defer => flag(&mut self.defer, name, value)?,
            BindOption::FreeBind => flag(&mut self.freebind, name, value)?,
            BindOption::KeepAlive => flag(&mut self.keepalive, name, value)?,
            BindOption::ReusePort => flag(&mut self.reuseport, name, value)?,
            BindOption::Name => {
                let name = value.ok_or(BindSpecErrorKind::NoValue { option: name })?;
                self.name.replace(socket_name(name)?).is_some()
            }
            BindOption::Backlog => self.backlog.replace(count(word()?)?).is_some(),
            BindOption::FastOpen => {
                let pending = value.map(count).transpose()?;
                let fastopen = pending.map_or(FastOpen::Backlog, FastOpen::Pending);
                self.fastopen.replace(fastopen).is_some()
            }
            BindOption::Mark => {
                let mark = mark(word()?)
                    .ok_or_else(|| wants("a number from 0 to 4294967295, or 0x and hex digits"))?;
                self.mark.replace(mark).is_some()
            }
            BindOption::Device => {
                let device = word()?;
                let is_name = device.len() <= DEVICE_BYTES_MAX
                    && device.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
                if !is_name {
                    return Err(wants("the name of a network interface, of at most 15 characters"));
                }
                self.device.replace(device.to_owned()).is_some()
            }
            BindOption::ReceiveBuffer => self.receive_buffer.replace(count(word()?)?).is_some(),
            BindOption::SendBuffer => self.send_buffer.replace(count(word()?)?).is_some(),
            BindOption::Mode => {
                let mode = mode(word()?).ok_or_else(|| wants("three octal digits, as in 660"))?;
                self.mode.replace(mode).is_some()
            }
            BindOption::User => self.user.replace(account(word()?).ok_or_else(|| wants("a user"))?).is_some(),
            BindOption::Group => {
                self.group.replace(account(word()?).ok_or_else(|| wants("a group"))?).is_some()
            }
        };
        if is_second { Err(BindSpecErrorKind::Twice { option: name }) } else { Ok(()) }
    }

    /// The first given option that does not apply to such a socket.
    pub fn first_misfit(&self, origin: Origin) -> Option<BindOption> {
        let mut misfits = OPTIONS.into_iter().filter(|(.., fitting)| !fitting.includes(origin));
        misfits.find_map(|(option, ..)| self.written(option).is_some().then_some(option))
    }

    /// The canonical form of `option` as given; `None` if it was not given.
    pub fn written(&self, option: BindOption) -> Option<String> {
        let name = option.names()[0];
        let flag = |is_set: bool| is_set.then(|| name.to_owned());
        let number = |value: Option<u32>| value.map(|value| format!("{name}={value}"));
        let word = |value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
        match option {
            BindOption::NonBlocking => flag(self.nonblocking),
            BindOption::ReuseAddress => None,
            BindOption::Name => word(&self.name),
            BindOption::Backlog => number(self.backlog),
            BindOption::NoDelay => flag(self.nodelay),
            BindOption::Defer => flag(self.defer),
            BindOption::FastOpen => self.fastopen.map(|fastopen| match fastopen {
                FastOpen::Backlog => name.to_owned(),
                FastOpen::Pending(count) => format!("{name}={count}"),
            }),
            BindOption::FreeBind => flag(self.freebind),
            BindOption::Mark => number(self.mark),
            BindOption::Device => word(&self.device),
            BindOption::ReusePort => flag(self.reuseport),
            BindOption::ReceiveBuffer => number(self.receive_buffer),
            BindOption::SendBuffer => number(self.send_buffer),
            BindOption::KeepAlive => flag(self.keepalive),
            BindOption::Mode => self.mode.map(|mode| format!("{name}={mode:03o}")),
            BindOption::User => word(&self.user),
            BindOption::Group => word(&self.group),
        }
    }
}

impl fmt::Display for BindOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = OPTIONS.into_iter().filter_map(|(option, ..)| self.written(option));
        written.try_for_each(|option| write!(f, ",{option}"))
    }
}

/// Sets a flag; setting it twice is allowed.
fn flag(flag: &mut bool, option: &'static str, value: Option<&str>) -> Result<bool, BindSpecErrorKind> {
    match value {
        Some(_) => Err(BindSpecErrorKind::NoValueTaken { option }),
        None => {
            *flag = true;
            Ok(false)
        }
    }
}

/// Whether `LISTEN_FDNAMES` can hold this name.
pub(in crate::listen) fn is_socket_name(name: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b':';
    (1..=SOCKET_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed)
}

pub(super) fn socket_name(name: &str) -> Result<String, BindSpecErrorKind> {
    if is_socket_name(name) {
        Ok(name.to_owned())
    } else {
        Err(BindSpecErrorKind::BadSocketName { name: name.to_owned() })
    }
}

fn digits(text: &str) -> Option<&str> {
    // `parse` alone would accept "+80".
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn positive(text: &str) -> Option<u32> {
    let number: i32 = digits(text)?.parse().ok()?;
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn mark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => digits(text)?.parse().ok(),
    }
}

fn mode(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = if is_octal { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o777)
}

fn account(text: &str) -> Option<String> {
    let is_name_byte = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/');
    text.bytes().all(is_name_byte).then(|| text.to_owned())
}
