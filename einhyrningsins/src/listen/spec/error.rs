//! Errors in the text of `-b`.

use super::options::BindOption;

/// A text that is not a [`BindSpec`](super::BindSpec).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad bind address \"{}\": {kind}", .spec.escape_debug())]
pub struct BindSpecError {
    pub spec: String,
    pub kind: BindSpecErrorKind,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindSpecErrorKind {
    #[error("it is empty; give ADDR:PORT, or :PORT for every address")]
    Empty,
    /// An address as other programs write it.
    #[error("did you mean {}?", .form.escape_debug())]
    OtherForm {
        /// The same address as `-b` takes it.
        form: String,
    },
    /// There is no colon, or nothing after it.
    #[error("the port is missing; give ADDR:PORT, or :PORT for every address")]
    NoPort,
    /// The port is not a number, or too large.
    #[error("\"{}\" is not a port; give a number from 0 to 65535", .port.escape_debug())]
    BadPort { port: String },
    /// An IPv6 address without brackets, whose port is ambiguous.
    #[error("an IPv6 address needs brackets, as in {example}")]
    NoBrackets {
        /// What may have been meant.
        example: String,
    },
    /// The text in brackets is not an IPv6 address, or the brackets are not closed.
    #[error("\"{}\" is not an IPv6 address in brackets; write it as in [::1]:80", .host.escape_debug())]
    BadIpv6 { host: String },
    /// Digits and dots that are not an IPv4 address.
    #[error("\"{host}\" is not an IPv4 address; give four numbers from 0 to 255, as in 127.0.0.1")]
    BadIpv4 { host: String },
    /// Neither an address nor a host name.
    #[error("\"{}\" is neither an address nor a host name; :PORT binds every address", .host.escape_debug())]
    BadHost { host: String },
    /// The path or name of a Unix socket is missing.
    #[error("the path is missing; give {kind}:PATH, or {kind}:@NAME for a socket without a file")]
    NoPath {
        /// The word before the colon.
        kind: &'static str,
    },
    /// A Unix socket cannot have this path or name.
    #[error("\"{}\" cannot be the name of a Unix socket: {why}", .name.escape_debug())]
    BadPath { name: String, why: &'static str },
    /// Not a descriptor number.
    #[error("\"{}\" is not a descriptor that can be passed; give fd:N with N at least 3", .number.escape_debug())]
    BadFd { number: String },
    #[error("unknown option \"{}\"; valid options: {known}", .option.escape_debug())]
    UnknownOption {
        option: String,
        /// The options of such a socket.
        known: String,
    },
    /// The option does not apply to such a socket.
    #[error("\"{option}\" does not apply to {socket}; it is for {fitting}")]
    Misplaced {
        option: &'static str,
        socket: &'static str,
        /// The sockets that the option is for.
        fitting: &'static str,
    },
    /// The option lacks its value.
    #[error("\"{option}\" needs a value: {option}=VALUE")]
    NoValue { option: &'static str },
    /// An option without value has one.
    #[error("\"{option}\" takes no value")]
    NoValueTaken { option: &'static str },
    /// The option does not take this value.
    #[error("bad value \"{}\" for \"{option}\"; it takes {wants}", .value.escape_debug())]
    BadValue {
        option: &'static str,
        value: String,
        /// The values that the option takes.
        wants: &'static str,
    },
    /// A name that `LISTEN_FDNAMES` cannot hold.
    #[error(
        "bad socket name \"{}\"; give 1 to 255 printable ASCII characters without a colon",
        .name.escape_debug()
    )]
    BadSocketName { name: String },
    /// An option with a value is given more than once.
    #[error("\"{option}\" is given twice")]
    Twice { option: &'static str },
}

impl BindSpecErrorKind {
    pub(super) fn unknown(option: &str, origin: super::Origin) -> Self {
        Self::UnknownOption { option: option.to_owned(), known: BindOption::list(origin) }
    }
}
