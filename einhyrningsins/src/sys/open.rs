//! Opens and reads files: those in directories that others may write to, and small ones of the kernel.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
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
/// The beginning of a small file of `/proc` or `/sys`, as much as fits into `buffer`. The kernel makes its text when it is
/// read, and gives all of it at once, so it takes no more than three calls.
///
/// # Errors
/// Those of `open(2)` and `read(2)`.
pub fn read_start<'a>(path: &Path, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = File::open(path)?.read(buffer)?;
    Ok(&buffer[..length])
}
