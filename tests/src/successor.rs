//! What a master becomes when it replaces itself: a link that a test turns to one program or another.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{MasterBuilder, binaries, process};

/// A link, for `--reexec-as`, and a directory of scripts that it may lead to. It leads to the daemon at first.
#[derive(Debug)]
pub struct Successor {
    directory: PathBuf,
}

impl Successor {
    /// Makes the directory at `directory`, and the link in it.
    ///
    /// # Panics
    /// If that cannot be made.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        fs::create_dir(&directory).expect("a directory for the successor");
        let successor = Self { directory };
        successor.is(&binaries::einhyrningsins());
        successor
    }

    /// A master that replaces itself with what the link leads to.
    #[must_use]
    pub fn of(&self, builder: MasterBuilder) -> MasterBuilder {
        builder.option("--reexec-as").option(self.link())
    }

    /// The link.
    #[must_use]
    pub fn link(&self) -> PathBuf {
        self.directory.join("next")
    }

    /// Makes it lead to `program`, which need not be there, in one step.
    ///
    /// # Panics
    /// If the link cannot be made.
    pub fn is(&self, program: &Path) {
        let new = self.directory.join("new");
        symlink(program, &new).expect("a link");
        fs::rename(&new, self.link()).expect("the link in its place");
    }

    /// Makes it lead to a shell script of these lines; in it, `$DAEMON` is the daemon.
    ///
    /// # Panics
    /// If the script cannot be written.
    pub fn is_script(&self, lines: &str) {
        let path = self
            .directory
            .join(format!("script-{}", fs::read_dir(&self.directory).expect("a directory").count()));
        let daemon = binaries::einhyrningsins();
        place_script(&path, &format!("#!/bin/sh\nDAEMON='{}'\n{lines}\n", daemon.display()));
        self.is(&path);
    }
}

/// Writes an executable script. Another process does it: were the file open for writing here, a child that another
/// thread starts at that moment would hold it open, and it could not be executed.
///
/// # Panics
/// If it cannot be written.
#[track_caller]
pub fn place_script(path: &Path, text: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"printf %s "$2" >"$1" && chmod 755 "$1""#, "sh"]).arg(path).arg(text);
    process::run(command).assert_code(0);
}

/// Puts a copy of the daemon at `path`, a file of its own, in one step.
///
/// # Panics
/// If it cannot be copied.
#[track_caller]
pub fn place_daemon(path: &Path) {
    let new = path.with_extension("new");
    let mut command = Command::new("cp");
    command.arg(binaries::einhyrningsins()).arg(&new);
    process::run(command).assert_code(0);
    fs::rename(&new, path).expect("the copy in its place");
}
