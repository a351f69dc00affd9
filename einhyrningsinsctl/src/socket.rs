//! The path of the control socket.

use std::path::PathBuf;

use crate::error::Error;

/// The longest socket path, in bytes: `sun_path` of `unix(7)` has 108, and one is for the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Returns `path` if it is short enough for the system.
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
