//! Starts workers as a master does: as processes, with prepared descriptors and variables.
//!
//! A worker is this test program, started again for the single test named `worker`. That test does what `ROLE`
//! says, and is empty without it. It prints to standard error, because the test harness uses standard output.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod load;
mod sys;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the worker has to do; `None` in the process that runs the tests.
pub(crate) fn role() -> Option<String> {
    std::env::var("ROLE").ok()
}

/// Prints a line to the process that runs the tests.
pub(crate) fn say(line: impl std::fmt::Display) {
    eprintln!("{line}");
}

/// A worker before its start.
pub(crate) struct Worker {
    command: Command,
    fds: Vec<OwnedFd>,
}

impl Worker {
    /// This test program in `role`.
    pub(crate) fn new(role: &str) -> Self {
        Self::wrapped(role, "exec \"$@\"")
    }

    /// The same, with `LISTEN_PID` as systemd sets it.
    pub(crate) fn activated(role: &str) -> Self {
        Self::wrapped(role, "LISTEN_PID=$$ exec \"$@\"")
    }

    /// The same as a child of the worker, which waits for it.
    pub(crate) fn behind_a_wrapper(role: &str) -> Self {
        Self::wrapped(role, "\"$@\"; exit $?")
    }

    fn wrapped(role: &str, script: &str) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(std::env::current_exe().expect("this program has a path"));
        command.args(["--exact", "worker", "--nocapture"]).env("ROLE", role);
        Self::of(command)
    }

    /// The example `name`, which `cargo test` has built.
    pub(crate) fn example(name: &str) -> Self {
        let tests = std::env::current_exe().expect("this program has a path");
        let path: PathBuf =
            tests.parent().and_then(|deps| deps.parent()).expect("target/*/deps").join("examples");
        let path = path.join(name);
        assert!(
            path.exists(),
            "{} is missing: run all tests, or `cargo build --examples` first",
            path.display()
        );
        Self::of(Command::new(path))
    }

    fn of(mut command: Command) -> Self {
        einhorn_child::scrub(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self { command, fds: Vec::new() }
    }

    /// Passes it a socket at the next descriptor from 3 up.
    pub(crate) fn fd(mut self, fd: &impl AsFd) -> Self {
        self.fds.push(fd.as_fd().try_clone_to_owned().expect("a descriptor is left"));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets `EINHORN_FD_COUNT` and `EINHORN_FD_n` for the sockets added so far.
    pub(crate) fn numbered(mut self) -> Self {
        self.command.env("EINHORN_FD_COUNT", self.fds.len().to_string());
        for number in 0..self.fds.len() {
            self.command.env(format!("EINHORN_FD_{number}"), (3 + number).to_string());
        }
        self
    }

    /// Makes this process its master.
    pub(crate) fn supervised(self) -> Self {
        let pid = std::process::id().to_string();
        self.env("EINHORN_MASTER_PID", pid)
    }

    pub(crate) fn spawn(mut self) -> Running {
        sys::inherit(&mut self.command, self.fds);
        let mut process = self.command.spawn().expect("the worker starts");
        let stderr = process.stderr.take().expect("standard error is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let _ = sender.send(line.expect("a worker speaks UTF-8"));
            }
        });
        Running { process, lines, heard: Vec::new() }
    }

    /// Runs it to its end, which must be a success, and returns its lines.
    pub(crate) fn run(self) -> Vec<String> {
        self.spawn().finish()
    }
}

/// A running worker; killed when dropped.
pub(crate) struct Running {
    process: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid fits"));
        kill(pid, signal).expect("the worker is not reaped yet");
    }

    /// Waits until it prints `line`.
    pub(crate) fn hear(&mut self, line: &str) {
        while self.heard.last().is_none_or(|heard| heard != line) {
            assert!(self.listen(), "the worker exited without printing \"{line}\": {:#?}", self.heard);
        }
    }

    /// Waits for its exit, with any status.
    pub(crate) fn end(&mut self) -> ExitStatus {
        while self.listen() {}
        self.process.wait().expect("it is our child")
    }

    /// Waits for its exit, which must be a success, and returns its lines.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let status = self.end();
        assert!(status.success(), "the worker exited with {status}: {:#?}", self.heard);
        std::mem::take(&mut self.heard)
    }

    /// Waits for a line; false at the end of its output.
    fn listen(&mut self) -> bool {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => self.heard.push(line),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => panic!("the worker hangs after printing {:#?}", self.heard),
        }
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A master's control socket.
pub(crate) struct Control {
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Control {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join("control.sock")).expect("a short path");
        Self { directory, listener }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self) -> UnixStream {
        assert!(readable(&self.listener, PATIENCE), "nobody connects to the control socket");
        self.listener.accept().expect("somebody is there").0
    }

    /// Everything that the next client sends before it closes.
    pub(crate) fn read_next(&self) -> String {
        let mut said = String::new();
        self.accept().read_to_string(&mut said).expect("a client speaks UTF-8");
        said
    }

    /// Whether no client is waiting.
    pub(crate) fn is_quiet(&self) -> bool {
        !readable(&self.listener, Duration::ZERO)
    }
}

/// The line of a worker's ack.
pub(crate) fn ack_of(pid: u32) -> String {
    format!("{{\"command\":\"worker:ack\",\"pid\":{pid}}}\n")
}

/// Waits until `fd` is readable.
pub(crate) fn readable(fd: &impl AsFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, PollTimeout::try_from(left).expect("it fits")) {
            Err(nix::Error::EINTR) => {}
            ready => return ready.expect("poll works") > 0,
        }
    }
}
