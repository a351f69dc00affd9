//! `probe`: checks a server by HTTP requests, for `--check` and for scripts.
//!
//! It asks the server, never a master. The first failure is final: when a check runs, its server has already said that it
//! takes traffic.

use std::env;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use einhorn_proto::{Seconds, visible_line};
use serde_json::json;
use serde_json::value::to_raw_value;

use super::line::Line;
use super::{Context, Own, Typed};
use crate::error::{Error, with_causes};
use crate::http::{
    self, Address, Answer, BODY_BYTES_MAX, Get, HeaderMap, HeaderName, HeaderValue, LOCATION, PathAndQuery,
    StatusCode,
};
use crate::interrupt::Interrupts;

const NAME: &str = "probe";

pub(super) const OWN: Own = Own::of::<Probe>(NAME, "Check a server over HTTP", DETAILS);

const DETAILS: &str = "\
Sends a GET request to the server itself; no master is needed. Exits with 0 if the status of the answer is 2xx, or the one of \
--status, and its body contains the text of --contains. Otherwise exits with 1 and prints the request, what was wrong and \
the beginning of the body. --timeout limits each request, from before it connects; its default is 5 here. Does not retry, follow redirects or speak TLS; use curl for these.";

/// A check has the addresses of its server in the variables that begin so; the number of the address follows.
const ADDRESS_VARIABLE: &str = "EINHORN_CHECK_ADDR_";

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How much the message of a failure shows of a body, or of where a redirect leads, in bytes.
const SHOWN_BYTES: usize = 400;

/// A limit against slips: each request is a connection that the server must accept.
const TIMES_MAX: i64 = 10_000;

#[derive(Debug, clap::Args)]
struct Probe {
    /// Path to request, such as http:/healthz
    #[arg(value_name = "http:/PATH", value_parser = parse_target)]
    target: PathAndQuery,

    /// Address of the server as -b takes it, such as 127.0.0.1:8000 or unix:/run/web.sock; or N, for the address in
    /// EINHORN_CHECK_ADDR_N
    #[arg(long, value_name = "N|ADDRESS", default_value = "0")]
    addr: Place,

    /// Require this status, rather than any 2xx
    #[arg(long, value_name = "CODE", value_parser = parse_status)]
    status: Option<StatusCode>,

    /// Require this text in the body, of which at most 1 MiB is read
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    contains: Option<String>,

    /// Send this header, such as "Host: example.org" [default host: the address, or localhost for a Unix socket]
    #[arg(long = "header", value_name = "HEADER", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// Require this many good answers in a row, each on a new connection
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=TIMES_MAX))]
    times: u32,
}

/// Where the server listens, as `--addr` says it.
#[derive(Debug, Clone)]
enum Place {
    /// In the variable of this number.
    Variable(u32),
    Address(Address),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Variable(number));
        }
        text.parse().map(Self::Address).map_err(|error| with_causes(&error))
    }
}

impl Place {
    fn resolve(&self) -> Result<Address, Error> {
        let number = match self {
            Self::Address(address) => return Ok(address.clone()),
            Self::Variable(number) => number,
        };
        let name = format!("{ADDRESS_VARIABLE}{number}");
        let Some(text) = env::var_os(&name) else {
            return Err(Error::Usage(format!(
                "{name} is not set, as it is in a check that a master runs; give --addr ADDRESS"
            )));
        };
        let address = text.to_string_lossy().parse::<Address>();
        address.map_err(|error| Error::Usage(format!("{name}: {}", with_causes(&error))))
    }
}

/// Reads `http:/PATH`.
fn parse_target(text: &str) -> Result<PathAndQuery, String> {
    if text.starts_with('/') {
        return Err(format!("give http:{text}"));
    }
    let (scheme, path) = text.split_once(':').unwrap_or(("", ""));
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => return Err("there is no TLS in this program; use curl".to_owned()),
        _ => return Err("give http:/PATH, such as http:/healthz".to_owned()),
    }
    if let Some(rest) = path.strip_prefix("//") {
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        return Err(format!("an address does not belong here: give http:{path} and --addr ADDRESS"));
    }
    if !path.starts_with('/') {
        return Err("the path begins with a slash, as in http:/healthz".to_owned());
    }
    if path.contains('#') {
        return Err("what is behind a # is not sent to a server".to_owned());
    }
    path.parse().map_err(|_| "a path may have no blanks, and other special characters only as %XX".to_owned())
}

fn parse_status(text: &str) -> Result<StatusCode, String> {
    let status = text.parse().ok().filter(|status: &StatusCode| !status.is_informational());
    status.ok_or_else(|| "give the number of a status, from 200 to 999".to_owned())
}

/// Reads `NAME: VALUE`.
fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("give NAME: VALUE, such as \"Host: example.org\"")?;
    let name = name.parse().map_err(|_| format!("\"{name}\" is no name of a header"))?;
    let value = HeaderValue::from_bytes(value.trim().as_bytes());
    Ok((name, value.map_err(|_| "a value is one line without control characters")?))
}

impl Typed for Probe {
    fn request(&self) -> Option<einhorn_proto::Command> {
        None
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&self, context: &mut Context<'_>) -> Result<(), Error> {
        let address = self.addr.resolve()?;
        let limit = context.answer.timeout.unwrap_or(TIMEOUT);
        let interrupts = Interrupts::watch().map_err(Error::Watch)?;
        let passed = http::run(&interrupts, self.ask(&address, limit));
        let passed = passed.map_err(|error| failure(format!("cannot set up HTTP: {error}"), None))?;
        let passed = passed.ok_or_else(|| Error::Interrupted { command: NAME.to_owned() })??;
        let slowest_ms = u64::try_from(passed.slowest.as_millis()).unwrap_or(u64::MAX);
        let took = Seconds(slowest_ms);
        let how = match self.times {
            1 => format!("in {took}"),
            times => format!("{times} times, the slowest in {took}"),
        };
        let message = format!("{}: {} {how}", self.asked(&address), passed.status);
        if !context.answer.json {
            return context.output.text(&message);
        }
        let data = json!({
            "address": address.to_string(), "path": self.target.as_str(), "status": passed.status.as_u16(),
            "times": self.times, "slowest_ms": slowest_ms,
        });
        context.line(Line::last(self.name(), Some(true), &message), to_raw_value(&data).ok().as_deref())
    }
}

/// Requests that have all passed.
struct Passed {
    /// Of the last one.
    status: StatusCode,
    slowest: Duration,
}

impl Probe {
    /// The request and the server, with which messages begin.
    fn asked(&self, address: &Address) -> String {
        format!("GET {} at {address}", self.target)
    }

    /// Sends the requests, up to the first that does not pass.
    async fn ask(&self, address: &Address, limit: Duration) -> Result<Passed, Error> {
        let headers: HeaderMap = self.headers.iter().cloned().collect();
        let get = Get { target: self.target.clone(), headers };
        let mut passed = Passed { status: StatusCode::OK, slowest: Duration::ZERO };
        for turn in 1..=self.times {
            let asked = match self.times {
                1 => self.asked(address),
                times => format!("{}, request {turn} of {times}", self.asked(address)),
            };
            let begun = Instant::now();
            let answer = get.ask(address, limit).await;
            let answer =
                answer.map_err(|fault| failure(format!("{asked}: {}", with_causes(&fault)), None))?;
            if let Some(why) = self.fault(&answer) {
                return Err(failure(format!("{asked}: {why}"), Some(&answer)));
            }
            passed.status = answer.head.status;
            passed.slowest = passed.slowest.max(begun.elapsed());
        }
        Ok(passed)
    }

    /// Why the answer does not pass.
    fn fault(&self, answer: &Answer) -> Option<String> {
        let status = answer.head.status;
        let (is_right, wanted) = match self.status {
            Some(wanted) => (status == wanted, wanted.as_u16().to_string()),
            None => (status.is_success(), "2xx".to_owned()),
        };
        if !is_right {
            let to = answer.head.headers.get(LOCATION).filter(|_| status.is_redirection());
            let to = to.map(|to| format!("; redirects are not followed: {}", excerpt(to.as_bytes())));
            return Some(format!("status {status}, not {wanted}{}", to.unwrap_or_default()));
        }
        let text = self.contains.as_ref()?;
        if answer.body.windows(text.len()).any(|part| part == text.as_bytes()) {
            return None;
        }
        let body = match answer.is_cut {
            true => format!("the first {BODY_BYTES_MAX} bytes of the body do not contain"),
            false => format!("the body, of {} bytes, does not contain", answer.body.len()),
        };
        Some(format!("status {status}, but {body} \"{}\"", visible_line(text)))
    }
}

/// The error of a probe that did not pass, with the beginning of the body of `answer`.
fn failure(message: String, answer: Option<&Answer>) -> Error {
    let body = answer.map(|answer| answer.body.as_slice()).filter(|body| !body.is_empty());
    let details = body.map(|body| format!("body: {}", excerpt(body)));
    Error::Refused { message, details: details.into_iter().collect() }
}

/// The beginning of what a server has sent, on one line.
fn excerpt(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
    let words: Vec<_> = shown.split_whitespace().collect();
    let more = if bytes.len() > SHOWN_BYTES { "..." } else { "" };
    format!("{}{more}", visible_line(&words.join(" ")))
}
