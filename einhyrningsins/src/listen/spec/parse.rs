//! The parser of `-b`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use super::options::{BindOption, socket_name};
use super::{BindAddress, BindOptions, BindSpec, BindSpecError, BindSpecErrorKind, Host, Place};

/// The longest host name in DNS, in bytes (RFC 1035, section 2.3.4, without the root's dot).
const HOST_NAME_BYTES_MAX: usize = 253;

/// The longest abstract name, in bytes: `sun_path` of `unix(7)` without the leading NUL.
const ABSTRACT_BYTES_MAX: usize = 107;

/// The first descriptor that can be passed: below are standard input, output and error.
const FIRST_PASSED: RawFd = 3;

impl FromStr for BindSpec {
    type Err = BindSpecError;

    /// Reads `ADDRESS[,OPT...]`. An address is one of: `HOST:PORT`, where `HOST` is an IPv4 address, an IPv6
    /// address in brackets, a host name, or empty for every address; `udp:` and the same; `unix:` or
    /// `seqpacket:` and a path, or `@` and a name; `fd:` and a number; `systemd`, or `systemd:` and a name. In
    /// a path, `\,` is a comma and `\\` a backslash. Options ([`BindOption`]) and the words before a colon are
    /// case-insensitive.
    fn from_str(spec: &str) -> Result<Self, BindSpecError> {
        parse(spec, Unknown::Refused).map_err(|kind| BindSpecError { spec: spec.to_owned(), kind })
    }
}

impl BindSpec {
    /// Like [`from_str`](Self::from_str), but skips unknown options, as einhorn does.
    pub fn parse_ignoring_unknown_options(spec: &str) -> Result<Self, BindSpecError> {
        parse(spec, Unknown::Ignored).map_err(|kind| BindSpecError { spec: spec.to_owned(), kind })
    }
}

/// How to treat unknown options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    Ignored,
}

fn parse(spec: &str, unknown: Unknown) -> Result<BindSpec, BindSpecErrorKind> {
    let (text, written) = split(spec);
    let address = parse_address(text).map_err(|kind| match meant(text) {
        Some(form) => BindSpecErrorKind::OtherForm { form },
        None => kind,
    })?;
    let origin = address.origin();
    let mut options = BindOptions::default();
    for text in written.into_iter().flat_map(|text| text.split(',')) {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match BindOption::find(name) {
            Some(option) if !option.fits(origin) => return Err(option.misplaced(origin)),
            Some(option) => options.set(option, value)?,
            None if unknown == Unknown::Ignored => {}
            None => return Err(BindSpecErrorKind::unknown(text, origin)),
        }
    }
    Ok(BindSpec { address, options })
}

/// The address, and the text after the first comma that has no backslash before it.
fn split(spec: &str) -> (&str, Option<&str>) {
    let mut is_escaped = false;
    for (at, byte) in spec.bytes().enumerate() {
        match byte {
            b',' if !is_escaped => return (&spec[..at], Some(&spec[at + 1..])),
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    (spec, None)
}

/// Removes the backslash from `\,` and `\\`. Any other backslash stays: file names contain them, systemd's for
/// instance.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        let escaped = if letter == '\\' { rest.next_if(|next| matches!(next, ',' | '\\')) } else { None };
        plain.push(escaped.unwrap_or(letter));
    }
    plain
}

fn parse_address(text: &str) -> Result<BindAddress, BindSpecErrorKind> {
    if text.is_empty() {
        return Err(BindSpecErrorKind::Empty);
    }
    if text.eq_ignore_ascii_case("systemd") {
        return Ok(BindAddress::Systemd(None));
    }
    if let Some((kind, rest)) = text.split_once(':') {
        match kind.to_ascii_lowercase().as_str() {
            "udp" if rest.is_empty() => return Err(BindSpecErrorKind::NoPort),
            "udp" => {
                let (host, port) = parse_inet(rest)?;
                return Ok(BindAddress::Udp { host, port });
            }
            "unix" => return Ok(BindAddress::Unix(parse_place("unix", rest)?)),
            "seqpacket" => return Ok(BindAddress::Seqpacket(parse_place("seqpacket", rest)?)),
            "fd" => return Ok(BindAddress::Fd(parse_fd(rest)?)),
            "systemd" => return Ok(BindAddress::Systemd(Some(socket_name(&unescape(rest))?))),
            _ => {}
        }
    }
    let (host, port) = parse_inet(text)?;
    Ok(BindAddress::Tcp { host, port })
}

/// The form that an address in the manner of other programs has here: a bare port, a path, or a URL.
fn meant(text: &str) -> Option<String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.split('/').next().unwrap_or_default()),
        None => match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("tcp") => ("tcp".to_owned(), rest),
            _ if !text.contains(':') && text.contains('/') => return Some(format!("unix:{text}")),
            _ => (String::new(), text),
        },
    };
    let forms = match scheme.as_str() {
        "" => vec![format!(":{rest}")],
        "http" => vec![rest.to_owned(), format!("{rest}:80")],
        "https" => vec![rest.to_owned(), format!("{rest}:443")],
        "tcp" | "tcp4" | "tcp6" => vec![rest.to_owned(), format!(":{rest}")],
        "udp" => vec![format!("udp:{rest}")],
        _ => Vec::new(),
    };
    forms.into_iter().find(|form| parse_address(form).is_ok())
}

fn parse_place(kind: &'static str, text: &str) -> Result<Place, BindSpecErrorKind> {
    let text = unescape(text);
    let bad = |why| BindSpecErrorKind::BadPath { name: text.clone(), why };
    match text.strip_prefix('@') {
        _ if text.contains('\0') => Err(bad("it contains a NUL")),
        Some(name) if name.len() > ABSTRACT_BYTES_MAX => Err(bad("it is longer than 107 bytes")),
        Some(name) if !name.is_empty() => Ok(Place::Abstract(name.to_owned())),
        None if !text.is_empty() => Ok(Place::Path(PathBuf::from(text))),
        _ => Err(BindSpecErrorKind::NoPath { kind }),
    }
}

fn parse_fd(number: &str) -> Result<RawFd, BindSpecErrorKind> {
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let fd = if digits { number.parse().ok() } else { None };
    fd.filter(|fd| *fd >= FIRST_PASSED).ok_or_else(|| BindSpecErrorKind::BadFd { number: number.to_owned() })
}

fn parse_inet(text: &str) -> Result<(Host, u16), BindSpecErrorKind> {
    if let Some(rest) = text.strip_prefix('[') {
        return parse_bracketed(text, rest);
    }
    let (host, port) = text.rsplit_once(':').ok_or(BindSpecErrorKind::NoPort)?;
    if host.contains(':') {
        return Err(colons_outside_brackets(text, host, port));
    }
    // The host first: for "10.0.0:80:" and the like, its error says more.
    let host = parse_host(host)?;
    Ok((host, parse_port(port)?))
}

fn parse_bracketed(text: &str, rest: &str) -> Result<(Host, u16), BindSpecErrorKind> {
    let bad = || BindSpecErrorKind::BadIpv6 { host: text.to_owned() };
    let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
    let ip: Ipv6Addr = host.parse().map_err(|_| bad())?;
    if rest.is_empty() {
        return Err(BindSpecErrorKind::NoPort);
    }
    let port = rest.strip_prefix(':').ok_or_else(bad)?;
    Ok((Host::Ip(ip.into()), parse_port(port)?))
}

/// More than one colon: most likely an IPv6 address, with or without a port.
fn colons_outside_brackets(text: &str, host: &str, port: &str) -> BindSpecErrorKind {
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if is_ipv6(host) && parse_port(port).is_ok() {
        BindSpecErrorKind::NoBrackets { example: format!("[{host}]:{port}") }
    } else if is_ipv6(text) {
        BindSpecErrorKind::NoBrackets { example: format!("[{text}]:80") }
    } else {
        BindSpecErrorKind::BadHost { host: host.to_owned() }
    }
}

fn parse_host(host: &str) -> Result<Host, BindSpecErrorKind> {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() {
        Ok(Host::Any)
    } else if let Ok(ip) = host.parse::<Ipv4Addr>() {
        Ok(Host::Ip(ip.into()))
    } else if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        // The resolver would accept 127.1 or 010.0.0.1 in its own traditional ways.
        Err(BindSpecErrorKind::BadIpv4 { host: host.to_owned() })
    } else if host.len() <= HOST_NAME_BYTES_MAX && host.bytes().all(is_name_byte) {
        Ok(Host::Name(host.to_owned()))
    } else {
        Err(BindSpecErrorKind::BadHost { host: host.to_owned() })
    }
}

fn parse_port(port: &str) -> Result<u16, BindSpecErrorKind> {
    if port.is_empty() {
        return Err(BindSpecErrorKind::NoPort);
    }
    // `parse` alone would accept "+80".
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { port.parse().ok() } else { None };
    number.ok_or_else(|| BindSpecErrorKind::BadPort { port: port.to_owned() })
}
