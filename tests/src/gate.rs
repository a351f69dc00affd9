//! A gate that workers wait at: a test decides when they have booted, or when they answer.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// A file that a worker locks for a moment, shared: before it acks (`serve gate=PATH`), or before each answer
/// (`serve request_gate=PATH`).
///
/// While the gate is closed no worker gets past it, so a starting worker that was killed meanwhile had certainly
/// not accepted a connection. The kernel opens it when the test's process ends, however it ends.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    held: Option<Flock<File>>,
}

impl Gate {
    /// Makes an open gate at `path`.
    ///
    /// # Panics
    /// If the file cannot be made.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        File::create(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        Self { path, held: None }
    }

    /// An open gate at `path`, where a file is.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, held: None }
    }

    /// Makes a closed gate at `path`.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn closed(path: PathBuf) -> Self {
        let mut gate = Self::new(path);
        gate.close();
        gate
    }

    /// The knob of `serve` that has workers wait here before they ack.
    #[must_use]
    pub fn knob(&self) -> String {
        format!("gate={}", self.path.display())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes it, once the workers that are passing have passed.
    ///
    /// # Panics
    /// If the file is gone.
    pub fn close(&mut self) {
        let file = File::open(&self.path).expect("the gate's file");
        let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        self.held = Some(held.expect("an exclusive lock of the gate"));
    }

    /// Opens it.
    pub fn open(&mut self) {
        self.held = None;
    }
}

/// Waits until the gate at `path` is open: the worker's side.
///
/// # Panics
/// If there is none.
pub fn pass(path: &Path) {
    let file = File::open(path).unwrap_or_else(|error| panic!("no gate at {}: {error}", path.display()));
    loop {
        match Flock::lock(file.try_clone().expect("a descriptor"), FlockArg::LockShared) {
            Ok(_passed) => return,
            Err((_, nix::errno::Errno::EINTR)) => {}
            Err((_, errno)) => panic!("cannot pass the gate at {}: {errno}", path.display()),
        }
    }
}
