//! Anonymous files in memory, which carry the state from one image of the master to the next.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The longest content that is read, in bytes: far more than the state of the largest pool.
const CONTENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Creates a close-on-exec file that holds `content`. `name` appears only in `/proc/PID/fd`.
///
/// # Source
/// `memfd_create(2)`.
pub fn memory_file(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(name, flags).map_err(|errno| match errno {
        Errno::ENOSYS | Errno::EPERM => {
            let why = format!("memfd_create: {} (does a seccomp filter refuse it?)", io::Error::from(errno));
            io::Error::new(io::Error::from(errno).kind(), why)
        }
        _ => errno.into(),
    })?;
    let mut file = File::from(fd);
    file.write_all(content).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EFBIG) => io::Error::other(format!(
            "its {} bytes are more than a file of this process may have (ulimit -f, LimitFSIZE=)",
            content.len()
        )),
        _ => error,
    })?;
    Ok(file.into())
}

/// Like [`memory_file`], and sealed: nobody can change it any more.
pub fn sealed_file(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let fd = memory_file(name, content)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(fd)
}

/// Reads the whole content from the beginning, and leaves the file's position unchanged.
///
/// # Errors
/// EFBIG if it is longer than any state; EBADF and the like if it is not such a file.
pub fn content(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    let bytes = file.metadata()?.len();
    if bytes > CONTENT_BYTES_MAX {
        return Err(Errno::EFBIG.into());
    }
    let mut content = vec![0; usize::try_from(bytes).map_err(|_| Errno::EFBIG)?];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// Reads what was written behind the first `start` bytes, at most `bytes_max`; leaves the file's position unchanged.
pub fn content_behind(fd: impl AsFd, start: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = File::from(fd.as_fd().try_clone_to_owned()?);
    let bytes = file.metadata()?.len().saturating_sub(start);
    let mut content = vec![0; usize::try_from(bytes).map_or(bytes_max, |bytes| bytes.min(bytes_max))];
    file.read_exact_at(&mut content, start)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_can_be_read_repeatedly_and_never_changed() {
        let fd = sealed_file("state", b"all of it").unwrap();
        assert_eq!(content(&fd).unwrap(), b"all of it");
        assert_eq!(content(&fd).unwrap(), b"all of it");
        let file = File::from(fd);
        let refused = |error: io::Error| error.raw_os_error() == Some(Errno::EPERM as i32);
        assert!(refused(file.write_at(b"x", 0).unwrap_err()));
        assert!(refused(file.write_at(b"x", 9).unwrap_err()));
        assert!(refused(file.set_len(3).unwrap_err()));
    }

    #[test]
    fn an_unsealed_file_can_be_written_to() {
        let fd = memory_file("check", b"state").unwrap();
        File::from(fd.try_clone().unwrap()).write_at(b" read", 5).unwrap();
        assert_eq!(content(&fd).unwrap(), b"state read");
        assert_eq!(content_behind(&fd, 5, 9).unwrap(), b" read");
        assert_eq!(content_behind(&fd, 5, 3).unwrap(), b" re");
        assert_eq!(content_behind(&fd, 99, 3).unwrap(), b"");
    }
}
