//! The program of the job that writes the history to its file: `einhyrningsins --append-history FILE`, with the lines on standard
//! input.
//!
//! It is a process of its own because a disk may not answer, and the same executable because an image may have no other. It holds a
//! lock of the file while it works: masters may share one.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::unistd::AccessFlags;

use super::ROLLOUTS_MAX;
use crate::sys::access::check_access;
use crate::sys::open::open_or_create;

/// The option that asks for it.
pub(super) const OPTION: &str = "--append-history";

/// With so many lines, the file is written anew with the last [`ROLLOUTS_MAX`]. Source: this program;
/// einhyrningsins(1), HISTORY OF ROLLOUTS.
const LINES_MAX: usize = 200;

/// How the first line of a history begins.
const BEGIN: &[u8] = br#"{"ended_at":"#;

/// Appends the lines on standard input to the file at `path`, and returns the exit code.
///
/// # Errors
/// If that fails, or the file cannot be shortened; no line is cut then.
pub(super) fn append(path: &Path) -> anyhow::Result<u8> {
    let mut lines = Vec::new();
    io::stdin().read_to_end(&mut lines).context("cannot read the lines")?;
    append_lines(path, &lines)?;
    Ok(0)
}

fn append_lines(path: &Path, lines: &[u8]) -> anyhow::Result<()> {
    let mut file = open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    check(&file, size).with_context(|| format!("cannot write to {}", path.display()))?;
    // A crash may have cut the last line.
    let mut last = [b'\n'];
    let _ = file.read_exact_at(&mut last, size.saturating_sub(1));
    let begin = if last == [b'\n'] { &b""[..] } else { b"\n" };
    if let Err(error) = file.write_all(&[begin, lines].concat()).and_then(|()| file.sync_all()) {
        let _ = file.set_len(size);
        return Err(error).with_context(|| format!("cannot write to {}", path.display()));
    }
    if size == 0 {
        // It may be new.
        sync_directory(path).with_context(|| format!("cannot sync the directory of {}", path.display()))?;
    }
    shorten(path, &mut file).with_context(|| format!("cannot shorten {}", path.display()))
}

/// Opens and locks the file that is at `path`, also after another process has put a shorter one there. Where a file system has no
/// locks, masters must not share a file.
fn open(path: &Path) -> io::Result<File> {
    loop {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o640).custom_flags(libc::O_NOCTTY);
        let file = open_or_create(&mut options, path)?;
        let _ = file.lock();
        let [here, there] = [file.metadata()?, fs::metadata(path)?].map(|it| (it.dev(), it.ino()));
        if here == there {
            return Ok(file);
        }
    }
}

/// Refuses what cannot be a history: the file would lose all but its last lines.
fn check(file: &File, size: u64) -> anyhow::Result<()> {
    if !file.metadata()?.is_file() {
        bail!("it is not a file");
    }
    let mut begin = vec![0; BEGIN.len().min(usize::try_from(size).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut begin, 0)?;
    // A crash may have cut it.
    let begin = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if !BEGIN.starts_with(begin) {
        bail!("it is not a history of rollouts");
    }
    Ok(())
}

/// Leaves the last lines, if there are too many.
fn shorten(path: &Path, file: &mut File) -> anyhow::Result<()> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.len() < LINES_MAX {
        return Ok(());
    }
    // Behind a symbolic link.
    let path = fs::canonicalize(path)?;
    let new = beside(&path);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let written = write_new(&new, &lines[lines.len() - ROLLOUTS_MAX..].concat(), file)
        .and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    Ok(sync_directory(&path)?)
}

/// Makes the name of a new file last over a crash of the machine.
fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(directory_of(&fs::canonicalize(path)?))?.sync_all() {
        // Some file systems cannot.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Finds out whether [`append`] would work, and changes nothing.
///
/// # Errors
/// If it would not.
pub(super) fn try_append(path: &Path) -> anyhow::Result<()> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    match OpenOptions::new().read(true).append(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => {
            let file = opened?;
            check(&file, file.metadata()?.len())?;
        }
    }
    let behind_link = fs::canonicalize(path);
    let directory = directory_of(behind_link.as_deref().unwrap_or(path));
    check_access(AT_FDCWD, directory, AccessFlags::W_OK | AccessFlags::X_OK)
        .with_context(|| format!("cannot make a file in {}", directory.display()))
}

/// Where the new file is before it takes the place of the one at `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or(OsStr::new("history")).to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn write_new(path: &Path, text: &[u8], like: &File) -> io::Result<()> {
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    new.write_all(text)?;
    let like = like.metadata()?;
    // Only root can give a file away.
    let _ = fchown(&new, Some(like.uid()), Some(like.gid()));
    new.set_permissions(Permissions::from_mode(like.mode() & 0o777))?;
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> String {
        format!("{{\"ended_at\":\"2026-11-28T14:00:00Z\",\"generation\":{number}}}\n")
    }

    struct Play {
        directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Play {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("history");
            Self { directory, path }
        }

        fn append(&self, number: usize) -> Result<(), String> {
            append_lines(&self.path, line(number).as_bytes()).map_err(|error| format!("{error:#}"))
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.path).unwrap()
        }

        fn files(&self) -> usize {
            fs::read_dir(self.directory.path()).unwrap().count()
        }
    }

    #[test]
    fn at_two_hundred_lines_the_last_hundred_stay_with_mode_and_link() {
        let play = Play::new();
        let real = play.directory.path().join("real");
        std::os::unix::fs::symlink("real", &play.path).unwrap();
        (0..199).for_each(|number| play.append(number).unwrap());
        assert_eq!(play.text(), (0..199).map(line).collect::<String>());
        fs::set_permissions(&real, Permissions::from_mode(0o604)).unwrap();
        // What a crash left.
        fs::write(beside(&real), "half a li").unwrap();
        play.append(199).unwrap();
        assert_eq!(play.text(), (100..200).map(line).collect::<String>());
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o604);
        assert!(play.path.is_symlink() && play.files() == 2);
        play.append(200).unwrap();
        assert_eq!(play.text(), (100..201).map(line).collect::<String>());
    }

    #[test]
    fn a_line_that_was_cut_stays_alone() {
        let play = Play::new();
        fs::write(&play.path, &line(1)[..7]).unwrap();
        play.append(2).unwrap();
        play.append(3).unwrap();
        assert_eq!(play.text(), format!("{{\"ended\n{}{}", line(2), line(3)));
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let play = Play::new();
        let other = "[main]\n".repeat(300);
        fs::write(&play.path, &other).unwrap();
        let why = play.append(1).unwrap_err();
        assert!(why.ends_with("history: it is not a history of rollouts"), "{why}");
        assert_eq!(play.text(), other);
        for path in ["/dev/full", "/dev/null"] {
            let why =
                append_lines(Path::new(path), b"x\n").map_err(|error| format!("{error:#}")).unwrap_err();
            assert!(why.contains(": it is not a file"), "{why}");
        }
    }

    #[test]
    fn whether_it_can_be_written_is_found_out_without_making_it() {
        let play = Play::new();
        let trial = |path: &Path| try_append(path).map_err(|error| format!("{error:#}"));
        assert_eq!((trial(&play.path), play.files()), (Ok(()), 0));
        let why = trial(&play.path.join("history")).unwrap_err();
        assert!(why.contains("cannot make a file in ") && why.contains("No such file"), "{why}");
        play.append(1).unwrap();
        assert_eq!((trial(&play.path), play.text()), (Ok(()), line(1)));
        assert!(trial(&play.path.join("history")).unwrap_err().contains("Not a directory"));
        assert!(trial(play.directory.path()).unwrap_err().contains("Is a directory"));
        fs::write(&play.path, "[main]\n").unwrap();
        assert_eq!(trial(&play.path), Err("it is not a history of rollouts".to_owned()));
        assert_eq!(trial(Path::new("/dev/null")), Err("it is not a file".to_owned()));
    }

    #[test]
    fn processes_that_share_a_file_lose_no_line() {
        let play = Play::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let play = &play;
                scope.spawn(move || (0..60).for_each(|number| play.append(1000 * thread + number).unwrap()));
            }
        });
        let text = play.text();
        assert_eq!(text.lines().count(), 140, "240 were written, and 100 removed at 200");
        for thread in 0..4 {
            assert!(text.contains(&line(1000 * thread + 59)), "{text}");
        }
        assert!(text.lines().all(|line| line.starts_with("{\"ended_at\":\"") && line.ends_with('}')));
    }
}
