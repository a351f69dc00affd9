//! einhorn's form of a line: a YAML document with its newlines escaped.
//!
//! It reads no more YAML than requests and replies need: maps, lists and scalars, within limits. It writes ASCII that
//! the YAML readers of all of einhorn's clients understand alike.

mod escape;
#[cfg(feature = "yaml")]
mod read;
mod write;

pub(crate) use escape::escape_into;
#[cfg(feature = "yaml")]
pub(crate) use escape::unescape;
#[cfg(feature = "yaml")]
pub(crate) use read::{Limits, read};
#[cfg(feature = "yaml")]
pub use read::{NotYaml, YAML_BYTES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};
pub use write::yaml_scalar;
