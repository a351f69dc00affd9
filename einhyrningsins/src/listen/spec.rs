//! What `-b` says, parsed: `ADDR:PORT[,OPT...]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest host name that DNS allows, in bytes (RFC 1035, section 2.3.4, without the root's dot).
const HOST_NAME_BYTES_MAX: usize = 253;

/// The longest name of a socket in `LISTEN_FDNAMES`, in bytes; `sd_listen_fds(3)` takes no longer ones.
const SOCKET_NAME_BYTES_MAX: usize = 255;

/// Kinds of address that may come and that no host name must be mistaken for.
const OTHER_KINDS: [&str; 3] = ["unix", "udp", "fd"];

/// One listening socket that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindSpec {
    /// Where.
    pub address: BindAddress,
    /// Whether the socket is `O_NONBLOCK`. All who hold it share that.
    pub nonblocking: bool,
    /// Its name in `LISTEN_FDNAMES`.
    pub name: Option<String>,
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindAddress {
    /// A TCP port.
    Tcp {
        /// On which addresses.
        host: Host,
        /// The port; 0 lets the system choose one.
        port: u16,
    },
}

/// Which addresses of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// All of them, IPv4 and IPv6.
    Any,
    /// One; or all of a family, with `0.0.0.0` and `[::]`.
    Ip(IpAddr),
    /// One that is looked up when the socket is bound.
    Name(String),
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Tcp { host, port } = self;
        match host {
            Host::Any => write!(f, ":{port}"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}:{port}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Display for BindSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if self.nonblocking {
            f.write_str(",n")?;
        }
        if let Some(name) = &self.name {
            write!(f, ",name={name}")?;
        }
        Ok(())
    }
}

/// A text that is no [`BindSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad bind address \"{}\": {kind}", .spec.escape_debug())]
pub struct BindSpecError {
    /// The text.
    pub spec: String,
    /// What is wrong with it.
    pub kind: BindSpecErrorKind,
}

/// What is wrong with a bind address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindSpecErrorKind {
    /// There is no address at all.
    #[error("it is empty; write ADDR:PORT, or :PORT for every address")]
    Empty,
    /// There is no colon, or nothing behind it.
    #[error("the port is missing; write ADDR:PORT, or :PORT for every address")]
    NoPort,
    /// The port is no number, or too large.
    #[error("\"{}\" is no port; a port is a number from 0 to 65535", .port.escape_debug())]
    BadPort {
        /// What stands in its place.
        port: String,
    },
    /// An IPv6 address without brackets, where it is unclear what the port is.
    #[error("an IPv6 address stands in brackets, as in {example}")]
    NoBrackets {
        /// How it may have been meant.
        example: String,
    },
    /// What stands in brackets is no IPv6 address, or the brackets are not closed.
    #[error("\"{}\" is no IPv6 address in brackets; write it as in [::1]:80", .host.escape_debug())]
    BadIpv6 {
        /// What stands in its place.
        host: String,
    },
    /// Digits and dots that are no IPv4 address.
    #[error("\"{host}\" is no IPv4 address; it has four numbers from 0 to 255, as in 127.0.0.1")]
    BadIpv4 {
        /// What stands in its place.
        host: String,
    },
    /// Neither address nor name.
    #[error("\"{}\" is neither an address nor a host name; :PORT binds every address", .host.escape_debug())]
    BadHost {
        /// What stands in its place.
        host: String,
    },
    /// A kind of address that other programs bind.
    #[error("\"{kind}:\" is not a kind of address that this version binds; it binds ADDR:PORT")]
    OtherKind {
        /// The kind.
        kind: &'static str,
    },
    /// No such option.
    #[error(
        "\"{}\" is no option of it; there are n (or o_nonblock), r (or so_reuseaddr) and name=NAME",
        .option.escape_debug()
    )]
    UnknownOption {
        /// What stands in its place.
        option: String,
    },
    /// A name that `LISTEN_FDNAMES` cannot hold.
    #[error(
        "\"{}\" is no name for a socket; one has 1 to {SOCKET_NAME_BYTES_MAX} printable ASCII characters \
         without a colon",
        .name.escape_debug()
    )]
    BadSocketName {
        /// What stands in its place.
        name: String,
    },
    /// More than one name.
    #[error("it has two names")]
    TwoNames,
}

impl FromStr for BindSpec {
    type Err = BindSpecError;

    /// Reads `ADDR:PORT[,OPT...]`. `ADDR` is an IPv4 address, an IPv6 address in brackets, a host name, or nothing
    /// for every address. Options are in any case: `n` or `o_nonblock`, `r` or `so_reuseaddr` (which every
    /// listener has anyway), `name=NAME`.
    ///
    /// # Errors
    /// [`BindSpecError`], for the first thing that is wrong.
    fn from_str(spec: &str) -> Result<Self, BindSpecError> {
        parse(spec, Unknown::Refused).map_err(|kind| BindSpecError { spec: spec.to_owned(), kind })
    }
}

impl BindSpec {
    /// As [`from_str`](Self::from_str), but an option that there is not is no error. So does einhorn.
    ///
    /// # Errors
    /// [`BindSpecError`], for the first other thing that is wrong.
    pub fn parse_ignoring_unknown_options(spec: &str) -> Result<Self, BindSpecError> {
        parse(spec, Unknown::Ignored).map_err(|kind| BindSpecError { spec: spec.to_owned(), kind })
    }
}

/// What becomes of options that there are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    Ignored,
}

fn parse(spec: &str, unknown: Unknown) -> Result<BindSpec, BindSpecErrorKind> {
    let mut parts = spec.split(',');
    let address = parse_address(parts.next().unwrap_or_default())?;
    let mut spec = BindSpec { address, nonblocking: false, name: None };
    for option in parts {
        match option.split_once('=') {
            Some((key, name)) if key.eq_ignore_ascii_case("name") => {
                if spec.name.replace(parse_socket_name(name)?).is_some() {
                    return Err(BindSpecErrorKind::TwoNames);
                }
            }
            _ => match option.to_ascii_lowercase().as_str() {
                "n" | "o_nonblock" => spec.nonblocking = true,
                "r" | "so_reuseaddr" => {}
                _ if unknown == Unknown::Ignored => {}
                _ => return Err(BindSpecErrorKind::UnknownOption { option: option.to_owned() }),
            },
        }
    }
    Ok(spec)
}

fn parse_socket_name(name: &str) -> Result<String, BindSpecErrorKind> {
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b':';
    if (1..=SOCKET_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed) {
        Ok(name.to_owned())
    } else {
        Err(BindSpecErrorKind::BadSocketName { name: name.to_owned() })
    }
}

fn parse_address(text: &str) -> Result<BindAddress, BindSpecErrorKind> {
    if text.is_empty() {
        return Err(BindSpecErrorKind::Empty);
    }
    if let Some((prefix, _)) = text.split_once(':')
        && let Some(kind) = OTHER_KINDS.into_iter().find(|kind| prefix.eq_ignore_ascii_case(kind))
    {
        return Err(BindSpecErrorKind::OtherKind { kind });
    }
    if let Some(rest) = text.strip_prefix('[') {
        return parse_bracketed(text, rest);
    }
    let (host, port) = text.rsplit_once(':').ok_or(BindSpecErrorKind::NoPort)?;
    if host.contains(':') {
        return Err(colons_outside_brackets(text, host, port));
    }
    // The host first: with "10.0.0:80:" and the like it is the more telling error.
    let host = parse_host(host)?;
    Ok(BindAddress::Tcp { host, port: parse_port(port)? })
}

fn parse_bracketed(text: &str, rest: &str) -> Result<BindAddress, BindSpecErrorKind> {
    let bad = || BindSpecErrorKind::BadIpv6 { host: text.to_owned() };
    let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
    let ip: Ipv6Addr = host.parse().map_err(|_| bad())?;
    if rest.is_empty() {
        return Err(BindSpecErrorKind::NoPort);
    }
    let port = rest.strip_prefix(':').ok_or_else(bad)?;
    Ok(BindAddress::Tcp { host: Host::Ip(ip.into()), port: parse_port(port)? })
}

/// More than one colon: most likely an IPv6 address, with a port or without.
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
        // The resolver would take 127.1 or 010.0.0.1 in its own old ways.
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
    // `parse` alone would take "+80".
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { port.parse().ok() } else { None };
    number.ok_or_else(|| BindSpecErrorKind::BadPort { port: port.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<BindSpec, String> {
        text.parse().map_err(|error: BindSpecError| error.to_string())
    }

    fn tcp(host: Host, port: u16) -> BindSpec {
        BindSpec { address: BindAddress::Tcp { host, port }, nonblocking: false, name: None }
    }

    #[test]
    fn every_form_of_address_is_read() {
        for (text, expected) in [
            ("127.0.0.1:8000", tcp(Host::Ip([127, 0, 0, 1].into()), 8000)),
            ("0.0.0.0:0", tcp(Host::Ip([0, 0, 0, 0].into()), 0)),
            ("[::1]:65535", tcp(Host::Ip(Ipv6Addr::LOCALHOST.into()), 65_535)),
            ("[::]:080", tcp(Host::Ip(Ipv6Addr::UNSPECIFIED.into()), 80)),
            ("localhost:80", tcp(Host::Name("localhost".into()), 80)),
            ("web-1.example.com:80", tcp(Host::Name("web-1.example.com".into()), 80)),
            ("unixbox:80", tcp(Host::Name("unixbox".into()), 80)),
            (":80", tcp(Host::Any, 80)),
        ] {
            assert_eq!(read(text), Ok(expected), "for {text}");
        }
    }

    #[test]
    fn options_are_read_in_any_case_and_order() {
        let plain = tcp(Host::Any, 80);
        let nonblocking = BindSpec { nonblocking: true, ..plain.clone() };
        let named = BindSpec { name: Some("Web Front".into()), ..nonblocking.clone() };
        assert_eq!(read(":80,r"), Ok(plain.clone()));
        assert_eq!(read(":80,SO_REUSEADDR,R"), Ok(plain));
        assert_eq!(read(":80,n"), Ok(nonblocking.clone()));
        assert_eq!(read(":80,R,O_NonBlock"), Ok(nonblocking));
        assert_eq!(read(":80,Name=Web Front,n"), Ok(named));
    }

    #[test]
    fn unknown_options_may_be_ignored_and_nothing_else() {
        let lenient =
            |text: &str| BindSpec::parse_ignoring_unknown_options(text).map_err(|error| error.to_string());
        assert_eq!(lenient(":80,x,N,a=b,"), Ok(BindSpec { nonblocking: true, ..tcp(Host::Any, 80) }));
        for text in ["80", ":x", ":80,name=a:b"] {
            assert_eq!(lenient(text), read(text));
            assert!(lenient(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let long_name = format!(":80,name={}", "x".repeat(256));
        for (text, message) in [
            ("", r#"bad bind address "": it is empty; write ADDR:PORT, or :PORT for every address"#),
            (",n", r#"bad bind address ",n": it is empty; write ADDR:PORT, or :PORT for every address"#),
            (
                "8080",
                r#"bad bind address "8080": the port is missing; write ADDR:PORT, or :PORT for every address"#,
            ),
            (
                "127.0.0.1:",
                r#"bad bind address "127.0.0.1:": the port is missing; write ADDR:PORT, or :PORT for every address"#,
            ),
            (
                "[::1]",
                r#"bad bind address "[::1]": the port is missing; write ADDR:PORT, or :PORT for every address"#,
            ),
            ("h:http", r#"bad bind address "h:http": "http" is no port; a port is a number from 0 to 65535"#),
            ("h:+80", r#"bad bind address "h:+80": "+80" is no port; a port is a number from 0 to 65535"#),
            (
                "h:65536",
                r#"bad bind address "h:65536": "65536" is no port; a port is a number from 0 to 65535"#,
            ),
            ("::1:80", r#"bad bind address "::1:80": an IPv6 address stands in brackets, as in [::1]:80"#),
            ("fe80::", r#"bad bind address "fe80::": an IPv6 address stands in brackets, as in [fe80::]:80"#),
            (
                "a:b:80",
                r#"bad bind address "a:b:80": "a:b" is neither an address nor a host name; :PORT binds every address"#,
            ),
            (
                "[::1:80",
                r#"bad bind address "[::1:80": "[::1:80" is no IPv6 address in brackets; write it as in [::1]:80"#,
            ),
            (
                "[127.0.0.1]:80",
                r#"bad bind address "[127.0.0.1]:80": "[127.0.0.1]:80" is no IPv6 address in brackets; write it as in [::1]:80"#,
            ),
            (
                "[::1]80",
                r#"bad bind address "[::1]80": "[::1]80" is no IPv6 address in brackets; write it as in [::1]:80"#,
            ),
            (
                "127.1:80",
                r#"bad bind address "127.1:80": "127.1" is no IPv4 address; it has four numbers from 0 to 255, as in 127.0.0.1"#,
            ),
            (
                "*:80",
                r#"bad bind address "*:80": "*" is neither an address nor a host name; :PORT binds every address"#,
            ),
            (
                "\n:80",
                r#"bad bind address "\n:80": "\n" is neither an address nor a host name; :PORT binds every address"#,
            ),
            (
                "unix:/run/web.sock",
                r#"bad bind address "unix:/run/web.sock": "unix:" is not a kind of address that this version binds; it binds ADDR:PORT"#,
            ),
            (
                "UDP:127.0.0.1:53",
                r#"bad bind address "UDP:127.0.0.1:53": "udp:" is not a kind of address that this version binds; it binds ADDR:PORT"#,
            ),
            (
                "fd:3",
                r#"bad bind address "fd:3": "fd:" is not a kind of address that this version binds; it binds ADDR:PORT"#,
            ),
            (
                ":80,x",
                r#"bad bind address ":80,x": "x" is no option of it; there are n (or o_nonblock), r (or so_reuseaddr) and name=NAME"#,
            ),
            (
                ":80,",
                r#"bad bind address ":80,": "" is no option of it; there are n (or o_nonblock), r (or so_reuseaddr) and name=NAME"#,
            ),
            (
                ":80,n=1",
                r#"bad bind address ":80,n=1": "n=1" is no option of it; there are n (or o_nonblock), r (or so_reuseaddr) and name=NAME"#,
            ),
            (
                ":80,name=a:b",
                r#"bad bind address ":80,name=a:b": "a:b" is no name for a socket; one has 1 to 255 printable ASCII characters without a colon"#,
            ),
            (
                ":80,name=",
                r#"bad bind address ":80,name=": "" is no name for a socket; one has 1 to 255 printable ASCII characters without a colon"#,
            ),
            (":80,name=a,name=b", r#"bad bind address ":80,name=a,name=b": it has two names"#),
        ] {
            assert_eq!(read(text).unwrap_err(), message);
        }
        assert!(read(&long_name).unwrap_err().contains("1 to 255"));
        assert!(read(&long_name[..long_name.len() - 1]).is_ok());
    }

    fn any_spec() -> impl Strategy<Value = BindSpec> {
        let host = prop_oneof![
            Just(Host::Any),
            any::<[u8; 4]>().prop_map(|ip| Host::Ip(ip.into())),
            any::<[u16; 8]>().prop_map(|ip| Host::Ip(ip.into())),
            "[a-z][a-z0-9.-]{4,20}".prop_map(Host::Name),
        ];
        let name = proptest::option::of("[ -+\\--9;-~]{1,255}");
        (host, any::<u16>(), any::<bool>(), name).prop_map(|(host, port, nonblocking, name)| BindSpec {
            address: BindAddress::Tcp { host, port },
            nonblocking,
            name,
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = read(&text);
        }

        #[test]
        fn whatever_looks_like_an_address_is_read_or_refused(text in "[\\[\\]:.,0-9a-fnr=]{0,24}") {
            if let Ok(spec) = read(&text) {
                prop_assert_eq!(read(&spec.to_string()), Ok(spec));
            }
        }

        #[test]
        fn what_is_written_can_be_read(spec in any_spec()) {
            prop_assert_eq!(read(&spec.to_string()), Ok(spec));
        }
    }
}
