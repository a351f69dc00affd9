//! Where the control socket is.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The longest socket path, in bytes: `sun_path` of `unix(7)` has 108, and one is for the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where a master has its socket that was not told where.
pub(crate) fn default_path(directory: &Path, name: Option<&str>) -> PathBuf {
    match name {
        None => directory.join("einhorn.sock"),
        Some(name) => directory.join(format!("einhorn-{name}.sock")),
    }
}

/// Lets a path through that the system can connect to.
///
/// # Errors
/// [`Error::PathTooLong`].
pub(crate) fn check(path: PathBuf) -> Result<PathBuf, Error> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        return Err(Error::PathTooLong { path, length, max: SOCKET_PATH_BYTES_MAX });
    }
    Ok(path)
}

/// Reads the name of a master, which becomes part of a file name.
pub(crate) fn master_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        _ if text.contains('/') => Err("a name has no \"/\"; give a path with -d".to_owned()),
        _ => Ok(text.to_owned()),
    }
}
