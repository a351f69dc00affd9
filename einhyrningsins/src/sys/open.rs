//! Opens files in directories that others may write to.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Opens the file at `path`; creates it if there is none.
///
/// In two steps: if O_CREAT is set, the kernel refuses another user's file in a sticky directory such as /tmp, even to
/// root and although its mode allows it.
///
/// # Source
/// `fs.protected_regular` in `proc_sys_fs(5)`.
pub fn open_or_create(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => options.create(true).open(path),
        result => result,
    }
}
