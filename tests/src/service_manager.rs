//! What stands in for the service manager: a notify socket that keeps every datagram, in order.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::builder::temporary_directory;
use crate::master::Master;

/// The longest datagram that is read; systemd reads as much.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A notify socket, and what has come to it.
#[derive(Debug)]
pub struct ServiceManager {
    directory: TempDir,
    socket: UnixDatagram,
    heard: Vec<Told>,
    /// How much of it [`Self::expect`] has gone through.
    expected: usize,
}

/// A datagram: its assignments, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told(Vec<(String, String)>);

impl Told {
    fn parse(text: &str) -> Self {
        let assignments = text.lines().map(|line| {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {text:?}"));
            (name.to_owned(), value.to_owned())
        });
        let told = Self(assignments.collect());
        assert!(!told.0.is_empty(), "an empty datagram");
        told
    }

    /// The value of `name`, if the datagram has it.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether it tells of a new state: ready, reloading or stopping.
    fn is_transition(&self) -> bool {
        ["READY", "RELOADING", "STOPPING"].iter().any(|name| self.value(name).is_some())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assignments: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&assignments.join(" | "))
    }
}

impl Default for ServiceManager {
    fn default() -> Self {
        Self::new()
    }
}

impl ServiceManager {
    /// Listens at a path of its own.
    ///
    /// # Panics
    /// If there is no place for it.
    #[must_use]
    pub fn new() -> Self {
        let directory = temporary_directory();
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Self { directory, socket, heard: Vec::new(), expected: 0 }
    }

    /// What `NOTIFY_SOCKET` is to be.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// A file beside the socket.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All that was told up to now.
    ///
    /// # Panics
    /// If a datagram is none of assignments in UTF-8.
    pub fn heard(&mut self) -> &[Told] {
        let mut bytes = [0; MESSAGE_BYTES_MAX];
        loop {
            match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let text = std::str::from_utf8(&bytes[..length]).expect("UTF-8");
                    self.heard.push(Told::parse(text));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return &self.heard,
                Err(error) => panic!("cannot read the notify socket: {error}"),
            }
        }
    }

    /// Waits for the next datagram that tells of a new state, which must be `assignment` (`READY=1`).
    #[track_caller]
    pub fn expect(&mut self, master: &Master, assignment: &str) -> Told {
        let from = self.expected;
        let found = crate::wait::within(crate::wait::patience(), || {
            let heard = self.heard();
            heard[from..].iter().position(Told::is_transition).map(|at| from + at)
        });
        let Some(found) = found else { panic!("{assignment} did not come\n{self}{master}") };
        self.expected = found + 1;
        let told = self.heard[found].clone();
        let (name, value) = assignment.split_once('=').expect("an assignment");
        assert_eq!(told.value(name), Some(value), "{told} came instead of {assignment}\n{self}{master}");
        told
    }

    /// Asserts that no datagram tells of a new state but those that were expected.
    #[track_caller]
    pub fn assert_nothing_else(&mut self) {
        let from = self.expected;
        let more = self.heard()[from..].iter().any(Told::is_transition);
        assert!(!more, "more was told than expected\n{self}");
    }

    /// Waits for a datagram that has `name`, from the beginning of all, and gives its value if that is as it should
    /// be.
    #[track_caller]
    pub fn wait_for(&mut self, master: &mut Master, name: &str, is_good: impl Fn(&str) -> bool) -> String {
        master.wait(&format!("{name} at the notify socket"), |_| {
            let values = self.heard().iter().filter_map(|told| told.value(name));
            values.into_iter().find(|value| is_good(value)).map(str::to_owned)
        })
    }

    /// Has its socket full: whatever is sent now is not taken, until it is read.
    ///
    /// # Panics
    /// If it never is.
    pub fn fill(&self) {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("a socket that does not block");
        while sender.send_to(b"FILLER=1", self.path()).is_ok() {}
    }
}

impl fmt::Display for ServiceManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- at the notify socket")?;
        self.heard.iter().try_for_each(|told| writeln!(f, "{told}"))
    }
}
