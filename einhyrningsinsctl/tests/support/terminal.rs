//! A client at its prompt, on a pseudo-terminal that it has as its own.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DEADLINE, Master, end_of};

/// A client at its prompt, and what is on its screen.
pub(crate) struct Terminal {
    client: Child,
    keyboard: File,
    screen: Receiver<String>,
    shown: String,
}

impl Terminal {
    /// Opens the prompt of `program`. `setsid` makes the terminal the client's own, so that Ctrl-C is a signal
    /// to it, and then becomes the client.
    pub(crate) fn open(master: &Master, program: &Path) -> Self {
        // Close-on-exec throughout: a client of another test that held it would keep this one's terminal alive.
        let pty = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&pty).unwrap();
        unlockpt(&pty).unwrap();
        let name = ptsname_r(&pty).unwrap();
        let size = Command::new("stty").args(["-F", &name, "cols", "80", "rows", "24"]).status().unwrap();
        assert!(size.success());
        let side = || File::options().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(&name);
        let client = Command::new("setsid")
            .arg("--ctty")
            .args([program, Path::new("-d"), &master.socket()])
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .env("XDG_STATE_HOME", master.directory())
            .stdin(side().unwrap())
            .stdout(side().unwrap())
            .stderr(side().unwrap())
            .spawn()
            .unwrap();
        let keyboard = File::from(OwnedFd::from(pty));
        let screen = chunks_of(keyboard.try_clone().unwrap());
        Self { client, keyboard, screen, shown: String::new() }
    }

    /// Presses keys. Wait for the prompt before: it shows that the terminal hands over each key as it is. Ctrl-D,
    /// pressed before that, is to the kernel the end of a line that is not read as one any more, and gets lost.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Signals the client.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.client.id()).unwrap()), signal).unwrap();
    }

    /// Waits until `text` is shown, and forgets the screen up to its end.
    pub(crate) fn await_text(&mut self, text: &str) {
        self.skip_to(text);
    }

    /// Waits until `text` is shown, and returns what came before it.
    pub(crate) fn skip_to(&mut self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.shown.find(text) {
                let before = self.shown[..at].to_owned();
                self.shown.drain(..at + text.len());
                return before;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(rest) {
                Ok(chunk) => self.shown.push_str(&chunk),
                Err(_) => panic!("\"{text}\" is not shown, but: {}", self.shown),
            }
        }
    }

    /// Waits for the client's end, and returns its exit code and the rest of the screen.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let mut shown = std::mem::take(&mut self.shown);
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(chunk) => shown.push_str(&chunk),
                // The client's end is the terminal's.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the client does not end, after it showed: {shown}"),
            }
        }
        (end_of(&mut self.client, &shown).code(), shown)
    }
}

/// A test that fails leaves nobody behind.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

fn chunks_of(mut terminal: File) -> Receiver<String> {
    let (told, chunks) = channel();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            match terminal.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    let _ = told.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // EIO: nobody has the other side any more.
                Err(_) => break,
            }
        }
    });
    chunks
}
