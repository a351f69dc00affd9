//! The parsers that read what others have written, for `tests/fuzz`. Each panics where it finds a fault.

use std::str::from_utf8;

use crate::listen::BindSpec;
use crate::{master, release, sys};

/// The text of a `-b`. What was understood is understood again as it is shown.
///
/// # Panics
/// If it is not.
pub fn bind(text: &[u8]) {
    if let Some(Ok(spec)) = from_utf8(text).ok().map(str::parse::<BindSpec>) {
        assert_eq!(spec.to_string().parse::<BindSpec>().as_ref(), Ok(&spec));
    }
}

/// A file of `--env-file`.
pub fn env_file(text: &[u8]) {
    let _ = release::parse_env_file(text);
}

/// A message to the notify socket.
pub fn notify(text: &[u8]) {
    if let Ok(text) = from_utf8(text) {
        sys::notify::parse(text);
    }
}

/// A state that another image has left.
pub fn state(bytes: &[u8]) {
    let _ = master::parse_state(bytes);
}
