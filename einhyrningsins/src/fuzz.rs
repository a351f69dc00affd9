//! The parsers that read what others have written, for `tests/fuzz`. Each panics where it finds a fault.

use std::ffi::OsString;
use std::str::from_utf8;

use crate::cli::{self, Merged, OptionLine};
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

/// A file of --options-file, beneath a command line that names a program and nothing else. Each line has one option.
///
/// # Panics
/// If it has not.
pub fn options(text: &[u8]) {
    let Some(Ok(lines)) = from_utf8(text).ok().map(OptionLine::read_all) else { return };
    let numbers: Vec<_> = cli::values(&lines).into_values().flat_map(|(_, numbers)| numbers).collect();
    assert_eq!(numbers.len(), lines.len());
    let count = text.split(|byte| *byte == b'\n').count();
    assert!(numbers.iter().all(|number| (1..=count).contains(number)));
    let _ =
        Merged::new(&["einhyrningsins", "server"].map(OsString::from), &lines).map(|merged| merged.args());
}

/// A file of --history. What was understood is understood again as it is written.
///
/// # Panics
/// If it is not.
pub fn history(text: &[u8]) {
    let rollouts = master::parse_history(text);
    let written: Vec<_> =
        rollouts.iter().map(|rollout| serde_json::to_string(rollout).expect("JSON") + "\n").collect();
    assert_eq!(master::parse_history(written.concat().as_bytes()), rollouts);
}
