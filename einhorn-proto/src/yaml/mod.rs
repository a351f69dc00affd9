//! einhorn's form of a line: a YAML document with its newlines escaped.
//!
//! Only what a request or a reply can be is read: maps, lists and scalars, behind limits. What is written is
//! ASCII, and says the same to each reader that einhorn's clients have.

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
