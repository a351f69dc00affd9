//! Where a server listens, written as the daemon's `-b` writes it, without options.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::str::FromStr;

/// The address of a server.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// As it was written.
    text: String,
    pub(super) place: Place,
}

/// What to connect to.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// These, in order, up to the first that accepts.
    Tcp(Vec<SocketAddr>),
    /// A host to look up, and a port.
    Named(String, u16),
    Unix(UnixAddr),
}

/// Why a text is no address of a server that can be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("\"{0}\" is no address; give HOST:PORT, [IPV6]:PORT, unix:PATH or unix:@NAME")]
    Unknown(String),
    #[error("\"{0}\" has no HTTP; give the address of a TCP or a Unix stream socket")]
    NotHttp(String),
    #[error("\"{0}\" is a host without a port; give {0}:PORT")]
    NoPort(String),
    #[error("\"{0}\" is not a port that one can connect to; give a number from 1 to 65535")]
    BadPort(String),
    #[error("\"{text}\" cannot be the path or the name of a socket")]
    BadPath { text: String, source: io::Error },
}

impl Address {
    /// What a request names as its host: the address, or for a Unix socket `localhost`.
    pub(super) fn host(&self) -> String {
        match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Tcp(_) if self.text.starts_with(':') => format!("localhost{}", self.text),
            Place::Tcp(_) | Place::Named(..) => self.text.clone(),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let place = match kind.to_ascii_lowercase().as_str() {
            "unix" => unix(rest)?,
            "udp" | "seqpacket" | "unix-datagram" | "fd" | "systemd" => {
                return Err(AddressError::NotHttp(text.to_owned()));
            }
            _ => inet(text)?,
        };
        Ok(Self { text: text.to_owned(), place })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A path, or `@` and a name. `\,` is a comma and `\\` a backslash; because no options can follow, a bare comma is one too.
fn unix(text: &str) -> Result<Place, AddressError> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        let escaped = if letter == '\\' { rest.next_if(|next| matches!(next, ',' | '\\')) } else { None };
        plain.push(escaped.unwrap_or(letter));
    }
    let address = match plain.strip_prefix('@') {
        Some("") => Err(io::ErrorKind::InvalidInput.into()),
        Some(name) => UnixAddr::from_abstract_name(name),
        // An address without a path exists, but nobody listens at it.
        None if plain.is_empty() => Err(io::ErrorKind::InvalidInput.into()),
        None => UnixAddr::from_pathname(&plain),
    };
    let bad = |source| AddressError::BadPath { text: text.to_owned(), source };
    Ok(Place::Unix(address.map_err(bad)?))
}

fn inet(text: &str) -> Result<Place, AddressError> {
    let unknown = || AddressError::Unknown(text.to_owned());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ if is_host(text) || text.starts_with('[') && text.ends_with(']') => {
            return Err(AddressError::NoPort(text.to_owned()));
        }
        _ => return Err(unknown()),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bracketed.is_none() && !host.is_empty() && !is_host(host) {
        return Err(unknown());
    }
    // `parse` alone would accept "+80".
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { port.parse().ok().filter(|port| *port != 0) } else { None };
    let port: u16 = number.ok_or_else(|| AddressError::BadPort(port.to_owned()))?;
    Ok(match (bracketed, host.parse::<Ipv4Addr>()) {
        (Some(host), _) => {
            let ip: Ipv6Addr = host.parse().map_err(|_| unknown())?;
            Place::Tcp(vec![(ip, port).into()])
        }
        (None, Ok(ip)) => Place::Tcp(vec![(ip, port).into()]),
        // Every address, of one family or of both.
        (None, Err(_)) if host.is_empty() => {
            Place::Tcp(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
        }
        (None, Err(_)) => Place::Named(host.to_owned(), port),
    })
}

/// Whether the text may be a name or an IPv4 address.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse::<Address>().unwrap_or_else(|error| panic!("{text}: {error}")).place
    }

    #[test]
    fn tcp_addresses_are_read() {
        for (text, expected) in [
            ("127.0.0.1:80", &["127.0.0.1:80"][..]),
            ("[::1]:8000", &["[::1]:8000"]),
            ("0.0.0.0:1", &["0.0.0.0:1"]),
            (":80", &["127.0.0.1:80", "[::1]:80"]),
        ] {
            let Place::Tcp(addresses) = place(text) else { panic!("{text}") };
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, expected, "{text}");
        }
        assert!(matches!(place("localhost:80"), Place::Named(host, 80) if host == "localhost"));
        assert!(matches!(place("web_1.example.org:80"), Place::Named(..)));
    }

    #[test]
    fn unix_sockets_are_read() {
        for (text, path) in [
            ("unix:/run/a", "/run/a"),
            ("UNIX:a", "a"),
            (r"unix:/run/a\,b\\c", r"/run/a,b\c"),
            (r"unix:/run/a,b\c", r"/run/a,b\c"),
        ] {
            let Place::Unix(address) = place(text) else { panic!("{text}") };
            assert_eq!(address.as_pathname().unwrap().to_str().unwrap(), path, "{text}");
        }
        let Place::Unix(address) = place("unix:@web") else { panic!() };
        assert_eq!(address.as_abstract_name().unwrap(), b"web");
    }

    #[test]
    fn other_texts_are_refused_with_what_to_give() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, part) in [
            ("", "is no address; give HOST:PORT"),
            ("/run/a", "is no address"),
            ("http://127.0.0.1:80", "is no address"),
            ("::1:80", "is no address"),
            ("[nonsense]:80", "is no address"),
            ("a b:80", "is no address"),
            ("127.0.0.1:80,nodelay", "is not a port"),
            ("localhost", "is a host without a port; give localhost:PORT"),
            ("[::1]", "is a host without a port; give [::1]:PORT"),
            ("localhost:", "is not a port"),
            ("localhost:+80", "is not a port"),
            ("localhost:0", "from 1 to 65535"),
            ("localhost:65536", "from 1 to 65535"),
            ("udp:127.0.0.1:80", "has no HTTP"),
            ("seqpacket:/run/a", "has no HTTP"),
            ("systemd", "has no HTTP"),
            ("fd:3", "has no HTTP"),
            ("unix:", "cannot be the path"),
            ("unix:@", "cannot be the path"),
            (&long, "cannot be the path"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_request_names_the_address_as_its_host() {
        for (text, host) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("example.org:80", "example.org:80"),
            (":80", "localhost:80"),
            ("unix:/run/a", "localhost"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().host(), host);
        }
    }
}
