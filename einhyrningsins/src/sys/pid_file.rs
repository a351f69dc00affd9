//! The pid file, in which other programs find the master's pid.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::unistd::{AccessFlags, Pid, getpid};
use serde::{Deserialize, Serialize};

use super::access::check_access;
use super::inherit::Owner;
use super::process::is_alive;
use crate::forms;

/// More than a pid and a newline take, in bytes.
pub(super) const CONTENT_BYTES_MAX: u64 = 32;

/// A file that holds this process's pid. Dropping it removes the file if it still holds our pid and this process is its
/// [`Owner`]; a forked child that drops it changes nothing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PidFile {
    #[serde(with = "forms::written")]
    path: PathBuf,
    #[serde(skip)]
    owner: Owner,
    #[serde(skip)]
    replaced: Option<Pid>,
}

/// The content of a pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PidForm {
    /// The pid and a newline.
    Line,
    /// The pid without a newline, as einhorn writes it.
    Bare,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidFileError {
    /// The path leads to something that we must not replace.
    #[error("cannot write the pid file {}: it is not a regular file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("cannot write the pid file {}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl PidFile {
    /// Writes the file with mode 0644, atomically: nobody reads half of it.
    ///
    /// An existing file is replaced, whatever it contains. Pids are reused, and a file left by a crash or by
    /// the previous boot must not keep the master from starting. The lock of the control socket (or `-f`) keeps
    /// two masters apart. If the file names another process that is alive, [`replaced`](Self::replaced) returns
    /// it, for a warning.
    ///
    /// # Errors
    /// [`PidFileError`]; nothing is left behind.
    pub fn write(path: &Path, form: PidForm) -> Result<Self, PidFileError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let own = getpid();
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => return Err(PidFileError::NotAFile { path }),
            _ => {}
        }
        let replaced = read_pid(&path).filter(|pid| *pid != own && is_alive(*pid));
        match write_and_rename(&path, own, form) {
            Ok(()) => Ok(Self { path, owner: Owner::maker(), replaced }),
            Err(source) => Err(PidFileError::Io { path, source }),
        }
    }

    /// Checks that [`Self::write`] would work, and leaves what is there.
    ///
    /// # Errors
    /// [`PidFileError`].
    pub fn check(path: &Path) -> Result<(), PidFileError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => return Err(PidFileError::NotAFile { path }),
            _ => {}
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        check_access(AT_FDCWD, directory, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|errno| PidFileError::Io { path: path.clone(), source: errno.into() })
    }

    /// The live process that the file named before we replaced it.
    pub fn replaced(&self) -> Option<Pid> {
        self.replaced
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.owner.removes() && read_pid(&self.path) == Some(getpid()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write_and_rename(path: &Path, pid: Pid, form: PidForm) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let temporary = path.with_file_name(format!(".{}.{pid}.tmp", name.display()));
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
    let mut file = match create() {
        // An earlier process with our pid left it; that process is gone and will not finish it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary)?;
            create()?
        }
        result => result?,
    };
    let content = match form {
        PidForm::Line => format!("{pid}\n"),
        PidForm::Bare => pid.to_string(),
    };
    let written = file.write_all(content.as_bytes()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The pid that a regular file holds. In a directory that others can write to, anything may have taken its place: a FIFO
/// without a writer, a link to a file without an end.
fn read_pid(path: &Path) -> Option<Pid> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let is_regular = file.metadata().is_ok_and(|found| found.is_file());
    let mut content = String::new();
    is_regular.then(|| file.take(CONTENT_BYTES_MAX).read_to_string(&mut content).ok())??;
    parse_pid(&content)
}

/// Reads a pid, with or without a newline.
pub(super) fn parse_pid(content: &str) -> Option<Pid> {
    let digits = content.trim_end();
    let pid = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i32>().ok())??;
    (pid > 0).then(|| Pid::from_raw(pid))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::sys::testing::{fill_disk, isolated};

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn it_holds_the_pid_and_is_removed_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.pid");
        let file = PidFile::write(&path, PidForm::Line).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", getpid()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o022, 0);
        assert_eq!(names(directory.path()), ["web.pid"]);
        assert_eq!(file.replaced(), None);
        drop(file);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn the_bare_form_is_removed_with_its_owner_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.pid");
        let file = PidFile::write(&path, PidForm::Bare).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), getpid().to_string());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn an_existing_file_is_replaced_and_a_live_process_in_it_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.pid");
        let parent = nix::unistd::getppid();
        for (content, replaced) in
            [(format!("{parent}"), Some(parent)), ("2147483646\n".into(), None), ("nonsense".into(), None)]
        {
            fs::write(&path, &content).unwrap();
            let file = PidFile::write(&path, PidForm::Line).unwrap();
            assert_eq!(file.replaced(), replaced, "for {content}");
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", getpid()));
        }
    }

    #[test]
    fn a_file_that_names_another_process_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.pid");
        let file = PidFile::write(&path, PidForm::Line).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn whatever_took_the_place_of_the_file_is_left_alone_and_waited_for_by_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.pid");
        for put in [
            |path: &Path| mkfifo(path, Mode::S_IRWXU).unwrap(),
            |path: &Path| symlink("/dev/zero", path).unwrap(),
            |path: &Path| fs::write(path, format!("{}{}", getpid(), " ".repeat(100_000))).unwrap(),
        ] {
            let file = PidFile::write(&path, PidForm::Line).unwrap();
            fs::remove_file(&path).unwrap();
            put(&path);
            let content_is_long = fs::symlink_metadata(&path).unwrap().len() > CONTENT_BYTES_MAX;
            drop(file);
            assert_eq!(fs::symlink_metadata(&path).is_ok(), !content_is_long);
            let _ = fs::remove_file(&path);
        }
    }

    #[test]
    fn a_forked_child_does_not_remove_its_parents_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.pid");
        let mut file = PidFile::write(&path, PidForm::Line).unwrap();
        file.owner = Owner::parent();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn anything_but_a_regular_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("target"), "precious").unwrap();
        symlink(path("target"), path("link")).unwrap();
        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        fs::create_dir(path("directory")).unwrap();
        for name in ["link", "fifo", "directory"] {
            let error = PidFile::write(&path(name), PidForm::Line).unwrap_err();
            assert!(matches!(error, PidFileError::NotAFile { .. }), "{error}");
        }
        assert_eq!(names(directory.path()), ["directory", "fifo", "link", "target"]);
        assert_eq!(fs::read_to_string(path("target")).unwrap(), "precious");
        let error = PidFile::write(&path("no/web.pid"), PidForm::Line).unwrap_err();
        let expected = format!(
            "cannot write the pid file {}: No such file or directory (os error 2)",
            path("no/web.pid").display()
        );
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), expected);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        isolated("sys::pid_file::tests::a_full_disk_leaves_the_old_file", || {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("web.pid");
            fs::write(&path, "1\n").unwrap();
            fill_disk();
            let error = PidFile::write(&path, PidForm::Line).unwrap_err();
            assert!(matches!(error, PidFileError::Io { .. }), "{error}");
            assert_eq!(names(directory.path()), ["web.pid"]);
            assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        });
    }

    #[test]
    fn only_a_plain_pid_is_read() {
        assert_eq!(parse_pid("42"), Some(Pid::from_raw(42)));
        assert_eq!(parse_pid("42\n"), Some(Pid::from_raw(42)));
        for content in ["", "\n", "0", "-1", "+1", "4 2", " 42", "99999999999", "x"] {
            assert_eq!(parse_pid(content), None, "for {content}");
        }
    }
}
