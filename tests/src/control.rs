//! A raw connection to a control socket: what a client in any language would send and read.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use einhorn_proto::{LineBuffer, Reply, Status};
use serde_json::Value;

use crate::wait;

/// The longest reply that is read; far above `state` with a thousand workers.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// A connection to a control socket. Every read is under the deadline of [`wait::patience`].
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    lines: LineBuffer,
}

impl Control {
    /// Connects to the socket at `path`.
    ///
    /// # Panics
    /// If nobody listens there.
    #[track_caller]
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        Self::try_connect(path)
            .unwrap_or_else(|error| panic!("cannot connect to {}: {error}", path.display()))
    }

    /// Connects to the socket at `path`, if somebody listens there.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn try_connect(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        Ok(Self { stream, lines: LineBuffer::with_limit(REPLY_BYTES_MAX) })
    }

    /// The stream, for what a well-behaved client would not do.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the master has closed the connection, or does not read within the deadline.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).unwrap_or_else(|error| panic!("cannot send to the master: {error}"));
    }

    /// Sends bytes as they are, to a master that may close the connection meanwhile.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(wait::patience()))?;
        self.stream.write_all(bytes)
    }

    /// Sends one line; the newline is added.
    ///
    /// # Panics
    /// As [`Self::send_bytes`].
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    /// Says that no more requests will come; answers can still be read.
    ///
    /// # Panics
    /// If the connection is gone.
    #[track_caller]
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown of the sending side");
    }

    /// The next reply line; `None` at the end of the stream.
    ///
    /// # Panics
    /// If neither comes within the deadline, or the connection was reset.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        match self.read_line(wait::patience()) {
            Ok(Some(line)) => Some(line),
            Ok(None) => None,
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// The next reply.
    ///
    /// # Panics
    /// As [`Self::line`], or at the end of the stream, or if the line is no reply.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        let line = self.line().expect("a reply, but the master closed the connection");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("no reply: {error}: {line}"))
    }

    /// All replies to one request, the last of them without `wait`.
    ///
    /// # Panics
    /// As [`Self::reply`].
    #[track_caller]
    pub fn replies(&mut self) -> Vec<Reply> {
        let mut replies = vec![self.reply()];
        while replies.last().is_some_and(|reply| reply.wait) {
            replies.push(self.reply());
        }
        replies
    }

    /// Sends `{"command":COMMAND,"args":[ARGS...],"id":1}` and reads all replies; the last one is given. Without the
    /// id, a master that was called as einhorn would not say how an upgrade ended.
    ///
    /// # Panics
    /// As [`Self::reply`].
    #[track_caller]
    pub fn ask(&mut self, command: &str, args: &[&str]) -> Reply {
        self.send(&serde_json::json!({ "command": command, "args": args, "id": 1 }).to_string());
        self.replies().pop().expect("replies has at least one")
    }

    /// How the pool is.
    ///
    /// # Panics
    /// As [`Self::reply`], or if the answer is no [`Status`].
    #[track_caller]
    pub fn status(&mut self) -> Status {
        typed(self.ask("status", &[]))
    }

    /// Waits until the master closes the connection; what it still sends is given.
    ///
    /// # Panics
    /// If it does not within the deadline.
    #[track_caller]
    pub fn read_to_end(&mut self) -> String {
        let mut text = self.lines.take_rest().unwrap_or_default();
        self.stream.set_read_timeout(Some(wait::patience())).expect("a time limit on the socket");
        match self.stream.read_to_end(&mut text) {
            Ok(_) => {}
            // Closed while something of ours was unread: an end all the same.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the master does not close the connection: {error}"),
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn read_line(&mut self, limit: Duration) -> std::io::Result<Option<String>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(line) = self.lines.next_line().map_err(std::io::Error::other)? {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => self.lines.push(&bytes[..count]),
                // A read with a time limit is not restarted after a signal, not even after a SIGCHLD that nobody
                // handles: one comes when a master ends while another test, on another thread, starts something.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The `data` of `reply` as what it is meant to be.
///
/// # Panics
/// If it is not.
#[track_caller]
pub fn typed<T: serde::de::DeserializeOwned>(reply: Reply) -> T {
    let text = format!("{reply:?}");
    serde_json::from_value(reply.data.unwrap_or(Value::Null))
        .unwrap_or_else(|error| panic!("the data of a reply is not as specified: {error}: {text}"))
}
