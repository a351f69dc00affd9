//! The names under which `serve` answers.
//!
//! A page of anybody may send a browser to this server under a name of its own, which then resolves to this machine (DNS
//! rebinding), and read what is answered. The browser gives that name as the host of its requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::StatusCode;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::listen::is_loopback;

/// The names of hosts that requests may give, beside those of loopback addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// # Errors
    /// The status of the answer, and why, if the request names no host, several, or one that is not known here.
    pub(super) fn check(&self, request: &Parts) -> Result<(), (StatusCode, String)> {
        let bad = |why: &str| Err((StatusCode::BAD_REQUEST, why.to_owned()));
        let mut given = request.headers.get_all(HOST).iter();
        let (Some(host), None) = (given.next(), given.next()) else {
            return bad("a request names exactly one host");
        };
        let Ok(host) = host.to_str() else { return bad("the name of the host is not readable") };
        // A request to a proxy names the host in its first line too.
        let target = request.uri.authority().map(Authority::as_str);
        for given in [Some(host), target].into_iter().flatten() {
            if !name_of(given).is_some_and(|name| self.knows(&name)) {
                let why =
                    format!("no requests to the host \"{given}\" here; --host of serve names more hosts");
                return Err((StatusCode::FORBIDDEN, why));
            }
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        let ip = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(name) => name.parse().ok().map(|ip: Ipv6Addr| IpAddr::V6(ip)),
            None => name.parse().ok().map(|ip: Ipv4Addr| IpAddr::V4(ip)),
        };
        name == "localhost" || ip.is_some_and(is_loopback) || self.0.iter().any(|known| known == name)
    }
}

/// Reads the value of `--host`: as [`name_of`] has it, and without a port.
///
/// # Errors
/// What to give.
pub(crate) fn parse_host(text: &str) -> Result<String, String> {
    match name_of(text) {
        Some(name) if name == text.to_ascii_lowercase() => Ok(name),
        Some(name) => Err(format!("give {name}, without a port")),
        None => Err("give the name of a host, an IPv4 address, or an IPv6 address in brackets".to_owned()),
    }
}

/// The name or the address in a host with or without a port, in small letters; that of IPv6 has its brackets.
fn name_of(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let name_end = match host.find(']') {
        Some(end) if host.starts_with('[') => end + 1,
        Some(_) => return None,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(name_end);
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    is_name.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn status(uri: &str, hosts: &[&str]) -> u16 {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (request, ()) = request.body(()).unwrap().into_parts();
        let known = Hosts::new(vec!["ops.example.org".to_owned(), "10.0.0.5".to_owned()]);
        known.check(&request).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn loopback_names_and_those_of_the_options_are_known() {
        for host in [
            "localhost",
            "LocalHost:9180",
            "127.0.0.1",
            "127.0.0.1:9180",
            "127.1.2.3",
            "[::1]",
            "[::1]:9180",
            "[::ffff:127.0.0.1]:80",
            "ops.example.org",
            "OPS.example.org:443",
            "10.0.0.5:9180",
            "localhost:",
        ] {
            assert_eq!(status("/", &[host]), 200, "{host}");
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        for host in [
            "localhost.evil.com",
            "evil.com",
            "evil.com:9180",
            "localhost@evil.com",
            "evil.com@localhost",
            "evil.com#localhost",
            "localhost evil.com",
            "localhost:80:evil.com",
            "localhost:9180evil",
            "127.0.0.1.evil.com",
            "127.0.0.1.nip.io",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0.0.0.0",
            "10.0.0.6",
            "[::]",
            "[::2]",
            "::1",
            "[::1",
            "[::1]evil",
            "[localhost]",
            "localhost]",
            "ops.example.org.",
            "x.ops.example.org",
            "",
            ":9180",
        ] {
            assert_eq!(status("/", &[host]), 403, "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host_and_its_target_no_other() {
        assert_eq!(status("/", &[]), 400);
        assert_eq!(status("/", &["localhost", "localhost"]), 400);
        assert_eq!(status("/", &["localhost", "evil.com"]), 400);
        assert_eq!(status("http://evil.com/", &["localhost"]), 403);
        assert_eq!(status("http://localhost/", &["evil.com"]), 403);
        assert_eq!(status("http://localhost:9180/", &["localhost"]), 200);
    }

    #[test]
    fn an_option_names_a_host_without_a_port() {
        assert_eq!(parse_host("Ops.Example.org").as_deref(), Ok("ops.example.org"));
        assert_eq!(parse_host("[2001:DB8::5]").as_deref(), Ok("[2001:db8::5]"));
        for text in ["", "ops.example.org:80", "http://ops.example.org", "2001:db8::5", "*", "a b"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }
}
