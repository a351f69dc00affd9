//! The master's own replacement: what one image writes down and the next reads.

pub mod forms;

/// The version of the format.
pub const FORMAT: u32 = 1;
