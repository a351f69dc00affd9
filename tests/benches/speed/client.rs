//! A control client that costs as little as can be: it looks at no more of a reply than whether it is the last.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tests::wait;

/// In every reply but the last.
const MORE: &str = "\"wait\":true";

/// A connection to a control socket.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    line: String,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("a connection to the control socket");
        stream.set_read_timeout(Some(wait::patience())).expect("a time limit on the socket");
        Self { stream: BufReader::with_capacity(256 * 1024, stream), line: String::new() }
    }

    /// Sends `request`, a line with its newline, and returns the last reply.
    pub(crate) fn ask(&mut self, request: &str) -> &str {
        self.send(request);
        while self.next_line().contains(MORE) {}
        &self.line
    }

    /// Sends `request`, a line with its newline.
    pub(crate) fn send(&mut self, request: &str) {
        self.stream.get_mut().write_all(request.as_bytes()).expect("the master reads");
    }

    /// The next line.
    pub(crate) fn next_line(&mut self) -> &str {
        self.line.clear();
        let bytes = self.stream.read_line(&mut self.line).expect("the master answers");
        assert!(bytes > 0, "the master closed the connection");
        &self.line
    }
}
