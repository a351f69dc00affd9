//! What can be wrong with what `-b` says, in words.

use super::options::BindOption;

/// A text that is no [`BindSpec`](super::BindSpec).
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
    /// No path or name of a Unix socket.
    #[error("the path is missing; write {kind}:PATH, or {kind}:@NAME for a socket that is no file")]
    NoPath {
        /// The kind, as it is written.
        kind: &'static str,
    },
    /// A path or name that no Unix socket can have.
    #[error("\"{}\" cannot be the name of a Unix socket: {why}", .name.escape_debug())]
    BadPath {
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// What should be the number of a descriptor is none.
    #[error("\"{}\" is no descriptor that can be passed; write fd:N with a number from 3", .number.escape_debug())]
    BadFd {
        /// What stands in its place.
        number: String,
    },
    /// No such option.
    #[error("\"{}\" is no option of it; there are {known}", .option.escape_debug())]
    UnknownOption {
        /// What stands in its place.
        option: String,
        /// Those that there are for such a socket.
        known: String,
    },
    /// An option that such a socket cannot have.
    #[error("\"{option}\" makes no sense for {socket}; it is for {fitting}")]
    Misplaced {
        /// The option.
        option: &'static str,
        /// What the socket is.
        socket: &'static str,
        /// What the option is for.
        fitting: &'static str,
    },
    /// An option without its value.
    #[error("\"{option}\" has no value; write {option}=VALUE")]
    NoValue {
        /// The option.
        option: &'static str,
    },
    /// An option that takes no value has one.
    #[error("\"{option}\" takes no value")]
    NoValueTaken {
        /// The option.
        option: &'static str,
    },
    /// A value that its option does not take.
    #[error("\"{}\" is no value of \"{option}\"; it takes {wants}", .value.escape_debug())]
    BadValue {
        /// The option.
        option: &'static str,
        /// The value.
        value: String,
        /// What it takes.
        wants: &'static str,
    },
    /// A name that `LISTEN_FDNAMES` cannot hold.
    #[error(
        "\"{}\" is no name for a socket; one has 1 to 255 printable ASCII characters without a colon",
        .name.escape_debug()
    )]
    BadSocketName {
        /// What stands in its place.
        name: String,
    },
    /// An option that has a value was given more than once.
    #[error("\"{option}\" is given twice")]
    Twice {
        /// The option.
        option: &'static str,
    },
}

impl BindSpecErrorKind {
    pub(super) fn unknown(option: &str, origin: super::Origin) -> Self {
        Self::UnknownOption { option: option.to_owned(), known: BindOption::list(origin) }
    }
}
